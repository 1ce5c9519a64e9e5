"""What every test may ask for: real servers, and a judgement of what was skipped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import redis

from tests.postgres_server import LocalServer as LocalPostgres
from tests.postgres_server import PostgresServer, real_postgres
from tests.redis_server import LocalServer, RedisServer, one_node_cluster, real_redis
from tests.skips import SkipGate

_USED = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = {}
    config.pluginmanager.register(SkipGate.of_this_run(), "comity-skips")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, what in config.stash[_USED].items():
        terminalreporter.write_line(f"real server: {name} = {what}")


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """The real Redis or Valkey of this run."""
    with real_redis() as server:
        pytestconfig.stash[_USED]["redis"] = server.what
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """Its address."""
    return redis_server.url


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    """The address of a cluster of one node."""
    with one_node_cluster() as server:
        yield server.url


@pytest.fixture
def own_redis() -> Iterator[LocalServer]:
    """A server that the test may stop, kill and spoil."""
    with LocalServer() as server:
        yield server


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """A beginning of keys that is this test's alone; what it leaves is removed, whosever server it is."""
    prefix = f"test-{uuid.uuid4().hex}"
    yield prefix
    with redis.Redis.from_url(redis_url, socket_timeout=5) as client:
        for key in client.scan_iter(match=f"{prefix}:*", count=1000):
            client.delete(key)


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The real PostgreSQL of this run."""
    with real_postgres() as server:
        pytestconfig.stash[_USED]["postgres"] = server.what
        yield server


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A server that the test may stop, kill and spoil."""
    with LocalPostgres() as server:
        yield server
