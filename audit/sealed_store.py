"""The tables of sealed parts and of the keys that open them: rows appended in order, and overwritten when erased.

A row is never deleted. It is overwritten in place with zeros of its own length, so that no page is ever split or merged
and leaves an older copy of it behind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from comity.errors import LogFault

TABLES = {
    "epoch": (
        "CREATE TABLE epoch(n INTEGER PRIMARY KEY, key_id TEXT NOT NULL, month TEXT NOT NULL, recipient TEXT NOT NULL, "
        "sealed BLOB NOT NULL) STRICT"
    ),
    "sealed": (
        "CREATE TABLE sealed(idx INTEGER PRIMARY KEY, key_id TEXT NOT NULL, wrapped BLOB NOT NULL, part BLOB NOT NULL) "
        "STRICT"
    ),
}


class SealedPart(NamedTuple):
    """The sealed part of one entry: ciphertext, and its own key wrapped by the epoch key named."""

    key_id: str
    wrapped: bytes
    part: bytes

    @property
    def hash(self) -> bytes:
        """What the entry commits to: SHA-256 of the wrapped key and the ciphertext. Noise in place of either shows."""
        return sha256(self.wrapped + self.part).digest()

    @property
    def erased(self) -> bool:
        """True if its key was overwritten."""
        return not any(self.wrapped)


class EpochKey(NamedTuple):
    """An epoch key, sealed to one auditor. `month` is YYYY-MM."""

    key_id: str
    month: str
    recipient: str
    sealed: bytes

    @property
    def erased(self) -> bool:
        """True if it was overwritten."""
        return not any(self.sealed)


def epoch_key_id(month: str, sealed: Iterable[tuple[str, bytes]]) -> str:
    """The id of the epoch key of `month` that was sealed to these (recipient, bytes), in that order: 32 hex digits.

    It is a hash over them, and entries name it: none can be altered, taken away or added unseen.
    """
    return sha256(month.encode() + b"".join(recipient.encode() + data for recipient, data in sealed)).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRows:
    """What one commit writes besides its entries: parts by index, new epoch keys, and what it erases."""

    parts: Sequence[tuple[int, SealedPart]] = ()
    epochs: Sequence[EpochKey] = ()
    erased_indexes: Sequence[int] = ()
    erased_keys: Sequence[str] = ()

    def write(self, db: sqlite3.Connection) -> None:
        """Do it, within the commit's transaction."""
        if self.epochs:
            db.executemany("INSERT INTO epoch(key_id, month, recipient, sealed) VALUES (?, ?, ?, ?)", self.epochs)
        if self.parts:
            rows = [(index, *part) for index, part in self.parts]
            db.executemany("INSERT INTO sealed(idx, key_id, wrapped, part) VALUES (?, ?, ?, ?)", rows)
        if self.erased_indexes:
            db.executemany(
                "UPDATE sealed SET wrapped = zeroblob(length(wrapped)), part = zeroblob(length(part)) WHERE idx = ?",
                [(index,) for index in self.erased_indexes],
            )
        if self.erased_keys:
            db.executemany(
                "UPDATE epoch SET sealed = zeroblob(length(sealed)) WHERE key_id = ?",
                [(key_id,) for key_id in self.erased_keys],
            )


NOTHING = SealedRows()


def part_of(db: sqlite3.Connection, index: int) -> SealedPart | None:
    """The sealed part of entry `index`; None if it has none."""
    row = db.execute("SELECT key_id, wrapped, part FROM sealed WHERE idx = ?", (index,)).fetchone()
    return None if row is None else _part(index, row)


def of_inquiries(db: sqlite3.Connection) -> Iterator[tuple[int, bytes, SealedPart | None]]:
    """Every inquiry's (index, entry, sealed part or None), by the side index."""
    query = (
        "SELECT i.idx, entry, key_id, wrapped, part FROM inquiry i JOIN leaf USING (idx) LEFT JOIN sealed USING (idx)"
    )
    for index, entry, *sealed in db.execute(query):
        if type(entry) is not bytes:
            raise LogFault(f"what stands for entry {index} is none", index=index, reason="BAD_FORM")
        yield index, entry, None if not any(v is not None for v in sealed) else _part(index, sealed)


def epoch_keys(db: sqlite3.Connection) -> list[EpochKey]:
    """Every sealed epoch key, oldest first."""
    rows = db.execute("SELECT key_id, month, recipient, sealed FROM epoch ORDER BY n").fetchall()
    if any(tuple(map(type, row)) != (str, str, str, bytes) for row in rows):
        raise LogFault("what stands for an epoch key is none", reason="SEALED_MISMATCH")
    return [EpochKey(*row) for row in rows]


def _part(index: int, row: Sequence[Any]) -> SealedPart:
    # A table can say STRICT and hold what was written before it did.
    if tuple(map(type, row)) != (str, bytes, bytes):
        raise LogFault(
            f"what stands for the sealed part of entry {index} is none", index=index, reason="SEALED_MISMATCH"
        )
    return SealedPart(*row)
