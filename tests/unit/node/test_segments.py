"""The folder of the embedded store: hot segments give way to the next, and every process sees the same rows once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from comity.errors import ConfigError
from comity.plate import Plate
from node.store.interface import Added, StoreError
from node.store.manifest import FILE, Gone, Manifest, Piece
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

PLATE = Plate(number="7ABC123", state="CA")
DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SqliteStore.create(tmp_path / "store")
    return tmp_path / "store"


def opened(folder: Path, rows: int = 3, retention_s: int = YEAR_S, now: list[dt.datetime] | None = None) -> SqliteStore:
    return SqliteStore.open(
        folder, retention_s=retention_s, clock=(lambda: now[0]) if now else clock, max_hot_rows=rows
    )


def found(store: SqliteStore, limit: int = 100) -> list[float]:
    matches = store.exact(PLATE, ago(YEAR_S - 60), NOW, limit)
    return [(NOW - m.detection.captured_at).total_seconds() for m in matches]


def test_a_full_hot_segment_gives_way_and_all_rows_stay_visible_newest_first(folder: Path) -> None:
    store = opened(folder)
    for s in range(10, 0, -1):
        store.add([detection(seconds=s)])
    assert len(store.status().parts) > 2
    assert found(store) == list(range(1, 11))
    assert found(store, limit=4) == [1, 2, 3, 4, 5]
    store.close()


@pytest.mark.parametrize(
    ("retention_s", "passes", "segments"),
    [
        pytest.param(180, 59, 1, id="before a third of the retention"),
        pytest.param(180, 60, 2, id="at a third of the retention"),
        pytest.param(YEAR_S, DAY_S - 1, 1, id="before a day"),
        pytest.param(YEAR_S, DAY_S, 2, id="at a day"),
        pytest.param(YEAR_S, -DAY_S * 3, 1, id="a clock set back rotates nothing"),
    ],
)
def test_a_hot_segment_gives_way_by_age(folder: Path, retention_s: int, passes: int, segments: int) -> None:
    now = [NOW]
    store = opened(folder, 1000, retention_s, now)
    store.add([detection(seconds=1)])
    now[0] += dt.timedelta(seconds=passes)
    store.add([detection(seconds=2)])
    assert len(store.status().parts) == segments
    store.close()


def test_a_read_in_any_earlier_segment_is_not_stored_again(folder: Path) -> None:
    store = opened(folder)
    batch = [detection(seconds=s) for s in range(1, 10)]
    store.add(batch)
    store.add([detection(seconds=20)])
    store.sealer.run()
    store.add([detection(seconds=30)])
    assert store.add(batch) == Added(accepted=0, duplicates=9)
    assert store.count() == 11
    store.close()


def test_two_processes_see_each_others_rows_over_every_rotation_and_seal(folder: Path) -> None:
    one, two = opened(folder), opened(folder)
    for s in range(1, 13):
        writer, reader = (one, two) if s % 2 else (two, one)
        assert writer.add([detection(seconds=s)]) == Added(accepted=1, duplicates=0)
        assert reader.add([detection(seconds=s)]) == Added(accepted=0, duplicates=1)
        if s % 4 == 0:
            reader.sealer.run()
        assert found(reader) == found(writer) == list(range(1, s + 1))
    one.close()
    two.close()


def test_a_rotation_cut_short_after_freezing_is_completed_by_the_next_batch(folder: Path) -> None:
    store = opened(folder)
    store.add([detection(seconds=1)])
    store._shelf.view().active.freeze()
    assert store.add([detection(seconds=2)]) == Added(accepted=1, duplicates=0)
    assert found(store) == [1, 2]
    store.close()


def test_a_manifest_that_is_not_what_was_written_is_refused(folder: Path) -> None:
    store = opened(folder)
    store.add([detection(seconds=s) for s in range(1, 5)])
    store.close()
    data = bytearray((folder / FILE).read_bytes())
    for place in (0, len(data) // 2, len(data) - 2):
        (folder / FILE).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(StoreError) as caught:
            opened(folder)
        assert caught.value.reason == "STORE_CORRUPT"


def test_a_store_that_lost_its_manifest_is_neither_served_nor_made_anew(folder: Path) -> None:
    store = opened(folder, 1)
    store.add([detection(seconds=1)])
    store.add([detection(seconds=2)])
    store.close()
    (folder / FILE).unlink()
    with pytest.raises(ConfigError):
        opened(folder)
    with pytest.raises(StoreError, match="lost its manifest"):
        SqliteStore.create(folder)


def test_a_manifest_comes_back_as_it_was_written() -> None:
    piece = Piece(name="part-3.db", rows=2, begin_ms=1, end_ms=9, size_bytes=7, sha256="ab", reason="MISSING")
    written = Manifest(
        next=4,
        active="hot-2.db",
        opened_ms=5,
        frozen=(Piece(name="hot-1.db", rows=1, begin_ms=1, end_ms=2),),
        parts=(piece,),
        set_aside=(piece,),
        purged_ms=1,
        gone=(Gone(rule="source:toll", before_ms=3),),
    )
    assert Manifest.parse(written.encode()) == written


def test_status_tells_files_rows_times_and_how_far_ingest_lags(folder: Path) -> None:
    store = opened(folder)
    store.add([detection(seconds=s) for s in (10, 20, 30)])
    store.add([detection(seconds=5)])
    store.sealer.run()
    store.add([detection(seconds=3)])
    status = store.status()
    assert [(p.state, p.rows) for p in status.parts] == [("hot", 1), ("sealed", 4)]
    assert (status.rows, status.oldest, status.newest, status.lag_s) == (5, ago(30), ago(3), 3.0)
    assert all("7ABC123" not in str(p.as_json()) for p in status.parts)
    assert status.size_bytes > 0
    store.close()
