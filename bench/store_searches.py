"""Each kind of search at the store and at its peers, the same questions in turns, warm and cold."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from bench.frame import Row, bounded, median, percentile
from bench.store_peers import Peer, Plain, Window, evict, read_bytes
from bench.store_world import BEGIN, World
from comity.detection import Detection, Match
from comity.instants import to_ms
from comity.plate import Plate
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery
from node.store.confusable import confusable_skeletons
from node.store.sqlite import SqliteStore

RETENTION_S = 30 * 86_400  # sealed by the week
LIMIT = 1_000
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
ABSENT = Plate(number="9ZZZ999", state="CA")  # of no vehicle
Ask = Callable[[Detection], object]
_FOLDED = {"0": "0OQD", "1": "1IL", "2": "2Z", "5": "5S", "8": "8B"}


@dataclass(slots=True, kw_only=True)
class Bench:
    """One world in every store, and the rows of figures so far."""

    world: World
    folder: Path
    plain: Plain
    others: list[Peer]
    rounds: int
    ours: SqliteStore = field(init=False)
    rows: list[Row] = field(default_factory=list)
    next: int = 0

    def __post_init__(self) -> None:
        SqliteStore.create(self.folder / "ours")
        self.open()

    def open(self) -> None:
        """The store as a node opens it, its connections made."""
        end = self.world.end
        self.ours = SqliteStore.open(self.folder / "ours", retention_s=RETENTION_S, clock=lambda: end)

    @property
    def window(self) -> tuple[dt.datetime, dt.datetime]:
        """Everything."""
        return BEGIN, self.world.end

    @property
    def window_ms(self) -> Window:
        """Everything."""
        return to_ms(BEGIN), to_ms(self.world.end)

    def renew(self, asks: Sequence[Ask], about: Detection) -> None:
        """New connections, which have been asked about another read once; nothing else of any file is in memory."""
        self.ours.close()
        self.open()
        self.plain.renew()
        for ask in asks:
            ask(about)
        evict(self.folder)

    def row(self, metric: str, value: float, unit: str, peer: str = "", peer_value: float | None = None, *,
            least: float | None = None, most: float | None = None) -> None:  # fmt: skip
        """A figure; `least` or `most` is of `value / peer_value`, or of how many times faster for `least` of a time."""
        ratio = value / peer_value if peer_value else None
        target = "" if least is most is None else f">= {least:g}x" if least is not None else f"<= {most:g}x"
        met = None if ratio is None or not target else ratio >= least if least is not None else ratio <= (most or 0)
        self.rows.append(Row(metric=metric, value=value, unit=unit, peer=peer, peer_value=peer_value, ratio=ratio,
                             target=target, met=met))  # fmt: skip


def us(ask: Ask, about: Detection, clock: Callable[[], float] = time.perf_counter) -> float:
    """Microseconds."""
    begin = clock()
    ask(about)
    return (clock() - begin) * 1e6


def compare(b: Bench, name: str, ours: Ask, peer: Ask, about: Sequence[Detection], *, said: str = "",
            cold: bool = True, warm_p99: float | None = None, cold_p99: float | None = None,
            faster: float | None = None, cold_faster: float | None = None) -> None:  # fmt: skip
    """Warm, by this thread's processor time, and cold, by the clock, in turns.

    `faster` is of the medians, as a ratio of ours to the peer's.
    """
    said = said or b.plain.name
    for d in about:
        ours(d), peer(d)
    mine, theirs = list[float](), list[float]()
    for d in [*about, *about, *about]:
        mine.append(us(ours, d, time.thread_time))
        theirs.append(us(peer, d, time.thread_time))
    b.row(f"{name}: warm p50", median(mine), "us CPU", said, median(theirs), most=faster)
    b.row(f"{name}: warm p99", percentile(mine, 99), "us CPU", said, percentile(theirs, 99), most=warm_p99)
    if not cold:
        return
    took: dict[Ask, list[float]] = {ours: [], peer: []}
    read: dict[Ask, list[float]] = {ours: [], peer: []}
    for i, d in enumerate(about[: b.rounds]):
        b.renew((ours, peer), about[i - 1])
        # Each begins in every second round: the first read after the disk was idle takes longer.
        for ask in (ours, peer) if i % 2 else (peer, ours):
            at = read_bytes()
            took[ask].append(us(ask, d))
            read[ask].append((read_bytes() - at) / 1024)
    mine, theirs, mine_read, theirs_read = took[ours], took[peer], read[ours], read[peer]
    b.row(f"{name}: cold p50", median(mine), "us", said, median(theirs), most=cold_faster)
    b.row(f"{name}: cold p99", percentile(mine, 99), "us", said, percentile(theirs, 99), most=cold_p99)
    b.row(f"{name}: read from the disk, p50", median(mine_read), "KiB", said, median(theirs_read))
    b.row(f"{name}: read from the disk, p99", percentile(mine_read, 99), "KiB", said, percentile(theirs_read, 99))


def same(ours: Sequence[Match], peer: Sequence[Detection]) -> None:
    """Return if the peer found the same reads.

    Raises:
        RuntimeError: the figures would compare different work.
    """
    if [m.detection.uid for m in ours] != [d.uid for d in peer]:
        raise RuntimeError("two stores answer differently")


def exact(b: Bench, about: Sequence[Detection]) -> None:
    """All 90 days against the plain table and the others, and a part against what SQLite takes for the same rows."""

    def ours(d: Detection) -> list[Match]:
        return b.ours.exact(d.plate, *b.window, LIMIT)

    for d in about[:50]:
        same(ours(d), b.plain.exact(d.plate, b.window_ms))
    compare(b, "exact", ours, lambda d: b.plain.exact(d.plate, b.window_ms), about, cold_p99=0.25)
    for p in b.others:

        def asked(d: Detection, p: Peer = p) -> list[Detection]:
            return p.exact(d.plate, b.window_ms)

        for d in about:
            ours(d), asked(d)
        took = [(us(ours, d), us(asked, d)) for d in about]
        mine, theirs = [t[0] for t in took], [t[1] for t in took]
        b.row("exact: warm p50, by the clock", median(mine), "us", p.name, median(theirs))
        b.row("exact: warm p99, by the clock", percentile(mine, 99), "us", p.name, percentile(theirs, 99))


def segments(b: Bench, about: Sequence[Detection]) -> None:
    """What a further segment costs, and one segment beside a look-up by rowid of the same rows."""
    parts = [p for p in b.ours.status().parts if p.state == "sealed"]
    first = parts[-1]
    assert first.oldest
    assert first.newest
    span = (first.oldest, first.newest)
    inside = [d for d in about if span[0] <= d.captured_at < span[1]]

    def ours(d: Detection) -> list[Match]:
        return b.ours.exact(d.plate, *span, LIMIT)

    ids = {d.uid: b.plain.row_ids([m.detection.uid for m in ours(d)], d.plate) for d in inside}
    compare(b, "exact in one part", ours, lambda d: b.plain.by_rowid(ids[d.uid]), inside,
            said="SQLite, the same rows by rowid", cold=False, faster=1.5)  # fmt: skip
    one, all_ = list[float](), list[float]()
    for _ in range(1_000):
        one.append(us(lambda _: b.ours.exact(ABSENT, *span, LIMIT), about[0], time.thread_time))
        all_.append(us(lambda _: b.ours.exact(ABSENT, *b.window, LIMIT), about[0], time.thread_time))
    each = (median(all_) - median(one)) / (len(parts) - 1)
    b.rows.append(bounded(f"a further part without the plate, of {len(parts)}", each, "us CPU", 40))


def in_list(number: str) -> list[str]:
    """Every number that a skeleton of a confusable search stands for: what IN is given to find the same."""
    letters = {c: c for c in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | _FOLDED
    return ["".join(n) for s in confusable_skeletons(number) for n in product(*(letters[c] for c in s))]


def confusable(b: Bench, about: Sequence[Detection]) -> None:
    """Look-alike readings; the list finds the same ones."""
    about = [d for d in about if len(in_list(d.plate.number)) < 20_000][:100]
    lists = {d.plate.number: in_list(d.plate.number) for d in about}
    for d in about[:30]:
        same(b.ours.confusable(d.plate, *b.window, LIMIT), b.plain.among(lists[d.plate.number], b.window_ms))
    size = median([len(v) for v in lists.values()])
    compare(b, "confusable", lambda d: b.ours.confusable(d.plate, *b.window, LIMIT),
            lambda d: b.plain.among(lists[d.plate.number], b.window_ms), about,
            said=f"plain SQLite table, IN-list of the same numbers ({size:.0f})", faster=0.5)  # fmt: skip


PATTERNS: dict[str, tuple[Callable[[str], str], float]] = {
    "leading wildcard": (lambda n: f"?{n[1:]}", 0.01),
    "three adjacent": (lambda n: f"*{n[3:6]}*", 0.01),
    "four adjacent": (lambda n: f"*{n[2:6]}*", 0.01),
    "scattered": (lambda n: f"{n[0]}?{n[2]}?{n[4]}?{n[6:]}", 0.2),
    "scattered, first unknown": (lambda n: f"?{n[1]}?{n[3]}?{n[5:]}", 0.2),
    "prefix": (lambda n: f"{n[:4]}*", 1 / 3),
}


def partial(b: Bench, about: Sequence[Detection]) -> None:
    """Parts of plates against GLOB."""
    for name, (pattern, most) in PATTERNS.items():

        def ours(d: Detection, pattern: Callable[[str], str] = pattern) -> list[Match]:
            return b.ours.partial(PatternQuery.parse(pattern(d.plate.number), ""), *b.window, LIMIT)

        def glob(d: Detection, pattern: Callable[[str], str] = pattern) -> list[Detection]:
            return b.plain.glob(pattern(d.plate.number), b.window_ms)

        for d in about[:3]:
            same(ours(d), glob(d))
        compare(b, f"partial, {name}", ours, glob, about[:20], said="plain SQLite table, GLOB", cold=False, faster=most)


def camera(b: Bench, about: Sequence[Detection]) -> None:
    """All that one camera saw in an hour."""

    def hour(d: Detection) -> tuple[dt.datetime, dt.datetime]:
        return d.captured_at - HOUR, d.captured_at

    def ours(d: Detection) -> list[Match]:
        return b.ours.area(AreaQuery.parse(camera=d.camera), *hour(d), LIMIT)

    def plain(d: Detection) -> list[Detection]:
        return b.plain.camera(d.camera, (to_ms(hour(d)[0]), to_ms(hour(d)[1])))

    for d in about[:50]:
        same(ours(d), plain(d))
    compare(b, "camera and hour", ours, plain, about, cold_faster=0.25)


def box(b: Bench, about: Sequence[Detection]) -> None:
    """A circle of two kilometres and an hour."""

    def circle(d: Detection) -> Circle:
        assert d.latitude_e7 is not None
        assert d.longitude_e7 is not None
        return Circle(latitude_e7=d.latitude_e7, longitude_e7=d.longitude_e7, radius_m=2_000)

    def ours(d: Detection) -> list[Match]:
        return b.ours.area(AreaQuery.parse(circle=circle(d)), d.captured_at - HOUR, d.captured_at, LIMIT)

    def plain(d: Detection) -> list[Detection]:
        return b.plain.circle(circle(d), (to_ms(d.captured_at - HOUR), to_ms(d.captured_at)))

    for d in about[:50]:
        same(ours(d), plain(d))
    compare(b, "circle and hour", ours, plain, about)


def convoy(b: Bench, about: Sequence[Detection]) -> None:
    """What was within a minute at two cameras in seven days, its sightings found first; of plates seen twice."""

    def window(d: Detection) -> tuple[dt.datetime, dt.datetime]:
        return max(BEGIN, d.captured_at - 4 * DAY), min(b.world.end, d.captured_at + 3 * DAY)

    def ours(d: Detection) -> list[Match]:
        query = ConvoyQuery.parse(d.plate.number, d.plate.state, within_s=60, cameras=2)
        seen = [m.detection for m in b.ours.exact(d.plate, *window(d), LIMIT)]
        return b.ours.convoy(query, seen, *window(d), LIMIT)

    def plain(d: Detection) -> list[Detection]:
        begin, end = window(d)
        return b.plain.convoy(d.plate, 60, 2, (to_ms(begin), to_ms(end)))

    about = [d for d in about if len(b.ours.exact(d.plate, *window(d), LIMIT)) > 1]
    for d in about:
        same(ours(d), plain(d))
    compare(b, "convoy", ours, plain, about, warm_p99=1.0)


SEARCHES = (exact, segments, confusable, partial, camera, box, convoy)
