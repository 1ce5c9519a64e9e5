"""The store's housekeeping in the background: sealing, merging, and proving that sealed parts are what they were."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from comity.errors import ConfigError
from comity.instants import to_ms
from node.store.interface import StoreError
from node.store.manifest import Piece
from node.store.seal import DAY_MS, DAY_S, MAX_SOURCES, Span, build, digest_of, period
from node.store.segment import Segment, SegmentGone
from node.store.shelf import Shelf

LEAST_RETENTION_S = 3 * DAY_S  # below it a hot segment expires whole soon enough
_DAMAGED = ("STORE_CORRUPT", "BAD_STORE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one round did: hot segments sealed, parts merged away, and rows in the new parts."""

    hot: int
    merged: int
    rows: int


class Sealer:
    """Works on one shelf; only one process at a time does, and searches and ingest go on meanwhile."""

    def __init__(self, shelf: Shelf, *, retention_s: int, clock: Callable[[], dt.datetime]) -> None:
        self._shelf = shelf
        self._retention_s = retention_s
        self._clock = clock

    def run(self) -> Sealed:
        """Seal every frozen segment and merge the parts of each period that is over, or has too many.

        Raises:
            StoreError: what is not done yet can be done again.
        """
        try:
            with self._shelf.keeping():
                self._shelf.sweep()
                if self._retention_s < LEAST_RETENTION_S:
                    return Sealed(hot=0, merged=0, rows=0)
                hot, rows = 0, 0
                for piece in sorted(self._shelf.view().manifest.frozen, key=lambda p: p.begin_ms):
                    rows += self._seal(piece)
                    hot += 1
                merged, again = self._merge()
                return Sealed(hot=hot, merged=merged, rows=rows + again)
        except StoreError as error:
            if error.reason in _DAMAGED:
                self.prove()  # so that the next round goes on without the damaged part
            raise

    def look(self) -> None:
        """Set aside every sealed part that is not there, of another size, or no store of this version.

        Raises:
            StoreError: the manifest cannot be read or written.
        """
        for piece, segment in self._shelf.view().pieces:
            if segment.sealed and (reason := _fault(piece, segment)):
                self._shelf.set_aside(piece.name, reason)

    def prove(self) -> int:
        """How many sealed parts were read whole and found to have the digest they were sealed with.

        Any other is set aside; one that was, and is whole again, serves again. Takes as long as reading them does.

        Raises:
            StoreError: the manifest cannot be read or written.
        """
        good = 0
        for piece in self._shelf.view().manifest.set_aside:
            if piece.sha256 and self._same(piece):
                self._shelf.put_back(piece.name)
        for piece, segment in self._shelf.view().pieces:
            if not segment.sealed:
                continue
            if self._same(piece):
                good += 1
            elif piece in self._shelf.view().manifest.parts:  # and not merged or purged while it was read
                self._shelf.set_aside(piece.name, "DIGEST_DIFFERS")
        return good

    def _same(self, piece: Piece) -> bool:
        try:
            return digest_of(self._shelf.folder / piece.name) == piece.sha256
        except OSError:
            return False

    def _seal(self, piece: Piece) -> int:
        source = self._shelf.folder / piece.name
        segment = {p.name: s for p, s in self._shelf.view().pieces}[piece.name]
        new: list[Piece] = []
        try:
            at = piece.begin_ms
            while at < piece.end_ms:
                begin, end = period(at, self._retention_s)
                part = build(self._shelf.folder, self._shelf.number(), [source], Span(begin_ms=begin, end_ms=end))
                new += [part] if part else []
                at = _next(segment, end)
            if sum(p.rows for p in new) != _rows(segment):
                raise StoreError("a sealed part does not hold what its source does")
        except BaseException:
            self._shelf.unlink({p.name for p in new})
            raise
        self._shelf.exchange({piece.name}, tuple(new))
        return sum(p.rows for p in new)

    def _merge(self) -> tuple[int, int]:
        groups: dict[tuple[int, int], list[Piece]] = defaultdict(list)
        for part in self._shelf.view().manifest.parts:
            begin, end = period(part.begin_ms, self._retention_s)
            if part.end_ms <= end:  # not one of a longer period, from before the retention was changed
                groups[begin, end].append(part)
        over = to_ms(self._clock()) - DAY_MS  # late rows of yesterday still come
        merged, rows = 0, 0
        for (begin, end), parts in sorted(groups.items()):
            while len(parts) >= (2 if end <= over else MAX_SOURCES):
                parts.sort(key=lambda p: p.rows)
                some, parts = parts[:MAX_SOURCES], parts[MAX_SOURCES:]
                paths = [self._shelf.folder / p.name for p in some]
                new = build(self._shelf.folder, self._shelf.number(), paths, Span(begin_ms=begin, end_ms=end))
                if new is None or new.rows > sum(p.rows for p in some):
                    raise StoreError("merging parts lost what they hold", reason="STORE_CORRUPT")
                self._shelf.exchange({p.name for p in some}, (new,))
                merged += len(some)
                rows += new.rows
                parts.append(new)
                if len(parts) < 2 or end > over:
                    break
        return merged, rows


def _rows(segment: Segment) -> int:
    with segment.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM det").fetchone()[0])


def _next(segment: Segment, at_ms: int) -> int:
    """The time of the first row from `at_ms` on, past all times if there is none."""
    with segment.reading() as connection:
        found = connection.execute("SELECT min(captured_at) FROM det WHERE captured_at >= ?", (at_ms,)).fetchone()[0]
    return 1 << 62 if found is None else int(found)


def _fault(piece: Piece, segment: Segment) -> str:
    try:
        if segment.path.stat().st_size != piece.size_bytes:
            return "SIZE_DIFFERS"
        segment.open()
    except FileNotFoundError:
        return "MISSING"
    except SegmentGone:
        return ""
    except (StoreError, ConfigError) as error:
        return "READ_FAILED" if error.reason in _DAMAGED else ""
    except OSError:
        return "READ_FAILED"
    return ""
