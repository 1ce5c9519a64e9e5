"""The embedded store alone, at sizes that its peers would take hours to load: loading, status, each kind of search."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.frame import Row, machine, median, percentile, show
from bench.store_peers import evict, folder_bytes
from bench.store_searches import ABSENT, DAY, HOUR, LIMIT, Ask, us
from bench.store_world import BEGIN, World
from comity.detection import Detection
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery
from node.store.sqlite import SqliteStore

RETENTION_S = 5 * 365 * 86_400  # sealed by the month
SHOWN = 5_000_000


def opened(folder: Path, world: World) -> SqliteStore:
    """The store as a node opens it."""
    end = world.end
    return SqliteStore.open(folder, retention_s=RETENTION_S, clock=lambda: end)


def load(folder: Path, world: World) -> list[Row]:
    """All rows in, at once; what drawing them took is told apart, though parts are built meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    SqliteStore.create(folder)
    store, begin, drawing, done = opened(folder, world), time.perf_counter(), 0.0, 0
    with store.loading() as loading:
        chunks = world.chunks()
        while True:
            at = time.perf_counter()
            chunk = next(chunks, None)
            drawing += time.perf_counter() - at
            if chunk is None:
                break
            loading.add(chunk)
            done += len(chunk)
            if done % SHOWN == 0:
                print(
                    f"{done:,} rows, {time.perf_counter() - begin:.0f} s, load {os.getloadavg()[0]:.1f}",
                    file=sys.stderr,
                )
        loading.finish()
    whole = time.perf_counter() - begin
    store.close()
    return [
        Row(metric="loaded, drawing the rows included", value=world.rows / whole, unit="rows/s"),
        Row(metric="drawing the rows alone", value=world.rows / drawing, unit="rows/s"),
    ]


