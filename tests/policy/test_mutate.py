"""Mutants of rules, the rows that kill them, and the rows that are made for those that none does."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import cli
from comity.errors import InvalidInput
from policies.engine import Policy
from policies.load import load
from policies.mutants import Mutant, mutants_of
from policies.mutate import mutate, needed_header, packs_of
from policies.packs import PACKS, pack_text
from policies.seal import HEADER as COLUMNS
from policies.seal import seal
from policies.setting import SAMPLE, Setting
from policies.table import Row, read_table, run_table
from policies.trial import Trial
from tests.policy.requests import DAY, SETTING, WORDS

TABLES = PACKS / "tables"
PACK_SETTING = Setting.load(TABLES)
SHIPPED = sorted(path.stem for path in TABLES.glob("*.csv"))
SAMPLE_ROWS = read_table((SAMPLE / "decisions.csv").read_text(encoding="utf-8"))


def mutants(row: str) -> dict[str, Mutant]:
    (rule,) = load(seal(f"{COLUMNS}\n{row}\n"), WORDS)
    return {m.what: m for m in mutants_of(rule, WORDS)}


def table(pack: str) -> tuple[Row, ...]:
    return read_table((TABLES / f"{pack}.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            "X-1,any-node,federal,any-role,immigration,any-act,deny,unless court-order,-,x",
            {"dropped", "deny made allow", "who federal made any-agency", "purpose immigration made any-purpose",
             "purpose immigration made administrative", "condition unless court-order dropped",
             "unless court-order made court-order"},
            id="a deny with a condition",
        ),
        pytest.param(
            "X-1,any-node,any-agency,any-role,any-purpose,partial,limit,lookback>7,window_days<=30;redact=no-image,x",
            {"dropped", "act partial made any-act", "act partial made area", "lookback>7 dropped",
             "lookback>7 made >6", "lookback>7 made >8", "window_days dropped", "window_days<=30 made <=29",
             "window_days<=30 made <=31", "redact=no-image made full", "redact=no-image made coarse-location"},
            id="a limit with duties",
        ),
        pytest.param(
            "X-1,us/ca,any-agency,any-role,any-purpose,any-act,allow,case&lookback<=3,approval=supervisor,x",
            {"dropped", "allow made deny", "node us/ca made us", "node us/ca made any-node", "node us/ca made us/il",
             "condition case dropped", "lookback<=3 dropped", "lookback<=3 made <=2", "lookback<=3 made <=4",
             "approval dropped"},
            id="an allow at a place",
        ),
    ],
)  # fmt: skip
def test_a_rule_has_exactly_these_mutants(row: str, expected: set[str]) -> None:
    made = set(mutants(row))
    assert {m for m in made if "sibling" not in m} >= expected
    assert all(m.startswith("who federal made") for m in made - expected)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_table_of_every_shipped_pack_reaches_its_mutation_score(name: str) -> None:
    score = mutate(table(name), name, PACK_SETTING, DAY)
    assert score.killed > 0
    assert score.value >= 0.95, [s.line(needed_header(table(name), [score])) for s in score.survivors]


@pytest.mark.parametrize("name", [*SHIPPED, "decisions", "more"])
def test_a_trial_sees_what_the_enforcement_point_decides(name: str) -> None:
    shipped = name in SHIPPED
    setting = PACK_SETTING if shipped else SETTING
    rows = table(name) if shipped else read_table((SAMPLE / f"{name}.csv").read_text(encoding="utf-8"))
    for result in run_table(rows, setting, DAY):
        seen = Trial(result.row, setting, DAY).seen()
        decided = frozenset(r.rule for r in result.decision.rules)
        assert (seen.outcome, seen.rules, seen.days) == (result.got, decided, result.window_days)
        assert seen.redaction == result.decision.obligations.redaction.word
        assert seen.meets(result.row) is (result.failures == ())


@pytest.mark.parametrize("pack", ["sanctuary-city", "us-ca", "federation-base"])
def test_the_rows_made_for_survivors_hold_and_then_no_mutant_survives(pack: str) -> None:
    score = mutate(SAMPLE_ROWS, pack, SETTING, DAY)
    assert score.survivors
    header = needed_header(SAMPLE_ROWS, [score])
    made = read_table("\n".join([",".join(header), *(s.line(header) for s in score.survivors)]))
    assert [r.failures for r in run_table(made, SETTING, DAY) if r.failures] == []
    again = mutate((*SAMPLE_ROWS, *made), pack, SETTING, DAY)
    assert (again.value, again.survivors) == (1.0, ())


def test_each_mutant_is_killed_or_not_as_the_whole_engine_says() -> None:
    """Each mutant of one pack, compiled and decided by Casbin, fails the table exactly if the trial says so."""
    rules = load(pack_text("sanctuary-city"), WORDS)
    for mutant in (m for rule in rules for m in mutants_of(rule, WORDS)):
        if mutant.rule is not None and mutant.rule.effect == "allow" and mutant.rule.condition.bars:
            continue  # no text may say it
        whole = _with(SETTING, mutant)
        by_engine = any(r.failures for r in run_table(SAMPLE_ROWS, whole, DAY))
        trials = [Trial(row, SETTING, DAY) for row in SAMPLE_ROWS]
        by_trial = any(t.node == "port-alder-1" and not t.seen(mutant, (1,)).meets(t.row) for t in trials)
        assert by_engine is by_trial, mutant.what


def _with(setting: Setting, mutant: Mutant) -> Setting:
    policy = setting.node_policies["port-alder-1"]
    assert policy is not None
    kept = tuple(r for r in policy.rules if r.row != mutant.row)
    rules = kept if mutant.rule is None else (*kept, mutant.rule)
    ordered = tuple(sorted(rules, key=lambda r: r.row))
    cells = [replace(r, cells=(*r.cells[:6], r.effect, *r.cells[7:])) for r in ordered]
    for i, rule in enumerate(cells):
        # Casbin reads conditions by their text, so a changed one needs its own
        text = f"{rule.cells[7]} #{i}"
        cells[i] = replace(rule, cells=(*rule.cells[:7], text, *rule.cells[8:]))
    changed = Policy(tuple(cells), setting.vocabulary, lambda _: None, policy.posted)
    return replace(setting, node_policies={**setting.node_policies, "port-alder-1": changed}, folder=None)


def test_a_table_without_rows_kills_nothing() -> None:
    score = mutate((), "us-il", SETTING, DAY)
    assert (score.killed, score.value) == (0, 0.0)
    assert score.survivors


def test_a_pack_that_nobody_follows_has_no_score() -> None:
    with pytest.raises(InvalidInput, match="no node of pacific-exchange follows pack uk"):
        mutate(SAMPLE_ROWS, "uk", SETTING, DAY)


def test_without_a_name_the_packs_that_the_rows_meet_are_tried() -> None:
    (row,) = [r for r in SAMPLE_ROWS if r.cells["node"] == "llano-1"][:1]
    packs = ("federation-base", "ice-guidance", "limits-federal-coordination", "us-tx-open")
    assert packs_of([row], SETTING) == packs


def test_a_day_before_a_paper_expired_tells_mutants_apart_too() -> None:
    score = mutate((), "us-il", SETTING, dt.date(2031, 7, 1))
    (found,) = [s for s in score.survivors if s.mutant.what == "condition unless declaration dropped"]
    assert "" < found.cells["at"] < "2030-01-01"


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "test", str(path), "--mutate", *options])


def test_a_score_below_the_least_exits_1_with_rows_ready_to_be_pasted(tmp_path: Path) -> None:
    result = run(SAMPLE / "decisions.csv", "--pack", "limits-federal-coordination")
    assert result.exit_code == 1
    assert "limits-federal-coordination: mutation score 0.60, 3 of 5 killed" in result.stdout
    header = (SAMPLE / "decisions.csv").read_text(encoding="utf-8").splitlines()[0]
    rows = result.stdout[result.stdout.index(header) :]
    path = tmp_path / "pasted.csv"
    path.write_text((SAMPLE / "decisions.csv").read_text(encoding="utf-8").rstrip("\n") + "\n" + rows.split("\n", 1)[1])
    again = run(path, "--pack", "limits-federal-coordination")
    assert (again.exit_code, "mutation score 1.00" in again.stdout) == (0, True)


def test_the_least_score_may_be_lowered() -> None:
    assert run(SAMPLE / "decisions.csv", "--pack", "limits-federal-coordination", "--least", "0.5").exit_code == 0


def test_json_has_one_object_a_pack_after_the_rows() -> None:
    result = run(SAMPLE / "decisions.csv", "--pack", "sanctuary-city", "--json")
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["pack"] == "sanctuary-city"
    assert last["mutants"] == last["killed"] + last["equivalent"] + last["survived"]
    (row,) = csv.reader(io.StringIO(last["survivors"][0]["row"]))
    assert len(row) == len(SAMPLE_ROWS[0].cells)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param(["--pack", "uk"], 2, id="a pack that nobody follows"),
        pytest.param(["--least", "2"], 2, id="a score above one"),
    ],
)
def test_wrong_usage_exits_2(options: list[str], code: int) -> None:
    assert run(SAMPLE / "decisions.csv", *options).exit_code == code


def test_a_table_that_does_not_hold_is_not_mutated(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    text = (SAMPLE / "decisions.csv").read_text(encoding="utf-8").replace(",permit,,", ",deny,,", 1)
    path.write_text(text, encoding="utf-8")
    result = run(path)
    assert (result.exit_code, "mutation score" in result.stdout) == (1, False)
