"""Verification: every tampering is found, whoever does it, and each fault is named with its entry."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.entry import Draft
from audit.log import DecisionLog
from audit.read import LogReader
from audit.tree import leaf_hash
from audit.verify import verify
from comity.errors import ConfigError, InvalidInput
from comity.outcome import OutcomeKind
from identity.certificates import fingerprint
from identity.directory import Directory, LogKey
from identity.names import SpiffeId
from identity.signing import Signer
from tests.golden.audit.samples import DRAFTS
from tests.unit.audit.sample import (
    MINUTE,
    ORIGIN,
    PERSON,
    START,
    Forger,
    HandClock,
    answered,
    asked,
    build,
    decided,
    inquiry_draft,
    search,
    tamper,
    unsigned,
)
from tests.unit.identity.world import ALDER, BRAZOS, NOW, World

A = unsigned()
OTHERS = [DRAFTS[n] for n in ("receipt", "policy", "rejected", "purge", "erasure", "review", "start", "stop")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


async def test_a_log_of_every_entry_type_verifies_and_says_what_it_could_not_check(tmp_path: Path) -> None:
    await build(tmp_path, [*search(A), OTHERS])
    report = verify(tmp_path)
    assert (report.fault, report.entries) == (None, 13)
    assert report.head is not None
    assert (report.head.origin, report.head.size) == (ORIGIN, 13)
    assert any("log.vkey was trusted" in w for w in report.warnings)
    assert any("signatures of inquiries were not verified" in w for w in report.warnings)


async def test_an_empty_log_verifies(tmp_path: Path) -> None:
    await build(tmp_path, [])
    assert (verify(tmp_path).entries, verify(tmp_path).fault) == (0, None)


async def test_the_pinned_key_is_the_one_that_counts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        os.mkdir(tmp_path / name)
        await build(tmp_path / name, [[START]])
    own = (tmp_path / "a/log.vkey").read_text()
    assert verify(tmp_path / "a", vkey=own).warnings == ()
    os.replace(tmp_path / "b/log.db", tmp_path / "a/log.db")
    os.replace(tmp_path / "b/log.vkey", tmp_path / "a/log.vkey")
    assert verify(tmp_path / "a").fault is None
    fault = verify(tmp_path / "a", vkey=own).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (-1, "NOT_SIGNED")


async def test_without_any_key_a_log_is_not_believed(tmp_path: Path) -> None:
    await build(tmp_path, [[START]])
    os.remove(tmp_path / "log.vkey")
    fault = verify(tmp_path).fault
    assert fault is not None
    assert fault.reason == "NO_KEY"


def test_no_log_and_no_key_are_errors_of_the_caller_and_no_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        verify(tmp_path)
    with pytest.raises(InvalidInput):
        verify(tmp_path, vkey="no key")


async def test_progress_is_told_of_how_many(tmp_path: Path) -> None:
    await build(tmp_path, [[START] * 1_001])
    told: list[tuple[int, int]] = []
    assert verify(tmp_path, progress=lambda done, entries: told.append((done, entries))).fault is None
    assert told == [(1_001, 1_001)]


# With the file alone: without the log's key.
ENTRY = "(SELECT replace(CAST(entry AS TEXT), 'permit', 'denied') FROM leaf WHERE idx = 1)"
TAMPERED: dict[str, tuple[int, str, str]] = {
    "an entry altered": (1, "WRONG_HASH", f"UPDATE leaf SET entry = CAST({ENTRY} AS BLOB) WHERE idx = 1"),
    "a stored hash altered": (2, "WRONG_HASH", "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 2"),
    "an entry removed": (2, "MISSING", "DELETE FROM leaf WHERE idx = 2"),
    "the last entry removed": (4, "MISSING", "DELETE FROM leaf WHERE idx = 4"),
    "all entries removed": (0, "MISSING", "DELETE FROM leaf"),
    "an entry added": (5, "BEYOND_HEAD", "INSERT INTO leaf SELECT 5, hash, entry FROM leaf WHERE idx = 4"),
    "the head's size altered": (-1, "WRONG_SIZE", "UPDATE head SET size = 4"),
    "the head removed": (-1, "NO_HEAD", "DELETE FROM head"),
    "the checkpoint spoilt": (-1, "BAD_CHECKPOINT", "UPDATE head SET checkpoint = zeroblob(99)"),
    "an inquiry taken out of the index": (-1, "BAD_INDEX", "DELETE FROM inquiry"),
    "an inquiry moved in the index": (-1, "BAD_INDEX", "UPDATE inquiry SET idx = 3"),
    "an inquiry more in the index": (-1, "BAD_INDEX", "INSERT INTO inquiry VALUES ('x', 0)"),
    "a view in place of a table": (-1, "BAD_SCHEMA", "CREATE VIEW more AS SELECT 1"),
}


@pytest.mark.parametrize(("index", "reason", "statement"), TAMPERED.values(), ids=TAMPERED)
async def test_verification_names(tmp_path: Path, index: int, reason: str, statement: str) -> None:
    await build(tmp_path, search(A))
    tamper(tmp_path, statement)
    fault = verify(tmp_path).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (index, reason)
    assert fault.sentence


async def test_two_entries_swapped_with_their_hashes_are_found_by_the_next_commits_citation(tmp_path: Path) -> None:
    await build(tmp_path, search(A))
    tamper(
        tmp_path,
        "UPDATE leaf SET idx = 99 WHERE idx = 1",
        "UPDATE leaf SET idx = 1 WHERE idx = 2",
        "UPDATE leaf SET idx = 2 WHERE idx = 99",
    )
    fault = verify(tmp_path).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (3, "WRONG_CITATION")


async def test_an_entry_replaced_with_its_hash_in_the_last_commit_is_found_by_the_root(tmp_path: Path) -> None:
    await build(tmp_path, search(A))
    with LogReader.open(tmp_path) as reader:
        entry = reader.entry(4).replace(b'"refused"', b'"pending"')
    tamper(tmp_path, "UPDATE leaf SET entry = ?, hash = ? WHERE idx = 4", arguments=(entry, leaf_hash(entry)))
    fault = verify(tmp_path).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (-1, "WRONG_ROOT")


def _decision(**changes: Any) -> Callable[[Forger], object]:
    return lambda f: f.add(A).add(decided(A, "alder-1"), **changes)


# With the log's own key: every hash and signature is right.
NO_HEAD = {"size": 9, "root": "00" * 32}
LATER = "2030-05-01T12:00:01.000Z"
FORGED: dict[str, tuple[int, str, Callable[[Forger], object]]] = {
    "an inquiry twice": (1, "DUPLICATE_INQUIRY", lambda f: f.add(A).add(A)),
    "a decision on no inquiry": (0, "NO_INQUIRY", lambda f: f.add(decided(A, "alder-1"))),
    "a decision before its inquiry": (0, "NO_INQUIRY", lambda f: f.add(decided(A, "alder-1")).add(A)),
    "a decision with another hash": (1, "NO_INQUIRY", _decision(inquiry_hash="00" * 32)),
    "an outcome without decision": (1, "NO_DECISION", lambda f: f.add(A).add(answered(A, "alder-1"))),
    "an outcome of another node": (
        2, "NO_DECISION", lambda f: f.add(A).add(decided(A, "alder-1")).add(answered(A, "brazos-1"))
    ),
    "two outcomes of one node": (
        3,
        "DUPLICATE_OUTCOME",
        lambda f: (
            f.add(A).add(decided(A, "alder-1")).add(answered(A, "alder-1"))
            .add(answered(A, "alder-1", OutcomeKind.ERROR))
        ),
    ),
    "an entry dated back": (1, "TIME_ORDER", lambda f: f.add(START, at=LATER).add(START)),
    "a clock behind that was not": (1, "TIME_ORDER", lambda f: f.add(START).add(START, at=LATER, clock_behind_ms=9)),
    "a head that never was": (1, "WRONG_CITATION", lambda f: f.add(START).add(START, head=NO_HEAD | {"size": 1})),
    "a head of the future": (0, "WRONG_CITATION", lambda f: f.add(START, head=NO_HEAD)),
    "another purpose than signed": (
        0, "FIELD_DIFFERS", lambda f: f.add(A, purpose=A.body["purpose"] | {"code": "amber-alert"})
    ),
    "another beneficiary than signed": (0, "FIELD_DIFFERS", lambda f: f.add(A, beneficiary="us-ice")),
    "another requester than signed": (
        0, "FIELD_DIFFERS", lambda f: f.add(A, requester=A.body["requester"] | {"person": "somebody"})
    ),
    "an approver who did not sign": (0, "FIELD_DIFFERS", lambda f: f.add(A, approvers=[PERSON])),
    "another hash than the payload's": (0, "WRONG_INQUIRY_HASH", lambda f: f.add(A, inquiry_hash="00" * 32)),
    "a payload that is no inquiry": (
        0,
        "BAD_INQUIRY",
        lambda f: f.add(
            A,
            envelope=A.body["envelope"] | {"payload": "AAAA"},
            inquiry_hash="709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c",
        ),
    ),
    "a receipt that covers nothing": (0, "BAD_RECEIPT", lambda f: f.add(DRAFTS["receipt"], index=99)),
    "an unknown type": (0, "BAD_FORM", lambda f: f.add(START, type="note")),
    "another version": (0, "BAD_FORM", lambda f: f.add(START, v=2)),
    "a field too many": (0, "BAD_FORM", lambda f: f.add(START, plate="7ABC123")),
    "a field too few": (0, "BAD_FORM", lambda f: f.add(START, peers=...)),
    "a float": (0, "NOT_CANONICAL", lambda f: f.add(START, directory_version=1.5)),
    "a blank": (0, "NOT_CANONICAL", lambda f: f.raw(b'{"v": 1}')),
    "a key twice": (0, "NOT_CANONICAL", lambda f: f.raw(b'{"v":1,"v":1}')),
    "keys out of order": (0, "NOT_CANONICAL", lambda f: f.raw(b'{"v":1,"at":1}')),
    "no JSON": (0, "NOT_CANONICAL", lambda f: f.raw(b"\xff")),
    "no object": (0, "BAD_FORM", lambda f: f.raw(b"[]")),
    "a nest of a thousand": (0, "NOT_CANONICAL", lambda f: f.raw(b"[" * 1000 + b"]" * 1000)),
    "60,001 bytes": (0, "TOO_LARGE", lambda f: f.raw(b"0" * 60_001)),
    "nothing": (0, "NOT_CANONICAL", lambda f: f.raw(b"")),
}  # fmt: skip


@pytest.mark.parametrize(("index", "reason", "forge"), FORGED.values(), ids=FORGED)
def test_even_the_logs_own_key_cannot_hide(
    tmp_path: Path, index: int, reason: str, forge: Callable[[Forger], object]
) -> None:
    forger = Forger(tmp_path)
    forge(forger)
    fault = verify(forger.write()).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (index, reason)
    assert "7ABC123" not in fault.sentence


def test_what_the_forger_writes_honestly_verifies(tmp_path: Path) -> None:
    forger = Forger(tmp_path)
    for draft in (d for call in search(A) for d in call):
        forger.add(draft)
    assert verify(forger.write()).fault is None


def _directory(world: World, folder: Path, **changes: Any) -> Directory:
    with DecisionLog.open(folder, clock=HandClock()) as log:
        key = log.vkey.key
    return world.directory(
        logs=[LogKey(origin=ORIGIN, key=Ed25519PublicKey.from_public_bytes(key), program="broker", id="b1")], **changes
    )


def _supervisor(world: World, **kw: Any) -> Signer:
    return world.person("s-okafor", **({"role": "supervisor"} | kw))


async def test_with_a_directory_the_logs_key_and_every_signature_are_proven(world: World, tmp_path: Path) -> None:
    _, draft, _ = asked(world.person(), _supervisor(world))
    await build(tmp_path, search(draft))
    report = verify(tmp_path, directory=_directory(world, tmp_path))
    assert (report.fault, report.warnings) == (None, ())


async def test_an_approvers_certificate_of_the_time_of_approval_will_do(world: World, tmp_path: Path) -> None:
    later = NOW + 60 * MINUTE
    _, draft, _ = asked(world.person(), _supervisor(world, at=later), expires_at=NOW + 240 * MINUTE)
    await build(tmp_path, search(draft), HandClock(later))
    assert verify(tmp_path, directory=_directory(world, tmp_path)).fault is None


def _spoilt(world: World) -> Draft:
    _, good, _ = asked(world.person())
    envelope = good.body["envelope"]
    (first,) = envelope["signatures"]
    other = asked(world.person())[1].body["envelope"]["signatures"][0]["signature"]
    return Draft("inquiry", good.body | {"envelope": envelope | {"signatures": [first | {"signature": other}]}})


def _with(world: World, *further: Signer, **changes: Any) -> Draft:
    made, _, envelope = asked(world.person(), *further)
    return inquiry_draft(made, envelope, **changes)


def _node(world: World) -> Signer:
    return world.signer(world.alder, SpiffeId(trust_domain=ALDER, kind="node", id="alder-1"))


def _foreign(world: World) -> Signer:
    return world.signer(world.brazos, SpiffeId(trust_domain=BRAZOS, kind="person", id="x"), role="supervisor")


DAY = 24 * 60 * MINUTE
REFUSED_EVIDENCE: dict[str, Callable[[World], Draft]] = {
    "no real signature": lambda w: unsigned(),
    "another inquiry's signature": _spoilt,
    "another person's signature": lambda w: asked(w.person("somebody"))[1],
    "a node's signature": lambda w: asked(_node(w))[1],
    "a role that the certificate does not give": lambda w: _with(w, role="supervisor"),
    "an approver who is not the signer": lambda w: _with(w, _supervisor(w), approvers=[f"{PERSON}2"]),
    "an approver who is no supervisor": lambda w: _with(w, w.person("s-okafor")),
    "another agency's approver": lambda w: _with(w, _foreign(w), approvers=[f"spiffe://{BRAZOS}/person/x"]),
    "a certificate that had expired": lambda w: asked(w.person(at=NOW - DAY))[1],
    "a certificate that was not valid yet": lambda w: asked(w.person(at=NOW + DAY))[1],
    "another federation's inquiry": lambda w: asked(w.person(), federation="elsewhere")[1],
}


@pytest.mark.parametrize("made", REFUSED_EVIDENCE.values(), ids=REFUSED_EVIDENCE)
async def test_with_a_directory_evidence_is_refused_with(
    world: World, tmp_path: Path, made: Callable[[World], Draft]
) -> None:
    await build(tmp_path, [[START], [made(world)]])
    assert verify(tmp_path).fault is None
    fault = verify(tmp_path, directory=_directory(world, tmp_path)).fault
    assert fault is not None
    assert (fault.index, fault.reason in ("BAD_SIGNATURES", "FIELD_DIFFERS")) == (1, True)


@pytest.mark.parametrize(("version", "fault"), [(7, "BAD_SIGNATURES"), (8, None)], ids=["before", "since"])
async def test_a_certificate_is_a_fault_if_revoked_before_and_a_warning_if_revoked_since(
    world: World, tmp_path: Path, version: int, fault: str | None
) -> None:
    person = world.person()
    _, draft, _ = asked(person)
    await build(tmp_path, search(draft))
    directory = _directory(world, tmp_path, denied=[fingerprint(person.chain[0])], version=version)
    report = verify(tmp_path, directory=directory)
    assert (report.fault.reason if report.fault else None) == fault
    assert any("revoked since" in w for w in report.warnings) is (fault is None)


async def test_a_log_that_the_directory_does_not_name_is_refused(world: World, tmp_path: Path) -> None:
    await build(tmp_path, [[START]])
    fault = verify(tmp_path, directory=world.directory()).fault
    assert fault is not None
    assert fault.reason == "UNKNOWN_LOG"


def _content(folder: Path) -> object:
    with LogReader.open(folder) as reader:
        return reader.head(), list(reader.rows()), sorted(reader.inquiries())


async def test_no_single_byte_of_the_file_can_be_altered_unseen_if_it_is_part_of_an_entry_hash_or_head(
    tmp_path: Path,
) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    os.mkdir(original)
    await build(original, [*search(A), OTHERS, *search(unsigned())])
    shutil.copytree(original, copy)
    data, content = (original / "log.db").read_bytes(), _content(original)
    chosen = random.Random(11)
    positions = sorted({*range(0, 100), *chosen.sample(range(len(data)), 700)})
    missed, caught = [], 0
    for position in positions:
        altered = bytearray(data)
        altered[position] ^= chosen.choice((0x01, 0x20, 0x80, 0xFF))
        (copy / "log.db").write_bytes(altered)
        if verify(copy).fault is not None:
            caught += 1
        elif _content(copy) != content:
            missed.append(position)
    assert missed == []
    assert caught > len(positions) // 4


@pytest.mark.parametrize("keep", [0, 1, 99, 100, 4095, 4096, 5000, 8192, 12_289])
async def test_a_file_cut_off_is_a_fault_and_no_traceback(tmp_path: Path, keep: int) -> None:
    await build(tmp_path, search(A))
    os.truncate(tmp_path / "log.db", keep)
    fault = verify(tmp_path).fault
    assert fault is not None
    assert fault.sentence


async def test_an_entrys_bytes_are_hashed_as_they_are_stored(tmp_path: Path) -> None:
    await build(tmp_path, search(A))
    with LogReader.open(tmp_path) as reader:
        for _, stored, entry in reader.rows():
            assert leaf_hash(entry) == stored
            assert json.dumps(orjson.loads(entry), sort_keys=True, separators=(",", ":")).encode() == entry
