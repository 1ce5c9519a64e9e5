"""One SQLite file of detections: its schema, its connections and what its faults mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from comity.errors import ConfigError
from node.store.interface import StoreError

APPLICATION_ID = 0x436D7479
SCHEMA_VERSION = 1
BUSY_S = 10.0

# A heap with two indexes: a clustered table costs nine times the bytes written. Times are ms UTC, lat and lon
# 1e-7 degrees, conf 0 to 1000; region, camera, source, make and colour are word.id.
_SCHEMA = """
CREATE TABLE word(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE(kind, text));
CREATE TABLE det(skel TEXT NOT NULL, captured_at INTEGER NOT NULL, uid INTEGER NOT NULL, plate TEXT NOT NULL,
  region INTEGER NOT NULL, camera INTEGER NOT NULL, source INTEGER NOT NULL, lat INTEGER, lon INTEGER,
  conf INTEGER, make INTEGER, colour INTEGER, image TEXT);
CREATE UNIQUE INDEX det_k ON det(skel, captured_at, uid);
CREATE INDEX det_c ON det(camera, captured_at, plate);
"""


class Segment:
    """One file: a writer behind a lock, and readers that are lent to one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
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
        with _faults():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
            with contextlib.closing(connection):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                connection.execute("COMMIT")
                _check(connection, path)

    def open(self) -> None:
        """Return if the file can be read.

        Raises:
            StoreError: it cannot.
            ConfigError: it is something else, or of another version.
        """
        with self.reading() as connection:
            _check(connection, self.path)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, for one thread at a time; readers do not wait for the writer.

        Raises:
            StoreError: closed, or whatever SQLite cannot do.
        """
        with self._pool_lock:
            if self._closed:
                raise _closed()
            connection = self._idle.pop() if self._idle else None
        with _faults():
            connection = connection or self._connect(query_only=True)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is committed, and durable, when the block ends without error.

        Raises:
            StoreError: nothing was written.
        """
        with self._write_lock, _faults():
            if self._closed:
                raise _closed()
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

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._write_lock, self._pool_lock, _faults():
            self._closed = True
            for connection in (*self._idle, *((self._writer,) if self._writer else ())):
                connection.close()
            self._idle, self._writer = [], None

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool_lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _connect(self, *, query_only: bool) -> sqlite3.Connection:
        # mode=rw: a file that has gone is an error, not a new and empty store.
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False, cached_statements=32
        )
        try:
            for pragma in ("synchronous=FULL", "secure_delete=ON", "trusted_schema=OFF", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            if query_only:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise ConfigError(f"{path.name} is not a detection store of version {SCHEMA_VERSION}", reason="BAD_STORE")


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
def _faults() -> Iterator[None]:
    """SQLite's and the system's errors as StoreError."""
    try:
        yield
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        name = getattr(e, "sqlite_errorname", type(e).__name__)
        raise StoreError(f"the detection store failed: {name}", reason=_REASONS.get(code)) from None
    except OSError as e:
        raise StoreError(f"the detection store failed: {e.strerror}") from None
