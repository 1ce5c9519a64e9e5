"""The files of a log: private, whole and its own, or it does not open; what readers see of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audit.log import DecisionLog
from audit.note import VerifierKey, verify_checkpoint
from audit.read import MAX_READ, LogReader
from audit.store import LogFiles, Store
from audit.tree import EMPTY_ROOT
from audit.verify import verify
from comity.errors import ComityError, ConfigError, InvalidInput, LogFault
from tests.unit.audit.sample import ORIGIN, START, HandClock, build, reopened, search, tamper, unsigned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty log, closed."""
    DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()).close()
    return tmp_path


def test_a_new_log_has_private_files_and_a_signed_empty_head(folder: Path) -> None:
    modes = {p.name: p.stat().st_mode & 0o777 for p in folder.iterdir()}
    assert modes == {"log.db": 0o600, "log.key": 0o600, "log.lock": 0o600, "log.vkey": 0o644}
    with reopened(folder) as log:
        key = VerifierKey.parse((folder / "log.vkey").read_text())
        checkpoint = verify_checkpoint(log.head.checkpoint, key)
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 0, EMPTY_ROOT)


def test_files_that_sqlite_adds_while_it_writes_are_private_too(folder: Path) -> None:
    with reopened(folder):
        modes = {p.name: p.stat().st_mode & 0o777 for p in folder.iterdir() if p.name.startswith("log.db")}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}


async def test_a_log_opens_again_with_all_that_was_written(tmp_path: Path) -> None:
    draft = unsigned()
    await build(tmp_path, search(draft))
    with reopened(tmp_path) as log:
        assert log.head.size == 5
        assert log.find_inquiry(draft.body["inquiry_id"]) == 0
        assert (await log.append([START])).first_index == 5


async def test_a_log_may_be_named_by_its_folder_or_its_file(folder: Path) -> None:
    with DecisionLog.open(folder / "log.db", clock=HandClock()) as log:
        await log.append([START])
    with LogReader.open(folder) as a, LogReader.open(folder / "log.db") as b:
        assert a.entries(0, 1) == b.entries(0, 1)


@pytest.mark.parametrize("missing", ["log.db", "log.key", "log.vkey"])
def test_a_log_without_one_of_its_files_does_not_open(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError):
        reopened(folder)


def test_serving_makes_no_log_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        reopened(tmp_path)
    assert refused.value.reason == "NO_LOG"
    assert list(tmp_path.iterdir()) == []


def test_a_log_is_never_made_over_another(folder: Path) -> None:
    before = (folder / "log.db").read_bytes()
    with pytest.raises(ConfigError) as refused:
        DecisionLog.create(folder, origin=ORIGIN, clock=HandClock())
    assert refused.value.reason == "LOG_EXISTS"
    (folder / "log.db").rename(folder / "moved.db")
    with pytest.raises(ConfigError) as refused:
        DecisionLog.create(folder, origin=ORIGIN, clock=HandClock())
    assert refused.value.reason == "FILE_EXISTS"
    assert (folder / "moved.db").read_bytes() == before


@pytest.mark.parametrize("name", ["log.db", "log.key"])
def test_a_log_whose_files_others_may_read_does_not_open(folder: Path, name: str) -> None:
    (folder / name).chmod(0o640)
    with pytest.raises(ConfigError) as refused:
        reopened(folder)
    assert refused.value.reason in ("LOG_EXPOSED", "KEY_EXPOSED")


def test_a_log_with_another_logs_key_does_not_open(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    DecisionLog.create(other, origin=ORIGIN, clock=HandClock()).close()
    os.replace(other / "log.key", folder / "log.key")
    with pytest.raises(ConfigError):
        reopened(folder)
    os.replace(other / "log.vkey", folder / "log.vkey")
    with pytest.raises(LogFault) as refused:
        reopened(folder)
    assert refused.value.reason == "NOT_SIGNED"


DAMAGE = {
    "a hash changed": ("WRONG_ROOT", "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 1"),
    "a hash cut short": ("BAD_HASH", "UPDATE leaf SET hash = zeroblob(31) WHERE idx = 1"),
    "an entry in the middle gone": ("BAD_INDEX", "DELETE FROM leaf WHERE idx = 1"),
    "the last entry gone": ("WRONG_SIZE", "DELETE FROM leaf WHERE idx = 4"),
    "an entry more than was signed": ("WRONG_SIZE", "INSERT INTO leaf SELECT 5, hash, entry FROM leaf WHERE idx = 4"),
    "the last entry changed": ("WRONG_HASH", "UPDATE leaf SET entry = x'7b7d' WHERE idx = 4"),
    "the head's size changed": ("WRONG_SIZE", "UPDATE head SET size = 4"),
    "the head gone": ("NO_HEAD", "DELETE FROM head"),
    "the head's note spoilt": ("BAD_CHECKPOINT", "UPDATE head SET checkpoint = zeroblob(9)"),
    "a table more": ("BAD_SCHEMA", "CREATE TABLE more(x)"),
    "a trigger": ("BAD_SCHEMA", "CREATE TRIGGER t AFTER INSERT ON leaf BEGIN DELETE FROM leaf; END"),
}


@pytest.mark.parametrize(("reason", "statement"), DAMAGE.values(), ids=DAMAGE)
async def test_a_log_does_not_open_with(tmp_path: Path, reason: str, statement: str) -> None:
    await build(tmp_path, search(unsigned()))
    tamper(tmp_path, statement)
    with pytest.raises(LogFault) as refused:
        reopened(tmp_path)
    assert refused.value.reason == reason
    with pytest.raises(LogFault):
        reopened(tmp_path)


def test_a_file_that_is_no_database_does_not_open(folder: Path) -> None:
    (folder / "log.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ComityError) as refused:
        reopened(folder)
    assert refused.value.reason == "LOG_UNREADABLE"


async def test_a_second_writer_is_refused_in_the_same_process_too(folder: Path) -> None:
    with reopened(folder):
        with pytest.raises(ConfigError) as refused:
            reopened(folder)
        assert refused.value.reason == "LOG_IN_USE"
        with pytest.raises(ConfigError) as refused:
            Store.create(LogFiles.locate(folder), b"")
        assert refused.value.reason == "LOG_IN_USE"
    reopened(folder).close()


async def test_readers_read_while_the_writer_runs_and_leave_nothing_beside_a_log_at_rest(folder: Path) -> None:
    with reopened(folder) as log, LogReader.open(folder) as reader:
        await log.append([START])
        assert reader.head() == (1, log.head.checkpoint)
        assert verify(folder).fault is None
    assert sorted(os.listdir(folder)) == ["log.db", "log.key", "log.lock", "log.vkey"]
    assert verify(folder).fault is None
    assert sorted(os.listdir(folder)) == ["log.db", "log.key", "log.lock", "log.vkey"]


async def test_a_reader_sees_one_moment_of_the_log(folder: Path) -> None:
    with reopened(folder) as log, LogReader.open(folder) as reader:
        await log.append([START])
        with reader.snapshot():
            size, _ = reader.head()
            await log.append([START])
            assert (reader.head()[0], len(reader.entries(0, 10))) == (size, 1)
        assert reader.head()[0] == 2


@pytest.mark.parametrize("bounds", [(-1, 1), (2, 1), (0, MAX_READ + 1), (0, 2**63)])
def test_a_range_that_is_none_or_too_large_is_refused(folder: Path, bounds: tuple[int, int]) -> None:
    with LogReader.open(folder) as reader:
        with pytest.raises(InvalidInput) as refused:
            reader.entries(*bounds)
        assert refused.value.reason == "BAD_RANGE"
