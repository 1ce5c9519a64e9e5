"""`comity audit`: what is listed, shown and verified, in words and in JSON, with the exit codes that are promised."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.entry import Draft
from cli.audit import audit
from comity.decision import Effect, Layer, MatchedRule, Obligations
from comity.errors import ComityError
from comity.inquiry import new_inquiry_id
from comity.outcome import OutcomeKind
from identity import certificates
from identity.directory import LogKey
from identity.keys import load_log_key
from tests.golden.audit.samples import DRAFTS
from tests.unit.audit.sample import ORIGIN, START, HandClock, answered, asked, build, decided, search, tamper
from tests.unit.identity.world import ALDER, NOW, World

SANCTUARY = (MatchedRule(rule="SC-2", effect="deny", basis="an ordinance", layer=Layer.NODE),)
APPROVAL = Obligations(approval=True)


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, arguments)


def objects(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def asked_of(world: World) -> list[Draft]:
    other = asked(world.person("m-diaz"), requester=f"spiffe://{ALDER}/person/m-diaz", beneficiary="us-ice")
    return [asked(world.person())[1], other[1]]


@pytest.fixture
async def folder(tmp_path: Path, asked_of: list[Draft]) -> Path:
    first, second = asked_of
    clock = HandClock()
    calls = [
        [START],
        [first, decided(first, "alder-1"), decided(first, "brazos-1", Effect.DENY, rules=SANCTUARY)],
        [answered(first, "alder-1", OutcomeKind.MATCH, count=2), answered(first, "brazos-1", OutcomeKind.REFUSED)],
        [second, decided(second, "alder-1", obligations=APPROVAL), decided(second, "brazos-1")],
        [answered(second, "brazos-1", OutcomeKind.NO_MATCH)],
        [DRAFTS["policy"]],
    ]
    await build(tmp_path, calls, clock)
    return tmp_path


def test_the_list_has_one_row_a_decision_with_what_came_of_it_newest_last(folder: Path) -> None:
    rows = objects("list", str(folder))
    assert [(r["index"], r["type"], r["node"], r["decision"], r["outcome"], r["count"]) for r in rows] == [
        (0, "start", "", "", "", 0),
        (2, "search", "alder-1", "permit", "match", 2),
        (3, "search", "brazos-1", "deny", "refused", 0),
        (7, "search", "alder-1", "pending", "", 0),
        (8, "search", "brazos-1", "permit", "no_match", 0),
        (10, "policy", "alder-1", "", "", 0),
    ]
    assert (rows[1]["agency"], rows[1]["person"], rows[1]["role"]) == (ALDER, "t-reyes", "investigator")


FILTERS: dict[str, tuple[list[str], list[int]]] = {
    "agency": (["--agency", ALDER], [2, 3, 7, 8]),
    "another agency": (["--agency", "us-tx-brazos-pd"], []),
    "person": (["--person", "m-diaz"], [7, 8]),
    "beneficiary": (["--beneficiary", "us-ice"], [7, 8]),
    "purpose": (["--purpose", "stolen-vehicle"], [2, 3, 7, 8]),
    "node": (["--node", "brazos-1"], [3, 8]),
    "permits": (["--decision", "permit"], [2, 8]),
    "refusals": (["--decision", "deny"], [3]),
    "pending": (["--decision", "pending"], [7]),
    "rule": (["--rule", "SC-2"], [3]),
    "rule with its layer": (["--rule", "node:SC-2"], [3]),
    "rule of another layer": (["--rule", "federation:SC-2"], []),
    "since": (["--since", "2030-05-01T12:00:00Z"], [0, 2, 3, 7, 8, 10]),
    "since later": (["--since", "2030-05-01T12:00:00.001Z"], []),
    "until": (["--until", "2030-05-01T12:00:00Z"], []),
    "until later": (["--until", "2030-05-02"], [0, 2, 3, 7, 8, 10]),
    "the newest two": (["--limit", "2"], [8, 10]),
    "two filters": (["--node", "brazos-1", "--decision", "deny"], [3]),
}


@pytest.mark.parametrize(("options", "indexes"), FILTERS.values(), ids=FILTERS)
def test_the_list_is_narrowed_by(folder: Path, options: list[str], indexes: list[int]) -> None:
    assert [r["index"] for r in objects("list", str(folder), *options)] == indexes


def test_the_list_in_words_says_what_was_found_and_what_was_not_recorded(folder: Path) -> None:
    output = run("list", str(folder)).output
    for words in ("match, 2 released", "deny DENIED_BY_RULE", "node:SC-2", "none recorded", "t-reyes (investigator)"):
        assert words in output
    assert "No entry of this log fits." in run("list", str(folder), "--person", "nobody").output


async def test_an_inquiry_without_decisions_is_listed_too(tmp_path: Path, asked_of: list[Draft]) -> None:
    await build(tmp_path, [[asked_of[0]]])
    (row,) = objects("list", str(tmp_path), "--person", "t-reyes")
    assert (row["index"], row["note"]) == (0, "no decision recorded")


async def test_entries_of_every_other_type_are_listed_with_a_sentence(tmp_path: Path) -> None:
    kinds = ("policy", "rejected", "purge", "erasure", "review", "start", "stop")
    await build(tmp_path, [[DRAFTS[k] for k in kinds]])
    rows = objects("list", str(tmp_path))
    assert [r["type"] for r in rows] == list(kinds)
    assert all(r["note"] for r in rows)
    assert "BAD_SIGNATURE" in rows[1]["note"]
    assert objects("list", str(tmp_path), "--agency", ALDER) == []


def test_show_has_one_entry_whole(folder: Path) -> None:
    (shown,) = objects("show", str(folder), "3")
    assert (shown["index"], shown["entry"]["type"], shown["entry"]["rules"]) == (3, "decision", ["node:SC-2"])
    output = run("show", str(folder), "3").output
    assert "entry 3: decision" in output
    assert shown["leaf_hash"] in output


def test_show_has_all_that_was_recorded_of_an_inquiry(folder: Path, asked_of: list[Draft]) -> None:
    shown = objects("show", str(folder), asked_of[0].body["inquiry_id"])
    assert [s["entry"]["type"] for s in shown] == ["inquiry", "decision", "decision", "outcome", "outcome"]
    output = run("show", str(folder), asked_of[0].body["inquiry_id"]).output
    assert "values are not in the log" in output
    assert "1 signature(s)" in output


@pytest.mark.parametrize("target", ["11", new_inquiry_id(NOW)], ids=["index", "inquiry"])
def test_show_of_what_is_not_recorded_fails_and_says_so(folder: Path, target: str) -> None:
    result = run("show", str(folder), target)
    assert isinstance(result.exception, ComityError)
    assert result.exception.reason == "NO_ENTRY"


@pytest.mark.parametrize("target", ["x", "1.5", "²", "9" * 17])
def test_show_of_neither_an_index_nor_an_inquiry_is_wrong_usage(folder: Path, target: str) -> None:
    assert run("show", str(folder), target).exit_code == 2


def test_verify_says_that_each_entry_is_what_was_signed(folder: Path) -> None:
    result = run("verify", str(folder))
    assert result.exit_code == 0
    assert "Verified: each of 11 entries is what was signed." in result.output
    assert "note: the log's own log.vkey was trusted" in result.output
    (said,) = objects("verify", str(folder / "log.db"))
    assert (said["ok"], said["entries"], said["origin"], said["fault"]) == (True, 11, ORIGIN, None)


def test_verify_names_the_first_fault_and_exits_1(folder: Path) -> None:
    tamper(folder, "UPDATE leaf SET entry = x'7b7d' WHERE idx = 3")
    result = run("verify", str(folder))
    assert result.exit_code == 1
    assert "FAULT in entry 3: entry 3 is not what was hashed [WRONG_HASH]" in result.output
    result = run("verify", str(folder), "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["fault"] == {
        "index": 3,
        "sentence": "entry 3 is not what was hashed",
        "reason": "WRONG_HASH",
    }


def test_verify_takes_a_pinned_key(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pinned = tmp_path_factory.mktemp("pinned") / "vkey"
    os.replace(folder / "log.vkey", pinned)
    assert run("verify", str(folder)).exit_code == 1
    result = run("verify", str(folder), "--vkey", str(pinned))
    assert result.exit_code == 0
    assert "log.vkey" not in result.output


async def test_verify_takes_a_directory_and_its_federations_certificate_beside_it(world: World, tmp_path: Path) -> None:
    log, trusted = tmp_path / "log", tmp_path / "trusted"
    log.mkdir()
    trusted.mkdir()
    await build(log, search(asked(world.person())[1]))
    key = public_key_of(log)
    directory = world.signed_directory(logs=[LogKey(origin=ORIGIN, key=key, program="broker", id="b1")])
    (trusted / "directory.json").write_bytes(directory)
    (trusted / "federation-ca.pem").write_bytes(certificates.pem(world.federation.certificate))
    result = run("verify", str(log), "--directory", str(trusted / "directory.json"))
    assert result.exit_code == 0
    assert "note:" not in result.output


def public_key_of(log: Path) -> Ed25519PublicKey:
    return load_log_key(log / "log.key").public_key()


@pytest.mark.parametrize("command", ["list", "show", "verify"])
def test_a_log_that_is_not_there_is_an_error_and_no_empty_log(tmp_path: Path, command: str) -> None:
    arguments = [command, str(tmp_path), *(["0"] if command == "show" else [])]
    result = run(*arguments)
    assert isinstance(result.exception, ComityError)
    assert result.exception.reason == "NO_LOG"


@pytest.mark.parametrize("command", [[], *([name] for name in audit.commands)], ids=["audit", *audit.commands])
def test_help_has_an_example_and_the_exit_codes(command: list[str]) -> None:
    output = run(*command, "--help").output
    assert "Example: comity audit" in output
    assert "Exit codes: 0" in output


@pytest.mark.parametrize("option", [["--since", "yesterday"], ["--limit", "0"], ["--decision", "maybe"]])
def test_a_filter_that_cannot_be_read_is_wrong_usage(folder: Path, option: list[str]) -> None:
    assert run("list", str(folder), *option).exit_code == 2
