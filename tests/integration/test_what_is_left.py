"""After searches of every kind: no plate, case number or warrant is left where it has no business to be."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cli.compose import SignedInquiry
from comity import commitment
from comity.inquiry import Disclosure
from comity.purpose import Authority
from comity.v1 import inquiry_pb2
from tests.integration.calls import CASE, NEVER_SEEN, POLICE, SEEN, STATE, WARRANT, Person
from tests.integration.world import World, said, spellings

A, B = "port-alder-1", "sequoia-1"
BAD_PLATE = "CANARYPLATE99"
# What nodes hold for their own searches and for second deliveries.
HOLDS_PLATES = ("kept.db", "store", "set-aside")


def _search_in_every_way(world: World) -> None:
    person = Person.of(world)
    for plate in (SEEN, NEVER_SEEN):
        assert person.search(person.ask(plate=plate)).code == "OK"
    agent = Person.of(world, "us-fbi")
    assert agent.search(_warranted(agent)).kinds == {A: "pending"}
    assert agent.preview(_warranted(agent))[0] == "OK"
    signed = person.ask(A, plate=SEEN)
    assert person.search(replace(signed, disclosures=signed.disclosures[:1])).reason == "DISCLOSURE_MISMATCH"
    query = inquiry_pb2.Query(plate=inquiry_pb2.PlateQuery(plate=BAD_PLATE, state=STATE)).SerializeToString()
    bad = Disclosure.fresh(commitment.QUERY, query)
    spoilt = person.resign(signed, lambda m: setattr(m, "query_commitment", bad.commitment))
    told = person.search(replace(spoilt, disclosures=(bad, *signed.disclosures[1:])))
    assert told.reason == "BAD_PLATE"
    person.search(replace(signed, envelope=replace(signed.envelope, payload=b"not " + SEEN.encode())))


def _warranted(agent: Person) -> SignedInquiry:
    return agent.ask(
        A,
        plate=SEEN,
        purpose="criminal-felony",
        authority=Authority.JUDICIAL_WARRANT,
        authority_reference=WARRANT,
    )


def _files(world: World) -> Iterator[Path]:
    for state in (world.broker.state, *(p.state for p in world.nodes.values())):
        for path in state.rglob("*"):
            top = path.relative_to(state).parts[0]
            if path.is_file() and not (state != world.broker.state and top.startswith(HOLDS_PLATES)):
                yield path


def test_no_plate_case_number_or_warrant_is_in_a_log_or_in_the_brokers_state(federation: World) -> None:
    _search_in_every_way(federation)
    patterns = {text: spellings(text) for text in (SEEN, NEVER_SEEN, BAD_PLATE, CASE, WARRANT)}
    looked, found = 0, []
    for path in _files(federation):
        data = path.read_bytes()
        looked += 1
        found += [(path, text) for text, ways in patterns.items() if any(w.search(data) for w in ways)]
    assert found == []
    assert looked > 9 * 5, "logs, write-ahead logs, programs' own logs, configurations"


def test_the_search_for_what_is_left_would_find_it(federation: World) -> None:
    kept = b"".join(p.read_bytes() for p in federation.nodes[A].state.glob("kept.db*"))
    assert SEEN.encode() in kept, "a node keeps its signed answers, so a byte search sees them"
    for before in range(3):
        data = b64encode(b"x" * before + b"\x0a\x07" + SEEN.encode() + b"yz")
        assert any(w.search(data) for w in spellings(SEEN))


def test_keys_are_their_owners_alone(federation: World) -> None:
    secret = ("key.pem", "ca-key.pem", "log.key", "policy.pem", "sealing.key", "witness.key", "pseudonym.key")
    keys = [p for p in federation.root.rglob("*") if p.name in secret]
    assert len(keys) > 70
    assert [p for p in keys if p.stat().st_mode & 0o077] == []


def test_every_log_verifies_under_the_directorys_keys(federation: World) -> None:
    assert federation.faults() == {}
    assert all(federation.size(p) >= 2 for p in (federation.broker, *federation.nodes.values()))


def test_each_search_has_one_outcome_a_target_in_the_brokers_log(federation: World) -> None:
    entries = federation.log(federation.broker)
    previews = {e["inquiry_id"] for e in entries if e["type"] == "inquiry" and e["preview"]}
    decided = [(e["inquiry_id"], e["node"]) for e in entries if e["type"] == "decision"]
    outcomes = [(e["inquiry_id"], e["node"]) for e in entries if e["type"] == "outcome"]
    assert sorted(d for d in decided if d[0] not in previews) == sorted(outcomes)
    assert POLICE in {e["requester"]["agency"] for e in entries if e["type"] == "inquiry"}


def test_no_program_logged_a_traceback(federation: World) -> None:
    for program in (federation.broker, *federation.nodes.values()):
        assert "Traceback" not in said(program), program.state.name
