"""What tests of the store in PostgreSQL share."""

from __future__ import annotations

from collections.abc import Callable

from comity.plate import Plate
from node.store.postgres import PostgresStore
from node.store.postgres_pool import run
from tests.unit.node.samples import NOW, YEAR_S, ago

PLATE = Plate(number="7ABC123", state="CA")
DAY_S = 86_400
Open = Callable[..., PostgresStore]


def exact(store: PostgresStore) -> list[float]:
    found = store.exact(PLATE, ago(YEAR_S - 60), NOW, 100)
    return [(NOW - m.detection.captured_at).total_seconds() for m in found]


def tables(store: PostgresStore) -> set[str]:
    with store.pool.lent() as connection:
        rows = run(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", [store.pool.schema]).fetchall()
    return {name for (name,) in rows}
