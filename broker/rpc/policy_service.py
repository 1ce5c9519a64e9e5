"""PolicyService: what agencies call about policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from broker.admission import Admission
from broker.consult import Consulting, Doubt, Page
from broker.ports import Clock, Quota
from broker.publish import Publishing
from broker.rpc.peer import peer_of
from comity.errors import Exhausted, NotAllowed
from comity.v1 import policy_service_pb2 as pb2
from comity.v1 import policy_service_pb2_grpc as pb2_grpc
from identity.directory import Directory
from identity.verify import Identity
from policies.explain import Applied, Explanation
from policies.matrix import Way

DEFAULT_DEADLINE_S = 10.0
MAX_DEADLINE_S = 30.0
AUDITORS = frozenset({"auditor"})

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consultation:
    """What every call needs. `per_day`: calls of one person on a UTC day."""

    directory: Directory
    clock: Clock
    admission: Admission
    quota: Quota
    per_day: int
    publishing: Publishing
    consulting: Consulting


class PolicyService(pb2_grpc.PolicyServiceServicer):
    """Decode, run, encode."""

    def __init__(self, consultation: Consultation) -> None:
        self._c = consultation

    async def Publish(self, request: pb2.PublishRequest, context: Context) -> pb2.PublishResponse:
        """A node's policy becomes known to the federation."""
        by = await self._caller(context)
        async with self._c.admission.enter(by.agency):
            known = await self._c.publishing.publish(
                request.node, request.bundle, by, revoke_older=request.revoke_older
            )
        shown = known.shown
        return pb2.PublishResponse(
            version=known.published.version,
            digest=known.published.policy.digest,
            minimum=known.minimum,
            shown=pb2.ShownPolicy(version=shown.version, digest=shown.policy.digest) if shown else None,
        )

    async def Explain(self, request: pb2.ExplainRequest, context: Context) -> pb2.ExplainResponse:
        """Why the caller's own search would be permitted or refused."""
        by = await self._caller(context)
        doubt = Doubt.parse(request, by)
        async with self._c.admission.enter(by.agency):
            found = await self._c.consulting.explain(doubt, left_s(context))
        return pb2.ExplainResponse(explanations=map(_explained, found))

    async def Matrix(self, request: pb2.MatrixRequest, context: Context) -> pb2.MatrixResponse:
        """Who may search which node for what; a page."""
        by = await self._caller(context)
        if by.role not in AUDITORS:
            raise NotAllowed("the matrix is for auditors", reason="WRONG_ROLE")
        async with self._c.admission.enter(by.agency):
            return _page(await self._c.consulting.matrix(request, left_s(context)))

    async def _caller(self, context: Context) -> Identity:
        c = self._c
        now = c.clock()
        by = peer_of(context, "PolicyService", c.directory, now)
        if not await c.quota.take(f"policy {by.spiffe}", now.date(), c.per_day):
            message = f"{c.per_day} questions a day are allowed"
            raise Exhausted(message, retry_after_s=3600, quota=str(by.spiffe), reason="QUOTA_EXHAUSTED")
        return by


def left_s(context: Context) -> float:
    """Seconds that the call may take."""
    left = context.time_remaining()
    return DEFAULT_DEADLINE_S if left is None else min(left, MAX_DEADLINE_S)


def _explained(e: Explanation) -> pb2.Explanation:
    return pb2.Explanation(
        decision=e.decision.to_message(),
        applied=map(_rule, e.applied),
        near_misses=map(_rule, e.near),
        remedies=[pb2.Remedy(changes=changes) for changes in e.remedies],
    )


def _rule(a: Applied) -> pb2.ExplainedRule:
    return pb2.ExplainedRule(
        layer=a.layer.value,
        rule=a.rule,
        effect=a.effect,
        basis=a.basis,
        when=a.when,
        duty=a.duty,
        party=a.party,
        on_behalf=a.on_behalf,
        missing=a.missing,
    )


def _page(page: Page) -> pb2.MatrixResponse:
    return pb2.MatrixResponse(
        cells=[
            pb2.MatrixCell(agency=c.agency, node=c.node, purpose=c.purpose, ways=map(_way, c.ways)) for c in page.cells
        ],
        next_page_token=page.next_token,
        unknown_nodes=page.unknown,
        total_cells=page.total,
    )


def _way(way: Way) -> pb2.MatrixWay:
    first, last = way.lookback_days
    return pb2.MatrixWay(
        roles=way.roles,
        acts=[a.value for a in way.acts],
        legal_bases=[b.value for b in way.bases],
        authorities=[a.value for a in way.authorities],
        needs_case=way.cases == (True,),
        first_day=first,
        last_day=last,
        staff=["&".join(sorted(s)) for s in way.staff],
        found=["&".join(sorted(s)) for s in way.found],
        limits=way.limits,
        obligations=way.obligations.to_message(),
    )
