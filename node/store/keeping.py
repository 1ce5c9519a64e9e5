"""What a node asks of its store besides searches: to be looked after, purged, and shown to whoever runs it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from node.store.interface import DetectionStore, Purged
from node.store.sealing import Sealed
from node.store.status import StoreStatus


class Purgeable(Protocol):
    """Rows of one file or partition that are about to go: the whole of it, or some. See `expire.Going`."""

    @property
    def name(self) -> str:
        """The file or partition."""

    @property
    def rows(self) -> int:
        """How many go."""

    @property
    def first_ms(self) -> int:
        """The oldest, ms UTC."""

    @property
    def last_ms(self) -> int:
        """The newest, ms UTC."""

    @property
    def whole(self) -> bool:
        """True if the file or partition goes too."""

    @property
    def readable(self) -> bool:
        """False if it is damaged, and what is in it cannot be told."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Why they go: `retention`, or a class rule's name."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, or over the rows' ids in order."""

    def matching(self, clause: str, values: dict[str, object]) -> Iterator[tuple[object, ...]]:
        """The rows, as `rows.SELECT` gives them, that meet `clause` (SQL, :name for a value) too.

        Raises:
            StoreError: they cannot be read.
        """


class Expiring(Protocol):
    """What goes now. Nothing has been deleted yet."""

    @property
    def going(self) -> tuple[Purgeable, ...]:
        """Each file or partition that loses rows."""

    @property
    def rows(self) -> int:
        """How many rows go in all."""

    def spare(self, going: Purgeable) -> None:
        """Leave `going` for another time."""

    def drop(self) -> Purged:
        """What is gone when this returns, durably.

        Raises:
            StoreError: some of it may still be there; doing it again is safe.
        """


class Housekeeping(Protocol):
    """The store's work in the background; one process at a time does it, and searches go on meanwhile."""

    def run(self) -> Sealed:
        """Do what is due now.

        Raises:
            StoreError: what is not done yet can be done again.
        """

    def prove(self) -> int:
        """How many parts that never change were found to have changed, and were set aside.

        Raises:
            StoreError: not all was read.
        """


class KeptStore(DetectionStore, Protocol):
    """A node's own store."""

    @property
    def sealer(self) -> Housekeeping:
        """What looks after it."""

    def status(self) -> StoreStatus:
        """What it holds, part by part.

        Raises:
            StoreError: it cannot be read.
        """

    def expiring(
        self, before: dt.datetime, *, slack: dt.timedelta = dt.timedelta()
    ) -> AbstractContextManager[Expiring]:
        """What is captured before `before` or expired by a class rule: to be shown, and dropped, inside the block.

        Raises:
            StoreError: it cannot be read.
        """
