"""Real processes that are killed, refused or run out of room: nothing that was acknowledged is lost."""

from __future__ import annotations

import json
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
        self.process.wait()
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


class Searcher:
    """The broker's search flow in processes that are killed; `released` is all that investigators were given."""

    def __init__(self, keys: Path) -> None:
        command = [sys.executable, "-m", "tests.unit.audit.searcher", str(keys)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.released: set[tuple[str, ...]] = set()

    def run(self, folder: Path, releases: int, after_s: float) -> str:
        """One process on the log in `folder`, killed so long after so many releases; returns how it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder} {releases} {after_s:.6f}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            words = tuple(line.split())
            if len(words) == 1:
                return words[0]
            self.released.add(words)
        return "gone"

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    started = Searcher(tmp_path_factory.mktemp("keys"))
    yield started
    started.end()


def _recorded(folder: Path) -> set[tuple[str, ...]]:
    with LogReader.open(folder) as reader:
        values = [json.loads(entry) for _, _, entry in reader.rows()]
    said = {"decision": "effect", "outcome": "outcome"}
    return {(v["type"], v["inquiry_id"], v["node"], v[said[v["type"]]]) for v in values if v["type"] in said}


def _kill_brokers(times: int, searcher: Searcher, tmp_path: Path, seed: int) -> int:
    """Kill so many, a new log every 20th time; returns how many releases were given before."""
    instants, given = random.Random(seed), 0
    for number in range(times):
        folder = tmp_path / f"{number // 20}"
        if number % 20 == 0:
            given += len(searcher.released)
            searcher.released.clear()
            folder.mkdir()
            DecisionLog.create(folder, origin=ORIGIN, clock=HandClock()).close()
        assert searcher.run(folder, instants.randrange(80), instants.expovariate(1 / 0.02)) == "killed"
        report = verify(folder)
        assert report.fault is None
        assert searcher.released <= _recorded(folder)
        with DecisionLog.open(folder, clock=HandClock()) as log:
            assert log.head.size == report.entries
    return given + len(searcher.released)


def test_a_loaded_broker_killed_at_any_instant_has_recorded_whatever_it_released(
    searcher: Searcher, tmp_path: Path
) -> None:
    assert _kill_brokers(10, searcher, tmp_path, seed=7) > 100


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_loaded_broker_killed_at_500_instants_has_recorded_whatever_it_released(
    searcher: Searcher, tmp_path: Path
) -> None:
    assert _kill_brokers(500, searcher, tmp_path, seed=8) > 5_000


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
