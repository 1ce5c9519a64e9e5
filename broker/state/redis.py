"""The shared state in Redis or Valkey, for several broker processes.

Every operation is one Lua script, so that it happens whole or not at all. A script's keys share one hash tag, hence
one slot, so the same scripts run on a cluster. For replay that puts all claims on one shard: a claim is two keys for
some minutes, and one shard does far more of them than a federation asks searches; the alternative, one slot a key
and a rollback, would leave an id burned whenever the second shard fails.

Keys hold inquiry ids, hashes, node ids and addresses; never a plate, a person or a secret.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import exceptions as rx
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broker.state.interface import (
    UNAVAILABLE,
    Clock,
    from_micros,
    hold_for,
    quota_ends_in,
    require_address,
    require_nodes,
    require_ttl,
    to_micros,
)
from comity.errors import ConfigError, Unavailable

TIMEOUT_S = 0.5  # to connect, to be answered, to get a connection of the pool
DEADLINE_S = 1.5  # all of one operation, its one retry included: a server that sends a byte now and then ends here
CONNECTIONS = 32
LISTEN_S = 30.0  # for one message of a channel; then it is looked whether the connection still stands
PREFIX = "comity"
MOST_CAUSES = 8

# A query wins over every setting made here: `?ssl_cert_reqs=none` would switch off TLS's check of the server.
TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_DATABASE = re.compile(r"(/\d{0,4})?\Z")

# ARGV[1] is a token made for the call; every script returns it first.
_CLAIM = """
local id, nonce = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not id and not nonce then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {ARGV[1], 1}
end
if id == ARGV[1] and nonce == ARGV[1] then return {ARGV[1], 1} end
return {ARGV[1], 0}
"""
_TAKE = """
local taken = tonumber(redis.call('GET', KEYS[1]) or '0')
if not taken or taken < 0 then return redis.error_reply('ERR not a count') end
if taken >= tonumber(ARGV[2]) then return {ARGV[1], 0} end
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[1], 1}
"""
_SEE = """
for i = 4, #ARGV do
  local last = redis.call('HGET', KEYS[1], ARGV[i])
  if not last or tonumber(last) < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[3]) end
end
if redis.call('EXISTS', KEYS[2]) == 0 then return {ARGV[1], 0} end
for i = 4, #ARGV do
  if ARGV[2] == 'attached' then redis.call('HSET', KEYS[2], ARGV[i], '1') else redis.call('HDEL', KEYS[2], ARGV[i]) end
