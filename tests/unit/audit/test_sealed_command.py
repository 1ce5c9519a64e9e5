"""`comity audit show --unseal`, `prove --key` and `erase`: what a person is told, and with which exit code it ends."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.audit import audit
from comity.errors import ComityError, ConfigError
from identity.auditors import write_auditor_key
from tests.unit.audit import sample, sealed
from tests.unit.identity.world import ALDER, World, name

KEYS = ("query", "plate", "state", "case_number", "authority_reference")


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, [str(a) for a in arguments])


def part_of(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code, and what is said of the one sealed part shown."""
    result = run("show", *arguments, "--json")
    lines = [json.loads(line) for line in result.output.splitlines()]
    (part,) = [line["sealed_part"] for line in lines if "sealed_part" in line]
    return result.exit_code, part


class Log:
    """A log of one search with its values sealed; files of the auditor's key and of a stranger's."""

    def __init__(self, folder: Path) -> None:
        (key, self.recipient), (stranger, _) = sealed.auditor(), sealed.auditor()
        self.folder, self.key, self.stranger = folder / "log", folder / "a.key", folder / "stranger.key"
        write_auditor_key(self.key, key.private)
        write_auditor_key(self.stranger, stranger.private)
        self.folder.mkdir()
        self.draft = sealed.asked(sealed.values())
        self.inquiry_id: str = self.draft.body["inquiry_id"]


@pytest.fixture
async def log(tmp_path: Path) -> Log:
    made = Log(tmp_path)
    await sealed.write(made.folder, [made.recipient], sample.search(made.draft))
    return made


@pytest.fixture(scope="module")
def officer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervisor's identity folder, of today: the command asks the machine for the time."""
    world = World.make(tmp_path_factory.mktemp("world"), dt.datetime.now(dt.UTC).replace(microsecond=0))
    who = name(ALDER, "person", "records-1")
    return world.folder(world.alder, who, world.signed_directory(), role="supervisor").path


def test_unsealed_values_are_marked_as_unsealed(log: Log) -> None:
    result = run("show", log.folder, log.inquiry_id, "--unseal", "--key", log.key)
    assert result.exit_code == 0
    for line in (f"UNSEALED plate: {sealed.PLATE}", f"UNSEALED case_number: {sealed.CASE}", f": {sealed.ORDER}"):
        assert line in result.output
    assert set(part_of(log.folder, 0, "--unseal", "--key", log.key)[1]["values"]) == set(KEYS)


def test_without_the_key_nothing_of_the_values_is_shown(log: Log) -> None:
    for options in ((), ("--json",)):
        result = run("show", log.folder, log.inquiry_id, *options)
        assert (result.exit_code, "sealed" in result.output) == (0, True)
        assert sealed.PLATE not in result.output


def test_a_key_to_which_it_is_not_sealed_is_refused_and_the_entry_still_shown(log: Log) -> None:
    code, part = part_of(log.folder, 0, "--unseal", "--key", log.stranger)
    assert (code, part["state"], part["values"]) == (0, "refused", {})


@pytest.mark.parametrize("options", [("--unseal",), ("--key", "a.key")])
def test_a_key_and_unseal_go_together(log: Log, options: tuple[str, ...]) -> None:
    assert run("show", log.folder, 0, *options).exit_code == 2


@pytest.mark.parametrize(
    ("statement", "with_key"),
    [
        pytest.param("UPDATE sealed SET part = randomblob(length(part))", True, id="altered"),
        pytest.param("DELETE FROM sealed", True, id="gone"),
        pytest.param("DELETE FROM sealed", False, id="gone, which shows without a key too"),
    ],
)
def test_a_sealed_part_that_is_not_what_was_recorded_is_said_loudly_with_exit_code_1(
    log: Log, statement: str, with_key: bool
) -> None:
    sample.tamper(log.folder, statement)
    result = run("show", log.folder, 0, *(("--unseal", "--key", log.key) if with_key else ()))
    assert result.exit_code == 1
    assert "NOT WHAT WAS RECORDED" in result.output


async def test_values_other_than_were_committed_to_are_said_loudly_and_not_shown(tmp_path: Path) -> None:
    log = Log(tmp_path)
    draft = sealed.asked(sealed.values(), said=sealed.values("OTHER1"))
    await sealed.write(log.folder, [log.recipient], [[draft]])
    code, part = part_of(log.folder, 0, "--unseal", "--key", log.key)
    assert (code, part["state"], part["values"]) == (1, "fault", {})
    assert "COMMITMENT_MISMATCH" in part["says"]


