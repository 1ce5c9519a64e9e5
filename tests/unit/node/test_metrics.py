"""What monitoring reads of a node: what it counts is right, and none of it names a plate or a camera."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.log import DecisionLog
from comity.metrics import Labels, counter, exposition, gauge
from node.counters import FILE, Counters
from node.ingest import Ingester
from node.metrics import NodeMetrics
from node.store.interface import StoreError
from node.store.sqlite import SqliteStore
from node.store.status import StoreStatus
from tests.unit.node.samples import NOW_MS, YEAR_S, clock

EXPIRES = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
LINE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+]+')


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with DecisionLog.create(tmp_path, origin="n.example/log", clock=clock) as log:
        yield log


def shown(metrics: NodeMetrics) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if not line.startswith("#"))


def test_what_came_in_is_counted_by_surface_outcome_and_reason(
    store: SqliteStore, log: DecisionLog, tmp_path: Path
) -> None:
    counters = Counters(tmp_path / FILE)
    good, bad = f"7ABC123,CA,{NOW_MS},cam-1\n", f"7ABC!,CA,{NOW_MS},cam-1\n"
    (tmp_path / "reads.csv").write_text("plate,state,time,camera\n" + good + good + bad)
    Ingester(store, tmp_path / "aside", clock, source="police", counters=counters).ingest_file(tmp_path / "reads.csv")
    counters.flush()
    found = shown(NodeMetrics(tmp_path, status=store.status, log=log, brokers=lambda: 2, expires=EXPIRES))
    assert found['comity_ingest_total{surface="file",outcome="accepted"}'] == "1"
    assert found['comity_ingest_total{surface="file",outcome="duplicates"}'] == "1"
    assert found['comity_ingest_total{surface="file",outcome="rejected"}'] == "1"
    assert found['comity_set_aside_total{surface="file",reason="BAD_PLATE"}'] == "1"
    assert (found["comity_detections"], found["comity_brokers_attached"]) == ("1", "2")
    assert (found["comity_log_broken"], found["comity_log_entries"]) == ("0", str(log.head.size))
    assert float(found["comity_certificate_expires_seconds"]) == EXPIRES.timestamp()
    assert not [line for line in found if "7ABC" in line or "cam-1" in line]


def test_every_line_is_of_the_format(store: SqliteStore, log: DecisionLog, tmp_path: Path) -> None:
    metrics = NodeMetrics(tmp_path, status=store.status, log=log, brokers=lambda: 0, expires=EXPIRES)
    metrics.done.failing["purge"] = "CLOCK_JUMPED"
    lines = metrics.text().decode().splitlines()
    assert 'comity_job_failing{job="purge",reason="CLOCK_JUMPED"} 1' in lines
    assert [line for line in lines if not line.startswith("# ") and not LINE.fullmatch(line)] == []
    metrics.done.purge(3, 1)
    found = shown(metrics)
    assert (found["comity_purged_total"], found["comity_purged_held_total"]) == ("3", "1")
    assert not [line for line in found if line.startswith("comity_job_failing")]


def test_a_store_that_cannot_be_read_shows_as_down_and_not_as_empty(log: DecisionLog, tmp_path: Path) -> None:
    def fails() -> StoreStatus:
        raise StoreError("it failed")

    found = shown(NodeMetrics(tmp_path, status=fails, log=log, brokers=lambda: 0, expires=EXPIRES))
    assert found["comity_store_up"] == "0"
    assert "comity_detections" not in found


def test_the_store_is_counted_every_five_minutes_however_often_it_is_asked(
    store: SqliteStore, log: DecisionLog, tmp_path: Path
) -> None:
    asked, times = [], [0.0]

    def status() -> StoreStatus:
        asked.append(times[-1])
        return store.status()

    metrics = NodeMetrics(
        tmp_path, status=status, log=log, brokers=lambda: 0, expires=EXPIRES, seconds=lambda: times[-1]
    )
    for at in (0.0, 15.0, 299.0, 300.0):
        times.append(at)
        metrics.text()
    assert asked == [0.0, 300.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(100_000_001, "100000001", id="a count keeps its last digit"),
        pytest.param(0.25, "0.25", id="a part"),
        pytest.param(True, "1", id="a state"),
    ],
)
def test_a_number_is_written_whole(value: float, text: str) -> None:
    assert exposition([gauge("x", "Means.", value)]) == f"# HELP x Means.\n# TYPE x gauge\nx {text}\n".encode()


def test_what_a_label_says_cannot_end_it() -> None:
    labels: dict[Labels, float] = {(("reason", 'a"\n\\'),): 1}
    assert exposition([counter("x", "Means.", labels)]).endswith(b'x{reason="a\\"\\n\\\\"} 1\n')
