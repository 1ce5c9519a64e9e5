"""Both sides of witnessing over attached streams: one's own heads shown to its witnesses, others' heads cosigned.

What comes in waits in one place for each peer, the newest only, so that a peer that floods costs nothing more. Between
two nodes a broker passes on, one item of each kind a round, only from a node to the witness that the directory gives
it, and back. It can hold back what it passes on; what it makes up lacks a signature.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from audit.log import DecisionLog
from audit.note import Cited
from audit.witness import FAULTS, Refusal, ToWitness, Witness, Witnessed
from audit.witnessed import OwnHeads
from comity.errors import ComityError, LogFault

MOST_CITED = 3  # heads of others in an entry: those that moved last
RETRY_S = 5.0
Send = Callable[[ToWitness | Witnessed], None]
logger = structlog.get_logger("witness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """Which nodes witness other nodes' logs, with a broker between them.

    `pairs`, at a broker: node -> its witness. At a node, `to`: its own witness, empty if it has none; `of`: the nodes
    that it witnesses.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    to: str = ""
    of: frozenset[str] = frozenset()


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
        passing: Passing | None = None,
    ) -> None:
        self._passing = passing or Passing()
        self._between: dict[tuple[str, str, bool], ToWitness | Witnessed] = {}
        self._turn = 0
        self._log, self._own, self._witness = log, own, witness
        self._every_s, self._renew_s, self._seconds, self._settled = every_s, renew_s, seconds, settled
        self._streams: dict[str, Send] = {}
        self._asked: dict[tuple[str, str], tuple[Send, ToWitness]] = {}
        self._said: dict[str, Witnessed] = {}
        self._ask_now: set[str] = set()
        self._work = asyncio.Event()
        self._next_s = 0.0
        self._others: dict[str, Cited] = {}

    def attached(self, peer: str, send: Send) -> None:
        """A stream to `peer` is open; `send` queues for it and never blocks. A witness is shown the head at once."""
        self._streams[peer] = send
        for who in {peer, self._passing.to} & self._own.witnesses.keys():
            self._own.forget(who)
            self._ask_now.add(who)
            self._work.set()

    def detached(self, peer: str, send: Send) -> None:
        """That stream has ended; nothing happens if another has taken its place."""
        if self._streams.get(peer) == send:
            del self._streams[peer]

    def asked(self, peer: str, what: ToWitness, send: Send) -> None:
        """`peer` wants a head of its log cosigned, or one that it passes on; the answer goes to `send`."""
        if what.node and self._passing.pairs.get(peer) == what.node:
            self._between[peer, what.node, True] = what
        elif not what.node or what.node in self._passing.of:
            self._asked[peer, what.node] = send, what
            self._work.set()

    def answered(self, peer: str, said: Witnessed) -> None:
        """`peer` answers what it was shown, or passes such an answer on."""
        if said.node and self._passing.pairs.get(said.node) == peer:
            self._between[peer, said.node, False] = said
            return
        who = said.node or peer
        if who in self._own.witnesses and said.node in ("", self._passing.to):
            self._said[who] = said
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
            shown = [(what.node or peer, what) for (peer, _), (_, what) in asked.items()]
            try:
                said = await asyncio.to_thread(self._witness.answers, shown)
            except ComityError as error:
                logger.error("cannot witness", reason=error.reason)
                said = [Witnessed(checkpoint=b"", refused="NO_WITNESS")] * len(asked)
        for ((peer, node), (send, _)), one in zip(asked.items(), said, strict=True):
            if node and one.refused in (FAULTS - {Refusal.FORKED}):  # it may be the broker that lies
                logger.warning("a head that was passed on is refused", node=node, by=peer, fault=one.refused)
            elif one.refused in FAULTS:
                logger.error("a log is not what it was", peer=node or peer, fault=one.refused)
            if not one.refused:
                cited = Cited.parse(one.checkpoint)
                self._others.pop(cited.origin, None)
                self._others[cited.origin] = cited
            send(replace(one, node=node))

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
            self._pass_on()
            due = [
                p
                for p in {*self._streams, self._passing.to}
                if p in self._own.witnesses and self._own.due(p, now, renew_s=self._renew_s, retry_s=RETRY_S)
            ]
            peers = {*peers, *due}
        for peer in peers:
            send = self._way_to(peer)
            if send is None or self._own.fault is not None:
                continue
            try:
                what = await asyncio.to_thread(self._own.to_witness, peer, self._seconds())
            except LogFault as error:
                logger.error("no proof for a witness", reason=error.reason)
            else:
                send(replace(what, node=peer if peer == self._passing.to else ""))

    def _pass_on(self) -> None:
        between, self._between = self._between, {}
        for (sender, to, _), item in between.items():
            if to in self._streams:
                self._streams[to](replace(item, node=sender))

    def _way_to(self, peer: str) -> Send | None:
        if peer != self._passing.to:
            return self._streams.get(peer)
        # The witness may be attached to one broker process and not to another: they take turns.
        self._turn += 1
        ways = list(self._streams.values())
        return ways[self._turn % len(ways)] if ways else None
