"""What a store's folder holds, for the person who looks after it: no plate, only files, counts and times."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from comity.instants import from_ms, to_text
from node.store.manifest import Piece
from node.store.segment import Segment
from node.store.shelf import View

ACTIVE, WAITING, SEALED, SET_ASIDE = "hot", "waiting", "sealed", "set-aside"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One file. `state` is hot, waiting (to be sealed), sealed or set-aside; `reason` says why it was set aside."""

    name: str
    state: str
    rows: int
    size_bytes: int
    oldest: dt.datetime | None
    newest: dt.datetime | None
    reason: str

    def as_json(self) -> dict[str, object]:
        """As `comity node status --json` writes it."""
        return {
            "name": self.name,
            "state": self.state,
            "rows": self.rows,
            "bytes": self.size_bytes,
            "oldest": to_text(self.oldest) if self.oldest else None,
            "newest": to_text(self.newest) if self.newest else None,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """All files, the newest first, those set aside last. `lag_s`: how long before now the newest row was captured."""

    parts: tuple[PartStatus, ...]
    rows: int
    size_bytes: int
    oldest: dt.datetime | None
    newest: dt.datetime | None
    lag_s: float | None


def measure(view: View, now: dt.datetime) -> StoreStatus:
    """The status of `view`; rows that were set aside do not count as held.

    Raises:
        StoreError: a hot segment cannot be read.
        SegmentGone: the view is old.
    """
    parts = [_hot(view.active, ACTIVE)]
    parts += [_sealed(p, s, SEALED) if s.sealed else _hot(s, WAITING) for p, s in view.pieces]
    oldest = min((p.oldest for p in parts if p.oldest), default=None)
    newest = max((p.newest for p in parts if p.newest), default=None)
    aside = [_sealed(p, None, SET_ASIDE) for p in view.manifest.set_aside]
    return StoreStatus(
        parts=(*parts, *aside),
        rows=sum(p.rows for p in parts),
        size_bytes=sum(p.size_bytes for p in (*parts, *aside)),
        oldest=oldest,
        newest=newest,
        lag_s=(now - newest).total_seconds() if newest else None,
    )


def _hot(segment: Segment, state: str) -> PartStatus:
    with segment.reading() as connection:
        rows, first, last = connection.execute(
            "SELECT count(*), min(captured_at), max(captured_at) FROM det"
        ).fetchone()
    sizes = (segment.path, segment.path.with_name(segment.path.name + "-wal"))
    return PartStatus(
        name=segment.path.name,
        state=state,
        rows=rows,
        size_bytes=sum(p.stat().st_size for p in sizes if p.exists()),
        oldest=from_ms(first) if rows else None,
        newest=from_ms(last) if rows else None,
        reason="",
    )


def _sealed(piece: Piece, segment: Segment | None, state: str) -> PartStatus:
    return PartStatus(
        name=piece.name,
        state=state if segment else SET_ASIDE,
        rows=piece.rows,
        size_bytes=piece.size_bytes,
        oldest=from_ms(piece.begin_ms),
        newest=from_ms(piece.end_ms - 1),
        reason=piece.reason,
    )
