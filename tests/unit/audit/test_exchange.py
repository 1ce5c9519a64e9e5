"""The exchange of heads between two programs that witness each other: what goes on by itself, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from audit.exchange import MOST_CITED, Exchange
from audit.note import Checkpoint, Cited
from audit.witness import PinnedLog, ToWitness, Witness, Witnessed, WitnessState
from audit.witnessed import OwnHeads
from tests.unit.audit.growing import (
    NOW,
    GrowingLog,
    HandSeconds,
    own_heads,
    public,
    until,
    witness,
    witness_key,
)

A = "a/witness/a-1"


class Street:
    """Exchanges that send to one another as streams would: `peer` names each to the other."""

    def __init__(self, folder: Path) -> None:
        self.seconds = HandSeconds()
        self.logs = {"broker/b1": GrowingLog(5), "alder-1": GrowingLog(3, origin="us-ca-alder-pd/node/alder-1")}
        self.names = {"broker/b1": "test-exchange/witness/b1", "alder-1": A}
        self.ends = {
            "broker/b1": self._end(folder / "broker", "broker/b1", "alder-1"),
            "alder-1": self._end(folder / "alder", "alder-1", "broker/b1"),
        }

    def _end(self, folder: Path, me: str, peer: str) -> Exchange:
        folder.mkdir()
        log, other = self.logs[me], self.logs[peer]
        own = OwnHeads(
            vkey=log.vkey,
            head=lambda: log.head,
            proofs=log,
            witnesses={peer: public(self.names[peer])},
            quorum=1,
            clock=lambda: NOW,
        )
        keeps = witness(folder, self.names[me], other, owner=peer)
        return Exchange(
            log=log,  # type: ignore[arg-type]  # of a log it only asks to cite
            own=own,
            witness=keeps,
            every_s=0.01,
            renew_s=60,
            seconds=self.seconds,
        )

    def connect(self) -> None:
        """A stream between the two, both ways."""
        for me, peer in (("broker/b1", "alder-1"), ("alder-1", "broker/b1")):
            self.ends[me].attached(peer, self.stream(me, peer))

    def stream(self, me: str, peer: str) -> Callable[[ToWitness | Witnessed], None]:
        def send(item: ToWitness | Witnessed) -> None:
            if isinstance(item, ToWitness):
                self.ends[peer].asked(me, item, self.stream(peer, me))
            else:
                self.ends[peer].answered(me, item)

        return send


@asynccontextmanager
async def at_work(street: Street) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(end.run()) for end in street.ends.values()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def sizes(log: GrowingLog) -> dict[str, int]:
    return {c.origin.rpartition("/")[2]: c.size for c in log.cited}


async def test_both_ends_cosign_each_other_s_heads_and_cite_the_newest_of_both_logs(tmp_path: Path) -> None:
    street = Street(tmp_path)
    broker, alder = street.logs.values()
    async with at_work(street):
        street.connect()
        await until(lambda: sizes(broker) == sizes(alder) == {"b1": 5, "alder-1": 3})
        broker.grow(300)
        alder.grow(2)
        street.seconds.at += 1
        await until(lambda: sizes(broker) == sizes(alder) == {"b1": 305, "alder-1": 5})


async def test_an_exchange_goes_on_after_a_round_that_failed(tmp_path: Path) -> None:
    street = Street(tmp_path)
    broker = street.logs["broker/b1"]
    failing = iter([OSError("disk"), ValueError("defect")])

    def cite(heads: Any) -> None:
        for error in failing:
            raise error
        broker.cited = tuple(heads)

    broker.cite = cite  # type: ignore[method-assign]
    async with at_work(street):
        street.connect()
        await until(lambda: bool(sizes(broker).get("b1")))


async def test_a_program_that_cannot_witness_says_so_and_its_own_log_is_witnessed_all_the_same(tmp_path: Path) -> None:
    street = Street(tmp_path)
    broker, alder = street.logs.values()
    street.ends["alder-1"]._witness = None
    async with at_work(street):
        street.connect()
        await until(lambda: sizes(alder) == {"alder-1": 3})
    assert "b1" not in sizes(broker)


def test_a_peer_that_floods_leaves_one_head_and_one_answer_to_look_at(tmp_path: Path) -> None:
    end = Street(tmp_path).ends["broker/b1"]
    for i in range(1_000):
        end.asked("alder-1", ToWitness(old_size=i, proof=(), checkpoint=b"x"), lambda _: None)
        end.answered("alder-1", Witnessed(checkpoint=b"x"))
        end.answered("nobody", Witnessed(checkpoint=b"x"))
    assert (len(end._asked), len(end._said)) == (1, 1)


async def test_entries_cite_a_few_of_many_logs_those_that_moved_last(tmp_path: Path) -> None:
    logs = [GrowingLog(i + 1, origin=f"test/node/n{i}") for i in range(MOST_CITED + 2)]
    own, cited = GrowingLog(), GrowingLog()
    WitnessState.create(tmp_path / "witness.db")
    pinned = {log.origin: PinnedLog(owner=log.origin, key=log.vkey) for log in logs}
    keeps = Witness(WitnessState(tmp_path / "witness.db"), name=A, key=witness_key(A), logs=pinned, clock=lambda: NOW)
    nobody = own_heads(own, quorum=0)
    end = Exchange(
        log=cited,  # type: ignore[arg-type]
        own=nobody,
        witness=keeps,
        every_s=1,
        renew_s=60,
        seconds=HandSeconds(),
    )
    for log in logs:
        head = log.head
        end.asked(log.origin, ToWitness(old_size=0, proof=(), checkpoint=head.checkpoint), lambda _: None)
    await end._round()
    assert [c.origin for c in cited.cited] == [log.origin for log in logs[-MOST_CITED:]]
    assert all(isinstance(c, Cited) and Checkpoint.parse(c.note).size == c.size for c in cited.cited)
