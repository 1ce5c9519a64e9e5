"""Proofs and the daily use of logs of 1,000,000 and 10,000,000 entries."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from audit.hashes import TILE_BYTES, WIDTH, Hashes, HashReader, tile_root
from audit.log import DecisionLog
from audit.note import Checkpoint
from audit.proof import consistency_proof, inclusion_proof, tree_root, verify_consistency, verify_inclusion
from audit.read import LogReader
from audit.tiles import CHECKPOINT, TileFolder, tile_path
from audit.tree import HASH_BYTES
from bench.frame import Row, bounded, median, percentile, private_bytes
from bench.log_world import BEGUN, Search, World, build

SIZES = (1_000_000, 10_000_000)
PROOFS = 300
PEER_SIZE = 100_000


def log_of(folder: Path, world: World, size: int) -> Path:
    """The log of that size in `folder`, made unless it is there."""
    path = folder / f"log-{size}"
    if not (path / "log.db").exists():
        path.mkdir(parents=True, exist_ok=True)
        print(f"making a log of {size:,} entries")
        build(path, world, size, print)
    return path


def hash_tiles(log: Path, out: Path) -> None:
    """The log's hashes as tiles, without its entries."""
    with HashReader.open(log) as reader:
        size, note = reader.head()
        upper = [bytearray() for _ in range(8)]
        numbers = [0] * 8

        def put(level: int, root: bytes) -> None:
            edge = upper[level]
            edge += root
            if len(edge) == TILE_BYTES:
                _write(out / tile_path(level, numbers[level]), bytes(edge))
                numbers[level] += 1
                whole = tile_root(bytes(edge))
                edge.clear()
                put(level + 1, whole)

        for leaf in reader.all_hashes(size):
            put(0, leaf)
        for level, edge in enumerate(upper):
            if edge:
                _write(out / tile_path(level, numbers[level], len(edge) // HASH_BYTES), bytes(edge))
        _write(out / CHECKPOINT, note)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def proofs(folder: Path, world: World, *, large: bool) -> list[Row]:
    """Inclusion and consistency proofs out of tiles: with nothing in memory, and with what earlier ones left there."""
    rows: list[Row] = []
    cold_of: dict[int, float] = {}
    for size in SIZES if large else SIZES[:1]:
        log = log_of(folder, world, size)
        tiles = folder / f"tiles-{size}"
        if not tiles.exists():
            hash_tiles(log, tiles)
        folder_of_tiles = TileFolder(tiles)
        head = Checkpoint.parse(folder_of_tiles.checkpoint())
        chosen, kept = random.Random(size), folder_of_tiles.hashes(head.size)
        near = chosen.randrange(head.size)
        cold, warm, consistent = [], [], []
        for _ in range(PROOFS):
            cold.append(_prove(folder_of_tiles.hashes(head.size), head, chosen.randrange(head.size)))
            consistent.append(_consistent(folder_of_tiles.hashes(head.size), head, chosen.randrange(1, head.size)))
            warm.append(_prove(kept, head, min(near - near % WIDTH + chosen.randrange(WIDTH), head.size - 1)))
        cold_of[size] = median(cold)
        name = f"{size:,} entries"
        rows.append(bounded(f"{name}: inclusion proof, cold, p50", median(cold) * 1e3, "ms", 1))
        rows.append(bounded(f"{name}: inclusion proof, cold, p99", percentile(cold, 99) * 1e3, "ms", 1))
        rows.append(bounded(f"{name}: inclusion proof, warm, p50", median(warm) * 1e3, "ms", 0.1))
        rows.append(Row(metric=f"{name}: consistency proof, cold, p50", value=median(consistent) * 1e3, unit="ms"))
    if large:
        small, big = (cold_of[s] for s in SIZES)
        rows.append(bounded("cold proof at 10,000,000 against 1,000,000", big / small, "x", 1.5))
    return [*rows, *_peer()]


def _prove(hashes: Hashes, head: Checkpoint, index: int) -> float:
    """Seconds to make the proof; that it leads to the signed root is checked after."""
    begun = time.perf_counter()
    proof = inclusion_proof(index, head.size, hashes.subtree)
    took = time.perf_counter() - begun
    verify_inclusion(index, head.size, hashes.subtree(0, index), proof, head.root)
    return took


def _consistent(hashes: Hashes, head: Checkpoint, old: int) -> float:
    """As `_prove`."""
    begun = time.perf_counter()
    proof = consistency_proof(old, head.size, hashes.subtree)
    took = time.perf_counter() - begun
    verify_consistency(old, head.size, tree_root(old, hashes.subtree), head.root, proof)
    return took


def _peer() -> list[Row]:
    try:
        from pymerkle import InmemoryTree
    except ImportError:
        return []
    tree = InmemoryTree(algorithm="sha256")
    for n in range(PEER_SIZE):
        tree.append_entry(b"%d" % n)
    chosen = random.Random(1)
    took = []
    for _ in range(20):
        index = chosen.randrange(PEER_SIZE) + 1
        begun = time.perf_counter()
        tree.prove_inclusion(index)
        took.append(time.perf_counter() - begun)
    return [Row(metric=f"pymerkle, {PEER_SIZE:,} in memory: inclusion proof, p50", value=median(took) * 1e3, unit="ms")]


def large(folder: Path, world: World) -> list[Row]:
    """A log of 10,000,000 entries opened, appended to, read and listed."""
    log = log_of(folder, world, SIZES[-1])
    before = private_bytes(os.getpid())
    begun = time.perf_counter()
    opened = DecisionLog.open(log, clock=lambda: BEGUN)
    took = time.perf_counter() - begun
    memory = private_bytes(os.getpid()) - before
    size = opened.head.size
    search = Search.make(world, 123_456_789, BEGUN)
    appended: list[float] = []

    async def append() -> None:
        for number in range(200):
            at = time.perf_counter()
            await opened.append([search.decision(number, "node-1")])
            appended.append(time.perf_counter() - at)

    asyncio.run(append())
    opened.close()
    begun = time.perf_counter()
    DecisionLog.open(log, clock=lambda: BEGUN).close()
    again = time.perf_counter() - begun
    chosen = random.Random(2)
    with LogReader.open(log) as reader:
        head = _median_ms(reader.head, 200)
        page = _median_ms(lambda: reader.entries(at := chosen.randrange(size - 100), at + 100), 200)
        with_ids = [i for i, _ in zip(reader.inquiries(), range(200), strict=False)]
        found = _median_ms(lambda: reader.find_inquiry(chosen.choice(with_ids)[0]), 200)
    name = "10,000,000 entries"
    return [
        Row(metric=f"{name}: open", value=took, unit="s"),
        Row(metric=f"{name}: open once more", value=again, unit="s"),
        Row(metric=f"{name}: memory of the open log", value=memory / 1e6, unit="MB"),
        Row(metric=f"{name}: append alone, p50", value=median(appended) * 1e3, unit="ms"),
        Row(metric=f"{name}: head", value=head, unit="ms"),
        Row(metric=f"{name}: 100 entries from any index, p50", value=page, unit="ms"),
        Row(metric=f"{name}: an inquiry by its id, p50", value=found, unit="ms"),
        Row(metric=f"{name}: file", value=(log / "log.db").stat().st_size / 1e9, unit="GB"),
    ]


def _median_ms(work: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return median(took) * 1e3
