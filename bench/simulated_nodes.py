"""Many nodes in one process, each on a connection of its own, that answer at once with a prepared outcome.

As a child process, one JSON object a line on standard output:
  attach: {"event": "attached", "at": [seconds, one a node]}     all are welcome; again after every outage
          {"event": "asked", "at": s}, {"event": "told", "at": s}  every node of a silent search was asked, was told
  serve:  {"event": "serving"}                                   the peer's nodes: one unary call an answer
Seconds are of the system's monotonic clock, which all processes of a machine share. Standard input takes `answer`,
`silent` or `again` (times of attaching are forgotten), one a line; its end ends the process.

The signature of an outcome is real but prepared: it is over a fixed inquiry, which a client would notice. The broker
relays it unopened, so for the broker nothing differs; a real node's signing costs the node, not the broker.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import Checkpoint
from bench.federation import BUNDLE_FILE
from comity import instants
from comity.envelope import OUTCOME_TYPE
from comity.outcome import KIND_TO_WIRE, Coverage, Outcome, OutcomeKind
from comity.v1 import node_link_service_pb2 as pb2
from comity.v1 import node_link_service_pb2_grpc as pb2_grpc
from comity.v1 import outcome_pb2
from identity.folder import IdentityFolder
from identity.tls import client_credentials, server_credentials
from node.attach import FIRST_WAIT_S, LONGEST_WAIT_S, OPTIONS

PEER_SERVICE, PEER_METHOD = "comity.bench.v1.NodeService", "Answer"
SERVER_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000))


def say(event: str, **fields: Any) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def prepared(folder: IdentityFolder, detections: int) -> pb2.OutcomeChunk:
    """The node's one answer, all but the inquiry's id: signed by the node, with the receipt of a log of its own."""
    now, node = instants.now(), folder.spiffe.id
    coverage = Coverage(begin=instants.from_ms(instants.to_ms(now) - 86_400_000), end=now)
    kind = OutcomeKind.MATCH if detections else OutcomeKind.NO_MATCH
    outcome = Outcome(
        inquiry_id="00000000-0000-7000-8000-000000000000",
        inquiry_hash=bytes(32),
        node=node,
        decided_at=now,
        kind=kind,
        policy_digest="0" * 64,
        coverage=coverage,
        detections=tuple(_detection(i, node) for i in range(detections)),
    )
    payload = outcome.encode()
    envelope = folder.signer.sign(OUTCOME_TYPE, payload).encode()
    origin = f"{folder.spiffe.trust_domain}/node/{node}"
    head = Checkpoint(origin=origin, size=1000, root=bytes(32)).sign(Ed25519PrivateKey.generate())
    header = pb2.OutcomeHeader(
        kind=KIND_TO_WIRE[kind],
        count=detections,
        coverage=coverage.to_message(),
        policy_digest="0" * 64,
        payload_hash=hashlib.sha256(payload).digest(),
        receipt=pb2.Receipt(origin=origin, index=999, leaf_hash=bytes(32), checkpoint=head),
        total_bytes=len(envelope),
    )
    return pb2.OutcomeChunk(header=header, data=envelope, last=True)


def _detection(number: int, node: str) -> outcome_pb2.Detection:
    return outcome_pb2.Detection(
        plate=f"BENCH{number}",
        state="CA",
        camera=f"{node}-camera-{number}",
        latitude_e7=377_749_000,
        longitude_e7=-1_224_194_000,
        confidence_permille=930,
        match=outcome_pb2.MATCH_CLASS_EXACT,
        source="police",
        agency="agency-0000",
    )


class Fleet:
    """All attached nodes of this process, and what the parent asked of them."""

    def __init__(self, root: Path, first: int, count: int, address: str, detections: int) -> None:
        self._address = address
        names = [f"node-{i:04}" for i in range(first, first + count)]
        self._nodes = [root / "nodes" / n for n in names]
        self._detections = detections
        self._attached: dict[int, float] = {}
        self._asked: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self.silent = False

    async def run(self) -> None:
        """Stay attached for ever."""
        await asyncio.gather(*(self._stay(i, path) for i, path in enumerate(self._nodes)))

    def command(self, line: str) -> None:
        """What the parent wants from now on."""
        if line == "again":
            self._attached.clear()
        else:
            self.silent = line == "silent"

    async def _stay(self, number: int, path: Path) -> None:
        folder = IdentityFolder.load(path)
        hello = pb2.Hello(node=folder.spiffe.id, directory_version=1, bundle=(path / BUNDLE_FILE).read_bytes())
        chunk = prepared(folder, self._detections)
        credentials = client_credentials(folder)
        wait_s = FIRST_WAIT_S
        while True:  # the waits are those of `node.attach`
            welcome = False
            try:
                async with grpc.aio.secure_channel(self._address, credentials, OPTIONS) as channel:
                    call = pb2_grpc.NodeLinkServiceStub(channel).Attach()
                    await call.write(pb2.AttachRequest(items=[pb2.NodeItem(hello=hello)]))
                    async for response in call:
                        welcome = True
                        await self._take(number, call, response, chunk)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # tried again below
            wait_s = FIRST_WAIT_S if welcome else min(LONGEST_WAIT_S, wait_s * 2)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    async def _take(self, number: int, call: Any, response: pb2.AttachResponse, chunk: pb2.OutcomeChunk) -> None:
        for item in response.items:
            kind = item.WhichOneof("item")
            if kind == "work" and self.silent:
                self._count(self._asked, item.work.inquiry_id, "asked")
            elif kind == "work":
                chunk.inquiry_id = item.work.inquiry_id
                await call.write(pb2.AttachRequest(items=[pb2.NodeItem(outcome=chunk)]))
            elif kind == "cancel":
                self._count(self._told, item.cancel.inquiry_id, "told")
            elif kind == "welcome":
                self._attached[number] = time.monotonic()
                if len(self._attached) == len(self._nodes):
                    say("attached", at=sorted(self._attached.values()))

    def _count(self, counts: dict[str, int], inquiry_id: str, event: str) -> None:
        counts[inquiry_id] = counts.get(inquiry_id, 0) + 1
        if counts[inquiry_id] == len(self._nodes):
            say(event, at=time.monotonic())
        if len(counts) > 16:
            del counts[next(iter(counts))]


async def attach(root: Path, first: int, count: int, address: str, detections: int) -> None:
    """Nodes of a broker."""
    fleet = Fleet(root, first, count, address, detections)
    tasks = asyncio.ensure_future(fleet.run())
    async for line in _commands():
        fleet.command(line)
    tasks.cancel()


async def serve(root: Path, first: int, address: str, detections: int) -> None:
    """Nodes of the bare gather: the same answers, one unary call each, a port for all connections of this process."""
    folder = IdentityFolder.load(root / "nodes" / f"node-{first:04}")
    chunk = prepared(folder, detections)

    async def answer(work: pb2.Work, _: Any) -> pb2.OutcomeChunk:
        chunk.inquiry_id = work.inquiry_id
        return chunk

    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=pb2.Work.FromString, response_serializer=pb2.OutcomeChunk.SerializeToString
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PEER_SERVICE, {PEER_METHOD: handler}),))
    anchor = IdentityFolder.load(root / "broker" / "identity").chain[1]
    server.add_secure_port(address, server_credentials(folder, [anchor]))
    await server.start()
    say("serving")
    async for _ in _commands():
        pass
    await server.stop(0)


async def _commands() -> AsyncIterator[str]:
    reader = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(reader, sys.stdin.readline):
        yield line.strip()


def main(arguments: list[str]) -> None:
    """`attach ROOT FIRST COUNT ADDRESS DETECTIONS` or `serve ROOT FIRST ADDRESS DETECTIONS`."""
    threading.stack_size(256 * 1024)
    kind, root, first, *rest = arguments
    if kind == "attach":
        uvloop.run(attach(Path(root), int(first), int(rest[0]), rest[1], int(rest[2])))
    else:
        uvloop.run(serve(Path(root), int(first), rest[0], int(rest[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
