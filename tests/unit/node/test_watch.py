"""The watched folder: a file is taken in when it is complete, once, and says afterwards what became of it."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from comity import instants
from comity.errors import ConfigError
from node.ingest import Ingester
from node.store.sqlite import SqliteStore
from node.watch import Look, Watch
from tests.unit.node.samples import NOW, NOW_MS, YEAR_S, clock, encode, group

DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(store: SqliteStore, folder: Path, tmp_path: Path) -> Watch:
    watch = Watch(folder, Ingester(store, tmp_path / "set-aside", clock, source="police"), clock)
    watch.prepare()
    return watch


def reads(n: int) -> bytes:
    return b"".join(encode(group(best_uuid=f"u-{i}", best_uuid_epoch_ms=NOW_MS - i)) + b"\n" for i in range(n))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_taken_in_when_two_looks_find_it_unchanged(watch: Watch, folder: Path, store: SqliteStore) -> None:
    (folder / "a.jsonl").write_bytes(reads(3)[:-20])
    assert watch.look() == Look(done=0, failed=0, left=0)
    (folder / "a.jsonl").write_bytes(reads(3))
    assert watch.look() == Look(done=0, failed=0, left=0)
    assert watch.look() == Look(done=1, failed=0, left=0)
    assert (store.count(), names(folder), names(folder / "done")) == (3, ["done", "failed"], ["a.jsonl"])


@pytest.mark.parametrize("name", [".a.jsonl", "a.jsonl.part", "a.jsonl.TMP"])
def test_a_file_whose_name_says_that_it_is_unfinished_waits(watch: Watch, folder: Path, name: str) -> None:
    (folder / name).write_bytes(reads(1))
    assert [watch.look().done for _ in range(3)] == [0, 0, 0]
    (folder / name).rename(folder / "a.jsonl")
    assert [watch.look().done for _ in range(2)] == [0, 1]


def test_a_file_that_is_wrong_as_a_whole_is_failed_with_its_reason_and_without_its_content(
    watch: Watch, folder: Path
) -> None:
    (folder / "reads.csv").write_bytes(b"7SECRT1,12,c1\n")
    watch.look()
    assert watch.look() == Look(done=0, failed=1, left=0)
    assert names(folder / "failed") == ["reads.csv", "reads.csv.reason.json"]
    note = (folder / "failed" / "reads.csv.reason.json").read_bytes()
    what = "the header lacks plate, time, camera"
    assert orjson.loads(note) == {"reason": "BAD_HEADER", "at": instants.to_text(NOW), "what": what}


def test_a_name_that_was_there_before_does_not_replace_the_earlier_file(watch: Watch, folder: Path) -> None:
    for n in (1, 2):
        (folder / "a.jsonl").write_bytes(reads(n))
        watch.look()
        watch.look()
    assert names(folder / "done") == ["1-a.jsonl", "a.jsonl"]
    assert (folder / "done" / "a.jsonl").read_bytes() == reads(1)


def test_after_a_crash_before_the_move_the_file_is_read_again_and_adds_nothing(
    watch: Watch, folder: Path, store: SqliteStore
) -> None:
    for _ in range(2):
        (folder / "a.jsonl").write_bytes(reads(3))
        watch.look()
        watch.look()
    assert store.count() == 3


def test_a_file_stays_where_it_is_while_the_store_cannot_keep_it(
    watch: Watch, folder: Path, store: SqliteStore
) -> None:
    (folder / "a.jsonl").write_bytes(reads(1))
    store.close()
    assert [watch.look().left for _ in range(2)] == [0, 1]
    assert (folder / "a.jsonl").read_bytes() == reads(1)


def test_a_link_is_not_followed_and_no_other_kind_of_file_is_read(watch: Watch, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(b"secret\n")
    (folder / "a.csv").symlink_to(tmp_path / "secret.csv")
    os.mkfifo(folder / "b.csv")
    (folder / "c.csv").mkdir()
    assert [watch.look() for _ in range(2)] == [Look(done=0, failed=0, left=0)] * 2


def test_what_was_taken_in_lives_no_longer_than_what_it_holds(watch: Watch, folder: Path) -> None:
    (folder / "a.jsonl").write_bytes(reads(1))
    (folder / "b.csv").write_bytes(b"junk\n")
    watch.look()
    watch.look()
    assert watch.purge(instants.now() - DAY) == 0
    assert watch.purge(instants.now() + DAY) == 3
    assert names(folder / "done") == names(folder / "failed") == []


def test_a_folder_that_is_not_there_is_not_made(store: SqliteStore, tmp_path: Path) -> None:
    watch = Watch(tmp_path / "gone", Ingester(store, tmp_path / "set-aside", clock, source="police"), clock)
    with pytest.raises(ConfigError) as caught:
        watch.prepare()
    assert caught.value.reason == "NO_WATCH_FOLDER"


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_it_takes_files_in_nothing_is_lost_and_nothing_is_doubled(
    watch: Watch, folder: Path, store: SqliteStore, tmp_path: Path, seed: int
) -> None:
    for n in range(12):
        lines = (encode(group(best_uuid=f"u-{n}-{i}", best_uuid_epoch_ms=NOW_MS - 1000 * n - i)) for i in range(40))
        (folder / f"{n}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    command = [sys.executable, "-m", "tests.unit.node.watch_child", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        list(itertools.islice(child.stdout, random.Random(seed).randrange(1, 11)))
        child.send_signal(signal.SIGKILL)
    while watch.look() != Look(done=0, failed=0, left=0) or len(names(folder)) > 2:
        pass
    assert store.count() == 12 * 40
    assert sorted(names(folder / "done")) == sorted(f"{n}.jsonl" for n in range(12))
