"""Both sides of witnessing over attached streams: one's own heads shown to its witnesses, others' heads cosigned.

What comes in waits in one place for each peer, the newest only, so that a peer that floods costs nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from audit.log import DecisionLog
from audit.note import Cited
from audit.witness import FAULTS, ToWitness, Witness, Witnessed
from audit.witnessed import OwnHeads
from comity.errors import ComityError, LogFault

MOST_CITED = 3  # heads of others in an entry: those that moved last
RETRY_S = 5.0
Send = Callable[[ToWitness | Witnessed], None]
logger = structlog.get_logger("witness")


class Exchange:
    """One program's witnessing. `run` does the work until it is cancelled; the rest only leaves it something to do.

    `every_s`: how often a head that has moved is shown; `renew_s`: how old the cosignature of one that has not may be.
    `seconds` never goes back. `settled` is called after each round of work, in the event loop.
    """

    def __init__(
        self,
        *,
        log: DecisionLog,
        own: OwnHeads,
        witness: Witness | None,
        every_s: float,
        renew_s: float,
        seconds: Callable[[], float],
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._log, self._own, self._witness = log, own, witness
        self._every_s, self._renew_s, self._seconds, self._settled = every_s, renew_s, seconds, settled
        self._streams: dict[str, Send] = {}
        self._asked: dict[str, tuple[Send, ToWitness]] = {}
        self._said: dict[str, Witnessed] = {}
        self._ask_now: set[str] = set()
        self._work = asyncio.Event()
        self._next_s = 0.0
        self._others: dict[str, Cited] = {}

    def attached(self, peer: str, send: Send) -> None:
        """A stream to `peer` is open; `send` queues for it and never blocks. A witness is shown the head at once."""
        self._streams[peer] = send
        if peer in self._own.witnesses:
            self._own.forget(peer)
            self._ask_now.add(peer)
            self._work.set()

    def detached(self, peer: str, send: Send) -> None:
        """That stream has ended; nothing happens if another has taken its place."""
        if self._streams.get(peer) == send:
            del self._streams[peer]

    def asked(self, peer: str, what: ToWitness, send: Send) -> None:
        """`peer` wants a head of its log cosigned; the answer goes to `send`."""
        self._asked[peer] = send, what
        self._work.set()

    def answered(self, peer: str, said: Witnessed) -> None:
        """`peer` answers what it was shown."""
        if peer in self._own.witnesses:
            self._said[peer] = said
            self._work.set()

    async def run(self) -> None:
        """Never returns. A round that fails is logged, and the next one tries again."""
        while True:
            try:
                await self._round()
            except ComityError as error:
                logger.error("witnessing failed", reason=error.reason)
            except Exception as error:
                logger.error("witnessing failed", kind=type(error).__name__)
            self._settled()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, self._next_s - self._seconds())):
                    await self._work.wait()

    async def _round(self) -> None:
        self._work.clear()
        said, self._said = self._said, {}
        for peer, one in said.items():
            if await asyncio.to_thread(self._own.heard, peer, one):
                self._ask_now.add(peer)
        await self._cosign()
        self._cite()
        await self._ask()

    async def _cosign(self) -> None:
        asked, self._asked = self._asked, {}
        if not asked:
            return
        if self._witness is None:
            said = [Witnessed(checkpoint=b"", refused="NO_WITNESS")] * len(asked)
        else:
            shown = [(peer, what) for peer, (_, what) in asked.items()]
            try:
                said = await asyncio.to_thread(self._witness.answers, shown)
            except ComityError as error:
                logger.error("cannot witness", reason=error.reason)
                said = [Witnessed(checkpoint=b"", refused="NO_WITNESS")] * len(asked)
        for (peer, (send, _)), one in zip(asked.items(), said, strict=True):
            if one.refused in FAULTS:
                logger.error("a log is not what it was", peer=peer, fault=one.refused)
            if not one.refused:
                cited = Cited.parse(one.checkpoint)
                self._others.pop(cited.origin, None)
                self._others[cited.origin] = cited
            send(one)

    def _cite(self) -> None:
        own = (self._own.cited,) if self._own.cited else ()
        for origin in list(self._others)[:-MOST_CITED]:
            del self._others[origin]
        self._log.cite((*own, *self._others.values()))

    async def _ask(self) -> None:
        now, peers = self._seconds(), self._ask_now
        self._ask_now = set()
        if now >= self._next_s:
            self._next_s = now + self._every_s
            due = [
                p
                for p in self._streams
                if p in self._own.witnesses and self._own.due(p, now, renew_s=self._renew_s, retry_s=RETRY_S)
            ]
            peers = {*peers, *due}
        for peer in peers:
            send = self._streams.get(peer)
            if send is None or self._own.fault is not None:
                continue
            try:
                send(await asyncio.to_thread(self._own.to_witness, peer, self._seconds()))
            except LogFault as error:
                logger.error("no proof for a witness", reason=error.reason)
