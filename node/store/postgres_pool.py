"""Connections to PostgreSQL, lent to one thread at a time, and what the server's faults mean."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg

from comity.errors import ConfigError
from node.store.interface import StoreError
from node.store.postgres_address import PostgresAddress

Connection = psycopg.Connection[tuple[Any, ...]]
MAX_CONNECTIONS = 8
CONNECT_S = 5
STATEMENT_S = 30
LOCK_S = 5
LONG_S = 3600.0  # an index of a month, a purge: the longest that housekeeping asks for
GRACE_S = 5.0  # the server ends a statement at its limit; one that does not answer by then is given up
LEAST_VERSION = 150_000
_INCOMING = """
CREATE TEMP TABLE incoming(skel text COLLATE "C", captured_at bigint, uid bigint, plate text COLLATE "C",
  region integer, camera integer, source integer, lat integer, lon integer, conf integer, make integer,
  colour integer, image text) ON COMMIT DELETE ROWS
"""


class Pool:
    """At most `size` connections at once, each with its own temporary table `incoming`.

    It connects when somebody asks and not before, so that after an outage the first search finds the server again.
    """

    def __init__(self, address: PostgresAddress, schema: str, *, size: int = MAX_CONNECTIONS) -> None:
        self._address = address
        self.schema = schema
        self._places = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._watch = Watch()
        self._closed = False

    @contextlib.contextmanager
    def lent(self, *, most_s: float = STATEMENT_S) -> Iterator[Connection]:
        """A connection without a transaction, for statements of `most_s` at most.

        Raises:
            StoreError: STORE_CLOSED, STORE_BUSY, or whatever the server cannot do.
        """
        if self._closed:
            raise _closed()
        if not self._places.acquire(timeout=CONNECT_S):
            raise StoreError("too many ask the detection store at once", reason="STORE_BUSY")
        try:
            with faults():
                connection = self._take()
                try:
                    with self._watch.over(connection, most_s + GRACE_S):
                        yield connection
                except BaseException:
                    connection.close()  # it may be broken, or half-way through something
                    raise
                self._give_back(connection)
        finally:
            self._places.release()

    @contextlib.contextmanager
    def own(self) -> Iterator[Connection]:
        """A connection outside the pool, for long work; its locks and temporary tables end with the block.

        Raises:
            StoreError: as `lent`.
        """
        if self._closed:
            raise _closed()
        with faults(), contextlib.closing(connect(self._address, self.schema)) as connection:
            run(connection, f"SET statement_timeout = '{int(LONG_S)}s'")
            with self._watch.over(connection, LONG_S + GRACE_S):
                yield connection

    def close(self) -> None:
        """Let go of all connections, those in use when they come back; closing twice does nothing."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._watch.close()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                fresh = connect(self._address, self.schema)
                run(fresh, _INCOMING)
                return fresh
            if not _gone(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


class Watch:
    """Ends a connection whose server went silent: without this, a machine that hangs would hang its searches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[int, tuple[float, int]] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextlib.contextmanager
    def over(self, connection: Connection, most_s: float) -> Iterator[None]:
        """Within the block, the connection breaks once `most_s` have passed."""
        key = id(connection)
        with self._lock:
            self._until[key] = (time.monotonic() + most_s, connection.fileno())
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._until.pop(key, None)

    def close(self) -> None:
        """The thread ends."""
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        while not self._wake.wait(1.0):
            now = time.monotonic()
            with self._lock:  # held while cutting, so that the number is still this connection's
                for key in [k for k, (until, _) in self._until.items() if until < now]:
                    _, descriptor = self._until.pop(key)
                    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as end:
                        end.shutdown(socket.SHUT_RDWR)


def connect(address: PostgresAddress, schema: str) -> Connection:
    """A connection whose statements see `schema` first.

    Raises:
        psycopg.Error: there is none.
    """
    return psycopg.connect(_text(address), **_arguments(address, schema))


def check_server(connection: Connection) -> None:
    """Return if what this server acknowledges is durable and read as it was written.

    Raises:
        ConfigError: STORE_UNFIT: too old, fsync off, or not UTF-8.
    """
    row = run(
        connection, "SELECT current_setting('fsync'), current_setting('full_page_writes'), getdatabaseencoding()"
    ).fetchone()
    if connection.info.server_version < LEAST_VERSION:
        raise ConfigError("the store needs PostgreSQL 15 or later", reason="STORE_UNFIT")
    if row != ("on", "on", "UTF8"):
        raise ConfigError(
            "the store needs a server with fsync and full_page_writes on, and a database in UTF8: what it"
            " acknowledges must survive a power cut",
            reason="STORE_UNFIT",
        )


def run(connection: Connection, statement: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
    """The cursor of one statement. Bytes, because its text is put together from constants and names checked here."""
    return connection.execute(statement.encode(), values)


def _arguments(address: PostgresAddress, schema: str) -> dict[str, Any]:
    settings = {
        "search_path": f'"{schema}"',
        "synchronous_commit": "on",
        "statement_timeout": f"{STATEMENT_S}s",
        "lock_timeout": f"{LOCK_S}s",
        "idle_in_transaction_session_timeout": f"{int(LONG_S)}s",
        "jit": "off",  # compiling a plan takes longer than any of these searches
        "timezone": "UTC",
        "client_encoding": "UTF8",
    }
    return {
        "autocommit": True,
        "connect_timeout": CONNECT_S,
        "application_name": "comity",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": " ".join(f"-c {key}={value}" for key, value in settings.items()),
    } | ({"password": address.password} if address.password else {})


def _text(address: PostgresAddress) -> str:
    return psycopg.conninfo.make_conninfo("", **dict(address.settings))


def _gone(connection: Connection) -> bool:
    """Told without a round trip: on an idle connection there is nothing to read, unless the server has gone."""
    return connection.closed or bool(select.select([connection.fileno()], [], [], 0)[0])


_REASONS = {
    "53100": "STORE_FULL",
    "XX001": "STORE_CORRUPT",
    "XX002": "STORE_CORRUPT",
    "55P03": "STORE_BUSY",
    "57014": "STORE_BUSY",
    "40001": "STORE_BUSY",
    "40P01": "STORE_BUSY",
    "53300": "STORE_BUSY",
}


# Of a connection that was never made the driver gives no code, only what it or the server wrote. Of that nothing goes
# on but which of these it is; a server that speaks another language is met with the last words.
_UNCONNECTED = (
    ("password authentication failed", "the server does not accept the password or the user"),
    ("no password supplied", "the server asks for a password: store_password_file, or PGPASSWORD"),
    ("no pg_hba.conf entry", "the server lets this user or address not in (pg_hba.conf)"),
    ("certificate verify failed", "the server's certificate does not prove who it is (sslrootcert)"),
    ("does not support ssl", "the server takes no TLS"),
    ("could not translate host name", "there is no host of that name"),
    ("connection refused", "nothing listens at that address"),
    ("timeout expired", "the server did not answer in time"),
    ("does not exist", "there is no such database or user on the server"),
)


def _unconnected(said: str) -> str:
    said = said.lower()
    return next((words for sign, words in _UNCONNECTED if sign in said), "the connection was lost or never made")


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """The driver's errors as StoreError. Their texts may hold a row, and so a plate: only the code goes on."""
    try:
        yield
    except psycopg.Error as e:
        name = e.sqlstate or type(e).__name__
        if e.sqlstate is None and isinstance(e, psycopg.OperationalError):
            name = f"{_unconnected(str(e))}; look at `store` in node.toml and at the server's own log"
        raise StoreError(f"the detection store failed: {name}", reason=_REASONS.get(e.sqlstate or "")) from None
    except OSError as e:
        raise StoreError(f"the detection store failed: {e.strerror}") from None


def _closed() -> StoreError:
    return StoreError("the detection store is closed", reason="STORE_CLOSED")
