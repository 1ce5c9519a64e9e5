"""What runs beside the searches of a node."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import cast

import pytest

from comity.errors import Unavailable
from node.app import NodeProgram, kept_up


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
