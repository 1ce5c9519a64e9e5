"""The shared state on a server that fails: everything that needs it is refused, and nothing is let through."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from redis.asyncio import RedisCluster

from broker.state.redis import CONNECTIONS, RedisPresence, RedisQuota, RedisReplayGuard, SharedRedis
from comity.errors import ConfigError, Unavailable
from tests.redis_server import LocalServer

NOW = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(minutes=5)
SECRET = "opensesame"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ports:
    """All ports on one address."""

    def __init__(self, url: str) -> None:
        self.shared = SharedRedis.open(url)
        self.guard = RedisReplayGuard(self.shared, lambda: NOW)
        self.quota = RedisQuota(self.shared, lambda: NOW)
        self.presence = RedisPresence(self.shared)

    async def claim(self, number: int = 1) -> bool:
        return await self.guard.claim(f"id-{number}", number.to_bytes(16, "big"), SOON)

    async def take(self) -> bool:
        return await self.quota.take("agency-a", NOW.date(), 1000)

    async def use_all(self) -> None:
        await self.claim()
        await self.take()
        await self.presence.register_process("10.0.0.1:7400", dt.timedelta(seconds=60))
        await self.presence.attached("north", "10.0.0.1:7400", NOW)

    async def refused(self) -> set[str]:
        """What each port says; fails if one of them answers."""
        said = set()
        calls: list[Callable[[], Awaitable[object]]] = [
            self.claim,
            self.take,
            self.presence.processes,
            lambda: self.presence.attached("north", "10.0.0.1:7400", NOW),
            lambda: self.presence.last_attached_at(["north"]),
        ]
        for call in calls:
            with pytest.raises(Unavailable) as refused:
                await call()
            assert refused.value.reason == "SHARED_STATE_UNAVAILABLE"
            assert refused.value.__cause__ is None
            assert refused.value.__context__ is None
            said.add(str(refused.value).removeprefix("the shared state "))
        return said


@pytest.fixture
async def ports(own_redis: LocalServer) -> AsyncIterator[Ports]:
    ports = Ports(own_redis.url)
    yield ports
    await ports.shared.close()


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a server that does whatever the handler does."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    yield f"redis{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


class Answering:
    """A server that accepts every command and answers each script with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.scripts = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                parts = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2])
                is_script = parts[0] == b"EVAL"
                self.scripts += is_script
                writer.write(self.answer if is_script else b"+OK\r\n")
                if is_script and not self.answer:
                    break
                await writer.drain()
        writer.close()


class LosingAnswers:
    """Between client and server: passes everything on, and cuts the line instead of the first answer to a script."""

    def __init__(self, port: int, *, lost: int = 0) -> None:
        self.port = port
        self.lost = lost

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        cut = False

        async def pass_on() -> None:
            nonlocal cut
            with suppress(ConnectionError):
                while asked := await reader.read(65536):
                    if b"EVAL" in asked and not self.lost:
                        self.lost += 1
                        cut = True
                    to_server.write(asked)
            to_server.close()

        # Both ways by themselves: several answers may come at once, and one in several parts.
        passing = asyncio.ensure_future(pass_on())
        with suppress(ConnectionError):
            while (answer := await from_server.read(65536)) and not cut:
                writer.write(answer)
        passing.cancel()
        to_server.close()
        writer.close()


async def test_a_killed_server_refuses_everything_and_a_restarted_one_serves_again(
    own_redis: LocalServer, ports: Ports
) -> None:
    await ports.use_all()
    own_redis.kill()
    assert await ports.refused() == {"cannot be reached"}
    own_redis.start()
    assert await ports.claim(2)
    assert await ports.take()


async def test_connections_made_before_a_restart_do_not_cost_a_refusal_after_it(
    own_redis: LocalServer, ports: Ports
) -> None:
    assert all(await asyncio.gather(*(ports.claim(i) for i in range(20))))
    own_redis.kill()
    own_redis.start()
    assert all(await asyncio.gather(*(ports.claim(i + 100) for i in range(20))))


async def test_a_server_killed_during_a_race_lets_at_most_one_claim_through(
    own_redis: LocalServer, ports: Ports
) -> None:
    await ports.take()
    racing = [asyncio.create_task(ports.claim()) for _ in range(50)]
    await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    own_redis.kill()
    ended = await asyncio.gather(*racing, return_exceptions=True)
    assert ended.count(True) <= 1
    assert all(isinstance(e, bool | Unavailable) for e in ended)


