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
from comity.instants import from_ms
from comity.plate import Plate
from comity.query import AreaQuery, ConvoyQuery, PatternQuery
from node.store.adding import ATTEMPTS, Adder, restless
from node.store.area import UNPLACED, condition
from node.store.bulk import Load, loading
from node.store.confusable import confusable_skeletons
from node.store.convoy import READS, WHO, Span, bound, companions, near, texts, within
from node.store.expire import Cuts, Expiry, expiry
from node.store.interface import Added, Gap, Purged, StoreError, check_bounds, check_search
from node.store.manifest import Piece
from node.store.partial import conditions
from node.store.rows import CODED, CODED_LISTED, CODED_SPANS, Placed, coded, first_ms, matched, matches, never_written
from node.store.rules import ClassRule, unexpired
from node.store.sealing import Sealer
from node.store.segment import Segment, SegmentGone
from node.store.shelf import Shelf, View
from node.store.sieve import marked
from node.store.status import StoreStatus, measure

MAX_HOT_ROWS = 1_000_000
_EXACT = "d.skel = :skel AND d.plate = :number AND coalesce(r.text, :state) IN (:state, '')"
_WINDOW = " AND d.captured_at >= :begin AND d.captured_at < :end"
_NEWEST_FIRST = " ORDER BY d.captured_at DESC, d.uid DESC LIMIT :most"
T = TypeVar("T")
# What rows of a segment must meet, as SQL, and its values; None if it has none that do.
Question = tuple[str, Mapping[str, object]] | None


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
        self._adder = Adder(shelf, retention_s=retention_s, clock=clock, max_hot_rows=max_hot_rows)
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
        return self._adder.add(batch)

    def loading(self) -> AbstractContextManager[Load]:
        """See `bulk.loading`."""
        return loading(self._shelf, self.sealer, retention_s=self._retention_s, horizon=self.horizon)

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.exact`."""
        check_search(plate, begin, end, limit)
        values: dict[str, object] = {"skel": plate.skeleton, "number": plate.number, "state": plate.state}
        look = marked([plate.skeleton])
        found = self.select(lambda s: (_EXACT, {}) if s.among(look) else None, values, begin, end, limit)
        state = plate.state
        return [matched(d, MatchClass.EXACT if d.plate.state == state else MatchClass.PARTIAL) for d in found]

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.confusable`."""
        check_search(plate, begin, end, limit)
        look = marked(confusable_skeletons(plate.number))

        def listed(segment: Segment) -> Question:
            skeletons = segment.among(look)
            return ("1", {"skels": orjson.dumps(skeletons).decode()}) if skeletons else None

        found = self.select(listed, {}, begin, end, limit, first=CODED_LISTED)
        number, state = plate.number, plate.state
        own, other = MatchClass.EXACT, MatchClass.CONFUSABLE
        return [matched(d, own if (p := d.plate).number == number and p.state == state else other) for d in found]

    def partial(self, query: PatternQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.partial`."""
        check_bounds(begin, end, limit)
        wanted = conditions(query)
        found = self.select(wanted.asked, wanted.values, begin, end, limit)
        return matches(found, MatchClass.PARTIAL)

    def area(self, query: AreaQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.area`."""
        check_bounds(begin, end, limit)
        found = self.select(*condition(query), begin, end, limit)
        return matches(found, MatchClass.EXACT)

    def unplaced(self, begin: dt.datetime, end: dt.datetime) -> bool:
        """See `DetectionStore.unplaced`."""
        return bool(self.select(lambda _: (UNPLACED, {}), {}, begin, end, 1))

    def convoy(
        self, query: ConvoyQuery, sightings: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int
    ) -> list[Match]:
        """See `DetectionStore.convoy`."""
        check_bounds(begin, end, limit)
        begin_ms, end_ms, clause, cuts = self._unexpired(self._shelf.view(), begin, end)
        spans = near(query, sightings, begin_ms, end_ms)

        def who(view: View) -> set[tuple[object, ...]]:
            found: set[tuple[object, ...]] = set()
            for piece, segment in self.segments(view, begin_ms, end_ms):
                if there := within(spans, piece):
                    asked = (WHO + clause, {**cuts, **bound(there)})
                    found.update(self.asked(piece, segment, lambda _, asked=asked: asked, texts))  # type: ignore[misc]
            return found

        numbers = companions(query, self.viewing(who))
        values: dict[str, object] = {"plates": orjson.dumps(numbers).decode()}
        if not numbers:
            return []
        found = self.select(lambda _: (READS, {}), values, begin, end, limit, first=CODED_SPANS, spans=spans)
        return matches(found, MatchClass.EXACT)

    def select(
        self,
        where: Callable[[Segment], Question],
        values: dict[str, object],
        begin: dt.datetime,
        end: dt.datetime,
        limit: int,
        *,
        first: str = CODED,
        spans: Sequence[Span] | None = None,
    ) -> list[Detection]:
        """Unexpired rows of the window that meet `where` (of `first`), newest first, at most `limit` + 1.

        `where` may differ by segment, where a dictionary can be used; `first` is a CODED one of `rows`, with `spans`
        for `CODED_SPANS`.

        Raises:
            StoreError: it was not searched; PART_SET_ASIDE if a part that could hold rows of it is damaged.
        """

        def search(view: View) -> list[Detection]:
            begin_ms, end_ms, clause, cuts = self._unexpired(view, begin, end)
            asked = {**values, **cuts, "begin": begin_ms, "end": end_ms, "most": limit + 1}

            def question(segment: Segment) -> Question:
                wanted = where(segment)
                if wanted is None:
                    return None
                sql, more = wanted
                # The window is stated last: the planner takes what `where` names first as the key.
                return f"{first} WHERE {sql}{_WINDOW}{clause}{_NEWEST_FIRST}", {**asked, **more} if more else asked

            found: dict[tuple[object, ...], Detection] = {}
            for piece, segment in self.segments(view, begin_ms, end_ms):
                if piece is not None and len(found) > limit:
                    kept = sorted((k[:1] for k in found), reverse=True)[limit]
                    if (piece.end_ms,) <= kept:
                        break  # this one and all that follow are older than what is found already
                if spans is not None:
                    asked.update(bound(within(spans, piece)))
                _merge(found, self.asked(piece, segment, question, coded))
            return [found[k] for k in sorted(found, key=itemgetter(0, 1), reverse=True)[: limit + 1]]

        return self.viewing(search)

    def _unexpired(self, view: View, begin: dt.datetime, end: dt.datetime) -> tuple[int, int, str, dict[str, object]]:
        """What of the window may be returned, in ms UTC, and what leaves out classes kept for less, as SQL."""
        now = self._clock()
        # In whole milliseconds this is the horizon: a search spends more on making dates than on reading a row.
        kept = first_ms(now) - self._retention_s * 1000
        begin_ms = max(first_ms(begin), kept, view.manifest.purged_ms)
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
        raise restless()

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
        question: Callable[[Segment], Question],
        read: Callable[[tuple[object, ...], Mapping[int, str]], T],
    ) -> list[T]:
        """What `read` makes, with the segment's words, of each row of `question`; a damaged sealed part is set aside.

        Raises:
            StoreError: it cannot be searched.
            SegmentGone: look at the view again.
        """
        try:
            wanted = question(segment)
            rows = segment.ask(*wanted) if wanted is not None else []
            if not rows:
                return []
            try:
                words = segment.words()
                return [read(row, words) for row in rows]
            except KeyError:  # the row, and its word, came after the words were read
                words = segment.words(anew=True)
                return [read(row, words) for row in rows]
        except KeyError:
            raise self._shelf.judged(piece, segment, never_written()) from None
        except StoreError as error:
            raise self._shelf.judged(piece, segment, error) from None

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


def _merge(found: dict[tuple[object, ...], Detection], more: Sequence[Placed]) -> None:
    """Add one segment's rows; a read that another has too is one, and one id for two reads is both."""
    new = dict(more)
    if len(new) == len(more) and found.keys().isdisjoint(new):
        found.update(new)
        return
    for at, d in more:
        other = found.setdefault(at, d)
        if other is not d and other.plate.skeleton != d.plate.skeleton:
            found.setdefault((*at, d.plate.skeleton), d)
