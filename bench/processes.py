"""The processes of a benchmark: the broker by its log, the others by lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Self

START_WITHIN_S = 180.0


class Child:
    """A child that writes one JSON object a line; each waits in the queue of its event."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._events: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, module: str, *args: str) -> Self:
        """`python -m module args`, running."""
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *args, stdin=pipe, stdout=pipe, limit=4 * 1024 * 1024
        ))  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def hear(self, event: str, within_s: float = START_WITHIN_S) -> dict[str, Any]:
        """The next such event."""
        async with asyncio.timeout(within_s):
            return await self._of(event).get()

    def forget(self) -> None:
        """Drop what it has said so far."""
        self._events.clear()

    async def stop(self) -> None:
        """End its input, and it."""
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._reader.cancel()

    def _of(self, event: str) -> asyncio.Queue[dict[str, Any]]:
        return self._events.setdefault(event, asyncio.Queue())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            self._of(told["event"]).put_nowait(told)


class BrokerProcess:
    """`python -m broker serve`, with its log in the state folder."""

    def __init__(self, state: Path, address: str, arguments: tuple[str, ...] = ()) -> None:
        self._state = state
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._arguments = arguments or ("-m", "broker", "serve", str(state))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Started; returns when its port for nodes began to listen, in the monotonic clock's seconds."""
        with (self._state / "program.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, stdout=log, stderr=log
            )
        until = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until:
            try:
                _, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                await asyncio.sleep(0.002)
                continue
            at = time.monotonic()
            writer.close()
            return at
        raise TimeoutError("the broker did not start")

    async def stop(self) -> None:
        """Stopped in order."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