class Asked:
    """A store and what is asked of it."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder, self._world = folder, world
        self.store = opened(folder, world)

    def renew(self, ask: Ask, about: Detection) -> None:
        """New connections, which have been asked about another read once; nothing else of the files is in memory."""
        self.store.close()
        self.store = opened(self._folder, self._world)
        ask(about)
        evict(self._folder)

    def kinds(self) -> dict[str, Ask]:
        """Each kind of search about a read."""

        def month(d: Detection, pattern: str) -> object:
            query = PatternQuery.parse(pattern, "")
            return self.store.partial(query, d.captured_at - 15 * DAY, d.captured_at + 15 * DAY, LIMIT)

        def area(d: Detection, query: AreaQuery) -> object:
            return self.store.area(query, d.captured_at, d.captured_at + HOUR, LIMIT)

        def circle(d: Detection) -> AreaQuery:
            lat, lon = d.latitude_e7 or 0, d.longitude_e7 or 0
            return AreaQuery.parse(circle=Circle(latitude_e7=lat, longitude_e7=lon, radius_m=2_000))

        def convoy(d: Detection) -> object:
            query = ConvoyQuery.parse(d.plate.number, d.plate.state, within_s=60, cameras=2)
            window = (d.captured_at - 3 * DAY, d.captured_at + 4 * DAY)
            seen = [m.detection for m in self.store.exact(d.plate, *window, LIMIT)]
            return self.store.convoy(query, seen, *window, LIMIT)

        whole = (BEGIN, self._world.end)
        return {
            "exact, everything": lambda d: self.store.exact(d.plate, *whole, LIMIT),
            "exact, 90 days": lambda d: self.store.exact(
                d.plate, d.captured_at - 45 * DAY, d.captured_at + 45 * DAY, LIMIT
            ),
            "exact, 7 days": lambda d: self.store.exact(
                d.plate, d.captured_at - 3 * DAY, d.captured_at + 4 * DAY, LIMIT
            ),
            "confusable, 7 days": lambda d: self.store.confusable(
                d.plate, d.captured_at - 3 * DAY, d.captured_at + 4 * DAY, LIMIT
            ),
            "camera and hour": lambda d: area(d, AreaQuery.parse(camera=d.camera)),
            "circle and hour": lambda d: area(d, circle(d)),
            "convoy, 7 days": convoy,
            "partial, 30 days, leading wildcard": lambda d: month(d, f"?{d.plate.number[1:]}"),
            "partial, 30 days, prefix": lambda d: month(d, f"{d.plate.number[:4]}*"),
            "partial, 30 days, scattered": lambda d: month(d, "?".join(d.plate.number[::2])),
        }


def searches(asked: Asked, sample: Sequence[Detection], rounds: int, only: Sequence[str]) -> list[Row]:
    """Warm by this thread's processor time, cold by the clock; parts of plates a tenth as often."""
    rows = []
    for name, ask in asked.kinds().items():
        if not any(name.startswith(part) for part in only):
            continue
        about = sample[: max(1, len(sample) // 10)] if name.startswith("partial") else sample
        print(name, file=sys.stderr, flush=True)
        for d in about:
            ask(d)
        warm = [us(ask, d, time.thread_time) / 1000 for d in about]
        cold = []
        for i, d in enumerate(about[:rounds]):
            asked.renew(ask, about[i - 1])
            cold.append(us(ask, d) / 1000)
        for kind, unit, took in (("warm", "ms CPU", warm), ("cold", "ms", cold)):
            rows.append(Row(metric=f"{name}: {kind} p50", value=median(took), unit=unit))
            rows.append(Row(metric=f"{name}: {kind} p99", value=percentile(took, 99), unit=unit))
    return rows


def drop(asked: Asked, folder: Path) -> list[Row]:
    """The oldest whole month, gone; the rest of the store as it was."""
    oldest = asked.store.oldest()
    if oldest is None:
        return []
    month = (oldest.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=32)).replace(day=1)
    before, at = folder_bytes(folder), time.perf_counter()
    gone = asked.store.purge(month)
    took = time.perf_counter() - at
    back = (before - folder_bytes(folder)) / max(1, gone.rows)
    return [
        Row(metric=f"the oldest month, {gone.rows:,} rows, dropped", value=took, unit="s"),
        Row(metric="space back for each of them", value=back, unit="bytes"),
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="detections")
    parser.add_argument("--days", type=int, default=5, help="over how many days")
    parser.add_argument("--rounds", type=int, default=20, help="cold searches of each kind")
    parser.add_argument("--only", default="", help="kinds of search that begin with one of these, between semicolons")
    parser.add_argument("--folder", type=Path, help="emptied, and kept afterwards; default: a temporary one")
    parser.add_argument("--loaded", action="store_true", help="the folder has the rows, or some of them, already")
    parser.add_argument("--drop", action="store_true", help="drop the oldest month at the end")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as temporary:
        run(options, options.folder or Path(temporary) / "store")


def run(options: argparse.Namespace, folder: Path) -> None:
    """Load, ask and print."""
    on, world = machine(), World(rows=options.rows, days=options.days)
    rows = [] if options.loaded else load(folder, world)
    asked = Asked(folder, world)
    asked.renew(lambda _: asked.store.exact(ABSENT, BEGIN, world.end, LIMIT), world.read(0))
    took = us(lambda _: asked.store.status(), world.read(0)) / 1000
    status = asked.store.status()
    assert status.newest
    newest = status.newest
    rows += [
        Row(metric="rows", value=float(status.rows), unit="rows"),
        Row(metric="size", value=status.size_bytes / max(1, status.rows), unit="bytes/row"),
        Row(metric=f"status of {len(status.parts)} parts", value=took, unit="ms"),
    ]
    about = [d for d in world.sample(200) if d.plate.state and d.captured_at < newest]
    rows += searches(asked, about, options.rounds, options.only.split(";"))
    rows += drop(asked, folder) if options.drop else []
    asked.store.close()
    print(f"load after: {os.getloadavg()[0]:.1f}")
    show("store_scale", on, rows, as_json=options.json)


if __name__ == "__main__":
    main()
