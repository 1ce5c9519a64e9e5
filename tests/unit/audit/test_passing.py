"""A node's head passed on by a broker to the one other node that witnesses it: what a broker between can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from audit.cosignature import cosignatures
from audit.exchange import Exchange, Passing
from audit.witness import DB_NAME, ToWitness, Witnessed, WitnessState
from audit.witnessed import OwnHeads
from comity.errors import InvalidInput
from comity.v1 import node_link_service_pb2 as pb2
from tests.unit.audit.growing import NOW, GrowingLog, HandSeconds, public, until, witness

NODE, OTHER, BROKER = "alder-1", "brazos-1", "broker/b1"
NAMES = {BROKER: "test-exchange/witness/b1", OTHER: "us-tx-brazos-so/witness/brazos-1"}
Item = ToWitness | Witnessed


class Triangle:
    """Two nodes and the broker between them; `through` is what the broker does with each item that it passes on."""

    def __init__(self, folder: Path) -> None:
        self.seconds = HandSeconds()
        self.folder = folder
        self.node, self.other = GrowingLog(3, origin="us-ca-alder-pd/node/alder-1"), GrowingLog(7, origin="x/node/o")
        self.through: Callable[[Item], list[Item]] = lambda item: [item]
        self.ends = {
            NODE: self._end(self.node, [BROKER, OTHER], "", Passing(to=OTHER)),
            OTHER: self._end(self.other, [], OTHER, Passing(of=frozenset({NODE}))),
            BROKER: self._end(GrowingLog(9), [], BROKER, Passing(pairs={NODE: OTHER})),
        }

    def _end(self, log: GrowingLog, asks: list[str], me: str, passing: Passing) -> Exchange:
        own = OwnHeads(
            vkey=log.vkey,
            head=lambda: log.head,
            proofs=log,
            witnesses={who: public(NAMES[who]) for who in asks},
            quorum=1,
            clock=lambda: NOW,
        )
        keeps = None
        if me:
            (self.folder / me.replace("/", "-")).mkdir()
            keeps = witness(self.folder / me.replace("/", "-"), NAMES[me], self.node, owner=NODE)
        return Exchange(
            log=log,  # type: ignore[arg-type]  # of a log it only asks to cite
            own=own,
            witness=keeps,
            every_s=0.01,
            renew_s=60,
            seconds=self.seconds,
            passing=passing,
        )

    def connect(self) -> None:
        """Both nodes' streams to the broker."""
        for node in (NODE, OTHER):
            self.ends[BROKER].attached(node, self.stream(BROKER, node))
            self.ends[node].attached(BROKER, self.stream(node, BROKER))

    def stream(self, me: str, peer: str) -> Callable[[Item], None]:
        def send(item: Item) -> None:
            for one in self.through(item) if me == BROKER and item.node else [item]:
                if isinstance(one, ToWitness):
                    self.ends[peer].asked(me, one, self.stream(peer, me))
                else:
                    self.ends[peer].answered(me, one)

        return send

    def seen_by(self) -> set[str]:
        """Who has cosigned the node's newest head, by its own account."""
        note, head = self.ends[NODE]._own.note, self.node.head
        fits = note.startswith(head.checkpoint)
        return set(cosignatures(note, [public(n) for n in NAMES.values()])) if fits else set()

    def reports(self) -> list[str]:
        """What the other node has reported of this one's log."""
        state = WitnessState(self.folder / OTHER / DB_NAME)
        try:
            return [r.kind for r in state.reports()]
        finally:
            state.close()


@asynccontextmanager
async def at_work(town: Triangle) -> AsyncIterator[None]:
    """Everybody works, and the clock goes on by itself."""

    async def tick() -> None:
        while True:
            town.seconds.at += 1
            await asyncio.sleep(0.005)

    town.connect()
    tasks = [asyncio.ensure_future(end.run()) for end in town.ends.values()] + [asyncio.ensure_future(tick())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Triangle]:
    town = Triangle(tmp_path)
    yield town
    for end in town.ends.values():
        if end._witness:
            end._witness.close()


