"""Parts of plates in the embedded store: how a segment is asked never changes what is found."""

from __future__ import annotations

import contextlib
import sqlite3
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from comity.query import AreaQuery, ConvoyQuery, PatternQuery
from node.store.partial import conditions
from node.store.rows import CODED
from node.store.segment import Segment
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# Every character in every place of one plate, and the plate one shorter and one longer.
PLATES = sorted({"7ABC123"[:i] + c + "7ABC123"[i + 1 :] for i in range(7) for c in CHARACTERS} | {"7ABC12", "7ABC1234"})
WINDOW = (ago(YEAR_S - 60), NOW)
PATTERNS = [
    pytest.param("?ABC123", id="the first character is not known"),
    pytest.param("7?BC123", id="the second character is not known"),
    pytest.param("7A?C*", id="one is not known and the end is open"),
    pytest.param("?ABC12?", id="the first and the last character are not known"),
    pytest.param("7?B?1?3", id="every second character is not known"),
    pytest.param("??BC123", id="the first two characters are not known"),
    pytest.param("7ABC*", id="the beginning is known"),
    pytest.param("?ABC*", id="the beginning is known but for the first"),
    pytest.param("*BC12*", id="a run of four is known"),
    pytest.param("*C?23", id="the end is known but for one"),
    pytest.param("7AB", id="nothing is left open and no plate is so short"),
]


def filled(folder: Path) -> SqliteStore:
    """A store with all plates in a sealed part, and all again in the growing one."""
    SqliteStore.create(folder)
    store = SqliteStore.open(folder, retention_s=YEAR_S, clock=clock, max_hot_rows=len(PLATES))
    old = [detection(plate, seconds=10_000 + i) for i, plate in enumerate(PLATES)]
    store.add(old[:1])
    store.add(old[1:])
    assert store.sealer.run().rows == len(PLATES)
    store.add([detection(plate, seconds=1 + i) for i, plate in enumerate(PLATES[1:])])
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SqliteStore:
    return filled(tmp_path_factory.mktemp("partial") / "store")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exactly_the_plates_that_fit_are_found_in_sealed_and_growing_parts(store: SqliteStore, pattern: str) -> None:
    assert {p.state for p in store.status().parts} == {"hot", "sealed"}
    found = [m.detection.plate.number for m in store.partial(PatternQuery.parse(pattern, ""), *WINDOW, 10_000)]
    expected = [plate for plate in PLATES if fnmatchcase(plate, pattern)]
    assert sorted(found) == sorted(expected + [plate for plate in expected if plate != PLATES[0]])


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if str(p.values[0])[0] != "*"])
def test_where_rows_still_come_a_known_beginning_is_looked_up_by_the_key(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "hot-1.db"
    Segment.create(path)
    segment, wanted = Segment(path), conditions(PatternQuery.parse(pattern, ""))
    where = f"{wanted.of(segment)} AND d.captured_at >= :begin AND d.captured_at < :end"
    plan = segment.ask(f"EXPLAIN QUERY PLAN {CODED} WHERE {where}", {**wanted.values, "begin": 0, "end": 1})
    segment.close()
    assert [str(row[3]) for row in plan if " d USING" in str(row[3])] == [
        "SEARCH d USING INDEX det_k (skel=? AND captured_at>? AND captured_at<?)"
    ]


def test_a_growing_part_with_the_index_of_an_older_version_answers_the_same(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    own = detection("7ABC123", "CA", 5, camera="c-9", source_id="own")
    store.add([own])
    area, near = AreaQuery.parse(camera="c-9"), ConvoyQuery.parse("7ABC123", "CA", within_s=9, cameras=2)

    def answers() -> list[object]:
        parts = [store.partial(PatternQuery.parse(str(p.values[0]), ""), *WINDOW, 10_000) for p in PATTERNS]
        return [*parts, store.area(area, *WINDOW, 10), store.convoy(near, [own], *WINDOW, 10)]

    expected = answers()
    store.close()
    hot = next(p for p in (tmp_path / "store").glob("hot-*.db") if _rows(p))
    with contextlib.closing(sqlite3.connect(hot)) as connection:
        connection.executescript("DROP INDEX det_t; CREATE INDEX det_c ON det(camera, captured_at, plate)")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock, max_hot_rows=len(PLATES))
    assert answers() == expected
    assert expected[-2]
    store.close()


def _rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM det").fetchone()[0])
