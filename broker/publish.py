"""A policy that its agency publishes: known to the federation before the node shows it, and never instead of it.

1 whose       the caller is of the node's own agency, in a role that answers for it
2 take up     signatures, dates, version: all as when the node itself shows it
3 record      durable, with who brought it
4 decide by   here at once, elsewhere as soon as the shared state is looked into
5 ask         the node, which alone decides whether it stands under the same
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from audit.log import DecisionLog
from broker.links import Links
from broker.policies import pull, refused_entry, take_up, taken_up_entry
from broker.ports import Bundles, Clock
from comity.errors import InvalidInput, NotAllowed, NotAuthentic, PolicyError, Violation
from identity.directory import Directory
from identity.verify import Identity
from policies.published import Published

# Who answers for what an agency's own people may do. An investigator is bound by the policy and must not choose the
# moment at which it binds; an auditor must not change what they watch.
PUBLISHERS = frozenset({"supervisor", "node-operator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the federation knows now. `shown`: what the node itself showed last here, None while it is not attached."""

    published: Published
    minimum: int
    shown: Published | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """What it takes to publish; one for the life of the process."""

    directory: Directory
    bundles: Bundles
    links: Links
    log: DecisionLog
    clock: Clock

    async def publish(self, node: str, data: bytes, by: Identity, *, revoke_older: bool) -> Known:
        """The bundle is what the broker decides by for `node`, unless it already decided by a newer one.

        The same bundle again changes nothing and is no fault.

        Raises:
            InvalidInput: no such node, or the bundle is not whole.
            NotAllowed: OTHER_AGENCY, WRONG_ROLE.
            NotAuthentic, PolicyError: as `take_up`; recorded.
            Exhausted, Unavailable, LogBroken: it cannot be held or recorded for certain.
        """
        self._check_whose(node, by)  # 1
        now, who = self.clock(), str(by.spiffe)
        await pull([node], self.directory, self.bundles, self.links, now, self.log.append)
        async with self.links.taking_up(node):
            old = self.links.published(node)
            try:
                published = await take_up(data, self.directory, self.bundles, node, old, now)  # 2
            except (NotAuthentic, PolicyError, InvalidInput) as error:
                shown = hashlib.sha256(data).digest()
                await self.log.append([refused_entry(node, shown, error.reason, published_by=who)])
                raise
            before = await self.bundles.minimum(node)
            minimum = max(before, published.version) if revoke_older else before
            if old is None or old.bundle_hash != published.bundle_hash or minimum > before:
                entry = taken_up_entry(published, published_by=who, revoked_below=minimum if minimum > before else 0)
                await self.log.append([entry])  # 3
            if minimum > before:
                await self.bundles.revoke(node, minimum)
            self.links.learn(published, minimum)  # 4
        link = self.links.get(node)
        if link is not None and link.published.policy.digest != published.policy.digest:
            link.ask_policy()  # 5
        return Known(published=published, minimum=minimum, shown=link.published if link else None)

    def _check_whose(self, node: str, by: Identity) -> None:
        registered = self.directory.federation.nodes.get(node)
        if registered is None:
            what = Violation("node", "must be one that the directory registers")
            raise InvalidInput("no such node", violations=[what], reason="NOT_REGISTERED")
        if by.agency != registered.agency:
            raise NotAllowed("only its own agency publishes a node's policy", reason="OTHER_AGENCY")
        if by.role not in PUBLISHERS:
            raise NotAllowed(f"policies are published by a {' or a '.join(sorted(PUBLISHERS))}", reason="WRONG_ROLE")
