"""Batches into PostgreSQL: COPY into a temporary table, and from there what is not there already."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from comity.detection import Detection
from node.store.interface import Added, StoreError
from node.store.months import Month
from node.store.postgres_months import ensure, parts
from node.store.postgres_pool import Connection, Pool, run
from node.store.postgres_schema import key_of
from node.store.rows import Row
from node.store.rows import key_of as row_key

ATTEMPTS = 10
MAX_WORDS = 100_000
TYPES = ("text", "int8", "int8", "text", "int4", "int4", "int4", "int4", "int4", "int4", "int4", "int4", "text")
INTO = "(skel, captured_at, uid, plate, region, camera, source, lat, lon, conf, make, colour, image)"
# Sorted, so that two writers of the same rows wait for one another and never each for the other.
_NEW = "INSERT INTO det SELECT * FROM incoming ORDER BY skel, captured_at, uid ON CONFLICT DO NOTHING"
_THESE = "unnest(%s::text[], %s::text[]) AS n(kind, text)"
_NEW_WORDS = f"INSERT INTO word(kind, text) SELECT kind, text FROM {_THESE} ON CONFLICT DO NOTHING"  # noqa: S608  # nosec B608
_THEIR_IDS = f"SELECT kind, text, id FROM word JOIN {_THESE} USING (kind, text)"  # noqa: S608  # nosec B608

Words = Mapping[tuple[str, str], int]


class Lexicon:
    """The ids of words that this process has met. A word's id never changes, and none is ever deleted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], int] = {}

    def ids(self, connection: Connection, wanted: Iterable[tuple[str, str]]) -> Words:
        """An id for each (kind, text), made if need be.

        Raises:
            psycopg.Error: some have none.
        """
        words = set(wanted)
        with self._lock:
            known = {w: self._known[w] for w in words if w in self._known}
        if missing := sorted(words - known.keys()):
            kinds, texts = [k for k, _ in missing], [t for _, t in missing]
            run(connection, _NEW_WORDS, [kinds, texts])
            found = run(connection, _THEIR_IDS, [kinds, texts])
            known |= {(kind, text): int(id_) for kind, text, id_ in found}
            with self._lock:
                if len(self._known) > MAX_WORDS:
                    self._known.clear()
                self._known |= known
        return known


def words_of(d: Detection) -> list[tuple[str, str]]:
    """The words that the row of `d` needs."""
    some = (("make", d.make), ("colour", d.colour))
    return [("region", d.plate.state), ("camera", d.camera), ("source", d.source), *(w for w in some if w[1])]


def row_of(d: Detection, words: Words) -> Row:
    """The row of `d`, whose words have ids."""
    return (
        *row_key(d),
        d.plate.number,
        words["region", d.plate.state],
        words["camera", d.camera],
        words["source", d.source],
        d.latitude_e7,
        d.longitude_e7,
        d.confidence_permille,
        words["make", d.make] if d.make else None,
        words["colour", d.colour] if d.colour else None,
        d.image or None,
    )


def add(pool: Pool, lexicon: Lexicon, batch: Sequence[Detection]) -> Added:
    """See `DetectionStore.add`."""
    if not batch:
        with pool.lent() as connection:
            run(connection, "SELECT 1")
        return Added(accepted=0, duplicates=0)
    # Of two reads with one key the first stays, as between two batches: the server would choose either.
    first = {row_key(d): d for d in reversed(batch)}.values()
    months = {m.number: m for m in (Month.of(row_key(d)[1]) for d in first)}
    for _ in range(ATTEMPTS):
        with pool.lent() as connection:
            words = lexicon.ids(connection, {w for d in first for w in words_of(d)})
            accepted = _insert(connection, pool.schema, months, [row_of(d, words) for d in first])
            if accepted is not None:
                return Added(accepted=accepted, duplicates=len(batch) - accepted)
            ensure(connection, pool.schema, months.values())
    raise StoreError("a month's partition goes as often as it is made", reason="STORE_BUSY")


def _insert(connection: Connection, schema: str, months: Mapping[int, Month], rows: list[Row]) -> int | None:
    """How many rows are new, durably; None, and nothing done, if a month has no partition."""
    with connection.transaction():
        # Held until the commit: a month is neither dropped nor listed under a row of it.
        run(
            connection,
            "SELECT pg_advisory_xact_lock_shared(%s, m) FROM unnest(%s::int[]) m",
            [key_of(schema), sorted(months)],
        )
        there = {p.month.number: p for p in parts(connection)}
        if not months.keys() <= there.keys():
            return None
        copy_in(connection, "incoming", rows)
        accepted = int(run(connection, _NEW).rowcount)
        for month in months.values():
            if there[month.number].listed:
                run(
                    connection,
                    f"INSERT INTO {month.dictionary} SELECT DISTINCT skel, plate FROM incoming"  # noqa: S608  # nosec B608
                    " WHERE captured_at >= %s AND captured_at < %s ORDER BY 1, 2 ON CONFLICT DO NOTHING",
                    [month.begin_ms, month.end_ms],
                )
        return accepted


def copy_in(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    """The rows are in `table`, which has no other columns and no such rows.

    Raises:
        psycopg.Error: none of them is.
    """
    with connection.cursor().copy(f"COPY {table}{INTO} FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.set_types(TYPES)
        for row in rows:
            copy.write_row(row)
