"""Real processes that are killed, refused or run out of room: nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.log import DecisionLog
from audit.read import LogReader
from audit.tree import leaf_hash
from audit.verify import verify
from comity.errors import ConfigError
from tests.unit.audit.sample import ORIGIN, START, HandClock

APPENDER = [sys.executable, "-m", "tests.unit.audit.appender"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()).close()
    return tmp_path


class Appender:
    """A process that appends to the log in `folder`; `acknowledged` is what it was told is durable."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen([*APPENDER, str(folder), *arguments], stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout is not None
        self._lines = iter(self.process.stdout.readline, b"")
        self.acknowledged: dict[int, str] = {}
        self.said = ""
        assert next(self._lines) == b"open\n"

    def read(self, most: int | None = None) -> None:
        """Take what it says, up to so many entries."""
        for line in self._lines:
            word, _, rest = line.decode().partition(" ")
            if not line.endswith(b"\n"):
                return
            if not word.isdigit():
                self.said = line.decode().strip()
                return
            self.acknowledged[int(word)] = rest.strip()
            if most is not None and len(self.acknowledged) >= most:
                return

    def kill(self) -> None:
        """Kill it at once, then take what it had said before."""
        self.process.kill()
        self.read()
        self.end()

    def end(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def appender(folder: Path) -> Iterator[Appender]:
    started = Appender(folder)
    yield started
    if started.process.poll() is None:
        started.kill()


def _stored(folder: Path) -> dict[int, str]:
    with LogReader.open(folder) as reader:
        return {index: stored.hex() for index, stored, entry in reader.rows() if leaf_hash(entry) == stored}


def test_a_process_killed_while_it_writes_loses_no_acknowledged_entry(folder: Path) -> None:
    acknowledged: dict[int, str] = {}
    instants = random.Random(5)
    for _ in range(5):
        process = Appender(folder)
        process.read(instants.randrange(1, 400))
        process.kill()
        assert not acknowledged.keys() & process.acknowledged.keys()
        acknowledged |= process.acknowledged
        report = verify(folder)
        assert report.fault is None
        stored = _stored(folder)
        assert acknowledged.items() <= stored.items()
        with DecisionLog.open(folder, clock=HandClock()) as log:
            assert log.head.size == len(stored) == report.entries
    assert len(acknowledged) > 100


def test_two_processes_on_one_log_are_refused_until_the_first_is_gone(folder: Path, appender: Appender) -> None:
    appender.read(1)
    with pytest.raises(ConfigError) as refused:
        DecisionLog.open(folder, clock=HandClock())
    assert refused.value.reason == "LOG_IN_USE"
    appender.kill()
    DecisionLog.open(folder, clock=HandClock()).close()


@pytest.mark.parametrize("most_bytes", [60_000, 300_001, 1_000_000], ids=str)
async def test_a_log_that_has_no_room_left_stops_and_has_all_it_acknowledged(folder: Path, most_bytes: int) -> None:
    process = Appender(folder, str(most_bytes))
    process.read()
    process.end()
    assert process.said == "ended LOG_BROKEN told 1"
    report = verify(folder)
    assert report.fault is None
    stored = _stored(folder)
    assert process.acknowledged.items() <= stored.items()
    with DecisionLog.open(folder, clock=HandClock()) as log:
        assert (await log.append([START])).first_index == len(stored)
