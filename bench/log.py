"""The decision log against the disk it writes to, hashlib, and pymerkle: `python -m bench.log [--large] [--json]`.

pymerkle (GPL) is a peer, never a dependency: its rows are there when it can be imported.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from audit.entry import MAX_ENTRY_BYTES, Draft, Stamp, seal
from audit.log import DecisionLog
from audit.note import VerifierKey
from audit.read import LogReader
from audit.store import LogFiles, Store
from audit.verify import verify
from audit.writer import Writer
from bench import frame
from bench.frame import Row, against, bounded, median, percentile
from bench.log_proofs import large, proofs
from bench.log_world import BEGUN, ORIGIN, Search, World, build
from identity import keys

WAITING = (16, 64, 256)
DELAYS_MS = (0.0, 1.0, 5.0)
_STAMP = Stamp(at="2030-05-01T12:00:00.000Z", clock_behind_ms=0, size=1_000, root="e" * 64)


class CountingStore(Store):
    """A store that counts its commits and takes `delay_s` longer for each, as on a slower disk."""

    commits = 0
    delay_s = 0.0

    def commit(self, *arguments: Any, **more: Any) -> None:
        """As the store's."""
        super().commit(*arguments, **more)
        self.commits += 1
        if self.delay_s:
            time.sleep(self.delay_s)


def opened(folder: Path) -> tuple[DecisionLog, CountingStore]:
    """A new log in `folder`, open on a store that counts."""
    folder.mkdir()
    DecisionLog.create(folder, origin=ORIGIN, clock=lambda: BEGUN).close()
    where = LogFiles.locate(folder)
    store, key = CountingStore(where), keys.load_log_key(where.key)
    writer = Writer(store, key, ORIGIN, lambda: BEGUN)
    vkey = VerifierKey.of(ORIGIN, key.public_key())
    return DecisionLog(store=store, writer=writer, reader=LogReader(where, live=True), vkey=vkey), store


class Bare:
    """A file that is written to and synced, and nothing more: at its end, or over the first `room_bytes` of it."""

    def __init__(self, path: Path, delay_s: float, room_bytes: int = 0) -> None:
        self.file, self.delay_s = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), delay_s
        os.write(self.file, bytes(room_bytes))
        os.fsync(self.file)
        os.lseek(self.file, 0, os.SEEK_SET)

    def write(self, data: bytes) -> float:
        """How long it took, in seconds."""
        begun = time.perf_counter()
        os.write(self.file, data)
        os.fdatasync(self.file)
        if self.delay_s:
            time.sleep(self.delay_s)
        return time.perf_counter() - begun


async def _load(log: DecisionLog, drafts: Sequence[Draft], waiting: int, seconds: float) -> int:
    """How many entries that many callers, each waiting for its own, appended in that time."""
    until = time.perf_counter() + seconds
    done = 0

    async def caller(mine: Sequence[Draft]) -> None:
        nonlocal done
        for draft in itertools.cycle(mine):
            await log.append([draft])
            done += 1
            if time.perf_counter() > until:
                return

    await asyncio.gather(*(caller(drafts[i::waiting]) for i in range(waiting)))
    return done


def group_commit(folder: Path, drafts: Sequence[Draft], rounds: int, seconds: float) -> list[Row]:
    """Entries a sync and throughput, against a loop that only writes and syncs as many bytes at once."""
    rows: list[Row] = []
    data = [seal(d, _STAMP) for d in drafts]
    for delay_ms, waiting in itertools.product(DELAYS_MS, WAITING):
        name = f"{waiting} waiting, fsync +{delay_ms:g} ms" if delay_ms else f"{waiting} waiting"
        log, store = opened(folder / f"{waiting}-{delay_ms}")
        store.delay_s = delay_ms / 1000
        bare = Bare(folder / f"bare-{waiting}-{delay_ms}", store.delay_s)
        ours, theirs, per_sync, cpu = [], [], [], []
        block = b"".join(data[i % len(data)] for i in range(waiting))
        for _ in range(rounds):
            before, spent = store.commits, time.process_time()
            begun = time.perf_counter()
            done = uvloop.run(_load(log, drafts, waiting, seconds))
            ours.append(done / (time.perf_counter() - begun))
            cpu.append((time.process_time() - spent) / done)
            per_sync.append(done / (store.commits - before))
            times = 0
            begun = time.perf_counter()
            while time.perf_counter() < begun + seconds:
                bare.write(block)
                times += 1
            theirs.append(times * waiting / (time.perf_counter() - begun))
        log.close()
        rows.append(bounded_below(f"{name}: entries a sync", median(per_sync) / waiting, "x waiting", 0.85))
        least = {1.0: 0.65, 5.0: 0.80}.get(delay_ms)
        rows.append(rate(f"{name}: entries a second", median(ours), "/s", "write and fdatasync", median(theirs), least))
        if not delay_ms:
            rows.append(bounded(f"{name}: CPU a decision, all threads", median(cpu) * 1e6, "us", 35))
    return rows


