"""The right edge of the tree kept beside a long log, so that opening it need not read every hash again.

Derived, and never believed: brought up to date with the stored hashes after it, it must lead to the root that the log's
head signs, or every hash is read after all. A short log keeps none.

What opening a long log no longer shows is a stored hash altered or taken away under the edge: `audit.verify` shows it,
and so does the next proof made of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from audit.store import LogFiles, Store
from audit.tree import HASH_BYTES, Tree
from comity.errors import ConfigError
from identity import files

WORTH_IT = 500_000  # entries; below, all hashes are read in a second
EVERY = 500_000  # entries from one edge that is kept to the next
TAIL = 4_096  # the newest entries, a power of two, up to which none is kept: their hashes are always read
_SIZE_BYTES = 8
_MAX_BYTES = _SIZE_BYTES + 64 * HASH_BYTES


def place(where: LogFiles) -> Path:
    """Where a log's edge lies: `log.edge` beside it."""
    return where.db.with_name("log.edge")


def recovered(store: Store, size: int, root: bytes) -> Tree:
    """The tree over the stored hashes, from a kept edge on if that leads to `root`. Whether it does is still to check.

    Raises:
        LogFault: as `Store.leaf_hashes`.
    """
    tree = _kept(store.where) if size >= WORTH_IT else None
    if tree is not None and tree.size <= size:
        for leaf in store.leaf_hashes(tree.size):
            tree.append(leaf)
        if (tree.size, tree.root()) == (size, root):
            return tree
    return Tree(store.leaf_hashes())


def keep(tree: Tree, where: LogFiles) -> None:
    """The edge is kept, if the log is long enough. A failure is none of the log's: the next opening takes longer."""
    size = tree.size - tree.size % TAIL
    if tree.size < WORTH_IT or size == tree.size:
        return
    data = size.to_bytes(_SIZE_BYTES) + b"".join(tree.edge[: size.bit_count()])
    with contextlib.suppress(ConfigError, OSError):
        files.replace(place(where), data, mode=files.PRIVATE)


def _kept(where: LogFiles) -> Tree | None:
    try:
        data = files.read(place(where), max_bytes=_MAX_BYTES)
        hashes = (data[at : at + HASH_BYTES] for at in range(_SIZE_BYTES, len(data), HASH_BYTES))
        return Tree.of(int.from_bytes(data[:_SIZE_BYTES]), hashes)
    except (ConfigError, OSError, ValueError):
        return None
