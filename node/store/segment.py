"""One SQLite file of detections: its schema, its connections and what its faults mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from comity.errors import ConfigError
from node.store.interface import StoreError
from node.store.rows import never_written
from node.store.sieve import GET, Marked, Sieve

APPLICATION_ID = 0x436D7479
# user_version says what a file is; a hot one becomes frozen in a transaction of its own, so that no process that
# has it open can write to it afterwards.
HOT, FROZEN, SEALED = 1, 2, 3
BUSY_S = 10.0
# A batch changes a page of each index for nearly every row, and a commit writes whole pages: small ones are fewer
# bytes. The log is copied into the file after CHECKPOINT_PAGES: a page that changes often is then copied once.
PAGE_BYTES = 1024
CHECKPOINT_PAGES = 32_000
MAX_IDLE = 4

# A heap with two indexes: a clustered table costs nine times the bytes written. Times are ms UTC, lat and lon
# 1e-7 degrees, conf 0 to 1000; region, camera, source, make and colour are word.id.
WORDS_AND_ROWS = """
CREATE TABLE word(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE(kind, text));
CREATE TABLE det(skel TEXT NOT NULL, captured_at INTEGER NOT NULL, uid INTEGER NOT NULL, plate TEXT NOT NULL,
  region INTEGER NOT NULL, camera INTEGER NOT NULL, source INTEGER NOT NULL, lat INTEGER, lon INTEGER,
  conf INTEGER, make INTEGER, colour INTEGER, image TEXT);
