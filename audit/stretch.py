"""A log's entries in order, each held against the hash that the file has for it, so that a fault has an index."""

from __future__ import annotations

from collections.abc import Iterator

from audit.hashes import HashReader, Progress
from audit.tree import leaf_hash
from comity.errors import LogFault

STRETCH = 2_048


def entries_of(
    reader: HashReader, start: int, stop: int, progress: Progress | None = None
) -> Iterator[tuple[int, bytes, bytes]]:
    """(index, entry, its hash) of [start, stop). Whether the hashes are those that were signed is for who asks to see.

    Raises:
        LogFault: an entry is missing (MISSING), or is not what was hashed (WRONG_HASH).
    """
    for first in range(start, stop, STRETCH):
        last = min(stop, first + STRETCH)
        if progress:
            progress(first, stop)
        stored = reader.hashes(first, last)
        found = reader.entries(first, last)
        for index, (entry, there) in enumerate(zip(found, stored, strict=False), first):
            leaf = leaf_hash(entry)
            if leaf != there:
                raise LogFault(f"entry {index} is not what was hashed", index=index, reason="WRONG_HASH")
            yield index, entry, leaf
        if len(found) < len(stored):
            missing = first + len(found)
            raise LogFault(f"entry {missing} is missing", index=missing, reason="MISSING")
