"""Nodes' policies at the broker: taken up when a node shows them, held for every process, and pulled from there."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from audit.entry import Draft, policy_entry
from broker.links import Links
from broker.ports import Bundles
from broker.state.interface import HeldBundle
from comity.errors import InvalidInput, NotAuthentic, PolicyError
from identity.directory import Directory
from policies.published import Published, open_published

OLDER = "POLICY_OLDER"

Record = Callable[[list[Draft]], Awaitable[object]]  # returns when they are durable


async def take_up(
    data: bytes, directory: Directory, bundles: Bundles, node: str, old: Published | None, now: dt.datetime
) -> Published:
    """The policy in a bundle that the node shows, held from now on, with the busiest classes of `old` decided.

    Raises:
        NotAuthentic, PolicyError, InvalidInput: as `open_published`; POLICY_OLDER, POLICY_REVOKED.
        Exhausted, Unavailable: it cannot be held for certain.
    """
    published = open_published(data, directory, node, now)
    if old is not None and published.version < old.version:
        raise PolicyError("older than the policy that is in force", reason=OLDER)
    held = HeldBundle(version=published.version, digest=published.bundle_hash.hex(), data=data)
    if not await bundles.hold(node, held):
        minimum = await bundles.minimum(node)
        if published.version < minimum:
            raise PolicyError(f"versions before {minimum} are revoked", reason="POLICY_REVOKED")
        raise PolicyError("older than the policy that is held, or another one of its version", reason=OLDER)
    if old is not None and old.policy is not published.policy:
        await asyncio.to_thread(published.policy.warm, old.policy)
    return published


async def stands_under_older(
    data: bytes, directory: Directory, bundles: Bundles, links: Links, node: str, now: dt.datetime, record: Record
) -> Published | None:
    """The policy in a bundle that was refused as older, if a newer valid one of the node is known; else None.

    Such a node may stay: whatever the newer one permits it refuses by itself, and says so.

    Raises:
        NotAuthentic, PolicyError, InvalidInput: as `open_published`.
        Unavailable: nobody can say what is held, or it could not be recorded.
    """
    shown = open_published(data, directory, node, now)
    await pull([node], directory, bundles, links, now, record)
    newer = links.published(node)
    if newer is None or newer.version < shown.version or now >= newer.valid_to:
        return None
    return shown


async def pull(
    nodes: Iterable[str],
    directory: Directory,
    bundles: Bundles,
    links: Links,
    now: dt.datetime,
    record: Record | None = None,
) -> tuple[str, ...]:
    """Take up what other processes hold and this one has never seen, or only an older version of. Returns the nodes.

    What is not validly signed any more, or has expired, is left: the node itself will show a new one. Each is
    recorded before it decides.

    Raises:
        Unavailable: nobody can say what is held.
        Exhausted, LogBroken: it could not be recorded.
    """
    taken = []
    names = sorted(nodes)
    for node, held in (await bundles.held(names, links.known(names))).items():
        try:
            published = await asyncio.to_thread(open_published, held.data, directory, node, now)
        except (NotAuthentic, PolicyError, InvalidInput):
            continue
        async with links.taking_up(node):
            known = links.published(node)
            newer = known is None or known.version < published.version
            if newer and record is not None:
                await record([taken_up_entry(published)])
            links.learn(published, held.minimum)
        if newer:
            taken.append(node)
    return tuple(taken)


async def follow(
    hints: AsyncIterator[str], look: Callable[[str], Awaitable[object]], missed: Callable[[str, Exception], None]
) -> None:
    """Look for every hint, an empty one too, until there are none any more; `missed` hears of a look that failed.

    No hint makes this process deaf to the next, and one that is lost costs the wait for the next pull.
    """
    async for node in hints:
        try:
            await look(node)
        except Exception as error:
            missed(node, error)


def taken_up_entry(published: Published, *, published_by: str = "", revoked_below: int = 0) -> Draft:
    """The log entry that says from where on the broker decides by this policy, and who brought it if not the node."""
    return policy_entry(
        node=published.node,
        digest=published.policy.digest,
        version=published.version,
        bundle_hash=published.bundle_hash,
        taken_up=True,
        published_by=published_by,
        revoked_below=revoked_below,
    )


def refused_entry(node: str, shown: bytes, reason: str, *, published_by: str = "") -> Draft:
    """The log entry that says that a bundle was refused; `shown`: its hash."""
    return policy_entry(
        node=node,
        digest="",
        version=0,
        bundle_hash=shown,
        taken_up=False,
        reason=reason,
        published_by=published_by,
    )
