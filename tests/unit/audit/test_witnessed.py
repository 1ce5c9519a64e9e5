"""A log and its witnesses: whose word counts, what a fault is, and when the broker may release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.cosignature import cosign, cosignatures
from audit.witness import Witness, Witnessed
from audit.witnessed import CLOCKS_APART
from broker.witnessing import Gate
from comity.errors import Unavailable
from tests.unit.audit.growing import (
    BROKER,
    NOW,
    ORIGIN,
    GrowingLog,
    HandSeconds,
    own_heads,
    public,
    witness,
    witness_key,
)

A, B, C = "a/witness/a-1", "b/witness/b-1", "c/witness/c-1"


FAR = 9e9


class Town:
    """A log and three witnesses that answer over nothing at all."""

    def __init__(self, folder: Path, size: int = 10, quorum: int = 2) -> None:
        self.log = GrowingLog(size)
        self.seconds = HandSeconds()
        self.witnesses: dict[str, Witness] = {}
        for name in (A, B, C):
            (folder / name[0]).mkdir()
            self.witnesses[name] = witness(folder / name[0], name, self.log)
        self.quorum = quorum
        self.start()

    def start(self) -> None:
        """The log's program starts anew and has forgotten what it heard."""
        self.own = own_heads(self.log, A, B, C, quorum=self.quorum)
        self.heard_open: list[bool] = []
        self.gate = Gate(self.own, within_s=900, seconds=self.seconds, changed=self.heard_open.append)

    def ask(self, name: str) -> Witnessed:
        """Show the head to that witness, once more if it says what it holds, and hear it."""
        for _ in range(2):
            what = self.own.to_witness(name, self.seconds())
            (said,) = self.witnesses[name].answers([(BROKER, what)])
            if not self.own.heard(name, said):
                break
        return said

    def why_closed(self) -> str:
        """The reason for which nothing is released; empty if something is."""
        try:
            self.gate.check()
        except Unavailable as error:
            return error.reason
        return ""


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_a_broker_releases_nothing_until_a_quorum_has_cosigned_and_then_cites_the_head(town: Town) -> None:
    assert town.why_closed() == "NOT_WITNESSED"
    town.ask(A)
    assert (town.why_closed(), town.own.cited) == ("NOT_WITNESSED", None)
    town.ask(B)
    assert town.why_closed() == ""
    assert town.own.cited is not None
    assert (town.own.cited.size, town.own.cited.origin) == (10, ORIGIN)
    assert set(cosignatures(town.own.cited.note, [public(n) for n in (A, B, C)])) == {A, B}


def test_a_further_cosignature_of_the_head_is_shown_and_the_citation_stays_as_it_was(town: Town) -> None:
    town.ask(A)
    town.ask(B)
    cited = town.own.cited
    town.ask(C)
    assert town.own.cited == cited
    assert set(cosignatures(town.own.note, [public(n) for n in (A, B, C)])) == {A, B, C}


def test_a_log_that_grew_while_its_program_was_away_goes_on_from_what_its_witnesses_hold(town: Town) -> None:
    town.ask(A)
    town.ask(B)
    town.log.grow(500)
    town.start()
    assert town.ask(A).refused == ""
    assert town.ask(B).refused == ""
    assert town.why_closed() == ""


def go_back(log: GrowingLog) -> None:
    log.go_back(4)


def go_back_and_on(log: GrowingLog) -> None:
    log.go_back(4)
    log.grow(30, "another past ")


REPLACED: dict[str, tuple[str, Callable[[GrowingLog], None]]] = {
    "an older copy": ("LOG_ROLLED_BACK", go_back),
    "an older copy that went on": ("LOG_FORKED", go_back_and_on),
}


@pytest.mark.parametrize(("reason", "change"), REPLACED.values(), ids=REPLACED)
def test_one_witness_that_holds_a_later_head_stops_a_log_that_was_replaced_for_good(
    reason: str, change: Callable[[GrowingLog], None], town: Town
) -> None:
    town.ask(C)
    change(town.log)
    town.start()
    for name in (A, B):
        town.ask(name)
    assert town.why_closed() == "", "those two had never seen the log"
    town.ask(C)
    assert town.why_closed() == reason
    town.log.grow(100)
    for name in (A, B, C):
        town.ask(name)
    assert town.why_closed() == reason


async def test_a_broker_whose_log_was_replaced_says_so_at_once_to_a_search_that_comes(town: Town) -> None:
    town.ask(C)
    town.log.go_back(2)
    town.start()
    town.ask(C)
    with pytest.raises(Unavailable) as refused:
        await town.gate.opened(60)
    assert refused.value.reason == "LOG_ROLLED_BACK"


