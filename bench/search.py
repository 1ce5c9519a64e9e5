"""One search over many attached nodes, against a bare gather of unary calls: `python -m bench.search`.

Ours: a real broker process with its durable log, Casbin decisions and signed inquiries. The peer: `bench.gather`.
Both: mutual TLS on loopback, uvloop, one process that asks, the same number of processes that play the nodes, each
node on its own connection, the same prepared answers. Rounds alternate within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench import frame
from bench.federation import Synthetic, build
from bench.frame import Row, against, bounded, percentile
from bench.processes import BrokerProcess, Child
from cli.compose import Asked, compose
from comity import instants
from comity.outcome import KIND_FROM_WIRE
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from comity.query import PlateQuery
from comity.v1 import search_service_pb2 as pb2
from comity.v1 import search_service_pb2_grpc as pb2_grpc
from identity.folder import IdentityFolder
from identity.tls import client_credentials

DEADLINE_S = 30.0
WARM_UP = 3
OUTAGE_S = 3.0
GATHER = "grpc.aio gather of one unary call a node; no decision, no log"
COMPLETED = "the same number of searches that are not cancelled"
TARGETS = {80: 1.0, 1000: 0.75}  # whole search, times the gather


@dataclass(slots=True)
class Times:
    """Seconds of the rounds of one size."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    peer_cpu: list[float] = field(default_factory=list)


class Client:
    """An investigator: a fresh signed inquiry a round, read to its summary."""

    def __init__(self, made: Synthetic) -> None:
        self._folder = IdentityFolder.load(made.person)
        self._directory = self._folder.directory()
        channel = grpc.aio.secure_channel(made.investigators_address, client_credentials(self._folder))
        self._stub = pb2_grpc.SearchServiceStub(channel)
        self.channel = channel

    def request(self, targets: tuple[str, ...] = ()) -> pb2.SearchRequest:
        """A new signed inquiry to these nodes; none: to all."""
        now = instants.now()
        asked = Asked(
            query=PlateQuery.parse("7ABC123", "CA"),
            federation=self._directory.federation.id,
            purpose=PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL, offence=""),
            case_number="BENCH-1",
            beneficiary="",
            authority=Authority.NONE,
            authority_reference="",
            act=Act.EXACT,
            begin=now - dt.timedelta(days=7),
            end=now,
            targets=targets,
        )
        signed = compose(asked, self._folder, now, draft=False)
        return pb2.SearchRequest(
            inquiry=signed.envelope.to_message(), disclosures=[d.to_message() for d in signed.disclosures]
        )

    async def search(self, nodes: int, targets: tuple[str, ...] = ()) -> tuple[float, float]:
        """Seconds to the summary and to the first outcome, from before the inquiry is signed.

        Raises:
            RuntimeError: a node was not asked, or did not answer.
        """
        begin, first, outcomes = time.perf_counter(), 0.0, 0
        summary: pb2.Summary | None = None
        async for response in self._stub.Search(self.request(targets), timeout=DEADLINE_S):
            for event in response.events:
                kind = event.WhichOneof("event")
                if kind == "outcome":
                    first = first or time.perf_counter() - begin
                    outcomes += 1
                elif kind == "summary":
                    summary = event.summary
        whole = time.perf_counter() - begin
        if summary is None or outcomes != nodes or not summary.complete:
            counts = {KIND_FROM_WIRE[o.kind].value: o.count for o in summary.outcomes} if summary else {}
            raise RuntimeError(f"{outcomes} outcomes of {nodes} nodes: {counts}")
        return whole, first

    def begin(self, targets: tuple[str, ...] = ()) -> Any:
        """A search that is to be cancelled: its call."""
        return self._stub.Search(self.request(targets), timeout=DEADLINE_S)


