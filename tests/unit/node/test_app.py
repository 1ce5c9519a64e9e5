"""What runs beside the searches of a node."""

from __future__ import annotations

import asyncio

import pytest

from node.app import kept_up


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
