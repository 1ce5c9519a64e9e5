"""The HTTP endpoint for the webhooks that plate readers send: POST /openalpr, /fiware, /hikvision or /csv, over TLS.

200: durable; `accepted`, `duplicates`, `rejected` and `expired` count its reads and records
422: nothing of it could be read in; bad records are set aside, so that sending it again brings nothing
400, 404, 405, 411, 413, 415: the request is wrong     401, 403: the sender is
429: too much at once     503: it cannot be kept now; both with Retry-After, and nothing was acknowledged

Who sends is known before a byte of a body is read. Every wait has a time limit, and every buffer a size.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import h11
import orjson
import structlog

from comity.errors import ComityError, ConfigError, InvalidInput, NotAllowed, NotAuthentic, NotYet, Unavailable
from node.formats.interface import MAX_RAW_BYTES, RecordFormat
from node.ingest import Ingester, Tally
from node.rpc.http import Answer, Connection, Refused
from node.rpc.senders import Senders

PATHS = {
    f"/{f.value}": f for f in (RecordFormat.OPENALPR, RecordFormat.FIWARE, RecordFormat.HIKVISION, RecordFormat.CSV)
}
RETRY_SOON_S = 1
RETRY_LATER_S = 10
WORKERS = 2
_STATUS: tuple[tuple[type[ComityError], int, int], ...] = (
    (NotAuthentic, 401, 0),
    (NotAllowed, 403, 0),
    (InvalidInput, 400, 0),
    (NotYet, 400, 0),
    (Unavailable, 503, RETRY_LATER_S),
)
logger = structlog.get_logger("webhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once, how large and how slow. A body's bytes are held in memory: `bodies` times `body_bytes`."""

    connections: int = 128
    connections_per_host: int = 32
    requests_per_connection: int = 1_000
    bodies: int = 16
    body_bytes: int = MAX_RAW_BYTES
    head_s: float = 10.0
    idle_s: float = 30.0
    body_s: float = 30.0
    write_s: float = 10.0


class Webhook:
    """The endpoint. `refused` counts requests refused, by status."""

    def __init__(
        self,
        ingester: Ingester,
        senders: Senders,
        *,
        limits: Limits | None = None,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ingester = ingester
        self._senders = senders
        self._limits = limits or Limits()
        self._on_refused = on_refused
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="webhook")
        self._hosts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bodies = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen; returns the port.

        Raises:
            ConfigError: ADDRESS_TAKEN.
        """
        try:
            self._server = await asyncio.start_server(
                self._connected,
                host.strip("[]"),
                port,
                ssl=context,
                ssl_handshake_timeout=self._limits.head_s,
                limit=Connection.READ_BYTES,
            )
        except OSError:
            message = f"cannot listen on {host}:{port}: is another program there?"
            raise ConfigError(message, reason="ADDRESS_TAKEN") from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float = 2.0) -> None:
        """Take no more; what is being kept is answered, within `grace_s`."""
        if self._server:
            self._server.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s if self._bodies else 0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.to_thread(self._workers.shutdown)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        host = str((writer.get_extra_info("peername") or ("",))[0])
        full = len(self._tasks) >= self._limits.connections
        if full or self._hosts[host] >= self._limits.connections_per_host:
            writer.transport.abort()
            return
        self._tasks.add(task)
        self._hosts[host] += 1
        try:
            await self._serve(Connection(reader, writer, write_s=self._limits.write_s))
        finally:
            self._tasks.discard(task)
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            writer.transport.abort()

    async def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            for number in range(self._limits.requests_per_connection):
                wait_s = self._limits.idle_s if number else self._limits.head_s
                try:
                    async with asyncio.timeout(wait_s):
                        request = await connection.request()
                    if request is None:
                        break
                    answer = await self._answer(request, connection)
                except h11.RemoteProtocolError as error:
                    answer = Answer.refusal(error.error_status_hint, "BAD_REQUEST")
                if answer.status >= 400:
                    self._say_refused(answer)
                last = answer.status in (400, 401, 403, 413) or number + 1 == self._limits.requests_per_connection
                if not await connection.send(answer, last=last):
                    break
            await connection.close()

    async def _answer(self, request: h11.Request, connection: Connection) -> Answer:
        try:
            return await self._taken(request, connection)
        except Refused as refused:
            return refused.answer
        except ComityError as error:
            status, retry_s = next(((s, r) for kind, s, r in _STATUS if isinstance(error, kind)), (500, 0))
            return Answer.refusal(status, error.reason, retry_s=retry_s)
        except (ConnectionError, h11.RemoteProtocolError):
            raise
        except Exception as error:
            # Its text could hold anything, a plate too.
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
            logger.error("a defect", kind=type(error).__name__, where=where)
            return Answer.refusal(500, "INTERNAL")

    async def _taken(self, request: h11.Request, connection: Connection) -> Answer:
        sender = self._senders.of(connection.header("authorization"), connection.certificate)
        format_ = PATHS.get(request.target.partition(b"?")[0].decode("latin-1"))
        if format_ is None:
            raise Refused(Answer.refusal(404, "NO_SUCH_PATH"))
        if request.method != b"POST":
            raise Refused(Answer.refusal(405, "ONLY_POST"))
        if connection.header("content-encoding") not in (None, "identity"):
            raise Refused(Answer.refusal(415, "ENCODED_BODY"))
        connection.check_length(self._limits.body_bytes)
        if self._bodies >= self._limits.bodies:
            raise Refused(Answer.refusal(429, "TOO_MANY_AT_ONCE", retry_s=RETRY_SOON_S))
        self._bodies += 1
        try:
            try:
                async with asyncio.timeout(self._limits.body_s):
                    body = await connection.body(self._limits.body_bytes)
            except TimeoutError:
                raise Refused(Answer.refusal(408, "BODY_TOO_SLOW")) from None
            if not body.strip():
                raise Refused(Answer.refusal(400, "NO_BODY"))
            loop = asyncio.get_running_loop()
            tally = await loop.run_in_executor(
                self._workers, lambda: self._ingester.ingest_body(format_, body, sender=sender)
            )
        finally:
            self._bodies -= 1
        return _told(tally)

    def _say_refused(self, answer: Answer) -> None:
        logger.info("request refused", status=answer.status, reason=answer.reason)
        self._on_refused(answer.reason)


def _told(tally: Tally) -> Answer:
    bad = tally.rejected + tally.expired
    status = 422 if bad and not tally.accepted + tally.duplicates else 200
    body = {
        "accepted": tally.accepted,
        "duplicates": tally.duplicates,
        "rejected": tally.rejected,
        "expired": tally.expired,
        "reasons": dict(tally.reasons),
    }
    return Answer(status=status, reason="NOTHING_TAKEN" if status == 422 else "", body=orjson.dumps(body))
