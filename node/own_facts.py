"""Step 6, where rules rest on what only this node knows: decided for each class of cameras, before any is read.

A class that a rule keeps out is left out of what is released, and the outcome says that something is, whether or not
anything was found there. A hot list holds nothing in this version, so no plate is on one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from comity.decision import Decision, Effect
from node.model import ALL_CAMERAS, Cameras
from policies.conditions import NODE_FACTS
from policies.decide import Decider
from policies.engine import Policy
from policies.request import Question

MOBILE = "mobile-camera"


def decide_here(
    decider: Decider, question: Question, node: str, policy: Policy | None, mobile: frozenset[str] | None
) -> tuple[Decision, Cameras]:
    """The node's decision, and the cameras whose detections it is about. `mobile`: those that are, None if not stated.

    Where rules ask for different duties of the two classes, only the cameras that are not mobile are released.
    """
    rests = _rests_on(decider.federation_policy) | (_rests_on(policy) if policy else frozenset())

    def given(facts: frozenset[str] | None) -> Decision:
        return decider.decide(replace(question, node_facts=facts), [(node, policy)])[0]

    if MOBILE in rests and mobile is None:
        return given(None), ALL_CAMERAS  # a fact that nobody stated refuses, as any missing fact does
    fixed = given(frozenset() if rests else None)
    if MOBILE not in rests or not mobile:
        return fixed, ALL_CAMERAS
    moving = given(frozenset({MOBILE}))
    if fixed.effect is Effect.DENY and moving.effect is Effect.PERMIT:
        return moving, Cameras(named=mobile, alone=True)
    alike = (fixed.effect, fixed.obligations, fixed.quotas) == (moving.effect, moving.obligations, moving.quotas)
    return fixed, ALL_CAMERAS if alike else Cameras(named=mobile, alone=False)


@lru_cache(maxsize=16)
def _rests_on(policy: Policy) -> frozenset[str]:
    return frozenset(f for r in policy.rules for f in (r.condition.needs | r.condition.bars) & NODE_FACTS)
