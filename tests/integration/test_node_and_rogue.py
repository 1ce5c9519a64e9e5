"""A node believes a broker nothing: it verifies investigator and receipt itself, and answers each inquiry once."""

from __future__ import annotations

import datetime as dt
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from audit.read import LogReader
from audit.tree import leaf_hash
from cli.compose import SignedInquiry
from comity import instants
from comity.decision import Effect
from comity.envelope import INQUIRY_TYPE
from comity.v1 import inquiry_pb2
from comity.v1 import node_link_service_pb2 as link
from identity import certificates, keys
from identity.authority import Authority
from identity.names import SpiffeId
from identity.signing import Signer
from tests.integration.calls import ANSWERED, SEEN, Person, changed, forged
from tests.integration.rogue import Rogue
from tests.integration.world import BROKER_2

NODE, OTHER = "port-alder-1", "sequoia-1"
Forge = Callable[[Rogue, Person], link.Work]


@pytest.fixture
def person(rogue: Rogue) -> Person:
    return Person.of(rogue.world)


def _change(**fields: Any) -> Forge:
    def change(m: inquiry_pb2.Inquiry) -> None:
        for name, value in fields.items():
            if name == "purpose":
                m.purpose_of_use.code = value
            elif name == "days":
                m.window.begin.FromSeconds(m.window.begin.seconds - value * 86_400)
            else:
                setattr(m, name, value)

    return lambda rogue, person: rogue.work(forged(person.ask(NODE, plate=SEEN), change), NODE)


def _signed_by_the_broker(rogue: Rogue, person: Person) -> link.Work:
    signed = person.ask(NODE, plate=SEEN)
    return rogue.work(replace(signed, envelope=rogue.folder.signer.sign(INQUIRY_TYPE, signed.envelope.payload)), NODE)


def _requester_of_a_made_up_authority(rogue: Rogue, person: Person) -> link.Work:
    signed = person.ask(NODE, plate=SEEN)
    key, now = keys.new_signing_key(), instants.now()
    own = Authority.create(rogue.world.root / f"ca-{secrets.token_hex(4)}", person.folder.spiffe.trust_domain, at=now)
    leaf = own.issue(SpiffeId.parse(signed.inquiry.requester), key.public_key(), at=now, role="investigator")
    signer = Signer(key=key, chain=(certificates.der(leaf), certificates.der(own.certificate)))
    return rogue.work(replace(signed, envelope=signer.sign(INQUIRY_TYPE, signed.envelope.payload)), NODE)


def _requester_with_anothers_signature(rogue: Rogue, person: Person) -> link.Work:
    signed = person.ask(NODE, plate=SEEN)
    other = Person.of(rogue.world, "us-ca-sequoia-so").folder.signer.sign(INQUIRY_TYPE, signed.envelope.payload)
    return rogue.work(replace(signed, envelope=other), NODE)


def _an_approval_by_the_broker(rogue: Rogue, person: Person) -> link.Work:
    signed = person.ask(NODE, plate=SEEN)
    return rogue.work(replace(signed, envelope=rogue.folder.signer.countersign(signed.envelope)), NODE)


def _another_plate(rogue: Rogue, person: Person) -> link.Work:
    signed, other = person.ask(NODE), person.ask(NODE, plate=SEEN)
    return rogue.work(replace(signed, disclosures=(other.disclosures[0], *signed.disclosures[1:])), NODE)


def _another_node(rogue: Rogue, person: Person) -> link.Work:
    return rogue.work(person.ask(OTHER, plate=SEEN), NODE)


def _another_label(rogue: Rogue, person: Person) -> link.Work:
    other = person.ask(NODE).inquiry.inquiry_id
    return rogue.work(person.ask(NODE, plate=SEEN), NODE, inquiry_id=other)


def _no_signature(rogue: Rogue, person: Person) -> link.Work:
    signed = person.ask(NODE, plate=SEEN)
    return rogue.work(replace(signed, envelope=replace(signed.envelope, signatures=())), NODE)


def _no_work(rogue: Rogue, person: Person) -> link.Work:
    return rogue.work(person.ask(NODE, plate=SEEN), NODE, inquiry=b"\xff\xff nonsense")


FORGED: list[tuple[str, Forge, str]] = [
    ("an altered purpose", _change(purpose="criminal-felony"), "BAD_SIGNATURE"),
    ("an altered beneficiary", _change(beneficiary="us-ca-chp"), "BAD_SIGNATURE"),
    ("a longer window", _change(days=30), "BAD_SIGNATURE"),
    ("a longer life", _change(nonce=bytes(16)), "BAD_SIGNATURE"),
    ("a requester who is the broker", _signed_by_the_broker, "WRONG_KIND"),
    ("a requester whom the broker invented", _requester_of_a_made_up_authority, "WRONG_AUTHORITY"),
    ("a requester who did not sign", _requester_with_anothers_signature, "WRONG_REQUESTER"),
    ("an approval by the broker", _an_approval_by_the_broker, "WRONG_KIND"),
    ("another plate", _another_plate, "DISCLOSURE_MISMATCH"),
    ("an inquiry for another node", _another_node, "NOT_A_TARGET"),
    ("an inquiry under another's id", _another_label, "WRONG_INQUIRY"),
    ("no signature", _no_signature, "BAD_ENVELOPE"),
    ("no inquiry at all", _no_work, "BAD_WORK"),
]


