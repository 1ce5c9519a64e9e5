"""Replay: what was set aside is decoded again, and leaves the set-aside records only once it is a detection."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from node.counters import Counters, read
from node.formats.interface import RecordFormat
from node.ingest import Ingester
from node.set_aside import Rejection, SetAside
from node.store.sqlite import SqliteStore
from tests.fakes import FixedClock
from tests.unit.node.samples import NOW, NOW_MS, YEAR_S, clock, encode, group, observed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def now() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    return Counters(tmp_path / "counters.json")


@pytest.fixture
def ingester(store: SqliteStore, tmp_path: Path, now: FixedClock, counters: Counters) -> Ingester:
    return Ingester(store, tmp_path / "set-aside", now, source="police", counters=counters)


def put_aside(folder: Path, raw: bytes, **changes: Any) -> None:
    values: dict[str, Any] = {"origin": "stream", "line": 0, "reason": "BAD_STATE", "format": "openalpr"} | changes
    SetAside(folder / "set-aside", clock=clock).keep([Rejection(raw=raw, **values)])


def aside(folder: Path) -> list[bytes]:
    lines = [line for p in sorted((folder / "set-aside").glob("*.jsonl")) for line in p.read_bytes().splitlines()]
    return [base64.b64decode(orjson.loads(line)["raw"]) for line in lines]


def test_what_is_good_now_is_a_detection_and_what_is_not_stays(
    ingester: Ingester, store: SqliteStore, tmp_path: Path
) -> None:
    put_aside(tmp_path, encode(group()))
    put_aside(tmp_path, encode(observed()), format="fiware")
    put_aside(tmp_path, b"junk")
    done = ingester.replay()
    assert (done.accepted, done.duplicates, done.left, store.count()) == (2, 0, 1, 2)
    assert (aside(tmp_path), done.reasons) == ([b"junk"], {"BAD_STATE": 1})
    assert ingester.replay().accepted == 0


def test_a_record_without_a_format_of_its_own_has_that_of_its_file(ingester: Ingester, tmp_path: Path) -> None:
    put_aside(tmp_path, b"plate,time,camera\n7ABC123,%d,c1" % NOW_MS, origin="reads.csv", format="")
    put_aside(tmp_path, encode(group()), origin="stream:pa-014", format="")
    assert (ingester.replay().accepted, len(aside(tmp_path))) == (1, 1)


@pytest.mark.parametrize("reason", ["TORN", "TOO_LARGE"])
def test_a_record_whose_end_is_missing_is_never_taken(ingester: Ingester, tmp_path: Path, reason: str) -> None:
    put_aside(tmp_path, b"plate,time,camera\n7ABC12,%d,c1" % NOW_MS, reason=reason, format="csv")
    assert (ingester.replay().left, len(aside(tmp_path))) == (1, 1)


def test_a_clock_that_was_ahead_is_not_right_because_the_time_has_come(
    ingester: Ingester, now: FixedClock, tmp_path: Path
) -> None:
    ahead = encode(group(best_uuid_epoch_ms=NOW_MS + 3_600_000))
    ingester.ingest_records(RecordFormat.OPENALPR, [ahead])
    now.move(hours=2)
    assert (ingester.replay().left, aside(tmp_path)) == (1, [ahead])


def test_only_what_was_set_aside_since_a_time_is_replayed(ingester: Ingester, tmp_path: Path) -> None:
    put_aside(tmp_path, encode(group()))
    assert ingester.replay(NOW + dt.timedelta(seconds=1)).accepted == 0
    assert ingester.replay(NOW).accepted == 1


def test_a_record_set_aside_by_the_node_meanwhile_is_not_lost(ingester: Ingester, tmp_path: Path) -> None:
    serving = SetAside(tmp_path / "set-aside", clock=clock)
    put_aside(tmp_path, encode(group()))
    days = serving.all()
    serving.keep([Rejection(origin="stream", line=0, reason="NOT_JSON", raw=b"new junk")])
    ids = {a.id for day in days for a in day if a.rejection.raw != b"new junk"}
    assert SetAside(tmp_path / "set-aside", clock=clock).drop(ids) == 1
    assert aside(tmp_path) == [b"new junk"]


def test_what_came_in_is_counted_by_surface_over_processes_and_without_a_plate(
    ingester: Ingester, counters: Counters, tmp_path: Path
) -> None:
    path = tmp_path / "counters.json"
    other = Counters(path)
    other.add("webhook", {"accepted": 2})
    other.flush()
    put_aside(tmp_path, encode(group()))
    ingester.ingest_records(RecordFormat.OPENALPR, [b"junk", encode(group(best_plate_number="7SECRT1!!"))])
    ingester.replay()
    counters.flush()
    assert read(path) == {
        "replay": {"accepted": 1, "duplicates": 0},
        "stream": {
            "accepted": 0,
            "duplicates": 0,
            "expired": 0,
            "rejected": 2,
            "reason:NOT_JSON": 1,
            "reason:BAD_PLATE": 1,
        },
        "webhook": {"accepted": 2},
    }
    assert b"SECRT" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_counters_that_are_damaged_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    path.write_bytes(b'{"stream": {"acc')
    counters = Counters(path)
    counters.add("stream", {"accepted": 1})
    counters.flush()
    assert read(path) == {"stream": {"accepted": 1}}
