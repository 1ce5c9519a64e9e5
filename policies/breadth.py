"""The breadth budget: how many nodes one search may ask, nearest first.

stage 1 own      the requester's own nodes
stage 2 region   the nodes of its state
stage 3 nation   all others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from comity.decision import NO_OBLIGATIONS, Decision, Effect

STAGES = ("own", "region", "nation")


def within_breadth(
    requester: str, decisions: Sequence[Decision], owners: Mapping[str, str], states: Mapping[str, str]
) -> tuple[Decision, ...]:
    """The decisions in their order, with a refusal in place of each permit that comes too late for its own budget.

    A permit with `breadth<=n` stands only among the first n permits, counted by stage and then by node id, so that
    neither the order of targets nor that of rules changes who is asked.
    """
    if all(d.obligations.breadth is None for d in decisions):
        return tuple(decisions)
    state = states.get(requester, "")

    def stage(node: str) -> int:
        owner = owners[node]
        return 0 if owner == requester else 1 if state and states[owner] == state else 2

    out = list(decisions)
    asked = 0
    permits = sorted((stage(d.node), d.node, i) for i, d in enumerate(decisions) if d.permitted)
    for at, _, i in permits:
        most = out[i].obligations.breadth
        if most is not None and asked >= most:
            out[i] = _refused(out[i], most, STAGES[at])
        else:
            asked += 1
    return tuple(out)


def _refused(decision: Decision, most: int, stage: str) -> Decision:
    reason = (
        f"refused: one search for this purpose may ask {most} nodes, the requester's own first, then its region's, then"
        f" the nation's; this one, of stage {stage}, comes after them"
    )
    return replace(
        decision,
        effect=Effect.DENY,
        obligations=NO_OBLIGATIONS,
        reason_code="BREADTH_SPENT",
        reason=reason,
        quotas=(),
    )
