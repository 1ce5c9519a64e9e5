"""Every shipped pack against its own decision table, and what is said about its rules."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import cli
from comity.errors import PolicyError
from policies.load import load
from policies.metadata import NOT_LAW
from policies.offences import LIMITATIONS, known_offences, limitation_of, parse_offences
from policies.packs import PACKS, load_packs, not_law, pack_metadata, pack_text
from policies.retention import DAY_S, retention_s
from policies.setting import Setting
from policies.table import Row, read_table, run_table

NAMES = sorted(p.stem for p in PACKS.glob("*.csv"))
TABLES = PACKS / "tables"
SETTING = Setting.load(TABLES)
TODAY = dt.date(2026, 7, 1)
EVERYTHING = ("any-node", "any-agency", "any-role", "any-purpose", "any-act")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "packs.md").read_text(encoding="utf-8")


def table(name: str) -> tuple[Row, ...]:
    return read_table((TABLES / f"{name}.csv").read_text(encoding="utf-8"))


def rule_ids(name: str) -> set[str]:
    return {rule.id for rule in load(pack_text(name), SETTING.vocabulary, name)}


def cases() -> list[object]:
    return [pytest.param(row, id=f"{name}: {row.case}") for name in NAMES for row in table(name)]


@pytest.mark.parametrize("row", cases())
def test_every_row_of_every_packs_table_holds(row: Row) -> None:
    (result,) = run_table((row,), SETTING, TODAY)
    assert result.failures == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_a_pack_is_shown_to_apply_and_not_to_apply(name: str) -> None:
    said = {term for row in table(name) for term in row.rules}
    rules = load(pack_text(name), SETTING.vocabulary, name)
    always = {r.id for r in rules if r.cells[1:6] == EVERYTHING and r.cells[7] == "always"}
    assert {r.id for r in rules} <= {rule for rule, applies in said if applies}
    assert {r.id for r in rules} - always <= {rule for rule, applies in said if not applies}


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_its_source_and_its_legal_status(name: str) -> None:
    known = pack_metadata(name)
    assert known is not None
    assert set(known.rules) == rule_ids(name)
    for meta in known.rules.values():
        assert (meta.status in NOT_LAW) is name.endswith("-proposed")


def test_the_loader_counts_the_rules_of_all_packs_once() -> None:
    ids = [rule for name in NAMES for rule in rule_ids(name)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("pack", "seconds"),
    [
        ("us-nh", 180),
        ("us-va", 21 * DAY_S),
        ("us-me", 21 * DAY_S),
        ("us-wa", 21 * DAY_S),
        ("us-mn", 60 * DAY_S),
        ("us-ut", 273 * DAY_S),
        ("us-vt", 546 * DAY_S),
        ("us-nj", 1095 * DAY_S),
        ("uk", 365 * DAY_S),
        ("us-ca", 10_000 * DAY_S),
        ("a-pack-of-ones-own", 10_000 * DAY_S),
    ],
)
def test_a_pack_says_how_long_its_nodes_keep_detections(pack: str, seconds: int) -> None:
    assert retention_s(10_000 * DAY_S, [pack]) == seconds
    assert retention_s(60, [pack]) == 60


def test_a_pack_that_is_not_law_is_named_so() -> None:
    assert not_law(NAMES) == ("pack ca-sb274-proposed is not law: CA-9 is vetoed",)
    assert "CA-9," not in load_packs([n for n in NAMES if n != "ca-sb274-proposed"])


def test_the_command_says_which_pack_is_not_law() -> None:
    result = CliRunner().invoke(
        cli, ["policy", "test", str(TABLES / "ca-sb274-proposed.csv"), "--federation", str(TABLES)]
    )
    assert result.exit_code == 0
    assert result.stderr == "note: pack ca-sb274-proposed is not law: CA-9 is vetoed\n"


def test_each_limitation_has_its_row_in_the_federal_guidance() -> None:
    rows = [r for r in load(pack_text("ice-guidance"), SETTING.vocabulary) if r.id == "ICE-2"]
    stated = {(next(iter(r.condition.needs)), r.duties.window_days, r.cells[4]) for r in rows}
    assert stated == {(f, d, p) for f, d in LIMITATIONS.items() for p in ("criminal", "immigration-criminal")}


def test_an_offence_that_is_not_listed_has_the_shortest_limitation() -> None:
    shortest = min(LIMITATIONS, key=LIMITATIONS.__getitem__)
    for unknown in ("", "loitering", "Terrorism", "terrorism ", "none", shortest):
        assert limitation_of(unknown) == shortest
    assert {limitation_of(o) for o in known_offences()} == {"", *LIMITATIONS}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"limitation": "limitation-9y", "citation": "x", "checked": "text"}, id="an unknown limitation"),
        pytest.param({"limitation": "none", "citation": "x"}, id="a key missing"),
        pytest.param({"limitation": "none", "citation": "x", "checked": "text", "days": "9"}, id="a key too many"),
        pytest.param({"limitation": 5, "citation": "x", "checked": "text"}, id="a number for text"),
        pytest.param("none", id="no table"),
    ],
)
def test_a_malformed_offence_is_refused(entry: object) -> None:
    with pytest.raises(PolicyError, match="theft"):
        parse_offences({"theft": entry})


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_page_says_of_each_rule_what_the_pack_says(name: str) -> None:
    known = pack_metadata(name)
    assert known is not None
    (section,) = re.findall(rf"^## `{name}`\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    effects = {r.id: r.effect for r in load(pack_text(name), SETTING.vocabulary)}
    for rule, m in known.rules.items():
        since = m.from_date.isoformat() if m.from_date else ""
        assert f"| {rule} | {effects[rule]} | {m.status} | {m.checked} | {since} | {m.citation} |" in section
    for row, e in known.elsewhere.items():
        assert f"- {row} ({e.citation}; {e.status}, {e.checked}): {e.met}." in section
