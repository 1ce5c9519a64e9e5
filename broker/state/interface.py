"""The ports of the shared state, and the limits that every adapter holds.

What the state cannot answer for certain raises `Unavailable`; no port ever answers "yes" by default.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from comity.errors import InvalidInput, Violation
from comity.federation import IDENTIFIER

Clock = Callable[[], dt.datetime]

UNAVAILABLE = "SHARED_STATE_UNAVAILABLE"
FULL = "SHARED_STATE_FULL"

NONCE_BYTES = 16
MARGIN = dt.timedelta(minutes=5)  # how far the clocks of two brokers may differ without letting a replay in
LONGEST_HOLD = dt.timedelta(hours=25)  # an inquiry waiting for its approval lives 24 h; the rest is clock difference
LONGEST_PROCESS_TTL = dt.timedelta(hours=1)
MOST_NODES = 10_000
MOST_QUOTA = 1_000_000_000
MOST_BUNDLE_BYTES = 2 * 1024 * 1024

_INQUIRY_ID = re.compile(r"[0-9A-Za-z-]{1,64}\Z")
_ADDRESS = re.compile(r"[0-9A-Za-z.:_\[\]-]{1,255}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class ReplayGuard(Protocol):
    """Each inquiry is accepted once, whichever broker process it reaches."""

    async def claim(self, inquiry_id: str, nonce: bytes, until: dt.datetime) -> bool:
        """True exactly once for the inquiry id and once for the nonce, until `until` plus MARGIN.

        False claims nothing: a fresh id sent with a used nonce stays fresh. After `Unavailable` the claim may
        or may not be held, so the inquiry cannot be used again.

        Raises:
            InvalidInput: an id, nonce or time that no well-formed inquiry has.
            Exhausted: no room to remember one more (only the in-process adapter).
            Unavailable: the claim could not be made for certain.
        """
        ...


class Presence(Protocol):
    """Which broker processes live, which nodes are attached to them, and when each node was last seen attached."""

    async def attached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """The node is attached to the process.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...

    async def touch(self, node_ids: Sequence[str], process: str, at: dt.datetime) -> None:
        """All of `node_ids` are still attached to the process. Restores attachments after the process lapsed.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...

    async def detached(self, node_id: str, process: str, at: dt.datetime) -> None:
        """The node was attached to the process until `at`.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...

    async def last_attached_at(self, node_ids: Sequence[str]) -> Mapping[str, dt.datetime | None]:
        """The latest time each node is known to have been attached to any process; None if never. Never goes back.

        Raises:
            InvalidInput, Unavailable.
        """
        ...

    async def attached_to(self, node_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The live processes each node is attached to, in order of address; of a dead process, nothing.

        Raises:
            InvalidInput, Unavailable.
        """
        ...

    async def register_process(self, address: str, ttl: dt.timedelta) -> None:
        """The process lives for `ttl` more (1 ms to 1 h); repeat it well before that.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...

    async def unregister_process(self, address: str) -> None:
        """The process is gone at once, with its attachments. Idempotent.

        Raises:
            InvalidInput, Unavailable.
        """
        ...

    async def processes(self) -> tuple[str, ...]:
        """Addresses of the live broker processes, sorted.

        Raises:
            Unavailable.
        """
        ...


class Quota(Protocol):
    """How often a person or an agency did something on a UTC day."""

    async def take(self, key: str, day: dt.date, limit: int) -> bool:
        """True, and one is counted, while fewer than `limit` were taken on `day`; False counts nothing.

        Never grants more than `limit`, whatever the number of processes. A connection lost during the call may
        cost a count that nobody used.

        Raises:
            InvalidInput: an empty or endless key, a negative limit, or a day more than one away from today: its
                count may be forgotten already.
            Exhausted: no room for one more count (only the in-process adapter).
            Unavailable: the count could not be made for certain.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """A node's signed bundle. `digest`: SHA-256 of its payload in hex; `data`: the signed file, not trusted.

    `minimum`: the node's, as the store answers; versions below are revoked.
    """

    version: int
    digest: str
    data: bytes = field(repr=False)
    minimum: int = 0


class Bundles(Protocol):
    """The newest policy bundle that any broker process has taken up of each node. It never goes back."""

    async def hold(self, node_id: str, bundle: HeldBundle) -> bool:
        """True if it is held now, or was: newer than the one held, or that very one. False, and nothing changes, for
        an older one, another one of the same version, or one below the node's minimum.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...

    async def held(
        self, node_ids: Sequence[str], newer_than: Mapping[str, tuple[int, int]] | None = None
    ) -> Mapping[str, HeldBundle]:
        """What is held of these nodes; those of which nothing is held are left out, and so are those whose version
        and minimum are no higher than `newer_than` says.

        Raises:
            InvalidInput, Unavailable.
        """
        ...

    def hints(self) -> AsyncGenerator[str, None]:
        """Node ids of which something may be new, and an empty one whenever hints may have been lost.

        Never ends and raises nothing of the store's: what hints do not tell, a look into the store does.
        """
        ...

    async def minimum(self, node_id: str) -> int:
        """The version below which the node's bundles are revoked; 0 if none is.

        Raises:
            InvalidInput, Unavailable.
        """
        ...

    async def revoke(self, node_id: str, minimum: int) -> None:
        """From now on no bundle below `minimum` is held, and one that is held is dropped. Never lowers the minimum.

        Raises:
            InvalidInput, Exhausted, Unavailable.
        """
        ...


def require_bundle(node_id: str, bundle: HeldBundle) -> None:
    """Nothing, if this can be a node's bundle.

    Raises:
        InvalidInput.
    """
    require_nodes((node_id,))
    require_version(bundle.version)
    if not _DIGEST.match(bundle.digest) or not 0 < len(bundle.data) <= MOST_BUNDLE_BYTES:
        what = f"a digest in hex, and 1 to {MOST_BUNDLE_BYTES} bytes"
        raise InvalidInput("not a bundle", violations=[Violation("bundle", what)])


def require_version(version: int) -> None:
    """Nothing, if a bundle may have this version.

    Raises:
        InvalidInput.
    """
    if not 1 <= version < 2**53:
        raise InvalidInput("not a version", violations=[Violation("version", "from 1, below 2^53")])


def hold_for(now: dt.datetime, inquiry_id: str, nonce: bytes, until: dt.datetime) -> dt.timedelta:
    """How long a claim must be kept from `now`: MARGIN at least, LONGEST_HOLD at most.

    Raises:
        InvalidInput: naming every bad part; the values themselves are not repeated.
    """
    bad = []
    if not _INQUIRY_ID.match(inquiry_id):
        bad.append(Violation("inquiry_id", "1 to 64 letters, digits and hyphens"))
    if len(nonce) != NONCE_BYTES:
        bad.append(Violation("nonce", f"{NONCE_BYTES} bytes"))
    if until.tzinfo is None:
        bad.append(Violation("expires_at", "a time with its zone"))
    elif until - now + MARGIN > LONGEST_HOLD:
        bad.append(Violation("expires_at", "24 hours ahead at most"))
    if bad:
        raise InvalidInput("the inquiry cannot be claimed", violations=bad)
    return max(until - now, dt.timedelta()) + MARGIN


def require_nodes(node_ids: Sequence[str]) -> None:
    """Nothing, if these are node ids and not too many.

    Raises:
        InvalidInput.
    """
    if len(node_ids) > MOST_NODES or not all(IDENTIFIER.match(n) for n in node_ids):
        what = f"at most {MOST_NODES} registered identifiers"
        raise InvalidInput("not node ids", violations=[Violation("node_ids", what)])


def require_address(address: str) -> None:
    """Nothing, if this can be the address of a process.

    Raises:
        InvalidInput.
    """
    if not _ADDRESS.match(address):
        raise InvalidInput("not an address", violations=[Violation("process", "host:port, 255 characters at most")])


def require_ttl(ttl: dt.timedelta) -> None:
    """Nothing, if a process may be alive that long without a word.

    Raises:
        InvalidInput.
    """
    if not dt.timedelta(milliseconds=1) <= ttl <= LONGEST_PROCESS_TTL:
        raise InvalidInput("not a time to live", violations=[Violation("ttl", "1 ms to 1 h")])


def quota_ends_in(now: dt.datetime, key: str, day: dt.date, limit: int) -> dt.timedelta:
    """How long the count must be kept from `now`: to the end of `day` in UTC, and a day more for other clocks.

    Raises:
        InvalidInput: naming every bad part; the key itself is not repeated.
    """
    bad = []
    if not 1 <= len(key) <= 512:
        bad.append(Violation("key", "1 to 512 characters"))
    if not 0 <= limit <= MOST_QUOTA:
        bad.append(Violation("limit", f"0 to {MOST_QUOTA}"))
    if abs((day - now.astimezone(dt.UTC).date()).days) > 1:
        bad.append(Violation("day", "today, one day more or less"))
    if bad:
        raise InvalidInput("the quota cannot be counted", violations=bad)
    end = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=2)
    return end - now


def to_micros(at: dt.datetime) -> int:
    """Microseconds since 1970 in UTC.

    Raises:
        InvalidInput: a time without its zone, or before 1970.
    """
    if at.tzinfo is None or at < _EPOCH:
        raise InvalidInput("not a time", violations=[Violation("at", "a time with its zone, after 1970")])
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> dt.datetime:
    """The inverse of `to_micros`, in UTC."""
    return _EPOCH + micros * _MICROSECOND
