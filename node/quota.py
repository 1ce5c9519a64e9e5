"""Searches a day under a rule that limits them, counted at the node itself: a broker that does not count spends none.

In a file of their own, so that a restart gives nobody a second day's searches. A count is durable before its search
is recorded, and what a search took is not given back: after a crash fewer may be left, never more.
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from comity.decision import NO_OBLIGATIONS, Decision, Effect
from comity.errors import ConfigError, Unavailable

FILE = "quota.db"
KEPT_DAYS = 2  # a clock that is set back an hour at midnight finds yesterday's counts
_SCHEMA = """
CREATE TABLE IF NOT EXISTS taken(
  day TEXT NOT NULL, agency TEXT NOT NULL, rule TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(day, agency, rule)) WITHOUT ROWID
"""


class Quotas:
    """Counts by UTC day, agency and rule. Safe from several threads; one process at a time."""

    def __init__(self, folder: Path) -> None:
        path = folder / FILE
        self._lock = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error):
            raise ConfigError(f"{path} cannot be used", reason="QUOTA_UNUSABLE") from None

    def take(self, agency: str, quotas: Sequence[tuple[str, int]], day: dt.date) -> tuple[str, int] | None:
        """None, and one is counted under every rule; or the first rule whose searches are spent, and nothing is.

        `quotas`: rules with the searches that each allows on a day.

        Raises:
            Unavailable: QUOTA_UNAVAILABLE: it could not be counted for certain, so nothing is permitted.
        """
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                oldest = day - dt.timedelta(days=KEPT_DAYS)
                self._db.execute("DELETE FROM taken WHERE day < ?", (oldest.isoformat(),))
                for rule, most in quotas:
                    if self._taken(agency, rule, day) >= most:
                        return rule, most
                for rule, _ in quotas:
                    self._db.execute(
                        "INSERT INTO taken VALUES(?,?,?,1) ON CONFLICT DO UPDATE SET count = count + 1",
                        (day.isoformat(), agency, rule),
                    )
        except sqlite3.Error:
            raise Unavailable("searches of the day cannot be counted", reason="QUOTA_UNAVAILABLE") from None
        return None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _taken(self, agency: str, rule: str, day: dt.date) -> int:
        row = self._db.execute(
            "SELECT count FROM taken WHERE day=? AND agency=? AND rule=?", (day.isoformat(), agency, rule)
        ).fetchone()
        return int(row[0]) if row else 0


def spent(decision: Decision, rule: str, most: int) -> Decision:
    """The refusal in place of a permit whose rule's searches of the day are spent at this node."""
    return replace(
        decision,
        effect=Effect.DENY,
        obligations=NO_OBLIGATIONS,
        reason_code="QUOTA_SPENT",
        reason=f"refused: {rule} allows {most} searches a day of this agency here, and by the node's own count they"
        " are spent",
        quotas=(),
    )
