"""What lint says of rules, and that it is so of every request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.__main__ import cli
from comity.decision import NO_OBLIGATIONS
from policies.engine import Policy
from policies.lint import Finding, lint_node, lint_pack, lint_text
from policies.packs import PACKS
from policies.parties import Party
from policies.seal import HEADER, seal
from policies.setting import Setting
from policies.sides import Registry
from tests.policy.requests import SETTING
from tests.policy.small import DAY, every_request, rules, setting

ALLOW = "L-1,any-node,police,searcher,criminal,any-act,allow,always,-,x"
TABLE = [
    ("dead", "nobody is both of a state and federal", "L-2",
     [ALLOW, "L-2,any-node,federal,any-role,criminal,any-act,deny,same-state,-,x"]),
    ("dead", "no node lies in a state without one", "L-2",
     [ALLOW, "L-2,us/nh/granite,tribal,any-role,criminal,any-act,deny,always,-,x"]),
    ("dead", "an order of a court is there with every judicial warrant", "L-2",
     [ALLOW, "L-2,any-node,any-agency,any-role,criminal,any-act,deny,judicial-warrant&unless court-order,-,x"]),
    ("dead", "a look-back cannot be both", "L-2",
     [ALLOW, "L-2,any-node,any-agency,any-role,criminal,any-act,deny,lookback<=3&lookback>7,-,x"]),
    ("dead", "a purpose has one legal basis at a time", "L-2",
     [ALLOW, "L-2,any-node,any-agency,any-role,criminal,any-act,deny,basis-civil&basis-criminal,-,x"]),
    ("shadowed", "two denies together overrule it", "L-1",
     [ALLOW, "L-2,any-node,any-agency,any-role,any-purpose,any-act,deny,case,-,x",
      "L-3,any-node,any-agency,any-role,any-purpose,any-act,deny,unless case,-,x"]),
    ("shadowed", "a wider deny overrules it", "L-1",
     [ALLOW, "L-2,any-node,any-agency,any-role,any-purpose,any-act,deny,always,-,x"]),
    ("contradicting", "a deny with the same columns overrules it", "L-1",
     [ALLOW, "L-2,any-node,police,searcher,criminal,any-act,deny,always,-,x"]),
    ("redundant", "a wider deny denies as much", "L-2",
     [ALLOW, "L-2,any-node,federal,any-role,criminal,any-act,deny,unless case,-,x",
      "L-3,any-node,federal,any-role,any-purpose,any-act,deny,unless case,-,x"]),
    ("redundant", "a wider allow allows as much", "L-2",
     [ALLOW, "L-2,any-node,municipal,investigator,criminal-felony,exact,allow,case,-,x",
      "L-3,any-node,municipal,any-role,any-purpose,any-act,allow,always,-,x"]),
    ("redundant", "a stricter limit asks for more", "L-2",
     [ALLOW, "L-2,any-node,any-agency,any-role,criminal,any-act,limit,always,window_days<=30;redact=no-image,x",
      "L-3,any-node,any-agency,any-role,criminal,any-act,limit,always,window_days<=7;redact=hit-only,x"]),
    ("never-binds", "it limits only what a deny refuses", "L-2",
     [ALLOW, "L-2,any-node,federal,any-role,criminal,any-act,limit,always,approval=supervisor,x",
      "L-3,any-node,federal,any-role,any-purpose,any-act,deny,always,-,x"]),
]  # fmt: skip


def lint(rows: Sequence[str], at: Setting = SETTING, *, sealed: bool = True) -> list[Finding]:
    text = f"{HEADER}\n" + "".join(f"{r}\n" for r in rows)
    return list(lint_text(seal(text) if sealed else text, "own.csv", at, DAY))


@pytest.mark.parametrize(("kind", "rule", "rows"), [pytest.param(k, r, t, id=f"{k}: {i}") for k, i, r, t in TABLE])
def test_a_rule_that_does_nothing_is_found_at_its_line(kind: str, rule: str, rows: list[str]) -> None:
    found = [(f.kind, f.rule, f.place) for f in lint(rows)]
    line = next(n for n, r in enumerate(rows, 2) if r.startswith(f"{rule},"))
    assert found == [(kind, rule, f"own.csv:{line}")]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([ALLOW], id="an allow alone"),
        pytest.param([ALLOW, ALLOW.replace("L-1", "L-2").replace("allow", "deny").replace("always", "unless case")],
                     id="a deny with the same columns that asks for a case"),
        pytest.param([ALLOW, ALLOW.replace("L-1", "L-2").replace("allow,always,-", "limit,always,advice")],
                     id="advice, which binds nothing on purpose"),
        pytest.param(["L-2,any-node,federal,any-role,criminal,any-act,deny,always,-,x"],
                     id="a deny of a pack that is to stand beside others"),
        pytest.param([ALLOW, "L-2,any-node,any-agency,any-role,criminal,any-act,deny,unposted-purpose,-,x"],
                     id="a deny of what the usage policy leaves out"),
        pytest.param([ALLOW, "L-2,any-node,any-agency,any-role,any-purpose,any-act,deny,unless trained,-,x"],
                     id="a deny of those without training, whoever is registered as trained today"),
    ],
)  # fmt: skip
def test_rules_that_each_do_something_have_no_finding(rows: list[str]) -> None:
    assert lint(rows) == []


def test_of_two_rules_that_say_the_same_one_is_redundant() -> None:
    assert [(f.kind, f.rule) for f in lint([ALLOW, ALLOW.replace("L-1", "L-2")])] == [("redundant", "L-1")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param(ALLOW.replace("police", "polise"), "column 14: who: .* did you mean police", id="a word"),
        pytest.param(ALLOW.replace("criminal", "crimnal"), "did you mean criminal", id="a purpose"),
        pytest.param(ALLOW.replace("always", "warrant"), "did you mean judicial-warrant", id="a condition"),
        pytest.param(ALLOW.replace("allow", "permit"), "right is one of allow, deny, limit", id="an effect"),
        pytest.param(ALLOW[:-2], "has 9 cells; right is 10", id="a cell too few"),
    ],
)
def test_a_row_that_the_loader_refuses_is_found_with_the_nearest_known_word(row: str, said: str) -> None:
    other = ALLOW.replace("L-1", "L-3").replace("police", "tol")
    refused, again = lint([ALLOW.replace("L-1", "L-2"), row, other])
    assert (refused.kind, refused.place) == ("refused", "own.csv:3")
    assert again.place == "own.csv:4"
    assert re.search(said, refused.message)


def test_a_text_without_its_seal_is_noted_and_read_all_the_same() -> None:
    note, found = lint([*TABLE[0][3]], sealed=False)
    assert (note.kind, note.is_note) == ("unsealed", True)
    assert (found.kind, found.rule) == ("dead", "L-2")


def test_a_rule_that_its_pack_calls_derived_restates_others_and_is_no_fault() -> None:
    found = list(lint_pack("us-ca", SETTING, DAY))
    assert [(f.kind, f.rule, f.is_note) for f in found] == [("restates", "CA-8", True)]


@pytest.mark.parametrize("pack", sorted(p.stem for p in PACKS.glob("*.csv")))
def test_no_pack_that_is_shipped_has_a_fault(pack: str) -> None:
    assert [f for f in lint_pack(pack, SETTING, DAY) if not f.is_note] == []


def test_at_a_node_a_deny_of_what_nothing_allows_is_noted() -> None:
    found = list(lint_node("lakeshore-1", SETTING, DAY))
    assert {(f.kind, f.rule) for f in found} == {("idle", "IL-1"), ("idle", "IL-2")}
    assert all(f.is_note and f.file == "us-il.csv" for f in found)


def test_at_a_node_a_window_wider_than_detections_are_kept_never_binds() -> None:
    (found,) = [f for f in lint_node("port-alder-1", SETTING, DAY) if f.kind == "never-binds"]
    assert found.message == "SC-4 limits to 60 days where detections are kept for 60"


who = st.sampled_from(["any-agency", "police", "federal", "us-ca-a-pd", "police-of:us/tx"])
why = st.sampled_from(["any-purpose", "criminal", "immigration"])
when = st.sampled_from(["always", "case", "court-order", "judicial-warrant", "same-state", "on-behalf", "lookback<=7"])
duty = st.sampled_from(["window_days<=7", "window_days<=30", "approval=supervisor", "redact=no-image;window_days<=7"])


@st.composite
def texts(draw: st.DrawFn) -> list[str]:
    out = []
    for number in range(draw(st.integers(2, 4))):
        effect = draw(st.sampled_from(["allow", "deny", "limit"])) if number else "allow"
        condition = draw(when)
        if effect != "allow" and condition in ("case", "court-order"):
            condition = f"unless {condition}"
        duties = draw(duty) if effect == "limit" else "-"
        out.append(f"L-{number},any-node,{draw(who)},any-role,{draw(why)},any-act,{effect},{condition},{duties},x")
    return out


def verdicts(at: Setting, rows: Sequence[str]) -> list[object]:
    """What the node's policy says of every party, alone and on behalf, in every request."""
    policy: Policy = rules("\n".join(rows), at.federation)
    states = {a.id: a.state for a in at.federation.agencies.values()}
    out: list[object] = []
    for request in every_request(at, (7, 8, 31), alone=True):
        if request.role == "auditor" or request.node_facts or request.act != "exact":
            continue
        federation = request.supposed(at.federation)
        for on_behalf in (False, True):
            agency = federation.agencies[request.requester]
            party = Party(request.question(DAY), agency, federation, states, on_behalf=on_behalf)
            asked = policy.ask(agency.id, request.role, request.purpose, request.act, party.facts("us-ca-a-pd"))
            verdict = policy.verdict(asked, "a-1")
            out.append((verdict.allowed, verdict.obligations if verdict.allowed else NO_OBLIGATIONS))
    return out