@pytest.mark.parametrize(("forge", "reason"), [c[1:] for c in FORGED], ids=[f"{c[0]} is refused" for c in FORGED])
def test_a_node_refuses_and_records_what_no_investigator_signed_for_it(
    rogue: Rogue, person: Person, forge: Forge, reason: str
) -> None:
    before = rogue.world.size(rogue.world.nodes[NODE])
    answered = rogue.ask(NODE, forge(rogue, person))
    assert (answered.outcome.kind.value, answered.reason) == ("refused", reason)
    assert not answered.header.HasField("receipt")
    (entry,) = rogue.world.since(rogue.world.nodes[NODE], before)
    assert (entry["type"], entry["received_from"], entry["reason_code"]) == ("rejected", BROKER_2, reason)


def test_an_expired_inquiry_is_refused_by_the_node_itself(rogue: Rogue, person: Person) -> None:
    old = person.ask(NODE, plate=SEEN, at=instants.now() - dt.timedelta(minutes=30))
    assert rogue.ask(NODE, rogue.work(old, NODE)).reason == "EXPIRED"


Alter = Callable[[Rogue, SignedInquiry, link.Receipt], link.Receipt | None]


def _field(**fields: Any) -> Alter:
    def alter(_: Rogue, __: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
        for name, value in fields.items():
            setattr(receipt, name, value)
        return receipt

    return alter


def _altered_entry(rogue: Rogue, signed: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
    denied = rogue.receipt(signed, NODE, effect=Effect.DENY)
    denied.entry = denied.entry.replace(b'"deny"', b'"permit"')
    return denied


def _rehashed_entry(rogue: Rogue, signed: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
    receipt.entry = receipt.entry.replace(NODE.encode(), OTHER.encode())
    receipt.leaf_hash = leaf_hash(receipt.entry)
    return receipt


def _of_a_nodes_log(rogue: Rogue, signed: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
    with LogReader.open(rogue.world.nodes[NODE].state) as reader:
        receipt.checkpoint = reader.head()[1]
    receipt.origin = receipt.checkpoint.decode().splitlines()[0]
    return receipt


def _unsigned_checkpoint(rogue: Rogue, signed: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
    text, _, _ = receipt.checkpoint.partition(b"\n\n")
    receipt.checkpoint = text + b"\n\n"
    return receipt


def _grown_checkpoint(rogue: Rogue, signed: SignedInquiry, receipt: link.Receipt) -> link.Receipt:
    origin, size, rest = receipt.checkpoint.split(b"\n", 2)
    receipt.checkpoint = b"\n".join((origin, str(int(size) + 100).encode(), rest))
    return receipt


RECEIPTS: list[tuple[str, Alter]] = [
    ("no receipt", lambda *_: link.Receipt()),
    ("a receipt without its entry", _field(entry=b"")),
    ("a receipt without its checkpoint", _field(checkpoint=b"")),
    ("a receipt that is not JSON", _field(entry=b"{")),
    ("a receipt beyond the signed head", _field(index=10**9)),
    ("a receipt with another hash", _field(leaf_hash=bytes(32))),
    ("a receipt of a log that nobody pinned", _field(origin="pacific-exchange/broker/broker-9")),
    ("a receipt of a log of another broker", _field(origin="pacific-exchange/broker/broker-1")),
    ("a receipt of a node's own log", _of_a_nodes_log),
    ("a receipt whose checkpoint nobody signed", _unsigned_checkpoint),
    ("a receipt whose checkpoint was altered", _grown_checkpoint),
    ("a receipt of a deny", lambda r, s, _: r.receipt(s, NODE, effect=Effect.DENY)),
    ("a receipt of a deny made a permit", _altered_entry),
    ("a receipt of another node", lambda r, s, _: r.receipt(s, OTHER)),
    ("a receipt of another node, renamed", lambda r, s, _: _rehashed_entry(r, s, r.receipt(s, NODE))),
    ("a receipt of another inquiry", lambda r, s, _: r.receipt(Person.of(r.world).ask(NODE), NODE)),
]


@pytest.mark.parametrize("alter", [c[1] for c in RECEIPTS], ids=[f"{c[0]} is refused" for c in RECEIPTS])
def test_a_node_searches_nothing_without_a_brokers_receipt_of_a_permit(
    rogue: Rogue, person: Person, alter: Alter
) -> None:
    signed = person.ask(NODE, plate=SEEN)
    receipt = alter(rogue, signed, rogue.receipt(signed, NODE))
    before = rogue.world.size(rogue.world.nodes[NODE])
    work = rogue.work(signed, NODE)
    work.receipt.CopyFrom(receipt or link.Receipt())
    answered = rogue.ask(NODE, work)
    assert (answered.outcome.kind.value, answered.reason) == ("refused", "BAD_RECEIPT")
    new = rogue.world.since(rogue.world.nodes[NODE], before)
    assert [(e["type"], e["reason_code"]) for e in new] == [("rejected", "BAD_RECEIPT")]


def test_a_replay_to_a_node_gets_the_recorded_answer_byte_for_byte_and_no_second_decision(
    rogue: Rogue, person: Person
) -> None:
    signed = person.ask(NODE, plate=SEEN)
    first = rogue.ask(NODE, rogue.work(signed, NODE))
    assert first.outcome.kind.value == "match"
    size = rogue.world.size(rogue.world.nodes[NODE])
    for work in (rogue.work(signed, NODE), rogue.work(signed, NODE, receipt=link.Receipt(origin="made up"))):
        assert rogue.ask(NODE, work).envelope == first.envelope
    assert rogue.world.size(rogue.world.nodes[NODE]) == size
    decisions = rogue.world.entries(rogue.world.nodes[NODE], "decision", inquiry_id=signed.inquiry.inquiry_id)
    assert len(decisions) == 1


def test_an_inquiry_that_one_broker_brought_is_not_searched_again_for_another(rogue: Rogue, person: Person) -> None:
    signed = person.ask(NODE, plate=SEEN)
    told = person.search(signed)
    assert told.kinds == {NODE: "match"}
    assert rogue.ask(NODE, rogue.work(signed, NODE)).envelope == told.signed_outcomes[0].envelope
    decisions = rogue.world.entries(rogue.world.nodes[NODE], "decision", inquiry_id=signed.inquiry.inquiry_id)
    assert len(decisions) == 1


def test_a_replay_whose_answer_is_gone_is_an_error_and_no_second_search(rogue: Rogue, person: Person) -> None:
    signed = person.ask(NODE, plate=SEEN)
    assert rogue.ask(NODE, rogue.work(signed, NODE)).outcome.kind.value == "match"
    node = rogue.world.nodes[NODE]
    with closing(sqlite3.connect(node.state / "kept.db", timeout=60)) as db, db:
        assert db.execute("DELETE FROM kept WHERE inquiry_id=?", (signed.inquiry.inquiry_id,)).rowcount == 1
    size = rogue.world.size(node)
    answered = rogue.ask(NODE, rogue.work(signed, NODE))
    assert (answered.outcome.kind.value, answered.reason) == ("error", "ALREADY_RECEIVED")
    assert answered.outcome.detections == ()
    assert rogue.world.size(node) == size


def test_two_deliveries_at_once_are_decided_once(rogue: Rogue, person: Person) -> None:
    signed = person.ask(NODE, plate=SEEN)
    work = [rogue.work(signed, NODE) for _ in range(6)]
    for one in work:
        rogue.send(NODE, one)
    answers = [rogue.answer(NODE, signed.inquiry.inquiry_id) for _ in work]
    found = [a.envelope for a in answers if a.outcome.kind.value in ANSWERED]
    assert len(set(found)) == 1, "there is one signed answer and no second"
    assert {a.reason for a in answers if a.outcome.kind.value not in ANSWERED} <= {"ALREADY_RECEIVED"}
    decisions = rogue.world.entries(rogue.world.nodes[NODE], "decision", inquiry_id=signed.inquiry.inquiry_id)
    assert len(decisions) == 1


def test_another_inquiry_under_a_known_id_is_refused(rogue: Rogue, person: Person) -> None:
    signed = person.ask(NODE)
    assert rogue.ask(NODE, rogue.work(signed, NODE)).outcome.kind.value == "no_match"
    again = person.resign(person.ask(NODE, plate=SEEN), lambda m: setattr(m, "inquiry_id", signed.inquiry.inquiry_id))
    assert changed(again, lambda _: None) != signed.envelope.payload
    answered = rogue.ask(NODE, rogue.work(again, NODE))
    assert (answered.outcome.kind.value, answered.reason) == ("refused", "INQUIRY_ID_REUSED")


def test_a_brokers_permit_does_not_bind_a_node_whose_own_policy_refuses(rogue: Rogue) -> None:
    person = Person.of(rogue.world, "us-ice-ero")
    signed = person.ask(NODE, plate=SEEN, purpose="immigration-civil")
    answered = rogue.ask(NODE, rogue.work(signed, NODE))
    assert answered.outcome.kind.value == "refused"
    assert answered.outcome.decision is not None
    assert "SC-1" in [r.rule for r in answered.outcome.decision.rules]


def test_work_that_nobody_waits_for_any_more_is_not_looked_up(rogue: Rogue, person: Person) -> None:
    signed = person.ask(NODE, plate=SEEN)
    answered = rogue.ask(NODE, rogue.work(signed, NODE, deadline_ms=0))
    assert (answered.outcome.kind.value, answered.reason) == ("error", "NOBODY_WAITS")
