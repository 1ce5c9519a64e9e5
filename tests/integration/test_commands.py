"""The commands as documented: the exit codes of a search, the demo's folder, and its story from start to end."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli.compose import write_draft
from comity import commitment
from comity.inquiry import Disclosure
from tests.integration.calls import (
    CASE,
    NEVER_SEEN,
    NO_RECORD,
    POLICE,
    SEEN,
    STATE,
    WARRANT,
    Person,
    Printed,
    comity,
)
from tests.integration.world import World
from tests.ports import held_ports

A, B = "port-alder-1", "sequoia-1"
STOLEN_CAR = ("--state", STATE, "--purpose", "stolen-vehicle", "--case", CASE)


def test_a_complete_answer_ends_with_0_and_alone_says_no_record(federation: World) -> None:
    table, lines = Person.of(federation).both(NEVER_SEEN, *STOLEN_CAR, "--node", A, "--node", B)
    assert (table.code, lines.code) == (0, 0)
    assert table.out.rstrip().splitlines()[-1].startswith(NO_RECORD)
    assert lines.summary == {
        "event": "summary",
        "inquiry_id": lines.summary["inquiry_id"],
        "targets": 2,
        "matched": 0,
        "complete": True,
        "outcomes": {"no_match": 2},
    }


def test_an_answer_of_some_nodes_ends_with_3_and_says_that_it_is_not_complete(federation: World) -> None:
    table, lines = Person.of(federation).both(NEVER_SEEN, *STOLEN_CAR)
    assert (table.code, lines.code) == (3, 3)
    assert NO_RECORD not in table.out
    assert "not a complete answer" in table.out
    assert sum(lines.summary["outcomes"].values()) == lines.summary["targets"] == len(federation.nodes)
    assert set(lines.kinds) == set(federation.nodes)


def test_a_search_that_all_refuse_ends_with_4(federation: World) -> None:
    person = Person.of(federation, "us-ice-ero")
    table, lines = person.both(
        NEVER_SEEN, "--state", STATE, "--purpose", "immigration-civil", "--case", CASE, "--node", A, "--node", B
    )
    assert (table.code, lines.code) == (4, 4)
    assert set(lines.kinds.values()) == {"refused"}
    assert all(e["rules"] and e["reason_code"] == "DENIED_BY_RULE" for e in lines.last_of_each.values())
    assert NO_RECORD not in table.out


def test_a_search_that_awaits_an_approval_ends_with_6_and_with_the_approval_with_0(
    federation: World, tmp_path: Path
) -> None:
    person = Person.of(federation, "us-fbi")
    ask: tuple[str, ...] = (SEEN, "--state", STATE, "--purpose", "criminal-felony", "--case", CASE, "--node", A)
    ask += ("--authority", f"judicial-warrant:{WARRANT}")
    table, lines = person.both(*ask)
    assert (table.code, lines.code, lines.kinds) == (6, 6, {A: "pending"})
    assert lines.last_of_each[A]["role"] == "supervisor"
    draft = tmp_path / "q.json"
    assert person.command(*ask, "--draft", str(draft)).code == 0
    assert draft.stat().st_mode & 0o777 == 0o600
    own = ("approve", str(draft), "--yes", "--identity")
    refused = comity(*own, str(person.folder.path))
    assert (refused.code, "WRONG_APPROVER" in refused.err) == (1, True)
    assert comity(*own, str(federation.layout.identity("us-fbi", "supervisor"))).code == 0
    sent = person.command("--send", str(draft), "--json")
    assert (sent.code, sent.kinds) == (0, {A: "match"})
    again = person.command("--send", str(draft), "--json")
    assert (again.code, again.out) == (1, "")
    assert "REPLAYED" in again.err


@pytest.mark.parametrize(
    "args",
    [
        pytest.param((NEVER_SEEN, "--state", STATE, "--purpose", "stolen-vehicle"), id="without a case"),
        pytest.param((NEVER_SEEN, *STOLEN_CAR, "--node", "atlantis-1"), id="of an unknown node"),
        pytest.param((NEVER_SEEN, *STOLEN_CAR, "--authority", "a-hunch:1"), id="under an unknown authority"),
        pytest.param((NEVER_SEEN, *STOLEN_CAR, "--from", "2099-01-01"), id="of the future"),
    ],
)
def test_a_search_that_is_used_wrongly_ends_with_2_and_asks_nobody(federation: World, args: tuple[str, ...]) -> None:
    before = federation.size(federation.broker)
    printed = Person.of(federation).command(*args)
    assert (printed.code, printed.out) == (2, "")
    assert federation.size(federation.broker) == before


@pytest.mark.parametrize("case", ["X-1\nplate      1AAA111 CA", "X-1\rplate      1AAA111 CA", "X-1\x1b[1Aplate"])
def test_a_draft_puts_no_row_of_its_own_before_the_supervisor(federation: World, tmp_path: Path, case: str) -> None:
    person = Person.of(federation)
    signed = person.ask(A, plate=SEEN)
    spoof = Disclosure.fresh(commitment.CASE_NUMBER, case.encode())
    spoofed = person.resign(signed, lambda m: setattr(m, "case_number_commitment", spoof.commitment))
    draft = tmp_path / "q.json"
    write_draft(draft, replace(spoofed, disclosures=(signed.disclosures[0], spoof)))
    shown = comity("approve", str(draft), "--identity", str(federation.layout.identity(POLICE, "supervisor")))
    assert shown.code == 1, "refused, or not confirmed"
    rows = [line for line in shown.out.splitlines() if line.startswith("plate")]
    assert [row.split()[1] for row in rows] in ([SEEN], [])
    assert "\x1b" not in shown.out + shown.err


def test_a_preview_shows_decisions_and_asks_no_node(federation: World) -> None:
    before = {n: federation.size(p) for n, p in federation.nodes.items()}
    printed = Person.of(federation).command(SEEN, *STOLEN_CAR, "--preview", "--json")
    assert printed.code == 0
    assert {e["event"] for e in printed.lines} == {"decision"}
    assert {e["node"] for e in printed.lines} == set(federation.nodes)
    assert {n: federation.size(p) for n, p in federation.nodes.items()} == before


@pytest.mark.parametrize("what", ["broker", A])
def test_the_log_of_a_running_program_is_listed_shown_and_verified_by_command(federation: World, what: str) -> None:
    state = federation.broker.state if what == "broker" else federation.nodes[what].state
    directory = str(federation.layout.identity(POLICE, "auditor") / "directory.json")
    verified = comity("audit", "verify", str(state), "--directory", directory, "--json")
    assert (verified.code, json.loads(verified.out)["ok"]) == (0, True)
    assert comity("audit", "list", str(state), "--json").lines


def test_the_demo_comes_up_answers_and_goes_down_as_documented(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    shutil.copytree(template, root)
    _point_to(root, template)
    try:
        up = comity("demo", "up", "--dir", str(root))
        assert up.code == 0, up.err
        _documented(root)
        status = comity("demo", "status", "--dir", str(root), "--json")
        assert (status.code, len(status.lines)) == (0, 9)
        assert all(line["pid"] for line in status.lines)
        twice = comity("demo", "up", "--dir", str(root))
        assert (twice.code, "runs already" in twice.err) == (1, True)
        me = root / "identities" / POLICE / "investigator"
        found = comity("search", SEEN, *STOLEN_CAR, "--node", A, "--identity", str(me), "--json")
        assert (found.code, found.kinds) == (0, {A: "match"})
        elsewhere = (root / "broker.addr").read_text().strip()
        found = comity("search", NEVER_SEEN, *STOLEN_CAR, "--node", B, "--identity", str(me), "--broker", elsewhere)
        assert (found.code, NO_RECORD in found.out) == (0, True)
    finally:
        down = comity("demo", "down", "--dir", str(root))
    assert (down.code, "9 programs stopped" in down.out) == (0, True)
    stopped = comity("demo", "status", "--dir", str(root))
    assert (stopped.code, stopped.out.count("does not run")) == (1, 9)
    gone = comity("search", NEVER_SEEN, *STOLEN_CAR, "--identity", str(me))
    assert (gone.code, gone.out) == (1, "")


def _point_to(root: Path, template: Path) -> None:
    """Programs made in `template` name their identity and the ports there; here they have their own."""
    files = (*root.glob("*/broker.toml"), *root.glob("nodes/*/node.toml"), *root.rglob("broker.addr"))
    old = sorted({port for path in files for port in re.findall(r"127\.0\.0\.1:(\d+)", path.read_text())})
    new = dict(zip(old, held_ports(len(old)), strict=True))
    for path in files:
        text = path.read_text().replace(str(template), str(root))
        path.write_text(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: str(new[port[0]]), text))


def _documented(root: Path) -> None:
    for role in ("investigator", "supervisor", "auditor"):
        assert (root / "identities" / "us-fbi" / role / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (root / "broker" / "log.db").is_file()
    assert (root / "nodes" / A / "log.db").is_file()
    assert (root / "broker.addr").read_text().startswith("127.0.0.1:")


def test_the_demo_plays_its_whole_story(tmp_path: Path) -> None:
    played: Printed = comity("demo", "run", "--dir", str(tmp_path / "demo"), "--reads", "300")
    assert played.code == 0, played.out[-2000:] + played.err[-2000:]
    assert played.out.rstrip().splitlines()[-1] == "Every step came out as it should."
