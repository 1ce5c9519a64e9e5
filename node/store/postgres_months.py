"""The monthly partitions: made ahead, or for a late row; listed in a dictionary once they are closed; dropped whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from comity.instants import from_ms, to_ms
from node.store.interface import StoreError
from node.store.months import Month
from node.store.postgres_pool import Connection, faults, run
from node.store.postgres_schema import BY_CAMERA, COLUMNS, UNIQUE, citus, key_of, lock, trigrams

AHEAD = 2
CLOSED_AFTER = dt.timedelta(days=2)  # a month that late rows still come to is not listed yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A partition that is attached. `listed`: its dictionary holds every plate of it."""

    month: Month
    listed: bool


def parts(connection: Connection) -> list[Part]:
    """Every partition that is attached, the newest first."""
    found = run(connection, "SELECT begin_ms, listed FROM part ORDER BY begin_ms DESC").fetchall()
    return [Part(month=Month.of(begin), listed=listed) for begin, listed in found]


def ensure(connection: Connection, schema: str, months: Iterable[Month]) -> None:
    """There is a partition for each of these months. Searches go on meanwhile.

    Raises:
        psycopg.Error: one may be missing.
    """
    for month in sorted(months, key=lambda m: m.number):
        with connection.transaction():
            lock(connection, schema, month.number)
            if run(connection, "SELECT 1 FROM part WHERE name = %s", [month.name]).fetchone():
                continue
            start_draft(connection, month)
            attach(connection, month)


def start_draft(connection: Connection, month: Month) -> None:
    """An empty table for the month, without indexes, whatever a killed process left of it."""
    for name in (month.draft, month.table, month.dictionary):
        run(connection, f"DROP TABLE IF EXISTS {name}")
    run(connection, f"CREATE TABLE {month.draft}({COLUMNS})")


def attach(connection: Connection, month: Month) -> None:
    """The draft is a partition, with its indexes. ATTACH waits for no search, which CREATE ... PARTITION OF would."""
    span = f"captured_at >= {month.begin_ms} AND captured_at < {month.end_ms}"
    for statement in (
        f"CREATE UNIQUE INDEX {month.table}_k ON {month.draft}{UNIQUE}",
        f"CREATE INDEX {month.table}_c ON {month.draft}{BY_CAMERA}",
        # With this check the rows need not be read again under the lock.
        f"ALTER TABLE {month.draft} ADD CONSTRAINT span CHECK ({span})",
        f"ALTER TABLE {month.draft} RENAME TO {month.table}",
        f"ALTER TABLE det ATTACH PARTITION {month.table} FOR VALUES FROM ({month.begin_ms}) TO ({month.end_ms})",
        f"ALTER TABLE {month.table} DROP CONSTRAINT span",
    ):
        run(connection, statement)
    run(connection, "INSERT INTO part VALUES (%s, %s, %s)", [month.name, month.begin_ms, month.end_ms])


def ahead(now: dt.datetime) -> list[Month]:
    """This month and those that shall be there before they begin."""
    out = [Month.of(to_ms(now))]
    while len(out) <= AHEAD:
        out.append(Month.of(out[-1].end_ms))
    return out


def closed(part: Part, now: dt.datetime) -> bool:
    """True if the month was over some time ago."""
    return from_ms(part.month.end_ms) + CLOSED_AFTER <= now


def make_list(connection: Connection, schema: str, month: Month) -> int:
    """How many plates the month's dictionary has, which is whole and in use from now on.

    With pg_trgm it is found by any three characters; else it is read, which is less than reading the rows.

    Raises:
        psycopg.Error: there is none.
    """
    with connection.transaction():
        lock(connection, schema, month.number)  # rows that come now wait, and are added to it
        run(connection, f"DROP TABLE IF EXISTS {month.dictionary}")
        run(connection, f'CREATE TABLE {month.dictionary}(skel text COLLATE "C", plate text COLLATE "C")')
        made = run(
            connection,
            f"INSERT INTO {month.dictionary} SELECT DISTINCT skel, plate FROM {month.table} ORDER BY 1, 2",  # noqa: S608  # nosec B608
        ).rowcount
        run(connection, f"ALTER TABLE {month.dictionary} ADD PRIMARY KEY (skel, plate)")
        if place := trigrams(connection):
            run(
                connection,
                f'CREATE INDEX {month.dictionary}_t ON {month.dictionary} USING gin (plate "{place}".gin_trgm_ops)',
            )
        run(connection, "UPDATE part SET listed = true WHERE name = %s", [month.name])
    run(connection, f"ANALYZE {month.dictionary}")
    run(connection, f"ANALYZE {month.table}")
    return int(made)


def drop(connection: Connection, schema: str, month: Month, rows: int) -> bool:
    """True if the partition is gone, durably and verified; False, and nothing done, if it has not so many rows now.

    Raises:
        StoreError: it is still there.
        psycopg.Error: it may be; `sweep` goes on.
    """
    run(connection, "SELECT pg_advisory_lock(%s, %s)", [key_of(schema), month.number])
    try:
        now = run(connection, f"SELECT count(*) FROM {month.table}").fetchone()[0]  # noqa: S608  # nosec B608
        if now != rows:
            return False  # a late row came that nobody was shown
        if not citus(connection):  # which drops a partition, and detaches none while it is searched
            # A plain DETACH would wait for every search, and every search for it.
            run(connection, f"ALTER TABLE det DETACH PARTITION {month.table} CONCURRENTLY")
        remove(connection, month)
    finally:
        run(connection, "SELECT pg_advisory_unlock(%s, %s)", [key_of(schema), month.number])
    return True


def remove(connection: Connection, month: Month) -> None:
    """The month's tables are gone, and the store says so.

    Raises:
        StoreError: one is still there.
    """
    with connection.transaction():
        for name in (month.table, month.draft, month.dictionary):
            run(connection, f"DROP TABLE IF EXISTS {name}")
        run(connection, "DELETE FROM part WHERE name = %s", [month.name])
    left = run(connection, "SELECT to_regclass(%s), to_regclass(%s)", [month.table, month.dictionary]).fetchone()
    if left != (None, None):
        raise StoreError("a purged partition is still there")


def sweep(connection: Connection) -> int:
    """How many partitions that a killed purge had detached already are gone now; only while nobody else purges.

    Raises:
        StoreError, psycopg.Error: one is still there.
    """
    attached = "SELECT c.relname, i.inhdetachpending FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    state = dict(run(connection, f"{attached} WHERE i.inhparent = 'det'::regclass").fetchall())
    left = [p.month for p in parts(connection) if state.get(p.month.table, True)]
    for month in left:
        with faults():
            if month.table in state:
                run(connection, f"ALTER TABLE det DETACH PARTITION {month.table} FINALIZE")
            remove(connection, month)
    return len(left)


def install_trigrams(connection: Connection) -> bool:
    """True if pg_trgm is there; asking for it fails where the role may not, and nothing else does."""
    try:
        with connection.transaction():
            run(connection, "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public")
    except psycopg.Error:
        return bool(trigrams(connection))
    return True
