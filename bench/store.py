"""The embedded store and its peers: loading, durable ingest, each kind of search warm and cold, retention, size."""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.frame import bounded, machine, median, percentile, show
from bench.store_peers import Plain, folder_bytes, peers, written_bytes
from bench.store_searches import LIMIT, RETENTION_S, SEARCHES, Bench, us
from bench.store_world import World
from comity.detection import Detection
from comity.instants import to_ms
from node.store.sqlite import SqliteStore

HOT_LEAST = 20_000
HOT_SHARE = 100  # one row in so many is in the growing segment, as at an agency that keeps reads for a year


def bulk(b: Bench) -> None:
    """The first nineteen twentieths at once, and the rest in durable batches of 1,000, which fill the hot segment."""
    whole = b.world.rows - max(b.world.rows // HOT_SHARE, HOT_LEAST)
    spent = dict.fromkeys((p.name for p in (b.plain, *b.others)), 0.0)
    mine, loaded = 0.0, 0
    with b.ours.loading() as load:
        for chunk in b.world.chunks(0, whole):
            begin = time.perf_counter()
            load.add(chunk)
            mine += time.perf_counter() - begin
            for p in (b.plain, *b.others):
                begin = time.perf_counter()
                p.bulk(chunk)
                spent[p.name] += time.perf_counter() - begin
            loaded += len(chunk)
            if loaded % 500_000 == 0:
                print(f"loaded {loaded:,} rows, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        load.finish()
        mine += time.perf_counter() - begin
    for p in (b.plain, *b.others):
        begin = time.perf_counter()
        p.finish()
        spent[p.name] += time.perf_counter() - begin
    for name, seconds in spent.items():
        least = 0.7 if "Postgre" in name else None
        b.row("bulk, to the last index", whole / mine, "rows/s", name, whole / seconds, least=least)
    b.next = whole


def sizes(b: Bench) -> None:
    """Bytes a row of all that a store keeps, of what was loaded at once."""
    status = b.ours.status()
    sealed = [p for p in status.parts if p.state == "sealed"]
    each = sum(p.size_bytes for p in sealed) / sum(p.rows for p in sealed)
    b.rows.append(bounded("sealed parts", each, "bytes/row", 165))
    for p in (b.plain, *b.others):
        b.row("sealed parts", each, "bytes/row", p.name, p.size() / b.next)


def ingest(b: Bench) -> None:
    """Durable batches, in turns, into stores that hold everything before; all that is added stays."""
    left = b.world.rows - b.next
    for size, count in ((1_000, left - 9_300), (100, 6_000), (30, 3_000), (1, 300)):
        every: list[tuple[str, Callable[[Sequence[Detection]], object]]] = [("ours", b.ours.add)]
        every += [(p.name, p.add) for p in (b.plain, *b.others) if p.durable]
        spent, bytes_ = dict.fromkeys((n for n, _ in every), 0.0), dict.fromkeys((n for n, _ in every), 0)
        for first in range(b.next, b.next + count, size):
            batch = [b.world.read(n) for n in range(first, min(first + size, b.next + count))]
            for name, add in every:
                io, begin = written_bytes(), time.perf_counter()
                add(batch)
                spent[name] += time.perf_counter() - begin
                bytes_[name] += written_bytes() - io
            for p in b.others:
                if not p.durable:
                    p.add(batch)
        b.next += count
        mine = count / spent["ours"]
        for name, _ in every[1:]:
            least = None if size != 100 else 0.8 if "Postgre" in name else 2.0
            b.row(f"durable, batches of {size:,}", mine, "rows/s", name, count / spent[name], least=least)
        most = 0.2 if size == 30 else None
        b.row(f"written, batches of {size:,}", bytes_["ours"] / count, "bytes/row", b.plain.name,
              bytes_[b.plain.name] / count, most=most)  # fmt: skip


def _ingesting(folder: Path, rows: int, days: int, first: int, ready: object, stop: object) -> None:
    world = World(rows=rows, days=days)
    store = SqliteStore.open(folder, retention_s=RETENTION_S, clock=lambda: world.end)
    n = first
    while not stop.is_set():  # type: ignore[attr-defined]
        store.add([world.read(i) for i in range(n, n + 30)])
        n += 30
        ready.value = n - first  # type: ignore[attr-defined]
    store.close()


def readers(b: Bench, about: Sequence[Detection]) -> None:
    """Exact searches alone, and while another process ingests batches of 30 as fast as it can."""

    def ask(d: Detection) -> object:
        return b.ours.exact(d.plate, *b.window, LIMIT)

    alone = [us(ask, d) for _ in range(6) for d in about]
    done, stop = multiprocessing.Value("q", 0), multiprocessing.Event()
    work = (b.folder / "ours", b.world.rows, b.world.days, b.world.rows, done, stop)
    child = multiprocessing.get_context("fork").Process(target=_ingesting, args=work)
    child.start()
    while not done.value and child.is_alive():
        child.join(0.01)
    begin, before = time.monotonic(), done.value
    beside = [us(ask, d) for _ in range(6) for d in about]
    rate = (done.value - before) / (time.monotonic() - begin)
    stop.set()
    child.join()
    b.row("exact while ingesting: p50", median(beside), "us", "the same, no ingest", median(alone))
    b.row("exact while ingesting: p99", percentile(beside, 99), "us", "the same, no ingest", percentile(alone, 99))
    b.row("ingest meanwhile, batches of 30", rate, "rows/s")


def month(b: Bench) -> None:
    """The oldest part is gone: from the folder, or by DELETE."""
    oldest = [p for p in b.ours.status().parts if p.state == "sealed"][-1]
    assert oldest.newest
    cut = oldest.newest + dt.timedelta(milliseconds=1)
    before = folder_bytes(b.folder / "ours")
    begin = time.perf_counter()
    gone = b.ours.purge(cut)
    mine = time.perf_counter() - begin
    begin = time.perf_counter()
    b.plain.drop_before(to_ms(cut))
    theirs = time.perf_counter() - begin
    name = f"a part of {gone.rows:,} rows dropped"
    b.row(name, mine * 1000, "ms", "plain SQLite table, DELETE", theirs * 1000, most=0.01)
    b.row("space back for each row dropped", (before - folder_bytes(b.folder / "ours")) / max(1, gone.rows), "bytes",
          "plain SQLite table, DELETE (without VACUUM)", 0.0)  # fmt: skip


def status(b: Bench) -> None:
    """What `comity node status` asks of the store."""
    took = [us(lambda _: b.ours.status(), b.world.read(0)) / 1000 for _ in range(5)]
    b.row("status", median(took), "ms")


@contextmanager
def folder_of(kept: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards, or `kept`, emptied before."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
            yield Path(folder)
        return
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    yield kept


def run(b: Bench, only: str) -> None:
    """Everything, or the sections whose name holds `only`; loading is done in any case."""
    about = [d for d in b.world.sample(400) if d.plate.state]
    bulk(b)
    sizes(b)
    ingest(b)
    status(b)
    for section in SEARCHES:
        if only in section.__name__:
            print(section.__name__, file=sys.stderr, flush=True)
            section(b, about)
    if only in "readers":
        readers(b, about)
    if only in "month":
        month(b)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="detections; 20,000 at least")
    parser.add_argument("--days", type=int, default=10, help="over how many days: 200,000 a day of 50 cameras")
    parser.add_argument("--only", default="", help="searches whose name holds this")
    parser.add_argument("--peers", default="lmdb,postgres,duckdb", help="beside the plain SQLite table")
    parser.add_argument("--rounds", type=int, default=100, help="cold searches of each kind")
    parser.add_argument("--folder", type=Path, help="emptied, and kept afterwards; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    on = machine()
    with folder_of(options.folder) as folder, peers(folder, options.peers.split(",")) as (others, missing):
        world = World(rows=options.rows, days=options.days)
        b = Bench(world=world, folder=folder, plain=Plain(folder / "plain"), others=others, rounds=options.rounds)
        run(b, options.only)
        b.ours.close()
        b.plain.close()
        on["load_after"] = [round(x, 2) for x in os.getloadavg()]
        for line in missing:
            print(line)
        show("store", on, b.rows, as_json=options.json)


if __name__ == "__main__":
    main()
