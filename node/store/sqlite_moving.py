"""All rows of a store in SQLite files, sorted, and rows into one."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path

from comity.instants import to_ms
from comity.plate import skeleton
from node.store.interface import StoreError
from node.store.manifest import Gone
from node.store.months import Month
from node.store.moving import BATCH, Marks, Raw
from node.store.rows import SELECT, detection_of
from node.store.segment import SegmentGone, faults
from node.store.shelf import Shelf
from node.store.sqlite import SqliteStore

# The order of the key index, so that nothing is sorted.
_SORTED = f"{SELECT} WHERE d.captured_at >= ? AND d.captured_at < ? ORDER BY d.skel, d.captured_at, d.uid"


class SqliteMoving:
    """See `Movable`. Its shelf is another than the store's, as another process's would be."""

    def __init__(self, folder: Path, *, retention_s: int, clock: Callable[[], dt.datetime]) -> None:
        self._store = SqliteStore.open(folder, retention_s=retention_s, clock=clock)
        self._shelf = Shelf(folder, clock)

    def alone(self) -> AbstractContextManager[object]:
        """See `Movable.alone`."""
        return self._shelf.keeping()

    def months(self) -> list[Month]:
        """See `Movable.months`."""
        if self._shelf.view().manifest.set_aside:
            raise StoreError("a part of the detection store is damaged and was set aside", reason="PART_SET_ASIDE")
        found: set[Month] = set()
        for part in self._store.status().parts:
            if part.oldest and part.newest:
                month, last = Month.of(to_ms(part.oldest)), to_ms(part.newest)
                found.add(month)
                while month.end_ms <= last:
                    month = Month.of(month.end_ms)
                    found.add(month)
        return sorted(found, key=lambda m: m.begin_ms)

    def count(self) -> int:
        """See `Movable.count`."""
        return self._store.count()

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        """See `Movable.sorted_rows`."""
        with ExitStack() as stack:
            stack.enter_context(faults())
            try:
                streams = [
                    stack.enter_context(closing(c.execute(_SORTED, (month.begin_ms, month.end_ms))))
                    for _, segment in self._store.segments(self._shelf.view(), month.begin_ms, month.end_ms)
                    for c in (stack.enter_context(segment.reading()),)
                ]
            except SegmentGone:
                raise StoreError("the store changed while it was copied", reason="STORE_BUSY") from None
            merged = stack.enter_context(closing(heapq.merge(*streams, key=_key)))
            for _, same in itertools.groupby(merged, _key):
                row = next(same)
                detection_of(row)
                yield row

    def fill(self, month: Month, rows: Iterable[Raw]) -> None:  # noqa: ARG002
        """See `Movable.fill`."""
        iterator = iter(rows)
        while batch := [detection_of(row) for row in itertools.islice(iterator, BATCH)]:
            self._store.add(batch)

    def marks(self) -> Marks:
        """See `Movable.marks`."""
        m = self._shelf.view().manifest
        return Marks(purged_ms=m.purged_ms, gone=tuple((g.rule, g.before_ms) for g in m.gone))

    def take(self, marks: Marks) -> None:
        """See `Movable.take`."""
        with self._shelf.changing() as save:
            m = self._shelf.view().manifest
            gone = {g.rule: g.before_ms for g in m.gone}
            for rule, before_ms in marks.gone:
                gone[rule] = max(before_ms, gone.get(rule, 0))
            save(
                replace(
                    m,
                    purged_ms=max(m.purged_ms, marks.purged_ms),
                    gone=tuple(Gone(rule=rule, before_ms=ms) for rule, ms in sorted(gone.items())),
                )
            )

    def close(self) -> None:
        """See `Movable.close`."""
        self._store.close()
        self._shelf.close()


def _key(row: Raw) -> tuple[str, object, object]:
    return skeleton(str(row[2])), row[0], row[1]
