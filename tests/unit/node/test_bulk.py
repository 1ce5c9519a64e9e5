"""Bulk loading: rows that pass the growing segment by are there once, whatever came before, meanwhile or twice."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.plate import Plate
from node.store import bulk
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

DAY_S = 86_400
PLATE = Plate(number="7ABC123", state="CA")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SqliteStore.create(tmp_path / "store")
    return tmp_path / "store"


def opened(folder: Path, retention_s: int = YEAR_S) -> SqliteStore:
    return SqliteStore.open(folder, retention_s=retention_s, clock=clock)


def of_days(*days: int) -> list[Detection]:
    return [detection(seconds=d * DAY_S) for d in days]


def days_found(store: SqliteStore) -> list[int]:
    found = store.exact(PLATE, ago(YEAR_S - 60), NOW, 10_000)
    return [round((NOW - m.detection.captured_at).total_seconds() / DAY_S) for m in found]


@settings(max_examples=20, deadline=None)
@given(
    grown=st.sets(st.integers(1, 200), max_size=8),
    loads=st.lists(st.lists(st.lists(st.integers(1, 200), max_size=8), max_size=4), max_size=3),
)
def test_whatever_is_loaded_in_any_order_over_whatever_was_there_is_found_and_counted_once(
    tmp_path_factory: pytest.TempPathFactory, grown: set[int], loads: list[list[list[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "store"
    SqliteStore.create(folder)
    store, known = opened(folder), set(grown)
    store.add(of_days(*grown))
    for batches in loads:
        with store.loading() as load:
            for days in batches:
                load.add(of_days(*days))
            added = load.finish()
        given_days = [d for days in batches for d in days]
        assert (added.accepted, added.accepted + added.duplicates) == (len(set(given_days) - known), len(given_days))
        known.update(given_days)
    assert days_found(store) == sorted(known)
    assert store.count() == len(known)
    store.close()


def test_a_period_is_built_while_later_ones_still_come_and_late_rows_of_it_are_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ENOUGH_ROWS", 2)
    store = opened(folder)
    with store.loading() as load:
        for days in ((100, 101, 102), (50, 51, 52), (1, 2, 3), (103, 104, 102), (50, 53)):
            load.add(of_days(*days))
        added = load.finish()
    assert (added.accepted, added.duplicates) == (12, 2)
    assert days_found(store) == sorted({100, 101, 102, 50, 51, 52, 1, 2, 3, 103, 104, 53})
    store.sealer.run()
    assert store.count() == 12
    store.close()


def test_a_load_that_fails_leaves_no_file_and_what_was_there(folder: Path) -> None:
    store = opened(folder)
    store.add(of_days(1, 40))
    with pytest.raises(AttributeError), store.loading() as load:
        load.add([*of_days(2, 41), None])  # type: ignore[list-item]
    assert days_found(store) == [1, 40]
    assert not list(folder.glob("*.tmp*"))
    assert store.add(of_days(2)).accepted == 1
    store.close()


def test_ingest_and_searches_go_on_during_a_load_and_what_both_bring_is_found_once(folder: Path) -> None:
    store = opened(folder)
    with store.loading() as load:
        load.add(of_days(3, 4))
        assert store.add(of_days(4, 5)).accepted == 2
        assert days_found(store) == [4, 5]
        load.finish()
    assert days_found(store) == [3, 4, 5]
    store.close()


def test_what_is_loaded_is_the_owners_alone(folder: Path) -> None:
    store = opened(folder)
    with store.loading() as load:
        load.add(of_days(1, 40))
        assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {"0o600"}
        load.finish()
    assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {"0o600"}
    store.close()


def test_a_node_that_seals_nothing_takes_no_load(folder: Path) -> None:
    store = opened(folder, 2 * DAY_S)
    with pytest.raises(InvalidInput) as caught, store.loading() as load:
        load.finish()
    assert caught.value.reason == "NO_BULK"
    store.close()


CHILD = "import sys; from tests.unit.node.test_bulk import child; child(sys.argv[1])"
LOADED = range(1, 120)


def child(folder: str) -> None:
    """Load four months of reads again and again until killed; say when each load begins."""
    store = opened(Path(folder))
    bulk.ENOUGH_ROWS = 2
    while True:
        with store.loading() as load:
            print("begun", flush=True)
            for first in reversed(LOADED[::10]):
                load.add(of_days(*range(first, min(first + 10, LOADED.stop))))
            load.finish()


def killed_at_points(parent: Path, points: int) -> None:
    dice = random.Random("bulk")
    for point in range(points):
        folder = parent / str(point)
        SqliteStore.create(folder)
        process = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(dice.random() * 0.1)  # not until something happens: the kill shall come anywhere
        process.kill()
        process.wait()
        process.stdout.close()
        store = opened(folder)
        found = days_found(store)
        assert len(found) == len(set(found))
        with store.loading() as load:
            load.add(of_days(*LOADED))
            load.finish()
        assert days_found(store) == list(LOADED)
        assert store.count() == len(LOADED)
        assert not list(folder.glob("*.tmp*"))
        store.close()


def test_a_load_killed_at_any_point_is_done_again_and_doubles_and_loses_nothing(tmp_path: Path) -> None:
    killed_at_points(tmp_path, 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_hundred_kills_of_a_load_double_and_lose_nothing(tmp_path: Path) -> None:
    killed_at_points(tmp_path, 200)
