"""Step 2: federation policy and each node's own published policy, for every target."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from broker.links import Links
from broker.model import Awaiting, Deny, Permit, Requester, Ruling
from broker.ports import Quota
from comity.decision import NO_OBLIGATIONS, Decision, Effect
from comity.federation import Federation
from policies.decide import Decider
from policies.published import NO_POLICY, with_expiry
from policies.question import question_of


def decide(
    requester: Requester, federation: Federation, decider: Decider, links: Links, now: dt.datetime
) -> tuple[Ruling, ...]:
    """One ruling a target, in the inquiry's order; every node of the federation, sorted, if it names none."""
    targets = requester.verified.inquiry.targets or tuple(sorted(federation.nodes))
    question = question_of(requester.verified, now)
    return tuple(_ruling(d, links) for d in decider.decide(question, links.with_policies(targets, now)))


async def within_quotas(
    requester: Requester, rulings: Sequence[Ruling], quota: Quota, day: dt.date
) -> tuple[Ruling, ...]:
    """The rulings in order, with a refusal in place of each permit whose rule's searches of `day` are spent.

    Counted for each agency, node and rule that states a `quota_per_day`. What a search takes is not given back.

    Raises:
        Exhausted, Unavailable: it could not be counted for certain, so nothing is permitted.
    """
    at = [i for i, r in enumerate(rulings) if isinstance(r, Permit) and r.decision.quotas]
    if not at:
        return tuple(rulings)
    agency = requester.verified.requester.agency
    spent = await asyncio.gather(*(_spent(agency, rulings[i].decision, quota, day) for i in at))
    out = list(rulings)
    for i, rule in zip(at, spent, strict=True):
        if rule:
            out[i] = Deny(_quota_spent(rulings[i].decision, *rule))
    return tuple(out)


async def _spent(agency: str, decision: Decision, quota: Quota, day: dt.date) -> tuple[str, int] | None:
    # the least first, so that a search which one rule refuses is seldom counted under another
    for rule, most in sorted(decision.quotas, key=lambda q: (q[1], q[0])):
        if not await quota.take(f"duty {agency} {decision.node} {rule}", day, most):
            return rule, most
    return None


def _quota_spent(decision: Decision, rule: str, most: int) -> Decision:
    reason = f"refused: {rule} allows {most} searches a day of this agency here, and they are spent"
    return replace(
        decision,
        effect=Effect.DENY,
        obligations=NO_OBLIGATIONS,
        reason_code="QUOTA_SPENT",
        reason=reason,
        quotas=(),
    )


def _ruling(decision: Decision, links: Links) -> Ruling:
    if decision.reason_code == NO_POLICY:
        decision = with_expiry(decision, links.published(decision.node))
    if decision.permitted:
        return Permit(decision)
    return Awaiting(decision) if decision.pending else Deny(decision)
