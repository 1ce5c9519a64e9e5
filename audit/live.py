"""Proofs about a log that goes on growing: the roots of its full tiles, kept up to date in memory beside the writer."""

from __future__ import annotations

import threading
from pathlib import Path

from audit.hashes import TILE_BYTES, WIDTH, Hashes, HashReader, tile_root
from audit.proof import Proof, consistency_proof, tree_root
from audit.store import LogFiles
from audit.tree import HASH_BYTES

_BATCH = 16 * WIDTH


class LiveHashes:
    """The inner hashes of the log at `path` while it is written; 32 bytes of memory for each 255 entries.

    The first call reads every stored hash, later ones only what is new. Each waits for the disk: call it off the
    event loop, from any thread.
    """

    def __init__(self, path: Path) -> None:
        self._reader = HashReader(LogFiles.locate(path), live=True)
        self._upper: list[bytearray] = [bytearray()]
        self._done = 0  # entries that are in the roots of full tiles
        self._lock = threading.Lock()

    def root(self, size: int) -> bytes:
        """The root over the first `size` durable entries.

        Raises:
            LogFault: they are not all there, or cannot be read.
        """
        with self._lock:
            return tree_root(size, self._grown(size).subtree)

    def consistency(self, old: int, new: int) -> Proof:
        """That the log of `new` entries begins with that of `old`; both are durable. Empty if `old` is 0.

        Raises:
            InvalidInput: BAD_RANGE.
            LogFault: they are not all there, or cannot be read.
        """
        with self._lock:
            return consistency_proof(old, new, self._grown(new).subtree) if old else ()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._reader.close()

    def _grown(self, size: int) -> Hashes:
        whole = size - size % WIDTH
        while self._done < whole:
            row = b"".join(self._reader.hashes(self._done, min(whole, self._done + _BATCH)))
            for at in range(0, len(row), TILE_BYTES):
                self._add(0, tile_root(row[at : at + TILE_BYTES]))
            self._done += len(row) // HASH_BYTES
        return Hashes(size, self._read)

    def _add(self, level: int, root: bytes) -> None:
        if level == len(self._upper):
            self._upper.append(bytearray())
        row = self._upper[level]
        row += root
        if len(row) % TILE_BYTES == 0:
            self._add(level + 1, tile_root(bytes(row[-TILE_BYTES:])))

    def _read(self, level: int, number: int, width: int) -> bytes:
        if level == 0:
            return b"".join(self._reader.hashes(number * WIDTH, number * WIDTH + width))
        at = number * TILE_BYTES
        return bytes(self._upper[level - 1][at : at + width * HASH_BYTES])
