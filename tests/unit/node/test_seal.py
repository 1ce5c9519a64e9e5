"""Sealing: whatever a killed process, a full disk or a damaged file does to it, each row is there once."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.instants import from_ms
from comity.plate import Plate
from comity.query import PatternQuery
from node.store.interface import StoreError
from node.store.seal import period
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

PLATE = Plate(number="7ABC123", state="CA")
DAY_S = 86_400
SOAK_POINTS, CI_POINTS = 200, 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SqliteStore.create(tmp_path / "store")
    return tmp_path / "store"


def opened(folder: Path, rows: int = 50) -> SqliteStore:
    return SqliteStore.open(folder, retention_s=YEAR_S, clock=clock, max_hot_rows=rows)


def found(store: SqliteStore, begin: dt.datetime | None = None, end: dt.datetime = NOW) -> list[float]:
    matches = store.exact(PLATE, begin or ago(YEAR_S - 60), end, 10_000)
    return [(NOW - m.detection.captured_at).total_seconds() for m in matches]


def spread(folder: Path, days: int = 70) -> SqliteStore:
    """A store with one read a day, in sealed parts of the months that they are of."""
    store = opened(folder, days)
    store.add([detection(seconds=1)])
    store.add([detection(seconds=d * DAY_S) for d in range(1, days)])
    store.sealer.run()
    return store


def part_of(folder: Path, store: SqliteStore, *, newest: bool = False) -> Path:
    parts = [p for p in store.status().parts if p.state == "sealed"]
    return folder / parts[0 if newest else -1].name


@pytest.mark.parametrize(
    ("retention_s", "length"),
    [(YEAR_S, None), (30 * DAY_S, 7 * DAY_S), (14 * DAY_S, DAY_S), (3 * DAY_S, DAY_S)],
    ids=["a month for a year", "a week for a month", "a day for a fortnight", "a day for three"],
)
@given(st.integers(0, 4_000_000_000_000))
def test_every_time_is_in_exactly_one_period(retention_s: int, length: int | None, at: int) -> None:
    begin, end = period(at, retention_s)
    assert begin <= at < end
    assert period(begin, retention_s) == period(end - 1, retention_s) == (begin, end)
    if length is None:
        assert (from_ms(begin).day, from_ms(end).day) == (1, 1)
    else:
        assert end - begin == length * 1000


def test_a_sealed_part_is_of_one_month_and_its_plates_are_in_its_own_dictionary(folder: Path) -> None:
    store = spread(folder)
    parts = [p for p in store.status().parts if p.state == "sealed"]
    assert len(parts) == 3
    assert all(p.oldest and p.newest and (p.oldest.month == p.newest.month) for p in parts)
    with contextlib.closing(sqlite3.connect(folder / parts[0].name)) as connection:
        assert connection.execute("SELECT skel, plate FROM plates").fetchall() == [(PLATE.skeleton, "7ABC123")]
        assert connection.execute("SELECT rowid FROM tri WHERE tri MATCH 'A8C'").fetchall() == [(1,)]
    store.close()


def test_sealed_files_are_the_owners_alone_and_no_draft_is_left(folder: Path) -> None:
    store = spread(folder)
    assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {"0o600"}
    assert not list(folder.glob("*.tmp*"))
    store.close()


def test_the_parts_of_a_month_that_is_over_become_one(folder: Path) -> None:
    store = opened(folder, 2)
    for s in range(1, 30):
        store.add([detection(seconds=60 * DAY_S + s)])
    store.sealer.run()
    store.sealer.run()
    assert [p.rows for p in store.status().parts if p.state == "sealed"] == [
        store.count() - store.status().parts[0].rows
    ]
    assert len(found(store)) == 29
    store.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.sampled_from(["add", "seal", "reopen"])), max_size=25))
def test_whatever_is_added_sealed_and_merged_in_any_order_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "store"
    SqliteStore.create(folder)
    store, days = opened(folder, 4), set[int]()
    for day, step in steps:
        if step == "add":
            assert store.add([detection(seconds=day * DAY_S)]).accepted == (day not in days)
            days.add(day)
        elif step == "seal":
            store.sealer.run()
        else:
            store.close()
            store = opened(folder, 4)
    assert found(store) == [d * DAY_S for d in sorted(days)]
    store.close()


def test_searches_and_ingest_go_on_while_segments_are_sealed_and_merged(folder: Path) -> None:
    store, stop, failures = opened(folder, 20), threading.Event(), list[BaseException]()

    def guarded(work: object) -> None:
        try:
            while not stop.is_set():
                work()  # type: ignore[operator]
        except BaseException as e:
            failures.append(e)

    def search() -> None:
        least = added[0]
        assert len(found(store)) >= least

    added = [0]
    threads = [threading.Thread(target=guarded, args=(w,)) for w in (search, search, store.sealer.run)]
    for thread in threads:
        thread.start()
    for s in range(300):
        store.add([detection(seconds=1 + s * 7200)])
        added[0] = s + 1
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert found(store) == [1 + s * 7200 for s in range(300)]
    store.close()


@pytest.mark.parametrize("damage", ["a byte flipped", "cut short", "gone", "overwritten"])
def test_a_damaged_part_fails_its_span_with_its_reason_and_others_are_still_answered(folder: Path, damage: str) -> None:
    store = spread(folder)
    path, whole = part_of(folder, store), found(store)
    old = next(p for p in store.status().parts if p.name == path.name)
    data = bytearray(path.read_bytes())
    store.close()
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "overwritten":
        path.write_bytes(b"\xff" * len(data))
    else:
        place = data.index(b"7ABC123")
        data[place] ^= 1
        path.write_bytes(data)
    store = opened(folder)
    store.sealer.prove()
    assert old.newest is not None
    after = old.newest + dt.timedelta(milliseconds=1)
    for begin in (None, old.newest):
        with pytest.raises(StoreError) as caught:
            found(store, begin)
        assert caught.value.reason == "PART_SET_ASIDE"
    assert found(store, after) == [s for s in whole if NOW - dt.timedelta(seconds=s) >= after]
    aside = [p for p in store.status().parts if p.state == "set-aside"]
    assert [(p.name, bool(p.reason)) for p in aside] == [(path.name, True)]
    store.close()


def test_a_part_damaged_while_serving_is_set_aside_by_the_search_that_meets_it(folder: Path) -> None:
    store = spread(folder)
    path = part_of(folder, store)
    store.close()
    store = opened(folder)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(StoreError) as caught:
        found(store)
    assert caught.value.reason == "PART_SET_ASIDE"
    assert store.add([detection(seconds=5)]).accepted == 1
    assert found(store, ago(60)) == [1, 5]
    store.close()


def test_a_part_set_aside_serves_again_once_its_backup_is_in_its_place(folder: Path) -> None:
    store = spread(folder)
    path, expected = part_of(folder, store), found(store)
    backup = path.read_bytes()
    path.write_bytes(backup[:-1] + b"x")
    assert store.sealer.prove() == 2
    with pytest.raises(StoreError):
        found(store)
    path.write_bytes(backup)
    assert store.sealer.prove() == 3
    assert found(store) == expected
    store.close()


def test_proving_reads_every_part_and_sets_none_aside_that_is_whole(folder: Path) -> None:
    store = spread(folder)
    assert store.sealer.prove() == 3
    assert len(found(store)) == 70
    store.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.unit.node.test_seal import opened
from node.store.interface import StoreError
store = opened(Path(sys.argv[1]), 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    store.sealer.run()
except StoreError as e:
    print(e.reason)
"""


