"""Remembered answers decided once more by Casbin alone, off the hot path: one in a hundred, and each new kind."""

from __future__ import annotations

import random
from collections import deque

from policies.engine import Asked, Policy

SHARE = 0.01
MOST_WAITING = 1024


class Shadow:
    """Draws remembered answers as they are used, and checks them when told to. `chance` decides which.

    `waiting` answers are to be checked; `checked` were, `differed` of them; `dropped` were drawn while too many
    waited. A version of which one differs remembers no more, see `Policy.check_again`.
    """

    def __init__(self, chance: random.Random, share: float = SHARE, most: int = MOST_WAITING) -> None:
        self._random = chance.random
        self._share = share
        self._most = most
        self._drawn: deque[tuple[Policy, Asked, str]] = deque()
        self.checked = self.differed = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Answers drawn and not checked yet."""
        return len(self._drawn)

    def offer(self, policy: Policy, asked: Asked, node_id: str) -> None:
        """A remembered answer was used. Costs a draw."""
        if self._random() < self._share:
            self.doubted(policy, asked, node_id)

    def doubted(self, policy: Policy, asked: Asked, node_id: str) -> bool:
        """True if this answer will be checked; False if too many wait already, and it must be checked at once."""
        if len(self._drawn) >= self._most:
            self.dropped += 1
            return False
        self._drawn.append((policy, asked, node_id))
        return True

    def check(self, most: int = MOST_WAITING) -> int:
        """Check at most so many. Returns how many differed; safe beside threads that offer."""
        differed = 0
        for _ in range(most):
            try:
                policy, asked, node_id = self._drawn.popleft()
            except IndexError:
                break
            self.checked += 1
            differed += not policy.check_again(asked, node_id)
        self.differed += differed
        return differed
