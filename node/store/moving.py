"""All rows of a store, to be copied to another: sorted alike whatever holds them, so that two can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import orjson

from node.store.months import Month

BATCH = 5_000
Raw = tuple[object, ...]  # a row as `rows.SELECT` gives it
Progress = Callable[[int], None]  # told how many rows went through since it was last told


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is gone from a store: all rows before `purged_ms`, and of each class those before its own time."""

    purged_ms: int
    gone: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """How many rows a month has, and the SHA-256 over them in order."""

    rows: int
    digest: str


class Movable(Protocol):
    """A store to copy from or to, while nobody else changes it. Every method raises StoreError."""

    def alone(self) -> AbstractContextManager[object]:
        """Within the block no other process seals, merges, lists or purges."""

    def months(self) -> list[Month]:
        """Those that may hold rows, expired ones that are not purged yet among them, the oldest first.

        Raises:
            StoreError: PART_SET_ASIDE: what is damaged cannot be copied, and would be "no record" elsewhere.
        """

    def count(self) -> int:
        """Rows held, expired ones that are not purged yet among them."""

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        """Each row of the month once, by skeleton, time and id.

        Raises:
            StoreError: they cannot be read; STORE_CORRUPT if one was never written so.
        """

    def fill(self, month: Month, rows: Iterable[Raw]) -> None:
        """The month holds these rows too, durably; those that are there already stay once.

        Raises:
            StoreError: some may be missing; doing it again is safe.
        """

    def marks(self) -> Marks:
        """What is gone."""

    def take(self, marks: Marks) -> None:
        """This is gone here too, durably: a search across it is not "no record" after the copy either."""

    def close(self) -> None:
        """Let go of everything."""


def summed(rows: Iterable[Raw], told: Progress) -> Sum:
    """The count and digest of rows in order: SHA-256 over each as a JSON array and a line feed."""
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(orjson.dumps(row))
        digest.update(b"\n")
        count += 1
        if count % BATCH == 0:
            told(BATCH)
    told(count % BATCH)
    return Sum(rows=count, digest=digest.hexdigest())


def counted(rows: Iterable[Raw], told: Progress) -> Iterator[Raw]:
    """The rows as they are; `told` hears of them."""
    count = 0
    for row in rows:
        yield row
        count += 1
        if count % BATCH == 0:
            told(BATCH)
    told(count % BATCH)
