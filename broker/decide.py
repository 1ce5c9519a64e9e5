"""Step 2: federation policy and each node's own published policy, for every target."""

from __future__ import annotations

import datetime as dt

from broker.links import Links
from broker.model import Awaiting, Deny, Permit, Requester, Ruling
from comity.decision import Decision
from comity.federation import Federation
from policies.decide import Decider
from policies.question import question_of


def decide(
    requester: Requester, federation: Federation, decider: Decider, links: Links, now: dt.datetime
) -> tuple[Ruling, ...]:
    """One ruling a target, in the inquiry's order; every node of the federation, sorted, if it names none."""
    targets = requester.verified.inquiry.targets or tuple(sorted(federation.nodes))
    question = question_of(requester.verified, now)
    return tuple(_ruling(d) for d in decider.decide(question, links.with_policies(targets, now)))


def _ruling(decision: Decision) -> Ruling:
    if decision.permitted:
        return Permit(decision)
    return Awaiting(decision) if decision.pending else Deny(decision)
