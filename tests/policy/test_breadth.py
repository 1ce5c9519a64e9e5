"""Duties on how far and how often: the breadth budget, and the quota a day as rules state it."""

from __future__ import annotations

import random

from comity.decision import Decision, Pep
from policies.decide import Decider
from policies.duties import parse_duties
from tests.policy.requests import NODES, SETTING, compile_rows, decider, question

BASE = "X-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,own\n"
BROAD = BASE + "X-2,any-node,any-agency,any-role,stolen-vehicle,any-act,limit,always,breadth<={},own"


def decided(most: int, nodes: tuple[str, ...] = NODES, *, pep: Pep = Pep.BROKER) -> dict[str, Decision]:
    policy = compile_rows(BROAD.format(most))
    made = Decider(SETTING.federation, compile_rows(BASE), pep, lambda: "d")
    return {d.node: d for d in made.decide(question(), [(n, policy) for n in nodes])}


def test_at_most_n_nodes_are_permitted_and_the_others_say_why() -> None:
    out = decided(3)
    assert sum(d.permitted for d in out.values()) == 3
    refused = [d for d in out.values() if not d.permitted]
    assert {d.reason_code for d in refused} == {"BREADTH_SPENT"}
    assert all("may ask 3 nodes" in d.reason for d in refused)


def test_the_requester_s_own_nodes_come_first_then_its_region_s() -> None:
    assert [n for n, d in decided(1).items() if d.permitted] == ["sequoia-1"]
    permitted = {n for n, d in decided(3).items() if d.permitted}
    assert {SETTING.federation.agency_of(n).state for n in permitted} == {"us/ca"}
    assert all("stage nation" in d.reason for n, d in decided(3).items() if not d.permitted)


def test_the_order_of_targets_means_nothing() -> None:
    for seed in range(5):
        nodes = list(NODES)
        random.Random(seed).shuffle(nodes)
        assert {n for n, d in decided(4, tuple(nodes)).items() if d.permitted} == {
            n for n, d in decided(4).items() if d.permitted
        }


def test_a_budget_of_nought_refuses_everywhere() -> None:
    assert not any(d.permitted for d in decided(0).values())


def test_a_node_does_not_refuse_for_the_breadth_that_the_broker_counts() -> None:
    assert all(d.permitted for d in decided(1, pep=Pep.NODE).values())


def test_every_rule_with_a_quota_is_counted_under_its_own_limit() -> None:
    rows = BASE + "Q-1,any-node,any-agency,any-role,any-purpose,any-act,limit,always,quota_per_day<=9,own\n"
    rows += "Q-2,any-node,any-agency,any-role,criminal,any-act,limit,always,quota_per_day<=2,own"
    (decision,) = decider(own=BASE).decide(question(), [("sequoia-1", compile_rows(rows))])
    assert decision.quotas == (("Q-1", 9), ("Q-2", 2))
    assert decision.obligations.quota_per_day == 2


def test_the_least_breadth_wins() -> None:
    assert parse_duties("breadth<=4").join(parse_duties("breadth<=2")).as_json() == {"breadth": 2}