def test_a_disk_that_takes_no_more_costs_the_seal_and_no_row(folder: Path) -> None:
    store = opened(folder, 10)
    for i in range(3):
        store.add([detection(seconds=1 + i * 1000 + s) for s in range(400)])
    expected = found(store)
    store.close()
    child = subprocess.run([sys.executable, "-c", FULL_DISK, folder], capture_output=True, check=True, text=True)
    assert child.stdout.split()[0] in {"STORE_FULL", "STORE_FAILED"}
    store = opened(folder, 10)
    assert found(store) == expected
    assert store.sealer.run().rows > 0
    assert found(store) == expected
    assert not list(folder.glob("*.tmp*"))
    store.close()


CHILD = "import sys; from tests.unit.node.test_seal import child; child(sys.argv[1], sys.argv[2], int(sys.argv[3]))"


LAST_HOUR = 5_000


def hours(n: int) -> int:
    """How many seconds before NOW row `n` is; an hour later than the one before."""
    return 1 + (LAST_HOUR - n) * 3600


def child(folder: str, work: str, first: int) -> None:
    """Add rows from number `first` on, say which are durable, and seal or purge all the while, until killed."""
    store = opened(Path(folder), 12)
    print("open", flush=True)
    for n in range(first, LAST_HOUR):
        store.add([detection(seconds=hours(n))])
        print(n, flush=True)
        if work != "ingest" and n % 5 == 0:
            store.sealer.run()
        if work == "purge" and n % 3 == 0:
            store.purge(ago(hours(n - 20)))


