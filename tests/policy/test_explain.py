"""What explain says of one request, and that its remedies are the least that there are."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import cli
from comity.errors import InvalidInput
from comity.purpose import Authority, LegalBasis
from policies.explain import explain
from policies.instance import Request
from tests.policy.requests import DAY as SAMPLE_DAY
from tests.policy.requests import SETTING
from tests.policy.small import DAY, Oracle, every_request, setting

FBI = Request(
    requester="us-fbi",
    role="investigator",
    beneficiary="us-fbi",
    purpose="criminal-felony",
    legal_basis=LegalBasis.CRIMINAL,
    node="port-alder-1",
)
LLANO = replace(FBI, requester="us-tx-llano-pd", beneficiary="us-tx-llano-pd", node="lakeshore-1")
REMEDIES = [
    (FBI, {("with a judicial warrant", "with a supervisor's signature")}, "a warrant and a signature at a sanctuary"),
    (replace(FBI, node="sequoia-1"), {("with a court order",)}, "an order of a court, since no warrant is needed"),
    (LLANO, {("with a declaration of us-tx-llano-pd on file",)}, "a declaration of the requester"),
    (replace(LLANO, has_case=False), {("with a case number", "with a declaration of us-tx-llano-pd on file")},
     "a case number besides"),
    (replace(LLANO, requester="us-il-lakeshore-pd"), {("with a declaration of us-tx-llano-pd on file",)},
     "a declaration of the beneficiary"),
    (replace(FBI, purpose="reproductive-care"), set(), "nothing for what is barred"),
    (replace(FBI, requester="nobody", beneficiary="nobody"), set(), "nothing for who is not registered"),
    (replace(FBI, purpose="immigration-civil", node="brazos-bend-1"), {("with legal basis civil",)},
     "the basis that fits"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "remedies"), [pytest.param(r, w, id=i) for r, w, i in REMEDIES])
def test_remedies_are_the_least_sets_that_permit(request_: Request, remedies: set[tuple[str, ...]]) -> None:
    assert set(explain(SETTING, request_, SAMPLE_DAY).remedies) == remedies


def test_no_smaller_set_of_changes_than_a_remedy_permits() -> None:
    """Brute force: over the small federation, each smaller set of what a remedy may change still refuses."""
    at, oracle = setting(), Oracle(setting())
    refused = [r for r in every_request(at, (31,)) if not oracle.decide(r).permitted][::97]
    assert len(refused) > 40
    for request in refused:
        explanation = explain(at, request, DAY)
        best = min((len(r) for r in explanation.remedies), default=5)
        for size in range(1, min(best, 3)):
            for fields in itertools.combinations(_changes(request), size):
                assert not any(
                    oracle.decide(replace(request, **dict(zip(fields, values, strict=True)))).permitted
                    for values in itertools.product(*(_changes(request)[f] for f in fields))
                )


def _changes(request: Request) -> dict[str, list[Any]]:
    return {
        "has_case": [True],
        "authority": [Authority.COURT_ORDER, Authority.JUDICIAL_WARRANT],
        "lookback_days": [7, 30],
        "approved": [True],
        "legal_basis": [LegalBasis.CRIMINAL, LegalBasis.CIVIL],
        "papers": [(request.papers or frozenset()) | {"declaration"}],
    }


def test_the_rules_that_apply_are_those_of_the_decision() -> None:
    at, oracle = setting(), Oracle(setting())
    for request in list(every_request(at, (8, 31)))[::211]:
        explanation = explain(at, request, DAY)
        assert explanation.decision == replace(oracle.decide(request), decision_id=explanation.decision.decision_id)
        assert {(a.layer, a.rule) for a in explanation.applied} == {
            (r.layer, r.rule) for r in explanation.decision.rules
        }


def test_a_near_miss_names_the_one_thing_that_keeps_a_rule_from_applying() -> None:
    near = {n.rule: n.missing for n in explain(SETTING, FBI, SAMPLE_DAY).near}
    assert near["FED-1"] == "case is true"
    assert near["CA-11.a"] == "court-order is not true"
    assert near["SC-1"] == "purpose is not immigration"
    assert "CA-11.b" not in near


def test_both_parties_are_named_with_the_rules_that_speak_of_them() -> None:
    explanation = explain(SETTING, replace(FBI, requester="us-ca-chp", node="sequoia-1"), SAMPLE_DAY)
    said = {(a.rule, a.party, a.on_behalf) for a in explanation.applied}
    assert ("CA-1", "us-fbi", True) in said
    assert ("CA-10.a", "us-ca-chp", False) in said
    assert ("CA-1", "us-ca-chp", False) not in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"node": "nowhere-1"}, "there is no node 'nowhere-1'; right is one of bay-toll-1", id="a node"),
    ],
)
def test_a_request_of_no_node_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        explain(SETTING, replace(FBI, node=changes["node"]), SAMPLE_DAY)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        pytest.param("papers", {"treaty"}, "'treaty' is no paper on file; right is declaration, mou", id="a paper"),
        pytest.param("node_facts", {"blue"}, "'blue' is no fact of the node", id="a fact of the node"),
    ],
)
def test_a_paper_or_fact_of_no_such_name_is_refused(field: str, value: set[str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        replace(FBI, **{field: frozenset(value)})  # type: ignore[arg-type]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "explain", *arguments])


def test_a_refusal_exits_1_with_the_law_and_the_remedy() -> None:
    result = run("--requester", "us-fbi", "--purpose", "criminal-felony", "--node", "port-alder-1")
    assert result.exit_code == 1
    assert "REFUSED at port-alder-1: refused under CA-1 (Cal. Civ. Code" in result.stdout
    assert "permitted with a judicial warrant and with a supervisor's signature" in result.stdout


def test_the_remedy_is_true_when_it_is_tried() -> None:
    asked = ["--requester", "us-fbi", "--purpose", "criminal-felony", "--node", "port-alder-1"]
    result = run(*asked, "--authority", "judicial-warrant", "--approved")
    assert result.exit_code == 0
    assert "PERMITTED at port-alder-1" in result.stdout
    pending = run(*asked, "--authority", "judicial-warrant")
    assert (pending.exit_code, "PENDING at port-alder-1" in pending.stdout) == (1, True)


def test_papers_that_are_supposed_take_the_place_of_the_directorys() -> None:
    asked = ["--requester", "us-tx-brazos-bend-pd", "--purpose", "criminal-felony", "--node", "lakeshore-1"]
    assert run(*asked, "--at", "2026-07-01").exit_code == 0
    assert run(*asked, "--at", "2026-07-01", "--suppose", "none").exit_code == 1
    assert run(*asked, "--at", "2031-07-01").exit_code == 1
    assert run(*asked, "--at", "2031-07-01", "--suppose", "declaration").exit_code == 0


def test_json_holds_the_request_the_rules_and_the_remedies() -> None:
    said = json.loads(
        run("--requester", "us-fbi", "--purpose", "criminal-felony", "--node", "sequoia-1", "--json").stdout
    )
    assert said["effect"] == "deny"
    assert said["request"]["requester"] == "us-fbi"
    assert said["remedies"] == [["with a court order"]]
    assert {r["rule"] for r in said["rules"]} >= {"FED-7", "CA-1"}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(["--node", "nowhere-1"], id="an unknown node"),
        pytest.param(["--node", "sequoia-1", "--suppose", "treaty"], id="an unknown paper"),
        pytest.param(["--node", "sequoia-1", "--authority", "letter"], id="an unknown authority"),
        pytest.param(["--node", "sequoia-1", "--days", "-1"], id="a look-back before today"),
    ],
)
def test_wrong_usage_exits_2(wrong: list[str]) -> None:
    assert run("--requester", "us-fbi", "--purpose", "criminal-felony", *wrong).exit_code == 2