end
return {ARGV[1], 1}
"""
_REGISTER = """
redis.call('HSET', KEYS[2], '', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[1], ARGV[2])
return {ARGV[1], 1}
"""
_UNREGISTER = """
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[1], ARGV[2])
return {ARGV[1], 1}
"""
_INDEX = "return {ARGV[1], redis.call('SMEMBERS', KEYS[1])}"
_LIVE = """
local live = {}
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then live[#live + 1] = ARGV[i] else redis.call('SREM', KEYS[1], ARGV[i]) end
end
return {ARGV[1], live}
"""
_FIELDS = """
local found = {}
for i = 2, #ARGV do found[i - 1] = redis.call('HGET', KEYS[1], ARGV[i]) or '' end
return {ARGV[1], found}
"""
_CHECK = """
redis.call('SET', KEYS[1], '1', 'PX', 1000)
return {ARGV[1], redis.call('INFO', 'memory')}
"""


class SharedRedis:
    """One pool of connections, and the only place where the client's errors become ours."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client

    @classmethod
    def open(cls, url: str) -> SharedRedis:
        """A pool for `redis://`, `rediss://` or `unix://`; it connects when first used.

        Raises:
            ConfigError: the address is malformed or asks for more than paths of TLS files; it is not repeated in
                the message, for it may hold a password.
        """
        pool = None
        try:
            parts = urlsplit(url)
            plain = parts.scheme == "unix" or _DATABASE.match(parts.path)  # the client takes `/one` for database 0
            if plain and set(parse_qs(parts.query, keep_blank_values=True)) <= TLS_OPTIONS:
                pool = BlockingConnectionPool.from_url(
                    url,
                    timeout=TIMEOUT_S,
                    max_connections=CONNECTIONS,
                    socket_timeout=TIMEOUT_S,
                    socket_connect_timeout=TIMEOUT_S,
                    retry=Retry(NoBackoff(), 1, supported_errors=(rx.ConnectionError,)),
                    decode_responses=True,
                    protocol=2,
                )
        except ValueError:
            pass  # its text repeats a part of the address
        if pool is None:
            raise ConfigError(
                "redis_url in broker.toml must be redis://, rediss:// or unix://, with no options but those of TLS: "
                f"{', '.join(sorted(TLS_OPTIONS))}",
                reason="BAD_REDIS_URL",
            )
        return cls(Redis.from_pool(pool))

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int] = ()) -> Any:
        """What the script returns beside the token.

        An answer left over on a connection from a call that was cancelled must never become somebody's permission:
        the token shows that the answer is to this call. It stays the same in the retry, so that a claim whose
        answer was lost is found again as our own.

        Raises:
            Unavailable: whatever went wrong. The server's own words are dropped: they may repeat arguments.
        """
        token = secrets.token_hex(16)
        what = "gave an answer to another question"
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await self._client.eval(script, len(keys), *keys, token, *args)
            if isinstance(answer, list) and len(answer) == 2 and answer[0] == token:
                return answer[1]
        except _FAULTS as error:
            what = _words(error)
        # Raised outside the handler, so that no traceback carries the client's error as its context.
        raise Unavailable(f"the shared state {what}", reason=UNAVAILABLE)

    async def check(self) -> None:
        """Nothing, if the server answers, is writable and never drops keys to make room.

        Raises:
            ConfigError: REDIS_EVICTS: an evicted claim is a replay let through.
            Unavailable: no answer, or a server that does not take writes.
        """
        info, what = None, ""
        try:
            info = await self.run(_CHECK, (f"{PREFIX}:check",))
        except Unavailable as error:
            what = str(error)
        if what:
            raise Unavailable(f"{what}: look at redis_url in broker.toml and at that server", reason=UNAVAILABLE)
        policies = [line[17:].strip() for line in str(info).splitlines() if line.startswith("maxmemory_policy:")]
        if policies != ["noeviction"]:
            raise ConfigError(
                "the shared state may drop keys: set maxmemory-policy noeviction at the server that redis_url names",
                reason="REDIS_EVICTS",
            )

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Callable[[], Awaitable[str | None]]]:
        """What waits for the next message of the channel: its text, or None if none came for a while.

        Empty whenever listening begins, which it also does anew, by itself, after a connection was lost.

        Raises:
            Unavailable: the connection is lost, or was never made, and with it whatever was said since.
        """
        what = "has no channels here"
        try:
            if not isinstance(self._client, Redis):
                raise rx.RedisError
            async with self._client.pubsub() as heard:
                await heard.subscribe(channel)

                async def next_message() -> str | None:
                    message = await heard.get_message(timeout=LISTEN_S)
                    if message is None:
                        return None
                    return str(message["data"]) or None if message["type"] == "message" else ""

                yield next_message
        except _FAULTS as error:
            what = _words(error)
        raise Unavailable(f"the shared state {what}", reason=UNAVAILABLE)

    async def close(self) -> None:
        """All connections are closed."""
        await self._client.aclose()


class RedisReplayGuard:
    """A ReplayGuard for any number of processes."""

    def __init__(self, shared: SharedRedis, clock: Clock, *, prefix: str = PREFIX) -> None:
        self._shared = shared
        self._clock = clock
        self._prefix = f"{prefix}:{{replay}}"

    async def claim(self, inquiry_id: str, nonce: bytes, until: dt.datetime) -> bool:
        """As the port says."""
        held = hold_for(self._clock(), inquiry_id, nonce, until)
        keys = (f"{self._prefix}:id:{inquiry_id}", f"{self._prefix}:nonce:{_hashed(nonce)}")
        return bool(await self._shared.run(_CLAIM, keys, (_millis(held),)) == 1)


class RedisQuota:
    """A Quota for any number of processes."""

    def __init__(self, shared: SharedRedis, clock: Clock, *, prefix: str = PREFIX) -> None:
        self._shared = shared
        self._clock = clock
        self._prefix = prefix

    async def take(self, key: str, day: dt.date, limit: int) -> bool:
        """As the port says."""
        ends_in = quota_ends_in(self._clock(), key, day, limit)
        name = f"{self._prefix}:quota:{day.isoformat()}:{_hashed(key.encode())}"
        return bool(await self._shared.run(_TAKE, (name,), (limit, _millis(ends_in))) == 1)


