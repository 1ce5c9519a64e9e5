"""Detections in SQLite files of one folder: the store that needs no server."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import orjson

from comity.detection import Detection, Match, MatchClass
from comity.instants import from_ms, to_ms
from comity.plate import Plate
from comity.query import AreaQuery, ConvoyQuery, PatternQuery
from node.store import rows as stored
from node.store.area import UNPLACED, condition
from node.store.bulk import Load, loading
from node.store.confusable import confusable_skeletons
from node.store.convoy import READS, WHO, Span, bound, companions, near, texts, within
from node.store.expire import Cuts, Expiry, expiry
from node.store.interface import Added, Gap, Purged, StoreError, check_bounds, check_search
from node.store.manifest import Piece
from node.store.partial import conditions
from node.store.rows import Key, Words, first_ms, key_of, row_of, timed_detection
from node.store.rules import ClassRule, unexpired
from node.store.seal import DAY_S
from node.store.sealing import Sealer
from node.store.segment import Frozen, Segment, SegmentGone
from node.store.shelf import Shelf, View
from node.store.status import StoreStatus, measure

MAX_HOT_ROWS = 1_000_000
ATTEMPTS = 100  # a search or a batch begins anew when a seal or a purge changed the folder under it
_EXACT = "d.skel = :skel AND d.plate = :number AND coalesce(r.text, :state) IN (:state, '')"
_WINDOW = " AND d.captured_at >= :begin AND d.captured_at < :end"
_NEWEST_FIRST = " ORDER BY d.captured_at DESC, d.uid DESC LIMIT :most"
_DAMAGED = "STORE_CORRUPT"
T = TypeVar("T")


class _Aside(StoreError):
    """This part was just set aside."""

    reason = "PART_SET_ASIDE"


class SqliteStore:
    """The `DetectionStore` of one folder. Searches ask every segment, the newest first; new rows go to the newest.

    Several processes may have the folder open, each with a store of its own.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        retention_s: int,
        clock: Callable[[], dt.datetime],
        rules: Sequence[ClassRule] = (),
        max_hot_rows: int = MAX_HOT_ROWS,
    ) -> None:
        self._shelf = shelf
        self._retention_s = retention_s
        self._clock = clock
        self._rules = tuple(r for r in rules if r.kept_s < retention_s)
        self._max_hot_rows = max_hot_rows
        self._max_hot_ms = min(DAY_S, max(1, retention_s // 3)) * 1000
        self._words: tuple[str, Words] = ("", {})
        self._hot_rows: tuple[str, int] = ("", 0)
        self.sealer = Sealer(shelf, retention_s=retention_s, clock=clock)

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make `folder` (0700) with an empty store (0600); one there already is completed if need be.

        Raises:
            StoreError: it cannot be written.
            ConfigError: another program's file is there.
        """
        Shelf.create(folder)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        retention_s: int,
        clock: Callable[[], dt.datetime],
        rules: Sequence[ClassRule] = (),
        max_hot_rows: int = MAX_HOT_ROWS,
    ) -> SqliteStore:
        """The store in `folder`; `clock` returns aware UTC. A sealed part that cannot be opened is set aside.

        Raises:
            ConfigError: there is none, others than the owner can reach it, or it is of another version.
            StoreError: it cannot be read.
        """
        Shelf.check(folder)
        store = cls(Shelf(folder, clock), retention_s=retention_s, clock=clock, rules=rules, max_hot_rows=max_hot_rows)
        store._shelf.view().active.open()
        store.sealer.look()
        return store

    def add(self, batch: Sequence[Detection]) -> Added:
        """See `DetectionStore.add`; one transaction, synced to the disk."""
        keys = {key_of(d) for d in batch}
        for _ in range(ATTEMPTS):
            view = self._shelf.view()
            try:
                known = self._known(view, keys)
                accepted = self._insert(view, [d for d in batch if key_of(d) not in known])
            except Frozen:
                self._shelf.rotate(view)
                continue
            except SegmentGone:
                continue
            self._rotate_if_full(view, accepted)
            return Added(accepted=accepted, duplicates=len(batch) - accepted)
        raise _restless()

    def loading(self) -> AbstractContextManager[Load]:
        """See `bulk.loading`."""
        return loading(self._shelf, self.sealer, retention_s=self._retention_s, horizon=self.horizon)

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.exact`."""
        check_search(plate, begin, end, limit)
        values: dict[str, object] = {"skel": plate.skeleton, "number": plate.number, "state": plate.state}
        found = self.select(_EXACT, values, begin, end, limit)
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.PARTIAL) for d in found
        ]

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.confusable`."""
        check_search(plate, begin, end, limit)
        skeletons = orjson.dumps(confusable_skeletons(plate.number)).decode()
        found = self.select("1", {"skels": skeletons}, begin, end, limit, first=stored.SELECT_LISTED)
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.CONFUSABLE)
            for d in found
        ]

    def partial(self, query: PatternQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.partial`."""
        check_bounds(begin, end, limit)
        wanted = conditions(query)
        found = self.select(wanted.of, wanted.values, begin, end, limit)
        return [Match(detection=d, match_class=MatchClass.PARTIAL) for d in found]

    def area(self, query: AreaQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.area`."""
        check_bounds(begin, end, limit)
        where, values = condition(query)
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in self.select(where, values, begin, end, limit)]

    def unplaced(self, begin: dt.datetime, end: dt.datetime) -> bool:
        """See `DetectionStore.unplaced`."""
        return bool(self.select(UNPLACED, {}, begin, end, 1))

    def convoy(
        self, query: ConvoyQuery, sightings: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int
    ) -> list[Match]:
        """See `DetectionStore.convoy`."""
        check_bounds(begin, end, limit)
        begin_ms, end_ms, clause, cuts = self._unexpired(begin, end)
        spans = near(query, sightings, begin_ms, end_ms)

        def who(view: View) -> set[tuple[object, ...]]:
            found: set[tuple[object, ...]] = set()
            for piece, segment in self.segments(view, begin_ms, end_ms):
                if there := within(spans, piece):
                    found.update(self.asked(piece, segment, lambda _: WHO + clause, {**cuts, **bound(there)}, texts))
            return found

        numbers = companions(query, self.viewing(who))
        values: dict[str, object] = {"plates": orjson.dumps(numbers).decode()}
        how = stored.SELECT_SPANS
        found = self.select(READS, values, begin, end, limit, first=how, spans=spans) if numbers else []
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in found]

    def select(
        self,
        where: str | Callable[[Segment], str],
        values: dict[str, object],
        begin: dt.datetime,
        end: dt.datetime,
        limit: int,
        *,
        first: str = stored.SELECT,
        spans: Sequence[Span] | None = None,
    ) -> list[Detection]:
        """Unexpired rows of the window that meet `where` (SQL on `first`), newest first, at most `limit` + 1.

        `where` may differ by segment, where a dictionary can be used; `first` is one of those of `rows`, with `spans`
        for `SELECT_SPANS`.

        Raises:
            StoreError: it was not searched; PART_SET_ASIDE if a part that could hold rows of it is damaged.
        """
        begin_ms, end_ms, clause, cuts = self._unexpired(begin, end)
        asked = {**values, **cuts, "begin": begin_ms, "end": end_ms, "most": limit + 1}

        def statement(segment: Segment) -> str:
            wanted = where if isinstance(where, str) else where(segment)
            # The window is stated last: the planner takes what `where` names first as the key.
            return f"{first} WHERE {wanted}{_WINDOW}{clause}{_NEWEST_FIRST}"

        def search(view: View) -> list[Detection]:
            found: dict[tuple[object, ...], Detection] = {}
            for piece, segment in self.segments(view, begin_ms, end_ms):
                if piece is not None and len(found) > limit:
                    kept = sorted((k[:1] for k in found), reverse=True)[limit]
                    if (piece.end_ms,) <= kept:
                        break  # this one and all that follow are older than what is found already
                if spans is not None:
                    asked.update(bound(within(spans, piece)))
                for at, d in self.asked(piece, segment, statement, asked, timed_detection):
                    other = found.setdefault(at, d)
                    if other is not d and other.plate.skeleton != d.plate.skeleton:
                        found.setdefault((*at, d.plate.skeleton), d)  # one id for two reads: both are shown
            return [found[k] for k in sorted(found, key=itemgetter(0, 1), reverse=True)[: limit + 1]]

        return self.viewing(search)

    def _unexpired(self, begin: dt.datetime, end: dt.datetime) -> tuple[int, int, str, dict[str, object]]:
        """What of the window may be returned, in ms UTC, and what leaves out classes kept for less, as SQL."""
        now = self._clock()
        # In whole milliseconds this is the horizon: a search spends more on making dates than on reading a row.
        kept = first_ms(now) - self._retention_s * 1000
        begin_ms = max(first_ms(begin), kept, self._shelf.view().manifest.purged_ms)
        return begin_ms, first_ms(end), *(unexpired(self._rules, now) if self._rules else ("", {}))

    def viewing(self, ask: Callable[[View], T]) -> T:
        """What `ask` says of the newest view; asked anew if the folder changed under it.

        Raises:
            StoreError: it cannot be answered.
        """
        for _ in range(ATTEMPTS):
            view = self._shelf.view()
            try:
                return ask(view)
            except SegmentGone:
                if self._shelf.view() is view:
                    self.sealer.look()  # a file that the manifest names is not there
                    if self._shelf.view() is view:
                        raise StoreError("a file of the detection store is missing") from None
        raise _restless()

    def segments(self, view: View, begin_ms: int, end_ms: int) -> Iterator[tuple[Piece | None, Segment]]:
        """The segments that may hold rows of [begin_ms, end_ms), the newest first; None stands for the growing one.

        Raises:
            StoreError: PART_SET_ASIDE; one of them cannot be searched, so that no answer is whole.
        """
        if view.manifest.set_aside and any(p.meets(begin_ms, end_ms) for p in view.manifest.set_aside):
            raise StoreError("a part of the detection store is damaged and was set aside", reason="PART_SET_ASIDE")
        yield None, view.active
        yield from ((p, s) for p, s in view.pieces if p.meets(begin_ms, end_ms))

    def asked(
        self,
        piece: Piece | None,
        segment: Segment,
        statement: Callable[[Segment], str],
        values: Mapping[str, object],
        read: Callable[[tuple[object, ...]], T],
    ) -> list[T]:
        """What `read` makes of each row of `statement` in one segment; a damaged sealed part is set aside.

        Raises:
            StoreError: it cannot be searched.
            SegmentGone: look at the view again.
        """
        try:
            return [read(row) for row in segment.ask(statement(segment), values)]
        except StoreError as error:
            raise self._judged(piece, segment, error) from None

    def horizon(self) -> dt.datetime:
        """See `DetectionStore.horizon`; a clock that was set back does not bring back what was purged."""
        kept = self._clock() - dt.timedelta(seconds=self._retention_s)
        return max(kept, from_ms(self._shelf.view().manifest.purged_ms))

    def gaps(self, begin: dt.datetime, end: dt.datetime) -> tuple[Gap, ...]:
        """See `DetectionStore.gaps`."""
        now, horizon = self._clock(), self.horizon()
        until = {g.rule: g.before_ms for g in self._shelf.view().manifest.gone}
        for rule in self._rules:
            until[rule.name] = max(rule.before(now), until.get(rule.name, 0))
        found = [
            Gap(begin=max(begin, horizon), end=min(end, from_ms(ms)), rule=name) for name, ms in sorted(until.items())
        ]
        return tuple(sorted((g for g in found if g.begin < g.end), key=lambda g: g.begin))

    def oldest(self) -> dt.datetime | None:
        """See `DetectionStore.oldest`."""
        return self.status().oldest

    def newest(self) -> dt.datetime | None:
        """See `DetectionStore.newest`."""
        return self.status().newest

    def count(self) -> int:
        """See `DetectionStore.count`."""
        return self.status().rows

    def status(self) -> StoreStatus:
        """What the folder holds, file by file; reads every row that is not sealed.

        Raises:
            StoreError: it cannot be read.
        """
        return self.viewing(lambda view: measure(view, self._clock()))

    def purge(self, before: dt.datetime) -> Purged:
        """See `DetectionStore.purge`; what class rules have expired goes too."""
        with self.expiring(before) as found:
            return found.drop()

    @contextlib.contextmanager
    def expiring(self, before: dt.datetime, *, slack: dt.timedelta = dt.timedelta()) -> Iterator[Expiry]:
        """What is captured before `before` or expired by a class rule: to be shown, and dropped, inside the block.

        Sealed parts that hold both are left until they have rows that expired `slack` ago.

        Raises:
            StoreError: it cannot be read.
        """
        with self._shelf.keeping():
            now = self._clock()
            rules = tuple((rule, rule.before(now)) for rule in self._rules)
            cuts = Cuts(before_ms=max(0, first_ms(before)), rules=rules)
            yield self.viewing(lambda view: expiry(self._shelf, view, cuts, slack))

    def close(self) -> None:
        """See `DetectionStore.close`."""
        self._shelf.close()

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
                with segment.reading() as connection:
                    known.update(k for k in wanted if connection.execute(stored.HAS, k).fetchone())
            except StoreError as error:
                judged = self._judged(piece, segment, error)
                if not isinstance(judged, _Aside):
                    raise judged from None
        return known

    def _judged(self, piece: Piece | None, segment: Segment, error: StoreError) -> StoreError:
        """The fault to raise; a sealed part found to be damaged is set aside."""
        if piece is None or not segment.sealed or error.reason != _DAMAGED:
            return error
        self._shelf.set_aside(piece.name, "READ_FAILED")
        return _Aside(str(error))

    def _insert(self, view: View, batch: Sequence[Detection]) -> int:
        name = view.manifest.active
        with view.active.writing() as connection:
            view.active.growing(connection)
            # Words are kept only once their transaction is: another process may have the file open too.
            words = dict(self._words[1]) if self._words[0] == name else {}
            rows = [row_of(d, words, connection) for d in batch]
            rows.sort(key=lambda row: row[:2])
            accepted = connection.executemany(stored.INSERT, rows).rowcount if rows else 0
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


def _restless() -> StoreError:
    return StoreError("the detection store changes too often to be read", reason="STORE_BUSY")
