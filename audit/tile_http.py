"""The admin port: HTTP/1.1, for tiles and metrics, is answered here; HTTP/2 is passed on to the program's gRPC server.

On loopback only. Requests have no bodies; every wait has a time limit and every buffer a size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import h11
import structlog

from audit.log import DecisionLog
from audit.tile_server import NEVER, TEXT, Found, TileServer
from audit.witnessed import OwnHeads
from comity.config import address
from comity.errors import ComityError, ConfigError
from comity.metrics import KIND, PATH

MAX_HEAD_BYTES = 8 * 1024
MOST_CONNECTIONS = 32
MOST_AT_ONCE = 4  # a bundle may have 15 MB
BEHIND = "127.0.0.1:0"  # where the gRPC server listens: only this port knows
HEAD_S, IDLE_S, WRITE_S = 10.0, 30.0, 30.0
HTTP2 = b"PRI"  # how its preface begins, and no request of HTTP/1.1
CHUNK_BYTES = 64 * 1024
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_REASONS = {400: "BAD_REQUEST", 403: "BAD_HOST", 404: "NO_SUCH_PATH", 405: "ONLY_GET", 500: "UNREADABLE"}
logger = structlog.get_logger("tiles")


class AdminFront:
    """What listens on the admin port. `grpc_port` is the port of loopback where the gRPC server listens.

    `metrics` gives the text of /metrics; it may wait for the disk.
    """

    def __init__(self, tiles: TileServer, grpc_port: int, metrics: Callable[[], bytes] | None = None) -> None:
        self._tiles, self._grpc_port, self._metrics = tiles, grpc_port, metrics
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            ConfigError: ADDRESS_TAKEN.
        """
        try:
            self._server = await asyncio.start_server(self._connected, host.strip("[]"), port, limit=CHUNK_BYTES)
        except OSError:
            message = f"cannot listen on {host}:{port}: is another program there?"
            raise ConfigError(message, reason="ADDRESS_TAKEN") from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more and end what is under way."""
        if self._server:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        if len(self._tasks) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            async with asyncio.timeout(HEAD_S):
                first = await reader.readexactly(len(HTTP2))
            if first == HTTP2:
                await self._pass_on(first, reader, writer)
            else:
                await self._serve(first, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._grpc_port, limit=CHUNK_BYTES)
        back.write(first)
        ways = [asyncio.ensure_future(_pipe(reader, back)), asyncio.ensure_future(_pipe(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async def _serve(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        http.receive_data(first)
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    request = await _event(http, reader)
                    end = await _event(http, reader) if isinstance(request, h11.Request) else None
                if not isinstance(request, h11.Request):
                    return
                # A body, if one was announced, is not read: the connection ends.
                plain = isinstance(end, h11.EndOfMessage)
                status, found = (400, None) if not plain else await self._answer(request)
            except h11.RemoteProtocolError:
                status, found, request = 400, None, None
            if not await _send(http, writer, request, status, found) or http.our_state is not h11.DONE:
                return
            if http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _answer(self, request: h11.Request) -> tuple[int, Found | None]:
        # A page in a browser of this machine may lead a name of its own here.
        host = next((v.decode("latin-1") for k, v in request.headers if k == b"host"), "")
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
            return 403, None
        if request.method not in (b"GET", b"HEAD"):
            return 405, None
        path = request.target.decode("latin-1")
        async with self._at_once:
            try:
                found = await asyncio.to_thread(self._get, path)
            except (ComityError, OSError) as error:
                logger.error("cannot be read", path=PATH if path == PATH else "tile", kind=type(error).__name__)
                return 500, None
        return (200, found) if found else (404, None)

    def _get(self, path: str) -> Found | None:
        if path == PATH and self._metrics:
            return Found(body=self._metrics(), kind=KIND, keep=NEVER)
        return self._tiles.get(path)


class LiveTiles:
    """A running program's admin port, with its tiles up to date every `every_s` seconds; 0: no tiles."""

    def __init__(self, state: Path, *, log: DecisionLog, own: OwnHeads, every_s: float) -> None:
        keys = [str(key) for key in own.witnesses.values()]
        self._tiles = TileServer(state, log=log, witnesses=keys, cosigned=lambda: own.note)
        self._every_s = every_s
        self._front: AdminFront | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, admin: str, grpc_port: int, metrics: Callable[[], bytes]) -> None:
        """Listen on `admin`, before the gRPC server of `grpc_port`, and publish from now on.

        Raises:
            ConfigError: ADDRESS_TAKEN.
        """
        host, port = address(admin, key="admin")
        self._front = AdminFront(self._tiles, grpc_port, metrics)
        await self._front.start(host, port)
        if self._every_s:
            self._task = asyncio.ensure_future(self._keep_up())

    async def stop(self) -> None:
        """End both."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._front is not None:
            await self._front.stop()

    async def _keep_up(self) -> None:
        said = ""
        while True:
            reason = ""
            try:
                if self._tiles.behind:
                    await asyncio.to_thread(self._tiles.publish)
            except ComityError as error:
                reason = error.reason
            except Exception as error:
                reason = type(error).__name__
            if reason and reason != said:  # once, not every second: it stays so until somebody mends it
                logger.error("tiles not published", reason=reason)
            said = reason
            await asyncio.sleep(self._every_s)


async def _event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(CHUNK_BYTES))
    return event


async def _send(
    http: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request | None, status: int, found: Found | None
) -> bool:
    """False if nothing more can be said on this connection."""
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return False
    body = found.body if found else f"{_REASONS[status]}\n".encode()
    headers = [
        ("content-type", found.kind if found else TEXT),
        ("cache-control", found.keep if found else NEVER),
        ("content-length", str(len(body))),
        ("x-content-type-options", "nosniff"),
    ]
    if status == 405:
        headers.append(("allow", "GET, HEAD"))
    if status == 400:
        headers.append(("connection", "close"))
    head = http.send(h11.Response(status_code=status, headers=headers)) or b""
    if request is not None and request.method == b"HEAD":
        body = b""
    writer.write(head + (http.send(h11.Data(data=body)) or b""))
    writer.write(http.send(h11.EndOfMessage()) or b"")
    async with asyncio.timeout(WRITE_S):
        await writer.drain()
    return status != 400


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
