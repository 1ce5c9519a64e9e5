"""Both layers, both parties, one decision a target."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import pytest

from comity.decision import Decision, Effect, Layer, Pep
from comity.errors import InvalidInput, PolicyError
from comity.federation import Federation
from comity.purpose import Authority, LegalBasis
from policies.decide import Decider, Question, has_case, searchable_days
from policies.engine import Policy
from policies.packs import load_packs
from policies.setting import SAMPLE, load_federation
from policies.vocabulary import Vocabulary
from tests.policy.requests import NODES, SETTING, WORDS, compile_rows, decider, question

OPEN = "X-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,an open door"


def at(node: str, asked: Question, policy: Policy | None = None) -> Decision:
    (decision,) = decider().decide(asked, [(node, policy or SETTING.node_policies[node])])
    return decision


def rules(decision: Decision) -> list[tuple[str, str]]:
    return [(r.rule, r.layer.value) for r in decision.rules]


def test_one_decision_a_target_in_their_order_each_with_its_own_id() -> None:
    targets = [(n, SETTING.node_policies[n]) for n in reversed(NODES)] * 2
    decisions = decider().decide(question(), targets)
    assert [d.node for d in decisions] == [n for n, _ in targets]
    assert len({d.decision_id for d in decisions}) == len(targets)


def test_a_permit_names_every_rule_both_digests_and_who_decided() -> None:
    decision = at("sequoia-1", question())
    policy = SETTING.node_policies["sequoia-1"]
    assert policy is not None
    assert rules(decision) == [("FED-7", "federation"), ("CA-10", "node")]
    assert decision.policy_digest == policy.digest
    assert decision.federation_digest == SETTING.federation_policy.digest
    assert (decision.pep, decision.reason_code) == (Pep.BROKER, "PERMITTED")
    assert decision.reason == "permitted under FED-7 and CA-10"


def test_a_refusal_cites_the_rule_and_its_source() -> None:
    asked = question(purpose="immigration-criminal", requester_agency="us-ca-port-alder-pd")
    decision = at("port-alder-1", asked)
    assert decision.reason_code == "DENIED_BY_RULE"
    assert decision.reason == "refused under SC-1 (Ordinance of the adopting city; own policy)"
    assert ("SC-4", "node") in rules(decision)
    assert decision.obligations.as_json() == {}


def test_a_rule_of_both_parties_is_named_once() -> None:
    decision = at("sequoia-1", question(beneficiary="us-ca-chp"))
    assert rules(decision) == [("FED-7", "federation"), ("CA-10", "node")]


def test_a_refusal_for_the_sake_of_the_beneficiary_says_so() -> None:
    decision = at("sequoia-1", question(beneficiary="us-fbi"))
    assert decision.reason.endswith("asked on behalf of us-fbi")


def test_a_rule_that_only_the_node_has_is_of_the_nodes_layer() -> None:
    twice = compile_rows("", "federation-base", "us-ca")
    layers = {r.layer for r in at("sequoia-1", question(), twice).rules if r.rule == "FED-7"}
    assert layers == {Layer.FEDERATION, Layer.NODE}


def test_no_policy_is_a_refusal_of_its_own() -> None:
    (decision,) = decider().decide(question(), [("sequoia-1", None)])
    assert (decision.effect, decision.reason_code, decision.policy_digest) == (Effect.DENY, "NO_POLICY", "")


def test_each_layer_must_allow() -> None:
    by_node = at("brazos-bend-1", question(purpose="audit"))
    assert by_node.reason_code == "NO_RULE_ALLOWS"
    assert "the federation's policy" in by_node.reason
    by_federation = at("sequoia-1", question(purpose="immigration-criminal"))
    assert by_federation.reason_code == "NO_RULE_ALLOWS"
    assert "the node's policy" in by_federation.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requester_agency": "nobody", "beneficiary": "us-ca-chp"}, "the requester"),
        ({"beneficiary": "federal"}, "the beneficiary"),
        ({"beneficiary": ""}, "the beneficiary"),
        ({"role": "searcher"}, "the role"),
        ({"purpose": "criminal"}, "the purpose"),
    ],
)
def test_what_is_not_registered_is_refused_under_fed_5(change: dict[str, Any], said: str) -> None:
    decision = at("sequoia-1", question(**change))
    assert (decision.effect, decision.reason_code, rules(decision)) == (
        Effect.DENY,
        "NOT_REGISTERED",
        [("FED-5", "federation")],
    )
    assert said in decision.reason


def test_an_unknown_node_is_refused_next_to_known_ones() -> None:
    known, unknown = decider().decide(question(), [(n, SETTING.node_policies["sequoia-1"]) for n in ("sequoia-1", "x")])
    assert (known.permitted, unknown.reason_code) == (True, "NOT_REGISTERED")


def test_a_name_from_the_request_is_not_repeated_in_the_refusal() -> None:
    assert "7ABC123" not in at("sequoia-1", question(purpose="7ABC123")).reason


@pytest.mark.parametrize("field", ["legal_basis", "authority", "act", "lookback_days", "approved", "day"])
def test_what_was_not_understood_is_a_deny(field: str) -> None:
    open_node = compile_rows(OPEN)
    (decision,) = decider(own=OPEN).decide(question(**{field: None}), [("sequoia-1", open_node)])
    assert (decision.effect, decision.reason_code) == (Effect.DENY, "INDETERMINATE")
    assert "was not understood" in decision.reason


@pytest.mark.parametrize(
    "change",
    [
        {"lookback_days": -1},
        {"lookback_days": True},
        {"lookback_days": "30"},
        {"legal_basis": "criminal"},
        {"authority": "court-order"},
        {"act": "exact"},
        {"has_case": 1},
        {"approved": "supervisor"},
        {"day": dt.datetime(2026, 7, 1, tzinfo=dt.UTC)},
        {"requester_agency": None, "beneficiary": "us-fbi"},
    ],
    ids=str,
)
def test_a_question_of_other_types_is_not_taken(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        question(**change)


WARRANT = OPEN + "\nX-2,any-node,federal,any-role,any-purpose,any-act,limit,always,warrant=judicial,an order"


@pytest.mark.parametrize(
    ("authority", "code"),
    [
        (Authority.NONE, "WARRANT_REQUIRED"),
        (Authority.ADMINISTRATIVE_WARRANT, "WARRANT_REQUIRED"),
        (Authority.COURT_ORDER, "WARRANT_REQUIRED"),
        (Authority.JUDICIAL_WARRANT, "PERMITTED"),
    ],
)
def test_the_duty_of_a_warrant_is_met_by_a_judicial_one_alone(authority: Authority, code: str) -> None:
    asked = question(requester_agency="us-fbi", authority=authority)
    decision = at("llano-1", asked, compile_rows(WARRANT))
    assert decision.reason_code == code
    assert decision.permitted is (code == "PERMITTED")


def test_the_warrant_of_a_beneficiary_is_asked_for_too() -> None:
    decision = at("llano-1", question(beneficiary="us-fbi"), compile_rows(WARRANT))
    assert decision.reason_code == "WARRANT_REQUIRED"


def test_an_approval_is_a_duty_and_without_it_the_search_waits() -> None:
    asked = {"requester_agency": "us-fbi", "purpose": "criminal-felony", "authority": Authority.JUDICIAL_WARRANT}
    waits, signed = (at("port-alder-1", question(**asked, approved=a)) for a in (False, True))
    assert (waits.effect, waits.pending, waits.permitted) == (Effect.PERMIT, True, False)
    assert "once a supervisor" in waits.reason
    assert (signed.pending, signed.permitted) == (False, True)


NODE_FACT = OPEN + "\nX-9,any-node,any-agency,any-role,any-purpose,any-act,deny,unless hot-list-match,-,an order"


def test_the_broker_leaves_a_rule_with_a_fact_of_the_nodes_and_says_so() -> None:
    decision = at("sequoia-1", question(), compile_rows(NODE_FACT))
    assert decision.permitted
    assert "X-9 is left to the node" in decision.reason


@pytest.mark.parametrize(
    ("known", "code"),
    [
        pytest.param(None, "INDETERMINATE", id="facts that were not given are a doubt"),
        pytest.param(frozenset(), "DENIED_BY_RULE", id="a fact that is false counts"),
        pytest.param(frozenset({"hot-list-match"}), "PERMITTED", id="a fact that is true counts"),
    ],
)
def test_the_node_decides_what_it_alone_knows(known: frozenset[str] | None, code: str) -> None:
    policy = compile_rows(NODE_FACT)
    (decision,) = decider(pep=Pep.NODE).decide(question(node_facts=known), [("sequoia-1", policy)])
    assert (decision.reason_code, decision.pep) == (code, Pep.NODE)


@pytest.mark.parametrize(
    ("day", "permitted"), [(dt.date(2029, 12, 31), True), (dt.date(2030, 1, 1), False), (dt.date(2031, 1, 1), False)]
)
def test_a_declaration_counts_before_the_day_it_ends(day: dt.date, permitted: bool) -> None:
    asked = question(requester_agency="us-tx-brazos-bend-pd", purpose="criminal-felony", day=day)
    assert at("lakeshore-1", asked).permitted is permitted


def other_directory() -> Federation:
    text = (SAMPLE / "directory.toml").read_text(encoding="utf-8")
    return Federation.parse(tomllib.loads(text + '\n[[agency]]\nid = "us-dea"\nname = "DEA"\nkind = "federal"\n'))


def test_a_policy_of_another_version_of_the_directory_decides_nothing() -> None:
    foreign = Policy.compile(load_packs(["us-ca"]), Vocabulary.of(other_directory()))
    assert at("sequoia-1", question(), foreign).reason_code == "INDETERMINATE"
    with pytest.raises(PolicyError, match="another directory"):
        Decider(SETTING.federation, foreign, Pep.BROKER, new_id=str)


def test_an_engine_that_fails_is_a_refusal_and_asked_again_next_time() -> None:
    heard: list[str] = []
    policy = compile_rows("", "us-ca", alarm=heard.append)
    policy._stock._enforcer.add_function("hit", lambda *_: 1 / 0)
    point = decider()
    (broken,) = point.decide(question(), [("sequoia-1", policy)])
    assert (broken.effect, broken.reason_code) == (Effect.DENY, "INDETERMINATE")
    policy._stock._enforcer.add_function("hit", policy._stock._hit)
    (mended,) = point.decide(question(), [("sequoia-1", policy)])
    assert mended.permitted
    assert len(heard) == 1


def test_a_new_version_takes_over_at_once_and_the_old_answers_stay_its_own() -> None:
    point = decider()
    open_, closed = compile_rows("", "us-ca"), compile_rows("", "us-ca", "limits-federal-coordination", "us-il")
    asked = question(purpose="criminal-felony", requester_agency="us-fbi", authority=Authority.COURT_ORDER)
    civil = question(purpose="immigration-civil", legal_basis=LegalBasis.CIVIL)
    for policy in (open_, closed, open_):
        first, second = (point.decide(q, [("sequoia-1", policy)])[0] for q in (asked, civil))
        assert first.policy_digest == second.policy_digest == policy.digest
        assert ("LF-1" in {r.rule for r in second.rules}) is (policy is closed)


@pytest.mark.parametrize(
    ("node", "change", "days"),
    [
        ("sequoia-1", {"lookback_days": 30}, 30),
        ("sequoia-1", {"lookback_days": 3000}, 365),
        ("sequoia-1", {"lookback_days": 0}, 0),
        ("port-alder-1", {"lookback_days": 3000}, 60),
        ("granite-1", {"lookback_days": 3000}, 0),
        ("tidewater-1", {"lookback_days": 3000}, 0),
        ("sequoia-1", {"lookback_days": 3000, "purpose": "amber-alert"}, 30),
    ],
)
def test_searchable_days_are_the_least_of_lookback_duty_and_retention(
    node: str, change: dict[str, Any], days: int
) -> None:
    asked = question(**change)
    assert searchable_days(asked, at(node, asked), SETTING.federation.nodes[node]) == days


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PA-26-0101", True),
        (" 7 ", True),
        ("-", True),
        ("案", True),
        ("", False),
        (" \t\r\n", False),
        ("\u00a0\u2003\u3000", False),
        ("\u200b\u200d\ufeff\u2060", False),
        ("\u2800\u3164\u115f\uffa0", False),
        ("\u0000\u001b", False),
        ("\u034f\ufe0f", False),
        ("\ufffd", False),
    ],
    ids=ascii,
)
def test_a_case_number_shows_something(text: str, shown: bool) -> None:
    assert has_case(text) is shown


def test_the_sample_that_the_package_carries_is_whole() -> None:
    assert load_federation(SAMPLE).id == "pacific-exchange"
    assert set(SETTING.node_policies) == set(NODES)
    assert Vocabulary.of(SETTING.federation) == WORDS