def acknowledged(folder: Path, work: str, first: int, lines: int, more_s: float) -> int:
    """The number after the last row that a child said is durable before it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, work, str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    last = first
    for _ in range(lines):
        last = int(process.stdout.readline()) + 1
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(more_s)  # not until something happens: the kill shall come anywhere
    process.kill()
    for line in process.stdout.read().splitlines(keepends=True):
        if line.endswith("\n"):
            last = int(line) + 1
    process.wait()
    process.stdout.close()
    return last


def killed_at_points(folder: Path, work: str, points: int) -> None:
    dice, last, gone = random.Random(work), 0, 0
    for _ in range(points):
        last = acknowledged(folder, work, last, dice.randrange(1, 12), dice.random() * 0.05)
        store = opened(folder, 12)
        rows, kept = found(store), (NOW - store.horizon()).total_seconds()
        assert len(rows) == len(set(rows))
        expected = [hours(n) for n in reversed(range(last)) if hours(n) <= kept]
        # The one that was being added may be there too.
        assert rows in (expected, [hours(last), *expected])
        last += len(rows) - len(expected)
        gone = last - len(rows)
        store.close()
    assert bool(gone) == (work == "purge")


@pytest.mark.parametrize("work", ["ingest", "seal", "purge"])
def test_a_process_killed_at_any_point_loses_and_doubles_no_acknowledged_row(folder: Path, work: str) -> None:
    killed_at_points(folder, work, CI_POINTS // 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("work", ["ingest", "seal", "purge"])
def test_two_hundred_kills_lose_and_double_no_acknowledged_row(folder: Path, work: str) -> None:
    killed_at_points(folder, work, SOAK_POINTS)


def test_a_process_killed_after_each_step_of_a_seal_leaves_files_that_the_next_one_clears(folder: Path) -> None:
    store = spread(folder)
    for name in ("part-900.db", "part-901.db.tmp", "hot-800.db", "hot-800.db-wal", ".manifest.json.abcd"):
        (folder / name).write_bytes(b"left")
    expected = found(store)
    store.sealer.run()
    names = {p.name for p in folder.iterdir()}
    assert not {n for n in names if "80" in n or "90" in n or n.startswith(".manifest")}
    assert found(store) == expected
    store.close()


def test_a_part_sealed_without_the_index_of_places_is_searched_with_the_same_answer(folder: Path) -> None:
    store, query = spread(folder), PatternQuery.parse("7?B?1*3", "CA")
    expected = store.partial(query, ago(YEAR_S - 60), NOW, 10_000)
    path = part_of(folder, store)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE pos")
    store = opened(folder)
    assert store.partial(query, ago(YEAR_S - 60), NOW, 10_000) == expected
    assert len(expected) == 70
    store.close()
