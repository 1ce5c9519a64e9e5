"""A policy that borrows the names of shipped rules, or of a pack, is told apart from what they say."""

from __future__ import annotations

import datetime as dt
import html
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.policy import policy
from identity import keys
from policies.claims import altered, claims, left_out, node_claims, replaced
from policies.lint import lint_node, lint_text
from policies.manifest import csv_rows, make_statement, page_of
from policies.matrix import Matrix
from policies.packs import PACKS, load_packs, pack_text, rows_of
from policies.reach import Reach
from policies.seal import HEADER, seal
from policies.setting import SAMPLE, Setting
from tests.policy.requests import DAY, SETTING, compile_rows

NAMES = sorted(path.stem for path in PACKS.glob("*.csv"))
NODE = "port-alder-1"
WEAKER = "CA-1,any-node,any-agency,any-role,any-purpose,any-act,deny,unless same-state&unless case,-,Cal. Civ. Code"
OWN = "PA-1,any-node,any-agency,any-role,any-purpose,area,deny,unless own-node,-,Council resolution"


def cells(pack: str) -> list[Sequence[str]]:
    return [row.rstrip("\n").split(",") for row in rows_of(pack_text(pack), pack)]


@pytest.mark.parametrize("pack", NAMES)
def test_a_shipped_pack_is_what_it_says(pack: str) -> None:
    assert list(altered(cells(pack))) == list(left_out([pack], cells(pack), DAY)) == []


@pytest.mark.parametrize("pack", NAMES)
def test_each_row_that_a_pack_lacks_and_each_cell_that_it_words_otherwise_is_found(pack: str) -> None:
    rows = cells(pack)
    for i, row in enumerate(rows):
        others = [r for r in rows if r is not row]
        assert [c.row for c in left_out([pack], others, dt.date(2030, 1, 1))] == [row[0]]
        for column in range(1, 9):
            changed = [*row[:column], "other", *row[column + 1 :]]
            assert [(c.pack, c.row) for c in altered([*rows[:i], changed, *rows[i + 1 :]])] == [(pack, row[0])]


def test_a_basis_may_be_worded_otherwise_and_a_row_of_its_own_may_say_anything() -> None:
    first = cells("us-ca")[0]
    assert list(altered([[*first[:-1], "as the council reads it"], OWN.split(",")])) == []


def test_a_part_that_the_packs_rule_does_not_have_is_no_part_of_it() -> None:
    (found,) = altered([WEAKER.replace("CA-1", "CA-10.z").split(",")])
    assert str(found).startswith("CA-10.z is no part of CA-10 in pack us-ca")


def test_a_row_that_is_not_in_force_yet_is_not_left_out() -> None:
    before, after = dt.date(2025, 6, 30), dt.date(2025, 7, 1)
    assert {c.row for c in left_out(["us-va"], [], before)} == {"VA-3.a", "VA-3.b"}
    assert {c.row for c in left_out(["us-va"], [], after)} == {row[0] for row in cells("us-va")}


def test_a_pack_that_is_not_shipped_promises_nothing() -> None:
    assert list(left_out(["port-alder"], cells("us-ca"), DAY)) == []


def test_lint_finds_a_borrowed_name_at_its_line() -> None:
    text = seal(f"{HEADER}\n{OWN}\n{WEAKER}\n")
    found = [(f.kind, f.rule, f.place) for f in lint_text(text, "own.csv", SETTING, DAY)]
    assert ("borrowed", "CA-1", "own.csv:3") in found
    assert not [f for f in found if f[1] == "PA-1"]


def test_lint_of_a_node_finds_what_its_policy_leaves_out_of_the_packs_that_it_names() -> None:
    stripped = replace(SETTING, node_policies={**SETTING.node_policies, NODE: compile_rows(OWN, "sanctuary-city")})
    found = {(f.kind, f.rule, f.place) for f in lint_node(NODE, stripped, DAY)}
    assert ("left-out", "CA-1", "us-ca.csv") in found
    assert {rule for kind, rule, _ in found if kind == "left-out"} == {row[0] for row in cells("us-ca")}
    assert [str(c).split()[0] for c in node_claims(stripped, NODE, DAY)] == [row[0] for row in cells("us-ca")]


