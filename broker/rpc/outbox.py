"""What waits to be sent on one node's stream: what is ready goes out in one message, with no timer."""

from __future__ import annotations

import asyncio
from collections import deque

from audit.witness import ToWitness, Witnessed
from broker.links import Item
from broker.model import End, ShowPolicy, Work
from comity.v1 import node_link_service_pb2 as pb2

ITEMS_A_MESSAGE = 64
MAX_WAITING = 4096  # a node that reads no more is let go, so that it cannot fill the broker's memory


class Outbox:
    """A bounded queue of items; `put` never blocks, `take` waits for one and brings all that are ready."""

    def __init__(self) -> None:
        self._items: deque[pb2.BrokerItem] = deque()
        self._ready = asyncio.Event()
        self.closed = False

    def put(self, item: pb2.BrokerItem) -> None:
        """Queue `item`; an outbox that is full closes, and one that is closed takes nothing more."""
        if self.closed:
            return
        if len(self._items) >= MAX_WAITING:
            self.closed = True
        else:
            self._items.append(item)
        self._ready.set()

    def send(self, item: Item) -> None:
        """Queue what a link has for its node: a text cancels the inquiry of that id."""
        match item:
            case Work():
                self.put(_encode(item))
            case ShowPolicy():
                self.put(pb2.BrokerItem(show_policy=pb2.ShowPolicy()))
            case End():
                self.close(item.reason)
            case str():
                self.put(pb2.BrokerItem(cancel=pb2.Cancel(inquiry_id=item)))

    def witness(self, item: ToWitness | Witnessed) -> None:
        """Queue a head to cosign, or the answer to one."""
        if isinstance(item, ToWitness):
            self.put(pb2.BrokerItem(to_witness=item.to_message()))
        else:
            self.put(pb2.BrokerItem(witnessed=item.to_message()))

    def close(self, reason: str) -> None:
        """Say goodbye, once, after what is queued already, then end the stream."""
        if self.closed:
            return
        self._items.append(pb2.BrokerItem(goodbye=pb2.Goodbye(reason=reason)))
        self.closed = True
        self._ready.set()

    async def take(self) -> list[pb2.BrokerItem]:
        """At least one item, at most 64; none if the outbox is closed and empty."""
        while not self._items and not self.closed:
            self._ready.clear()
            await self._ready.wait()
        return [self._items.popleft() for _ in range(min(len(self._items), ITEMS_A_MESSAGE))]


def _encode(work: Work) -> pb2.BrokerItem:
    r = work.receipt
    return pb2.BrokerItem(
        work=pb2.Work(
            inquiry_id=work.inquiry_id,
            inquiry=work.inquiry,
            receipt=pb2.Receipt(
                origin=r.origin, index=r.index, entry=r.entry, leaf_hash=r.leaf_hash, checkpoint=r.checkpoint
            ),
            deadline_ms=work.deadline_ms,
        )
    )
