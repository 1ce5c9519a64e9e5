"""Ingest: what is counted is on the disk, what is bad is set aside with its reason, the same again adds nothing."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from comity.errors import InvalidInput, Unavailable
from comity.plate import Plate
from node.formats.interface import RecordFormat
from node.ingest import Ingester, Tally
from node.store.interface import StoreError
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, NOW_MS, YEAR_S, ago, clock, encode, group, result


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def ingester(store: SqliteStore, tmp_path: Path) -> Ingester:
    return Ingester(store, tmp_path / "set-aside", clock, source="police")


def groups(n: int, start: int = 0) -> list[bytes]:
    return [
        encode(group(best_uuid=f"u-{i}", best_uuid_epoch_ms=NOW_MS - 1000 * i, best_plate_number=f"AB{i:05d}"))
        for i in range(start, start + n)
    ]


def aside(folder: Path) -> list[dict[str, object]]:
    paths = sorted((folder / "set-aside").glob("*.jsonl"))
    return [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def brief(t: Tally) -> tuple[int, int, int, int, int]:
    return t.accepted, t.duplicates, t.rejected, t.expired, t.lines


def test_a_file_read_twice_gives_only_duplicates(ingester: Ingester, store: SqliteStore, tmp_path: Path) -> None:
    path = tmp_path / "reads.jsonl"
    path.write_bytes(b"\n".join([*groups(2500), b"junk"]) + b"\n")
    assert brief(ingester.ingest_file(path)) == (2500, 0, 1, 0, 2501)
    assert brief(ingester.ingest_file(path)) == (0, 2500, 1, 0, 2501)
    assert store.count() == 2500
    assert len(aside(tmp_path)) == 1


def test_the_same_read_in_two_files_is_stored_once(ingester: Ingester, store: SqliteStore, tmp_path: Path) -> None:
    for name, start in (("a.jsonl", 0), ("b.jsonl", 5)):
        (tmp_path / name).write_bytes(b"\n".join(groups(10, start)) + b"\n")
    ingester.ingest_file(tmp_path / "a.jsonl")
    assert brief(ingester.ingest_file(tmp_path / "b.jsonl")) == (5, 5, 0, 0, 10)
    assert store.count() == 15


def test_progress_is_told_after_each_durable_batch(ingester: Ingester, store: SqliteStore, tmp_path: Path) -> None:
    path = tmp_path / "reads.jsonl"
    path.write_bytes(b"\n".join(groups(2500)) + b"\n")
    seen: list[tuple[int, int]] = []
    last = ingester.ingest_file(path, lambda t: seen.append((t.lines, store.count())))
    assert seen == [(1000, 1000), (2000, 2000), (2500, 2500)]
    assert last.read_bytes == last.total_bytes == path.stat().st_size


def test_a_file_cut_in_half_keeps_its_whole_records_and_names_the_torn_line(
    ingester: Ingester, store: SqliteStore, tmp_path: Path
) -> None:
    data = b"\n".join(groups(100)) + b"\n"
    path = tmp_path / "reads.jsonl"
    path.write_bytes(data[: len(data) // 2])
    tally = ingester.ingest_file(path)
    torn = data[: len(data) // 2].rpartition(b"\n")[2]
    assert tally.reasons == {"TORN": 1}
    [entry] = aside(tmp_path)
    assert (entry["source"], entry["line"], entry["reason"]) == ("reads.jsonl", tally.lines, "TORN")
    assert base64.b64decode(str(entry["raw"])) == torn
    path.write_bytes(data)
    assert brief(ingester.ingest_file(path)) == (100 - tally.accepted, tally.accepted, 0, 0, 100)
    assert store.count() == 100


def test_what_is_set_aside_of_a_stream_names_its_sender(ingester: Ingester, tmp_path: Path) -> None:
    ingester.ingest_records(RecordFormat.OPENALPR, [b"junk"], camera="pa-014")
    assert [entry["source"] for entry in aside(tmp_path)] == ["stream:pa-014"]


def test_a_set_aside_csv_line_can_be_sent_again_as_it_is(ingester: Ingester, tmp_path: Path) -> None:
    path = tmp_path / "reads.csv"
    path.write_bytes(b"plate,time,camera\n7ABC123,%d,c1" % NOW_MS)
    assert ingester.ingest_file(path).reasons == {"TORN": 1}
    [entry] = aside(tmp_path)
    again = ingester.ingest_records(RecordFormat.CSV, [base64.b64decode(str(entry["raw"]))])
    assert (again.accepted, again.rejected) == (1, ())


def test_a_batch_says_of_each_bad_record_where_and_why(ingester: Ingester) -> None:
    two = encode(result(results=[{"plate": "AAA111"}, {"plate": "?"}]))
    done = ingester.ingest_records(RecordFormat.OPENALPR, [*groups(2), b"junk", two, encode(result(results=[]))])
    assert (done.accepted, done.duplicates) == (3, 0)
    assert [(r.index, r.reason) for r in done.rejected] == [(2, "NOT_JSON"), (3, "BAD_PLATE")]


def test_an_expired_record_is_counted_and_its_bytes_are_not_kept(ingester: Ingester, tmp_path: Path) -> None:
    old = encode(group(best_uuid_epoch_ms=NOW_MS - YEAR_S * 1000 - 1))
    done = ingester.ingest_records(RecordFormat.OPENALPR, [old])
    assert [(r.index, r.reason) for r in done.rejected] == [(0, "EXPIRED")]
    assert aside(tmp_path) == []


def test_a_batch_of_more_than_a_thousand_is_refused(ingester: Ingester) -> None:
    with pytest.raises(InvalidInput, match="at most 1000"):
        ingester.ingest_records(RecordFormat.OPENALPR, [b"{}"] * 1001)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.csv", "CANNOT_READ"),
        ("reads.txt", "UNKNOWN_FORMAT"),
        ("folder.json", "CANNOT_READ"),
        ("pipe.csv", "CANNOT_READ"),
    ],
)
def test_what_is_no_camera_file_is_refused(ingester: Ingester, tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "reads.txt").write_bytes(b"<a/>")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InvalidInput) as caught:
        ingester.ingest_file(tmp_path / name)
    assert caught.value.reason == why


def test_what_is_set_aside_is_the_owners_alone(ingester: Ingester, tmp_path: Path) -> None:
    ingester.ingest_records(RecordFormat.OPENALPR, [b"junk"])
    assert (tmp_path / "set-aside").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "set-aside" / "20260131.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(ingester: Ingester, tmp_path: Path) -> None:
    (tmp_path / "set-aside").mkdir()
    (tmp_path / "set-aside" / "20260131.jsonl").write_bytes(b'{"id": "ab')
    ingester.ingest_records(RecordFormat.OPENALPR, [b"junk"])
    last = (tmp_path / "set-aside" / "20260131.jsonl").read_bytes().splitlines()[-1]
    assert orjson.loads(last)["reason"] == "NOT_JSON"


def test_set_aside_records_go_when_they_are_older_than_asked(store: SqliteStore, tmp_path: Path) -> None:
    times = itertools.chain([ago(7200)] * 3, itertools.repeat(NOW))
    ingester = Ingester(store, tmp_path / "set-aside", lambda: next(times), source="police")
    ingester.ingest_records(RecordFormat.OPENALPR, [b"old junk"])
    ingester.ingest_records(RecordFormat.OPENALPR, [b"new junk"])
    count = ingester.purge_set_aside(ago(3600))
    assert (count, [base64.b64decode(str(e["raw"])) for e in aside(tmp_path)]) == (1, [b"new junk"])


def test_nothing_is_kept_when_bad_records_cannot_be_set_aside(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "set-aside").write_bytes(b"a file where the folder should be")
    ingester = Ingester(store, tmp_path / "set-aside", clock, source="police")
    with pytest.raises(Unavailable) as caught:
        ingester.ingest_records(RecordFormat.OPENALPR, [*groups(1), b"junk"])
    assert (caught.value.reason, store.count()) == ("SET_ASIDE_FAILED", 0)


def test_a_store_that_fails_fails_the_batch(ingester: Ingester, store: SqliteStore) -> None:
    store.close()
    with pytest.raises(StoreError):
        ingester.ingest_records(RecordFormat.OPENALPR, groups(1))


def test_no_plate_is_in_a_log_line_an_error_or_a_repr(
    ingester: Ingester, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "reads.csv"
    path.write_bytes(b"7SECRT1,%d,c1\n" % NOW_MS)
    with pytest.raises(InvalidInput) as caught:
        ingester.ingest_file(path)
    records = [encode(group(best_plate_number=p)) for p in ("7SECRT1", "7SECRT1!!")]
    done = ingester.ingest_records(RecordFormat.OPENALPR, records)
    assert done.accepted == 1
    for text in (caplog.text, str(caught.value), repr(caught.value), repr(done)):
        assert "SECRT" not in text


@pytest.mark.parametrize("seed", range(5))
def test_killed_in_ingest_nothing_acknowledged_is_lost_and_nothing_is_doubled(tmp_path: Path, seed: int) -> None:
    acknowledged_before_kill = random.Random(seed).randrange(1, 40)
    command = [sys.executable, "-m", "tests.unit.node.ingest_child", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        acknowledged = [int(line) for line in itertools.islice(child.stdout, acknowledged_before_kill)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith(b"\n")]
    assert child.returncode == -signal.SIGKILL
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    for n in acknowledged:
        for i in range(n * 20, n * 20 + 19):
            assert store.exact(Plate(number=f"AB{i:05d}", state="CA"), ago(YEAR_S), NOW + dt.timedelta(1), 5), i
    kept = {base64.b64decode(str(e["raw"])) for e in aside(tmp_path)}
    assert {b"junk %d" % n for n in acknowledged} <= kept
    store.close()
    subprocess.run([*command, "50"], check=True, stdout=subprocess.DEVNULL)
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    whole = max(50, len(acknowledged) + 1)
    assert 50 * 19 <= store.count() <= whole * 19
    for i in (i for i in range(50 * 20) if i % 20 != 19):
        assert len(store.exact(Plate(number=f"AB{i:05d}", state="CA"), ago(YEAR_S), NOW + dt.timedelta(1), 5)) == 1
    raws = [base64.b64decode(str(e["raw"])) for e in aside(tmp_path)]
    assert len(raws) == len(set(raws))
    store.close()
