"""The nodes attached to this process, and the work that each has been sent."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Iterator

from broker.model import Answer, End, Lost, ShowPolicy, Work
from policies.engine import Policy
from policies.published import Published

Sink = Callable[[Answer | Lost], None]
Item = Work | str | ShowPolicy | End  # a text is the id of a work to cancel
Wire = Callable[[Item], None]


class Link:
    """One attached node. `published` is the policy that it showed; `wire` queues for its stream, never blocking.

    `stale`: its agency has published a newer one, by which is decided until the node shows that too.
    """

    def __init__(self, node: str, published: Published, wire: Wire, *, stale: bool = False) -> None:
        self.node = node
        self.published = published
        self.stale = stale
        self._wire = wire
        self._waiting: dict[str, tuple[Work, Sink]] = {}

    def ask(self, work: Work, sink: Sink) -> None:
        """Queue `work`; `sink` is called exactly once, unless it is cancelled before."""
        self._waiting[work.inquiry_id] = work, sink
        self._wire(work)

    def cancel(self, inquiry_id: str) -> None:
        """Tell the node that nobody waits for this any more."""
        if self._waiting.pop(inquiry_id, None) is not None:
            self._wire(inquiry_id)

    def waits_for(self, inquiry_id: str) -> bool:
        """True if this work was sent and is not answered."""
        return inquiry_id in self._waiting

    def unanswered(self, inquiry_id: str) -> Work | None:
        """The work that was sent under this id, while its answer is awaited."""
        found = self._waiting.get(inquiry_id)
        return None if found is None else found[0]

    def answered(self, inquiry_id: str, answer: Answer | Lost) -> bool:
        """Hand an answer to whoever waits. False if nobody does: late, twice, or never asked."""
        found = self._waiting.pop(inquiry_id, None)
        if found is None:
            return False
        found[1](answer)
        return True

    def ask_policy(self) -> None:
        """Have the node look for a new policy and show the one in force."""
        self._wire(ShowPolicy())

    def end(self, reason: str) -> None:
        """End the stream."""
        self._wire(End(reason))

    def lost(self, reason: str) -> None:
        """The stream has ended: whoever waits is told that the node may have searched."""
        waiting, self._waiting = self._waiting, {}
        for _, sink in waiting.values():
            sink(Lost(self.node, "LINK_LOST", reason))


class Links:
    """Which nodes are attached here, and the last policy of each that ever was.

    A node that left is still decided on under its last policy, so that its refusal stays a refusal; it is asked
    nothing.
    """

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._published: dict[str, Published] = {}
        self._minimum: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def attach(self, link: Link) -> Link | None:
        """Take up `link`. Returns the one it replaces, if the node was attached already."""
        old = self._links.get(link.node)
        self._links[link.node] = link
        if not link.stale:
            self._published[link.node] = link.published
        return old

    def take_up(self, link: Link, published: Published) -> None:
        """A new policy of an attached node; nothing more happens if the link is no longer its node's."""
        link.published, link.stale = published, False
        if self._links.get(link.node) is link:
            self._published[link.node] = published

    def published(self, node: str) -> Published | None:
        """The latest policy that is known of the node."""
        return self._published.get(node)

    def taking_up(self, node: str) -> asyncio.Lock:
        """Held while a policy of the node is taken up, so that it is recorded once, whichever way it came first."""
        return self._locks.setdefault(node, asyncio.Lock())

    def learn(self, published: Published, minimum: int = 0) -> None:
        """A policy that somebody else than the node brought; an attached node's own word, if not older, goes before it.

        Versions below `minimum` are revoked: a node that stands under one is let go.
        """
        node = published.node
        known, link = self._published.get(node), self._links.get(node)
        if known is None or known.version < published.version:
            self._published[node] = published
            if link is not None:
                link.stale = True
        self._minimum[node] = max(minimum, self._minimum.get(node, 0))
        if link is not None and link.published.version < self._minimum[node]:
            link.end("POLICY_REVOKED")

    def known(self, nodes: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Of each node with a known policy: its version, and the least that is not revoked."""
        return {n: (p.version, self._minimum.get(n, 0)) for n in nodes if (p := self._published.get(n)) is not None}

    def detach(self, link: Link) -> bool:
        """Forget `link`. False if another has replaced it."""
        if self._links.get(link.node) is not link:
            return False
        del self._links[link.node]
        return True

    def get(self, node: str) -> Link | None:
        """The node's link, or None if it is not attached to this process."""
        return self._links.get(node)

    def with_policies(self, nodes: Iterable[str], now: dt.datetime) -> list[tuple[str, Policy | None]]:
        """Each node with its latest known policy; None where none was ever shown, or it has expired."""
        known = self._published
        return [(n, p.policy if (p := known.get(n)) is not None and now < p.valid_to else None) for n in nodes]

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._links.values()))

    def __len__(self) -> int:
        return len(self._links)
