"""Erasure: the values are gone from every byte of the files, and everything that was proven still is."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.entry import Draft, envelope_json
from audit.erasure import erase
from audit.erasure_record import ERASURE_TYPE, signed_erasure, statement
from audit.hashes import hashes_of_log, reading
from audit.log import DecisionLog
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.proof import consistency_proof, verify_consistency
from audit.read import LogReader
from audit.sealing import unsealed
from audit.store import LogFiles
from audit.tlog_proof import find_decision, prove
from audit.verify import verify
from comity.errors import ComityError, ConfigError, Unavailable
from identity.auditors import AuditorKey
from identity.directory import Directory, LogKey
from identity.signing import Signer
from tests.unit.audit import sample, sealed
from tests.unit.audit.sample import HandClock
from tests.unit.identity.world import ALDER, BRAZOS, NOW, World, name

WHO = "spiffe://us-ca-alder-pd/person/records-1"
WHY = "retention schedule, two years"
_AUTHORITIES = tempfile.TemporaryDirectory()


@functools.cache
def world() -> World:
    return World.make(Path(_AUTHORITIES.name), NOW)


@functools.cache
def officer(id_: str = "records-1", role: str = "supervisor", agency: str = ALDER) -> Signer:
    authority = world().alder if agency == ALDER else world().brazos
    return world().signer(authority, name(agency, "person", id_), role=role, ttl=dt.timedelta(days=90))


@functools.cache
def directory() -> Directory:
    return world().directory()


def by(**changes: Any) -> dict[str, Any]:
    """Who erases and why."""
    return {"signer": officer(), "directory": directory(), "rule": WHY} | changes


def recorded(key_id: str, *indexes: int) -> Draft:
    """The entry that says so."""
    return signed_erasure(
        sample.ORIGIN, officer(), epoch="2030-05", key_id=key_id, indexes=indexes, requested_by=WHO, rule=WHY
    )


async def log_of_three(folder: Path, clock: HandClock | None = None) -> tuple[AuditorKey, list[str]]:
    """A log of three inquiries, the last of another month; an auditor's key, and the inquiries' ids."""
    key, first = sealed.auditor()
    clock = clock or HandClock()
    drafts = [sealed.asked(sealed.values()) for _ in range(3)]
    calls = [[d, sample.decided(d, "alder-1")] for d in drafts]
    await sealed.write(folder, [first], calls[:2], clock)
    clock.move(days=31)
    await sealed.write(folder, [first], calls[2:], clock)
    return key, [d.body["inquiry_id"] for d in drafts]


def plates(folder: Path, key: AuditorKey) -> list[str]:
    """What the auditor reads of each inquiry: the plate, or why not."""
    found = []
    with LogReader.open(folder) as reader:
        for index in (0, 2, 4):
            try:
                found.append(unsealed(reader, index, key).plate)
            except ComityError as e:
                found.append(e.reason)
    return found


async def run(folder: Path, clock: HandClock, **what: Any) -> None:
    """Erase, on a thread of its own: the command has no event loop around it."""
    await asyncio.to_thread(erase, folder, clock=clock, **(by() | what))


async def test_one_inquirys_values_are_gone_and_the_others_are_not(tmp_path: Path) -> None:
    clock = HandClock()
    key, ids = await log_of_three(tmp_path, clock)
    await run(tmp_path, clock, inquiries=[ids[1]])
    assert plates(tmp_path, key) == [sealed.PLATE, "ERASED", sealed.PLATE]
    assert verify(tmp_path).fault is None


async def test_a_months_values_are_gone_and_the_other_months_are_not(tmp_path: Path) -> None:
    clock = HandClock()
    key, _ = await log_of_three(tmp_path, clock)
    await run(tmp_path, clock, month="2030-05")
    assert plates(tmp_path, key) == ["ERASED", "ERASED", sealed.PLATE]
    assert verify(tmp_path).fault is None


@pytest.mark.parametrize("month", [False, True], ids=["an inquiry", "a month"])
async def test_no_byte_of_the_keys_of_what_is_left_in_any_file(tmp_path: Path, month: bool) -> None:
    clock = HandClock()
    key, ids = await log_of_three(tmp_path, clock)
    if month:
        gone = [row[4] for row in sealed.rows(tmp_path, "epoch") if row[2] == "2030-05"]
    else:
        gone = [part for row in sealed.rows(tmp_path, "sealed") if row[0] == 0 for part in row[2:]]
    assert sealed.files_with(tmp_path, gone) == ["log.db"]
    await run(tmp_path, clock, **({"month": "2030-05"} if month else {"inquiries": [ids[0]]}))
    pieces = [secret[at : at + 16] for secret in gone for at in range(0, len(secret) - 15, 16)]
    assert sealed.files_with(tmp_path, pieces) == []
    assert plates(tmp_path, key)[2] == sealed.PLATE


async def test_nothing_is_left_of_a_key_that_was_in_the_journal_of_a_program_that_was_killed(tmp_path: Path) -> None:
    clock = HandClock()
    live, killed = tmp_path / "live", tmp_path / "killed"
    live.mkdir()
    _, first = sealed.auditor()
    DecisionLog.create(live, origin=sample.ORIGIN, clock=clock).close()
    drafts = [sealed.asked(sealed.values()) for _ in range(30)]
    with DecisionLog.open(live, clock=clock, auditors=[first]) as log:
        for draft in drafts:
            await log.append([draft])
        shutil.copytree(live, killed)  # what a kill leaves: everything still in the journal
    gone = [part for row in sealed.rows(killed, "sealed") if row[0] == 7 for part in row[2:]]
    assert sealed.files_with(killed, gone) == ["log.db-wal"]
    await run(killed, clock, inquiries=[drafts[7].body["inquiry_id"]])
    assert sealed.files_with(killed, gone) == []
    assert verify(killed).fault is None


async def test_the_record_says_who_erased_what_and_why(tmp_path: Path) -> None:
    clock = HandClock()
    _, ids = await log_of_three(tmp_path, clock)
    await run(tmp_path, clock, inquiries=[ids[0], ids[2]])
    with LogReader.open(tmp_path) as reader:
        said = [orjson.loads(entry) for _, entry in reader.forwards(6)]
        keys = [orjson.loads(reader.entry(i))["sealed"]["key_id"] for i in (0, 4)]
    assert [(e["type"], e["scope"], e["epoch"], e["indexes"]) for e in said] == [
        ("erasure", "entry", "2030-05", [0]),
        ("erasure", "entry", "2030-06", [4]),
    ]
    assert [e["key_id"] for e in said] == keys
    assert {(e["requested_by"], e["rule"]) for e in said} == {(WHO, WHY)}


async def test_every_proof_made_before_an_erasure_holds_after_it(tmp_path: Path) -> None:
    clock = HandClock()
    _, ids = await log_of_three(tmp_path, clock)
    with reading(tmp_path) as reader:
        key = VerifierKey.parse(reader.vkey_text() or "")
        old, note = reader.head()
        index, leaf = find_decision(reader, ids[0], "alder-1")
        before = prove(index, leaf, hashes_of_log(reader, old), note, key)
    await run(tmp_path, clock, month="2030-05")
    with reading(tmp_path) as reader:
        size, now = reader.head()
        hashes = hashes_of_log(reader, size)
        assert before.verify(reader.entry(index), key).size == old
        assert prove(index, reader.entry(index), hashes, now, key).index == index
        proof = consistency_proof(old, size, hashes.subtree)
    first, second = Checkpoint.parse(note).root, verify_checkpoint(now, key).root
    verify_consistency(old, size, first, second, proof)
    assert size == old + 1


async def test_a_program_that_starts_after_its_month_was_erased_seals_under_a_new_key(tmp_path: Path) -> None:
    clock = HandClock()
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())]], clock)
    await run(tmp_path, clock, month="2030-05")
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())]], clock)
    with LogReader.open(tmp_path) as reader:
        assert unsealed(reader, 2, key).plate == sealed.PLATE
    assert verify(tmp_path).fault is None


async def test_a_writer_that_records_the_erasure_of_its_own_key_seals_under_a_new_one(tmp_path: Path) -> None:
    clock = HandClock()
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [], clock)
    with DecisionLog.open(tmp_path, clock=clock, auditors=[first]) as log:
        await log.append([sealed.asked(sealed.values())])
        (epoch,) = sealed.rows(tmp_path, "epoch")
        await log.append([recorded(epoch[1])])
        await log.append([sealed.asked(sealed.values())])
    with LogReader.open(tmp_path) as reader:
        assert unsealed(reader, 2, key).plate == sealed.PLATE
        with pytest.raises(ComityError) as gone:
            unsealed(reader, 0, key)
    assert gone.value.reason == "ERASED"


async def test_an_erasure_that_was_cut_off_after_its_commit_is_finished_by_running_it_again(tmp_path: Path) -> None:
    clock = HandClock()
    live, killed = tmp_path / "live", tmp_path / "killed"
    live.mkdir()
    _, first = sealed.auditor()
    draft = sealed.asked(sealed.values())
    await sealed.write(live, [first], [], clock)
    with DecisionLog.open(live, clock=clock, auditors=[first]) as log:
        await log.append([draft])
        (part,) = sealed.rows(live, "sealed")
        await log.append([recorded(part[1], 0)])
        shutil.copytree(live, killed)
    assert sealed.files_with(killed, part[2:]) == ["log.db-wal"]
    with pytest.raises(ComityError) as again:
        await run(killed, clock, inquiries=[draft.body["inquiry_id"]])
    assert again.value.reason == "ERASED"
    assert sealed.files_with(killed, part[2:]) == []


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        pytest.param({"month": "2030-04"}, "NOT_SEALED", id="a month in which nothing was sealed"),
        pytest.param({"month": "2030-5"}, "BAD_MONTH", id="what is no month"),
        pytest.param({"inquiries": ["0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a10"]}, "NO_ENTRY", id="an unknown inquiry"),
        pytest.param({"month": "2030-05", "rule": ""}, "BAD_ENTRY", id="no reason"),
    ],
)
def test_an_erasure_is_refused_that_names(three: Path, what: dict[str, Any], reason: str) -> None:
    with LogReader.open(three) as reader:
        before = reader.head()
    with pytest.raises(ComityError) as refused:
        erase(three, clock=HandClock(), **(by() | what))
    assert refused.value.reason == reason
    with LogReader.open(three) as reader:
        assert reader.head() == before


async def test_a_second_erasure_of_the_same_says_that_it_was_done(tmp_path: Path) -> None:
    clock = HandClock()
    _, ids = await log_of_three(tmp_path, clock)
    await run(tmp_path, clock, inquiries=[ids[0]])
    with pytest.raises(ComityError) as again:
        await run(tmp_path, clock, inquiries=[ids[0]])
    assert again.value.reason == "ERASED"
    with LogReader.open(tmp_path) as reader:
        assert reader.head()[0] == 7


def test_a_log_whose_program_runs_is_not_erased(three: Path) -> None:
    with DecisionLog.open(three, clock=HandClock()), pytest.raises(ConfigError) as refused:
        erase(three, month="2030-05", **by(), clock=HandClock())
    assert refused.value.reason == "LOG_IN_USE"


def test_an_erasure_says_so_while_a_reader_keeps_the_journal_alive_and_ends_when_run_again(three: Path) -> None:
    clock = HandClock()
    clock.move(days=40)
    with LogReader(LogFiles.locate(three), live=True) as reader:
        reader.head()
        with pytest.raises(Unavailable) as unfinished:
            erase(three, month="2030-05", **by(), clock=clock)
    assert unfinished.value.reason == "ERASURE_UNFINISHED"
    with pytest.raises(ComityError) as again:
        erase(three, month="2030-05", **by(), clock=clock)
    assert again.value.reason == "ERASED"
    assert not (three / "log.db-wal").exists()
    assert verify(three).fault is None


# --- signed, and by whom ----------------------------------------------------------------------------------------------


def node_log(folder: Path) -> Directory:
    """The directory pins the log's key as that of a node at Alder."""
    with LogReader.open(folder) as reader:
        key = VerifierKey.parse(reader.vkey_text() or "")
    public = Ed25519PublicKey.from_public_bytes(key.key)
    return world().directory(logs=[LogKey(origin=key.name, key=public, program="node", id="alder-1")])


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        pytest.param({"id_": "t-reyes", "role": "investigator"}, "WRONG_ROLE", id="an investigator"),
        pytest.param({"id_": "b-ortiz", "agency": BRAZOS}, "WRONG_AGENCY", id="a supervisor of another agency"),
    ],
)
def test_who_may_not_erase_a_nodes_values_is_refused(three: Path, who: dict[str, str], reason: str) -> None:
    known = node_log(three)
    with pytest.raises(ComityError) as refused:
        erase(three, clock=HandClock(), month="2030-05", **by(signer=officer(**who), directory=known))
    assert refused.value.reason == reason
    with LogReader.open(three) as reader:
        assert (reader.head()[0], any(e.erased for e in reader.epoch_keys())) == (6, False)


