"""The webhook over real TLS: who may send, what is refused and how, and that a yes means durable."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from comity import instants
from comity.errors import ConfigError
from identity.certificates import der, pem
from identity.folder import CHAIN_FILE, KEY_FILE, IdentityFolder, replace_chain
from node.ingest import Ingester
from node.rpc.senders import Senders, load_tokens
from node.rpc.webhook import Limits, Webhook
from node.rpc.webhook_tls import server_context, take_up
from node.store.sqlite import SqliteStore
from tests.unit.identity.world import ALDER, BRAZOS, World, name
from tests.unit.node.samples import JPEG, NOW_MS, YEAR_S, alert, clock, encode, group, multipart, observed

TOKEN = "t" * 40
BEARER = f"Authorization: Bearer {TOKEN}"
GROUP = encode(group())


@pytest.fixture
def own(tmp_path: Path) -> World:
    # TLS itself reads the machine's clock, so these certificates must be valid now.
    return World.make(tmp_path / "world", instants.now())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: str
    body: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """The webhook of Alder's node, and a sender that trusts Alder's authority."""

    own: World
    port: int
    refused: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def connection(
        self, identity: IdentityFolder | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        context = ssl.create_default_context(cadata=pem(self.own.alder.certificate).decode())
        context.check_hostname = False
        if identity:
            context.load_cert_chain(identity.path / CHAIN_FILE, identity.path / KEY_FILE)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def send(self, raw: bytes, identity: IdentityFolder | None = None) -> Reply:
        async with self.connection(identity) as (reader, writer):
            writer.write(raw)
            return await reply(reader)

    async def post(self, path: str, body: bytes, *headers: str, identity: IdentityFolder | None = None) -> Reply:
        return await self.send(request(path, body, *headers), identity)


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: node", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def reply(reader: asyncio.StreamReader) -> Reply:
    async with asyncio.timeout(120):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return Reply(status=int(head.split()[1]), headers=head, body=orjson.loads(await reader.readexactly(length)))


@asynccontextmanager
async def serving(own: World, store: SqliteStore, tmp_path: Path, **limits: Any) -> AsyncIterator[Endpoint]:
    directory = own.directory()
    node = own.folder(own.alder, name(ALDER, "node", "alder-1"))
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# systems\nscout {TOKEN}\n")
    tokens.chmod(0o600)
    refused: list[str] = []
    webhook = Webhook(
        Ingester(store, tmp_path / "set-aside", clock, source="police"),
        Senders(load_tokens(tokens), directory, ALDER, instants.now),
        limits=Limits(**limits),
        on_refused=refused.append,
    )
    port = await webhook.start("127.0.0.1", 0, server_context(node, directory.authorities_of(ALDER)))
    try:
        yield Endpoint(own=own, port=port, refused=refused)
    finally:
        await webhook.stop()


@pytest.fixture
async def endpoint(own: World, store: SqliteStore, tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with serving(own, store, tmp_path) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/openalpr", GROUP, id="a group"),
        pytest.param("/openalpr", b"[" + GROUP + b"]", id="a list of one"),
        pytest.param("/openalpr?agent=1", GROUP.replace(b",", b",\n"), id="a group printed over many lines"),
        pytest.param("/fiware", encode({"subscriptionId": "s", "data": [observed()]}), id="a notification"),
        pytest.param("/hikvision", alert(), id="XML"),
        pytest.param(
            "/hikvision", multipart(("a.xml", "text/xml", alert()), ("b", "image/jpeg", JPEG)), id="multipart"
        ),
        pytest.param("/csv", b"plate,time,camera\n7ABC123,%d,c1\n" % NOW_MS, id="CSV"),
    ],
)
async def test_a_yes_means_that_the_read_is_in_the_store_and_sending_it_again_adds_nothing(
    endpoint: Endpoint, store: SqliteStore, path: str, body: bytes
) -> None:
    first = await endpoint.post(path, body, BEARER)
    assert (first.status, first.body["accepted"], store.count()) == (200, 1, 1)
    again = await endpoint.post(path, body, BEARER)
    assert (again.status, again.body["duplicates"], store.count()) == (200, 1, 1)


async def test_what_cannot_be_read_in_is_set_aside_under_its_sender_and_said_so(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    got = await endpoint.post("/openalpr", encode(group(best_plate_number="7SECRT1!!")), BEARER)
    assert (got.status, got.body["rejected"], got.body["reasons"]) == (422, 1, {"BAD_PLATE": 1})
    [path] = (tmp_path / "set-aside").glob("*.jsonl")
    entry = orjson.loads(path.read_bytes())
    assert (entry["source"], entry["format"]) == ("webhook:scout", "openalpr")


async def test_a_connection_carries_several_requests_and_an_unread_body_never_becomes_one(
    endpoint: Endpoint, store: SqliteStore
) -> None:
    async with endpoint.connection() as (reader, writer):
        for _ in range(3):
            writer.write(request("/openalpr", GROUP, BEARER))
            assert (await reply(reader)).status == 200
        writer.write(request("/nowhere", request("/openalpr", encode(group(best_uuid="u-2")), BEARER), BEARER))
        got = await reply(reader)
        assert (got.status, "connection: close" in got.headers) == (404, True)
        assert await reader.read() == b""
    assert store.count() == 1


async def test_a_sender_that_waits_to_be_told_to_go_on_is_told_after_it_is_known(endpoint: Endpoint) -> None:
    head, _, body = request("/openalpr", GROUP, BEARER, "Expect: 100-continue").partition(b"\r\n\r\n")
    async with endpoint.connection() as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(body)
        assert (await reply(reader)).status == 200
    got = await endpoint.send(request("/openalpr", b"", "Expect: 100-continue"))
    assert got.status == 401


CAMERA = name(ALDER, "camera", "pa-014")


async def test_a_camera_of_this_agency_needs_no_token(endpoint: Endpoint, own: World, store: SqliteStore) -> None:
    camera = own.folder(own.alder, CAMERA)
    assert (await endpoint.post("/openalpr", GROUP, identity=camera)).status == 200
    assert store.count() == 1


async def test_a_person_s_certificate_is_refused_whatever_token_comes_with_it(
    endpoint: Endpoint, own: World, store: SqliteStore
) -> None:
    person = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator")
    got = await endpoint.post("/openalpr", GROUP, BEARER, identity=person)
    assert (got.status, got.body, store.count()) == (401, {"reason": "WRONG_KIND"}, 0)


async def test_another_agency_s_camera_gets_no_connection(endpoint: Endpoint, own: World, store: SqliteStore) -> None:
    other = own.folder(own.brazos, name(BRAZOS, "camera", "bz-001"))
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await endpoint.post("/openalpr", GROUP, BEARER, identity=other)
    assert store.count() == 0


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param([], "NO_CREDENTIALS", id="none"),
        pytest.param([f"Authorization: Bearer {TOKEN}x"], "BAD_TOKEN", id="a token that is not known"),
        pytest.param(["Authorization: Bearer "], "BAD_TOKEN", id="no token"),
        pytest.param([basic("scout", "guess")], "BAD_TOKEN", id="another password"),
        pytest.param(["Authorization: Basic %%"], "BAD_TOKEN", id="no base64"),
        pytest.param([f"Authorization: Digest {TOKEN}"], "BAD_TOKEN", id="another scheme"),
        pytest.param(["Authorization: Bearer ÿÿ"], "BAD_TOKEN", id="other letters"),
    ],
)
async def test_who_has_no_right_is_told_before_the_body_is_read(
    endpoint: Endpoint, store: SqliteStore, headers: list[str], reason: str
) -> None:
    got = await endpoint.post("/openalpr", GROUP, *headers)
    assert (got.status, got.body, store.count()) == (401, {"reason": reason}, 0)
    assert endpoint.refused == [reason]


async def test_a_password_counts_as_a_token_for_cameras_that_can_send_nothing_else(endpoint: Endpoint) -> None:
    assert (await endpoint.post("/openalpr", GROUP, basic("anyone", TOKEN))).status == 200


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        pytest.param(request("/openalpr", b"", BEARER, method="GET"), 405, "ONLY_POST", id="a GET"),
        pytest.param(request("/metrics", b"{}", BEARER), 404, "NO_SUCH_PATH", id="another path"),
        pytest.param(request("/openalpr", b"", BEARER), 400, "NO_BODY", id="no body"),
        pytest.param(request("/csv", b"7ABC123,1,c1\n", BEARER), 400, "BAD_HEADER", id="CSV without its header"),
        pytest.param(
            request("/openalpr", GROUP, BEARER, "Content-Encoding: gzip"), 415, "ENCODED_BODY", id="a packed body"
        ),
        pytest.param(request("/openalpr", GROUP, BEARER, BEARER), 400, "REPEATED_HEADER", id="two tokens"),
        pytest.param(
            f"POST /openalpr HTTP/1.1\r\nHost: n\r\n{BEARER}\r\n\r\n".encode(), 411, "NO_LENGTH", id="no length"
        ),
        pytest.param(
            f"POST /openalpr HTTP/1.1\r\nHost: n\r\n{BEARER}\r\nContent-Length: 99999999\r\n\r\n".encode(),
            413,
            "TOO_LARGE",
            id="a promise of 100 MB",
        ),
        pytest.param(
            f"POST /openalpr HTTP/1.1\r\nHost: n\r\n{BEARER}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"100000\r\n"
            + b"x" * 0x100000
            + b"\r\n100000\r\n"
            + b"x" * 0x100000
            + b"\r\n",
            413,
            "TOO_LARGE",
            id="chunks that add up to too much",
        ),
        pytest.param(request("/openalpr", GROUP, BEARER, "Content-Length: 3"), 400, "BAD_REQUEST", id="two lengths"),
        pytest.param(b"\x16\x03\x01\x00\r\n\r\n", 400, "BAD_REQUEST", id="no HTTP"),
        pytest.param(b"POST / HTTP/1.1\r\nA: " + b"x" * 20_000, 431, "BAD_REQUEST", id="a head over 16 KiB"),
    ],
)
async def test_a_request_is_refused_for(
    own: World, store: SqliteStore, tmp_path: Path, raw: bytes, status: int, reason: str
) -> None:
    async with serving(own, store, tmp_path, body_bytes=1_500_000) as endpoint:
        got = await endpoint.send(raw)
    assert (got.status, got.body, store.count()) == (status, {"reason": reason}, 0)


async def test_a_store_that_cannot_keep_says_when_to_try_again_and_never_yes(
    endpoint: Endpoint, store: SqliteStore
) -> None:
    store.close()
    got = await endpoint.post("/openalpr", GROUP, BEARER)
    assert (got.status, got.body, "retry-after: 10" in got.headers) == (503, {"reason": "STORE_CLOSED"}, True)


async def test_too_much_at_once_is_told_to_come_again(own: World, store: SqliteStore, tmp_path: Path) -> None:
    async with serving(own, store, tmp_path, bodies=0) as endpoint:
        got = await endpoint.post("/openalpr", GROUP, BEARER)
    assert (got.status, got.body, "retry-after: 1" in got.headers) == (429, {"reason": "TOO_MANY_AT_ONCE"}, True)


@pytest.mark.parametrize("limits", [{"connections": 1}, {"connections_per_host": 1}], ids=["in all", "of one host"])
async def test_connections_past_the_limit_are_closed_and_the_first_goes_on(
    own: World, store: SqliteStore, tmp_path: Path, limits: dict[str, int]
) -> None:
    async with serving(own, store, tmp_path, **limits) as endpoint, endpoint.connection() as (reader, writer):
        writer.write(request("/openalpr", GROUP, BEARER))
        assert (await reply(reader)).status == 200
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await endpoint.post("/openalpr", GROUP, BEARER)
        writer.write(request("/openalpr", GROUP, BEARER))
        assert (await reply(reader)).status == 200


async def test_a_head_that_never_ends_is_cut_off(own: World, store: SqliteStore, tmp_path: Path) -> None:
    async with serving(own, store, tmp_path, head_s=0.5) as endpoint, endpoint.connection() as (reader, writer):
        writer.write(b"POST /openalpr HTTP/1.1\r\n")
        async with asyncio.timeout(120):
            assert await reader.read() == b""


async def test_a_body_that_never_ends_is_refused(own: World, store: SqliteStore, tmp_path: Path) -> None:
    async with serving(own, store, tmp_path, body_s=0.2) as endpoint:
        got = await endpoint.send(request("/openalpr", GROUP, BEARER)[:-5])
    assert (got.status, got.body, store.count()) == (408, {"reason": "BODY_TOO_SLOW"}, 0)


async def test_a_renewed_certificate_is_shown_to_who_connects_next(
    own: World, store: SqliteStore, tmp_path: Path
) -> None:
    node = own.folder(own.alder, name(ALDER, "node", "alder-2"))
    context = server_context(node, own.directory().authorities_of(ALDER))
    webhook = Webhook(
        Ingester(store, tmp_path / "set-aside", clock, source="police"), Senders({}, own.directory(), ALDER, clock)
    )
    endpoint = Endpoint(own=own, port=await webhook.start("127.0.0.1", 0, context))

    async def shown() -> bytes:
        async with endpoint.connection() as (_, writer):
            found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found

    before = await shown()
    leaf = own.alder.issue(node.spiffe, node.signer.key.public_key(), at=instants.now())
    replace_chain(node.path, (leaf, own.alder.certificate))
    take_up(context, node)
    assert (before, await shown()) == (der(node.chain[0]), der(leaf))
    await webhook.stop()


async def test_without_tls_there_is_no_answer(endpoint: Endpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(request("/openalpr", GROUP, BEARER))
    async with asyncio.timeout(120):
        assert b"HTTP" not in await reader.read()
    writer.close()


async def test_a_port_that_is_taken_is_said_so(
    endpoint: Endpoint, own: World, store: SqliteStore, tmp_path: Path
) -> None:
    webhook = Webhook(
        Ingester(store, tmp_path / "set-aside", clock, source="police"), Senders({}, own.directory(), ALDER, clock)
    )
    with pytest.raises(ConfigError) as caught:
        await webhook.start("127.0.0.1", endpoint.port, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert caught.value.reason == "ADDRESS_TAKEN"
    await webhook.stop()


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        pytest.param(f"scout {TOKEN}\n", 0o644, "KEY_EXPOSED", id="one that others may read"),
        pytest.param("scout short\n", 0o600, "BAD_TOKENS", id="a token of five characters"),
        pytest.param(f"{TOKEN}\n", 0o600, "BAD_TOKENS", id="a token without a name"),
        pytest.param(f"a {TOKEN}\na {TOKEN}\n", 0o600, "BAD_TOKENS", id="a name that is there twice"),
        pytest.param("# none\n", 0o600, "BAD_TOKENS", id="none"),
    ],
)
def test_a_token_file_is_refused_without_a_word_of_a_token(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_tokens(path)
    assert caught.value.reason == reason
    assert TOKEN not in str(caught.value)
    assert "short" not in str(caught.value)
