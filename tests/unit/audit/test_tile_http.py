"""The tiles of a running log over HTTP: a reader that believes nothing, and whoever asks for what is not there."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.cosignature import cosign, cosignatures
from audit.hashes import WIDTH, Hashes
from audit.log import DecisionLog
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.proof import tree_root
from audit.tile_http import MOST_CONNECTIONS, AdminFront
from audit.tile_server import FOLDER, TileServer
from audit.tiles import tile_path
from audit.tree import Tree, leaf_hash
from comity.admin import SERVING, Health
from tests.unit.audit.growing import NOW, public, witness_key
from tests.unit.audit.sample import ORIGIN, START, HandClock

WITNESS = "us-ca-alder-pd/witness/alder-1"
SIZES = (5, 300, 700)


@dataclass(frozen=True, slots=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


class Site:
    """A log, its tiles, and the port they are served on, with a gRPC server behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = DecisionLog.create(folder, origin=ORIGIN, clock=HandClock())
        self.cosigned = b""
        self.tiles = self.new_tiles()
        self.port = 0

    def new_tiles(self) -> TileServer:
        """What a program that starts makes of the folder."""
        return TileServer(self.folder, log=self.log, witnesses=[str(public(WITNESS))], cosigned=lambda: self.cosigned)

    async def grow(self, size: int, *, publish: bool = True) -> None:
        await self.log.append([START] * (size - self.log.head.size))
        if publish:
            self.tiles.publish()

    def cosign(self) -> None:
        self.cosigned = cosign(self.log.head.checkpoint, WITNESS, witness_key(WITNESS), NOW)

    def get(self, path: str, method: str = "GET", host: str = "localhost", body: str | None = None) -> Got:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body=body, headers={"Host": host})
            answer = connection.getresponse()
            headers = {k.lower(): v for k, v in answer.getheaders()}
            return Got(answer.status, headers, answer.read())
        finally:
            connection.close()

    def hashes(self, size: int) -> Hashes:
        """The tree of that size, every hash from the port."""

        def read(level: int, number: int, width: int) -> bytes:
            got = self.get(f"/{tile_path(level, number, width)}")
            assert got.status == 200
            return got.body

        return Hashes(size, read)

    def entries(self, size: int) -> list[bytes]:
        """The first so many entries, from the port."""
        out: list[bytes] = []
        while len(out) < size:
            number, width = len(out) // WIDTH, min(WIDTH, size - len(out))
            data = self.get(f"/{tile_path('entries', number, width)}").body
            for _ in range(width):
                length = int.from_bytes(data[:2])
                out.append(data[2 : 2 + length])
                data = data[2 + length :]
            assert data == b""
        return out


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Site]:
    site = Site(folder)
    server, health = grpc.aio.server(), Health(["comity.v1.SearchService"])
    health.add_to(server)
    front = AdminFront(site.tiles, server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await health.set(SERVING)
    site.port = await front.start("127.0.0.1", 0)
    try:
        yield site
    finally:
        await front.stop()
        await server.stop(0)
        site.log.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as made:
        yield made


def verified(site: Site) -> int:
    """What a reader with the log's key makes of it: the size, once every entry is led to the signed root."""
    key = VerifierKey.parse(site.get("/log.vkey").body.decode())
    assert key == site.log.vkey
    head = verify_checkpoint(site.get("/checkpoint").body, key)
    assert tree_root(head.size, site.hashes(head.size).subtree) == head.root
    assert Tree(map(leaf_hash, site.entries(head.size))).root() == head.root
    return head.size


async def test_a_reader_over_http_verifies_every_entry_of_a_log_that_grows(site: Site) -> None:
    for size in SIZES:
        await site.grow(size)
        assert await asyncio.to_thread(verified, site) == size


async def test_the_checkpoint_carries_its_cosignatures_and_the_tiles_of_that_very_head_are_there(site: Site) -> None:
    await site.grow(280)
    site.cosign()
    await site.grow(300)
    assert await asyncio.to_thread(verified, site) == 280
    note = (await asyncio.to_thread(site.get, "/checkpoint")).body
    assert set(cosignatures(note, [public(WITNESS)])) == {WITNESS}
    vkeys = (await asyncio.to_thread(site.get, "/witness.vkeys")).body
    assert vkeys == f"{public(WITNESS)}\n".encode()


async def test_the_checkpoint_never_goes_back_and_never_names_what_is_not_published(site: Site) -> None:
    def size() -> int:
        found = site.tiles.get("/checkpoint")
        assert found is not None
        return Checkpoint.parse(found.body).size

    await site.grow(10)
    site.cosign()
    await site.grow(20)
    assert size() == 10, "cosigned goes before newer"
    site.cosign()
    assert size() == 20
    await site.grow(30, publish=False)
    site.cosign()
    assert size() == 20, "its tiles are not there yet"
    site.tiles.publish()
    assert size() == 30
    site.cosigned = b""
    await site.grow(40)
    assert size() == 30, "a newer one that nobody has cosigned waits"


async def test_nothing_is_shown_before_the_tiles_have_been_compared_with_the_log(site: Site) -> None:
    await site.grow(5, publish=False)
    assert site.tiles.behind
    assert site.tiles.get("/checkpoint") is None


@pytest.mark.parametrize("damage", ["gone", "half written"])
async def test_tiles_that_a_crash_took_are_made_again(damage: str, site: Site) -> None:
    await site.grow(300)
    if damage == "gone":
        shutil.rmtree(site.folder / FOLDER)
    else:
        (site.folder / FOLDER / f"{tile_path(0, 1, 44)}").write_bytes(b"half")
        (site.folder / FOLDER / f"{tile_path(0, 1, 44)}.new").write_bytes(b"half")
    await site.grow(301, publish=False)
    site.new_tiles().publish()  # as the program does when it starts
    site.tiles.publish()
    assert await asyncio.to_thread(verified, site) == 301


HELD = {
    "/checkpoint": ("text/plain; charset=utf-8", "no-store"),
    "/log.vkey": ("text/plain; charset=utf-8", "no-store"),
    "/witness.vkeys": ("text/plain; charset=utf-8", "no-store"),
    "/tile/0/000": ("application/octet-stream", "public, max-age=31536000, immutable"),
    "/tile/0/001.p/44": ("application/octet-stream", "public, max-age=31536000, immutable"),
    "/tile/0/001.p/7": ("application/octet-stream", "public, max-age=31536000, immutable"),
    "/tile/1/000.p/1": ("application/octet-stream", "public, max-age=31536000, immutable"),
    "/tile/entries/001.p/44": ("application/octet-stream", "public, max-age=31536000, immutable"),
}
NOT_THERE = (
    "/",
    "/log.key",
    "/log.db",
    "/checkpoint/",
    "/checkpoint?x",
    "/tiles/checkpoint",
    "/../log.key",
    "/tile/0/../../log.key",
    "/tile/0/%2e%2e/log.key",
    "/tile/0/001",
    "/tile/0/001.p/45",
    "/tile/0/000.p/256",
    "/tile/0/000.p/0",
    "/tile/0/000.p/07",
    "/tile/0/x000/000",
    "/tile/00/000",
    "/tile/8/000",
    "/tile/2/000.p/1",
    "/tile/0/0",
    "/tile/0/x999/x999/999",
    "/tile/entries/002",
)


async def test_what_there_is_has_its_type_and_may_be_kept_as_long_as_it_holds(site: Site) -> None:
    await site.grow(300)
    for path, (kind, keep) in HELD.items():
        got = await asyncio.to_thread(site.get, path)
        assert (got.status, got.headers["content-type"], got.headers["cache-control"]) == (200, kind, keep), path
        head = await asyncio.to_thread(site.get, path, "HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(got.body)), b"")


async def test_what_there_is_not_is_told_from_what_may_not_be_asked(site: Site) -> None:
    await site.grow(300)
    for path in NOT_THERE:
        assert (await asyncio.to_thread(site.get, path)).status == 404, path
    assert (await asyncio.to_thread(site.get, "/checkpoint", "POST")).status == 405
    assert (await asyncio.to_thread(site.get, "/checkpoint", "GET", "localhost", "a body")).status == 400
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert (await asyncio.to_thread(site.get, "/checkpoint", "GET", host)).status == 403, host
    for host in ("localhost:7445", "127.0.0.1", "[::1]:7445"):
        assert (await asyncio.to_thread(site.get, "/checkpoint", "GET", host)).status == 200, host


async def test_several_requests_go_over_one_connection(site: Site) -> None:
    await site.grow(5)

    def both() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
        statuses = []
        for path in ("/checkpoint", "/nothing", "/tile/0/000.p/5"):
            connection.request("GET", path, headers={"Host": "localhost"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        return statuses

    assert await asyncio.to_thread(both) == [200, 404, 200]


async def test_what_is_no_http_is_refused_and_a_flood_of_connections_is_turned_away(site: Site) -> None:
    def said(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", site.port), timeout=120) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            return peer.recv(4096)

    for data in (b"\x16\x03\x01 a TLS hello", b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000):
        assert (await asyncio.to_thread(said, data)).startswith(b"HTTP/1.1 400 ")
    silent = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(MOST_CONNECTIONS)]
    for _, writer in silent:
        writer.write(b"G")
        await writer.drain()
    reader, last = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        said_at_last = await reader.read(1)
    except ConnectionError:
        said_at_last = b""
    assert said_at_last == b""
    for _, writer in (*silent, (reader, last)):
        writer.close()


async def test_the_program_s_health_is_told_on_the_same_port(site: Site) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=120)
    assert answer.status == SERVING
