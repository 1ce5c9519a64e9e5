"""A disk that fails to keep what was written, or has no room: the process stops, and never tries again."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.log import DecisionLog
from audit.verify import verify
from tests.unit.audit.sample import ORIGIN, START, HandClock

APPENDER = [sys.executable, "-m", "tests.unit.audit.appender"]
SYNC = "fdatasync,fsync"


def _traceable() -> str:
    """Why a process of ours cannot be traced here; empty if it can."""
    if shutil.which("strace") is None:
        return "processes cannot be traced here: strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "processes cannot be traced here: not allowed"


WHY_NOT = _traceable()
traced = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    DecisionLog.create(folder, origin=ORIGIN, clock=HandClock()).close()
    return folder


def run(
    trace: Path, folder: Path, *options: str, more: tuple[str, ...] = (), lines: int | None = None
) -> tuple[dict[int, str], str]:
    """What an appender under strace was told is durable, and the last it said, `lines` entries at most."""
    calls = f"trace={SYNC},write,pwrite64,ftruncate"
    command = ["strace", "-f", "-qq", "-y", "-o", str(trace), "-e", calls, *options, *APPENDER, str(folder), *more]
    acknowledged: dict[int, str] = {}
    said = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.partition(" ")
            if word.isdigit():
                acknowledged[int(word)] = rest.strip()
            else:
                said = line.strip()
            if lines is not None and len(acknowledged) >= lines:
                process.terminate()
                break
    return acknowledged, said


def calls(trace: Path) -> Iterator[tuple[str, str, bool]]:
    """Every traced call: its name, the end of the path it is about, and whether it failed.

    A call during which another thread's was seen is two lines: a write counts from the first, a sync from the second.
    """
    pattern = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(\d+<([^>]*)>| resumed).*?(<unfinished \.\.\.>|= -1 .*)?$")
    begun: dict[str, str] = {}
    for line in trace.read_text("utf-8", "replace").splitlines():
        match = pattern.match(line)
        if not match:
            continue
        thread, name, path, end = match.groups()
        resumed = path is None
        path = begun.pop(thread, "") if resumed else path.rpartition("/")[2]
        unfinished = end is not None and end.startswith("<")
        if unfinished:
            begun[thread] = path
        failed = end is not None and not unfinished
        if failed or (not resumed if name not in SYNC.split(",") else not unfinished):
            yield name, path, failed


async def _goes_on(folder: Path, acknowledged: dict[int, str]) -> None:
    report = verify(folder)
    assert report.fault is None
    with DecisionLog.open(folder, clock=HandClock()) as log:
        stored = [
            e for start in range(0, log.head.size, 1000) for e in log.entries(start, min(log.head.size, start + 1000))
        ]
        assert len(stored) == report.entries > max(acknowledged, default=-1)
        assert (await log.append([START])).first_index == report.entries


@traced
@pytest.mark.parametrize("failing", [3, 20], ids=["third", "twentieth"])
async def test_after_a_failed_fsync_the_log_is_never_written_again(failing: int, tmp_path: Path, folder: Path) -> None:
    trace = tmp_path / "trace"
    acknowledged, said = run(trace, folder, "-e", f"inject={SYNC}:error=EIO:when={failing}")
    assert said == "ended LOG_BROKEN told 1"
    seen = [(name, path, failed) for name, path, failed in calls(trace) if path.startswith("log.db")]
    failures = [i for i, (name, _, failed) in enumerate(seen) if failed]
    assert len(failures) == 1, "it failed once, and nothing was tried after"
    after = [(name, path) for name, path, _ in seen[failures[0] + 1 :] if name in ("pwrite64", "fdatasync", "fsync")]
    assert after == []
    await _goes_on(folder, acknowledged)


@traced
def test_nothing_is_acknowledged_before_what_was_written_of_it_is_synced(tmp_path: Path, folder: Path) -> None:
    trace = tmp_path / "trace"
    acknowledged, _ = run(trace, folder, more=(str(10**9), "1"), lines=60)  # one caller: nothing overlaps
    assert len(acknowledged) >= 60
    unsynced, told = False, 0
    for name, path, failed in calls(trace):
        if failed:  # nobody listens any more
            break
        if name == "pwrite64" and path == "log.db-wal":
            unsynced = True
        elif name in ("fdatasync", "fsync") and path == "log.db-wal":
            unsynced = False
        elif name == "write" and path.startswith("pipe") and told:
            assert not unsynced, "an entry was acknowledged while its commit was not on the disk"
        told += name == "write" and path.startswith("pipe")
    assert told > 10


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    where = tmp_path / "small"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(where)]
    tried = subprocess.run(mount, capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("a small file system cannot be mounted without root; a limit on a file's size is tested instead")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_stops_the_log_and_it_goes_on_where_there_is_room(full_soon: Path, tmp_path: Path) -> None:
    DecisionLog.create(full_soon, origin=ORIGIN, clock=HandClock()).close()
    done = subprocess.run([*APPENDER, str(full_soon)], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "ended LOG_BROKEN told 1"
    acknowledged = {int(line.split()[0]): line.split()[1] for line in lines if line[0].isdigit()}
    assert len(acknowledged) > 10
    moved = tmp_path / "moved"
    shutil.copytree(full_soon, moved)
    asyncio.run(_goes_on(moved, acknowledged))