async def plain_log(folder: Path) -> tuple[str, Directory]:
    """A log of one really signed inquiry with its values sealed; its epoch key's id, and the directory."""
    _, first = sealed.auditor()
    values = sealed.values(order="")
    person = world().person()
    commitments: dict[str, Any] = {f"{d.label}_commitment": d.commitment for d in values}
    _, draft, _ = sample.asked(person, **commitments)
    await sealed.write(folder, [first], [[dataclasses.replace(draft, clear=values)]])
    return sealed.rows(folder, "epoch")[0][1], node_log(folder)


def forged(
    key_id: str, signer: Signer, other: dict[str, Any] | None = None, origin: str = sample.ORIGIN, who: str = WHO
) -> Draft:
    """An erasure entry signed by `signer`; `other` fields are signed, and not what the entry shows."""
    draft = signed_erasure(
        sample.ORIGIN, signer, epoch="2030-05", key_id=key_id, indexes=(), requested_by=who, rule=WHY
    )
    envelope = signer.sign(ERASURE_TYPE, statement(origin, draft.body | (other or {})))
    return Draft("erasure", draft.body | {"envelope": envelope_json(envelope)})


FORGED: dict[str, tuple[str, Callable[[str], Draft]]] = {
    "signed by who may": ("", lambda k: forged(k, officer())),
    "signed by an investigator": (
        "BAD_SIGNATURES",
        lambda k: forged(k, officer("t-reyes", "investigator"), {}, who=f"spiffe://{ALDER}/person/t-reyes"),
    ),
    "signed by somebody of another agency": (
        "BAD_SIGNATURES",
        lambda k: forged(k, officer("b-ortiz", agency=BRAZOS), {}, who=f"spiffe://{BRAZOS}/person/b-ortiz"),
    ),
    "in another person's name": ("BAD_SIGNATURES", lambda k: forged(k, officer("x-moss"))),
    "signed for another reason": ("FIELD_DIFFERS", lambda k: forged(k, officer(), {"rule": "another"})),
    "signed for another key": ("FIELD_DIFFERS", lambda k: forged(k, officer(), {"key_id": "0" * 16})),
    "signed for another log": ("FIELD_DIFFERS", lambda k: forged(k, officer(), {}, "node.example/log")),
}


