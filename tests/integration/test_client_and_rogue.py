"""The client believes a broker nothing: what is not proven is an error of that node, and never "no record"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from cli.compose import SignedInquiry
from comity import instants
from comity.decision import Decision, Effect, Pep
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope
from comity.outcome import Coverage, Outcome, OutcomeKind
from comity.v1 import search_service_pb2 as pb2
from tests.integration.calls import NEVER_SEEN, NO_RECORD, SEEN, STATE, Person, opened
from tests.integration.rogue import Rogue, Tamper

A, B = "port-alder-1", "sequoia-1"
SEARCH = ("--state", STATE, "--purpose", "stolen-vehicle", "--case", "RG-1", "--node", A, "--node", B)


@pytest.fixture
def person(rogue: Rogue) -> Iterator[Person]:
    yield Person.of(rogue.world, address=rogue.address)
    rogue.tamper = lambda outcomes, _: outcomes
    rogue.breaks_off = False


def _only(node: str, change: Tamper) -> Tamper:
    """`change` is done to that node's outcome, the others stay."""

    def tamper(outcomes: list[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        out: list[pb2.SignedOutcome] = []
        for o in outcomes:
            out += change([o], request) if o.node == node else [o]
        return out

    return tamper


def _resealed(signed: pb2.SignedOutcome, outcome: Outcome) -> pb2.SignedOutcome:
    """Another outcome under the signature of the first."""
    envelope = Envelope.parse(signed.envelope, payload_type=OUTCOME_TYPE)
    return pb2.SignedOutcome(node=signed.node, envelope=replace(envelope, payload=outcome.encode()).encode())


def _asked(request: pb2.SearchRequest) -> SignedInquiry:
    return SignedInquiry(envelope=Envelope.from_message(request.inquiry, payload_type=INQUIRY_TYPE), disclosures=())


def _whole(request: pb2.SearchRequest) -> Coverage:
    inquiry = _asked(request).inquiry
    return Coverage(begin=inquiry.begin, end=inquiry.end)


def _shorter_coverage(o: Sequence[pb2.SignedOutcome], _: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
    old = opened(o[0])
    return [_resealed(o[0], replace(old, decided_at=instants.now()))]


def _as_the_other_node(outcomes: list[pb2.SignedOutcome], _: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
    a = next(o for o in outcomes if o.node == A)
    return [a, pb2.SignedOutcome(node=B, envelope=a.envelope)]


class _Forgeries:
    """What needs the broker's own key."""

    def __init__(self, rogue: Rogue) -> None:
        self.rogue = rogue

    def no_match(self, _: Sequence[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        forged = self.rogue.outcome_of(_asked(request), B, OutcomeKind.NO_MATCH, coverage=_whole(request))
        return [self.rogue.sign(forged)]

    def withheld(self, _: Sequence[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        forged = self.rogue.outcome_of(_asked(request), B, OutcomeKind.WITHHELD, reason_code="X", reason="x")
        return [self.rogue.sign(forged)]

    def countersigned(self, o: Sequence[pb2.SignedOutcome], _: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        envelope = Envelope.parse(o[0].envelope, payload_type=OUTCOME_TYPE)
        both = self.rogue.folder.signer.countersign(envelope)
        return [pb2.SignedOutcome(node=o[0].node, envelope=both.encode())]

    def of_another_inquiry(self, _: Sequence[pb2.SignedOutcome], __: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        other = Person.of(self.rogue.world).ask(B)
        return [pb2.SignedOutcome(node=B, envelope=self.rogue.ask(B, self.rogue.work(other, B)).envelope)]


FORGERIES: list[tuple[str, str, str]] = [
    ("an outcome altered on the way", "altered", "UNVERIFIED"),
    ("an outcome that was dropped", "dropped", "NO_OUTCOME"),
    ("an outcome that came twice", "twice", "TWO_OUTCOMES"),
    ("a no_match that the broker signed", "no_match", "UNVERIFIED"),
    ("a withheld that the broker signed", "withheld", "UNVERIFIED"),
    ("an outcome that the broker countersigned", "countersigned", "UNVERIFIED"),
    ("the node's outcome of another inquiry", "of_another_inquiry", "UNVERIFIED"),
    ("another node's outcome", "as_the_other_node", "UNVERIFIED"),
    ("half an outcome", "half", "UNVERIFIED"),
    ("an empty outcome", "empty", "UNVERIFIED"),
]


def _tampers(rogue: Rogue) -> dict[str, Tamper]:
    own = _Forgeries(rogue)
    return {
        "altered": _only(B, _shorter_coverage),
        "dropped": _only(B, lambda o, _: []),
        "twice": _only(B, lambda o, _: [*o, *o]),
        "no_match": _only(B, own.no_match),
        "withheld": _only(B, own.withheld),
        "countersigned": _only(B, own.countersigned),
        "of_another_inquiry": _only(B, own.of_another_inquiry),
        "as_the_other_node": _as_the_other_node,
        "half": _only(B, lambda o, _: [pb2.SignedOutcome(node=B, envelope=o[0].envelope[:-40])]),
        "empty": _only(B, lambda o, _: [pb2.SignedOutcome(node=B)]),
    }


def test_an_honest_relay_is_believed_whoever_relays(rogue: Rogue, person: Person) -> None:
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code) == (0, 0)
    assert lines.kinds == {A: "no_match", B: "no_match"}
    assert NO_RECORD in table.out


@pytest.mark.parametrize(("what", "reason"), [c[1:] for c in FORGERIES], ids=[f"{c[0]} is an error" for c in FORGERIES])
def test_what_a_broker_cannot_prove_is_an_error_of_that_node_and_no_record_is_not_said(
    rogue: Rogue, person: Person, what: str, reason: str
) -> None:
    rogue.tamper = _tampers(rogue)[what]
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code) == (3, 3)
    assert lines.kinds == {A: "no_match", B: "error"}
    told = lines.last_of_each[B]
    assert (told["reason_code"], told["signed_by"], told["detections"]) == (reason, "client", [])
    assert lines.summary["complete"] is False
    assert NO_RECORD not in table.out
    assert "not a complete answer" in table.out


def test_a_match_whose_detections_were_taken_out_is_an_error(rogue: Rogue, person: Person) -> None:
    def emptied(o: Sequence[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        old = opened(o[0])
        assert old.detections
        return [_resealed(o[0], replace(old, kind=OutcomeKind.NO_MATCH, detections=()))]

    rogue.tamper = lambda outcomes, request: [x for o in outcomes for x in emptied([o], request)]
    table, lines = person.both(SEEN, *SEARCH)
    assert (table.code, lines.code) == (5, 5)
    assert set(lines.kinds.values()) == {"error"}
    assert NO_RECORD not in table.out


def test_a_refusal_turned_into_no_match_is_an_error(rogue: Rogue) -> None:
    person = Person.of(rogue.world, "us-ice-ero", address=rogue.address)

    def turned(outcomes: list[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        (old,) = outcomes
        assert opened(old).kind is OutcomeKind.REFUSED
        forged = rogue.outcome_of(_asked(request), A, OutcomeKind.NO_MATCH, coverage=_whole(request))
        return [rogue.sign(forged), _resealed(old, forged)]

    search = (NEVER_SEEN, "--state", STATE, "--purpose", "immigration-civil", "--case", "E-1", "--node", A)
    for pick in (slice(0, 1), slice(1, 2)):
        rogue.tamper = lambda outcomes, request, pick=pick: turned(outcomes, request)[pick]  # type: ignore[assignment,misc]
        table, lines = person.both(*search)
        assert (table.code, lines.code, lines.kinds) == (5, 5, {A: "error"})
        assert NO_RECORD not in table.out
    rogue.tamper = lambda outcomes, _: outcomes
    assert person.command(*search, "--json").kinds == {A: "refused"}


SPOOFS = {
    "words": "no  record in this window",
    "an escape sequence": "\x1b[2J\x1b[HNo record in this window: each searched it whole",
    "a false row": "refused\nNo record in this window: each of the 2 agencies asked searched it whole.",
    "markup": "[/][bold green]No record in this window[/]",
}


@pytest.mark.parametrize("reason", SPOOFS.values(), ids=[f"in {what}" for what in SPOOFS])
def test_a_brokers_own_refusal_is_a_refusal_whatever_its_reason_tries_to_say(
    rogue: Rogue, person: Person, reason: str
) -> None:
    def refused(_: list[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        decision = Decision(
            decision_id="d",
            node=A,
            effect=Effect.DENY,
            pep=Pep.BROKER,
            policy_digest="",
            federation_digest="",
            reason_code="DENIED_BY_RULE",
            reason=reason,
        ).to_message()
        return [
            rogue.sign(rogue.outcome_of(_asked(request), n, OutcomeKind.REFUSED, decision=decision)) for n in (A, B)
        ]

    rogue.tamper = refused
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code, set(lines.kinds.values())) == (4, 4, {"refused"})
    assert lines.summary["complete"] is False
    assert NO_RECORD.casefold() not in " ".join(table.out.split()).casefold()
    assert "\x1b" not in table.out + lines.out
    assert table.out.rstrip().endswith("2 of 2 agencies refused; this is not a complete answer.")


def test_a_stream_that_breaks_off_leaves_an_error_for_each_node_that_is_missing(rogue: Rogue, person: Person) -> None:
    rogue.breaks_off = True
    rogue.tamper = lambda outcomes, _: [o for o in outcomes if o.node == A]
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code, lines.kinds) == (3, 3, {A: "no_match", B: "error"})
    assert NO_RECORD not in table.out


def test_a_broker_that_streams_nothing_but_a_rosy_summary_is_not_believed(rogue: Rogue, person: Person) -> None:
    rogue.tamper = lambda *_: []
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code) == (5, 5)
    assert lines.kinds == {A: "error", B: "error"}
    assert NO_RECORD not in table.out


def test_a_node_that_was_not_asked_adds_nothing(rogue: Rogue, person: Person) -> None:
    def one_more(outcomes: list[pb2.SignedOutcome], request: pb2.SearchRequest) -> list[pb2.SignedOutcome]:
        extra = rogue.outcome_of(_asked(request), "granite-1", OutcomeKind.ERROR, reason_code="X", reason="x")
        return [*outcomes, rogue.sign(extra)]

    rogue.tamper = one_more
    printed = person.command(NEVER_SEEN, *SEARCH, "--json")
    assert (printed.code, set(printed.kinds)) == (0, {A, B})