async def test_a_node_s_head_is_cosigned_by_the_broker_and_by_one_other_node_and_goes_on_being_so(
    town: Triangle,
) -> None:
    async with at_work(town):
        await until(lambda: town.seen_by() == set(NAMES.values()))
        town.node.grow(300)
        await until(lambda: town.seen_by() == set(NAMES.values()))
    assert [c.size for c in town.other.cited] == [303], "the other node's own entries cite it"


def spoilt(item: Item) -> list[Item]:
    return [replace(item, proof=tuple(reversed(item.proof)))] if isinstance(item, ToWitness) else [item]


class PlaysAgain:
    """Passes on the first head that it saw, for ever."""

    def __init__(self) -> None:
        self.first: ToWitness | None = None

    def __call__(self, item: Item) -> list[Item]:
        if isinstance(item, ToWitness):
            self.first = self.first or item
            return [item, replace(self.first, old_size=0)]
        return [item]


LIARS: dict[str, Callable[[], Callable[[Item], list[Item]]]] = {
    "that spoils proofs": lambda: spoilt,
    "that shows an old head again": PlaysAgain,
    "that passes nothing on": lambda: lambda item: [],
    "that answers itself": lambda: (
        lambda item: [Witnessed(checkpoint=item.checkpoint, node=item.node)] if isinstance(item, Witnessed) else []
    ),
}


@pytest.mark.parametrize("liar", LIARS.values(), ids=LIARS)
async def test_a_broker_between_cannot_make_one_node_report_the_other(
    liar: Callable[[], Callable[[Item], list[Item]]], town: Triangle
) -> None:
    async with at_work(town):
        await until(lambda: NAMES[BROKER] in town.seen_by())
        town.through = liar()
        for _ in range(3):
            town.node.grow(40)
            await until(lambda: NAMES[BROKER] in town.seen_by())
            await asyncio.sleep(0.05)
    assert town.reports() == []
    assert town.ends[NODE]._own.fault is None


async def test_a_node_that_shows_the_other_another_past_of_the_same_size_is_reported(town: Triangle) -> None:
    async with at_work(town):
        await until(lambda: town.seen_by() == set(NAMES.values()))
        other_past = GrowingLog(1, origin=town.node.origin)
        other_past.grow(2, "another past ")
        shown = ToWitness(old_size=3, proof=(), checkpoint=other_past.head.checkpoint, node=OTHER)
        town.ends[BROKER].asked(NODE, shown, lambda _: None)
        await until(lambda: set(town.reports()) == {"FORKED"})


def test_a_broker_passes_on_only_to_the_witness_that_the_directory_gives_a_node_and_back(tmp_path: Path) -> None:
    broker = Triangle(tmp_path).ends[BROKER]
    shown = ToWitness(old_size=0, proof=(), checkpoint=b"x")
    broker.asked(OTHER, replace(shown, node=NODE), lambda _: None)
    broker.asked(NODE, replace(shown, node="nobody"), lambda _: None)
    broker.answered(NODE, Witnessed(checkpoint=b"x", node=NODE))
    broker.answered("nobody", Witnessed(checkpoint=b"x", node=NODE))
    assert (broker._between, broker._asked, broker._said) == ({}, {}, {})
    for size in range(1_000):
        broker.asked(NODE, replace(shown, old_size=size, node=OTHER), lambda _: None)
        broker.answered(OTHER, Witnessed(checkpoint=b"x", node=NODE))
    assert len(broker._between) == 2, "a node that floods has its newest passed on"


def test_a_witness_takes_from_a_broker_only_the_nodes_that_the_directory_gives_it(tmp_path: Path) -> None:
    other = Triangle(tmp_path).ends[OTHER]
    for i in range(1_000):
        other.asked(BROKER, ToWitness(old_size=0, proof=(), checkpoint=b"x", node=f"n{i}"), lambda _: None)
    assert other._asked == {}


def test_the_name_of_who_is_meant_has_a_limit() -> None:
    with pytest.raises(InvalidInput):
        ToWitness.parse(pb2.ToWitness(checkpoint=b"x", node="n" * 65))
    with pytest.raises(InvalidInput):
        Witnessed.parse(pb2.Witnessed(checkpoint=b"x", node="n" * 65))
    shown = ToWitness(old_size=1, proof=(), checkpoint=b"x", node=NODE)
    assert ToWitness.parse(shown.to_message()) == shown
