"""The log's file: SQLite in WAL mode, one writer, one transaction for entries, hashes, side index and signed head."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit import sealed_store
from audit.room import Room
from audit.sealed_store import SealedRows
from audit.tree import HASH_BYTES
from comity.errors import ConfigError, LogFault
from identity import files

DB_NAME = "log.db"
# hash before entry: reading all hashes then follows no entry's overflow pages
SCHEMA = {
    "leaf": "CREATE TABLE leaf(idx INTEGER PRIMARY KEY, hash BLOB NOT NULL, entry BLOB NOT NULL) STRICT",
    "head": (
        "CREATE TABLE head(k INTEGER PRIMARY KEY CHECK(k=1), size INTEGER NOT NULL, checkpoint BLOB NOT NULL) STRICT"
    ),
    "inquiry": "CREATE TABLE inquiry(inquiry_id TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    **sealed_store.TABLES,
}
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",
    "PRAGMA wal_autocheckpoint=20000",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA secure_delete=ON",
)
_BUSY_S = 5.0  # a reader that recovers the WAL holds it this long at most
_MAX_VALUE_BYTES = 1_000_000  # a corrupt length asks for no more memory than this


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """Where a log's files are: `log.db`, `log.key`, `log.vkey` and `log.lock` in one folder."""

    db: Path
    key: Path
    vkey: Path
    lock: Path

    @classmethod
    def locate(cls, path: Path) -> LogFiles:
        """The files of the log at `path`: its folder, or the database file in it under any name."""
        db = path / DB_NAME if path.is_dir() else path
        return cls(db=db, key=db.with_name("log.key"), vkey=db.with_name("log.vkey"), lock=db.with_name("log.lock"))