class Rig:
    """All processes for one number of nodes."""

    def __init__(self, made: Synthetic, processes: int, detections: int) -> None:
        self.made = made
        self.count = len(made.nodes)
        self.broker = BrokerProcess(made.broker, made.nodes_address)
        self.client = Client(made)
        self.fleets: list[Child] = []
        self.peers: list[Child] = []
        self._processes = processes
        self._detections = str(detections)

    async def start(self) -> int:
        """Everything runs and is attached; returns the bytes that an attached node costs the broker."""
        root = str(self.made.root)
        await self.broker.start()
        await asyncio.sleep(1.0)
        before = frame.private_bytes(self.broker.pid)
        share = -(-self.count // self._processes)
        address, peer_addresses = self.made.nodes_address, []
        host, _, port = self.made.peer_address.rpartition(":")
        for number, first in enumerate(range(0, self.count, share)):
            size = str(min(share, self.count - first))
            self.fleets.append(await Child.start(
                "bench.simulated_nodes", "attach", root, str(first), size, address, self._detections
            ))  # fmt: skip
            peer_addresses.append(f"{host}:{int(port) + number}")
            self.peers.append(await Child.start(
                "bench.simulated_nodes", "serve", root, str(first), peer_addresses[-1], self._detections
            ))  # fmt: skip
        for fleet in self.fleets:
            await fleet.hear("attached")
        await asyncio.sleep(1.0)
        each = (frame.private_bytes(self.broker.pid) - before) // self.count
        for peer in self.peers:
            await peer.hear("serving")
        self.peers.append(await Child.start("bench.gather", root, ",".join(peer_addresses), str(self.count)))
        await self.peers[-1].hear("ready")
        return each

    async def gather(self) -> float:
        """Seconds that one round of the peer takes."""
        peer = self.peers[-1]
        peer.say("go")
        told = await peer.hear("done")
        return float(told["whole_s"])

    async def stop(self) -> None:
        """Nothing runs any more."""
        await self.client.channel.close()
        await self.broker.stop()
        for child in (*self.fleets, *self.peers):
            await child.stop()


async def rounds(rig: Rig, count: int) -> Times:
    """Ours and the peer's in turn; the processor time of each process that asks, for each of its rounds."""
    times = Times()
    for number in range(WARM_UP + count):
        before = frame.cpu_s(rig.broker.pid)
        whole, first = await rig.client.search(rig.count)
        middle, peer_before = frame.cpu_s(rig.broker.pid), frame.cpu_s(rig.peers[-1].pid)
        peer = await rig.gather()
        peer_after = frame.cpu_s(rig.peers[-1].pid)
        if number >= WARM_UP:
            times.whole.append(whole)
            times.first.append(first)
            times.cpu.append(middle - before)
            times.peer.append(peer)
            times.peer_cpu.append(peer_after - peer_before)
    return times


def rows_of(count: int, t: Times) -> list[Row]:
    """The rows of the interleaved rounds."""
    n, ms, us = f"{count} nodes", 1e3, 1e6
    p50, p50_peer = frame.median(t.whole) * ms, frame.median(t.peer) * ms
    first = frame.median(t.first) * ms
    cpu, cpu_peer = frame.median(t.cpu) / count * us, frame.median(t.peer_cpu) / count * us
    rows = [
        against(f"{n}: whole search, p50", p50, "ms", GATHER, p50_peer, most=TARGETS.get(count)),
        against(
            f"{n}: whole search, p99", percentile(t.whole, 99) * ms, "ms", GATHER, percentile(t.peer, 99) * ms
        ),
        Row(
            metric=f"{n}: first answer, p50", value=first, unit="ms", peer="our own whole search", peer_value=p50,
            ratio=first / p50, target="<= 0.15x" if count >= 1000 else "",
            met=first / p50 <= 0.15 if count >= 1000 else None,
        ),
        against(
            f"{n}: searches one after another", 1 / (sum(t.whole) / len(t.whole)), "1/s", GATHER,
            1 / (sum(t.peer) / len(t.peer)),
        ),
        against(f"{n}: CPU a node, process that asks", cpu, "us", GATHER, cpu_peer, most=0.9),
    ]  # fmt: skip
    return rows


async def reattach(rig: Rig) -> list[Row]:
    """The broker stops, and is back some seconds later: from when it listens until nodes are welcome again."""
    for fleet in rig.fleets:
        fleet.forget()
        fleet.say("again")
    await rig.broker.stop()
    await asyncio.sleep(OUTAGE_S)
    listening = await rig.broker.start()
    at: list[float] = []
    for fleet in rig.fleets:
        at += (await fleet.hear("attached"))["at"]
    at.sort()
    await rig.client.channel.channel_ready()
    n = f"{rig.count} nodes"
    middle, last = max(0.0, at[len(at) // 2] - listening), max(0.0, at[-1] - listening)
    return [
        bounded(f"{n}: back after an outage, median node", middle, "s", 1.0),
        Row(metric=f"{n}: back after an outage, last node", value=last, unit="s"),
    ]


async def cancelled(rig: Rig, times: int = 9) -> Row:
    """From the client's cancelling until every node that was asked has been told."""
    for fleet in rig.fleets:
        fleet.forget()
        fleet.say("silent")
    seconds = []
    for _ in range(times):
        call = rig.client.begin()
        await call.read()
        for fleet in rig.fleets:
            await fleet.hear("asked", DEADLINE_S)
        begin = time.monotonic()
        call.cancel()
        told = [(await fleet.hear("told", DEADLINE_S))["at"] for fleet in rig.fleets]
        seconds.append(max(told) - begin)
    for fleet in rig.fleets:
        fleet.say("answer")
    await asyncio.sleep(0.2)
    return bounded(f"{rig.count} nodes: all told of a cancellation, p50", frame.median(seconds) * 1e3, "ms", 50.0)


async def leak(rig: Rig, count: int) -> Row:
    """What a cancelled search leaves in the broker's memory beyond what one that was completed does."""
    targets = rig.made.nodes[:4]

    async def complete() -> None:
        await rig.client.search(len(targets), targets)

    async def cancel() -> None:
        call = rig.client.begin(targets)
        await call.read()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call.code()

    async def grown(work: Any, silent: bool) -> float:
        for fleet in rig.fleets:
            fleet.say("silent" if silent else "answer")
        for _ in range(count // 4):
            await work()
        await asyncio.sleep(1.0)
        before = frame.private_bytes(rig.broker.pid)
        for _ in range(count):
            await work()
        await asyncio.sleep(1.0)
        return (frame.private_bytes(rig.broker.pid) - before) / count

    done = await grown(complete, silent=False)
    left = await grown(cancel, silent=True)
    for fleet in rig.fleets:
        fleet.say("answer")
    extra = left - done
    return Row(
        metric=f"memory left by a cancelled search, of {count}", value=extra, unit="bytes", peer=COMPLETED,
        peer_value=done, target="<= 50 bytes", met=extra <= 50,
    )  # fmt: skip


async def measure(options: argparse.Namespace) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    for count in options.nodes:
        root = Path(tempfile.mkdtemp(prefix="comity-bench-", dir=options.dir))  # mode 0700, for it holds keys
        try:
            rig = Rig(build(root, count), options.processes, options.detections)
            try:
                memory = await rig.start()
                wanted = options.rounds or max(15, min(200, 16_000 // count))
                rows += rows_of(count, await rounds(rig, wanted))
                rows.append(bounded(f"{count} nodes: memory an attached node", memory / 1000, "kB", 120.0))
                rows.append(await cancelled(rig))
                if count == min(options.nodes) and options.cancelled:
                    rows.append(await leak(rig, 10_000 if options.soak else options.cancelled))
                rows += await reattach(rig)
            finally:
                await rig.stop()
        finally:
            shutil.rmtree(root, ignore_errors=True)
    rows.append(_go())
    return rows


def _go() -> Row:
    there = shutil.which("go") is not None
    why = "a Go toolchain is here, but this benchmark has no grpc-go program" if there else "grpc-go cannot be had here"
    return Row(
        metric="80 nodes: whole search, p50", value=None, unit="ms", peer=f"the same gather in grpc-go: {why}",
        target="<= 1.6x",
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--nodes", type=lambda s: [int(n) for n in s.split(",")], default=[80, 1000])
    parser.add_argument("--rounds", type=int, default=0, help="of each, interleaved; default by the number of nodes")
    parser.add_argument("--processes", type=int, default=1, help="that play the nodes, on either side")
    parser.add_argument("--detections", type=int, default=0, help="in each prepared answer; 0: no_match")
    parser.add_argument("--cancelled", type=int, default=2000, help="searches of the leak row; 0: none")
    parser.add_argument("--soak", action="store_true", help="10,000 cancelled searches")
    parser.add_argument("--dir", help="where the federations are made; default: the system's temporary folder")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options, on = arguments(), frame.machine()
    rows = uvloop.run(measure(options))
    frame.show("search", on, rows, as_json=options.json)


if __name__ == "__main__":
    main()
