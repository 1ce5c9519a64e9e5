"""Signed outcomes kept for as long as their inquiry may be delivered again, so that nothing is looked up twice.

They hold detections, so they are apart from the log, overwritten when they go, and never kept past the retention.
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import threading
from pathlib import Path

from comity import instants
from comity.errors import Unavailable
from comity.outcome import KIND_FROM_WIRE, KIND_TO_WIRE, Coverage
from node.model import Signed

FILE = "kept.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept(
  inquiry_id TEXT PRIMARY KEY, inquiry_hash BLOB NOT NULL, kind INTEGER NOT NULL, count INTEGER NOT NULL,
  begin_ms INTEGER, end_ms INTEGER, policy_digest TEXT NOT NULL, reason_code TEXT NOT NULL,
  payload_hash BLOB NOT NULL, envelope BLOB NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_until ON kept(until_ms);
"""


class Kept:
    """A table of outcomes by inquiry id. Methods block for a write: call them off the event loop."""

    def __init__(self, folder: Path) -> None:
        path = folder / FILE
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.executescript(_SCHEMA)

    def put(self, signed: Signed, until: dt.datetime) -> None:
        """Keep `signed` until then; durable when it returns.

        Raises:
            Unavailable: it cannot be written.
        """
        c = signed.coverage
        span = (instants.to_ms(c.begin), instants.to_ms(c.end)) if c else (None, None)
        row = (
            signed.inquiry_id,
            signed.inquiry_hash,
            KIND_TO_WIRE[signed.kind],
            signed.count,
            *span,
            signed.policy_digest,
            signed.reason_code,
            signed.payload_hash,
            signed.envelope,
            instants.to_ms(until),
        )
        try:
            with self._lock:
                self._db.execute("INSERT OR IGNORE INTO kept VALUES(?,?,?,?,?,?,?,?,?,?,?)", row)
        except sqlite3.Error:
            raise Unavailable("the answer cannot be kept", reason="KEPT_UNAVAILABLE") from None

    def get(self, inquiry_id: str, now: dt.datetime) -> Signed | None:
        """The outcome of that inquiry, without its receipt, or None if there is none or it is past its time.

        Raises:
            Unavailable: it cannot be read.
        """
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT * FROM kept WHERE inquiry_id=? AND until_ms>?", (inquiry_id, instants.to_ms(now))
                ).fetchone()
        except sqlite3.Error:
            raise Unavailable("kept answers cannot be read", reason="KEPT_UNAVAILABLE") from None
        if row is None:
            return None
        begin, end = row[4], row[5]
        return Signed(
            inquiry_id=row[0],
            inquiry_hash=row[1],
            kind=KIND_FROM_WIRE[row[2]],
            count=row[3],
            coverage=None if begin is None else Coverage(begin=instants.from_ms(begin), end=instants.from_ms(end)),
            policy_digest=row[6],
            reason_code=row[7],
            payload_hash=row[8],
            envelope=row[9],
            receipt=None,
        )

    def purge(self, now: dt.datetime) -> int:
        """Overwrite and remove what is past its time. Returns how many.

        Raises:
            Unavailable: it cannot be written.
        """
        try:
            with self._lock:
                gone = self._db.execute("DELETE FROM kept WHERE until_ms<=?", (instants.to_ms(now),)).rowcount
                if gone:
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            raise Unavailable("kept answers cannot be purged", reason="KEPT_UNAVAILABLE") from None
        return gone

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
