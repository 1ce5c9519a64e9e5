"""The matrix: every way it shows is permitted by the engine, and everything that is permitted has a way."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace

import pytest

from comity.decision import Obligations, Pep
from comity.federation import Training
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS
from policies.decide import Decider, Question
from policies.matrix import Matrix, Way
from policies.offences import LIMITATIONS, limitation_of
from policies.reach import conditions
from policies.setting import Setting
from tests.policy.requests import AGENCIES, DAY, NODES, SETTING, WORDS, compile_rows

PERSON = "spiffe://us-ca-sequoia-so/person/t-reyes"
# Whatever rules can rest on stands in one of these, allows and denies, needed and barred.
ODD = compile_rows(
    """
ODD-1,any-node,police,searcher,criminal,any-act,allow,always,-,x
ODD-2,any-node,police,any-role,immigration,exact,allow,court-order&lookback<=30,redact=hit-only,x
ODD-3,any-node,any-agency,auditor,audit,any-act,allow,case,quota_per_day<=5,x
ODD-4,any-node,any-agency,any-role,criminal,any-act,deny,lookback>365&unless hot-list-match,-,x
ODD-5,any-node,federal,any-role,any-purpose,any-act,limit,unless judicial-warrant,approval=supervisor,x
ODD-6,any-node,any-agency,supervisor,criminal,any-act,limit,always,window_days<=7,x
ODD-7,any-node,any-agency,any-role,criminal,partial,deny,unless selected-staff,-,x
ODD-8,any-node,any-agency,any-role,criminal-felony,any-act,limit,limitation-8y,warrant=judicial,x
ODD-9,any-node,any-agency,any-role,missing-person,any-act,allow,on-behalf,-,x
ODD-10,any-node,police,any-role,missing-person,any-act,allow,own-node&trained,-,x
ODD-11,any-node,any-agency,any-role,criminal,any-act,deny,administrative-warrant&other-state,-,x
ODD-12,any-node,any-agency,any-role,welfare-check,any-act,allow,declaration,-,x
ODD-13,any-node,any-agency,any-role,criminal,any-act,deny,mobile-camera&unless case,-,x
"""
)


def odd_setting() -> Setting:
    """The sample with a node policy that rests on everything, and people who are registered for something."""
    papers = (
        Training(kind="partial-plates", agency="us-ca-sequoia-so", person=PERSON, until=dt.date(2030, 1, 1)),
        Training(kind="training", agency="us-ca-sequoia-so", person="", until=dt.date(2030, 1, 1)),
    )
    top = compile_rows("TOP-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,x")
    federation = replace(SETTING.federation, training=papers)
    return replace(
        SETTING, federation=federation, federation_policy=top, node_policies={**SETTING.node_policies, "sequoia-1": ODD}
    )


def any_question(chance: random.Random) -> Question:
    requester = chance.choice(AGENCIES)
    facts = sorted(NODE_FACTS)
    return Question(
        requester_agency=requester,
        role=chance.choice(sorted(WORDS.role.leaves)),
        beneficiary=requester if chance.random() < 0.7 else chance.choice(AGENCIES),
        purpose=chance.choice(sorted(WORDS.purpose.leaves)),
        legal_basis=chance.choice(tuple(LegalBasis)),
        authority=chance.choice(tuple(Authority)),
        act=chance.choice(tuple(Act)),
        has_case=chance.random() < 0.8,
        lookback_days=chance.choice((0, 7, 30, 31, 60, 365, 366, 2000)),
        approved=False,
        day=DAY,
        node_facts=frozenset(f for f in facts if chance.random() < 0.5),
        offence=chance.choice(("", "terrorism", "child abduction", "no such offence")),
        person=chance.choice(("", PERSON)) if requester == "us-ca-sequoia-so" else "",
    )


def met(way: Way, q: Question, setting: Setting) -> bool:
    """True if the question meets the way, or brings more authority or a case number that it does not ask for."""
    assert q.authority is not None
    assert q.lookback_days is not None
    staff = {
        {"training": "trained", "partial-plates": "selected-staff"}[t.kind]
        for t in setting.federation.training
        if t.agency == q.requester_agency and t.person in ("", q.person)
    }
    mentioned = frozenset().union(*way.staff)
    begin, end = way.lookback_days
    found = frozenset().union(*way.found)
    searching = "searcher" in WORDS.role.above[q.role]
    return (
        (q.role in way.roles if way.roles else searching)
        and (not way.acts or q.act in way.acts)
        and (not way.bases or q.legal_basis in way.bases)
        and way.suffices(q.authority)
        and (way.cases != (True,) or q.has_case)
        and (not way.limits or limitation_of(q.offence) in way.limits)
        and (not way.staff or staff & mentioned in way.staff)
        and (not way.found or (q.node_facts or frozenset()) & found in way.found)
        and begin <= q.lookback_days
        and (end is None or q.lookback_days <= end)
    )


@pytest.mark.parametrize(
    ("setting", "nodes", "seed"),
    [
        pytest.param(SETTING, NODES, 1, id="the sample federation"),
        pytest.param(odd_setting(), ("sequoia-1",), 2, id="rules that rest on everything"),
    ],
)
def test_a_search_that_the_engine_permits_meets_a_way_that_asks_no_more(
    setting: Setting, nodes: tuple[str, ...], seed: int
) -> None:
    chance, matrix, permitted = random.Random(seed), Matrix(setting, DAY), 0
    decider = Decider(setting.federation, setting.federation_policy, Pep.NODE, new_id=lambda: "")
    for _ in range(1500):
        q, node = any_question(chance), chance.choice(nodes)
        (decision,) = decider.decide(q, [(node, setting.node_policies[node])])
        ways = matrix.ways(q.beneficiary, node, q.purpose, asked_by=q.requester_agency)
        if decision.effect.value == "permit":
            permitted += 1
            # another way may ask less: then the same search without what it does not need is freer
            mine = [w for w in ways if met(w, q, setting)]
            assert any(w.obligations.join(decision.obligations) == decision.obligations for w in mine), (q, node)
    assert permitted > 30


@pytest.mark.parametrize("setting", [SETTING, odd_setting()], ids=["the sample federation", "rules on everything"])
def test_every_way_is_permitted_by_the_engine_under_just_its_duties(setting: Setting) -> None:
    matrix, checked = Matrix(setting, DAY), 0
    decider = Decider(setting.federation, setting.federation_policy, Pep.NODE, new_id=lambda: "")
    offences = {limitation_of(o): o for o in ("", "terrorism", "child abduction", "money laundering")}
    for agency in AGENCIES:
        for purpose in sorted(WORDS.purpose.leaves):
            for way in matrix.ways(agency, "sequoia-1", purpose):
                limit = way.limits[0] if way.limits else limitation_of("")
                if limit not in offences:
                    continue
                q = Question(
                    requester_agency=agency,
                    role=(way.roles or ("investigator",))[0],
                    beneficiary=agency,
                    purpose=purpose,
                    legal_basis=(way.bases or tuple(LegalBasis))[0],
                    authority=(way.authorities or tuple(Authority))[0],
                    act=(way.acts or tuple(Act))[0],
                    has_case=way.cases == (True,),
                    lookback_days=way.lookback_days[0],
                    approved=False,
                    day=DAY,
                    node_facts=(way.found or (frozenset(),))[0],
                    offence=offences[limit],
                    person=PERSON if way.staff and any("selected-staff" in f for f in way.staff) else "",
                )
                (decision,) = decider.decide(q, [("sequoia-1", setting.node_policies["sequoia-1"])])
                assert (decision.effect.value, decision.obligations) == ("permit", way.obligations), (way, decision)
                checked += 1
    assert checked > 30


def test_no_way_is_shown_beside_one_that_asks_less_for_the_same() -> None:
    setting = odd_setting()
    matrix = Matrix(setting, DAY)
    cells = [matrix.ways(a, n, p) for a in AGENCIES for n in NODES for p in sorted(WORDS.purpose.leaves)]
    assert not [(w, o) for ways in cells for w in ways for o in ways if o is not w and o.covers(w)]
    assert any(len(ways) > 1 for ways in cells)


@pytest.mark.parametrize(
    ("agency", "node", "purpose", "words"),
    [
        pytest.param(
            "us-fbi",
            "port-alder-1",
            "criminal-felony",
            {"a judicial warrant", "a supervisor's signature", "only the last 60 days", "a case number"},
            id="a federal criminal search at a sanctuary city",
        ),
        pytest.param(
            "us-ca-sequoia-so",
            "brazos-bend-1",
            "criminal-misdemeanor",
            {"only the last 7 days", "redacted to coarse-location", "a case number"},
            id="a misdemeanour in Texas",
        ),
        pytest.param(
            "us-nh-granite-pd",
            "tidewater-1",
            "stolen-vehicle",
            {"a court order or a judicial warrant", "a case number"},
            id="police of another state in Virginia",
        ),
    ],
)
def test_conditions_are_in_words(agency: str, node: str, purpose: str, words: set[str]) -> None:
    found = [set(conditions(w)) for w in Matrix(SETTING, DAY).ways(agency, node, purpose)]
    assert any(words <= w for w in found)


@pytest.mark.parametrize(
    ("agency", "node", "purpose"),
    [
        ("us-ice-ero", "port-alder-1", "immigration-civil"),
        ("us-ice-ero", "llano-1", "immigration-civil"),
        ("prv-lotwatch", "brazos-bend-1", "stolen-vehicle"),
        ("us-ca-sequoia-so", "sequoia-1", "reproductive-care"),
    ],
)
def test_what_no_condition_permits_has_no_way(agency: str, node: str, purpose: str) -> None:
    assert Matrix(SETTING, DAY).ways(agency, node, purpose) == ()


def test_a_node_without_a_policy_has_no_way() -> None:
    setting = replace(SETTING, node_policies={**SETTING.node_policies, "sequoia-1": None})
    assert Matrix(setting, DAY).ways("us-ca-sequoia-so", "sequoia-1", "stolen-vehicle") == ()


def test_a_way_covers_whatever_asks_more_and_nothing_that_asks_less() -> None:
    plain = Way(
        roles=(), acts=(), bases=(), authorities=(), cases=(), limits=(), staff=(), found=(),
        lookback_days=(0, None), obligations=Obligations(),
    )  # fmt: skip
    stricter = [
        replace(plain, roles=("supervisor",)),
        replace(plain, acts=(Act.EXACT,)),
        replace(plain, authorities=(Authority.COURT_ORDER, Authority.JUDICIAL_WARRANT)),
        replace(plain, cases=(True,)),
        replace(plain, lookback_days=(0, 30)),
        replace(plain, lookback_days=(8, None)),
        replace(plain, obligations=Obligations(approval=True)),
        replace(plain, limits=(next(iter(LIMITATIONS)),)),
    ]
    assert [(plain.covers(w), w.covers(plain)) for w in stricter] == [(True, False)] * len(stricter)
    order, warrant = stricter[2], replace(plain, authorities=(Authority.JUDICIAL_WARRANT,))
    assert (order.covers(warrant), warrant.covers(order)) == (True, False)


def test_look_backs_with_a_gap_between_them_are_ways_apart() -> None:
    gap = compile_rows(
        """
GAP-1,any-node,police,searcher,criminal,any-act,allow,always,-,x
GAP-2,any-node,any-agency,any-role,criminal,any-act,deny,lookback>30&lookback<=60,-,x
"""
    )
    setting = replace(SETTING, node_policies={**SETTING.node_policies, "sequoia-1": gap})
    ways = Matrix(setting, DAY).ways("us-ca-sequoia-so", "sequoia-1", "stolen-vehicle")
    assert {w.lookback_days for w in ways} == {(0, 30), (61, None)}
