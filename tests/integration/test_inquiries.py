"""What is no inquiry, and what policy does not know, is refused with its own reason, and no node hears of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.compose import SignedInquiry
from comity import commitment, instants
from comity.envelope import INQUIRY_TYPE
from comity.inquiry import Disclosure
from comity.v1 import inquiry_pb2
from tests.integration.calls import NEVER_SEEN, SEEN, STATE, Person, forged
from tests.integration.world import World

NODE = "port-alder-1"
Spoil = Callable[[Person, SignedInquiry], SignedInquiry]


def _unsigned(_: Person, s: SignedInquiry) -> SignedInquiry:
    return replace(s, envelope=replace(s.envelope, signatures=()))


def _altered(_: Person, s: SignedInquiry) -> SignedInquiry:
    def change(m: inquiry_pb2.Inquiry) -> None:
        m.purpose_of_use.code = "criminal-felony"

    return forged(s, change)


def _resigned(change: Callable[[inquiry_pb2.Inquiry], None]) -> Spoil:
    return lambda person, s: person.resign(s, change)


def _expired(person: Person, _: SignedInquiry) -> SignedInquiry:
    # Within the certificate's life, which began a minute before the federation was built.
    s = person.ask(NODE, at=instants.now() - dt.timedelta(seconds=30))
    return person.resign(s, lambda m: m.expires_at.FromNanoseconds(m.issued_at.ToNanoseconds() + 10**9))


def _of_the_future(person: Person, _: SignedInquiry) -> SignedInquiry:
    return person.ask(NODE, at=instants.now() + dt.timedelta(minutes=3))


def _set(path: str, value: object) -> Spoil:
    def change(m: inquiry_pb2.Inquiry) -> None:
        *above, last = path.split(".")
        for name in above:
            m = getattr(m, name)
        if value is None:
            m.ClearField(last)  # type: ignore[arg-type]
        else:
            setattr(m, last, value)

    return _resigned(change)


def _other_plate(_: Person, s: SignedInquiry) -> SignedInquiry:
    query = inquiry_pb2.Query(plate=inquiry_pb2.PlateQuery(plate=SEEN, state=STATE)).SerializeToString()
    first, *rest = s.disclosures
    return replace(s, disclosures=(replace(first, value=query), *rest))


def _without(label: str) -> Spoil:
    return lambda _, s: replace(s, disclosures=tuple(d for d in s.disclosures if d.label != label))


def _twice(_: Person, s: SignedInquiry) -> SignedInquiry:
    return replace(s, disclosures=(*s.disclosures, s.disclosures[0]))


def _one_more(_: Person, s: SignedInquiry) -> SignedInquiry:
    return replace(s, disclosures=(*s.disclosures, Disclosure.fresh(commitment.AUTHORITY_REFERENCE, b"made up")))


def _unknown_field(person: Person, s: SignedInquiry) -> SignedInquiry:
    # Field 99, a text: perhaps a condition that this version cannot read.
    payload = s.envelope.payload + b"\x9a\x06\x03new"
    return replace(s, envelope=person.folder.signer.sign(INQUIRY_TYPE, payload))


REJECTED: list[tuple[str, Spoil, str, str]] = [
    ("an unsigned one", _unsigned, "INVALID_ARGUMENT", "BAD_ENVELOPE"),
    ("one altered after signing", _altered, "UNAUTHENTICATED", "BAD_SIGNATURE"),
    ("one that has expired", _expired, "UNAUTHENTICATED", "EXPIRED"),
    ("one of the future", _of_the_future, "UNAUTHENTICATED", "ISSUED_IN_FUTURE"),
    ("one for another federation", _set("federation", "atlantic-exchange"), "UNAUTHENTICATED", "WRONG_FEDERATION"),
    ("one without beneficiary", _set("beneficiary", None), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one whose authority is unset", _set("authority", 0), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one whose act is unset", _set("act", 0), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one whose act is unknown", _set("act", 77), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one whose legal basis is unset", _set("purpose_of_use.legal_basis", 0), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one with an unknown field", _unknown_field, "INVALID_ARGUMENT", "BAD_INQUIRY"),
    ("one with a short nonce", _set("nonce", b"7"), "INVALID_ARGUMENT", "BAD_INQUIRY"),
    (
        "one that names another person",
        _set("requester", "spiffe://us-ca-port-alder-pd/person/supervisor-1"),
        "UNAUTHENTICATED",
        "WRONG_REQUESTER",
    ),
    (
        "one that names an agency as requester",
        _set("requester", "spiffe://us-ca-port-alder-pd"),
        "INVALID_ARGUMENT",
        "BAD_INQUIRY",
    ),
    (
        "one that names a group of agencies as requester",
        _set("requester", "spiffe://law-enforcement/person/investigator-1"),
        "UNAUTHENTICATED",
        "WRONG_REQUESTER",
    ),
    ("one that discloses another plate", _other_plate, "INVALID_ARGUMENT", "DISCLOSURE_MISMATCH"),
    ("one that hides its plate", _without(commitment.QUERY), "INVALID_ARGUMENT", "DISCLOSURE_MISMATCH"),
    ("one that hides its case", _without(commitment.CASE_NUMBER), "INVALID_ARGUMENT", "DISCLOSURE_MISMATCH"),
    ("one that discloses a value twice", _twice, "INVALID_ARGUMENT", "DISCLOSURE_MISMATCH"),
    ("one that discloses what it does not commit to", _one_more, "INVALID_ARGUMENT", "DISCLOSURE_MISMATCH"),
]


@pytest.mark.parametrize(
    ("spoil", "code", "reason"), [c[1:] for c in REJECTED], ids=[f"{c[0]} is rejected" for c in REJECTED]
)
def test_what_is_no_inquiry_is_refused_recorded_and_reaches_no_node(
    federation: World, spoil: Spoil, code: str, reason: str
) -> None:
    person = Person.of(federation)
    before, node_before = federation.size(federation.broker), federation.size(federation.nodes[NODE])
    told = person.search(spoil(person, person.ask(NODE)))
    assert (told.code, told.reason, told.events) == (code, reason, ())
    assert NEVER_SEEN not in told.message
    new = federation.since(federation.broker, before)
    if reason == "BAD_ENVELOPE":
        assert new == [], "without a payload that was signed there is nothing to record"
    else:
        assert [(e["type"], e["reason_code"]) for e in new] == [("rejected", reason)]
        assert new[0]["received_from"] == str(person.folder.spiffe)
    assert federation.size(federation.nodes[NODE]) == node_before


def test_a_replayed_inquiry_is_refused_however_the_first_ended(federation: World) -> None:
    person = Person.of(federation)
    signed = person.ask(NODE)
    assert person.search(signed).kinds == {NODE: "no_match"}
    before = federation.size(federation.nodes[NODE])
    told = person.search(signed)
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "REPLAYED", ())
    code, reason, previewed = person.preview(signed)
    assert (code, reason, list(previewed.decisions)) == ("UNAUTHENTICATED", "REPLAYED", [])
    assert federation.size(federation.nodes[NODE]) == before


def test_an_old_nonce_under_a_new_id_is_refused_as_a_replay(federation: World) -> None:
    person = Person.of(federation)
    signed, other = person.ask(NODE), person.ask(NODE)
    assert person.search(signed).code == "OK"
    told = person.search(person.resign(other, lambda m: setattr(m, "nonce", signed.inquiry.nonce)))
    assert (told.code, told.reason) == ("UNAUTHENTICATED", "REPLAYED")


def test_an_inquiry_sent_by_another_than_its_signer_is_refused(federation: World) -> None:
    stolen = Person.of(federation).ask(NODE)
    told = Person.of(federation, "us-fbi").search(stolen)
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "WRONG_CALLER", ())


def test_an_approval_by_the_requester_or_by_another_agency_is_refused(federation: World) -> None:
    person = Person.of(federation)
    for agency, role in (("us-fbi", "supervisor"), (person.folder.spiffe.trust_domain, "auditor")):
        signed = person.ask(NODE)
        other = federation.identity(agency, role).signer.countersign(signed.envelope)
        told = person.search(replace(signed, envelope=other))
        assert (told.code, told.reason) == ("UNAUTHENTICATED", "WRONG_APPROVER")


UNREGISTERED: list[tuple[str, dict[str, str]]] = [
    ("the root of all purposes", {"purpose": "any-purpose"}),
    ("a parent of purposes", {"purpose": "immigration"}),
    ("a purpose that nobody registered", {"purpose": "curiosity"}),
    ("a group of agencies as beneficiary", {"beneficiary": "law-enforcement"}),
    ("the word for every agency as beneficiary", {"beneficiary": "any-agency"}),
    ("an agency that nobody registered as beneficiary", {"beneficiary": "us-zz-nobody-pd"}),
    ("a node as beneficiary", {"beneficiary": "port-alder-1"}),
]


@pytest.mark.parametrize("named", [c[1] for c in UNREGISTERED], ids=[f"{c[0]} is refused" for c in UNREGISTERED])
def test_a_name_that_is_no_leaf_of_the_directory_is_refused_at_every_node(
    federation: World, named: dict[str, str]
) -> None:
    person = Person.of(federation)
    before = {n: federation.size(p) for n, p in federation.nodes.items()}

    def change(m: inquiry_pb2.Inquiry) -> None:
        m.purpose_of_use.code = named.get("purpose", m.purpose_of_use.code)
        m.beneficiary = named.get("beneficiary", m.beneficiary)

    told = person.search(person.resign(person.ask(plate=SEEN), change))
    assert told.code == "OK", "a refusal is an outcome, not a failed call"
    assert told.kinds == dict.fromkeys(federation.nodes, "refused")
    assert set(told.reasons.values()) == {"NOT_REGISTERED"}
    assert {n: federation.size(p) for n, p in federation.nodes.items()} == before


def test_a_target_that_is_no_node_is_refused_and_never_left_out(federation: World) -> None:
    person = Person.of(federation)
    told = person.search(person.ask(NODE, "atlantis-1"))
    assert told.kinds == {NODE: "no_match", "atlantis-1": "refused"}
    assert told.events[-1].summary.complete is False