def lies(log: GrowingLog) -> dict[str, Witnessed]:
    """What one witness might say instead of the truth."""
    head, bigger = log.head.checkpoint, GrowingLog(99, key=witness_key(A)).head.checkpoint
    older = GrowingLog(4).head.checkpoint
    return {
        "nothing": Witnessed(checkpoint=b""),
        "nothing, and a fault": Witnessed(checkpoint=b"", refused="ROLLED_BACK"),
        "a larger head without the log's signature": Witnessed(checkpoint=bigger, refused="ROLLED_BACK"),
        "a larger head with its own signature only": Witnessed(checkpoint=cosign(bigger, A, witness_key(A), NOW)),
        "nonsense": Witnessed(checkpoint=b"nonsense", refused="FORKED"),
        "an older head of the log, for ever": Witnessed(checkpoint=older, refused="STALE"),
        "the head without a cosignature": Witnessed(checkpoint=head),
        "the head with a cosignature that does not fit": Witnessed(
            checkpoint=head + cosign(older, A, witness_key(A), NOW).splitlines(keepends=True)[-1]
        ),
        "another's cosignature": Witnessed(checkpoint=cosign(head, B, witness_key(B), NOW)),
        "an older head, cosigned": Witnessed(checkpoint=cosign(older, A, witness_key(A), NOW)),
        "a cosignature of another time": Witnessed(checkpoint=cosign(head, A, witness_key(A), NOW + 2 * CLOCKS_APART)),
    }


LIES = lies(GrowingLog(10))


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lying_witness_counts_for_nothing_and_the_two_honest_ones_are_enough(lie: Witnessed, town: Town) -> None:
    town.own.to_witness(A, town.seconds())
    town.own.heard(A, lie)
    town.ask(B)
    assert town.own.fault is None
    assert (town.own.fresh(town.seconds(), FAR), town.why_closed()) == (1, "NOT_WITNESSED"), "it is not believed"
    town.ask(C)
    assert town.why_closed() == "", "it stops nobody"
    assert town.own.cited is not None
    assert A not in cosignatures(town.own.cited.note, [public(A)])


def test_a_witness_that_says_now_this_head_and_now_that_is_asked_again_once_and_not_for_ever(town: Town) -> None:
    older = [Witnessed(checkpoint=GrowingLog(size).head.checkpoint, refused="STALE") for size in (4, 5)]
    again = []
    for turn in range(6):
        town.own.to_witness(A, town.seconds())
        again.append(town.own.heard(A, older[turn % 2]))
    assert again == [True, False] * 3
    town.own.forget(A)
    town.ask(A)
    assert town.own.fresh(town.seconds(), FAR) == 1


def test_a_word_from_who_is_no_witness_or_was_not_asked_counts_for_nothing(town: Town) -> None:
    note = cosign(town.log.head.checkpoint, A, witness_key(A), NOW)
    assert not town.own.heard("nobody", Witnessed(checkpoint=note))
    assert not town.own.heard(A, Witnessed(checkpoint=note))
    assert town.own.fresh(town.seconds(), FAR) == 0


async def test_without_a_quorum_for_fifteen_minutes_it_stops_and_it_goes_on_by_itself(town: Town) -> None:
    for name in (A, B):
        town.ask(name)
    town.gate.settle()
    town.seconds.at += 899
    assert town.why_closed() == ""
    town.ask(A)
    town.seconds.at += 2
    assert town.why_closed() == "NOT_WITNESSED", "one is fresh, and two are asked for"
    town.gate.settle()
    with pytest.raises(Unavailable):
        await town.gate.opened(60)
    town.ask(C)
    town.gate.settle()
    town.gate.settle()
    await town.gate.opened(0)
    assert town.heard_open == [True, False, True]


def test_a_cosignature_counts_from_when_the_head_was_shown_not_from_when_it_came(town: Town) -> None:
    what = town.own.to_witness(A, town.seconds())
    (said,) = town.witnesses[A].answers([(BROKER, what)])
    town.seconds.at += 1_000
    town.own.heard(A, said)
    assert town.own.fresh(town.seconds(), 900) == 0


def test_a_federation_without_a_quorum_releases_at_once(tmp_path: Path) -> None:
    assert Town(tmp_path, quorum=0).why_closed() == ""


async def test_a_search_that_comes_while_nodes_attach_waits_for_the_quorum_and_no_longer_than_it_may(
    town: Town,
) -> None:
    waiting = asyncio.ensure_future(town.gate.opened(60))
    await asyncio.sleep(0)
    for name in (A, B):
        town.ask(name)
    town.gate.settle()
    await waiting
    town.start()
    with pytest.raises(Unavailable) as refused:
        await town.gate.opened(0)
    assert refused.value.reason == "NOT_WITNESSED"


def test_a_witness_is_shown_what_moved_what_grew_old_and_again_what_it_did_not_answer(town: Town) -> None:
    def due() -> bool:
        return town.own.due(A, town.seconds(), renew_s=60, retry_s=5)

    assert due(), "never shown"
    town.own.to_witness(A, town.seconds())
    assert not due()
    town.seconds.at += 5
    assert due(), "not answered"
    town.ask(A)
    assert not due()
    town.log.grow(1)
    assert due(), "moved"
    town.ask(A)
    town.seconds.at += 60
    assert due(), "grown old"
    town.ask(A)
    town.own.forget(A)
    assert due(), "on a new stream"
