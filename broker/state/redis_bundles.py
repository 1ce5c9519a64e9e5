"""Nodes' policy bundles in Redis or Valkey, for several broker processes. Every operation is one Lua script."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence

from broker.state.interface import UNAVAILABLE, HeldBundle, require_bundle, require_nodes, require_version
from broker.state.redis import PREFIX, SharedRedis
from comity.errors import InvalidInput, Unavailable
from comity.federation import IDENTIFIER

LISTEN_AGAIN_S = 1.0
# Versions stay below 2^53, so that Lua's numbers hold them exactly.
_HOLD = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local minimum = tonumber(redis.call('HGET', KEYS[1], 'minimum') or '0')
local new = tonumber(ARGV[2])
if not version or not minimum then return redis.error_reply('ERR not a version') end
if new < minimum or new < version then return {ARGV[1], 0} end
if new == version then return {ARGV[1], redis.call('HGET', KEYS[1], 'digest') == ARGV[3] and 1 or 0} end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'digest', ARGV[3], 'data', ARGV[4])
redis.pcall('PUBLISH', ARGV[5], ARGV[6])
return {ARGV[1], 1}
"""
# What the asker knows already is not sent: a bundle may have 2 MiB, and every process asks for all, again and again.
_HELD = """
local known = redis.call('HMGET', KEYS[1], 'version', 'minimum')
local version, minimum = tonumber(known[1] or '0'), tonumber(known[2] or '0')
if not version or not minimum then return redis.error_reply('ERR not a version') end
if version <= tonumber(ARGV[2]) and minimum <= tonumber(ARGV[3]) then return {ARGV[1], {}} end
return {ARGV[1], redis.call('HMGET', KEYS[1], 'version', 'digest', 'data', 'minimum')}
"""
_MINIMUM = "return {ARGV[1], redis.call('HGET', KEYS[1], 'minimum') or '0'}"
_REVOKE = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local minimum = tonumber(redis.call('HGET', KEYS[1], 'minimum') or '0')
if not version or not minimum then return redis.error_reply('ERR not a version') end
if tonumber(ARGV[2]) > minimum then redis.call('HSET', KEYS[1], 'minimum', ARGV[2]) end
if version < tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], 'version', 'digest', 'data') end
redis.pcall('PUBLISH', ARGV[3], ARGV[4])
return {ARGV[1], 1}
"""


class RedisBundles:
    """A Bundles for any number of processes. What is read back is not trusted: its signatures are verified again."""

    def __init__(self, shared: SharedRedis, *, prefix: str = PREFIX) -> None:
        self._shared = shared
        self._prefix = f"{prefix}:bundle:"
        self._channel = f"{prefix}:bundles"

    async def hold(self, node_id: str, bundle: HeldBundle) -> bool:
        """As the port says."""
        require_bundle(node_id, bundle)
        data = b64encode(bundle.data).decode()
        content = (bundle.version, bundle.digest, data, self._channel, node_id)
        return bool(await self._shared.run(_HOLD, (self._key(node_id),), content) == 1)

    async def held(
        self, node_ids: Sequence[str], newer_than: Mapping[str, tuple[int, int]] | None = None
    ) -> Mapping[str, HeldBundle]:
        """As the port says."""
        require_nodes(node_ids)
        found = {}
        for node_id in node_ids:
            known = (newer_than or {}).get(node_id, (0, -1))
            answer = await self._shared.run(_HELD, (self._key(node_id),), known)
            if not answer or answer[0] is None:
                continue
            try:
                version, digest, data, minimum = answer
                held = HeldBundle(
                    version=int(version), digest=str(digest), data=b64decode(data), minimum=int(minimum or 0)
                )
                require_bundle(node_id, held)
            except (ValueError, TypeError, InvalidInput):
                raise Unavailable("the shared state holds a bundle that makes no sense", reason=UNAVAILABLE) from None
            found[node_id] = held
        return found

    async def hints(self) -> AsyncGenerator[str, None]:
        """As the port says. One connection beside the pool's others for as long as it is listened to."""
        while True:
            try:
                async with self._shared.listening(self._channel) as next_message:
                    while True:
                        node_id = await next_message()
                        # Empty: listening from now on, and whatever was said before is lost.
                        if node_id == "" or (node_id is not None and IDENTIFIER.match(node_id)):
                            yield node_id
            except Unavailable:
                await asyncio.sleep(LISTEN_AGAIN_S)

    async def minimum(self, node_id: str) -> int:
        """As the port says."""
        require_nodes((node_id,))
        answer = await self._shared.run(_MINIMUM, (self._key(node_id),))
        try:
            return int(answer)
        except (ValueError, TypeError):
            raise Unavailable("the shared state holds a version that makes no sense", reason=UNAVAILABLE) from None

    async def revoke(self, node_id: str, minimum: int) -> None:
        """As the port says."""
        require_nodes((node_id,))
        require_version(minimum)
        await self._shared.run(_REVOKE, (self._key(node_id),), (minimum, self._channel, node_id))

    def _key(self, node_id: str) -> str:
        return self._prefix + node_id
