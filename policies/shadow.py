"""Remembered answers decided once more by Casbin alone, off the hot path: one in a hundred, and each new kind."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections import deque
from collections.abc import Sequence

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
        self._drawn: deque[_Drawn] = deque()
        self._lock = threading.Lock()
        self._ahead = self._gap()
        self.waiting = self.checked = self.differed = self.dropped = 0

    def drawn(self, used: int) -> list[int]:
        """Of so many remembered answers that were used, the numbers of those to check: each is as likely."""
        out, at = [], self._ahead
        while at < used:
            out.append(at)
            at += 1 + self._gap()
        self._ahead = at - used
        return out

    @property
    def room(self) -> int:
        """How many more may wait."""
        return max(0, self._most - self.waiting)

    def doubted(self, policy: Policy, wanted: Wanted, node_id: str, said: Verdict) -> bool:
        """True if this answer will be checked; False if too many wait already, and it must be checked at once."""
        if not self.room:
            self.dropped += 1
            return False
        self.all_doubted(wanted, (policy,), (node_id,), (said,))
        return True

    def all_doubted(
        self, wanted: Wanted, policies: Sequence[Policy], nodes: Sequence[str], said: Sequence[Verdict]
    ) -> None:
        """Have all these answers to one request checked, however many wait: who has more than `room` asks at once."""
        if not said:
            return
        with self._lock:
            self._drawn.append(_Drawn(wanted, policies, nodes, said))
            self.waiting += len(said)

    def check(self, most: int = MOST_WAITING) -> int:
        """Check at most so many. Returns how many differed; safe beside threads that offer."""
        differed = 0
        for _ in range(most):
            item = self._next()
            if item is None:
                break
            self.checked += 1
            policy, wanted, node_id, said = item
            differed += not policy.check_again(wanted, node_id, said)
        self.differed += differed
        return differed

    def _next(self) -> tuple[Policy, Wanted, str, Verdict] | None:
        with self._lock:
            if not self._drawn:
                return None
            self.waiting -= 1
            drawn = self._drawn[0]
            at = drawn.taken
            drawn.taken += 1
            if drawn.taken == len(drawn.said):
                self._drawn.popleft()
        return drawn.policies[at], drawn.wanted, drawn.nodes[at], drawn.said[at]

    def _gap(self) -> int:
        """How many answers are passed over before the next one is drawn."""
        if self._share >= 1:
            return 0
        return int(math.log(1 - self._random()) / math.log(1 - self._share)) if self._share > 0 else sys.maxsize


class _Drawn:
    """Answers to one request, `taken` of which were given to the checker: one object for Python's collector to go
    through, where a new combination of words is new to a thousand policies at once.
    """

    __slots__ = ("nodes", "policies", "said", "taken", "wanted")

    def __init__(
        self, wanted: Wanted, policies: Sequence[Policy], nodes: Sequence[str], said: Sequence[Verdict]
    ) -> None:
        self.wanted, self.policies, self.nodes, self.said = wanted, policies, nodes, said
        self.taken = 0