def test_a_page_names_the_packs_that_the_policy_is_made_of_and_how_long_their_data_is_kept() -> None:
    other = compile_rows("", "us-me")
    at = replace(SETTING, node_policies={**SETTING.node_policies, NODE: other}, packs={NODE: ("us-me",)})
    page = "".join(page_of(Reach(Matrix(at, DAY), nodes=[NODE]), []))
    assert "packs us-me; policy" in page
    assert "kept 21 days" in page
    assert "sanctuary-city" not in page
    rows = csv_rows(Reach(Matrix(at, DAY)), "us-ca-chp", NODE, "stolen-vehicle")
    assert {row[-3] for row in rows} == {21}
    (host,) = make_statement(at, "us-ca-port-alder-pd", DAY)["hosts"]
    assert host["retention_s"] == 21 * 86_400


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(policy, arguments)


def test_the_author_the_second_signer_and_the_reader_are_all_told(tmp_path: Path) -> None:
    first, second, rules, out = (tmp_path / n for n in ("first.pem", "second.pem", "own.csv", "b.json"))
    for path in (first, second):
        keys.write_key(path, keys.new_signing_key())
    rules.write_text(seal(f"{HEADER}\n{WEAKER}\n"), encoding="ascii")
    told = "CA-1 is not what pack us-ca says: when is unless same-state&unless court-order"
    made = run("bundle", "granite-1", "--key", str(first), "--version", "2", "--rules", str(rules), "--out", str(out))
    signed = run("countersign", str(out), "--key", str(second))
    shown = run("matrix", "--node", "granite-1", "--bundle", f"granite-1={out}", "--html", str(tmp_path / "page.html"))
    for result in (made, signed, shown):
        assert result.exit_code == 0
        assert f"note: {told}" in result.stderr.replace("granite-1: ", "")
    assert f"granite-1: {told}" in html.unescape((tmp_path / "page.html").read_text())


def test_a_folders_pack_of_a_shipped_name_is_told_and_most_of_all_the_federations(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    shutil.copy(SAMPLE / "directory.toml", tmp_path)
    shutil.copytree(SAMPLE / "usage", tmp_path / "usage")
    for name in ("federation-base", "us-il", "us-nh"):
        body = "\n".join(line for line in pack_text(name).split("\n")[:-2])
        own = "" if name == "us-nh" else f"{OWN}\n"
        (tmp_path / "packs" / f"{name}.csv").write_text(seal(f"{body}\n{own}"), encoding="ascii")
    assert replaced(Setting.load(tmp_path, on=DAY)) == [
        "pack federation-base is this folder's own, and not the one that the package carries; brokers and nodes decide"
        " by that one",
        "pack us-il is this folder's own, and not the one that the package carries",
    ]
    shown = run("matrix", "--node", NODE, "--federation", str(tmp_path), "--html", str(tmp_path / "page.html"))
    assert "note: pack federation-base is this folder's own" in shown.stderr
    assert "pack federation-base is this folder" in (tmp_path / "page.html").read_text()
    for asked in (("prove", "never permit act:area"), ("lint", "us-me")):
        assert "note: pack federation-base is this folder's own" in run(*asked, "--federation", str(tmp_path)).stderr
    assert replaced(SETTING) == []


def test_nothing_is_told_of_a_policy_that_is_what_it_says(tmp_path: Path) -> None:
    assert claims(["us-ca", "sanctuary-city"], load_packs(["us-ca", "sanctuary-city"], on=DAY), DAY) == []
    assert run("matrix", "--node", NODE, "--federation", str(SAMPLE), "--csv", str(tmp_path / "m.csv")).stderr == ""
