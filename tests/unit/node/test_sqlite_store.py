"""What can go wrong with the files of the SQLite store: each is an error with its reason, never an empty answer."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from comity.errors import ConfigError
from comity.plate import Plate
from node.store.interface import StoreError
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

PLATE = Plate(number="7ABC123", state="CA")


def opened(folder: Path) -> SqliteStore:
    return SqliteStore.open(folder, retention_s=YEAR_S, clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SqliteStore.create(tmp_path / "store")
    return tmp_path / "store"


def fill(folder: Path, rows: int = 2000) -> None:
    store = opened(folder)
    store.add([detection(seconds=i) for i in range(1, rows)])
    store.close()


def test_folder_and_files_are_the_owners_alone(folder: Path) -> None:
    store = opened(folder)
    store.add([detection()])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {
        ".change.lock": "0o600",
        "manifest.json": "0o600",
        "hot-0.db": "0o600",
        "hot-0.db-wal": "0o600",
        "hot-0.db-shm": "0o600",
    }
    store.close()


def test_every_commit_is_synced_to_the_disk_in_wal_mode(folder: Path) -> None:
    store = opened(folder)
    with store._shelf.view().active.writing() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_making_a_store_again_leaves_it_as_it_is(folder: Path) -> None:
    fill(folder, 10)
    SqliteStore.create(folder)
    store = opened(folder)
    assert store.count() == 9
    store.close()


def test_a_store_whose_making_was_cut_short_is_completed(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    (folder / "hot-0.db").touch(mode=0o600)
    with pytest.raises(ConfigError):
        opened(folder)
    SqliteStore.create(folder)
    store = opened(folder)
    assert store.add([detection()]).accepted == 1
    store.close()


def test_serving_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="node init"):
        opened(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "hot-0.db").chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        opened(folder)


def test_another_programs_database_is_refused(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "hot-0.db")) as connection:
        connection.execute("PRAGMA application_id=7")
    with pytest.raises(ConfigError, match="not a detection store"):
        opened(folder)


def test_a_file_that_is_no_database_is_an_error(folder: Path) -> None:
    (folder / "hot-0.db").write_bytes(b"junk" * 5000)
    with pytest.raises(StoreError) as caught:
        opened(folder)
    assert caught.value.reason == "STORE_CORRUPT"


def test_damaged_pages_are_an_error_and_never_no_match(folder: Path) -> None:
    fill(folder)
    data = bytearray((folder / "hot-0.db").read_bytes())
    data[3 * 4096 :] = b"\xff" * (len(data) - 3 * 4096)
    (folder / "hot-0.db").write_bytes(data)
    store = opened(folder)
    with pytest.raises(StoreError) as caught:
        store.exact(PLATE, ago(YEAR_S), NOW, 10)
    assert caught.value.reason == "STORE_CORRUPT"


def test_a_row_that_was_never_written_is_an_error(folder: Path) -> None:
    fill(folder, 3)
    with contextlib.closing(sqlite3.connect(folder / "hot-0.db")) as connection:
        connection.execute("DELETE FROM word WHERE kind = 'camera'")
        connection.commit()
    store = opened(folder)
    with pytest.raises(StoreError) as caught:
        store.exact(PLATE, ago(YEAR_S), NOW, 10)
    assert caught.value.reason == "STORE_CORRUPT"


def test_a_file_that_has_gone_is_an_error_and_no_new_store(folder: Path) -> None:
    store = opened(folder)
    store.close()
    store = opened(folder)
    store._shelf.view().active._idle.clear()
    (folder / "hot-0.db").unlink()
    with pytest.raises(StoreError):
        store.exact(PLATE, ago(YEAR_S), NOW, 10)
    assert not (folder / "hot-0.db").exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.unit.node.samples import YEAR_S, clock, detection
from node.store.interface import StoreError
from node.store.sqlite import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]), retention_s=YEAR_S, clock=clock)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
kept = 0
try:
    while True:
        kept += store.add([detection(seconds=1 + kept + i) for i in range(100)]).accepted
except StoreError as e:
    print(kept, e.reason)
"""


def test_a_disk_that_takes_no_more_fails_the_batch_and_keeps_the_acknowledged_ones(folder: Path) -> None:
    child = subprocess.run([sys.executable, "-c", FULL_DISK, folder], capture_output=True, check=True, text=True)
    kept, reason = child.stdout.split()
    assert reason in {"STORE_FULL", "STORE_FAILED"}
    store = opened(folder)
    assert store.count() == int(kept) > 0
    assert store.add([detection(seconds=900_000)]).accepted == 1
    store.close()


def test_no_error_of_the_store_repeats_a_plate(folder: Path) -> None:
    fill(folder)
    (folder / "hot-0.db").write_bytes((folder / "hot-0.db").read_bytes()[: 5 * 4096])
    with pytest.raises(StoreError) as caught:
        opened(folder).exact(PLATE, ago(YEAR_S), NOW, 10)
    assert PLATE.number not in f"{caught.value!r} {caught.value}"