class RedisPresence:
    """A Presence for any number of processes.

    A process is a key that lives for the process's ttl and holds the nodes attached to it, so that both go together
    when the process dies; an index lists the addresses.
    """

    def __init__(self, shared: SharedRedis, *, prefix: str = PREFIX) -> None:
        self._shared = shared
        self._last = f"{prefix}:{{presence}}:last"
        self._index = f"{prefix}:{{presence}}:processes"
        self._process = f"{prefix}:{{presence}}:process:"

    async def attached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """As the port says."""
        await self._see("attached", (node_id,), process, at)

    async def touch(self, node_ids: Sequence[str], process: str, at: dt.datetime) -> None:
        """As the port says."""
        await self._see("attached", node_ids, process, at)

    async def detached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """As the port says."""
        await self._see("detached", (node_id,), process, at)

    async def last_attached_at(self, node_ids: Sequence[str]) -> Mapping[str, dt.datetime | None]:
        """As the port says."""
        require_nodes(node_ids)
        found = await self._fields(self._last, node_ids)
        try:
            return {n: from_micros(int(micros)) if micros else None for n, micros in found.items()}
        except (ValueError, OverflowError):
            raise Unavailable("the shared state holds a time that makes no sense", reason=UNAVAILABLE) from None

    async def attached_to(self, node_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """As the port says."""
        require_nodes(node_ids)
        where: dict[str, tuple[str, ...]] = dict.fromkeys(node_ids, ())
        for address in await self.processes():
            for node_id, here in (await self._fields(self._process + address, node_ids)).items():
                if here:
                    where[node_id] += (address,)
        return where

    async def register_process(self, address: str, ttl: dt.timedelta) -> None:
        """As the port says."""
        require_address(address)
        require_ttl(ttl)
        await self._shared.run(_REGISTER, (self._index, self._process + address), (address, _millis(ttl)))

    async def unregister_process(self, address: str) -> None:
        """As the port says."""
        require_address(address)
        await self._shared.run(_UNREGISTER, (self._index, self._process + address), (address,))

    async def processes(self) -> tuple[str, ...]:
        """As the port says. Addresses of dead processes leave the index on the way."""
        known = await self._shared.run(_INDEX, (self._index,))
        live = await self._shared.run(_LIVE, (self._index, *(self._process + a for a in known)), known)
        return tuple(sorted(live))

    async def _see(self, how: str, node_ids: Sequence[str], process: str, at: dt.datetime) -> None:
        require_nodes(node_ids)
        require_address(process)
        await self._shared.run(_SEE, (self._last, self._process + process), (how, to_micros(at), *node_ids))

    async def _fields(self, key: str, names: Sequence[str]) -> Mapping[str, str]:
        return dict(zip(names, await self._shared.run(_FIELDS, (key,), names), strict=True))


# ValueError and EOFError: what the client raises when the bytes it reads are not its protocol.
_FAULTS = (rx.RedisError, rx.RedisClusterException, OSError, EOFError, ValueError)

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (rx.AuthenticationError, "does not accept our credentials"),
    (rx.AuthorizationError, "does not accept our credentials"),
    (rx.AuthenticationWrongNumberOfArgsError, "does not accept our credentials"),
    (rx.NoPermissionError, "does not permit what we need"),
    (rx.BusyLoadingError, "is still loading"),
    (rx.ReadOnlyError, "is read-only"),
    (rx.OutOfMemoryError, "is out of memory"),
    (rx.TimeoutError, "did not answer in time"),
    (TimeoutError, "did not answer in time"),
    (rx.ConnectionError, "cannot be reached"),
    (OSError, "cannot be reached"),
)


def _words(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "shows a certificate that does not prove who it is: ssl_ca_certs names its authority"
        if isinstance(cause, ssl.SSLError):
            return "cannot be spoken to in TLS"
        if isinstance(cause, FileNotFoundError):
            return "cannot be reached: a file that its address names is not there"
    return next((words for kind, words in _WORDS if isinstance(error, kind)), "gave an answer that makes no sense")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The client wraps what the connection met."""
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _hashed(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _millis(span: dt.timedelta) -> int:
    return max(1, -(-span // dt.timedelta(milliseconds=1)))
