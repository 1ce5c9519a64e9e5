"""The Merkle tree over the entries' hashes: RFC 6962 hashing, kept as the right edge alone.

Source: RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
_LEAF, _NODE = sha256(b"\0"), sha256(b"\1")  # begun: to copy one takes less time than to begin it


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), 32 bytes. The prefix keeps a leaf from being shown as a node."""
    return sha256(b"\0" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The leaf hash of each."""
    begin, hashes = _LEAF.copy, []
    for entry in entries:
        leaf = begin()
        leaf.update(entry)
        hashes.append(leaf.digest())
    return hashes


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    node = _NODE.copy()
    node.update(left + right)
    return node.digest()


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
        self.graft(leaf, 0)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add the hashes of the next entries, in order."""
        edge, size = self._edge, self._size
        for leaf in leaves:
            root, ones = leaf, size
            while ones & 1:
                root = node_hash(edge.pop(), root)
                ones >>= 1
            edge.append(root)
            size += 1
        self._size = size

    def graft(self, root: bytes, level: int) -> None:
        """Add the next 2^level leaves at once, by the root over them; as many or a multiple are there already."""
        edge, ones = self._edge, self._size >> level
        while ones & 1:
            root = node_hash(edge.pop(), root)
            ones >>= 1
        edge.append(root)
        self._size += 1 << level

    def root(self, after: bytes | None = None) -> bytes:
        """The Merkle tree hash of all leaves; SHA-256 of nothing when there are none.

        With `after` it is the hash over these leaves and those under it: fewer than any complete subtree at the edge.
        """
        if after is None and not self._edge:
            return EMPTY_ROOT
        edge = self._edge if after is None else [*self._edge, after]
        root = edge[-1]
        for left in reversed(edge[:-1]):
            root = node_hash(left, root)
        return root

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest first: with `size`, all of the tree that another needs."""
        return tuple(self._edge)

    @classmethod
    def of(cls, size: int, edge: Iterable[bytes]) -> Tree:
        """The tree of that `size` and `edge`.

        Raises:
            ValueError: not one hash for each 1 bit of the size.
        """
        tree = cls()
        tree._size, tree._edge = size, list(edge)
        if size < 0 or len(tree._edge) != size.bit_count() or any(len(h) != HASH_BYTES for h in tree._edge):
            raise ValueError("not the edge of a tree of that size")
        return tree

    def copy(self) -> Tree:
        """Another tree of the same leaves; what is appended to one is not in the other."""
        other = Tree()
        other._size, other._edge = self._size, self._edge.copy()
        return other


class Rows:
    """Every complete subtree of a run of leaves that begins at a multiple of the power of two not below its length."""

    __slots__ = ("_rows",)

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._rows: list[Sequence[bytes]] = [leaves]
        row = leaves
        while len(row) > 1:
            row = _parents(row)
            self._rows.append(row)

    def edge(self, count: int) -> Iterator[tuple[bytes, int]]:
        """The complete subtrees over the first `count` leaves and the level of each, largest first."""
        for level in reversed(range(count.bit_length())):
            if count >> level & 1:
                yield self._rows[level][(count >> level) - 1], level

    def root(self, count: int) -> bytes:
        """The root over the first `count` leaves, one at least."""
        root: bytes | None = None
        for level, row in enumerate(self._rows):
            if count >> level & 1:
                left = row[(count >> level) - 1]
                root = left if root is None else node_hash(left, root)
        assert root is not None
        return root


def _parents(row: Sequence[bytes]) -> list[bytes]:
    """The hash over each pair; an odd one at the end has no pair yet."""
    begin, parents, pairs = _NODE.copy, [], iter(row)
    for left, right in zip(pairs, pairs, strict=False):
        node = begin()
        node.update(left + right)
        parents.append(node.digest())
    return parents
