"""Remembered answers decided once more by Casbin alone, off the hot path: one in a hundred, and each new kind."""

from __future__ import annotations

import math
import random
import sys
from collections import deque

from policies.engine import Policy
from policies.verdict import Verdict
from policies.wanted import Wanted

SHARE = 0.01
MOST_WAITING = 16_384


class Shadow:
    """Draws remembered answers as they are used, and checks them when told to. `chance` decides which.

    `waiting` answers are to be checked; `checked` were, `differed` of them; `dropped` were drawn while too many
    waited. A version of which one differs remembers no more, see `Policy.check_again`.
    """

    def __init__(self, chance: random.Random, share: float = SHARE, most: int = MOST_WAITING) -> None:
        self._random = chance.random
        self._share = share
        self._most = most
        self._drawn: deque[tuple[Policy, Wanted, str, Verdict]] = deque()
        self._ahead = self._gap()
        self.checked = self.differed = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Answers drawn and not checked yet."""
        return len(self._drawn)

    def drawn(self, used: int) -> list[int]:
        """Of so many remembered answers that were used, the numbers of those to check: each is as likely."""
        out, at = [], self._ahead
        while at < used:
            out.append(at)
            at += 1 + self._gap()
        self._ahead = at - used
        return out

    def doubted(self, policy: Policy, wanted: Wanted, node_id: str, said: Verdict) -> bool:
        """True if this answer will be checked; False if too many wait already, and it must be checked at once."""
        if len(self._drawn) >= self._most:
            self.dropped += 1
            return False
        self._drawn.append((policy, wanted, node_id, said))
        return True

    def check(self, most: int = MOST_WAITING) -> int:
        """Check at most so many. Returns how many differed; safe beside threads that offer."""
        differed = 0
        for _ in range(most):
            try:
                policy, wanted, node_id, said = self._drawn.popleft()
            except IndexError:
                break
            self.checked += 1
            differed += not policy.check_again(wanted, node_id, said)
        self.differed += differed
        return differed

    def _gap(self) -> int:
        """How many answers are passed over before the next one is drawn."""
        if self._share >= 1:
            return 0
        return int(math.log(1 - self._random()) / math.log(1 - self._share)) if self._share > 0 else sys.maxsize
