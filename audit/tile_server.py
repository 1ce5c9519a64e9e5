"""A log's tiles as they are asked for: which bytes a path stands for, of what type, and for how long they hold.

`tile/` never changes under one path, so that caches may keep it for ever; a checkpoint is asked for anew each time.
Source: C2SP tlog-tiles v1.0.0.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.hashes import HEIGHT, WIDTH
from audit.log import DecisionLog
from audit.note import Checkpoint
from audit.tiles import CHECKPOINT, ENTRIES, TILE, VKEY, WITNESSES, publish, tile_path
from audit.tree import HASH_BYTES
from comity.errors import LogFault

FOLDER = "tiles"
TEXT, BINARY = "text/plain; charset=utf-8", "application/octet-stream"
FOR_EVER, NEVER = "public, max-age=31536000, immutable", "no-store"
_PATH = re.compile(
    rf"/{TILE}/({ENTRIES}|[0-7])/((?:x[0-9]{{3}}/){{0,4}}[0-9]{{3}})(?:\.p/([1-9][0-9]{{0,2}}))?", re.ASCII
)
_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a path stands for: the bytes, their type, and what caches may do with them."""

    body: bytes
    kind: str
    keep: str


@dataclass(frozen=True, slots=True)
class _Shown:
    """The checkpoint that was shown last; a newer one that is not `cosigned` waits if this one is."""

    size: int
    note: bytes
    cosigned: bool


class TileServer:
    """The tiles of one running log, in a folder beside it. `cosigned` is the newest note that witnesses have signed.

    The checkpoint never goes back. It is the cosigned one as soon as there is one that the tiles cover.
    """

    def __init__(
        self, state: Path, *, log: DecisionLog, witnesses: Sequence[str], cosigned: Callable[[], bytes]
    ) -> None:
        self._state, self._folder, self._log = state, state / FOLDER, log
        self._witnesses, self._cosigned = witnesses, cosigned
        self._published: Checkpoint | None = None
        self._shown = _Shown(-1, b"", cosigned=False)

    @property
    def behind(self) -> bool:
        """True if the log has grown since it was published last."""
        return self._published is None or self._published.size != self._log.head.size

    def publish(self) -> None:
        """The tiles are up to date, rebuilt where a crash left them damaged. Waits for the disk.

        Raises:
            ComityError: as `audit.tiles.publish`; what is there stays as it is.
        """
        done = publish(self._state, self._folder, vkey=str(self._log.vkey), witnesses=self._witnesses)
        self._published = done.head

    def get(self, path: str) -> Found | None:
        """What stands under the path; None if there is nothing. Waits for the disk."""
        if self._published is None:
            return None
        if path == f"/{CHECKPOINT}":
            return Found(body=self._checkpoint(self._published), kind=TEXT, keep=NEVER)
        if path in (f"/{VKEY}", f"/{WITNESSES}"):
            return Found(body=(self._folder / path[1:]).read_bytes(), kind=TEXT, keep=NEVER)
        body = self._tile(path, self._published.size)
        return None if body is None else Found(body=body, kind=BINARY, keep=FOR_EVER)

    def _checkpoint(self, published: Checkpoint) -> bytes:
        note = self._cosigned()
        if note and self._shown.size <= (size := Checkpoint.parse(note).size) <= published.size:
            self._shown = _Shown(size, note, cosigned=True)
        elif not self._shown.cosigned and published.size >= self._shown.size:
            self._shown = _Shown(published.size, (self._folder / CHECKPOINT).read_bytes(), cosigned=False)
        return self._shown.note

    def _tile(self, path: str, size: int) -> bytes | None:
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        name, number = match[1], int(match[2].replace("/", "").replace("x", ""))
        width = int(match[3] or WIDTH)
        if path != f"/{tile_path(name, number, width)}":
            return None  # another spelling of some path
        level = 0 if name == ENTRIES else int(name)
        there = min(WIDTH, (size >> (HEIGHT * level)) - number * WIDTH)
        if width > there:
            return None
        data = self._widest(name, number, width)
        return data and (_first_entries(data, width) if name == ENTRIES else data[: width * HASH_BYTES])

    def _widest(self, name: str, number: int, width: int) -> bytes | None:
        """The tile, or one that begins with it: heads between two publications have no partial tile of their own."""
        full = self._folder / tile_path(name, number)
        partial = full.with_suffix(".p")
        wider = sorted(int(p.name) for p in partial.glob("*") if p.name.isdecimal() and int(p.name) > width)
        # The full one twice: it may take the place of the partial ones at this moment.
        for path in (partial / str(width), full, *(partial / str(w) for w in wider), full):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return path.read_bytes()
        return None


def _first_entries(data: bytes, count: int) -> bytes:
    """The first so many entries of a bundle, each after its length.

    Raises:
        LogFault: the bundle ends too early (BAD_TILE).
    """
    at = 0
    for _ in range(count):
        at += _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES])
    if at > len(data):
        raise LogFault("a bundle of entries is not whole", reason="BAD_TILE")
    return data[:at]
