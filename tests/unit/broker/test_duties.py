"""Every duty that a rule can ask, at the broker: what it enforces itself, and what it records for the node to hold."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from broker.links import Link
from broker.model import Decided
from comity.decision import KNOWN_OBLIGATIONS, Decision
from comity.errors import PolicyError
from policies.duties import parse_duties
from tests.unit.broker.scene import ALLOW, Stage, policy, published
from tests.unit.broker.test_quota import number
from tests.unit.comity.scene import DAY, NOW

NODES = ("alder-1", "brazos-1")
RECORDED = ["window_days<=3", "redact=no-image", "redact=hit-only", "quota_per_day<=9", "breadth<=9"]


def rows(duty: str) -> str:
    return f"{ALLOW}\nT-9,any-node,any-agency,any-role,any-purpose,any-act,limit,always,{duty},a test rule"


async def decisions(stage: Stage, n: int = 1) -> list[Decision]:
    async with aclosing(stage.search.run(stage.call(stage.signed(**number(n), targets=NODES)))) as released:
        async for release in released:
            if isinstance(release, Decided):
                return list(release.decisions)
    return []


def attach(stage: Stage, duty: str) -> None:
    for node in NODES:
        stage.attach(node, rows(duty))


@pytest.mark.parametrize("duty", RECORDED)
async def test_what_a_permit_is_bound_by_is_told_and_recorded(stage: Stage, duty: str) -> None:
    attach(stage, duty)
    stated = parse_duties(duty).as_json()
    assert [d.obligations.as_json() for d in await decisions(stage)] == [stated, stated]
    assert [b["obligations"] for b in stage.log.bodies("decision")] == [stated, stated]


async def test_an_approval_is_awaited(stage: Stage) -> None:
    attach(stage, "approval=supervisor")
    assert all(d.pending for d in await decisions(stage))
    assert all(not w.sent for w in stage.wires.values())


async def test_a_warrant_is_asked_for(stage: Stage) -> None:
    attach(stage, "warrant=judicial")
    assert {d.reason_code for d in await decisions(stage)} == {"WARRANT_REQUIRED"}


async def test_a_day_s_searches_are_counted(stage: Stage) -> None:
    attach(stage, "quota_per_day<=1")
    assert {d.reason_code for d in await decisions(stage)} == {"PERMITTED"}
    assert {d.reason_code for d in await decisions(stage, 2)} == {"QUOTA_SPENT"}


async def test_the_nearest_nodes_are_asked_and_no_more_than_the_breadth(stage: Stage) -> None:
    attach(stage, "breadth<=1")
    told = {d.node: d for d in await decisions(stage)}
    assert [told[n].reason_code for n in NODES] == ["PERMITTED", "BREADTH_SPENT"]
    assert "the requester's own first, then its region's, then the nation's" in told["brazos-1"].reason


async def test_an_expired_policy_refuses_with_a_reason_of_its_own(stage: Stage) -> None:
    of = stage.directory.federation
    for node, ends in zip(NODES, (NOW, NOW + DAY), strict=True):
        stage.links.attach(Link(node, published(node, policy=policy(ALLOW, of), valid_to=ends), lambda _: None))
    told = {d.node: d for d in await decisions(stage)}
    assert [told[n].reason_code for n in NODES] == ["POLICY_EXPIRED", "PERMITTED"]


@pytest.mark.parametrize("duty", ["retain_hours<=4", "notify=council", "window_days<=3;share=nobody", "redact=blur"])
def test_a_duty_that_nobody_can_enforce_makes_the_whole_policy_refused(duty: str) -> None:
    with pytest.raises(PolicyError) as e:
        policy(rows(duty))
    assert "duty" in str(e.value)


def test_every_duty_has_a_test_here() -> None:
    tested = [*RECORDED, "approval=supervisor", "warrant=judicial"]
    assert {key for duty in tested for key in parse_duties(duty).as_json()} == KNOWN_OBLIGATIONS
