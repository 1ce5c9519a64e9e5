"""Replay of refusals that followed the policies' own decision: reproduced, and told apart from what policies refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comity.decision import NO_OBLIGATIONS, Decision, Effect, Pep
from comity.inquiry import Inquiry
from node.model import Trusted
from node.policy import held_against
from node.quota import spent
from policies.breadth import within_breadth
from policies.published import with_expiry
from tests.policy.requests import SETTING, compile_rows
from tests.policy.test_replay import NOW, SHERIFF, asked, decided, entries, of_sample, replayed

LIMIT = "OWN-1,any-node,any-agency,any-role,any-purpose,any-act,limit,always,{},x"
LIMITED = of_sample(
    {
        "sequoia-1": compile_rows(LIMIT.format("quota_per_day<=1"), "us-ca"),
        "llano-1": compile_rows(LIMIT.format("breadth<=1"), "us-tx-open"),
    }
)


def skewed(decision: Decision, digest: str = "ab" * 32, obligations: frozenset[str] = frozenset()) -> Decision:
    """What a node makes of its decision when the broker decided under that digest, with those obligations."""
    unread = cast(Any, None)
    return held_against(
        decision, Trusted(verified=unread, receipt=unread, policy_digest=digest, obligations=obligations)
    )


def late(decision: Decision) -> Decision:
    """What a broker makes of its decision when another node was permitted before."""
    owners = {n.id: n.agency for n in SETTING.federation.nodes.values()}
    states = {a.id: a.state for a in SETTING.federation.agencies.values()}
    nearer = replace(decision, node="sequoia-1", obligations=NO_OBLIGATIONS)
    return within_breadth(SHERIFF, [decision, nearer], owners, states)[0]


def unknown_to_the_broker(made: Inquiry) -> Decision:
    none = replace(SETTING, node_policies={**SETTING.node_policies, "sequoia-1": None})
    shown = cast(Any, SimpleNamespace(valid_to=NOW))
    return with_expiry(decided(made, "sequoia-1", setting=none), shown)


AFTERWARDS: list[tuple[str, Callable[[Inquiry], Decision], str, bool]] = [
    (
        "broker and node stood under different versions",
        lambda made: skewed(decided(made, "sequoia-1", pep=Pep.NODE, setting=LIMITED)),
        "POLICY_CHANGED",
        True,
    ),
    (
        "the broker named an obligation that the node does not know",
        lambda made: skewed(decided(made, "sequoia-1", pep=Pep.NODE, setting=LIMITED), obligations=frozenset({"x"})),
        "OBLIGATION_UNKNOWN",
        True,
    ),
    (
        "the day's searches were spent",
        lambda made: spent(decided(made, "sequoia-1", pep=Pep.NODE, setting=LIMITED), "OWN-1", 1),
        "QUOTA_SPENT",
        True,
    ),
    ("other nodes were nearer", lambda made: late(decided(made, "llano-1", setting=LIMITED)), "BREADTH_SPENT", True),
    ("the node's policy had expired", unknown_to_the_broker, "POLICY_EXPIRED", False),
]


@pytest.mark.parametrize(
    ("make", "reason", "besides"), [a[1:] for a in AFTERWARDS], ids=[f"refused because {a[0]}" for a in AFTERWARDS]
)
def test_a_refusal_that_followed_the_policies_is_reproduced_and_counted_apart(
    make: Callable[[Inquiry], Decision], reason: str, besides: bool
) -> None:
    made = asked()
    decision = make(made)
    assert (decision.reason_code, decision.permitted) == (reason, False)
    report = replayed(entries(made, decision), LIMITED)
    assert (report.reproduced, report.different, report.differences) == (1, 0, [])
    assert dict(report.besides) == ({reason: 1} if besides else {})
    assert [c.was for c in report.changes] == ([] if besides else ["refused"]), "no change of policy made it"
    away = replayed(entries(made, decision), SETTING, [])
    assert (away.reproduced, bool(away.unknown)) == ((1, False) if not besides else (0, True))
    assert not besides or not away.changes, "what its policies said is not known"


@pytest.mark.parametrize(
    ("pep", "node", "reason"),
    [
        pytest.param(Pep.NODE, "llano-1", "QUOTA_SPENT", id="a quota that no rule states"),
        pytest.param(Pep.BROKER, "sequoia-1", "BREADTH_SPENT", id="a breadth that no rule states"),
        pytest.param(Pep.NODE, "llano-1", "BREADTH_SPENT", id="a node counts no breadth"),
        pytest.param(Pep.BROKER, "sequoia-1", "POLICY_CHANGED", id="a broker is asked under one version alone"),
        pytest.param(Pep.BROKER, "sequoia-1", "POLICY_EXPIRED", id="expired, and decided by all the same"),
    ],
)
def test_a_refusal_for_a_reason_that_cannot_have_followed_is_a_difference(pep: Pep, node: str, reason: str) -> None:
    made = asked()
    claimed = replace(
        decided(made, node, pep=pep, setting=LIMITED),
        effect=Effect.DENY,
        obligations=NO_OBLIGATIONS,
        reason_code=reason,
        quotas=(),
    )
    report = replayed(entries(made, claimed), LIMITED)
    assert (report.reproduced, report.different, dict(report.besides)) == (0, 1, {})
