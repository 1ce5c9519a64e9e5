"""What runs beside the searches of a node."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, cast

import pytest

from comity.errors import Unavailable
from identity.running import Running
from node import app
from node.app import NodeProgram, kept_up
from node.parts import guard_of
from node.retention import ClockGuard


async def test_a_defect_does_not_end_what_a_node_does_for_ever() -> None:
    done = asyncio.Event()
    rounds: list[int] = []

    async def job() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            raise OSError("no space left")
        done.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(kept_up(job, 0.0))
    await done.wait()
    assert rounds == [0, 1, 2]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@dataclass
class Purging:
    """A node's program as far as its purge goes; the second round ends it. `said` is what was done, in order."""

    said: list[str] = field(default_factory=list)
    rounds: int = 0
    retention_s: int = 86_400

    def __post_init__(self) -> None:
        self._parts = self.config = self.ingester = self._policy = self.published = self
        self._retention = self._kept = self._intake = self._done = self
        self._housekeeper = None
        self.failing: dict[str, str] = {}

    @property
    def purge_every_s(self) -> float:
        self.rounds += 1
        if self.rounds > 1:
            raise EOFError
        return 0.0

    def check_clock(self, now: dt.datetime) -> None:
        self.said.append("clock")
        raise Unavailable("the clock jumped", reason="CLOCK_JUMPED")

    def purge(self, *_: object) -> None:
        self.said.append("pictures or kept answers")

    def purge_set_aside(self, *_: object) -> None:
        self.said.append("records set aside")

    def run(self, *_: object) -> None:
        self.said.append("detections")


async def test_after_a_jump_of_the_clock_pictures_and_records_set_aside_stay_as_detections_do() -> None:
    program = Purging()
    with pytest.raises(EOFError):
        await NodeProgram._purge(cast(NodeProgram, program))
    assert (program.said, program.failing) == (["clock"], {"purge": "CLOCK_JUMPED"})


class Daily(Purging):
    """A node that is to purge once a day; `purged` is set by its first purge."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.purged = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    @property
    def purge_every_s(self) -> float:
        return 86_400.0

    def check_clock(self, now: dt.datetime) -> None:
        self.loop.call_soon_threadsafe(self.purged.set)
        super().check_clock(now)


async def test_a_node_purges_after_each_start_though_it_is_to_purge_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "FIRST_PURGE_S", 0.0)
    program = Daily()
    purging = asyncio.ensure_future(NodeProgram._purge(cast(NodeProgram, program)))
    await program.purged.wait()
    purging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purging


class Twice:
    """A node's program that starts anew once; `guards` are those that its runs were given."""

    guards: ClassVar[list[ClockGuard | None]] = []

    def __init__(self, _state: Path, running: Running, guard: ClockGuard | None = None) -> None:
        self.running = running
        self.guards.append(guard)
        self.guard = guard or guard_of()

    async def serve(self) -> int:
        self.running._anew = len(self.guards) == 1
        return 0


async def test_a_jump_of_the_clock_is_not_forgotten_when_the_program_starts_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "NodeProgram", Twice)
    monkeypatch.setattr("node.app.logs.configure", lambda *_: None)
    Twice.guards.clear()
    assert await app.run(tmp_path) == 0
    first, second = Twice.guards
    assert first is None
    assert isinstance(second, ClockGuard)
