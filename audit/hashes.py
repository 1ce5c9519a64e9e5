"""Any inner hash of the tree, out of tiles of 256 hashes that are read when needed and kept while they are used.

Everything here is derived from the stored leaf hashes and may be thrown away at any time; nothing is believed that was
not led back to a signed root.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from audit.note import VerifierKey
from audit.read import MAX_READ, LogReader
from audit.tree import HASH_BYTES
from comity.errors import ConfigError, InvalidInput, LogFault, Unavailable

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES
KEPT_TILES = 1_024  # 16 KiB each once all their inner hashes are known
_BATCH = MAX_READ // WIDTH * WIDTH

ReadTile = Callable[[int, int, int], bytes]  # (level, number, width) -> that many hashes
Progress = Callable[[int, int], None]


class HashReader(LogReader):
    """A log's reader that reads hashes without the entries they are of."""

    def hashes(self, start: int, stop: int) -> list[bytes]:
        """The stored hashes of the entries of [start, stop), in order; at most MAX_READ.

        Raises:
            LogFault: one is missing (MISSING) or is no hash (BAD_HASH), or the file is damaged.
        """
        query = "SELECT idx, hash FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
        try:
            rows = self._db.execute(query, (start, min(stop, start + MAX_READ))).fetchall()
        except sqlite3.Error:
            raise LogFault("the log's hashes cannot be read", reason="LOG_UNREADABLE") from None
        for expected, (index, leaf) in enumerate(rows, start):
            if index != expected:
                raise LogFault(f"entry {expected} is missing", index=expected, reason="MISSING")
            if type(leaf) is not bytes or len(leaf) != HASH_BYTES:
                raise LogFault(f"entry {index} has no hash", index=index, reason="BAD_HASH")
        if len(rows) < min(stop - start, MAX_READ):
            missing = start + len(rows)
            raise LogFault(f"entry {missing} is missing", index=missing, reason="MISSING")
        return [leaf for _, leaf in rows]

    def all_hashes(self, size: int, progress: Progress | None = None) -> Iterator[bytes]:
        """The first `size` stored hashes, in order. No transaction is held open from one batch to the next.

        Raises:
            LogFault: as `hashes`.
        """
        for start in range(0, size, _BATCH):
            if progress:
                progress(start, size)
            yield from self.hashes(start, min(size, start + _BATCH))

    def key(self, vkey: str | None = None) -> VerifierKey:
        """The key in `vkey`, or that in the log's own `log.vkey`, which whoever altered the log could alter too.

        Raises:
            ConfigError: neither is there (NO_KEY).
            InvalidInput: BAD_VKEY.
        """
        text = vkey if vkey is not None else self.vkey_text()
        if text is None:
            raise ConfigError("no key was given, and the log has no log.vkey beside it", reason="NO_KEY")
        return VerifierKey.parse(text)


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[HashReader]:
    """A reader of the log at `path`, closed at the end.

    Raises:
        ConfigError: NO_LOG.
        LogFault: LOG_UNREADABLE or BAD_SCHEMA.
        Unavailable: a log at rest was written to meanwhile (LOG_CHANGED).
    """
    with HashReader.open(path) as reader:
        try:
            yield reader
        finally:
            if reader.disturbed():
                raise Unavailable("the log was written to meanwhile: try again", reason="LOG_CHANGED")


class Hashes:
    """The roots of the complete subtrees of a tree of `size` leaves. Not for several threads at once."""

    def __init__(self, size: int, read: ReadTile, *, kept_tiles: int = KEPT_TILES) -> None:
        self.size = size
        self._read, self._kept_tiles = read, kept_tiles
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def subtree(self, level: int, index: int) -> bytes:
        """The root over the 2^level leaves from index * 2^level on.

        Raises:
            InvalidInput: they are not all in the tree (BAD_RANGE).
            LogFault: a tile cannot be read, or is not whole.
        """
        if index < 0 or (index + 1) << level > self.size:
            raise InvalidInput(f"no complete subtree in a tree of {self.size} leaves", reason="BAD_RANGE")
        tile_level, height = divmod(level, HEIGHT)
        number, at = divmod(index << height, WIDTH)
        rows = self._tile(tile_level, number)
        while len(rows) <= height:
            rows.append(_halved(rows[-1]))
        at = (at >> height) * HASH_BYTES
        return rows[height][at : at + HASH_BYTES]

    def _tile(self, level: int, number: int) -> list[bytes]:
        """The tile's rows: its hashes, then every row of inner hashes above them that was asked for so far."""
        rows = self._tiles.get((level, number))
        if rows is not None:
            self._tiles.move_to_end((level, number))
            return rows
        width = min(WIDTH, (self.size >> (HEIGHT * level)) - number * WIDTH)
        data = self._read(level, number, width)
        if len(data) != width * HASH_BYTES:
            raise LogFault(f"tile {level}/{number} is not whole", reason="BAD_TILE")
        self._tiles[level, number] = rows = [data]
        if len(self._tiles) > self._kept_tiles:
            self._tiles.popitem(last=False)
        return rows


def tile_root(data: bytes) -> bytes:
    """The root over the 256 hashes of a full tile."""
    while len(data) > HASH_BYTES:
        data = _halved(data)
    return data


def hashes_of_log(reader: HashReader, size: int, progress: Progress | None = None) -> Hashes:
    """The hashes of a log's first `size` entries without tiles on disk: one pass over them all, then by need.

    Raises:
        LogFault: a hash is missing or malformed.
    """
    upper: list[bytearray] = []

    def add(level: int, root: bytes) -> None:
        if level == len(upper):
            upper.append(bytearray())
        upper[level] += root
        if len(upper[level]) % TILE_BYTES == 0:
            add(level + 1, tile_root(bytes(upper[level][-TILE_BYTES:])))

    pending = bytearray()
    for leaf in reader.all_hashes(size, progress):
        pending += leaf
        if len(pending) == TILE_BYTES:
            add(0, tile_root(bytes(pending)))
            pending.clear()

    def read(level: int, number: int, width: int) -> bytes:
        if level == 0:
            return b"".join(reader.hashes(number * WIDTH, number * WIDTH + width))
        at = number * TILE_BYTES
        return bytes(upper[level - 1][at : at + width * HASH_BYTES])

    return Hashes(size, read)


def _halved(row: bytes) -> bytes:
    """The hashes over each pair of hashes; an odd one at the end has no pair yet."""
    pair = 2 * HASH_BYTES
    return b"".join([sha256(b"\1" + row[at : at + pair]).digest() for at in range(0, len(row) - pair + 1, pair)])
