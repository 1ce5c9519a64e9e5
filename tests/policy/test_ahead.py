"""What is worked out in advance: every class that requests can reach, by Casbin, the newest policy first, in turns."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from comity.decision import Decision
from comity.purpose import Act
from policies import ahead as ahead_module
from policies.ahead import Ahead, requests
from policies.decide import Decider
from policies.engine import Policy
from policies.packs import load_packs
from policies.seal import HEADER, seal
from policies.wanted import Wanted
from tests.policy.requests import AGENCIES, NODES, SETTING, WORDS, any_facts, compile_rows, decider, question

OWN = """
X-1,any-node,police,searcher,any-purpose,any-act,allow,always,-,own
X-2,us/ca,federal,any-role,immigration,any-act,deny,unless judicial-warrant,-,own
X-3,tag:sanctuary,any-agency,any-role,any-purpose,any-act,deny,other-state&lookback>30,-,own
X-4,any-node,us-fbi,investigator,protest,partial,deny,unless case&unless mou,-,own
X-5,any-node,any-agency,any-role,any-purpose,any-act,limit,hot-list-match&lookback<=7,redact=hit-only,own
X-6,any-node,police,any-role,criminal,any-act,deny,unposted-purpose&on-behalf,-,own
"""


def finished(point: Decider, targets: list[tuple[str, Policy | None]]) -> Ahead:
    ahead = Ahead(point)
    ahead.work(targets, 1e9)
    assert ahead.done(targets)
    return ahead


def small(posted: frozenset[str] | None = None) -> Policy:
    return Policy.compile(seal(f"{HEADER}\n{OWN.strip()}\n"), WORDS, posted=posted)


@pytest.mark.parametrize("posted", [None, frozenset({"stolen-vehicle"})], ids=["no usage policy", "a usage policy"])
def test_no_request_reaches_a_class_that_was_not_decided_in_advance(posted: frozenset[str] | None) -> None:
    policy, chance = small(posted), random.Random(3)
    top = compile_rows("X-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,own")
    finished(Decider(SETTING.federation, top, decider().pep, lambda: "d"), [(n, policy) for n in NODES])
    met = set()
    for _ in range(3_000):
        asked = policy.asked(_possible(chance))
        place = policy.place(chance.choice(NODES))
        assert isinstance(place, int)
        met.add((asked.matched & place, asked.left & place))
        assert policy.of_class(asked.matched & place, asked.left & place) is not None
    assert len(met) > 10


def _possible(chance: random.Random) -> Wanted:
    """Facts as a broker finds them: its own known and not contradictory, the node's left."""
    true = {f for f in ("case", "mou", "on-behalf") if chance.random() < 0.5}
    true |= chance.choice(({"same-state"}, {"other-state"}, set()))
    true |= chance.choice(({"court-order", "judicial-warrant"}, {"court-order"}, set()))
    facts = replace(any_facts(chance), true=frozenset(true), left=frozenset({"hot-list-match", "mobile-camera"}))
    words = (sorted(d.leaves) for d in (WORDS.who, WORDS.role, WORDS.purpose))
    who, role, purpose = (chance.choice(leaves) for leaves in words)
    return Wanted(who, role, purpose, chance.choice(list(Act)), facts)


def test_what_is_decided_in_advance_is_casbins_answer_with_all_rules_in_view() -> None:
    decided = 0
    for policy in (small(), *(p for p in SETTING.node_policies.values() if p is not None)):
        fresh, most = Policy(policy.rules, WORDS, pytest.fail, policy.posted), decided + 150
        for request in requests(fresh):
            if request is None or not fresh.decide_class(*request):
                continue
            wanted, node = request
            asked, place = fresh.asked(wanted), fresh.place(node)
            assert isinstance(place, int)
            known = fresh.of_class(asked.matched & place, asked.left & place)
            stock = fresh.by_casbin(asked, node)
            assert known is not None
            assert (known.fault, known.allowed, known.rules) == ("", stock.allowed, stock.rules)
            decided += 1
            if decided == most:
                break
    assert decided > 100


def test_answers_are_the_same_with_and_without_work_in_advance() -> None:
    chance, targets = random.Random(9), list(SETTING.node_policies.items())

    def answers(point: Decider) -> list[list[Decision]]:
        return [[replace(d, decision_id="") for d in point.decide(q, targets)] for q in asked]

    asked = [
        question(
            requester_agency=chance.choice(AGENCIES),
            beneficiary=chance.choice(AGENCIES),
            purpose=chance.choice(sorted(WORDS.purpose.leaves)),
        )
        for _ in range(60)
    ]
    prepared = decider()
    ahead = Ahead(prepared)
    ahead.work(targets, 0.5)
    assert ahead.decided > 0
    assert answers(prepared) == answers(decider())


def test_work_stops_when_its_time_is_over_and_goes_on_from_there() -> None:
    ticks = iter(range(1_000_000))
    point, policy = decider(own="X-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,own"), small()
    targets = [(n, policy) for n in NODES]
    ahead = Ahead(point, clock=lambda: next(ticks))
    turns = 0
    while not ahead.done(targets):
        before = ahead.decided
        ahead.work(targets, 5)
        assert ahead.decided - before <= 6
        turns += 1
    assert turns > 10
    assert ahead.decided > 10


def test_a_policy_that_comes_later_goes_before_those_that_wait() -> None:
    ticks = iter(range(1_000_000))
    point, old, new = decider(), small(), small(frozenset({"protest"}))
    ahead = Ahead(point, clock=lambda: next(ticks))
    ahead.work([(n, old) for n in NODES], 8)
    targets = [(NODES[0], new), *((n, old) for n in NODES[1:])]
    while not new._classes:
        ahead.work(targets, 2)
    known = len(old._classes)
    for _ in range(3):
        ahead.work(targets, 2)
    assert len(old._classes) == known


def test_a_new_version_is_worked_out_though_all_was_done() -> None:
    point = decider(own="X-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,own")
    ahead = finished(point, [(NODES[0], small())])
    before, targets = ahead.decided, [(NODES[0], small(frozenset({"protest"})))]
    assert not ahead.done(targets)
    ahead.work(targets, 1e9)
    assert ahead.done(targets)
    assert ahead.decided > before + 10


def test_nothing_is_worked_out_of_a_version_whose_masks_are_in_doubt() -> None:
    policy = small()
    policy.canonical = False
    assert list(requests(policy)) == []
    assert not policy.decide_class(
        Wanted("us-fbi", "investigator", "protest", Act.EXACT, any_facts(random.Random(1))), NODES[0]
    )


@pytest.mark.parametrize(("limit", "most"), [("MAX_RULES", 0), ("MAX_SHOWN", 4), ("MAX_MET", 7)])
def test_work_in_advance_keeps_its_limits(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = small(), small()
    top = "X-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,own"
    finished(decider(own=top), [(NODES[0], whole)])
    monkeypatch.setattr(ahead_module, limit, {"MAX_RULES": 5, "MAX_SHOWN": 24, "MAX_MET": 8}[limit])
    finished(decider(own=top), [(NODES[0], cut)])
    assert len(cut._classes) <= most < len(whole._classes)


def test_packs_with_many_facts_are_gone_through_within_the_limits() -> None:
    policy = Policy.compile(load_packs(["us-ca", "sanctuary-city", "ice-guidance"]), WORDS)
    met = [r for r in requests(policy) if r is not None]
    assert 50 < len(met) < ahead_module.MAX_MET