@settings(max_examples=25, deadline=None)
@given(texts())
def test_a_finding_at_a_node_is_a_rule_without_which_every_decision_and_duty_is_the_same(rows: list[str]) -> None:
    at = setting(node_rules="\n".join(rows))
    assert Registry(at.federation, DAY).below(at.vocabulary.node, "any-node") == {"node:a-1"}
    found = {f.rule for f in lint_node("a-1", _without_packs(at), DAY)}
    whole = verdicts(at, rows)
    for rule in sorted(r.partition(",")[0] for r in rows):
        left = [r for r in rows if not r.startswith(f"{rule},")]
        if left:
            needless = verdicts(at, left) == whole
            # one of two that say the same is needed
            assert needless if rule in found else not needless or len(found) > 0


def _without_packs(at: Setting) -> Setting:
    """The setting with a node whose rules come from no pack file."""
    node = {"id": "a-1", "agency": "us-ca-a-pd", "source": "police", "retention_s": 86400 * 90, "cameras": 1}
    other = setting(node=[node])
    return Setting(
        federation=other.federation,
        vocabulary=at.vocabulary,
        federation_policy=at.federation_policy,
        node_policies=at.node_policies,
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "lint", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["us-il"], 0, id="a pack without a finding"),
        pytest.param(["--node", "lakeshore-1"], 0, id="a node with notes only"),
        pytest.param(["--node", "port-alder-1"], 1, id="a node with findings"),
        pytest.param(["--node", "nowhere-1"], 2, id="a node that is not registered"),
        pytest.param(["us-il", "--node", "lakeshore-1"], 2, id="a pack and a node"),
    ],
)
def test_the_exit_code_says_whether_something_was_found(arguments: list[str], code: int) -> None:
    assert run(*arguments).exit_code == code


def test_a_file_is_linted_with_one_object_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "city.csv"
    path.write_text(seal(f"{HEADER}\n{TABLE[0][3][0]}\n{TABLE[0][3][1]}\n"), encoding="ascii")
    result = run(str(path), "--json")
    (found,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert (found["kind"], found["file"], found["line"], found["level"]) == ("dead", "city.csv", 3, "fault")
