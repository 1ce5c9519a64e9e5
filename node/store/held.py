"""Rows that a court or a preservation request keeps past the retention: `hold.db`, apart from what is searched.

No search reads it: what is held is for the court that ordered it, and is handed over by the agency's own people.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from comity.plate import Plate
from node.store.rows import first_ms
from node.store.segment import faults, sync_folder

FILE = "hold.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS held(hold TEXT NOT NULL, captured_at INTEGER NOT NULL, uid INTEGER NOT NULL,
  plate TEXT NOT NULL, state TEXT NOT NULL, camera TEXT NOT NULL, source TEXT NOT NULL, lat INTEGER, lon INTEGER,
  conf INTEGER, image TEXT, make TEXT, colour TEXT, PRIMARY KEY(hold, captured_at, uid, plate)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a hold covers: rows that meet all that is given. A plate covers what its skeleton covers, in its own
    state, in none that was read, or in any if it names none: a misread row may be the evidence."""

    plate: Plate | None = field(default=None, repr=False)
    camera: str = ""
    begin: dt.datetime | None = None
    end: dt.datetime | None = None

    def clause(self) -> tuple[str, dict[str, object]]:
        """A condition on `rows.SELECT`."""
        parts, values = ["TRUE"], dict[str, object]()
        if self.plate is not None:
            parts.append("d.skel = :hold_skel")
            values["hold_skel"] = self.plate.skeleton
            if self.plate.state:
                parts.append("coalesce(r.text, '') IN (:hold_state, '')")
                values["hold_state"] = self.plate.state
        if self.camera:
            parts.append("d.camera = (SELECT id FROM word WHERE kind = 'camera' AND text = :hold_camera)")
            values["hold_camera"] = self.camera
        if self.begin is not None:
            parts.append("d.captured_at >= :hold_begin")
            values["hold_begin"] = first_ms(self.begin)
        if self.end is not None:
            parts.append("d.captured_at < :hold_end")
            values["hold_end"] = first_ms(self.end)
        return " AND ".join(parts), values


class Held:
    """The rows held, by hold. `path` is made with mode 0600 when the first row is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, hold_id: str, rows: Iterable[tuple[object, ...]]) -> int:
        """How many of `rows` (as `rows.SELECT` gives them) are new to this hold; durable when this returns.

        Raises:
            StoreError: none of them may be purged.
        """
        first = next(iterator := iter(rows), None)
        if first is None:
            return 0
        with self._open(create=True) as connection:
            statement = f"INSERT INTO held VALUES (?{', ?' * 12}) ON CONFLICT DO NOTHING"  # noqa: S608  # nosec B608
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(statement, (hold_id, *first))
            connection.executemany(statement, ((hold_id, *row) for row in iterator))
            connection.execute("COMMIT")
            return connection.total_changes - before

    def release(self, over: Iterable[str]) -> int:
        """How many rows of the holds in `over` went; deleted bytes are overwritten in the file.

        Those of a hold that nobody knows any more stay: it may be lost, and not over.

        Raises:
            StoreError: they may still be there.
        """
        if not self._path.exists():
            return 0
        with self._open() as connection:
            connection.execute("CREATE TEMP TABLE goes(hold TEXT PRIMARY KEY)")
            connection.executemany("INSERT INTO goes VALUES (?)", [(h,) for h in over])
            gone = connection.execute("DELETE FROM held WHERE hold IN (SELECT hold FROM goes)").rowcount
            if gone:
                connection.executescript("PRAGMA incremental_vacuum")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return gone

    def counts(self) -> dict[str, int]:
        """Rows held, by hold.

        Raises:
            StoreError: they cannot be read.
        """
        if not self._path.exists():
            return {}
        with self._open() as connection:
            return dict(connection.execute("SELECT hold, count(*) FROM held GROUP BY hold"))

    @contextlib.contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        with faults():
            if create and not self._path.exists():
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                sync_folder(self._path.parent)
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                connection.execute(_SCHEMA)
                yield connection
