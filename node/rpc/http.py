"""One HTTP/1.1 connection over TLS, as a server: requests in turn, bodies within limits, short JSON answers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

import h11
import orjson

MAX_HEAD_BYTES = 16 * 1024
LINGER_BYTES = 1024 * 1024
LINGER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status and a JSON body, which for a refusal names its reason; `retry_s`: when to try again."""

    status: int
    reason: str = ""
    body: bytes = b"{}"
    retry_s: int = 0

    @classmethod
    def refusal(cls, status: int, reason: str, *, retry_s: int = 0) -> Answer:
        """An answer that says nothing but why."""
        return cls(status=status, reason=reason, body=orjson.dumps({"reason": reason}), retry_s=retry_s)


class Refused(Exception):
    """The request gets this answer and no more of it is read."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Connection:
    """A peer's connection. Times are the caller's to limit, but for writing."""

    READ_BYTES = 64 * 1024

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, write_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._write_s = write_s
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._headers: list[tuple[bytes, bytes]] = []
        found = writer.get_extra_info("ssl_object")
        self.certificate: bytes | None = found.getpeercert(binary_form=True) if found else None

    async def request(self) -> h11.Request | None:
        """The next request's head; None at the peer's end.

        Raises:
            RemoteProtocolError: not HTTP/1.1, or a head over 16 KiB.
        """
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self._headers = list(event.headers)
        return event

    def header(self, name: str) -> str | None:
        """The header's value, None if it is not there.

        Raises:
            Refused: it is there more than once, so that nobody can say which one counts.
        """
        found = [value for key, value in self._headers if key == name.encode()]
        if len(found) > 1:
            raise Refused(Answer.refusal(400, "REPEATED_HEADER"))
        return found[0].decode("latin-1") if found else None

    def check_length(self, most: int) -> None:
        """Return if the head promises a body of at most `most` bytes, or one in chunks.

        Raises:
            Refused: 411 or 413, before a byte of it is read.
        """
        length = self.header("content-length")
        if length is None and self.header("transfer-encoding") is None:
            raise Refused(Answer.refusal(411, "NO_LENGTH"))
        if length is not None and int(length) > most:
            raise Refused(Answer.refusal(413, "TOO_LARGE"))

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            Refused: 413, it is larger than `most`.
            RemoteProtocolError: it is not whole.
        """
        parts, size = [], 0
        while isinstance(event := await self._event(), h11.Data):
            size += len(event.data)
            if size > most:
                raise Refused(Answer.refusal(413, "TOO_LARGE"))
            parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionError
        return b"".join(parts)

    async def send(self, answer: Answer, *, last: bool) -> bool:
        """Whether another request can follow."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        headers = [("content-type", "application/json"), ("content-length", str(len(answer.body)))]
        if answer.status == 401:
            headers.append(("www-authenticate", "Bearer"))
        if answer.status == 405:
            headers.append(("allow", "POST"))
        if answer.retry_s:
            headers.append(("retry-after", str(answer.retry_s)))
        # An unread body would be taken for the next request.
        last = last or self._h11.their_state is not h11.DONE
        if last:
            headers.append(("connection", "close"))
        data = self._h11.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        data += self._h11.send(h11.Data(data=answer.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        await self._write(data)
        if last:
            return False
        self._h11.start_next_cycle()
        return True

    async def close(self) -> None:
        """The peer has its answer before the connection goes: one reset with bytes unread would take it away."""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(LINGER_S):
                left = LINGER_BYTES
                if self._h11.their_state is h11.SEND_BODY:
                    while left > 0 and (data := await self._reader.read(self.READ_BYTES)):
                        left -= len(data)
                self._writer.close()
                await self._writer.wait_closed()

    async def _event(self) -> object:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._write(self._h11.send(go_on) or b"")
            self._h11.receive_data(await self._reader.read(self.READ_BYTES))

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(self._write_s):
            await self._writer.drain()
