"""Rows come in: into the growing segment, but those that any other has already."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from operator import itemgetter

from comity.detection import Detection
from comity.instants import to_ms
from node.store.interface import Added, StoreError
from node.store.rows import HAS, INSERT, Key, Words, key_of, row_of
from node.store.seal import DAY_S
from node.store.segment import Frozen, Segment, SegmentGone
from node.store.shelf import Aside, Shelf, View
from node.store.sieve import marked

ATTEMPTS = 100  # a search or a batch begins anew when a seal or a purge changed the folder under it
_BY_KEY = itemgetter(0, 1, 2)


class Adder:
    """Adds to one shelf; several processes may."""

    def __init__(self, shelf: Shelf, *, retention_s: int, clock: Callable[[], dt.datetime], max_hot_rows: int) -> None:
        self._shelf = shelf
        self._clock = clock
        self._max_hot_rows = max_hot_rows
        self._max_hot_ms = min(DAY_S, max(1, retention_s // 3)) * 1000
        self._words: tuple[str, Words] = ("", {})
        self._hot_rows: tuple[str, int] = ("", 0)

    def add(self, batch: Sequence[Detection]) -> Added:
        """See `DetectionStore.add`; one transaction, synced to the disk."""
        keyed = [(key_of(d), d) for d in batch]
        for _ in range(ATTEMPTS):
            view = self._shelf.view()
            try:
                known = self._known(view, {key for key, _ in keyed})
                accepted = self._insert(view, [pair for pair in keyed if pair[0] not in known] if known else keyed)
            except Frozen:
                self._shelf.rotate(view)
                continue
            except SegmentGone:
                continue
            self._rotate_if_full(view, accepted)
            return Added(accepted=accepted, duplicates=len(batch) - accepted)
        raise restless()

    def _known(self, view: View, keys: set[Key]) -> set[Key]:
        """Which of `keys` are in segments that no longer grow; those in a damaged part cannot be told."""
        known: set[Key] = set()
        if not keys or not view.pieces:
            return known
        begin, end = min(k[1] for k in keys), max(k[1] for k in keys) + 1
        for piece, segment in view.pieces:
            if not piece.meets(begin, end):
                continue
            wanted = [k for k in keys - known if piece.begin_ms <= k[1] < piece.end_ms]
            try:
                known.update(_held(segment, wanted))
            except StoreError as error:
                judged = self._shelf.judged(piece, segment, error)
                if not isinstance(judged, Aside):
                    raise judged from None
        return known

    def _insert(self, view: View, batch: Sequence[tuple[Key, Detection]]) -> int:
        name = view.manifest.active
        with view.active.writing() as connection:
            view.active.growing(connection)
            # Words are kept only once their transaction is: another process may have the file open too.
            words = dict(self._words[1]) if self._words[0] == name else {}
            rows = sorted([row_of(d, words, connection, key) for key, d in batch], key=_BY_KEY)
            accepted = connection.executemany(INSERT, rows).rowcount if rows else 0
        self._words = (name, words)
        return accepted

    def _rotate_if_full(self, view: View, accepted: int) -> None:
        m = view.manifest
        now = to_ms(self._clock())
        name, rows = self._hot_rows
        if name != m.active:
            with contextlib.suppress(SegmentGone), view.active.reading() as connection:
                rows = connection.execute("SELECT count(*) FROM det").fetchone()[0] - accepted
        self._hot_rows = (m.active, rows + accepted)
        # The batch is durable already: what fails here is tried again after the next one.
        with contextlib.suppress(StoreError, SegmentGone):
            if not m.opened_ms:
                self._shelf.opened(m.active)
            elif self._hot_rows[1] >= self._max_hot_rows or now - m.opened_ms >= self._max_hot_ms:
                self._shelf.rotate(view)


def restless() -> StoreError:
    """The fault of a folder that changed under every attempt."""
    return StoreError("the detection store changes too often to be read", reason="STORE_BUSY")


def _held(segment: Segment, keys: Sequence[Key]) -> list[Key]:
    maybe = set(segment.among(marked({k[0] for k in keys})))
    if not maybe:
        return []
    with segment.reading() as connection:
        return [k for k in keys if k[0] in maybe and connection.execute(HAS, k).fetchone()]