"""
_SCHEMA = f"""{WORDS_AND_ROWS}
CREATE UNIQUE INDEX det_k ON det(skel, captured_at, uid);
CREATE INDEX det_t ON det(captured_at, camera, plate);
"""


class SegmentGone(Exception):  # not an error: look at the manifest again
    """The segment is not part of the store any more, or not as it was: its rows are elsewhere."""


class Frozen(Exception):  # not an error: write to the next one
    """The hot segment takes no more rows."""


class Segment:
    """One file: a writer behind a lock, and readers that are lent to one thread at a time.

    `sealed`: it never changes and is only read.
    """

    def __init__(self, path: Path, *, sealed: bool = False) -> None:
        self.path = path
        self.sealed = sealed
        # Of a sealed one: the oldest time of a class, once it was asked for; None if it has none of it.
        self.first_of: dict[tuple[str, str], int | None] = {}
        self._tables: frozenset[str] | None = None
        self._words: dict[int, str] = {}
        self._cameras: dict[str, int] = {}
        self._sieve: tuple[Sieve | None] | None = None
        self._retired = False
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @classmethod
    def create(cls, path: Path) -> None:
        """Make the file with its schema, mode 0600; one that is there already is completed or left alone.

        Raises:
            StoreError: the file cannot be written.
            ConfigError: the file is something else.
        """
        with faults():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
            with contextlib.closing(connection):
                connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # so that a purge gives space back
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version={HOT}")
                connection.execute("COMMIT")
                _check(connection, path, (HOT, FROZEN))

    def open(self) -> None:
        """Return if the file can be read.

        Raises:
            StoreError: it cannot.
            ConfigError: it is something else, or of another version.
        """
        with self.reading() as connection:
            _check(connection, self.path, (SEALED,) if self.sealed else (HOT, FROZEN))

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, for one thread at a time; readers do not wait for the writer.

        Raises:
            SegmentGone: it was retired, or the file is not there.
            StoreError: closed, or whatever SQLite cannot do.
        """
        with faults():
            connection = self._lend()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def ask(self, statement: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        """All rows that `statement` selects; as in `reading`, without what a block around it costs a search.

        Raises:
            SegmentGone, StoreError: as `reading`.
        """
        connection = None
        try:
            connection = self._lend()
            rows = connection.execute(statement, values).fetchall()
        except BaseException as error:
            if connection is not None:
                connection.close()
            raise _foreign(error) from None
        self._give_back(connection)
        return rows

    def tables(self) -> frozenset[str]:
        """The tables and indexes that it has.

        Raises:
            SegmentGone, StoreError: as `reading`.
        """
        if self._tables is None:
            self._tables = frozenset(str(n) for (n,) in self.ask("SELECT name FROM sqlite_schema", {}))
        return self._tables

    def words(self, *, anew: bool = False) -> Mapping[int, str]:
        """The texts of its words by number; `anew` if one was missing, since a growing segment gets more.

        Raises:
            SegmentGone, StoreError: as `reading`; STORE_CORRUPT.
        """
        if anew or not self._words:
            found = cast(list[tuple[int, str, str]], self.ask("SELECT id, kind, text FROM word", {}))
            if not all(tuple(map(type, row)) == (int, str, str) for row in found):
                raise never_written()
            self._cameras = {text: id_ for id_, kind, text in found if kind == "camera"}
            self._words = {id_: text for id_, _, text in found}
        return self._words

    def cameras(self) -> Mapping[str, int]:
        """The numbers of the cameras of a sealed one.

        Raises:
            SegmentGone, StoreError: as `words`.
        """
        self.words()
        return self._cameras

    def sieve(self) -> Sieve | None:
        """Which skeletons it may hold; None if that is not known, as of one that grows or an earlier version sealed.

        Raises:
            SegmentGone, StoreError: as `reading`; STORE_CORRUPT.
        """
        if self._sieve is None:
            known = self.sealed and "sieve" in self.tables()
            self._sieve = (Sieve.parse(*(self.ask(GET, {}) or [(None, None)])[0]) if known else None,)
        return self._sieve[0]

    def among(self, of: Marked) -> list[str]:
        """The skeletons that it may hold, in their order; all of them if that is not known.

        Raises:
            SegmentGone, StoreError: as `sieve`.
        """
        sieve = self.sieve()
        return [mark[0] for mark in of] if sieve is None else sieve.kept(of)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is committed, and durable, when the block ends without error.

        Raises:
            SegmentGone: as `reading`.
            StoreError: nothing was written.
        """
        assert not self.sealed
        with self._write_lock, faults():
            self._still_open()
            connection = self._writer or self._connect(query_only=False)
            # Kept only after a commit: a connection that failed may hold a half-made transaction.
            self._writer = None
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._writer = connection

    def growing(self, connection: sqlite3.Connection) -> None:
        """Return if rows may be added in this transaction of `writing`.

        Raises:
            Frozen: they may not.
        """
        if connection.execute("PRAGMA user_version").fetchone()[0] != HOT:
            raise Frozen

    def freeze(self) -> None:
        """No process adds a row from now on. Freezing again does nothing.

        Raises:
            SegmentGone, StoreError: as `writing`.
        """
        with self.writing() as connection:
            connection.execute(f"PRAGMA user_version={FROZEN}")

    def settle(self) -> None:
        """Everything is in the main file, and pages without rows are the system's again; as far as readers let.

        Raises:
            SegmentGone, StoreError: as `writing`.
        """
        with self.writing():
            pass
        with self._write_lock, faults():
            if self._writer is not None:
                # A script, because `execute` steps once, which frees one page.
                self._writer.executescript("PRAGMA incremental_vacuum")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def retire(self) -> None:
        """As `close`, but those who come later are told that the rows are elsewhere."""
        self._retired = True
        self.close()

    def _still_open(self) -> None:
        if self._retired:
            raise SegmentGone
        if self._closed:
            raise _closed()

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._write_lock, self._pool_lock, faults():
            self._closed = True
            for connection in (*self._idle, *((self._writer,) if self._writer else ())):
                connection.close()
            self._idle, self._writer = [], None

    def _lend(self) -> sqlite3.Connection:
        with self._pool_lock:
            self._still_open()
            connection = self._idle.pop() if self._idle else None
        return connection or self._connect(query_only=True)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool_lock:
            if self._closed or len(self._idle) >= MAX_IDLE:
                connection.close()
            else:
                self._idle.append(connection)

    def _connect(self, *, query_only: bool) -> sqlite3.Connection:
        # mode=rw: a file that has gone is an error, not a new and empty store. immutable: no locks, no look for a WAL.
        uri = f"{self.path.absolute().as_uri()}?{'mode=ro&immutable=1' if self.sealed else 'mode=rw'}"
        try:
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False, cached_statements=32
            )
        except sqlite3.OperationalError:
            if self.path.exists():
                raise
            raise SegmentGone from None
        try:
            for pragma in ("synchronous=FULL", "secure_delete=ON", "trusted_schema=OFF", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(
                "PRAGMA query_only=ON" if query_only else f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}"
            )
        except BaseException:
            connection.close()
            raise
        return connection


def sync_folder(folder: Path) -> None:
    """Return when the folder's names are durable.

    Raises:
        OSError: they may not be.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(connection: sqlite3.Connection, path: Path, versions: tuple[int, ...]) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID or version not in versions:
        raise ConfigError(f"{path.name} is not a detection store of this version", reason="BAD_STORE")


def _closed() -> StoreError:
    return StoreError("the detection store is closed", reason="STORE_CLOSED")


_REASONS = {
    sqlite3.SQLITE_FULL: "STORE_FULL",
    sqlite3.SQLITE_CORRUPT: "STORE_CORRUPT",
    sqlite3.SQLITE_NOTADB: "STORE_CORRUPT",
    sqlite3.SQLITE_BUSY: "STORE_BUSY",
    sqlite3.SQLITE_LOCKED: "STORE_BUSY",
}


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """SQLite's and the system's errors as StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _foreign(error) from None


def _foreign(error: BaseException) -> BaseException:
    """SQLite's and the system's errors as StoreError, others as they are."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return StoreError(f"the detection store failed: {name}", reason=_REASONS.get(code))
    if isinstance(error, OSError):
        return StoreError(f"the detection store failed: {error.strerror}")
    return error
