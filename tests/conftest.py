"""What every test may ask for: real servers, and a judgement of what was skipped."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.postgres_server import LocalServer as LocalPostgres
from tests.postgres_server import PostgresServer, real_postgres
from tests.redis_server import LocalServer, RedisServer, one_node_cluster, real_redis
from tests.skips import SkipGate

# Tests start hundreds of processes: none of them compiles what another one has compiled already.
sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(sys.prefix) / "pycache")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
# What whoever runs the tests has set for himself is none of their business, nor are his caches theirs.
for _name in [n for n in os.environ if n.startswith("COMITY_") or n in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")]:
    del os.environ[_name]
_OWN_CACHE = tempfile.TemporaryDirectory(prefix="comity-cache-")
os.environ["XDG_CACHE_HOME"] = _OWN_CACHE.name

# How long an example takes says how busy the machine is, and no more. In CI the examples are the same each time.
_IN_CI = settings.get_profile("ci") if os.environ.get("CI") else None
settings.register_profile(
    "comity", _IN_CI, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("comity")

_USED = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = {}
    config.pluginmanager.register(SkipGate.of_this_run(), "comity-skips")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the files, one of them has the federation."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import Shared

    return Shared(config, log)


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
    with redis.Redis.from_url(redis_url, socket_timeout=60) as client:
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
