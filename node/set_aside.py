"""Records that could not be read in, kept with their reasons until someone has looked."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from comity import instants
from comity.errors import Unavailable

MAX_RAW_BYTES = 256 * 1024
MAX_FILE_BYTES = 256 * 1024 * 1024
LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A record set aside: its file's name or `stream`, the line from 1 or 0, the reason, its bytes and their format."""

    origin: str
    line: int
    reason: str
    raw: bytes = field(repr=False)
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A record that is set aside: when it was, and whether bytes of it were left out."""

    id: str
    at: dt.datetime
    cut: bool
    rejection: Rejection


class SetAside:
    """One file a UTC day, `YYYYMMDD.jsonl`, mode 0600: it holds plates and lives no longer than detections do.

    A record that is there already, by origin, line, reason and bytes, is not written again.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], dt.datetime]) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._known: set[str] | None = None

    def keep(self, rejections: Sequence[Rejection]) -> None:
        """Return when all of them are on the disk.

        Past 256 MiB a day the bytes are left out, so that a camera gone mad cannot fill the disk with them.

        Raises:
            Unavailable: SET_ASIDE_FAILED; they must not be acknowledged.
        """
        if not rejections:
            return
        with self._lock, _faults():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(self._folder):
                self._keep(rejections)

    def all(self, since: dt.datetime | None = None) -> Iterator[list[Aside]]:
        """The records set aside at or after `since`, oldest first, in one list a day; damaged lines are left out.

        Raises:
            Unavailable: SET_ASIDE_FAILED.
        """
        limit = instants.to_text(since) if since else ""
        for path in self._paths():
            with _faults():
                data = path.read_bytes()
            yield [aside for e in _entries(data) if str(e["at"]) >= limit and (aside := _aside(e))]

    def drop(self, ids: Collection[str]) -> int:
        """How many records of these ids are gone, because they were read in after all.

        Raises:
            Unavailable: SET_ASIDE_FAILED.
        """
        gone = 0
        with self._lock, _faults(), _alone(self._folder):
            for path in self._paths() if ids else ():
                entries = list(_entries(path.read_bytes()))
                kept = [e for e in entries if e["id"] not in ids]
                if len(kept) < len(entries):
                    gone += len(entries) - len(kept)
                    self._rewrite(path, kept)
            self._known = None
        return gone

    def _keep(self, rejections: Sequence[Rejection]) -> None:
        if self._known is None:
            self._known = {str(entry["id"]) for path in self._paths() for entry in _entries(path.read_bytes())}
        new = {id_: r for r in rejections if (id_ := _identity(r)) not in self._known}
        if new:
            self._append(new)
            self._known.update(new)

    def purge(self, before: dt.datetime) -> int:
        """How many records set aside before `before` are gone; damaged lines go with them.

        Raises:
            Unavailable: SET_ASIDE_FAILED.
        """
        limit, gone = instants.to_text(before), 0
        if not self._folder.is_dir():
            return 0
        with self._lock, _faults(), _alone(self._folder):
            for path in self._paths():
                data = path.read_bytes()
                kept = [entry for entry in _entries(data) if str(entry["at"]) >= limit]
                if dropped := data.count(b"\n") - len(kept):
                    gone += dropped
                    self._rewrite(path, kept)
            self._known = None
        return gone

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.jsonl"))

    def _append(self, rejections: Mapping[str, Rejection]) -> None:
        now = self._clock()
        path = self._folder / f"{now:%Y%m%d}.jsonl"
        fresh = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            # A line that a crash cut off must not swallow the next one.
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            text = [_line(id_, r, now, whole=size < MAX_FILE_BYTES) for id_, r in rejections.items()]
            _write_all(file.fileno(), b"\n" * torn + b"".join(text))
            os.fsync(file.fileno())
        if fresh:
            _sync(self._folder)

    def _rewrite(self, path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
        if entries:
            new = path.with_suffix(".new")
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, b"".join(orjson.dumps(e) + b"\n" for e in entries))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.replace(path)
        else:
            path.unlink()
        _sync(self._folder)


def _identity(r: Rejection) -> str:
    said = f"{r.origin}\0{r.line}\0{r.reason}\0".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(said + r.raw, digest_size=16).hexdigest()


def _line(id_: str, r: Rejection, now: dt.datetime, *, whole: bool) -> bytes:
    raw = r.raw[:MAX_RAW_BYTES] if whole else b""
    entry = {
        "id": id_,
        "at": instants.to_text(now),
        "source": r.origin.encode("utf-8", "replace").decode(),
        "line": r.line,
        "reason": r.reason,
        "format": r.format,
        "cut": len(raw) < len(r.raw),
        "raw": base64.b64encode(raw).decode(),
    }
    return orjson.dumps(entry) + b"\n"


def _entries(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            entry = orjson.loads(line)
            if isinstance(entry, dict) and "id" in entry and "at" in entry:
                yield entry


def _aside(entry: Mapping[str, Any]) -> Aside | None:
    try:
        rejection = Rejection(
            origin=str(entry["source"]),
            line=int(entry["line"]),
            reason=str(entry["reason"]),
            raw=base64.b64decode(str(entry["raw"]), validate=True),
            format=str(entry.get("format", "")),
        )
        at = dt.datetime.fromisoformat(str(entry["at"]))
        return Aside(id=str(entry["id"]), at=at, cut=bool(entry["cut"]), rejection=rejection)
    except (KeyError, ValueError, TypeError):
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process changes the folder meanwhile: a replay beside a node that serves must lose no line of it."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise Unavailable(f"records cannot be set aside: {e.strerror}", reason="SET_ASIDE_FAILED") from None
