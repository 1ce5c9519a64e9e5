"""Outcomes on the wire, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from comity.errors import InvalidInput
from comity.outcome import BROKER_ONLY, KIND_FROM_WIRE, KIND_TO_WIRE, NODE_ONLY, Coverage, Outcome, OutcomeKind, Tally
from comity.v1 import inquiry_pb2, outcome_pb2
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW

KINDS = pytest.mark.parametrize("kind", OutcomeKind, ids=str)


@KINDS
def test_an_outcome_of_each_kind_is_read_back_as_it_was_written(kind: OutcomeKind) -> None:
    made = scene.outcome(kind)
    assert Outcome.parse(made.encode()) == made


@KINDS
def test_an_outcome_with_an_unknown_field_is_refused(kind: OutcomeKind) -> None:
    with pytest.raises(InvalidInput) as e:
        Outcome.parse(scene.outcome(kind).encode() + scene.unknown_field())
    assert e.value.reason == "BAD_OUTCOME"


def in_a_detection(m: outcome_pb2.Outcome) -> None:
    m.match.detections[0].MergeFromString(scene.unknown_field())


def without_result(m: outcome_pb2.Outcome) -> None:
    m.ClearField("match")


def without_detections(m: outcome_pb2.Outcome) -> None:
    del m.match.detections[:]


def without_coverage(m: outcome_pb2.Outcome) -> None:
    m.match.ClearField("coverage")


def backwards(m: outcome_pb2.Outcome) -> None:
    m.match.coverage.CopyFrom(inquiry_pb2.Window(begin=m.match.coverage.end, end=m.match.coverage.begin))


def undated(m: outcome_pb2.Outcome) -> None:
    m.decided_at.CopyFrom(Timestamp())


def short_hash(m: outcome_pb2.Outcome) -> None:
    m.inquiry_hash = b"h" * 31


@pytest.mark.parametrize(
    "spoil",
    [in_a_detection, without_result, without_detections, without_coverage, backwards, undated, short_hash],
    ids=lambda f: f.__name__,
)
def test_an_outcome_that_contradicts_itself_is_refused(spoil: Callable[[outcome_pb2.Outcome], None]) -> None:
    m = outcome_pb2.Outcome.FromString(scene.outcome(OutcomeKind.MATCH).encode())
    spoil(m)
    with pytest.raises(InvalidInput) as e:
        Outcome.parse(m.SerializeToString())
    assert e.value.reason == "BAD_OUTCOME"


def test_nothing_found_without_a_coverage_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Outcome.parse(scene.outcome(OutcomeKind.NO_MATCH, coverage=None).encode())


def test_bytes_that_are_no_outcome_are_refused() -> None:
    with pytest.raises(InvalidInput):
        Outcome.parse(scene.outcome(OutcomeKind.MATCH).encode()[:-1])


def test_an_empty_coverage_is_read_and_one_that_ends_before_it_begins_is_not() -> None:
    empty = Coverage(begin=NOW, end=NOW)
    assert Coverage.parse(empty.to_message()) == empty
    with pytest.raises(InvalidInput):
        Coverage.parse(replace(scene.COVERAGE, begin=NOW + scene.DAY).to_message())


def test_an_unreachable_node_that_was_never_seen_has_no_time() -> None:
    made = scene.outcome(OutcomeKind.UNREACHABLE, last_attached_at=None)
    assert Outcome.parse(made.encode()).last_attached_at is None


def test_every_kind_has_its_own_number_on_the_wire_and_none_is_zero() -> None:
    assert len(KIND_FROM_WIRE) == len(KIND_TO_WIRE) == 9
    assert 0 not in KIND_FROM_WIRE
    assert not NODE_ONLY & BROKER_ONLY


TALLIES = {
    "all found nothing": ([("no_match", 0)] * 2, (True, 0, True)),
    "one found something": ([("no_match", 0), ("match", 3)], (True, 1, False)),
    "one refused": ([("no_match", 0), ("refused", 0)], (False, 0, False)),
    "one searched a part and found something": ([("partial_coverage", 2), ("no_match", 0)], (False, 1, False)),
    "one searched a part and found nothing": ([("partial_coverage", 0)], (False, 0, False)),
    "nobody was asked": ([], (False, 0, False)),
}


@pytest.mark.parametrize(("outcomes", "expected"), TALLIES.values(), ids=TALLIES.keys())
def test_what_outcomes_add_up_to(outcomes: list[tuple[str, int]], expected: tuple[bool, int, bool]) -> None:
    tally = Tally.of(len(outcomes), [(OutcomeKind(k), n) for k, n in outcomes])
    assert (tally.complete, tally.matched, tally.no_record) == expected


@pytest.mark.parametrize("number", [0, 2])
def test_a_tally_needs_exactly_one_outcome_a_target(number: int) -> None:
    with pytest.raises(InvalidInput) as e:
        Tally.of(1, [(OutcomeKind.NO_MATCH, 0)] * number)
    assert e.value.reason == "OUTCOMES_MISSING"
