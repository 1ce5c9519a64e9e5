"""Parquet files as other programs write them: each is read in like the CSV that says the same, or refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.plate import Plate
from node.formats.interface import Read
from node.formats.parquet import Parquet
from node.ingest import Ingester, Tally
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import CONTEXT, NOW, NOW_MS, YEAR_S, ago, clock

UTC_MS = pa.timestamp("ms", "UTC")
DAY_MS = 86_400_000
ROWS = 3_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def ingester(store: SqliteStore, tmp_path: Path) -> Ingester:
    return Ingester(store, tmp_path / "set-aside", clock, source="police")


def written(folder: Path, columns: Mapping[str, Any], **how: Any) -> Path:
    parquet.write_table(pa.table(dict(columns)), folder / "reads.parquet", **how)
    return folder / "reads.parquet"


def many(folder: Path, **how: Any) -> Path:
    times = [NOW_MS - DAY_MS - i * 60_000 for i in range(ROWS)]
    columns = {
        "Plate": [f"7ABC{i % 1000:03}" for i in range(ROWS)],
        "state": ["CA"] * ROWS,
        "time": pa.array(times, UTC_MS),
        "camera": ["c1"] * ROWS,
        "confidence": [float(i % 100) for i in range(ROWS)],
        "operator": ["not asked for"] * ROWS,
    }
    return written(folder, columns, row_group_size=500, **how)


def decoded(folder: Path, **columns: Any) -> list[Read]:
    row = {"plate": ["7ABC123"], "time": pa.array([NOW], UTC_MS), "camera": ["c1"], **columns}
    with written(folder, row).open("rb") as file:
        decode, records = Parquet().open(file)
        return [read for record in records for read in decode(record.raw, CONTEXT)]


def test_a_file_is_bulk_loaded_with_progress_and_loading_it_again_adds_nothing(
    store: SqliteStore, ingester: Ingester, tmp_path: Path
) -> None:
    path, shown = many(tmp_path), list[Tally]()
    for new in (ROWS, 0):
        with store.loading() as load:
            ingester.into(load).ingest_file(path, shown.append)
            assert load.finish().accepted == new
    done = [t.read_bytes / t.total_bytes for t in shown[:3]]
    assert done == sorted(done)
    assert done[0] < 0.5
    assert shown[2].lines == ROWS
    found = store.exact(Plate(number="7ABC123", state="CA"), ago(YEAR_S - 60), NOW, 100)
    assert [m.detection.confidence_permille for m in found] == [230, 230, 230]


def test_a_file_read_in_as_it_is_gives_what_a_bulk_load_gives(
    store: SqliteStore, ingester: Ingester, tmp_path: Path
) -> None:
    tally = ingester.ingest_file(many(tmp_path))
    assert (tally.accepted, tally.duplicates, tally.rejected) == (ROWS, 0, 0)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"plate": pa.array([b"7ABC123"])}, id="text that is not marked as text"),
        pytest.param({"plate": pa.array(["7ABC123"]).dictionary_encode()}, id="a dictionary"),
        pytest.param({"time": pa.array([NOW_MS * 1_000_000 + 7], pa.timestamp("ns", "UTC"))}, id="nanoseconds"),
        pytest.param({"time": pa.array([NOW], pa.timestamp("us", "America/Los_Angeles"))}, id="another zone"),
        pytest.param({"time": [NOW_MS]}, id="a number of milliseconds"),
        pytest.param({"time": [NOW.isoformat()]}, id="a time as text"),
    ],
)
def test_the_same_read_is_read_from(tmp_path: Path, columns: Mapping[str, Any]) -> None:
    [read] = decoded(tmp_path, **columns)
    assert isinstance(read, Detection)
    assert (read.plate.number, read.captured_at, read.camera) == ("7ABC123", NOW, "c1")


@pytest.mark.parametrize(
    "confidences",
    [
        pytest.param([93.0, 0.5], id="numbers"),
        pytest.param(["93", "0.5"], id="text"),
        pytest.param([Decimal("93.00"), Decimal("0.50")], id="decimals"),
    ],
)
def test_the_scale_of_confidence_is_seen_in(tmp_path: Path, confidences: Sequence[Any]) -> None:
    two = {"plate": ["7ABC123"] * 2, "time": pa.array([NOW, NOW], UTC_MS), "camera": ["c1"] * 2}
    reads = decoded(tmp_path, **two, confidence=confidences)
    assert [r.confidence_permille for r in reads if isinstance(r, Detection)] == [930, 5]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"time": pa.array([NOW.replace(tzinfo=None)], pa.timestamp("us"))}, id="a time without its zone"),
        pytest.param({"time": pa.array([NOW.date()])}, id="a day"),
        pytest.param({"time": pa.array([NOW + dt.timedelta(hours=1)], UTC_MS)}, id="a clock ahead"),
        pytest.param({"plate": [["7ABC123"]]}, id="a list of plates"),
        pytest.param({"plate": [{"number": "7ABC123"}]}, id="a plate in parts"),
    ],
)
def test_no_detection_is_made_of(tmp_path: Path, columns: Mapping[str, Any]) -> None:
    [read] = decoded(tmp_path, **columns)
    assert not isinstance(read, Detection)


OUT_OF_DATES = {
    "microseconds": pa.array([2**62, NOW_MS * 1000], pa.timestamp("us", "UTC")),
    "seconds": pa.array([2**40, NOW_MS // 1000], pa.timestamp("s", "UTC")),
    "before the year 1": pa.array([-(2**61), NOW_MS * 1000], pa.timestamp("us", "UTC")),
}


@pytest.mark.parametrize("times", OUT_OF_DATES.values(), ids=OUT_OF_DATES)
def test_a_time_that_no_date_has_costs_its_row_and_not_the_file(
    ingester: Ingester, tmp_path: Path, times: pa.Array
) -> None:
    path = written(tmp_path, {"plate": ["8XYZ999", "7ABC123"], "time": times, "camera": ["c1", "c1"]})
    tally = ingester.ingest_file(path)
    assert (tally.accepted, dict(tally.reasons)) == (1, {"BAD_TIME": 1})


BOMBS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a dictionary of one long text": (
        pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["A" * 5_000])),
        {},
    ),
    "long texts that compress well": (["A" * 5_000] * 2_000, {"use_dictionary": False}),
}


@pytest.mark.parametrize(("plates", "how"), BOMBS.values(), ids=BOMBS)
def test_a_small_file_that_grows_in_memory_is_refused_before_it_does(
    ingester: Ingester, tmp_path: Path, plates: Any, how: dict[str, Any]
) -> None:
    times = pa.array([NOW_MS] * 2_000, UTC_MS)
    columns = {"plate": plates, "time": times, "camera": ["c1"] * 2_000}
    path = written(tmp_path, columns, compression="zstd", **how)
    assert path.stat().st_size < 100_000
    with pytest.raises(InvalidInput) as caught:
        ingester.ingest_file(path)
    assert caught.value.reason == "FILE_TOO_LARGE"


def test_a_column_that_says_it_is_larger_than_memory_is_not_begun(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.formats.parquet.MAX_COLUMN_BYTES", 1_000)
    with many(tmp_path).open("rb") as file, pytest.raises(InvalidInput) as caught:
        Parquet().open(file)
    assert caught.value.reason == "FILE_TOO_LARGE"


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        pytest.param(lambda data: data[:-1], "BAD_HEADER", id="the last byte is missing"),
        pytest.param(lambda data: data[: len(data) // 2], "BAD_HEADER", id="half of it is missing"),
        pytest.param(lambda data: data[:2000] + bytes(500) + data[2500:], "CANNOT_READ", id="a page is damaged"),
    ],
)
def test_a_damaged_file_is_refused_and_no_plate_is_guessed(
    store: SqliteStore, ingester: Ingester, tmp_path: Path, cut: Any, reason: str
) -> None:
    path = many(tmp_path, write_page_checksum=True)
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(InvalidInput) as caught:
        ingester.ingest_file(path)
    assert caught.value.reason == reason
    assert not list((tmp_path / "set-aside").glob("*"))
