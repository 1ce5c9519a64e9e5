"""The Merkle tree over the entries' hashes: RFC 6962 hashing, kept as the right edge alone.

Source: RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), 32 bytes. The prefix keeps a leaf from being shown as a node."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    return sha256(b"\1" + left + right).digest()


class Tree:
    """The roots of the complete subtrees at the right edge, largest first: all that appending and the root need.

    One hash for each 1 bit of `size`, in the order of the bits. The leaf hashes themselves stay in the store, from
    which any inner node can be worked out again.
    """

    __slots__ = ("_edge", "_size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._size = 0
        self._edge: list[bytes] = []
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """How many leaves."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next entry."""
        edge, ones = self._edge, self._size
        while ones & 1:
            leaf = sha256(b"\1" + edge.pop() + leaf).digest()
            ones >>= 1
        edge.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves; SHA-256 of nothing when there are none."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Tree:
        """Another tree of the same leaves; what is appended to one is not in the other."""
        other = Tree()
        other._size, other._edge = self._size, self._edge.copy()
        return other
