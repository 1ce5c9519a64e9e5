"""All rows of a PostgreSQL store, sorted, and rows into one: a month that is empty is loaded whole before it serves."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager

from node.store.interface import StoreError
from node.store.months import Month
from node.store.moving import BATCH, Marks, Raw
from node.store.postgres import PostgresStore
from node.store.postgres_expire import mark, streamed
from node.store.postgres_months import attach, parts, start_draft
from node.store.postgres_pool import LONG_S, Connection, faults, run
from node.store.postgres_schema import citus, lock
from node.store.postgres_search import rows_of
from node.store.postgres_write import copy_in, row_of, words_of
from node.store.rows import Row, detection_of


class PostgresMoving:
    """See `Movable`."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def alone(self) -> AbstractContextManager[object]:
        """See `Movable.alone`."""
        return self._store.alone()

    def months(self) -> list[Month]:
        """See `Movable.months`."""
        with self._store.pool.lent() as connection:
            return [p.month for p in reversed(parts(connection)) if _any(connection, p.month)]

    def count(self) -> int:
        """See `Movable.count`."""
        return self._store.count()

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        """See `Movable.sorted_rows`."""
        with self._store.pool.own() as connection:
            if month not in [p.month for p in parts(connection)]:
                return
            for row in streamed(connection, f"{rows_of(month.table)} ORDER BY d.skel, d.captured_at, d.uid", {}):
                detection_of(row)
                yield row

    def fill(self, month: Month, rows: Iterable[Raw]) -> None:
        """See `Movable.fill`. Sorted COPY, then indexes, then ATTACH, in one transaction: a kill leaves nothing."""
        iterator = iter(rows)
        with self._store.pool.own() as connection:
            there = month in [p.month for p in parts(connection)]
            if citus(connection) or (there and _any(connection, month)):
                while batch := [detection_of(row) for row in itertools.islice(iterator, BATCH)]:
                    self._store.add(batch)
                return
            with connection.transaction():
                lock(connection, self._store.pool.schema, month.number)
                if there:
                    if _any(connection, month):
                        raise StoreError("rows came to the store while it was copied to", reason="STORE_BUSY")
                    run(connection, "DELETE FROM part WHERE name = %s", [month.name])
                start_draft(connection, month)
                copy_in(connection, month.draft, self._rows(iterator))
                attach(connection, month)
            run(connection, f"ANALYZE {month.table}")

    def marks(self) -> Marks:
        """See `Movable.marks`."""
        with self._store.pool.lent() as connection:
            purged = run(connection, "SELECT value::bigint FROM meta WHERE key = 'purged_ms'").fetchone()[0]
            gone = run(connection, "SELECT rule, before_ms FROM gone ORDER BY rule").fetchall()
        return Marks(purged_ms=purged, gone=tuple(gone))

    def take(self, marks: Marks) -> None:
        """See `Movable.take`."""
        with self._store.pool.lent() as connection, connection.transaction():
            run(
                connection,
                "UPDATE meta SET value = greatest(value::bigint, %s)::text WHERE key = 'purged_ms'",
                [marks.purged_ms],
            )
            for rule, before_ms in marks.gone:
                mark(connection, rule, before_ms)

    def close(self) -> None:
        """See `Movable.close`."""
        self._store.close()

    def _rows(self, rows: Iterator[Raw]) -> Iterator[Row]:
        # On another connection: a word that only this transaction had would be lost with it.
        with self._store.pool.lent(most_s=LONG_S) as connection:
            while batch := [detection_of(row) for row in itertools.islice(rows, BATCH)]:
                words = self._store.lexicon.ids(connection, {w for d in batch for w in words_of(d)})
                yield from (row_of(d, words) for d in batch)


def _any(connection: Connection, month: Month) -> bool:
    with faults():
        return bool(run(connection, f"SELECT 1 FROM {month.table} LIMIT 1").fetchone())  # noqa: S608  # nosec B608
