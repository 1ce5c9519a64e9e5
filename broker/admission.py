"""Who may start a search now: bounded in all and for each agency, and fair between agencies.

An agency at its own bound waits behind nobody but itself, and a free place goes to the agencies in turn, so a flood
from one costs the others at most one turn each. What does not fit is refused before any work is done for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from comity.errors import ConfigError, Exhausted


class Admission:
    """Places for searches: `total` at a time, `per_agency` of one agency, `waiting` more of one agency in line.

    `wait_s`: the longest wait in line. `retry_after_s`: what a refused caller is told. Memory is bounded by
    `waiting` times the number of agencies, and agencies come from the pinned directory, never from a request.
    """

    def __init__(
        self, *, total: int, per_agency: int, waiting: int, wait_s: float = 2.0, retry_after_s: float = 1.0
    ) -> None:
        if not 1 <= per_agency <= total or waiting < 0 or wait_s < 0 or retry_after_s <= 0:
            raise ConfigError("admission needs 1 <= per_agency <= total, waiting >= 0, wait_s >= 0, retry_after_s > 0")
        self._total = total
        self._per_agency = per_agency
        self._waiting = waiting
        self._wait_s = wait_s
        self._retry_after_s = retry_after_s
        self._busy = 0
        self._running: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their turns

    @asynccontextmanager
    async def enter(self, agency: str) -> AsyncIterator[None]:
        """A place for one search of the agency, given back however the search ends.

        Raises:
            Exhausted: ADMISSION_FULL: the agency's line is full, or its turn did not come within `wait_s`.
        """
        if self._busy < self._total and self._running[agency] < self._per_agency:
            self._give(agency)  # nobody of this agency waits: a place it could have is never left free
        else:
            await self._wait(agency)
        try:
            yield
        finally:
            self._leave(agency)

    @property
    def running(self) -> int:
        """Searches that have a place."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Searches in line, of all agencies."""
        return sum(map(len, self._lines.values()))

    async def _wait(self, agency: str) -> None:
        line = self._lines.setdefault(agency, deque())
        if len(line) >= self._waiting:
            if not line:
                del self._lines[agency]
            raise self._refusal("too many searches of this agency are running and waiting")
        turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            # The place may have been given in the same moment as the wait ended: it must not be lost.
            if turn.done() and not turn.cancelled():
                self._leave(agency)
            else:
                self._step_out(agency, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal("no place became free in time") from None
            raise

    def _give(self, agency: str) -> None:
        self._busy += 1
        self._running[agency] += 1

    def _leave(self, agency: str) -> None:
        self._busy -= 1
        self._running[agency] -= 1
        if not self._running[agency]:
            del self._running[agency]
        self._call_next()

    def _call_next(self) -> None:
        for agency in list(self._lines):
            if self._busy >= self._total:
                return
            line = self._lines[agency]
            while line and line[0].done():  # cancelled, and its task has not run yet to step out itself
                line.popleft()
            if line and self._running[agency] >= self._per_agency:
                continue
            del self._lines[agency]
            if line:
                line.popleft().set_result(None)
                self._give(agency)
            if line:
                self._lines[agency] = line  # its next turn comes after everybody else's

    def _step_out(self, agency: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(agency)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[agency]

    def _refusal(self, message: str) -> Exhausted:
        return Exhausted(
            message, retry_after_s=self._retry_after_s, quota="searches at a time", reason="ADMISSION_FULL"
        )
