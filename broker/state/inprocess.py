"""The shared state of a broker that runs alone: in memory, gone when it stops, but for what `folder` keeps.

Every structure is bounded. One that is full of entries still needed raises `Exhausted`: forgetting one to make room
would let a replay or an extra search through.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from broker.state.interface import (
    FULL,
    Clock,
    HeldBundle,
    from_micros,
    hold_for,
    quota_ends_in,
    require_address,
    require_bundle,
    require_nodes,
    require_ttl,
    require_version,
    to_micros,
)
from comity.errors import Exhausted

MOST_HINTS = 10_000  # waiting for one listener; what is more is lost, as hints may be


class InProcessReplayGuard:
    """A ReplayGuard for one process; `capacity` claims at a time, about 0.5 kB each."""

    def __init__(self, clock: Clock, *, capacity: int = 200_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._ids: set[str] = set()
        self._nonces: set[bytes] = set()
        self._ends: list[tuple[dt.datetime, str, bytes]] = []

    async def claim(self, inquiry_id: str, nonce: bytes, until: dt.datetime) -> bool:
        """As the port says."""
        now = self._clock()
        held = hold_for(now, inquiry_id, nonce, until)
        while self._ends and self._ends[0][0] <= now:
            _, old_id, old_nonce = heapq.heappop(self._ends)
            self._ids.discard(old_id)
            self._nonces.discard(old_nonce)
        if inquiry_id in self._ids or nonce in self._nonces:
            return False
        if len(self._ends) >= self._capacity:
            raise _full("inquiries remembered", self._ends[0][0] - now)
        self._ids.add(inquiry_id)
        self._nonces.add(nonce)
        heapq.heappush(self._ends, (now + held, inquiry_id, nonce))
        return True


class InProcessPresence:
    """A Presence for one process; remembers `most_nodes` nodes and `most_processes` processes."""

    def __init__(self, clock: Clock, *, most_nodes: int = 10_000, most_processes: int = 100) -> None:
        self._clock = clock
        self._most_nodes = most_nodes
        self._most_processes = most_processes
        self._last: dict[str, int] = {}
        self._live: dict[str, tuple[dt.datetime, set[str]]] = {}

    async def attached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """As the port says."""
        await self.touch((node_id,), process, at)

    async def touch(self, node_ids: Sequence[str], process: str, at: dt.datetime) -> None:
        """As the port says."""
        self._see(node_ids, process, at)
        self._prune()
        if process in self._live:
            self._live[process][1].update(node_ids)

    async def detached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """As the port says."""
        self._see((node_id,), process, at)
        if process in self._live:
            self._live[process][1].discard(node_id)

    async def last_attached_at(self, node_ids: Sequence[str]) -> Mapping[str, dt.datetime | None]:
        """As the port says."""
        require_nodes(node_ids)
        return {n: from_micros(self._last[n]) if n in self._last else None for n in node_ids}

    async def attached_to(self, node_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """As the port says."""
        require_nodes(node_ids)
        self._prune()
        return {n: tuple(sorted(p for p, (_, nodes) in self._live.items() if n in nodes)) for n in node_ids}

    async def register_process(self, address: str, ttl: dt.timedelta) -> None:
        """As the port says."""
        require_address(address)
        require_ttl(ttl)
        self._prune()
        if address not in self._live and len(self._live) >= self._most_processes:
            raise _full("broker processes", ttl)
        nodes = self._live[address][1] if address in self._live else set()
        self._live[address] = (self._clock() + ttl, nodes)

    async def unregister_process(self, address: str) -> None:
        """As the port says."""
        require_address(address)
        self._live.pop(address, None)

    async def processes(self) -> tuple[str, ...]:
        """As the port says."""
        self._prune()
        return tuple(sorted(self._live))

    def _see(self, node_ids: Sequence[str], process: str, at: dt.datetime) -> None:
        require_nodes(node_ids)
        require_address(process)
        micros = to_micros(at)
        if len(self._last.keys() | set(node_ids)) > self._most_nodes:
            raise _full("nodes remembered", dt.timedelta(hours=1))
        for node_id in node_ids:
            self._last[node_id] = max(micros, self._last.get(node_id, 0))

    def _prune(self) -> None:
        now = self._clock()
        for address in [a for a, (end, _) in self._live.items() if end <= now]:
            del self._live[address]


class InProcessQuota:
    """A Quota for one process; `capacity` keys and days at a time."""

    def __init__(self, clock: Clock, *, capacity: int = 200_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._counts: dict[dt.date, dict[str, int]] = {}

    async def take(self, key: str, day: dt.date, limit: int) -> bool:
        """As the port says."""
        now = self._clock()
        ends_in = quota_ends_in(now, key, day, limit)
        today = now.astimezone(dt.UTC).date()
        for old in [d for d in self._counts if (today - d).days > 1]:
            del self._counts[old]
        taken = self._counts.get(day, {}).get(key, 0)
        if taken >= limit:
            return False
        if not taken and sum(map(len, self._counts.values())) >= self._capacity:
            raise _full("quotas counted", ends_in)
        self._counts.setdefault(day, {})[key] = taken + 1
        return True


class InProcessBundles:
    """A Bundles for one process, of at most `most_nodes` nodes."""

    def __init__(self, *, most_nodes: int = 10_000) -> None:
        self._most_nodes = most_nodes
        self._held: dict[str, HeldBundle] = {}
        self._minimum: dict[str, int] = {}
        self._listening: set[asyncio.Queue[str]] = set()
        self._changing = asyncio.Lock()

    async def hold(self, node_id: str, bundle: HeldBundle) -> bool:
        """As the port says."""
        require_bundle(node_id, bundle)
        return await asyncio.shield(self._hold(node_id, bundle))

    async def held(
        self, node_ids: Sequence[str], newer_than: Mapping[str, tuple[int, int]] | None = None
    ) -> Mapping[str, HeldBundle]:
        """As the port says."""
        require_nodes(node_ids)
        found = {}
        for n in node_ids:
            version, minimum = (newer_than or {}).get(n, (0, -1))
            least = self._minimum.get(n, 0)
            if n in self._held and (self._held[n].version > version or least > minimum):
                found[n] = replace(self._held[n], minimum=least)
        return found

    async def hints(self) -> AsyncGenerator[str, None]:
        """As the port says."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listening.add(queue)
        try:
            yield ""
            while True:
                yield await queue.get()
        finally:
            self._listening.discard(queue)

    async def minimum(self, node_id: str) -> int:
        """As the port says."""
        require_nodes((node_id,))
        return self._minimum.get(node_id, 0)

    async def revoke(self, node_id: str, minimum: int) -> None:
        """As the port says."""
        require_nodes((node_id,))
        require_version(minimum)
        await asyncio.shield(self._revoke(node_id, minimum))

    async def keep(self, node_id: str, held: HeldBundle | None, minimum: int) -> None:
        """Called with each change before it holds; nothing changes if it raises. Here nothing is kept."""

    # A caller that leaves in the middle, which a shield lets it, must not part what is kept from what is held.
    async def _hold(self, node_id: str, bundle: HeldBundle) -> bool:
        async with self._changing:
            old, minimum = self._held.get(node_id), self._minimum.get(node_id, 0)
            if bundle.version < minimum:
                return False
            if old is not None and bundle.version <= old.version:
                return (bundle.version, bundle.digest) == (old.version, old.digest)
            self._room(node_id)
            await self.keep(node_id, bundle, minimum)
            self._held[node_id] = replace(bundle, minimum=0)
            self._hint(node_id)
            return True

    async def _revoke(self, node_id: str, minimum: int) -> None:
        async with self._changing:
            self._room(node_id)
            held, least = self._held.get(node_id), max(minimum, self._minimum.get(node_id, 0))
            if held is not None and held.version < least:
                held = None
            if least != self._minimum.get(node_id, 0):
                await self.keep(node_id, held, least)
            self._minimum[node_id] = least
            if held is None:
                self._held.pop(node_id, None)
            self._hint(node_id)

    def _hint(self, node_id: str) -> None:
        for queue in self._listening:
            if queue.qsize() < MOST_HINTS:
                queue.put_nowait(node_id)

    def _room(self, node_id: str) -> None:
        if len(self._held.keys() | self._minimum.keys() | {node_id}) > self._most_nodes:
            raise _full("nodes' policies", dt.timedelta(hours=1))


def _full(quota: str, retry_after: dt.timedelta) -> Exhausted:
    return Exhausted(
        f"no room for more {quota}", retry_after_s=max(retry_after.total_seconds(), 1.0), quota=quota, reason=FULL
    )
