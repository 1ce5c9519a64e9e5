"""Sealed parts: who can open them, what they are bound to, and what verification says of them."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import Draft
from audit.listing import decode
from audit.log import DecisionLog
from audit.read import LogReader
from audit.sealed_store import SealedPart
from audit.sealing import PAD_BYTES, Clear, Sealer, Unsealer, unsealed
from audit.verify import verify
from comity.errors import ComityError, NotAllowed
from identity.auditors import AuditorKey
from identity.directory import LogKey
from identity.keys import load_log_key
from tests.unit.audit import sample, sealed
from tests.unit.audit.sample import HandClock
from tests.unit.identity.world import World


def opened(folder: Path, index: int, key: AuditorKey) -> Clear:
    with LogReader.open(folder) as reader:
        return unsealed(reader, index, key)


def refusal(folder: Path, index: int, key: AuditorKey) -> str:
    with pytest.raises(ComityError) as refused:
        opened(folder, index, key)
    assert sealed.PLATE not in str(refused.value)
    return refused.value.reason


async def test_every_auditor_named_reads_what_was_asked_and_its_salts_fit_the_commitments(tmp_path: Path) -> None:
    (one, first), (two, second) = sealed.auditor("a-1"), sealed.auditor("a-2")
    disclosures = sealed.values()
    await sealed.write(tmp_path, [first, second], [[sealed.asked(disclosures)]])
    for key in (one, two):
        clear = opened(tmp_path, 0, key)
        said = (clear.plate, clear.state, clear.case_number, clear.authority_reference)
        assert said == (sealed.PLATE, sealed.STATE, sealed.CASE, sealed.ORDER)
        assert clear.disclosures == disclosures
    assert verify(tmp_path).fault is None


async def test_a_key_that_is_nobodys_of_the_directory_opens_nothing(tmp_path: Path) -> None:
    (_, first), (stranger, _) = sealed.auditor(), sealed.auditor()
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())]])
    with pytest.raises(NotAllowed) as refused:
        opened(tmp_path, 0, stranger)
    assert refused.value.reason == "NOT_FOR_KEY"


async def test_an_auditor_of_another_log_cannot_read_this_one(tmp_path: Path) -> None:
    (theirs, first), (mine, second) = (
        sealed.auditor("a-1", ["another.example/log"]),
        sealed.auditor("a-2", [sample.ORIGIN]),
    )
    await sealed.write(tmp_path, [first, second], [[sealed.asked(sealed.values())]])
    assert refusal(tmp_path, 0, theirs) == "NOT_FOR_KEY"
    assert opened(tmp_path, 0, mine).plate == sealed.PLATE


@pytest.mark.parametrize("logs", [None, ["another.example/log"]], ids=["nobody is named", "nobody of this log is"])
async def test_nothing_is_kept_if(tmp_path: Path, logs: list[str] | None) -> None:
    key, other = sealed.auditor("a-1", logs)
    await sealed.write(tmp_path, [other] if logs else [], [[sealed.asked(sealed.values())]])
    assert (sealed.rows(tmp_path, "sealed"), sealed.rows(tmp_path, "epoch")) == ([], [])
    assert refusal(tmp_path, 0, key) == "NOT_SEALED"
    assert verify(tmp_path).fault is None


async def test_no_byte_of_the_values_is_in_any_file_of_the_log(tmp_path: Path) -> None:
    _, first = sealed.auditor()
    disclosures = sealed.values()
    await sealed.write(tmp_path, [first], [[sealed.asked(disclosures)]])
    found = sealed.files_with(tmp_path, [part for d in disclosures for part in (d.salt, d.value)])
    assert found + sealed.files_with(tmp_path, [sealed.PLATE.encode()]) == []


async def test_each_start_and_each_month_has_a_key_of_its_own_and_each_entry_too(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    clock = HandClock()
    calls = [[sealed.asked(sealed.values())] for _ in range(2)]
    await sealed.write(tmp_path, [first], calls, clock)
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())]], clock)
    clock.move(days=31)
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())]], clock)
    keys = [row[1] for row in sealed.rows(tmp_path, "sealed")]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert [row[2] for row in sealed.rows(tmp_path, "epoch")] == ["2030-05", "2030-05", "2030-06"]
    assert len({row[2] for row in sealed.rows(tmp_path, "sealed")}) == 4
    assert {opened(tmp_path, i, key).plate for i in range(4)} == {sealed.PLATE}


def test_a_new_month_within_one_run_begins_a_new_key() -> None:
    _, first = sealed.auditor()
    sealer, draft = Sealer(sample.ORIGIN, [first]), sealed.asked(sealed.values())
    of = [sealer.seal(draft, at) for at in ("2030-05-31T23:59:59.999Z", "2030-06-01T00:00:00.000Z")]
    assert all(of)
    assert len({part.key_id for part in of if part}) == 2
    assert [e.month for e in sealer.unwritten] == ["2030-05", "2030-06"]


async def test_after_an_auditors_key_is_replaced_the_new_one_reads_what_comes_and_the_old_what_was(
    tmp_path: Path,
) -> None:
    (old, before), (new, after) = sealed.auditor(), sealed.auditor()
    for auditors in ([before], [after]):
        await sealed.write(tmp_path, auditors, [[sealed.asked(sealed.values())]])
    assert (opened(tmp_path, 0, old).plate, opened(tmp_path, 1, new).plate) == (sealed.PLATE, sealed.PLATE)
    assert (refusal(tmp_path, 0, new), refusal(tmp_path, 1, old)) == ("NOT_FOR_KEY", "NOT_FOR_KEY")


async def test_a_call_that_is_refused_leaves_no_sealed_part_behind(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    again = sealed.asked(sealed.values())
    await sealed.write(tmp_path, [first], [[again]])
    with pytest.raises(ComityError, match="already"):
        await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values()), again]])
    assert len(sealed.rows(tmp_path, "sealed")) == 1
    assert len(sealed.rows(tmp_path, "epoch")) == 1
    assert opened(tmp_path, 0, key).plate == sealed.PLATE


async def test_a_key_begun_for_a_call_that_is_refused_opens_what_is_sealed_after_other_commits(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    asked = sealed.asked(sealed.values())
    signature = {"signature": "AAAA", "chain": ["A" * 10_000] * 3}
    envelope = asked.body["envelope"] | {"signatures": [signature] * 4}
    large = dataclasses.replace(asked, body=asked.body | {"envelope": envelope})
    clock = HandClock()
    DecisionLog.create(tmp_path, origin=sample.ORIGIN, clock=clock).close()
    with DecisionLog.open(tmp_path, clock=clock, auditors=[first]) as log:
        with pytest.raises(ComityError) as refused:
            await log.append([large])
        assert refused.value.reason == "ENTRY_TOO_LARGE"
        await log.append([sample.START])
        await log.append([asked])
    assert opened(tmp_path, 1, key).plate == sealed.PLATE
    assert verify(tmp_path).fault is None


@given(st.text("ABCDEFGHJK0123456789", min_size=1, max_size=10), st.text("ABC-123", max_size=64))
def test_the_length_of_a_sealed_part_says_nothing_of_the_values(plate: str, case: str) -> None:
    _, first = sealed.auditor()
    part = Sealer(sample.ORIGIN, [first]).seal(
        sealed.asked(sealed.values(plate, "CA", case)), "2030-05-01T00:00:00.000Z"
    )
    assert part is not None
    assert len(part.part) == 2 * PAD_BYTES + 16


async def test_values_that_are_not_those_committed_to_are_found_by_who_opens_them(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values(), said=sealed.values("OTHER1"))]])
    assert refusal(tmp_path, 0, key) == "COMMITMENT_MISMATCH"


async def test_an_entry_that_is_no_inquiry_has_nothing_sealed(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [[sample.START]])
    assert refusal(tmp_path, 0, key) == "NOT_SEALED"
    assert refusal(tmp_path, 1, key) == "NO_ENTRY"


async def test_verification_says_how_many_inquiries_were_not_sealed_though_auditors_are_named(tmp_path: Path) -> None:
    world = World.make(tmp_path / "world")
    (tmp_path / "log").mkdir()
    key, first = sealed.auditor()
    asked = [sample.asked(world.person())[1] for _ in range(2)]
    await sealed.write(tmp_path / "log", [], [[draft] for draft in asked])
    own = load_log_key(tmp_path / "log" / "log.key").public_key()
    logs = [LogKey(origin=sample.ORIGIN, key=own, program="broker", id="b1")]
    said = [
        [w for w in verify(tmp_path / "log", directory=world.directory(logs=logs, **named)).warnings if "sealed" in w]
        for named in ({"auditors": [first]}, {})
    ]
    assert said == [["2 inquiries have no sealed part, though auditors are named for this log"], []]
    assert key.id == first.id


SWAP = (
    "CREATE TEMP TABLE t AS SELECT * FROM sealed",
    "UPDATE sealed SET (key_id, wrapped, part) = (SELECT key_id, wrapped, part FROM t WHERE t.idx = 1 - sealed.idx)",
)


TAMPERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "two parts changed places": ("SEALED_MISMATCH", SWAP),
    "a part is another": (
        "SEALED_MISMATCH",
        ("UPDATE sealed SET part = randomblob(length(part)) WHERE idx = 0",),
    ),
    "a part is under another key's name": ("SEALED_MISMATCH", ("UPDATE sealed SET key_id = '0123456789abcdef'",)),
    "a wrapped key is noise": ("SEALED_MISMATCH", ("UPDATE sealed SET wrapped = randomblob(60) WHERE idx = 0",)),
    "a wrapped key is another entry's": (
        "SEALED_MISMATCH",
        ("UPDATE sealed SET wrapped = (SELECT wrapped FROM sealed s WHERE s.idx = 1) WHERE idx = 0",),
    ),
    "the epoch's key is noise": ("SEALED_MISMATCH", ("UPDATE epoch SET sealed = randomblob(80)",)),
    "the epoch's key is noise for one auditor": (
        "SEALED_MISMATCH",
        ("UPDATE epoch SET sealed = randomblob(80) WHERE n = 1",),
    ),
    "the epoch's key was cut short": ("SEALED_MISMATCH", ("UPDATE epoch SET sealed = substr(sealed, 1, 10)",)),
    "the epoch's key is gone for one auditor": ("SEALED_MISMATCH", ("DELETE FROM epoch WHERE n = 2",)),
    "the epoch's key is sealed to one more": (
        "SEALED_MISMATCH",
        ("INSERT INTO epoch SELECT 9, key_id, month, 'ffffffffffffffff', randomblob(80) FROM epoch WHERE n = 1",),
    ),
    "the epoch's key is of another month": ("SEALED_MISMATCH", ("UPDATE epoch SET month = '2031-01'",)),
    "a part is gone": ("SEALED_MISSING", ("DELETE FROM sealed WHERE idx = 0",)),
    "the epoch's key is gone": ("SEALED_MISSING", ("DELETE FROM epoch",)),
    "a part belongs to no entry": (
        "SEALED_STRAY",
        ("INSERT INTO sealed SELECT 9, key_id, wrapped, part FROM sealed LIMIT 1",),
    ),
    "a part was erased, and no entry says so": (
        "ERASURE_UNRECORDED",
        ("UPDATE sealed SET wrapped = zeroblob(60), part = zeroblob(length(part)) WHERE idx = 0",),
    ),
    "the epoch's key was erased, and no entry says so": (
        "ERASURE_UNRECORDED",
        ("UPDATE epoch SET sealed = zeroblob(80)",),
    ),
}


@pytest.mark.parametrize(("reason", "statements"), TAMPERED.values(), ids=TAMPERED)
async def test_verification_finds_without_any_key_that(
    tmp_path: Path, reason: str, statements: tuple[str, ...]
) -> None:
    (_, first), (_, second) = sealed.auditor(), sealed.auditor("auditor-2")
    await sealed.write(tmp_path, [first, second], [[sealed.asked(sealed.values())], [sealed.asked(sealed.values())]])
    sample.tamper(tmp_path, *statements)
    fault = verify(tmp_path).fault
    assert fault is not None
    assert fault.reason == reason


class OneMonth(Sealer):
    """Seals everything under the key of one month, as a broker would that wants it to outlive an erasure."""

    def seal(self, draft: Draft, at: str) -> SealedPart | None:
        return super().seal(draft, MONTH + at[len(MONTH) :])


MONTH = ""


@pytest.mark.parametrize(
    ("month", "days"),
    [
        pytest.param("2030-05", 31, id="of the month before, in the same run"),
        pytest.param("2031-01", 0, id="of a month to come"),
    ],
)
async def test_verification_finds_what_was_sealed_under_another_months_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, month: str, days: int
) -> None:
    monkeypatch.setattr("audit.writer.Sealer", OneMonth)
    monkeypatch.setattr("tests.unit.audit.test_sealing.MONTH", month)
    (_, first), clock = sealed.auditor(), HandClock()
    DecisionLog.create(tmp_path, origin=sample.ORIGIN, clock=clock).close()
    with DecisionLog.open(tmp_path, clock=clock, auditors=[first]) as log:
        await log.append([sealed.asked(sealed.values())])
        clock.move(days=days)
        await log.append([sealed.asked(sealed.values(), clock.at)])
    fault = verify(tmp_path).fault
    assert fault is not None
    assert fault.reason == "SEALED_MONTH"


OPENING: dict[str, tuple[str, tuple[str, ...]]] = {
    "another entry's": ("SEALED_MISMATCH", SWAP),
    "not whole": ("SEALED_MISMATCH", ("UPDATE sealed SET part = substr(part, 1, 20)",)),
    "under a wrapped key that was changed": (
        "SEALED_MISMATCH",
        ("UPDATE sealed SET wrapped = randomblob(60)",),
    ),
    "under another entry's wrapped key": (
        "SEALED_MISMATCH",
        ("UPDATE sealed SET wrapped = (SELECT wrapped FROM sealed s WHERE s.idx = 1) WHERE idx = 0",),
    ),
    "gone": ("SEALED_MISSING", ("DELETE FROM sealed",)),
    "sealed with an epoch key that was changed": (
        "SEALED_MISMATCH",
        ("UPDATE epoch SET sealed = randomblob(80)",),
    ),
}


@pytest.mark.parametrize(("reason", "statements"), OPENING.values(), ids=OPENING)
async def test_an_auditor_is_told_that_what_is_sealed_is(
    tmp_path: Path, reason: str, statements: tuple[str, ...]
) -> None:
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())], [sealed.asked(sealed.values())]])
    sample.tamper(tmp_path, *statements)
    assert refusal(tmp_path, 0, key) == reason


async def test_a_part_copied_with_its_keys_into_another_log_does_not_open_there(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    draft = sealed.asked(sealed.values())
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    await sealed.write(here, [first], [[draft]])
    (source,) = sealed.rows(here, "epoch")
    part = Sealer("other.example/log", [first])
    copied = part.seal(draft, "2030-05-01T12:00:00.000Z")
    assert copied is not None
    with LogReader.open(here) as reader:
        value = decode(0, reader.entry(0))
    assert copied.hash.hex() != value["sealed"]["hash"]
    sample.tamper(here, "UPDATE sealed SET key_id = ?, wrapped = ?, part = ?", arguments=tuple(copied))
    sample.tamper(here, "UPDATE epoch SET key_id = ?, sealed = ?", arguments=(copied.key_id, part.unwritten[0].sealed))
    assert source[1] != copied.key_id
    assert refusal(here, 0, key) == "SEALED_MISMATCH"


def test_clear_values_stand_in_no_text_that_a_traceback_could_show() -> None:
    disclosures = sealed.values()
    draft = sealed.asked(disclosures)
    key, _ = sealed.auditor()
    clear = Clear(
        index=0, inquiry_id="i", plate=sealed.PLATE, state="CA", case_number=sealed.CASE, authority_reference="x",
        query=None, disclosures=disclosures,  # type: ignore[arg-type]
    )  # fmt: skip
    shown = repr((disclosures, dataclasses.replace(draft, body=draft.body), clear, key))
    assert sealed.PLATE not in shown
    assert sealed.CASE not in shown
    assert repr(disclosures[0].salt) not in shown


async def test_one_unsealer_opens_each_epoch_key_once(tmp_path: Path) -> None:
    key, first = sealed.auditor()
    await sealed.write(tmp_path, [first], [[sealed.asked(sealed.values())] for _ in range(3)])
    with LogReader.open(tmp_path) as reader:
        unsealer = Unsealer(reader, key)
        plates = [unsealer.clear(0).plate]
        reader._db.close()
        reader._db = sqlite3.connect(f"{(tmp_path / 'log.db').as_uri()}?mode=ro", uri=True)
        plates += [unsealer.clear(i).plate for i in (1, 2)]
        assert len(unsealer._opened) == 1
    assert plates == [sealed.PLATE] * 3
