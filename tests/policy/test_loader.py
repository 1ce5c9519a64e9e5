"""What raw Casbin lets through, and the strict loader must not: each hazard is one test."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from comity.errors import PolicyError
from comity.federation import Agency, Federation, Node
from policies.conditions import FACTS
from policies.enforcer import model_text
from policies.load import COLUMNS, load
from policies.packs import PACKS, load_packs, pack_text
from policies.seal import HEADER, main, seal, unseal
from policies.setting import Setting
from policies.vocabulary import Vocabulary

SETTING = Setting.load()
WORDS = SETTING.vocabulary
DENY = "X-1,any-node,federal,any-role,any-purpose,any-act,deny,always,-,an order"
ALLOW = "X-2,any-node,police,any-role,any-purpose,any-act,allow,always,-,an order"


def text(*rows: str) -> str:
    return seal("\n".join([HEADER, ALLOW, *rows]) + "\n")


def sealed_by_hand(body: str) -> str:
    """A seal over characters that `seal` itself refuses."""
    return f"{body}#end rows=2 sha256={hashlib.sha256(body.encode()).hexdigest()}\n"


@pytest.mark.parametrize("name", sorted(p.stem for p in PACKS.glob("*.csv")))
def test_every_shipped_pack_is_sealed_loads_and_says_that_counsel_must_review_it(name: str) -> None:
    assert load(pack_text(name), WORDS, name)
    assert "counsel must review" in pack_text(name)


def test_the_rows_of_a_good_text_are_rules() -> None:
    assert [r.row for r in load(text(DENY), WORDS)] == ["X-1", "X-2"]


def edited(column: str, value: str, row: str = DENY) -> str:
    cells = row.split(",")
    cells[COLUMNS.index(column)] = value
    return ",".join(cells)


@pytest.mark.parametrize(
    ("row", "column", "right"),
    [
        pytest.param(edited("eft", "Deny"), "eft", "allow, deny, limit", id="an effect in capitals"),
        pytest.param(edited("eft", "dney"), "eft", "allow, deny, limit", id="a misspelt effect"),
        pytest.param("p," + DENY, None, "10", id="Casbin's own row mark"),
        pytest.param(DENY.rsplit(",", 1)[0], None, "has 9 cells", id="a short row"),
        pytest.param(DENY + ",", None, "has 11 cells", id="a long row"),
        pytest.param(DENY + " # per ordinance", None, "line of its own", id="a comment inside a row"),
        pytest.param(" " + DENY, "rule", "blanks around", id="a leading blank"),
        pytest.param(edited("who", "federal "), "who", "blanks around", id="a blank behind a name"),
        pytest.param(edited("who", "fedral"), "who", "did you mean federal?", id="an unknown agency"),
        pytest.param(edited("who", "Federal"), "who", "not registered", id="a group in capitals"),
        pytest.param(edited("node", "us/zz"), "node", "not registered", id="an unknown place"),
        pytest.param(edited("node", "port-alder-1"), "node", "node:port-alder-1", id="a node without its mark"),
        pytest.param(edited("role", "captain"), "role", "not registered", id="an unknown role"),
        pytest.param(edited("purpose", "imigration"), "purpose", "did you mean immigration?", id="an unknown purpose"),
        pytest.param(edited("act", "search"), "act", "exact", id="an unknown act"),
        pytest.param(edited("when", "wednesday"), "when", "unless FACT", id="an unknown fact"),
        pytest.param(edited("when", "unless  case"), "when", "unless FACT", id="two blanks in a condition"),
        pytest.param(edited("when", "always&case"), "when", "no condition", id="always among others"),
        pytest.param(edited("when", "unless always"), "when", "no condition", id="never"),
        pytest.param(edited("when", "lookback<=-1"), "when", "lookback<=N", id="a negative bound"),
        pytest.param(edited("when", "lookback<30"), "when", "lookback<=N", id="a bound of another kind"),
        pytest.param(edited("when", "case&unless case"), "when", "stands twice", id="a contradiction"),
        pytest.param(edited("when", "lookback>1&lookback>2"), "when", "stands twice", id="a bound twice"),
        pytest.param(
            edited("when", "unless case", ALLOW).replace("X-2", "X-3"), "when", "deny row", id="unless on allow"
        ),
        pytest.param(
            edited("when", "hot-list-match", ALLOW).replace("X-2", "X-3"),
            "when",
            "only the node",
            id="a node's fact on allow",
        ),
        pytest.param(
            edited("duty", "shred", ALLOW).replace("X-2", "X-3"), "duty", "window_days<=N", id="an unknown duty"
        ),
        pytest.param(
            edited("duty", "redact=full;redact=no-image", ALLOW).replace("X-2", "X-3"),
            "duty",
            "twice",
            id="a duty twice",
        ),
        pytest.param(edited("duty", "approval=supervisor"), "duty", "right is -", id="a duty on a deny"),
        pytest.param(edited("eft", "limit"), "duty", "without a duty", id="a limit that limits nothing"),
        pytest.param(DENY.replace("X-1", "X-2"), "rule", "stands twice", id="a rule that stands twice"),
        pytest.param(edited("rule", "x-1"), "rule", "such as SC-1", id="an id in small letters"),
        pytest.param(edited("rule", "FED-5"), "rule", "engine's own", id="the engine's own rule"),
        pytest.param(edited("basis", ""), "basis", "is empty", id="no basis"),
        pytest.param(edited("basis", "x" * 600), None, "longer than", id="an endless line"),
        pytest.param("", None, "an empty line", id="an empty line"),
        pytest.param("#end rows=1 sha256=0", None, "in the middle", id="a seal in the middle"),
    ],
)
def test_a_malformed_row_is_refused_with_its_place_and_what_is_right(row: str, column: str | None, right: str) -> None:
    with pytest.raises(PolicyError, match=r"pack\.csv:3") as e:
        load(text(row, "# the end"), WORDS, "pack.csv")
    assert right in str(e.value)
    assert e.value.line == 3
    if column is not None:
        assert f"{column}:" in str(e.value)
        assert e.value.column == 1 + len(",".join([*row.split(",")[: COLUMNS.index(column)], ""]))


@pytest.mark.parametrize(
    ("char", "name"),
    [
        pytest.param("\ufeff", "U+FEFF", id="a byte order mark"),
        pytest.param("\r", "U+000D", id="a carriage return"),
        pytest.param("\t", "U+0009", id="a tab"),
        pytest.param("\x00", "U+0000", id="a null"),
        pytest.param("\u200b", "U+200B", id="a zero-width space"),
        pytest.param("\u00a0", "U+00A0", id="a no-break space"),
        pytest.param("\u0435", "U+0435", id="a Cyrillic letter"),
        pytest.param("\u2028", "U+2028", id="a line separator"),
        pytest.param('"', "quotation mark", id="a quoted cell"),
    ],
)
@pytest.mark.parametrize("at", [0, len(HEADER) + 10, -2])
def test_a_character_that_hides_is_refused_wherever_it_stands(char: str, name: str, at: int) -> None:
    body = f"{HEADER}\n{ALLOW}\n{DENY}\n"
    with pytest.raises(PolicyError) as e:
        load(sealed_by_hand(body[:at] + char + body[at:]), WORDS)
    assert name in str(e.value)
    assert e.value.line > 0
    assert e.value.column > 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("", "no header", id="nothing"),
        pytest.param("# a comment\n", "no header", id="comments alone"),
        pytest.param(HEADER + "\n", "no rule", id="a header alone"),
        pytest.param(DENY + "\n", "not the header", id="rules without a header"),
        pytest.param(HEADER.upper() + "\n" + DENY + "\n", "not the header", id="a header in capitals"),
    ],
)
def test_a_policy_that_says_nothing_is_refused(body: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        load(seal(body), WORDS)


def test_parts_of_one_rule_agree_in_effect_and_basis() -> None:
    with pytest.raises(PolicyError, match="differ in effect or basis"):
        load(text(DENY.replace("X-1", "X-7.a"), ALLOW.replace("X-2", "X-7.b")), WORDS)


def test_of_one_rule_no_part_binds_while_another_is_advice() -> None:
    limit = DENY.replace("deny", "limit")
    parts = (limit.replace("X-1", "X-7.a").replace(",-,", ",advice,"), limit.replace("X-1", "X-7.b"))
    with pytest.raises(PolicyError, match="is advice and another binds"):
        load(text(parts[0], parts[1].replace(",-,", ",window_days<=7,")), WORDS)


def test_a_sealed_file_cut_anywhere_is_refused() -> None:
    whole = load_packs(["federation-base", "us-ca"])
    assert load(whole, WORDS)
    for cut in [*range(0, len(whole), 37), len(whole) - 1]:
        with pytest.raises(PolicyError):
            load(whole[:cut], WORDS)


def test_a_sealed_file_with_one_character_changed_is_refused() -> None:
    whole = load_packs(["federation-base", "us-ca"])
    chance = random.Random(1)
    for _ in range(200):
        at = chance.randrange(len(whole))
        other = chr(ord(whole[at]) ^ 1)
        with pytest.raises(PolicyError):
            load(whole[:at] + other + whole[at + 1 :], WORDS)


def test_a_seal_with_another_row_count_or_text_behind_it_is_refused() -> None:
    whole = text(DENY)
    for wrong in (whole.replace("rows=2", "rows=3"), whole + DENY + "\n", whole + whole, whole.rstrip("\n")):
        with pytest.raises(PolicyError):
            unseal(wrong)


def test_sealing_again_changes_nothing() -> None:
    assert seal(text(DENY)) == text(DENY)


def test_the_seal_command_mends_an_edited_file(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text(DENY).replace("an order", "another order"), encoding="ascii")
    with pytest.raises(PolicyError, match="changed after it was sealed"):
        unseal(path.read_text(encoding="ascii"))
    assert main([str(path)]) == 0
    assert len(load(path.read_text(encoding="ascii"), WORDS)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["own.csv"]


@pytest.mark.parametrize(
    "wrong",
    ["-----BEGIN PRIVATE KEY-----\nMIG\n", "", "#rules\n", f"\n{HEADER}\n", "a,b\n1,2\n"],
    ids=["a key", "nothing", "only a comment", "a header that is not first", "another table"],
)
def test_what_is_no_table_of_rules_is_not_sealed_and_stays_as_it_is(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(wrong, encoding="ascii")
    path.chmod(0o600)
    assert main([str(path)]) == 1
    assert (path.read_text(encoding="ascii"), path.stat().st_mode & 0o777) == (wrong, 0o600)


@pytest.mark.parametrize("name", ["no-such-pack", "../model", "US-CA", ""])
def test_a_pack_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PolicyError):
        pack_text(name)


@pytest.mark.parametrize("names", [[], ["us-ca", "us-ca"]], ids=["no pack", "a pack twice"])
def test_no_pack_or_one_twice_is_refused(names: list[str]) -> None:
    with pytest.raises(PolicyError):
        load_packs(names)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(" && hit(p.rule)", "", id="without hit"),
        pytest.param(" && !some(where (p.eft == deny))", "", id="without denies"),
        pytest.param("g(r.who, p.who) && ", "", id="without a column"),
    ],
)
def test_a_model_that_was_changed_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "model.conf"
    path.write_text(model_text().replace(old, new), encoding="ascii")
    with pytest.raises(PolicyError, match="not the model"):
        model_text(path)


def federation(**changes: object) -> Federation:
    return replace(SETTING.federation, **changes)  # type: ignore[arg-type]


def agency(**changes: object) -> Agency:
    return replace(SETTING.federation.agencies["us-fbi"], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(federation(purposes={"a": "b", "b": "a"}), id="a cycle of purposes"),
        pytest.param(federation(roles={"a": "b", "b": "c", "c": "b"}), id="a cycle of roles above a leaf"),
        pytest.param(federation(purposes={f"p{i}": f"p{i + 1}" for i in range(9)} | {"p9": ""}), id="a tree of ten"),
        pytest.param(federation(agencies={"federal": agency(id="federal")}, nodes={}), id="an agency named as a group"),
        pytest.param(
            federation(agencies={"x": agency(id="x", does=frozenset({"federal"}))}, nodes={}), id="a group claimed"
        ),
        pytest.param(
            federation(agencies={"any-agency": agency(id="any-agency")}, nodes={}), id="an agency named as all"
        ),
    ],
)
def test_a_directory_whose_words_are_ambiguous_cyclic_or_too_deep_is_refused(wrong: Federation) -> None:
    with pytest.raises(PolicyError):
        Vocabulary.of(wrong)


def test_a_federal_office_in_a_state_is_no_police_of_that_state() -> None:
    office = agency(jurisdiction="us/ca")
    words = Vocabulary.of(federation(agencies={**SETTING.federation.agencies, office.id: office}))
    assert "police-of:us/ca" not in words.who.above[office.id]
    assert "federal-police" in words.who.above[office.id]
    assert "police-of:us/ca" in words.who.above["us-ca-port-alder-pd"]


def test_a_node_lies_in_its_places_and_under_its_tags_and_source() -> None:
    node: Node = SETTING.federation.nodes["port-alder-1"]
    assert WORDS.node.above[f"node:{node.id}"] >= {
        "us/ca/alder",
        "us/ca",
        "us",
        "any-node",
        "tag:sanctuary",
        "source:police",
    }


def test_every_fact_names_who_has_it() -> None:
    assert {holder.value for holder in FACTS.values()} == {"broker", "node"}