async def test_a_log_that_seals_nothing_says_so(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await sealed.write(log.folder, [], [[log.draft]])
    assert part_of(log.folder, 0)[1]["state"] == "none"


@pytest.mark.parametrize(
    ("field", "shown"),
    [("query", f"{sealed.PLATE} {sealed.STATE}"), ("case_number", sealed.CASE), ("authority_reference", sealed.ORDER)],
)
def test_one_sealed_field_is_disclosed_with_a_decision_and_the_checker_learns_no_other(
    log: Log, tmp_path: Path, field: str, shown: str
) -> None:
    out = tmp_path / "proof"
    options = ("--node", "alder-1", "--out", out, "--key", log.key, "--field", field)
    assert run("prove", log.folder, log.inquiry_id, *options).exit_code == 0
    result = run("prove", "--check", out, "--vkey", log.folder / "log.vkey", "--json")
    assert json.loads(result.output)["disclosed"] == {field: shown}
    hidden = [d for d in log.draft.clear if d.label != field]
    assert sealed.files_with(out, [part for d in hidden for part in (d.salt, d.value)]) == []
    named = json.loads((out / "disclosures.json").read_text())["disclosures"]
    assert [d["name"] for d in named] == [field]


def test_a_sealed_field_is_disclosed_by_name_only(log: Log, tmp_path: Path) -> None:
    out = ("--node", "alder-1", "--out", tmp_path / "proof", "--key", log.key)
    assert run("prove", log.folder, log.inquiry_id, *out).exit_code == 2
    unknown = run("prove", log.folder, log.inquiry_id, *out, "--field", "plate")
    assert isinstance(unknown.exception, ComityError)
    assert unknown.exception.reason == "BAD_DISCLOSURES"
    assert not (tmp_path / "proof").exists()


def test_a_disclosure_that_was_altered_is_refused(log: Log, tmp_path: Path) -> None:
    out = tmp_path / "proof"
    options = ("--node", "alder-1", "--out", out, "--key", log.key, "--field", "case_number")
    assert run("prove", log.folder, log.inquiry_id, *options).exit_code == 0
    document = json.loads((out / "disclosures.json").read_text())
    document["disclosures"][0]["value"] = "AAAA"
    (out / "disclosures.json").write_text(json.dumps(document))
    refused = run("prove", "--check", out, "--vkey", log.folder / "log.vkey")
    assert isinstance(refused.exception, ComityError)
    assert refused.exception.reason == "DISCLOSURE_MISMATCH"


def test_who_erased_what_and_why_is_shown_and_the_values_are_not(log: Log, officer: Path) -> None:
    reason = ("--reason", "court order 7", "--identity", officer)
    done = run("erase", log.folder, "--inquiry", log.inquiry_id, *reason)
    assert done.exit_code == 0, done.output
    for options in ((), ("--unseal", "--key", log.key)):
        code, part = part_of(log.folder, 0, *options)
        assert (code, part["state"], part["values"]) == (0, "erased", {})
    shown = run("show", log.folder, 5).output
    assert "court order 7" in shown
    assert f"spiffe://{ALDER}/person/records-1" in shown
    assert run("verify", log.folder).exit_code == 0


def test_a_month_erased_is_marked_on_each_of_its_entries(log: Log, officer: Path) -> None:
    done = run("erase", log.folder, "--month", "2030-05", "--reason", "schedule", "--identity", officer)
    assert done.exit_code == 0, done.output
    for options in ((), ("--unseal", "--key", log.key)):
        assert part_of(log.folder, 0, *options)[1]["state"] == "erased"
    assert run("verify", log.folder).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="neither inquiry nor month"),
        pytest.param(("--month", "2030-05", "--inquiry", "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a10"), id="both"),
        pytest.param(("--inquiry", "7ABC123"), id="what is no inquiry's id"),
    ],
)
def test_an_erasure_must_name_one_thing(log: Log, officer: Path, options: tuple[str, ...]) -> None:
    result = run("erase", log.folder, *options, "--reason", "x", "--identity", officer)
    assert result.exit_code == 2


def test_an_erasure_needs_a_persons_identity(log: Log, tmp_path: Path) -> None:
    result = run("erase", log.folder, "--month", "2030-05", "--reason", "x", "--identity", tmp_path)
    assert isinstance(result.exception, ConfigError)
    world = World.make(tmp_path / "w")
    node = world.folder(world.alder, name(ALDER, "node", "alder-1")).path
    assert run("erase", log.folder, "--month", "2030-05", "--reason", "x", "--identity", node).exit_code == 2
