"""Nodes' policies at the broker: taken up when a node shows them, held for every process, and pulled from there."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable

from broker.links import Links
from broker.ports import Bundles
from broker.state.interface import HeldBundle
from comity.errors import InvalidInput, NotAuthentic, PolicyError
from identity.directory import Directory
from policies.published import Published, open_published


async def take_up(
    data: bytes, directory: Directory, bundles: Bundles, node: str, old: Published | None, now: dt.datetime
) -> Published:
    """The policy in a bundle that the node shows, held from now on, with the busiest classes of `old` decided.

    Raises:
        NotAuthentic, PolicyError, InvalidInput: as `open_published`; POLICY_OLDER.
        Exhausted, Unavailable: it cannot be held for certain.
    """
    published = open_published(data, directory, node, now)
    if old is not None and published.version < old.version:
        raise PolicyError("older than the policy that is in force", reason="POLICY_OLDER")
    held = HeldBundle(version=published.version, digest=published.bundle_hash.hex(), data=data)
    if not await bundles.hold(node, held):
        message = "older than the policy that is held, or another one of its version, or revoked"
        raise PolicyError(message, reason="POLICY_OLDER")
    if old is not None and old.policy is not published.policy:
        await asyncio.to_thread(published.policy.warm, old.policy)
    return published


async def pull(
    nodes: Iterable[str], directory: Directory, bundles: Bundles, links: Links, now: dt.datetime
) -> tuple[str, ...]:
    """Take up what other processes hold and this one has never seen, or only an older version of. Returns the nodes.

    What is not validly signed any more, or has expired, is left: the node itself will show a new one.

    Raises:
        Unavailable: nobody can say what is held.
    """
    taken = []
    for node, held in (await bundles.held(sorted(nodes))).items():
        known = links.published(node)
        if known is not None and held.version <= known.version:
            continue
        try:
            links.learn(await asyncio.to_thread(open_published, held.data, directory, node, now))
        except (NotAuthentic, PolicyError, InvalidInput):
            continue
        taken.append(node)
    return tuple(taken)
