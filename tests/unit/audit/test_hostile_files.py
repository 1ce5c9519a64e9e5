"""Files made to break an auditor's tools: each is refused with a reason, none is waited for, none ends in a defect."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from audit.hashes import reading
from audit.importing import read_export
from audit.review import weeks_of
from audit.seen import seen_heads
from audit.store import SCHEMA
from audit.tiles import TileFolder, tile_path
from audit.verify import verify
from audit.witness import DB_NAME, WitnessState
from cli.audit import audit
from comity.errors import ComityError, InvalidInput, LogFault
from identity.auditors import write_auditor_key
from tests.unit.audit import sealed
from tests.unit.audit.sample import START, Forger

_LOOSE = ((" STRICT, WITHOUT", " WITHOUT"), (" STRICT", ""), (" NOT NULL", ""), (" CHECK(k=1)", ""))


def forge(folder: Path, change: str, value: object) -> None:
    """One value of a log is of another type than its table allows, and the table says what it always said."""

    def say(db: sqlite3.Connection, replaced: tuple[tuple[str, str], ...]) -> None:
        db.execute("PRAGMA writable_schema=ON")
        for name, sql in SCHEMA.items():
            for old, new in replaced:
                sql = sql.replace(old, new)
            db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
        db.commit()

    for step in (lambda db: say(db, _LOOSE), lambda db: db.execute(change, (value,)), lambda db: say(db, ())):
        with contextlib.closing(sqlite3.connect(folder / "log.db")) as db:
            step(db)
            db.commit()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    key, auditor = sealed.auditor()
    write_auditor_key(tmp_path / "auditor.pem", key.private)
    made = tmp_path / "log"
    made.mkdir()
    await sealed.write(made, [auditor], [[START], [sealed.asked(sealed.values())], [sealed.asked(sealed.values())]])
    return made


FORGED = {
    "an entry is nothing": ("UPDATE leaf SET entry = ? WHERE idx = 1", None),
    "an entry is text": ("UPDATE leaf SET entry = ? WHERE idx = 1", '"type":"inquiry"'),
    "a hash is a number": ("UPDATE leaf SET hash = ? WHERE idx = 1", 7),
    "the head is text": ("UPDATE head SET checkpoint = ?", "x"),
    "an inquiry's index is text": ("UPDATE inquiry SET idx = ?", "x"),
    "an inquiry's index is broken": ("UPDATE inquiry SET idx = ?", 1.5),
    "a wrapped key is a number": ("UPDATE sealed SET wrapped = ?", 2**40),
    "a wrapped key is text": ("UPDATE sealed SET wrapped = ?", "x"),
    "a sealed part is nothing": ("UPDATE sealed SET part = ?", None),
    "a part's key is a number": ("UPDATE sealed SET key_id = ?", 1),
    "an epoch's key is a number": ("UPDATE epoch SET sealed = ?", 2**40),
    "an epoch's month is nothing": ("UPDATE epoch SET month = ?", None),
}
COMMANDS = (
    ("verify", "LOG"),
    ("list", "LOG", "--no-index"),
    ("show", "LOG", "1", "--unseal", "--key", "KEY"),
    ("export", "LOG", "--out", "OUT"),
    ("watch", "LOG"),
    ("review", "queue", "LOG"),
)


@pytest.mark.parametrize(("change", "value"), FORGED.values(), ids=FORGED)
def test_a_value_of_another_type_than_its_table_s_is_a_named_fault_for_every_command(
    folder: Path, change: str, value: object
) -> None:
    forge(folder, change, value)
    assert verify(folder).fault is not None
    places = {"LOG": str(folder), "KEY": str(folder.parent / "auditor.pem"), "OUT": str(folder.parent / "out.jsonl")}
    for command in COMMANDS:
        result = CliRunner(env={"XDG_CACHE_HOME": str(folder.parent)}).invoke(
            audit, [places.get(w, w) for w in command]
        )
        assert result.exception is None or isinstance(result.exception, ComityError | SystemExit), command


def test_a_log_whose_last_entry_is_the_oldest_has_no_weeks(tmp_path: Path) -> None:
    forger = Forger(tmp_path).add(START, at="2030-05-01T12:00:00.000Z").add(START, at="2029-05-01T12:00:00.000Z")
    with reading(forger.write()) as reader, pytest.raises(LogFault) as caught:
        weeks_of(reader)
    assert caught.value.reason == "TIME_ORDER"


def test_a_clock_said_to_be_behind_by_more_years_than_there_are_is_no_entry_s(tmp_path: Path) -> None:
    folder = Forger(tmp_path).add(START, clock_behind_ms=2**53 - 1).write()
    fault = verify(folder).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (0, "BAD_FORM")


def witness_memory(path: Path) -> Path:
    WitnessState.create(path)
    return path


def test_a_witness_s_memory_that_holds_a_number_for_a_note_is_none(tmp_path: Path) -> None:
    path = witness_memory(tmp_path / DB_NAME)
    with contextlib.closing(sqlite3.connect(path)) as db:
        [sql] = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'head'").fetchone()
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT, ', '') WHERE name = 'head'")
        db.commit()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO head VALUES ('x', 1, ?)", (2**40,))  # bytes(2**40) would ask for a terabyte
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'head'", (sql,))
        db.commit()
    refused(path)


def test_a_witness_s_memory_in_which_a_view_stands_for_a_table_is_none(tmp_path: Path) -> None:
    path = witness_memory(tmp_path / DB_NAME)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT x'00' AS note FROM n"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE head")
        db.execute(f"CREATE VIEW head AS {endless}")
        db.commit()
    refused(path)


def refused(path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        seen_heads(path)
    assert caught.value.reason == "BAD_WITNESSED"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ComityError):
        seen_heads(tmp_path / "pipe")


@pytest.mark.parametrize("what", ["a pipe", "a link to what never ends", "a tile that is too long", "a short one"])
def test_what_is_no_tile_is_neither_waited_for_nor_read_whole(tmp_path: Path, what: str) -> None:
    path = tmp_path / tile_path(0, 0)
    path.parent.mkdir(parents=True)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a link to what never ends":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(bytes(8193 if "long" in what else 8191))
    with pytest.raises(LogFault) as caught:
        TileFolder(tmp_path).hashes(256).subtree(0, 0)
    assert caught.value.reason == "BAD_TILE"


def test_a_number_of_thousands_of_digits_in_an_audit_export_is_none(tmp_path: Path) -> None:
    head = "ID,Name,Org Name,Total Networks Searched,Time Frame,License Plate,Reason,Case #,Search Time"
    row = '1,A,Town PD,"1{}",x,7ABC123,theft,26-1,"01/31/2026, 01:02:03 PM UTC"'.format(",000" * 2000)
    path = tmp_path / "export.csv"
    path.write_text(f"{head}\n{row}\n")
    [search] = read_export(path).searches
    assert search.networks is None
