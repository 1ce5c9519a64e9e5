"""The peer: a bare `asyncio.gather` of one unary call a node, over ready channels with mutual TLS.

One process with uvloop, one channel and connection a node, no policy, no log, no signature checked. A child process:
for each line on standard input one round, answered with {"event": "done", "whole_s"}; its end ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.simulated_nodes import PEER_METHOD, PEER_SERVICE, say
from comity.v1 import node_link_service_pb2 as pb2
from identity.folder import IdentityFolder
from identity.tls import client_credentials

OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
DEADLINE_S = 30.0
READY_AT_ONCE = 50
# What a broker sends of each: an inquiry, the entry of its decision, a leaf's hash and a checkpoint.
INQUIRY_BYTES, ENTRY_BYTES, CHECKPOINT_BYTES = 1800, 900, 220


def work(number: int) -> pb2.Work:
    """A request of the size that a broker's is."""
    receipt = pb2.Receipt(
        origin="bench-exchange/broker/broker-1",
        index=1_000_000 + number,
        entry=bytes(ENTRY_BYTES),
        leaf_hash=bytes(32),
        checkpoint=bytes(CHECKPOINT_BYTES),
    )
    return pb2.Work(
        inquiry_id=f"00000000-0000-7000-8000-{number:012}",
        inquiry=bytes(INQUIRY_BYTES),
        receipt=receipt,
        deadline_ms=10_000,
    )


async def calls_of(root: Path, addresses: Sequence[str], count: int) -> list[Any]:
    """One ready call a node, spread evenly over the addresses."""
    folder = IdentityFolder.load(root / "broker" / "identity")
    calls = []
    each = -(-count // len(addresses))
    for number in range(count):
        at = number // each
        anchor = IdentityFolder.load(root / "nodes" / f"node-{at * each:04}").chain[1]
        channel = grpc.aio.secure_channel(addresses[at], client_credentials(folder, roots=[anchor]), OPTIONS)
        calls.append((channel, _method(channel)))
    for start in range(0, count, READY_AT_ONCE):
        await asyncio.gather(*(channel.channel_ready() for channel, _ in calls[start : start + READY_AT_ONCE]))
    return [method for _, method in calls]


def _method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        f"/{PEER_SERVICE}/{PEER_METHOD}",
        request_serializer=pb2.Work.SerializeToString,
        response_deserializer=pb2.OutcomeChunk.FromString,
    )


async def search(methods: Sequence[Any], number: int) -> float:
    """Seconds until every node has answered."""
    begin = time.perf_counter()
    request = work(number)
    answers = await asyncio.gather(*(method(request, timeout=DEADLINE_S) for method in methods))
    whole_s = time.perf_counter() - begin
    if len(answers) != len(methods):
        raise RuntimeError("a node did not answer")
    return whole_s


async def main(root: Path, addresses: Sequence[str], count: int) -> None:
    """Rounds on demand."""
    methods = await calls_of(root, addresses, count)
    gc.freeze()
    say("ready")
    loop = asyncio.get_running_loop()
    number = 0
    while await loop.run_in_executor(None, sys.stdin.readline):
        number += 1
        say("done", whole_s=await search(methods, number))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])))
