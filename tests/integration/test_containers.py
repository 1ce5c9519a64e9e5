"""The shared state on a server in a container, where an engine is there to run one.

What it shows is held on a local server by tests/contract/test_state.py in every run.
"""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from broker.state.redis import RedisReplayGuard, SharedRedis
from tests.redis_server import IMAGE, container_engine

NOW = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)


async def test_one_claim_of_fifty_wins_on_a_server_in_a_container() -> None:
    if why_not := container_engine():
        pytest.skip(why_not)
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(IMAGE) as container:
        shared = SharedRedis.open(f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0")
        guard = RedisReplayGuard(shared, lambda: NOW)
        until = NOW + dt.timedelta(minutes=5)
        won = await asyncio.gather(*(guard.claim("inquiry-1", bytes(16), until) for _ in range(50)))
        await shared.close()
    assert won.count(True) == 1
