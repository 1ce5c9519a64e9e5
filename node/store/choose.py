"""A detection store by its URL: `sqlite:FOLDER`, under the state folder, or `postgresql://...`."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from comity.errors import ConfigError
from identity import files
from node.store.keeping import KeptStore
from node.store.moving import Movable
from node.store.rules import ClassRule
from node.store.sqlite import SqliteStore
from node.store.sqlite_moving import SqliteMoving

if TYPE_CHECKING:
    from node.store.postgres import PostgresStore
    from node.store.postgres_address import PostgresAddress

DEFAULT = "sqlite:store"
MAX_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAt:
    """One store: a folder, or else a schema in a PostgreSQL database. `words` say where, without a secret."""

    words: str
    folder: Path | None
    address: PostgresAddress | None = field(default=None)

    @classmethod
    def parse(cls, url: str, state: Path, *, password_file: str = "") -> StoreAt:
        """The store that `url` names for the node of this state folder; relative paths are under that.

        Raises:
            ConfigError: BAD_STORE_URL, PASSWORD_IN_URL, TLS_REQUIRED; NO_DRIVER: psycopg is not installed; or the
                password's file cannot be read, or others can read it.
        """
        scheme, _, rest = url.partition(":")
        if scheme == "sqlite":
            if not rest or rest.startswith("//"):
                raise ConfigError("a store in files is sqlite:FOLDER", reason="BAD_STORE_URL")
            folder = state / rest
            return cls(words=f"sqlite:{folder}", folder=folder)
        if scheme not in ("postgresql", "postgres"):
            raise ConfigError("store must be sqlite:FOLDER or postgresql://...", reason="BAD_STORE_URL")
        _postgres()
        from node.store.postgres_address import PostgresAddress

        password = _password(state / password_file) if password_file else ""
        address = PostgresAddress.parse(url, password=password)
        return cls(words=f"postgresql at {address.words}", folder=None, address=address)

    def create(self, *, agency: str, node: str, now: dt.datetime) -> int:
        """Make the store if need be, and bring it to this program's form; how many versions forward it is.

        Raises:
            ConfigError: what is there is something else, another node's, or a later program's.
            StoreError: it was not done.
        """
        if self.folder is not None:
            SqliteStore.create(self.folder)
            return 0
        assert self.address is not None
        return _postgres().create(self.address, agency=agency, node=node, now=now)

    def open(
        self,
        *,
        agency: str,
        node: str,
        retention_s: int,
        clock: Callable[[], dt.datetime],
        rules: Sequence[ClassRule] = (),
    ) -> KeptStore:
        """The store of this node; `clock` returns aware UTC.

        Raises:
            ConfigError: there is none, or it is not fit.
            StoreError: it cannot be read.
        """
        if self.folder is not None:
            return SqliteStore.open(self.folder, retention_s=retention_s, clock=clock, rules=rules)
        assert self.address is not None
        return _postgres().open(
            self.address, agency=agency, node=node, retention_s=retention_s, clock=clock, rules=rules
        )

    def moving(self, *, agency: str, node: str, retention_s: int, clock: Callable[[], dt.datetime]) -> Movable:
        """All rows of this node's store, to be copied from or to.

        Raises:
            ConfigError, StoreError: as `open`.
        """
        if self.folder is not None:
            return SqliteMoving(self.folder, retention_s=retention_s, clock=clock)
        assert self.address is not None
        kind = _postgres()
        from node.store.postgres_moving import PostgresMoving

        return PostgresMoving(kind.open(self.address, agency=agency, node=node, retention_s=retention_s, clock=clock))


def _postgres() -> type[PostgresStore]:
    # Only when asked for: a node with files of its own runs without the driver.
    try:
        from node.store.postgres import PostgresStore
    except ImportError:
        raise ConfigError(
            "a store in PostgreSQL needs its driver: pip install 'comity[postgres]'", reason="NO_DRIVER"
        ) from None
    return PostgresStore


def _password(path: Path) -> str:
    data = files.read(path, max_bytes=MAX_PASSWORD_BYTES, private=True)
    with contextlib.suppress(UnicodeDecodeError):
        password = data.decode().strip("\r\n")
        if password and password.isprintable():
            return password
    raise ConfigError(f"{path} must hold one password on one line", reason="BAD_PASSWORD_FILE")