def latency(folder: Path, drafts: Sequence[Draft], times: int) -> list[Row]:
    """One caller alone: how long an append takes, in turns with a write and sync of as many bytes.

    The log's file has room made in it, so the same is told of a file that does not grow either.
    """
    log, _ = opened(folder / "alone")
    bare, still = Bare(folder / "bare-alone", 0.0), Bare(folder / "bare-still", 0.0, times * MAX_ENTRY_BYTES // 16)
    ours, theirs, overwritten = [], [], []

    async def run() -> None:
        for draft in itertools.islice(itertools.cycle(drafts), times):
            begun = time.perf_counter()
            await log.append([draft])
            ours.append(time.perf_counter() - begun)
            data = seal(draft, _STAMP)
            theirs.append(bare.write(data))
            overwritten.append(still.write(data))

    uvloop.run(run())
    log.close()
    peers = {"write and fdatasync": theirs, "write and fdatasync over bytes that are there": overwritten}
    rows = []
    for name, peer in peers.items():
        for p, most in ((50, 2), (99, 5)):
            value, theirs_ms = percentile(ours, p) * 1e3, percentile(peer, p) * 1e3
            asked = most if peer is theirs else None
            what = f"append alone, p{p}" if peer is theirs else f"append alone, p{p}, a peer whose file does not grow"
            rows.append(against(what, value, "ms", name, theirs_ms, most=asked))
    return rows


def drafting(world: World, times: int) -> list[Row]:
    """Processor time to make a decision's draft, before it is appended."""
    search = Search.make(world, 1, BEGUN)
    begun = time.process_time()
    for i in range(times):
        search.decision(i, world.nodes[i % len(world.nodes)])
    return [Row(metric="CPU to draft a decision", value=(time.process_time() - begun) / times * 1e6, unit="us")]


def verification(folder: Path, world: World, name: str, rounds: int) -> list[Row]:
    """A whole log verified, in turns with nothing but the hashing of its entries."""
    with LogReader.open(folder) as reader:
        entries = [entry for _, _, entry in reader.rows()]
    vkey = (folder / "log.vkey").read_text(encoding="ascii")

    def hashed() -> None:
        for entry in entries:
            hashlib.sha256(b"\0" + entry).digest()

    def verified(processes: int | None, *, signatures: bool) -> Callable[[], None]:
        def run() -> None:
            directory = world.directory if signatures else None
            assert verify(folder, vkey=vkey, directory=directory, processes=processes).fault is None

        return run

    cores = len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], None]] = {
        "one process": verified(1, signatures=False),
        "one process, signatures of inquiries too": verified(1, signatures=True),
        f"{cores} processes": verified(cores, signatures=False),
        "hashlib": hashed,
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    lasted: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            cpu, begun = time.process_time(), time.perf_counter()
            work()
            spent[way].append(time.process_time() - cpu)
            lasted[way].append(time.perf_counter() - begun)
    rows = []
    for way in list(ways)[:-1]:
        # What other work a machine has counts for several processes, whose processor time is not this one's.
        times, what = (spent, "second of CPU") if way.startswith("one") else (lasted, "second")
        ours, best = (len(entries) / median(times[w]) for w in (way, "hashlib"))
        rows.append(rate(f"{name}, {way}: entries a {what}", ours, "/s", "hashlib alone", best, 0.25))
    return rows


def appending_peer(folder: Path, data: Sequence[bytes], seconds: float) -> list[Row]:
    """pymerkle's own store on disk: one entry a transaction, no signed head."""
    try:
        from pymerkle import SqliteTree
    except ImportError:
        return [Row(metric="pymerkle: entries a second on disk", value=None, unit="", peer="pymerkle is not installed")]
    tree = SqliteTree(str(folder / "pymerkle.db"))
    done, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        tree.append_entry(data[done % len(data)])
        done += 1
    return [Row(metric="pymerkle: entries a second on disk", value=done / (time.perf_counter() - begun), unit="/s")]


def rate(metric: str, value: float, unit: str, peer: str, peer_value: float, least: float | None) -> Row:
    """A rate beside its peer's; `least` is the smallest ratio that meets the target."""
    ratio = value / peer_value
    target = "" if least is None else f">= {least:g}x"
    met = None if least is None else ratio >= least
    return Row(
        metric=metric, value=value, unit=unit, peer=peer, peer_value=peer_value, ratio=ratio, target=target, met=met
    )


def bounded_below(metric: str, value: float, unit: str, least: float) -> Row:
    """A figure that should be at least so large."""
    return Row(metric=metric, value=value, unit=unit, target=f">= {least:g} {unit}", met=value >= least)


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=300_000, help="of the logs that are verified")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round of appending")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["append", "verify", "proofs", "large"], help="one part alone")
    parser.add_argument("--large", action="store_true", help="also a log of 10,000,000 entries: 8 GB, minutes to make")
    parser.add_argument("--logs", type=Path, help="keep or find the large logs in this folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    on, rows = frame.machine(), []
    folder = Path(tempfile.mkdtemp(prefix="bench-log-"))
    try:
        world = World.make(folder / "world", 20)
        drafts = [Search.make(world, n, BEGUN).decision(n, "node-1") for n in range(512)]
        gc.freeze()
        if args.only in (None, "append"):
            rows += group_commit(folder, drafts, args.rounds, args.seconds)
            rows += latency(folder, drafts, 2_000)
            rows += drafting(world, 20_000)
            rows += appending_peer(folder, [seal(d, _STAMP) for d in drafts], args.seconds)
        if args.only in (None, "verify"):
            for name, at_node in (("broker's log", False), ("node's log", True)):
                there = folder / f"verified-{at_node}"
                there.mkdir()
                build(there, world, args.entries if not at_node else args.entries // 4, at_node=at_node)
                rows += verification(there, world, name, args.rounds)
        if args.only in (None, "proofs") or args.large:
            rows += proofs(args.logs or folder, world, large=args.large)
        if args.large or args.only == "large":
            rows += large(args.logs or folder, world)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    frame.show("log", on, rows, as_json=args.json)


if __name__ == "__main__":
    main()