async def test_a_server_that_hangs_is_given_up_and_serves_again_when_it_wakes(
    own_redis: LocalServer, ports: Ports
) -> None:
    await ports.use_all()
    own_redis.pause()
    try:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await ports.take()
    finally:
        own_redis.resume()
    assert await ports.claim(2)


async def test_more_callers_than_connections_on_a_server_that_hangs_are_all_refused_and_none_is_lost_to_later_calls(
    own_redis: LocalServer, ports: Ports
) -> None:
    own_redis.pause()
    try:
        ended = await asyncio.gather(*(ports.claim(i) for i in range(3 * CONNECTIONS)), return_exceptions=True)
    finally:
        own_redis.resume()
    assert all(isinstance(e, Unavailable) for e in ended)
    later = await asyncio.gather(*(ports.claim(i + 1000) for i in range(CONNECTIONS)))
    assert all(later)


def read_only(server: LocalServer) -> None:
    server.client().replicaof("127.0.0.1", 1)


def out_of_memory(server: LocalServer) -> None:
    server.client().config_set("maxmemory", "1")


def password_wanted(server: LocalServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", SECRET)
        client.client_kill_filter(_type="normal", skipme=True)


def scripts_forbidden(server: LocalServer) -> None:
    server.client().acl_setuser("default", enabled=True, nopass=True, commands=["-eval"])


def other_types(server: LocalServer) -> None:
    with server.client() as client:
        for key in list(client.scan_iter()):
            client.delete(key)
            client.lpush(key, "of another type")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(read_only, "is read-only", id="a replica"),
        pytest.param(out_of_memory, "is out of memory", id="a full server"),
        pytest.param(password_wanted, "does not accept our credentials", id="a server that wants a password"),
        pytest.param(scripts_forbidden, "does not permit what we need", id="a server that forbids scripts"),
        pytest.param(other_types, "gave an answer that makes no sense", id="keys of another type"),
    ],
)
async def test_a_server_that_cannot_do_it_refuses_claims_and_counts_and_says_why(
    own_redis: LocalServer, ports: Ports, spoil: Callable[[LocalServer], None], says: str
) -> None:
    await ports.use_all()
    spoil(own_redis)
    calls: list[Awaitable[bool]] = [ports.claim(1 if spoil is other_types else 2), ports.take()]
    for call in calls:
        with pytest.raises(Unavailable) as refused:
            await call
        assert str(refused.value) == f"the shared state {says}"
        assert refused.value.reason == "SHARED_STATE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "gave an answer that makes no sense", id="another protocol"),
        pytest.param(b":1\r\n", "gave an answer to another question", id="a bare yes"),
        pytest.param(b"*2\r\n$5\r\nother\r\n:1\r\n", "gave an answer to another question", id="another call's yes"),
        pytest.param(b"$2\r\n\xff\xfe\r\n", "gave an answer that makes no sense", id="bytes that are no text"),
        pytest.param(b"-LOADING loading\r\n", "is still loading", id="a server that is loading"),
        pytest.param(b"-MOVED 1 h:1\r\n", "gave an answer that makes no sense", id="a shard that has moved"),
        pytest.param(b"$-1\r\n", "gave an answer to another question", id="nothing"),
        pytest.param(b"", "cannot be reached", id="a line cut instead of an answer"),
        pytest.param(b"*2\r\n", "did not answer in time", id="half an answer"),
    ],
)
async def test_an_answer_that_is_not_ours_is_never_a_yes(answer: bytes, says: str) -> None:
    server = Answering(answer)
    async with listening(server) as url:
        ports = Ports(url)
        with pytest.raises(Unavailable) as refused:
            await ports.claim()
        await ports.shared.close()
    assert str(refused.value) == f"the shared state {says}"
    assert server.scripts <= 2, "one retry at most"


async def test_a_claim_whose_answer_was_lost_finds_itself_again_in_the_retry(own_redis: LocalServer) -> None:
    line = LosingAnswers(own_redis.port)
    async with listening(line) as url:
        ports = Ports(url)
        assert await ports.claim()
        assert line.lost == 1
        assert not await ports.claim()
        await ports.shared.close()


async def test_a_call_cancelled_in_flight_leaves_no_answer_for_the_next(own_redis: LocalServer, ports: Ports) -> None:
    assert await ports.claim(1)
    own_redis.pause()
    try:
        in_flight = [asyncio.create_task(ports.claim(i)) for i in range(2, 10)]
        for _ in range(20):
            await asyncio.sleep(0)
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
    finally:
        own_redis.resume()
    assert [await ports.claim(1) for _ in range(20)] == [False] * 20


