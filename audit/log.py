"""The decision log as programs use it: `append` returns when the entries are durable, or raises.

Group commit without a timer: one thread writes; whoever is waiting when it is free is committed together. Fail closed:
a log that could not be written once is never written again by this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.entry import Draft
from audit.note import Checkpoint, Cited, VerifierKey
from audit.read import LogReader
from audit.store import LogFiles, Store
from audit.tree import EMPTY_ROOT
from audit.writer import AlreadyRecorded, Appended, Clock, SignedHead, Writer
from comity.errors import ComityError, ConfigError, Exhausted, InvalidInput, LogBroken, LogFault, Unavailable
from identity import files, keys
from identity.auditors import Recipient

__all__ = ["AlreadyRecorded", "Appended", "DecisionLog", "SignedHead"]

MAX_WAITING = 20_000  # drafts that wait to be written
MAX_CALL = 5_000  # drafts of one call
MAX_COMMIT = 4_096  # drafts of one transaction, a single larger call aside
RETRY_AFTER_S = 1.0

OnBroken = Callable[[LogBroken], None]


@dataclass(eq=False, slots=True)
class _Call:
    drafts: tuple[Draft, ...]
    future: asyncio.Future[Appended]


class DecisionLog:
    """One program's log, open for appending by this process alone. `append` is for coroutines of any event loop."""

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        reader: LogReader,
        vkey: VerifierKey,
        on_broken: OnBroken | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._store, self._writer, self._reader, self.vkey = store, writer, reader, vkey
        self._on_broken, self._max_waiting = on_broken, max_waiting
        self._waiting: dict[_Call, None] = {}  # in order of arrival; a dict, so that one who leaves is found at once
        self._drafts_waiting = 0
        self._lock = threading.Lock()
        self._idle = False  # the writing thread waits for `_wake`, and whoever finds it so releases that, once
        self._wake = threading.Lock()
        self._wake.acquire()
        self._closing = False
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        origin: str,
        clock: Clock,
        key: Ed25519PrivateKey | None = None,
        on_broken: OnBroken | None = None,
    ) -> Self:
        """A new log in the folder `path`, open. `origin` is its name, `key` its Ed25519 key, made here if None.

        Writes `log.key` (0600), `log.vkey` and `log.db`; the log is there only if all of them are.

        Raises:
            ConfigError: LOG_EXISTS, FILE_EXISTS, FILE_UNWRITABLE, NO_LOG (no such folder), LOG_IN_USE.
            InvalidInput: BAD_ORIGIN.
        """
        where = LogFiles.locate(Path(path))
        key = key or keys.new_log_key()
        vkey = VerifierKey.of(origin, key.public_key())
        if where.db.exists():
            raise ConfigError(f"{where.db} exists already", reason="LOG_EXISTS")
        keys.write_key(where.key, key)
        files.write_new(where.vkey, f"{vkey}\n".encode(), mode=files.PUBLIC)
        Store.create(where, Checkpoint(origin=origin, size=0, root=EMPTY_ROOT).sign(key))
        return cls.open(path, clock=clock, on_broken=on_broken)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        clock: Clock,
        on_broken: OnBroken | None = None,
        max_waiting: int = MAX_WAITING,
        auditors: Sequence[Recipient] = (),
    ) -> Self:
        """The log at `path` (its folder or `log.db`), once its hashes were compared with its signed head.

        `on_broken` is called once, in the event loop of a waiting call and before that call ends, when the log cannot
        be written any more: the program stops itself. `max_waiting` bounds the drafts in the queue. Clear values are
        sealed to those of `auditors` who may read this log; with none of them they are kept nowhere. Opening a
        log of up to half a million entries takes longer the more there are, a longer one not: see `audit.edge`.

        Raises:
            ConfigError: NO_LOG, LOG_IN_USE, LOG_EXPOSED, FILE_UNREADABLE, KEY_EXPOSED, BAD_KEY.
            InvalidInput: BAD_VKEY.
            LogFault: the file is not what its head signs, or is damaged.
        """
        where = LogFiles.locate(Path(path))
        if not where.db.is_file():
            raise ConfigError(f"there is no log at {where.db}: create it first", reason="NO_LOG")
        key = keys.load_log_key(where.key)
        vkey = VerifierKey.parse(files.read(where.vkey, max_bytes=1024).decode("ascii", errors="replace"))
        if vkey.key != key.public_key().public_bytes_raw():
            raise ConfigError(f"{where.vkey} is not the key in {where.key}", reason="BAD_KEY")
        store = Store(where)
        try:
            writer = Writer(store, key, vkey.name, clock, auditors)
            reader = LogReader(where, live=True)
        except sqlite3.Error as e:
            store.close()
            raise LogFault(f"the log cannot be read: {e}", reason="LOG_UNREADABLE") from None
        except BaseException:
            store.close()
            raise
        return cls(store=store, writer=writer, reader=reader, vkey=vkey, on_broken=on_broken, max_waiting=max_waiting)

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.vkey.name

    @property
    def head(self) -> SignedHead:
        """The newest durable head."""
        return self._writer.head

    @property
    def broken(self) -> bool:
        """True once the log could not be written; for health checks."""
        return self._broken is not None

    async def append(self, drafts: Sequence[Draft], *, deadline_s: float | None = None) -> Appended:
        """The entries made of `drafts`, contiguous, in order and durable: all of them, or none and an error.

        Past the deadline they may still be written; a call that leaves before its turn is not. None waits for good.

        Raises:
            AlreadyRecorded: an inquiry among them was recorded before; its `index` is known.
            InvalidInput: none or too many drafts (BAD_CALL), ENTRY_TOO_LARGE, BAD_ENTRY.
            Unavailable: LOG_TIMEOUT, not durable by the deadline; CLOCK_UNUSABLE; LOG_CLOSED.
            Exhausted: LOG_QUEUE_FULL.
            LogBroken: it could not be written; nothing more may be released.
        """
        call = self._enqueue(tuple(drafts))
        try:
            if deadline_s is None:
                return await call.future
            async with asyncio.timeout(deadline_s):
                return await call.future
        except TimeoutError:
            self._leave(call)
            raise Unavailable("the decision log was not durable by the deadline", reason="LOG_TIMEOUT") from None
        except BaseException:
            self._leave(call)
            raise

    def cite(self, heads: Sequence[Cited]) -> None:
        """Entries written from now on cite these cosigned heads, the first of them with the notes."""
        self._writer.cited = tuple(heads)

    def find_inquiry(self, inquiry_id: str) -> int | None:
        """The index of that inquiry's durable entry; None if it was never recorded.

        Raises:
            LogFault: LOG_UNREADABLE.
        """
        return self._reader.find_inquiry(inquiry_id)

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The durable entries of [start, stop), in order; at most `audit.read.MAX_READ`.

        Raises:
            InvalidInput: BAD_RANGE.
            LogFault: LOG_UNREADABLE.
        """
        return self._reader.entries(start, stop)

    def close(self) -> None:
        """Write what waits, then let go of the file. A broken log is left as it is, for SQLite to recover."""
        with self._lock:
            self._closing = True
            self._rouse()
        self._thread.join()
        if self._broken is None:
            self._writer.keep_edge()
            self._reader.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, drafts: tuple[Draft, ...]) -> _Call:
        count = len(drafts)
        if not 0 < count <= MAX_CALL:
            raise InvalidInput(f"a call records 1 to {MAX_CALL} entries", reason="BAD_CALL")
        call = _Call(drafts, asyncio.get_running_loop().create_future())
        with self._lock:
            if self._broken is not None:
                raise LogBroken(self._broken)
            if self._closing:
                raise Unavailable("the decision log is closed", reason="LOG_CLOSED")
            if self._drafts_waiting + count > self._max_waiting:
                raise Exhausted(
                    "too many entries wait for the decision log",
                    retry_after_s=RETRY_AFTER_S,
                    quota="decision log queue",
                    reason="LOG_QUEUE_FULL",
                )
            self._waiting[call] = None
            self._drafts_waiting += count
            if self._idle:
                self._rouse()
        return call

    def _leave(self, call: _Call) -> None:
        if call.future.done() and not call.future.cancelled():
            return
        with self._lock:
            if call in self._waiting:
                del self._waiting[call]
                self._drafts_waiting -= len(call.drafts)

    def _rouse(self) -> None:
        """The writing thread looks at the queue again; to be called with the lock held."""
        if self._idle:
            self._idle = False
            self._wake.release()

    def _run(self) -> None:
        while calls := self._next():
            try:
                results = self._writer.write([call.drafts for call in calls])
            except BaseException as e:
                self._break(calls, e)
                return
            self._settle(calls, results)

    def _next(self) -> list[_Call]:
        """Whoever waits, up to MAX_COMMIT drafts; empty when the log is closing and nobody does."""
        while True:
            with self._lock:
                if self._waiting or self._closing:
                    return self._taken()
                self._idle = True
            self._wake.acquire()

    def _taken(self) -> list[_Call]:
        calls: list[_Call] = []
        taken = 0
        for call in self._waiting:
            if calls and taken + len(call.drafts) > MAX_COMMIT:
                break
            calls.append(call)
            taken += len(call.drafts)
        if len(calls) == len(self._waiting):
            self._waiting.clear()
        else:
            for call in calls:
                del self._waiting[call]
        self._drafts_waiting -= taken
        return calls

    def _break(self, calls: list[_Call], cause: BaseException) -> None:
        # SQLite took the next commit after a failed fsync, whose pages the kernel had dropped: hence never again.
        told = isinstance(cause, sqlite3.Error | OSError | ComityError)
        detail = f"{type(cause).__name__}: {cause}" if told else type(cause).__name__
        with self._lock:
            self._broken = f"the decision log could not be written and stays closed ({detail})"
            calls += self._waiting
            self._waiting.clear()
            self._drafts_waiting = 0
        error = LogBroken(self._broken)
        # The program is told before anybody who waits, so that none of them goes on in one that serves.
        if self._on_broken is not None and not _schedule(calls[0].future.get_loop(), self._on_broken, error):
            self._on_broken(error)
        self._settle(calls, [LogBroken(self._broken) for _ in calls])

    def _settle(self, calls: list[_Call], results: Sequence[Appended | BaseException]) -> None:
        pairs = list(zip([call.future for call in calls], results, strict=True))
        for loop in {future.get_loop() for future, _ in pairs}:
            _schedule(loop, _settle_all, [pair for pair in pairs if pair[0].get_loop() is loop])


def _settle_all(pairs: list[tuple[asyncio.Future[Appended], Appended | BaseException]]) -> None:
    """Wake who waits, unless they have gone."""
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, Appended):
            future.set_result(result)
        else:
            future.set_exception(result)


def _schedule(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], argument: object) -> bool:
    """True if `loop` will call it; False if the loop is gone, and with it everybody who waited there."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, argument)
        return True
    return False
