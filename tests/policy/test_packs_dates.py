"""Effective dates, metadata and usage policies: what a pack and a bundle must state to be followed."""

from __future__ import annotations

import datetime as dt
import shutil
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cli.__main__ import cli
from comity import jcs
from comity.errors import InvalidInput, PolicyError
from comity.federation import Federation
from identity import keys
from policies.bundle import compile_bundle, make_bundle, parse_bundle
from policies.decide import Decider
from policies.metadata import Metadata
from policies.packs import load_packs, next_change, pack_metadata
from policies.seal import HEADER, seal
from policies.setting import SAMPLE, Setting
from policies.table import read_table, run_table
from policies.usage import FIELDS, UsagePolicy
from tests.policy.requests import SETTING, decider, question

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
USAGE = SETTING.usage_policies["sequoia-1"]
ROWS = """
ZZ-1,any-node,any-agency,any-role,any-purpose,area,deny,always,-,An act; text
ZZ-2,any-node,police,searcher,criminal,any-act,allow,always,-,Another act; text
ZZ-3,any-node,any-agency,any-role,any-purpose,any-act,limit,always,window_days<=9,A third act; text
"""
META = """
title = 'an example'
[rules.ZZ-1]
citation = 'An act'
status = 'in-force'
checked = 'text'
from = 2026-01-01
until = 2027-01-01
[rules.ZZ-2]
citation = 'Another act'
status = 'contested'
checked = 'report'
from = 2026-06-01
[rules.ZZ-3]
citation = 'A third act'
status = 'own-policy'
checked = 'own-policy'
"""
BASES = {"ZZ-1": "An act; text", "ZZ-2": "Another act; text", "ZZ-3": "A third act; text"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A federation with a dated pack of its own at brazos-bend-1."""
    (tmp_path / "packs").mkdir()
    text = (SAMPLE / "directory.toml").read_text(encoding="utf-8")
    (tmp_path / "directory.toml").write_text(text.replace('["us-tx-open"]', '["dated"]'), encoding="utf-8")
    (tmp_path / "packs" / "dated.csv").write_text(seal(HEADER + ROWS), encoding="ascii")
    (tmp_path / "packs" / "dated.meta.toml").write_text(seal(META), encoding="ascii")
    return tmp_path


def loaded(folder: Path, on: dt.date | None) -> set[str]:
    text = load_packs(["dated"], beside=folder / "packs", on=on)
    return {line.split(",")[0] for line in text.splitlines() if line.startswith("ZZ")}


@pytest.mark.parametrize(
    ("on", "rules"),
    [
        pytest.param(dt.date(2025, 12, 31), {"ZZ-3"}, id="before any date"),
        pytest.param(dt.date(2026, 1, 1), {"ZZ-1", "ZZ-3"}, id="on the first day"),
        pytest.param(dt.date(2026, 6, 1), {"ZZ-1", "ZZ-2", "ZZ-3"}, id="on the next first day"),
        pytest.param(dt.date(2026, 12, 31), {"ZZ-1", "ZZ-2", "ZZ-3"}, id="on the last day"),
        pytest.param(dt.date(2027, 1, 1), {"ZZ-2", "ZZ-3"}, id="on the day that until names"),
        pytest.param(None, {"ZZ-1", "ZZ-3"}, id="with no day denies count and dated allows do not"),
    ],
)
def test_a_policy_holds_the_rules_in_force_on_its_day(folder: Path, on: dt.date | None, rules: set[str]) -> None:
    assert loaded(folder, on) == rules


@pytest.mark.parametrize(
    ("on", "change"),
    [
        (dt.date(2025, 12, 31), dt.date(2026, 1, 1)),
        (dt.date(2026, 1, 1), dt.date(2026, 6, 1)),
        (dt.date(2026, 12, 31), dt.date(2027, 1, 1)),
        (dt.date(2027, 1, 1), None),
    ],
)
def test_the_next_change_is_the_first_later_day_that_a_rule_names(
    folder: Path, on: dt.date, change: dt.date | None
) -> None:
    assert next_change(["us-tx-open", "dated"], on, folder / "packs") == change


def test_a_bundle_does_not_outlive_the_rules_of_its_making(folder: Path) -> None:
    setting = Setting.load(folder)
    fields: dict[str, Any] = {
        "federation": setting.federation,
        "node": "brazos-bend-1",
        "version": 1,
        "valid_from": NOW,
        "packs": ["dated"],
        "policy": load_packs(["dated"], beside=folder / "packs", on=NOW.date()),
        "beside": folder / "packs",
    }
    clipped = make_bundle(valid_to=NOW + dt.timedelta(days=365), **fields)
    bundle = parse_bundle(clipped, setting.federation, NOW)
    assert bundle.next_change == dt.date(2027, 1, 1)
    assert bundle.valid_to == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    short = make_bundle(valid_to=NOW + dt.timedelta(days=7), **fields)
    assert parse_bundle(short, setting.federation, NOW).valid_to == NOW + dt.timedelta(days=7)
    longer = jcs.encode(orjson.loads(clipped) | {"valid_to": "2027-01-01T00:00:01Z"})
    with pytest.raises(PolicyError) as e:
        parse_bundle(longer, setting.federation, NOW)
    assert e.value.reason == "BUNDLE_MALFORMED"


@pytest.mark.parametrize("day", ["2027-1-1", "2027-02-30", "soon"])
def test_a_next_change_that_is_no_day_is_refused(day: str) -> None:
    with pytest.raises(PolicyError) as e:
        parse_bundle(jcs.encode(orjson.loads(payload()) | {"next_change": day}), SETTING.federation, NOW)
    assert e.value.reason == "BUNDLE_MALFORMED"


def test_a_row_of_a_table_is_decided_under_the_rules_of_its_day(folder: Path) -> None:
    head = "case,requester,role,beneficiary,purpose,legal_basis,case_number,authority,approval,query,node,lookback_days"
    row = "us-ca-chp,investigator,self,stolen-vehicle,criminal,C-1,,,area,brazos-bend-1,30"
    text = "\n".join(
        [
            f"{head},expect,rule,obligations,at",
            f"before,{row},deny,!ZZ-1;!ZZ-2,,2025-12-31",
            f"between,{row},deny,ZZ-1;!ZZ-2,,2026-01-01",
            f"after,{row},permit,!ZZ-1;ZZ-2;ZZ-3,window_days=9,2027-01-01",
        ]
    )
    results = list(run_table(read_table(text), Setting.load(folder), NOW.date()))
    assert [r.failures for r in results] == [(), (), ()]


def test_what_a_day_does_not_change_stays_the_same_version(folder: Path) -> None:
    setting = Setting.load(folder)
    later = setting.at(dt.date(2027, 1, 1))
    assert later.node_policies["brazos-bend-1"] is not setting.node_policies["brazos-bend-1"]
    assert later.node_policies["granite-1"] is setting.node_policies["granite-1"]
    assert later.at(dt.date(2027, 1, 2)) is later


def test_a_pack_of_ones_own_may_come_without_metadata(folder: Path) -> None:
    (folder / "packs" / "dated.meta.toml").unlink()
    assert pack_metadata("dated", folder / "packs") is None
    assert loaded(folder, dt.date(1999, 1, 1)) == {"ZZ-1", "ZZ-2", "ZZ-3"}


def edited(old: str, new: str) -> str:
    assert META.count(old) >= 1
    return META.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(edited("[rules.ZZ-2]", "[rules.ZZ-9]"), "ZZ-2|ZZ-9", id="a rule without metadata"),
        pytest.param(META + META.split("\n", 2)[2].replace("ZZ-", "YY-"), "YY-", id="metadata without a rule"),
        pytest.param(edited("status = 'in-force'\n", ""), "'status' is missing", id="a key missing"),
        pytest.param(edited("checked = 'text'\n", "checked = 'text'\nfrm = 2026-01-01\n"), "unknown", id="a key more"),
        pytest.param(edited("'in-force'", "'law'"), "must be one of", id="an unknown status"),
        pytest.param(edited("'in-force'", "'proposed'"), "named", id="a proposed rule in a pack named as law"),
        pytest.param(edited("'in-force'", "'vetoed'"), "named", id="a vetoed rule in a pack named as law"),
        pytest.param(edited("'report'", "'sure'"), "must be one of", id="an unknown degree of checking"),
        pytest.param(edited("'An act'", "'Some act'"), "does not begin", id="a citation that the rule does not cite"),
        pytest.param(edited("2027-01-01", "2026-01-01"), "later than", id="dates that never meet"),
        pytest.param(edited("2027-01-01", "'2027-01-01'"), "must be a date", id="a date as text"),
        pytest.param(edited("2027-01-01", "2027-01-01T00:00:00Z"), "must be a date", id="a date with an hour"),
        pytest.param(edited("title = 'an example'\n", ""), "'title' is missing", id="no title"),
        pytest.param("usage_policy = 'yes'\n" + META, "true or false", id="a need as text"),
        pytest.param("extra = 1\n" + META, "unknown", id="an unknown key"),
        pytest.param(META + "[retention]\nseconds = 0\nrow = 'ZZ-1'\n", "from 1", id="a retention of nothing"),
        pytest.param(META + "[retention]\nseconds = 9\nrow = 'ZZ-8'\n", "retention.row", id="a retention of no row"),
        pytest.param(
            META + "[elsewhere.ZZ-1]\ncitation = 'x'\nstatus = 'in-force'\nchecked = 'text'\nmet = 'y'\n",
            "not met elsewhere",
            id="a rule that is also met elsewhere",
        ),
        pytest.param("title = \n", "not TOML", id="no TOML"),
    ],
)
def test_malformed_metadata_is_refused_with_what_is_right(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Metadata.parse(seal(text), "dated", BASES)


def test_metadata_that_is_not_whole_is_refused() -> None:
    whole = seal(META)
    for cut in range(0, len(whole), 23):
        with pytest.raises(PolicyError):
            Metadata.parse(whole[:cut], "dated", BASES)


def test_a_proposed_rule_is_at_home_in_a_pack_that_says_so() -> None:
    text = (
        META.replace("'in-force'", "'proposed'")
        .replace("'contested'", "'vetoed'")
        .replace("'own-policy'", "'vetoed'", 1)
    )
    known = Metadata.parse(seal(text), "dated-proposed", BASES)
    assert known.not_law() == {"ZZ-1": "proposed", "ZZ-2": "vetoed", "ZZ-3": "vetoed"}


def payload(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "federation": SETTING.federation,
        "node": "sequoia-1",
        "version": 1,
        "valid_from": NOW,
        "valid_to": NOW + dt.timedelta(days=7),
        "packs": ["us-ca"],
        "policy": load_packs(["us-ca"]),
        "usage_policy": USAGE,
    }
    return make_bundle(**(fields | changes))


@pytest.mark.parametrize("field", FIELDS)
def test_a_usage_policy_without_one_of_its_fields_is_refused(field: str) -> None:
    data = {k: v for k, v in USAGE.as_json().items() if k != field}
    with pytest.raises(PolicyError, match=f"{field} is missing"):
        UsagePolicy.parse(data)
    with pytest.raises(PolicyError) as e:
        parse_bundle(jcs.encode(orjson.loads(payload()) | {"usage_policy": data}), SETTING.federation, NOW)
    assert e.value.reason == "BUNDLE_USAGE_POLICY"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"custodian": ""}, id="an empty custodian"),
        pytest.param({"custodian": "  "}, id="a blank custodian"),
        pytest.param({"custodian": 7}, id="a custodian that is a number"),
        pytest.param({"custodian": "a\x1b[31m"}, id="control characters"),
        pytest.param({"training": "x" * 2001}, id="an endless statement"),
        pytest.param({"purposes": []}, id="no purpose"),
        pytest.param({"purposes": "criminal"}, id="purposes as text"),
        pytest.param({"purposes": ["criminal", "criminal"]}, id="a purpose twice"),
        pytest.param({"purposes": ["Criminal"]}, id="a purpose that is no name"),
        pytest.param({"motto": "to serve"}, id="an unknown field"),
    ],
)
def test_a_malformed_usage_policy_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as e:
        UsagePolicy.parse(USAGE.as_json() | change)
    assert e.value.reason == "BUNDLE_USAGE_POLICY"


def test_a_node_under_californian_law_is_not_active_without_a_usage_policy() -> None:
    """CA-5, whether the bundle names the pack or the directory alone does."""
    for packs in (["us-ca"], ["us-tx-open"]):
        with pytest.raises(PolicyError) as e:
            payload(usage_policy=None, packs=packs)
        assert e.value.reason == "BUNDLE_USAGE_POLICY"
    assert payload(usage_policy=None, node="brazos-bend-1", packs=["us-tx-open"], policy=load_packs(["us-tx-open"]))


def test_a_posted_purpose_that_is_not_registered_is_not_signed() -> None:
    misspelt = UsagePolicy.parse(USAGE.as_json() | {"purposes": ["imigration-criminal"]})
    with pytest.raises(PolicyError, match="not registered"):
        payload(usage_policy=misspelt)


def test_the_usage_policy_decides_with_the_rules_and_is_named_by_the_digest() -> None:
    narrow = UsagePolicy.parse(USAGE.as_json() | {"purposes": ["protection-of-life"]})
    wide, closed = (
        compile_bundle(parse_bundle(payload(usage_policy=u), SETTING.federation, NOW), SETTING.federation)
        for u in (USAGE, narrow)
    )
    assert wide.digest != closed.digest
    point: Decider = decider()
    permitted, refused = (point.decide(question(), [("sequoia-1", p)])[0] for p in (wide, closed))
    assert permitted.permitted
    assert (refused.reason_code, refused.reason.count("CA-4")) == ("DENIED_BY_RULE", 1)


def test_the_bundle_command_takes_the_usage_policy_from_the_folder_and_refuses_without(tmp_path: Path) -> None:
    key = tmp_path / "policy.pem"
    keys.write_key(key, keys.new_signing_key())
    out = tmp_path / "bundle.json"
    line = ["policy", "bundle", "sequoia-1", "--key", str(key), "--out", str(out), "--version", "1"]
    assert CliRunner().invoke(cli, line).exit_code == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(SAMPLE / "directory.toml", bare)
    refused = CliRunner().invoke(cli, [*line, "--federation", str(bare)])
    assert isinstance(refused.exception, PolicyError)
    assert refused.exception.reason == "BUNDLE_USAGE_POLICY"
    usage = str(SAMPLE / "usage" / "sequoia-1.toml")
    assert CliRunner().invoke(cli, [*line, "--federation", str(bare), "--usage-policy", usage]).exit_code == 0


def directory(training: str) -> Federation:
    text = (SAMPLE / "directory.toml").read_text(encoding="utf-8")
    return Federation.parse(tomllib.loads(f"{text}\n[[training]]\n{training}\n"))


def test_training_is_registered_of_a_person_or_of_an_agency() -> None:
    (person,) = directory('person = "spiffe://us-fbi/person/a-1"\nuntil = 2027-01-01').training
    (agency,) = directory('agency = "us-fbi"\nuntil = 2027-01-01\nkind = "partial-plates"').training
    assert (person.agency, person.person, person.kind) == ("us-fbi", "spiffe://us-fbi/person/a-1", "training")
    assert (agency.agency, agency.person, agency.kind) == ("us-fbi", "", "partial-plates")


@pytest.mark.parametrize(
    "training",
    [
        pytest.param("until = 2027-01-01", id="of nobody"),
        pytest.param('agency = "us-fbi"\nperson = "spiffe://us-fbi/person/a-1"\nuntil = 2027-01-01', id="of two"),
        pytest.param('agency = "us-nowhere"\nuntil = 2027-01-01', id="of an agency that is not registered"),
        pytest.param('person = "spiffe://us-nowhere/person/a-1"\nuntil = 2027-01-01', id="of a person of none"),
        pytest.param('person = "spiffe://us-fbi/node/a-1"\nuntil = 2027-01-01', id="of a node"),
        pytest.param('person = "us-fbi"\nuntil = 2027-01-01', id="of a person without a full name"),
        pytest.param("person = 7\nuntil = 2027-01-01", id="of a number"),
        pytest.param('agency = "us-fbi"', id="without an end"),
        pytest.param('agency = "us-fbi"\nuntil = "soon"', id="to an end that is no day"),
        pytest.param('agency = "us-fbi"\nuntil = 2027-01-01\nkind = "dancing"', id="of another kind"),
        pytest.param('agency = "us-fbi"\nuntil = 2027-01-01\nhours = 4', id="with an unknown key"),
    ],
)
def test_malformed_training_is_refused(training: str) -> None:
    with pytest.raises(InvalidInput) as e:
        directory(training)
    assert "training" in str(e.value)
