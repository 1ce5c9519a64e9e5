"""Room in the write-ahead file: made after it grew, never in the way of what is in it, and not needed by anybody."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.log import DecisionLog
from audit.room import MOST_BYTES, Room
from audit.verify import verify
from tests.unit.audit.sample import ORIGIN, START, HandClock

GROWN = {
    "a small file by as much again": (12_392, 24_784),
    "a large one by no more than the most": (MOST_BYTES + 1, 2 * MOST_BYTES + 1),
    "an empty one not at all": (0, 0),
}


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    return tmp_path / "log.db-wal"


@pytest.fixture
def room(wal: Path) -> Iterator[Room]:
    made = Room(wal)
    yield made
    made.close()


@pytest.mark.parametrize(("size", "after"), GROWN.values(), ids=GROWN)
def test_room_lengthens(size: int, after: int, wal: Path, room: Room) -> None:
    wal.write_bytes(b"x" * size)
    room.make()
    assert wal.read_bytes() == b"x" * size + bytes(after - size)


def test_a_file_that_is_not_there_yet_is_not_made(wal: Path, room: Room) -> None:
    room.make()
    assert not wal.exists()
    wal.write_bytes(b"x" * 10)
    room.make()
    assert wal.stat().st_size == 20


def test_what_is_written_into_the_room_stands_and_no_more_is_made_until_it_is_used_up(wal: Path, room: Room) -> None:
    wal.write_bytes(b"x" * 100)
    room.make()
    with wal.open("r+b") as file:
        file.seek(100)
        file.write(b"y" * 100)
    room.make()
    assert wal.read_bytes() == b"x" * 100 + b"y" * 100
    with wal.open("ab") as file:
        file.write(b"z")
    room.make()
    assert wal.read_bytes() == b"x" * 100 + b"y" * 100 + b"z" + bytes(201)


def test_a_file_that_was_cut_short_gets_room_again_once_it_holds_something(wal: Path, room: Room) -> None:
    wal.write_bytes(b"x" * 100)
    room.make()
    os.truncate(wal, 0)
    room.make()
    assert wal.stat().st_size == 0
    with wal.open("r+b") as file:
        file.write(b"y" * 30)
    room.make()
    assert wal.read_bytes() == b"y" * 30 + bytes(30)


def test_a_program_that_is_started_again_and_again_makes_no_more_room_than_it_uses(wal: Path) -> None:
    wal.write_bytes(b"x" * MOST_BYTES)
    for start in range(1, 20):
        room = Room(wal)
        room.make()
        room.close()
        with wal.open("r+b") as file:
            file.seek(MOST_BYTES + (start - 1) * 4120)
            file.write(b"y" * 4120)
    assert wal.stat().st_size == 2 * MOST_BYTES


@pytest.mark.parametrize("left", [0, 4120, 16 * 1024 - 1], ids=["none", "of a frame", "too little"])
def test_a_program_that_is_started_again_makes_room_where_too_little_is_left(left: int, wal: Path, room: Room) -> None:
    wal.write_bytes(b"x" * 100_000 + bytes(left))
    room.make()
    assert wal.stat().st_size == 2 * (100_000 + left)


def test_nothing_is_written_through_a_link_that_stands_in_the_files_place(wal: Path, room: Room) -> None:
    other = wal.with_name("other")
    other.write_bytes(b"x" * 100)
    wal.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        room.make()
    assert other.stat().st_size == 100


@contextlib.contextmanager
def no_file_beyond(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 150], ids=["some is left", "none is left"])
def test_where_there_is_too_little_room_what_is_left_is_taken_and_nobody_is_refused(
    size: int, wal: Path, room: Room
) -> None:
    wal.write_bytes(b"x" * size)
    with no_file_beyond(150):
        room.make()
    assert wal.read_bytes() == b"x" * size + bytes(150 - size)


async def test_most_commits_of_a_log_leave_its_write_ahead_file_as_long_as_it_was(tmp_path: Path) -> None:
    DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()).close()
    lengths: list[int] = []
    with DecisionLog.open(tmp_path, clock=HandClock()) as log:
        for _ in range(100):
            await log.append([START])
            lengths.append((tmp_path / "log.db-wal").stat().st_size)
        assert verify(tmp_path).fault is None
    assert len(set(lengths)) <= 15
    assert not (tmp_path / "log.db-wal").exists()
    assert verify(tmp_path).entries == 100


async def test_a_log_left_with_room_behind_its_last_commit_is_recovered_whole(tmp_path: Path) -> None:
    DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()).close()
    log = DecisionLog.open(tmp_path, clock=HandClock())
    for _ in range(5):
        await log.append([START])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("log.db", "log.db-wal", "log.key", "log.vkey"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
        (copy / name).chmod(0o600)
    log.close()
    assert (copy / "log.db-wal").read_bytes().endswith(bytes(4096))
    assert verify(copy).entries == 5
    with DecisionLog.open(copy, clock=HandClock()) as again:
        assert (await again.append([START])).first_index == 5
    assert verify(copy).fault is None
