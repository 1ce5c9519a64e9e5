"""Properties, against every request that there is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import lru_cache

import pytest
from click.testing import CliRunner

from cli.__main__ import cli
from comity.decision import Decision, Effect
from comity.errors import InvalidInput
from comity.purpose import Authority
from policies.instance import Request
from policies.properties import Property
from policies.prove import prove
from tests.policy.requests import SETTING
from tests.policy.small import DAY, Oracle, every_request, setting

SMALL = setting()
# request, permitted now, its decision -> whether it breaks the property
Breaks = Callable[[Request, bool, Decision], bool]


@lru_cache(maxsize=1)
def answers() -> tuple[tuple[Request, bool, Decision], ...]:
    """Every request, unsigned and signed, whether it is permitted now, and what is decided."""
    oracle, out = Oracle(SMALL), []
    for request in every_request(SMALL, (7, 8, 31)):
        decision = oracle.decide(request)
        permit = decision.effect is Effect.PERMIT
        out.append((request, permit and not decision.obligations.approval, decision))
        out.append((_signed(request), permit, decision))
    return tuple(out)


def civil(r: Request) -> bool:
    return r.purpose == "immigration-civil"


def alone(r: Request) -> bool:
    return r.beneficiary == r.requester


PROPERTIES: list[tuple[str, str, Breaks]] = [
    ("nobody gets anything", "never permit", lambda r, ok, d: ok),
    ("no federal agency asks about immigration", "never permit who:federal purpose:immigration",
     lambda r, ok, d: ok and r.requester == "us-fbi" and civil(r)),
    ("none is a party to it either", "never permit party:federal purpose:immigration without judicial-warrant",
     lambda r, ok, d: ok and "us-fbi" in (r.requester, r.beneficiary) and civil(r)
     and r.authority is not Authority.JUDICIAL_WARRANT),
    ("federal agencies need a warrant", "permit party:federal only with judicial-warrant",
     lambda r, ok, d: ok and "us-fbi" in (r.requester, r.beneficiary)
     and r.authority is not Authority.JUDICIAL_WARRANT),
    ("an order of a court is not enough for them", "never permit who:federal with court-order",
     lambda r, ok, d: ok and r.requester == "us-fbi" and r.authority is not Authority.NONE),
    ("immigration only with a supervisor", "permit purpose:immigration only with approval",
     lambda r, ok, d: ok and civil(r) and not r.approved),
    ("immigration with a supervisor is refused", "never permit purpose:immigration with approval",
     lambda r, ok, d: ok and civil(r) and r.approved),
    ("immigration is clipped to a week", "permit purpose:immigration only within 7 days",
     lambda r, ok, d: ok and civil(r) and r.lookback_days > 7 and (d.obligations.window_days or 99) > 7),
    ("immigration is not clipped to six days", "permit purpose:immigration only within 6 days",
     lambda r, ok, d: ok and civil(r) and r.lookback_days > 6 and (d.obligations.window_days or 99) > 6),
    ("its own police always may, with a case", "always permit who:us-ca-a-pd role:searcher act:exact"
     " purpose:criminal with case",
     lambda r, ok, d: not ok and alone(r) and r.requester == "us-ca-a-pd" and r.role == "investigator"
     and r.act == "exact" and r.purpose == "felony" and r.has_case),
    ("they may without one", "always permit who:us-ca-a-pd role:searcher act:exact purpose:criminal",
     lambda r, ok, d: not ok and alone(r) and r.requester == "us-ca-a-pd" and r.role == "investigator"
     and r.act == "exact" and r.purpose == "felony"),
    ("a declaration is needed from elsewhere", "permit who:police-of:us/tx only with declaration within 30 days",
     lambda r, ok, d: ok and r.requester == "us-tx-b-pd"
     and not ("declaration" in (r.papers or ()) and r.lookback_days <= 30)),
    ("nobody asks for another", "never permit for another", lambda r, ok, d: ok and not alone(r)),
    ("nobody asks for a federal agency without a warrant", "never permit for us-fbi without judicial-warrant",
     lambda r, ok, d: ok and r.beneficiary == "us-fbi" and not alone(r)
     and r.authority is not Authority.JUDICIAL_WARRANT),
    ("beyond a week only for the own state", "permit purpose:criminal beyond 7 days only with same-state",
     lambda r, ok, d: ok and r.purpose == "felony" and r.lookback_days > 7 and r.requester != "us-ca-a-pd"),
    ("without an order only with a supervisor", "permit purpose:immigration without court-order only with approval",
     lambda r, ok, d: ok and civil(r) and r.authority is Authority.NONE and not r.approved),
    ("what was signed is for a week only", "permit purpose:criminal with approval only within 7 days",
     lambda r, ok, d: ok and r.purpose == "felony" and r.approved and r.lookback_days > 7
     and (d.obligations.window_days or 99) > 7),
    ("areas only for a hot list", "permit act:area only with hot-list-match",
     lambda r, ok, d: ok and r.act == "area" and "hot-list-match" not in (r.node_facts or ())),
    ("auditors do not search", "never permit not-role:searcher",
     lambda r, ok, d: ok and r.role == "auditor"),
    ("nobody looks far back about immigration", "never permit purpose:immigration beyond 7 days",
     lambda r, ok, d: ok and civil(r) and r.lookback_days > 7),
]  # fmt: skip


@pytest.mark.parametrize(("text", "breaks"), [pytest.param(t, b, id=name) for name, t, b in PROPERTIES])
def test_a_property_is_proved_exactly_if_no_request_breaks_it(text: str, breaks: Breaks) -> None:
    proof = prove(Property.parse(text, SMALL.vocabulary), SMALL, DAY)
    broken = any(breaks(request, permitted, decision) for request, permitted, decision in answers())
    assert proof.proved is not broken


@pytest.mark.parametrize(("text", "breaks"), [pytest.param(t, b, id=name) for name, t, b in PROPERTIES])
def test_a_counterexample_breaks_the_property_when_it_is_asked(text: str, breaks: Breaks) -> None:
    proof = prove(Property.parse(text, SMALL.vocabulary), SMALL, DAY)
    request = proof.counterexample
    if request is None:
        assert proof.requests > 0
        return
    decision = Oracle(SMALL).decide(request)
    assert decision.permitted is proof.permitted
    assert breaks(request, decision.permitted, decision)


def _signed(request: Request) -> Request:
    fields = {name: getattr(request, name) for name in Request.__slots__}
    return Request(**(fields | {"approved": True}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "word 1: ends too early; right is 'never permit", id="nothing at all"),
        pytest.param("nevr permit", "word 1: right is 'never permit ...'", id="a misspelt beginning"),
        pytest.param("never", "ends too early", id="a beginning alone"),
        pytest.param("never permit who:fedral", "word 3: who: 'fedral' is not registered; did you mean federal?",
                     id="an agency that is not registered"),
        pytest.param("never permit purpose:imigration", "purpose: .* did you mean immigration?", id="a purpose"),
        pytest.param("never permit at us/cb", "at: 'us/cb' is not registered", id="a place"),
        pytest.param("never permit act:fuzzy", "act: 'fuzzy' is no kind of search; right is one of alert", id="a kind"),
        pytest.param("never permit whom:federal", "'whom:federal' is not .*, did you mean who:", id="a column"),
        pytest.param("never permit with warant", "'warant' is not understood.*right is a fact of", id="a fact"),
        pytest.param("never permit within many days", "right is a whole number", id="a number"),
        pytest.param("never permit within 3 weeks", "right is a whole number and `days`", id="a unit"),
        pytest.param("never permit within 3 days within 4 days", "once each", id="two bounds"),
        pytest.param("permit who:federal", "ends too early", id="a permit without only"),
        pytest.param("permit who:federal only", "right is `with FACT`", id="only without a condition"),
        pytest.param("permit who:federal with case", "ends too early", id="a condition without only"),
        pytest.param("permit with case only with mou only with case", "right is `with FACT`", id="only twice"),
        pytest.param("never permit with case only with mou", "right is `with FACT`", id="only after never"),
        pytest.param("never permit who:federal who:private", "who stands twice", id="a column twice"),
        pytest.param("never permit with case without case", "asked for and ruled out", id="a contradiction"),
        pytest.param("never permit with case please", "right is `with FACT`", id="a word too many"),
        pytest.param("never permit " + "x" * 3000, "more than 2000 characters", id="a text that is too long"),
    ],
)  # fmt: skip
def test_what_is_no_property_is_refused_with_the_column_and_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Property.parse(text, SETTING.vocabulary)
    assert caught.value.reason == "BAD_PROPERTY"


def test_a_property_of_no_request_at_all_proves_nothing() -> None:
    text = "never permit who:us-fbi with same-state"
    with pytest.raises(InvalidInput, match="speaks of no request"):
        prove(Property.parse(text, SETTING.vocabulary), SETTING, DAY)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("never permit who:federal purpose:immigration-civil at node:port-alder-1", 0, id="a city's own"),
        pytest.param("never permit purpose:reproductive-care", 0, id="everybody's"),
        pytest.param(
            "permit who:us-fbi purpose:criminal at tag:sanctuary only with judicial-warrant", 0, id="a warrant"
        ),
        pytest.param("always permit who:police-of:us/ca purpose:stolen-vehicle at us/ca with case", 1, id="too much"),
        pytest.param("never permit who:fedral", 2, id="a misspelt word"),
    ],
)
def test_the_exit_code_says_what_came_out(text: str, code: int) -> None:
    assert CliRunner().invoke(cli, ["policy", "prove", text]).exit_code == code


def test_explain_accepts_the_counterexample_as_it_is_printed() -> None:
    runner = CliRunner()
    result = runner.invoke(cli, ["policy", "prove", "never permit party:federal at us/ca", "--json"])
    said = json.loads(result.stdout)
    assert (result.exit_code, said["proved"], said["got"]) == (1, False, "permit")
    words = shlex.split(said["explain"])
    assert words[:3] == ["comity", "policy", "explain"]
    explained = runner.invoke(cli, [*words[1:], "--json"])
    assert explained.exit_code == 0
    assert json.loads(explained.stdout)["request"] == said["counterexample"]
