"""The housekeeping of a PostgreSQL store: months ahead, dictionaries of closed ones, and what it holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from comity.instants import from_ms
from node.store.postgres_months import ahead, closed, ensure, make_list, parts, sweep
from node.store.postgres_pool import Connection, Pool, run
from node.store.postgres_schema import citus, key_of
from node.store.sealing import Sealed
from node.store.status import PartStatus, StoreStatus

OPEN, CLOSED = "open", "closed"


class Keeper:
    """Works on one schema; only one process at a time does, and searches and ingest go on meanwhile."""

    def __init__(self, pool: Pool, *, clock: Callable[[], dt.datetime]) -> None:
        self._pool = pool
        self._clock = clock

    def run(self) -> Sealed:
        """Make the partitions of the coming months, and the dictionaries of those that are over: hot counts these.

        Raises:
            StoreError: what is not done yet can be done again.
        """
        now, months, plates = self._clock(), 0, 0
        with self._pool.own() as connection:
            if not run(connection, "SELECT pg_try_advisory_lock(%s, 1)", [key_of(self._pool.schema)]).fetchone()[0]:
                return Sealed(hot=0, merged=0, rows=0)  # another process purges or copies: next time
            sweep(connection)
            ensure(connection, self._pool.schema, ahead(now))
            run(connection, "ANALYZE word")  # small, and the planner must know that it is
            for part in [] if citus(connection) else parts(connection):
                if not part.listed and closed(part, now):
                    plates += make_list(connection, self._pool.schema, part.month)
                    months += 1
        return Sealed(hot=months, merged=0, rows=plates)

    def prove(self) -> int:
        """Always 0: the server's own page checksums tell of damage, when it reads."""
        return 0


def measure(connection: Connection, now: dt.datetime) -> StoreStatus:
    """The status of a store, a part a month.

    Raises:
        psycopg.Error: it cannot be read.
    """
    found = []
    for part in parts(connection):
        table = part.month.table
        rows, first, last = run(
            connection,
            f"SELECT count(*), min(captured_at), max(captured_at) FROM {table}",  # noqa: S608  # nosec B608
        ).fetchone()
        size = "SELECT pg_total_relation_size(to_regclass(%s)) + coalesce(pg_total_relation_size(to_regclass(%s)), 0)"
        found.append(
            PartStatus(
                name=table,
                state=CLOSED if part.listed else OPEN,
                rows=rows,
                size_bytes=int(run(connection, size, [table, part.month.dictionary]).fetchone()[0]),
                oldest=from_ms(first) if rows else None,
                newest=from_ms(last) if rows else None,
                reason="",
            )
        )
    newest = max((p.newest for p in found if p.newest), default=None)
    return StoreStatus(
        parts=tuple(found),
        rows=sum(p.rows for p in found),
        size_bytes=sum(p.size_bytes for p in found),
        oldest=min((p.oldest for p in found if p.oldest), default=None),
        newest=newest,
        lag_s=(now - newest).total_seconds() if newest else None,
    )