async def test_no_message_traceback_or_log_line_holds_the_password(
    own_redis: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own_redis.client().config_set("requirepass", "another")
    ports = Ports(f"redis://someone:{SECRET}@127.0.0.1:{own_redis.port}/0")
    with pytest.raises(Unavailable) as refused:
        await ports.claim()
    await ports.shared.close()
    told = "".join(traceback.format_exception(refused.value)) + repr(ports.shared) + caplog.text
    assert str(refused.value) == "the shared state does not accept our credentials"
    assert SECRET not in told


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://:{SECRET}@host/0", id="another scheme"),
        pytest.param(f"redis://:{SECRET}#1@host:6379/0", id="a password that was not quoted"),
        pytest.param(f"redis://:{SECRET}@host:99999/0", id="a port that is none"),
        pytest.param(f"redis://:{SECRET}@host/0?socket_timeout=60", id="another timeout"),
        pytest.param(f"rediss://:{SECRET}@host/0?ssl_cert_reqs=none", id="TLS that trusts anyone"),
        pytest.param(f"redis://host/0?password={SECRET}", id="a password as an option"),
        pytest.param(f"redis://:{SECRET}@host/zero", id="a database that is no number"),
        pytest.param("", id="nothing"),
    ],
)
def test_an_address_that_is_wrong_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SharedRedis.open(url)
    assert refused.value.reason == "BAD_REDIS_URL"
    assert SECRET not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("name", "trusted", "served"),
    [
        pytest.param("127.0.0.1", True, True, id="a server of the CA given and of the right name"),
        pytest.param("127.0.0.1", False, False, id="a server of a CA that nobody gave"),
        pytest.param("127.0.0.9", True, False, id="a server with another's name"),
    ],
)
async def test_over_tls_only_a_server_that_proves_its_name_is_used(
    own_redis: LocalServer, tmp_path: Path, name: str, trusted: bool, served: bool
) -> None:
    ca, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(tls)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with listening(LosingAnswers(own_redis.port, lost=1), tls) as url:
        ports = Ports(url + (f"?ssl_ca_certs={tmp_path}/ca.pem" if trusted else ""))
        if served:
            assert await ports.claim()
        else:
            unproven = "shows a certificate that does not prove who it is: ssl_ca_certs names its authority"
            assert await ports.refused() == {unproven}
        await ports.shared.close()


async def test_a_server_that_may_drop_keys_is_refused_at_the_start(own_redis: LocalServer, ports: Ports) -> None:
    await ports.shared.check()
    own_redis.client().config_set("maxmemory-policy", "volatile-lru")
    with pytest.raises(ConfigError) as refused:
        await ports.shared.check()
    assert refused.value.reason == "REDIS_EVICTS"


async def test_a_server_that_cannot_write_is_refused_at_the_start(own_redis: LocalServer, ports: Ports) -> None:
    read_only(own_redis)
    with pytest.raises(Unavailable, match="read-only"):
        await ports.shared.check()


async def test_the_ports_run_on_a_cluster_client_too(redis_cluster_url: str) -> None:
    shared = SharedRedis(RedisCluster.from_url(redis_cluster_url, decode_responses=True))
    guard = RedisReplayGuard(shared, lambda: NOW, prefix="test-cluster-client")
    won = await asyncio.gather(*(guard.claim("id-1", bytes(16), SOON) for _ in range(50)))
    await shared.close()
    assert won.count(True) == 1


async def test_keys_hold_neither_a_nonce_nor_a_quota_key(own_redis: LocalServer, ports: Ports) -> None:
    await ports.guard.claim("id-1", b"nonce-in-clear16", SOON)
    await ports.quota.take("agency-a/person-17", NOW.date(), 1)
    with own_redis.client() as client:
        keys = " ".join(client.scan_iter())
    assert "id-1" in keys
    assert "nonce-in-clear" not in keys
    assert "person-17" not in keys


async def test_all_keys_but_the_memory_of_nodes_and_the_list_of_processes_expire(
    own_redis: LocalServer, ports: Ports
) -> None:
    await ports.use_all()
    with own_redis.client() as client:
        lasting = {key for key in client.scan_iter() if client.ttl(key) == -1}
    assert lasting == {"comity:{presence}:last", "comity:{presence}:processes"}
