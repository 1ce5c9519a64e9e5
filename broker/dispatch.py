"""Steps 4 and 10: ask every permitted node on its own stream, and collect one answer of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from broker.links import Links
from broker.model import Answer, Lost, Permit, Receipt, Work
from broker.own import OwnOutcomes

SLICE = 16  # nodes sent to before the loop turns to what has come back
MANY = 128  # while more than so many are still to be asked, asking rests until the first answers are released
Others = Callable[[], Awaitable[tuple[Answer, ...]]]
NODE_MARGIN_S = 0.05  # a node's deadline lies before ours by the time its answer travels


class Dispatch:
    """The nodes asked for one inquiry. `outstanding` are those with no answer yet."""

    def __init__(self, inquiry_id: str, links: Links, own: OwnOutcomes) -> None:
        self._inquiry_id = inquiry_id
        self._links = links
        self._own = own
        self._arrived: asyncio.Queue[Answer | Lost] = asyncio.Queue()
        self._expired = False
        self._may_send = asyncio.Event()
        self._may_send.set()
        self.outstanding: dict[str, Receipt[Permit]] = {}

    async def run(
        self, receipts: Sequence[Receipt[Permit]], inquiry: bytes, deadline: float, others: Others
    ) -> AsyncGenerator[tuple[Answer, ...], None]:
        """The answers as they arrive, those that are ready together; at the deadline `timed_out` for the rest.

        `deadline` is in the event loop's time. Exactly one answer a receipt, and `others`, the answers of the targets
        that are not asked, which are made while the nodes work.
        """
        self.outstanding = {r.node: r for r in receipts}
        # A task of its own: while the first answers are being recorded, the other nodes are being asked.
        sending = asyncio.ensure_future(self._send(receipts, inquiry, deadline))
        sending.add_done_callback(lambda _: self._wake())
        timer = asyncio.get_running_loop().call_at(deadline, self._expire)
        try:
            while not sending.done() and not self._expired:
                if ready := self._ready(await self._arrived.get()):
                    if len(self.outstanding) + len(ready) == len(receipts):
                        self._may_send.clear()
                    yield ready
                    self._may_send.set()
            if sending.done():
                sending.result()  # a defect in asking must not pass for nodes that are late
            if rest := await others():
                yield rest
            while self.outstanding and not self._expired:
                if ready := self._ready(await self._arrived.get()):
                    yield ready
        finally:
            timer.cancel()
            sending.cancel()
        if self.outstanding:
            late = tuple(self.outstanding.values())
            self.cancel()
            yield tuple(self._own.timed_out(r) for r in late)

    def cancel(self) -> None:
        """Tell every node that has not answered that nobody waits."""
        for node in self.outstanding:
            link = self._links.get(node)
            if link is not None:
                link.cancel(self._inquiry_id)
        self.outstanding.clear()

    async def _send(self, receipts: Sequence[Receipt[Permit]], inquiry: bytes, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        for at in range(0, len(receipts), SLICE):
            for receipt in receipts[at : at + SLICE]:
                self._ask(receipt, inquiry, deadline - loop.time())
            await asyncio.sleep(0)
            if len(receipts) - at > MANY:
                await self._may_send.wait()

    def _ask(self, receipt: Receipt[Permit], inquiry: bytes, left_s: float) -> None:
        link = self._links.get(receipt.node)
        if link is None:  # detached since it was decided
            self._arrived.put_nowait(Lost(receipt.node, "LINK_LOST", "the node left before it was asked"))
            return
        deadline_ms = max(1, int((left_s - NODE_MARGIN_S) * 1000))
        work = Work(
            inquiry_id=self._inquiry_id,
            inquiry_hash=self._own.inquiry_hash,
            inquiry=inquiry,
            receipt=receipt,
            deadline_ms=deadline_ms,
        )
        link.ask(work, self._arrived.put_nowait)

    def _expire(self) -> None:
        self._expired = True
        self._wake()

    def _wake(self) -> None:
        self._arrived.put_nowait(Lost("", "", ""))  # of no node: the loops in `run` look around and drop it

    def _ready(self, *first: Answer | Lost) -> tuple[Answer, ...]:
        arrived = list(first)
        while not self._arrived.empty():
            arrived.append(self._arrived.get_nowait())
        answers = []
        for a in arrived:
            receipt = self.outstanding.pop(a.node, None)
            if receipt is not None:
                answers.append(self._own.lost(receipt, a) if isinstance(a, Lost) else a)
        return tuple(answers)
