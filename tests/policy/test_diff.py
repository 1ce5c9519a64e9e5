"""What two versions of the policies judge differently, against every request asked of both."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import cli
from comity.decision import Decision, Effect, Obligations
from policies.differ import Change, changes
from policies.instance import Request
from policies.packs import pack_text
from policies.seal import HEADER, seal
from policies.setting import SAMPLE, Setting
from policies.sides import sides_of
from tests.policy.small import DAY, FEDERATION_RULES, NODE_RULES, Oracle, every_request, setting

OTHER_RULES = [
    pytest.param(NODE_RULES.replace("judicial-warrant,-", "court-order,-"), id="a deny that asks for less"),
    pytest.param(NODE_RULES.replace("window_days<=7", "window_days<=30"), id="a duty that asks for less"),
    pytest.param(NODE_RULES.replace("lookback<=30", "lookback<=7"), id="a condition on the look-back"),
    pytest.param(NODE_RULES.replace("SC-3", "SC-9"), id="the same rule under another name"),
    pytest.param(NODE_RULES.replace("on-behalf", "same-state"), id="a limit on other parties"),
    pytest.param(None, id="a policy that is withdrawn"),
]


def outcome(decision: Decision) -> Obligations | None:
    return decision.obligations if decision.effect is Effect.PERMIT else None


def rules(decision: Decision) -> frozenset[tuple[object, str]]:
    return frozenset((r.layer, r.rule) for r in decision.rules)


Said = tuple[Change, Any]
Party = tuple[str, ...]
ALONE: Party = ()
# By parties, since each of many thousand requests is held against all of them.
AllSaid = dict[tuple[Party, Party], list[Said]]


def said_of(found: Iterable[Change]) -> AllSaid:
    """Each change with what its JSON form says of requests, under each requester and each beneficiary it names."""
    out: AllSaid = {}
    for change in found:
        said: Any = change.as_json()
        sides = [{(m["agency"], *m["papers"]) for m in said[side]} for side in ("requesters", "beneficiaries")]
        for parties in itertools.product(sides[0], sides[1] or {ALONE}):
            out.setdefault(parties, []).append((change, said["where"]))
    return out


def covers(said: Said, request: Request) -> bool:
    """Whether the request, whose parties are the change's, is one of the change's, by its JSON form alone."""
    _, box = said
    for name, value in (
        ("purpose", request.purpose),
        ("role", request.role),
        ("act", request.act),
        ("legal_basis", request.legal_basis),
        ("authority", request.authority),
        ("case", request.has_case),
        ("offence", request.offence),
        *((fact, True) for fact in request.node_facts or ()),
        *((fact, False) for fact in {"hot-list-match", "mobile-camera"} - (request.node_facts or frozenset())),
    ):
        if name in box and value not in box[name]:
            return False
    return "lookback" not in box or any(a <= request.lookback_days <= b for a, b in box["lookback"])


def holding(found: AllSaid, request: Request) -> list[Change]:
    requester, beneficiary = (request.requester, *(request.papers or ())), ALONE
    if request.beneficiary != request.requester:
        beneficiary = (request.beneficiary, *(request.beneficiary_papers or ()))
    return [said[0] for said in found.get((requester, beneficiary), ()) if covers(said, request)]


@functools.cache
def told_before() -> list[tuple[Request, Decision]]:
    """Every request, and what the unchanged policies say of it."""
    before = setting()
    oracle = Oracle(before)
    return [(r, oracle.decide(r)) for r in every_request(before, (7, 8, 31))]


def verdicts(after: Setting) -> list[tuple[Request, Decision, Decision]]:
    """What both say of every request."""
    new = Oracle(after)
    return [(r, old, new.decide(r)) for r, old in told_before()]


@pytest.mark.parametrize("text", OTHER_RULES)
def test_every_request_that_changes_is_in_one_change_that_says_how_and_no_other_is(text: str | None) -> None:
    before, after = setting(), setting(node_rules=text)
    found = said_of(changes(sides_of(before, DAY), sides_of(after, DAY)))
    merged = said_of(changes(sides_of(before, DAY), sides_of(after, DAY), merged=True))
    wrong, asked = [], verdicts(after)
    for request, old, new in asked:
        same = outcome(old) == outcome(new) and rules(old) == rules(new)
        held = holding(found, request)
        said = [(c.before, c.after, c.lost, c.gained) for c in held]
        right = [] if same else [(outcome(old), outcome(new), rules(old) - rules(new), rules(new) - rules(old))]
        if said != right or bool(holding(merged, request)) is same:
            wrong.append(request)
    assert wrong == []
    assert any(outcome(old) != outcome(new) or rules(old) != rules(new) for _, old, new in asked)


def test_the_number_of_requests_is_the_number_there_are() -> None:
    before, after = setting(), setting(federation_rules=FEDERATION_RULES.replace("police,searcher", "us-fbi,searcher"))
    total = [0, 0]
    for merged in (False, True):
        found = changes(sides_of(before, DAY), sides_of(after, DAY), merged=merged)
        total[merged] = sum(c.requests for c in found)
    assert total[0] == total[1] > 0


def test_a_policy_does_not_differ_from_itself() -> None:
    assert list(changes(sides_of(setting(), DAY), sides_of(setting(), DAY))) == []


def test_a_node_and_an_agency_that_only_one_directory_has_are_refused_by_the_other() -> None:
    more = {"jurisdiction": "us/ca", "kind": "county", "does": ["law-enforcement"], "id": "us-ca-c-so", "name": "C"}
    before = setting()
    base = [
        {"id": a.id, "name": a.name, "kind": a.kind, "jurisdiction": a.jurisdiction, "does": sorted(a.does)}
        for a in before.federation.agencies.values()
    ]
    after = setting(agency=[*base, more])
    found = list(changes(sides_of(before, DAY), sides_of(after, DAY)))
    decided = [c for c in found if c.decided]
    assert decided
    assert {c.before for c in decided} == {None}
    parties = {m.agency for c in decided for p in (*c.requesters, *c.beneficiaries) for m in p.members}
    assert all(
        any(m.agency == "us-ca-c-so" for p in (*c.requesters, *c.beneficiaries) for m in p.members) for c in found
    )
    assert "us-ca-c-so" in parties


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "diff", *arguments])


def test_what_a_city_would_change_is_said_in_plain_words() -> None:
    result = run("sanctuary-city", "limits-federal-coordination")
    assert result.exit_code == 1
    assert "compared: pack sanctuary-city where it is followed" in result.stdout
    assert ", at port-alder-1: refused -> permitted" in result.stdout


def test_the_same_pack_twice_changes_nothing_and_exits_0() -> None:
    result = run("us-il", "us-il")
    assert (result.exit_code, "no decision changes" in result.stdout) == (0, True)


def test_two_texts_of_a_node_are_compared_under_the_federations_policy(tmp_path: Path) -> None:
    for name, days in (("old.csv", 7), ("new.csv", 9)):
        rows = f"X-1,any-node,police,searcher,criminal,any-act,allow,lookback<={days},-,an order\n"
        (tmp_path / name).write_text(seal(f"{HEADER}\n{rows}"), encoding="ascii")
    result = run(str(tmp_path / "old.csv"), str(tmp_path / "new.csv"), "--node", "llano-1", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    decided = [c for c in found if c["before"] != c["after"]]
    assert {(c["before"]["effect"], c["after"]["effect"]) for c in decided} == {("deny", "permit")}
    assert {str(c["where"]["lookback"]) for c in decided} == {"[[8, 9]]"}
    assert {c["node"] for c in found} == {"llano-1"}


def test_two_federations_are_compared_node_by_node(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "packs").mkdir(parents=True)
        text = (SAMPLE / "directory.toml").read_text(encoding="utf-8")
        (tmp_path / name / "directory.toml").write_text(text, encoding="utf-8")
    assert run(str(tmp_path / "a"), str(tmp_path / "b")).exit_code == 0
    changed = (tmp_path / "b" / "directory.toml").read_text(encoding="utf-8").replace('"us-il"]', '"us-tx-open"]')
    (tmp_path / "b" / "directory.toml").write_text(changed, encoding="utf-8")
    result = run(str(tmp_path / "a"), str(tmp_path / "b"))
    assert result.exit_code == 1
    assert ", at lakeshore-1: refused -> permitted" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([str(SAMPLE), "us-ca"], 2, "only be compared with another", id="a federation against a pack"),
        pytest.param(["us-ca", "us-ca", "--node", "nowhere-1"], 2, "no node 'nowhere-1'", id="an unknown node"),
        pytest.param(["us-cx", "us-ca"], 1, "", id="an unknown pack"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: list[str], code: int, said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert said in result.stderr


def test_a_text_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(pack_text("us-ca")[:-80], encoding="ascii")
    result = run(str(path), "us-ca", "--node", "llano-1")
    assert result.exit_code == 1
    assert "seal" in str(result.exception)