@pytest.mark.parametrize(("reason", "forge"), FORGED.values(), ids=FORGED)
async def test_an_erasure_is_held_against_what_an_entitled_person_signed(
    tmp_path: Path, reason: str, forge: Callable[[str], Draft]
) -> None:
    key_id, known = await plain_log(tmp_path)
    with DecisionLog.open(tmp_path, clock=HandClock()) as log:
        await log.append([forge(key_id)])
    report = verify(tmp_path, directory=known)
    assert (report.fault.reason if report.fault else "") == reason


async def test_an_erasure_that_was_undone_from_an_older_copy_is_found(tmp_path: Path) -> None:
    for what in ({"month": "2030-05"}, {"inquiries": None}):
        folder = tmp_path / next(iter(what))
        folder.mkdir()
        clock = HandClock()
        _, ids = await log_of_three(folder, clock)
        before = {table: sealed.rows(folder, table) for table in ("epoch", "sealed")}
        await run(folder, clock, **({"inquiries": [ids[1]]} if "inquiries" in what else what))
        assert verify(folder).fault is None
        with sqlite3.connect(folder / "log.db") as db:
            db.executemany("UPDATE epoch SET sealed = ? WHERE n = ?", [(row[-1], row[0]) for row in before["epoch"]])
            db.executemany(
                "UPDATE sealed SET wrapped = ?, part = ? WHERE idx = ?",
                [(*row[2:], row[0]) for row in before["sealed"]],
            )
        db.close()
        fault = verify(folder).fault
        assert fault is not None
        assert (fault.index, fault.reason) == (6, "ERASURE_UNDONE")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    asyncio.run(log_of_three(tmp_path))
    return tmp_path
