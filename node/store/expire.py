"""What is past its retention: found, shown to whoever must see it first, and then taken from the disk."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from comity.instants import from_ms
from node.store.interface import Purged, StoreError
from node.store.keeping import Purgeable
from node.store.manifest import Gone, Piece
from node.store.rows import SELECT, word_ids
from node.store.rules import ClassRule
from node.store.seal import Span, build, digest_of
from node.store.segment import Segment, SegmentGone, faults
from node.store.shelf import Shelf, View

RETENTION = "retention"
REMEMBERED_EVERY_MS = 600_000  # where nothing goes, which may be asked for every few seconds
DELETED_AT_ONCE = 2_000  # rows of one transaction, so that ingest waits no longer than that takes
_COUNT = "SELECT count(*), min(d.captured_at), max(d.captured_at), max(d.rowid) FROM det d WHERE "
_COUNT_SEALED = "SELECT count(*), min(d.captured_at), max(d.captured_at), 0 FROM det d WHERE "


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Rows captured before `before_ms` go, and those of a class before its rule's own time."""

    before_ms: int
    rules: tuple[tuple[ClassRule, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """Rows of one file that are about to go: the whole file, or those that meet `condition`.

    `digest` is the file's SHA-256, or one over the rows' ids in order. A file that was set aside cannot be read.
    """

    name: str
    rows: int
    first_ms: int
    last_ms: int
    whole: bool
    readable: bool
    rules: tuple[str, ...]
    digest: bytes
    segment: Segment = field(repr=False)
    piece: Piece | None = field(repr=False)
    condition: str = field(repr=False)

    def matching(self, clause: str, values: dict[str, object]) -> Iterator[tuple[object, ...]]:
        """The rows, as `rows.SELECT` gives them, that go and meet `clause` too.

        Raises:
            StoreError: they cannot be read.
        """
        assert self.readable
        with self.segment.reading() as connection:
            yield from connection.execute(f"{SELECT} WHERE ({self.condition}) AND ({clause})", values)


class Expiry:
    """What goes now. Nothing has been deleted yet; `drop` does it. Used only while the shelf is `keeping`."""

    def __init__(self, shelf: Shelf, going: Sequence[Going], cuts: Cuts) -> None:
        self._shelf = shelf
        self.going = tuple(going)
        self.cuts = cuts

    @property
    def rows(self) -> int:
        """How many rows go."""
        return sum(g.rows for g in self.going)

    def spare(self, going: Purgeable) -> None:
        """Leave `going` for another time."""
        self.going = tuple(g for g in self.going if g is not going)

    def drop(self) -> Purged:
        """What is gone when this returns, durable and off the folder; unlinking is no erasure of the medium.

        Raises:
            StoreError: some of it may still be there; doing it again is safe.
        """
        # Even if nothing goes: reads that came too late were not kept, and a longer retention must not hide that.
        if self.going or self.cuts.before_ms - self._shelf.view().manifest.purged_ms >= REMEMBERED_EVERY_MS:
            self._remember()
        if not self.going:
            return Purged(rows=0, oldest=None, newest=None)
        whole = {g.name for g in self.going if g.whole}
        if whole:
            self._shelf.exchange(whole, ())
        for going in self.going:
            if going.whole:
                continue
            if going.piece is not None and going.segment.sealed:
                self._rewrite(going.piece, going.segment)
            else:
                _delete(going)
        ends = [from_ms(ms) for g in self.going if g.rows for ms in (g.first_ms, g.last_ms)]
        return Purged(rows=self.rows, oldest=min(ends, default=None), newest=max(ends, default=None))

    def _remember(self) -> None:
        # Before anything goes: a clock that is set back later must not turn what was purged into "no record".
        with self._shelf.changing() as save:
            m = self._shelf.view().manifest
            gone = {g.rule: g.before_ms for g in m.gone if g.before_ms > self.cuts.before_ms}
            for rule, cut in self.cuts.rules:
                gone[rule.name] = max(cut, gone.get(rule.name, 0))
            changed = replace(
                m,
                purged_ms=max(m.purged_ms, self.cuts.before_ms),
                gone=tuple(Gone(rule=name, before_ms=ms) for name, ms in sorted(gone.items())),
            )
            if changed != m:
                save(changed)

    def _rewrite(self, piece: Piece, segment: Segment) -> None:
        begin = max(piece.begin_ms, self.cuts.before_ms)
        span = Span(begin_ms=begin, end_ms=piece.end_ms, rules=self.cuts.rules)
        new = build(self._shelf.folder, self._shelf.number(), [segment.path], span)
        self._shelf.exchange({piece.name}, (new,) if new else ())


def expiry(shelf: Shelf, view: View, cuts: Cuts, slack: dt.timedelta) -> Expiry:
    """What of `view` is past `cuts`. A sealed part that holds both is rewritten only once it has rows of `slack` ago.

    Raises:
        StoreError: it cannot be read.
        SegmentGone: the view is old.
    """
    slack_ms = slack // dt.timedelta(milliseconds=1)
    going: list[Going | None] = []
    for piece, segment in view.pieces:
        if piece.end_ms <= cuts.before_ms:
            going.append(_whole(piece, segment))
        elif not segment.sealed or _due(piece, segment, cuts, slack_ms):
            going.append(_some(piece.name, piece, segment, cuts))
    going.append(_some(view.manifest.active, None, view.active, cuts))
    for piece in view.manifest.set_aside:
        if piece.end_ms <= cuts.before_ms:
            going.append(replace(_whole(piece, Segment(shelf.folder / piece.name, sealed=True)), readable=False))
    return Expiry(shelf, [g for g in going if g is not None and (g.rows or g.whole)], cuts)


def _whole(piece: Piece, segment: Segment) -> Going:
    digest, rows = piece.sha256, piece.rows
    if not digest:
        segment.settle()
        with segment.reading() as connection, faults():
            rows = connection.execute("SELECT count(*) FROM det").fetchone()[0]  # some may have gone before
            digest = digest_of(segment.path)
    return Going(
        name=piece.name,
        rows=rows,
        first_ms=piece.begin_ms,
        last_ms=max(piece.begin_ms, piece.end_ms - 1),
        whole=True,
        readable=True,
        rules=(RETENTION,),
        digest=bytes.fromhex(digest),
        segment=segment,
        piece=piece,
        condition="1",
    )


def _some(name: str, piece: Piece | None, segment: Segment, cuts: Cuts) -> Going | None:
    with segment.reading() as connection:
        parts, rules = [f"d.captured_at < {cuts.before_ms}"], [RETENTION]
        for rule, cut in cuts.rules:
            for id_ in word_ids(connection, {(rule.kind, rule.text): cut}):
                parts.append(f"(d.{rule.kind} = {id_} AND d.captured_at < {cut})")
                rules.append(rule.name)
        condition = " OR ".join(parts)
        count = _COUNT_SEALED if segment.sealed else _COUNT
        rows, first, last, newest_row = connection.execute(count + condition).fetchone()
        if not rows:
            return None
        if not segment.sealed:
            # A late row that arrives from now on was shown to nobody: it goes next time.
            condition = f"({condition}) AND d.rowid <= {newest_row}"
        digest = hashlib.sha256()
        for (uid,) in connection.execute(f"SELECT d.uid FROM det d WHERE {condition} ORDER BY d.uid"):  # noqa: S608  # nosec B608
            digest.update(uid.to_bytes(8, "big", signed=True))
        used = [
            rule_name
            for rule_name, part in zip(rules, parts, strict=True)
            if connection.execute(f"SELECT 1 FROM det d WHERE ({condition}) AND {part} LIMIT 1").fetchone()  # noqa: S608  # nosec B608
        ]
    return Going(
        name=name,
        rows=rows,
        first_ms=first,
        last_ms=last,
        whole=False,
        readable=True,
        rules=tuple(used),
        digest=digest.digest(),
        segment=segment,
        piece=piece,
        condition=condition,
    )


def _due(piece: Piece, segment: Segment, cuts: Cuts, slack_ms: int) -> bool:
    if piece.begin_ms < cuts.before_ms - slack_ms:
        return True
    for rule, cut in cuts.rules:
        if piece.begin_ms >= cut - slack_ms:
            continue
        key = (rule.kind, rule.text)
        if key not in segment.first_of:
            segment.first_of[key] = _first_of(segment, rule)
        first = segment.first_of[key]
        if first is not None and first < cut - slack_ms:
            return True
    return False


def _first_of(segment: Segment, rule: ClassRule) -> int | None:
    with segment.reading() as connection:
        for id_ in word_ids(connection, {(rule.kind, rule.text): 0}):
            found = connection.execute(f"SELECT min(captured_at) FROM det WHERE {rule.kind} = ?", (id_,)).fetchone()  # noqa: S608  # nosec B608
            return None if found[0] is None else int(found[0])
    return None


def _delete(going: Going) -> None:
    """The rows are gone from a hot segment; deleted bytes are overwritten in the file."""
    try:
        with going.segment.reading() as connection:
            ids = connection.execute(f"SELECT d.rowid FROM det d WHERE {going.condition}").fetchall()  # noqa: S608  # nosec B608
        for i in range(0, len(ids), DELETED_AT_ONCE):
            with going.segment.writing() as connection:
                connection.executemany("DELETE FROM det WHERE rowid = ?", ids[i : i + DELETED_AT_ONCE])
        going.segment.settle()
    except SegmentGone:
        raise StoreError("the segment went while it was purged") from None
