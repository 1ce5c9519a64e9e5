"""A folder that cameras write files into: each is read in once it is complete, then moved to `done` or `failed`.

A file is complete when its size and time have not changed between two looks; names that begin with a dot or end in
`.part` or `.tmp` wait until they are renamed. What was read is moved only afterwards, so that a crash means reading
it again, which adds nothing. Files in `done` and `failed` hold plates: they live no longer than detections do.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog

from comity.errors import ComityError, ConfigError, InvalidInput, NotYet, Unavailable
from comity.instants import to_ms, to_text
from node.ingest import WATCH, Ingester

DONE, FAILED = "done", "failed"
REASON_SUFFIX = ".reason.json"
FILES_AT_ONCE = 1_000
_UNFINISHED = (".part", ".tmp", ".filepart")
logger = structlog.get_logger("watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the folder did: files read in, refused as a whole, and left because the store could not."""

    done: int
    failed: int
    left: int


class Watch:
    """The watched folder; one node a folder. `clock` returns aware UTC."""

    def __init__(self, folder: Path, ingester: Ingester, clock: Callable[[], dt.datetime]) -> None:
        self._folder = folder
        self._ingester = ingester
        self._clock = clock
        self._seen: dict[str, tuple[int, int, int]] = {}

    def prepare(self) -> None:
        """The folder has `done` and `failed`.

        Raises:
            ConfigError: NO_WATCH_FOLDER: there is no such folder, or it cannot be written.
        """
        try:
            if not self._folder.is_dir():
                raise ConfigError(f"watch: there is no folder {self._folder}", reason="NO_WATCH_FOLDER")
            for name in (DONE, FAILED):
                (self._folder / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as e:
            message = f"watch: {self._folder} cannot be written: {e.strerror}"
            raise ConfigError(message, reason="NO_WATCH_FOLDER") from None

    def look(self) -> Look:
        """Take in what is complete, the oldest first, at most 1,000 files.

        Raises:
            Unavailable: WATCH_FAILED: the folder cannot be read or changed; a file of it may be read again.
        """
        done = failed = left = 0
        with _faults():
            for path, state in self._complete():
                try:
                    self._ingester.ingest_file(path, surface=WATCH)
                except (InvalidInput, NotYet) as error:
                    self._move(path, FAILED, reason=error.reason, what=str(error))
                    failed += 1
                except Unavailable as error:
                    logger.warning("file left where it is", reason=error.reason)
                    left += 1
                    break
                except Exception as error:
                    # A defect must not be met again and again by the same file; its text could hold a plate.
                    logger.error("a defect", kind=type(error).__name__)
                    self._move(path, FAILED, reason="INTERNAL")
                    failed += 1
                else:
                    # Written to while it was read: what came later is not in, so it is not done.
                    if _state(path) == state:
                        self._move(path, DONE)
                        done += 1
        if done or failed:
            logger.info("files taken in", done=done, failed=failed)
        return Look(done=done, failed=failed, left=left)

    def purge(self, before: dt.datetime) -> int:
        """How many files of `done` and `failed` moved there before `before` are gone: all in them is older.

        Raises:
            Unavailable: WATCH_FAILED.
        """
        gone, limit_ns = 0, to_ms(before) * 1_000_000
        with _faults():
            for name in (DONE, FAILED):
                for path in list((self._folder / name).iterdir()):
                    found = path.lstat()
                    # The time of the move, which nobody can set as they like; that of the content, anybody can.
                    if stat.S_ISREG(found.st_mode) and found.st_ctime_ns < limit_ns:
                        path.unlink(missing_ok=True)
                        gone += 1
        return gone

    async def run(self, every_s: float) -> None:
        """Look again and again until cancelled; a failure is logged and tried again."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except ComityError as error:
                logger.error("watched folder not taken in", reason=error.reason)
            await asyncio.sleep(every_s)

    def _complete(self) -> list[tuple[Path, tuple[int, int, int]]]:
        now: dict[str, tuple[int, int, int]] = {}
        for entry in os.scandir(self._folder):
            # A link could name any file of this machine, whose bytes would then be set aside as a bad record.
            if entry.is_file(follow_symlinks=False) and not _unfinished(entry.name):
                found = _state(Path(entry.path))
                if found:
                    now[entry.name] = found
        ready = [(name, state) for name, state in now.items() if self._seen.get(name) == state]
        self._seen = now
        ready.sort(key=lambda item: (item[1][1], item[0]))
        return [(self._folder / name, state) for name, state in ready[:FILES_AT_ONCE]]

    def _move(self, path: Path, into: str, *, reason: str = "", what: str = "") -> None:
        """Renamed, never copied; a name that is taken gets a number. The reason is there before the file is."""
        target, number = self._folder / into / path.name, 0
        while target.exists() or target.is_symlink():
            number += 1
            target = self._folder / into / f"{number}-{path.name}"
        if reason:
            text = orjson.dumps({"reason": reason, "at": to_text(self._clock())} | ({"what": what} if what else {}))
            note = target.with_name(target.name + REASON_SUFFIX)
            descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        path.replace(target)
        for folder in (target.parent, self._folder):
            _sync(folder)


def _unfinished(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Size, time of change and file; None where there is none any more."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno != errno.EINVAL:  # some network file systems have no sync of folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise Unavailable(f"the watched folder cannot be used: {e.strerror}", reason="WATCH_FAILED") from None
