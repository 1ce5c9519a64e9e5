"""The client believes what is proven: what is not becomes that node's error, and none of it reads as "no record"."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.checked import Checked, exit_code
from comity import instants
from comity.errors import InvalidInput
from comity.inquiry import CLOCK_SKEW
from comity.outcome import BROKER_ONLY, NODE_ONLY, Coverage, OutcomeKind, Tally
from comity.plate import Plate
from comity.purpose import Act
from comity.v1 import envelope_pb2
from comity.v1 import search_service_pb2 as pb2
from identity.signing import Signer
from tests.unit.cli.scene import WHOLE, Client
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, BRAZOS, name

MS = dt.timedelta(milliseconds=1)
KINDS = pytest.mark.parametrize("kind", OutcomeKind, ids=str)
NO_MATCH, MATCH, ERROR = OutcomeKind.NO_MATCH, OutcomeKind.MATCH, OutcomeKind.ERROR
Take = Callable[[Client], Checked]


def unproven(found: Checked, code: str) -> None:
    assert (found.kind, found.outcome.reason_code, found.signer) == (ERROR, code, "client")
    assert found.detections == ()


@KINDS
def test_each_kind_is_taken_from_the_one_who_may_say_it_and_from_nobody_else(kind: OutcomeKind, client: Client) -> None:
    made = client.outcome(kind)
    for signer, may in ((client.alder, kind not in BROKER_ONLY), (client.broker, kind not in NODE_ONLY)):
        client.start()
        found = client.take(made, signer)
        if may:
            assert (found.kind, found.signer) == (kind, "node" if signer is client.alder else "broker")
        else:
            unproven(found, "UNVERIFIED")


def another_alder(c: Client) -> Signer:
    return c.world.signer(c.world.alder, name(ALDER, "camera", "alder-1"))


def expired(c: Client) -> Signer:
    return c.world.signer(c.world.alder, name(ALDER, "node", "alder-1"), at=NOW - 20 * DAY)


def raw(client: Client, data: bytes) -> Checked:
    found = client.reading.take(pb2.SignedOutcome(node="alder-1", envelope=data))
    assert found is not None
    return found


def altered(client: Client) -> Checked:
    refused = client.signed(client.outcome(OutcomeKind.REFUSED))
    payload, other = (client.outcome(k).encode() for k in (OutcomeKind.REFUSED, NO_MATCH))
    assert payload in refused.envelope
    message = envelope_pb2.Envelope.FromString(refused.envelope)
    message.payload = other
    return raw(client, message.SerializeToString())


UNPROVEN: dict[str, Take] = {
    "signed by another node": lambda c: c.take(c.outcome(NO_MATCH), c.brazos),
    "signed by a person": lambda c: c.take(c.outcome(NO_MATCH), c.person),
    "signed by a camera of the node's name": lambda c: c.take(c.outcome(NO_MATCH), another_alder(c)),
    "signed with an expired certificate": lambda c: c.take(c.outcome(NO_MATCH), expired(c)),
    "signed by the node and the broker": lambda c: c.take(c.outcome(NO_MATCH), c.alder, c.broker),
    "signed by the broker and the node": lambda c: c.take(c.outcome(OutcomeKind.REFUSED), c.broker, c.alder),
    "of another inquiry": lambda c: c.take(c.outcome(NO_MATCH, inquiry_id=scene.INQUIRY_ID[:-1] + "1")),
    "of another payload of this id": lambda c: c.take(c.outcome(NO_MATCH, inquiry_hash=b"h" * 32)),
    "of another node, passed off as this one's": lambda c: c.take(
        c.outcome(NO_MATCH, node="brazos-1"), c.brazos, node="alder-1"
    ),
    "about another node, signed by this one": lambda c: c.take(
        c.outcome(NO_MATCH, node="brazos-1"), c.alder, node="alder-1"
    ),
    "altered after it was signed": altered,
    "no envelope": lambda c: raw(c, b"\xff"),
    "nothing at all": lambda c: raw(c, b""),
}


@pytest.mark.parametrize("take", UNPROVEN.values(), ids=UNPROVEN.keys())
def test_an_outcome_that_is_not_proven_is_an_error_of_its_node(take: Take, client: Client) -> None:
    unproven(take(client), "UNVERIFIED")
    client.take(client.outcome(NO_MATCH, node="brazos-1"), client.brazos)
    tally = client.reading.tally()
    assert not tally.complete
    assert not tally.no_record


def test_two_outcomes_of_one_target_make_both_an_error_whatever_they_say(client: Client) -> None:
    for _ in range(2):
        found = client.take(client.outcome(NO_MATCH))
    unproven(found, "TWO_OUTCOMES")
    unproven(client.take(client.outcome(MATCH)), "TWO_OUTCOMES")
    assert [c.node for c in client.reading.outcomes] == ["alder-1"]


def test_an_outcome_of_no_target_is_nothing(client: Client) -> None:
    client.start(targets=("alder-1",))
    assert client.reading.take(client.signed(client.outcome(NO_MATCH, node="brazos-1"), client.brazos)) is None
    assert client.reading.targets == ("alder-1",)


def test_a_target_that_says_nothing_is_an_error_and_no_tally_is_made_before(client: Client) -> None:
    client.take(client.outcome(NO_MATCH))
    with pytest.raises(InvalidInput):
        client.reading.tally()
    (missing,) = client.reading.finish("the broker ended early")
    assert missing.node == "brazos-1"
    unproven(missing, "NO_OUTCOME")
    assert client.reading.finish("again") == []
    assert not client.reading.tally().complete


def test_all_targets_are_the_pinned_directory_s_whatever_the_broker_says(client: Client) -> None:
    assert client.reading.targets == ("alder-1", "brazos-1")
    client.take(client.outcome(NO_MATCH))
    client.take(client.outcome(NO_MATCH, node="brazos-1"), client.brazos)
    assert client.reading.tally().no_record


def test_a_target_that_the_directory_does_not_register_may_be_refused(client: Client) -> None:
    client.start(targets=("nowhere-1",))
    refused = client.outcome(OutcomeKind.REFUSED, node="nowhere-1")
    assert client.take(refused, client.broker).kind is OutcomeKind.REFUSED


# What a node says that it covered

COVERAGES: dict[str, tuple[Coverage, bool]] = {
    "exactly the window": (WHOLE, True),
    "more than the window": (Coverage(begin=WHOLE.begin - DAY, end=WHOLE.end), True),
    "all but the last minute, which a slow clock explains": (replace(WHOLE, end=NOW - CLOCK_SKEW), True),
    "all but more than the last minute": (replace(WHOLE, end=NOW - CLOCK_SKEW - MS), False),
    "all but the first millisecond": (replace(WHOLE, begin=WHOLE.begin + MS), False),
    "nothing, at the window's end": (Coverage(begin=NOW, end=NOW), False),
}


@pytest.mark.parametrize(("coverage", "whole"), COVERAGES.values(), ids=COVERAGES.keys())
@pytest.mark.parametrize("kind", [NO_MATCH, MATCH], ids=str)
def test_a_full_search_whose_coverage_is_short_is_a_partial_one(
    kind: OutcomeKind, coverage: Coverage, whole: bool, client: Client
) -> None:
    at = coverage.begin + (coverage.end - coverage.begin) / 2
    if kind is MATCH and coverage.begin == coverage.end:
        return
    found = client.take(
        client.outcome(kind, coverage=coverage)
        if kind is NO_MATCH
        else client.outcome(kind, coverage=coverage, detections=(scene.detection(captured_at=instants.to_wire(at)),))
    )
    if whole:
        assert found.kind is kind
    else:
        assert (found.kind, found.outcome.reason_code) == (OutcomeKind.PARTIAL_COVERAGE, "COVERAGE_SHORT")


def test_nothing_searched_of_a_window_shorter_than_clocks_differ_is_not_the_whole(client: Client) -> None:
    begin = NOW - CLOCK_SKEW / 2
    client.start(begin=begin)
    found = client.take(client.outcome(NO_MATCH, coverage=Coverage(begin=begin, end=begin)))
    assert found.kind is OutcomeKind.PARTIAL_COVERAGE


def test_a_moment_of_a_window_shorter_than_clocks_differ_is_not_the_whole(client: Client) -> None:
    begin = NOW - CLOCK_SKEW / 2
    client.start(begin=begin)
    found = client.take(client.outcome(NO_MATCH, coverage=Coverage(begin=begin, end=begin + MS)))
    assert (found.kind, client.reading.finish("x")[0].kind) == (OutcomeKind.PARTIAL_COVERAGE, ERROR)
    assert not client.reading.tally().no_record


def test_a_slow_clock_explains_nothing_of_a_window_that_was_over_before(client: Client) -> None:
    end = NOW - DAY
    client.start(end=end)
    short = client.take(client.outcome(NO_MATCH, coverage=replace(WHOLE, end=end - MS)))
    client.start(end=end)
    whole = client.take(client.outcome(NO_MATCH, coverage=replace(WHOLE, end=end)))
    assert (short.kind, whole.kind) == (OutcomeKind.PARTIAL_COVERAGE, NO_MATCH)


# What a node releases

DAY_BEGINS = NOW.replace(hour=0)
PART = Coverage(begin=NOW - dt.timedelta(hours=6), end=NOW - dt.timedelta(hours=1))
DETECTIONS: dict[str, tuple[dict[str, object], bool]] = {
    "the plate asked for": ({}, True),
    "the plate with no state read": ({"state": ""}, True),
    "another plate": ({"plate": "7ABC124"}, False),
    "the plate of another state": ({"state": "NV"}, False),
    "another agency's detection": ({"agency": BRAZOS}, False),
    "at the first instant of the coverage": ({"captured_at": instants.to_wire(PART.begin)}, True),
    "a millisecond before the coverage": ({"captured_at": instants.to_wire(PART.begin - MS)}, False),
    "a day before the coverage": ({"captured_at": instants.to_wire(PART.begin - DAY)}, False),
    "the first instant of the coverage's day, as hit-only has it": (
        {"captured_at": instants.to_wire(DAY_BEGINS)},
        True,
    ),
    "the day before, as hit-only has it": ({"captured_at": instants.to_wire(DAY_BEGINS - DAY)}, False),
    "at the end of the coverage": ({"captured_at": instants.to_wire(PART.end)}, False),
    "an unset time": ({"captured_at": None}, False),
    "a plate not written as nodes write it": ({"plate": "7abc123"}, False),
    "no kind of match": ({"match": 0}, False),
    "half a location": ({"longitude_e7": None}, False),
    "a camera with an escape": ({"camera": "\x1b[2J"}, False),
}


@pytest.mark.parametrize(("changes", "good"), DETECTIONS.values(), ids=DETECTIONS.keys())
def test_a_detection_that_was_not_asked_for_or_lies_outside_the_coverage_makes_the_outcome_an_error(
    changes: dict[str, object], good: bool, client: Client
) -> None:
    detection = scene.detection(**({"captured_at": instants.to_wire(PART.begin)} | changes))
    found = client.take(
        client.outcome(OutcomeKind.PARTIAL_COVERAGE, coverage=PART, detections=(scene.detection(), detection))
    )
    if good:
        assert len(found.detections) == 2
    else:
        unproven(found, "UNVERIFIED")
        assert "7ABC" not in found.outcome.reason


def test_a_look_alike_is_taken_only_in_a_search_for_look_alikes(client: Client) -> None:
    client.start(act=Act.CONFUSABLE)
    found = client.take(client.outcome(MATCH, detections=(scene.detection(plate="7A8C123", match=2),)))
    assert [d.plate for d in found.detections] == [Plate(number="7A8C123", state="CA")]


def test_nothing_is_taken_to_have_been_found_where_nothing_was_covered(client: Client) -> None:
    empty = Coverage(begin=NOW, end=NOW)
    at = instants.to_wire(DAY_BEGINS)
    made = client.outcome(OutcomeKind.PARTIAL_COVERAGE, coverage=empty, detections=(scene.detection(captured_at=at),))
    unproven(client.take(made), "UNVERIFIED")


EXITS: dict[str, tuple[list[str], int]] = {
    "all complete": (["match", "no_match"], 0),
    "some answered, some refused": (["no_match", "refused"], 3),
    "one searched a part": (["partial_coverage"], 3),
    "none answered, one awaits an approval": (["pending", "refused"], 6),
    "none answered, one refused": (["refused", "unreachable"], 4),
    "none answered, none refused": (["unreachable", "timed_out", "error"], 5),
    "searched and withheld": (["withheld"], 5),
}


@pytest.mark.parametrize(("kinds", "code"), EXITS.values(), ids=EXITS.keys())
def test_the_exit_code_says_how_complete_the_answer_is(kinds: list[str], code: int) -> None:
    assert exit_code(Tally.of(len(kinds), [(OutcomeKind(k), 0) for k in kinds])) == code


def test_an_answer_to_nobody_is_never_complete() -> None:
    assert exit_code(Tally.of(0, [])) == 5