class Store:
    """The one writer's connection. Held by one process: a second is refused while this one lives.

    `commit` raises whatever SQLite raises; after that the store must not be used again, nor the commit retried.
    """

    def __init__(self, where: LogFiles) -> None:
        self.where = where
        self._room = Room(where.db.with_name(f"{where.db.name}-wal"))
        self._lock = _exclusive(where)
        try:
            if stat.S_IMODE(where.db.stat().st_mode) & 0o077:
                raise ConfigError(f"{where.db} may be read by others: run chmod 600 on it", reason="LOG_EXPOSED")
            self._db = _connect(where.db)
            check_schema(self._db)
        except BaseException as e:
            os.close(self._lock)
            if isinstance(e, FileNotFoundError):
                raise ConfigError(f"there is no log at {where.db}: create it first", reason="NO_LOG") from None
            if isinstance(e, sqlite3.Error):
                raise LogFault(f"the log cannot be read: {e}", reason="LOG_UNREADABLE") from None
            raise

    @staticmethod
    def create(where: LogFiles, checkpoint: bytes) -> None:
        """An empty log is at `where`, whole or not at all; `checkpoint` is its signed head of size 0.

        Raises:
            ConfigError: LOG_EXISTS, LOG_IN_USE or FILE_UNWRITABLE.
        """
        lock = _exclusive(where)
        draft = where.db.with_name(f"{where.db.name}.new")
        try:
            if where.db.exists():
                raise ConfigError(f"{where.db} exists already", reason="LOG_EXISTS")
            draft.unlink(missing_ok=True)
            files.write_new(draft, b"", mode=files.PRIVATE)
            with contextlib.closing(_connect(draft)) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("BEGIN IMMEDIATE")
                for statement in SCHEMA.values():
                    db.execute(statement)
                db.execute("INSERT INTO head(k, size, checkpoint) VALUES (1, 0, ?)", (checkpoint,))
                db.execute("COMMIT")
            draft.rename(where.db)
            _sync_folder(where.db.parent)
        except (OSError, sqlite3.Error) as e:
            raise ConfigError(f"cannot create {where.db}: {e}", reason="FILE_UNWRITABLE") from None
        finally:
            os.close(lock)

    def head(self) -> tuple[int, bytes]:
        """The size and the signed checkpoint of the last commit.

        Raises:
            LogFault: there is not exactly one (NO_HEAD).
        """
        return the_head(self._db)

    def leaf_hashes(self, first: int = 0) -> Iterator[bytes]:
        """Every stored leaf hash from index `first` on, in order; from 0 on, what stands below it is found too.

        Raises:
            LogFault: an index is missing (BAD_INDEX), or what is stored is no hash (BAD_HASH).
        """
        query = "SELECT idx, hash FROM leaf WHERE idx >= ? ORDER BY idx"
        for expected, (index, leaf) in enumerate(self._db.execute(query, (first or -(2**63),)), first):
            if index != expected:
                raise LogFault(f"entry {expected} is missing", index=expected, reason="BAD_INDEX")
            if type(leaf) is not bytes or len(leaf) != HASH_BYTES:
                raise LogFault(f"entry {index} has no hash", index=index, reason="BAD_HASH")
            yield leaf

    def last(self) -> tuple[bytes, bytes] | None:
        """The newest entry's stored hash and the entry; None if there is none."""
        row: tuple[bytes, bytes] | None = self._db.execute(
            "SELECT hash, entry FROM leaf ORDER BY idx DESC LIMIT 1"
        ).fetchone()
        return row

    def find_inquiry(self, inquiry_id: str) -> int | None:
        """The index of that inquiry's entry; None if it was never recorded."""
        row = self._db.execute("SELECT idx FROM inquiry WHERE inquiry_id = ?", (inquiry_id,)).fetchone()
        return None if row is None else row[0]

    def commit(
        self,
        first: int,
        entries: Sequence[bytes],
        hashes: Sequence[bytes],
        inquiries: Sequence[tuple[str, int]],
        checkpoint: bytes,
        sealed: SealedRows = sealed_store.NOTHING,
    ) -> None:
        """`entries` stand durably from index `first` on, with all that goes with them; or nothing was written.

        Raises:
            sqlite3.Error: it was not written, or it is not known whether it was.
            OSError: the disk failed before anything was.
            LogFault: somebody else moved the head (HEAD_MOVED).
        """
        self._room.make()
        db, size = self._db, first + len(entries)
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO leaf(idx, hash, entry) VALUES (?, ?, ?)",
            zip(range(first, size), hashes, entries, strict=True),
        )
        if inquiries:
            db.executemany("INSERT INTO inquiry(inquiry_id, idx) VALUES (?, ?)", inquiries)
        sealed.write(db)
        moved = db.execute(
            "UPDATE head SET size = ?, checkpoint = ? WHERE k = 1 AND size = ?", (size, checkpoint, first)
        )
        if moved.rowcount != 1:
            raise LogFault("another writer moved the log's head", reason="HEAD_MOVED")
        db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file; the WAL is folded into it. Never after a failed commit."""
        self._room.close()
        self._db.close()
        os.close(self._lock)


def connect_read_only(db: Path, *, at_rest: bool) -> sqlite3.Connection:
    """A connection that cannot write. `at_rest`: the file alone, without locks and without files made beside it."""
    mode = "mode=ro&immutable=1" if at_rest else "mode=ro"
    return _connection(db, mode)


def check_schema(db: sqlite3.Connection) -> None:
    """Return if the file holds the log's tables and nothing else: no view or trigger stands in for them.

    Raises:
        LogFault: BAD_SCHEMA.
    """
    found = set(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    if found != set(SCHEMA.items()):
        raise LogFault("not the file of a decision log: its tables differ", reason="BAD_SCHEMA")


def the_head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """The size and the signed checkpoint in the file.

    Raises:
        LogFault: there is not exactly one (NO_HEAD).
    """
    rows = db.execute("SELECT k, size, checkpoint FROM head").fetchall()
    if len(rows) != 1 or rows[0][0] != 1 or type(rows[0][1]) is not int or type(rows[0][2]) is not bytes:
        raise LogFault("the log holds no signed head", reason="NO_HEAD")
    return rows[0][1], rows[0][2]


def _connect(db: Path) -> sqlite3.Connection:
    os.stat(db)
    connection = _connection(db, "mode=rw")
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    return connection


def _connection(db: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{db.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,  # made by whoever opens the log, used by the one thread that writes it
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
    return connection


def _exclusive(where: LogFiles) -> int:
    """An open file that carries the log's lock. Not the database itself: closing it would drop SQLite's own locks."""
    try:
        lock = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE)
    except FileNotFoundError:
        raise ConfigError(f"there is no folder {where.lock.parent}", reason="NO_LOG") from None
    except OSError as e:
        raise ConfigError(f"cannot open {where.lock}: {e.strerror}", reason="FILE_UNWRITABLE") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConfigError(
            f"another process writes the log at {where.db}: stop that program first", reason="LOG_IN_USE"
        ) from None
    return lock


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
