"""A canary plate, searched over real processes that are then killed: readable by auditors, in clear on no disk.

Every file of broker and nodes is looked through as a kill left it, journals among them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.reconcile import reconcile
from cli.demo.build import SEALING_KEY
from tests.integration.calls import POLICE, SEEN, Person
from tests.integration.conftest import NewWorld
from tests.integration.world import World, ready, spellings

A, B = "port-alder-1", "sequoia-1"
CANARY, CANARY_CASE = "7CNRY42", "CANARY-CASE-SEALED-1"
INQUIRIES: dict[str, str] = {}


@pytest.fixture(scope="module")
def killed(new_world: NewWorld) -> World:
    """A federation in which the canary was searched, permitted and refused, and a plate that was seen; then killed."""
    world: World = new_world()
    world.start(A, B)
    person, agent = Person.of(world), Person.of(world, "us-ice-ero")
    searches = {
        "canary": (person, person.ask(A, B, plate=CANARY, case_number=CANARY_CASE)),
        "refused": (agent, agent.ask(A, plate=CANARY, case_number=CANARY_CASE, purpose="immigration-civil")),
        "seen": (person, person.ask(A, plate=SEEN)),
    }
    told = {name: who.search(signed) for name, (who, signed) in searches.items()}
    assert (told["canary"].kinds, told["refused"].kinds) == ({A: "no_match", B: "no_match"}, {A: "refused"})
    assert told["seen"].kinds == {A: "match"}
    assert person.preview(person.ask(A, plate=CANARY, case_number=CANARY_CASE))[0] == "OK"
    world.kill(world.broker)
    for node in (A, B):
        world.kill(world.nodes[node])
    INQUIRIES.update({name: inquiry_id(world, at) for name, at in (("canary", 0), ("refused", 1), ("seen", 2))})
    return world


def inquiry_id(world: World, at: int) -> str:
    """The id of the broker's inquiry entry in that place."""
    entries = [e for e in world.log(world.broker) if e["type"] == "inquiry"]
    return str(entries[at]["inquiry_id"])


def comity(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """The command's exit code, its lines of JSON, and what it said on standard error."""
    command = [sys.executable, "-m", "cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, check=False, env=dict(os.environ))
    return done.returncode, [orjson.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def unsealed(state: Path, inquiry: str, key: Path) -> tuple[int, list[dict[str, Any]]]:
    """What `show --unseal` says of an inquiry's sealed parts."""
    code, said, _ = comity("audit", "show", state, inquiry, "--unseal", "--key", key)
    return code, [line["sealed_part"] for line in said if "sealed_part" in line]


def key_of(world: World, agency: str) -> Path:
    """An auditor's key."""
    return world.layout.identity(agency, "auditor") / SEALING_KEY


def files_with(folder: Path, text: str) -> list[str]:
    """The files under `folder` in which `text` is, as it is, in hex or in base64."""
    paths, ways = [p for p in folder.rglob("*") if p.is_file()], spellings(text)
    assert paths
    return sorted(p.relative_to(folder).as_posix() for p in paths if any(w.search(p.read_bytes()) for w in ways))


def test_a_plate_that_was_searched_and_never_seen_is_in_no_file_of_anybody(killed: World) -> None:
    assert (killed.broker.state / "log.db-wal").stat().st_size > 0, "the journal is among what is looked through"
    assert files_with(killed.root, CANARY) == []
    assert files_with(killed.root, CANARY_CASE) == []


def test_a_plate_that_was_found_is_at_the_node_in_its_store_and_its_kept_answers_alone(killed: World) -> None:
    assert files_with(killed.broker.state, SEEN) == []
    at_node = {path.split("/")[0].partition(".")[0] for path in files_with(killed.nodes[A].state, SEEN)}
    assert at_node == {"store", "kept"}


@pytest.mark.parametrize(
    ("state", "owner", "name"),
    [
        pytest.param("broker", "federation", "canary", id="permitted, at the broker, by the federation's auditor"),
        pytest.param("broker", "federation", "refused", id="refused, at the broker, by the federation's auditor"),
        pytest.param(f"nodes/{A}", POLICE, "canary", id="at the node, by its own agency's auditor"),
    ],
)
def test_an_auditor_reads_what_was_asked(killed: World, state: str, owner: str, name: str) -> None:
    code, parts = unsealed(killed.root / state, INQUIRIES[name], key_of(killed, owner))
    assert (code, [p["state"] for p in parts]) == (0, ["unsealed"])
    assert (parts[0]["values"]["plate"], parts[0]["values"]["case_number"]) == (CANARY, CANARY_CASE)


def test_an_agencys_auditor_reads_neither_the_brokers_log_nor_another_agencys(killed: World) -> None:
    for state in (killed.broker.state, killed.nodes[B].state):
        code, (part,) = unsealed(state, INQUIRIES["canary"], key_of(killed, POLICE))
        assert (code, part["state"], part["values"]) == (0, "refused", {})
        assert "NOT_FOR_KEY" in part["says"]


def test_without_a_key_what_is_sealed_is_marked_as_sealed(killed: World) -> None:
    code, said, _ = comity("audit", "show", killed.broker.state, INQUIRIES["canary"])
    assert code == 0
    assert [line["sealed_part"]["state"] for line in said if "sealed_part" in line] == ["sealed"]


def test_one_field_of_one_decision_is_proven_from_its_sealed_value_and_no_other_is_shown(
    killed: World, tmp_path: Path
) -> None:
    directory = killed.broker.state / "identity" / "directory.json"
    out = tmp_path / "proof"
    code, _, _ = comity(
        "audit", "prove", killed.broker.state, INQUIRIES["canary"], "--node", A, "--out", out,
        "--key", key_of(killed, "federation"), "--field", "case_number", "--directory", directory,
    )  # fmt: skip
    assert code == 0
    code, said, _ = comity("audit", "prove", "--check", out, "--directory", directory)
    assert (code, said[0]["disclosed"]) == (0, {"case_number": CANARY_CASE})
    assert files_with(out, CANARY) == []


def test_after_an_erasure_nobody_reads_it_and_everything_else_stands(killed: World) -> None:
    states = [killed.broker.state, killed.nodes[A].state]
    officer = killed.layout.identity(POLICE, "auditor")
    for state in states:
        code, said, _ = comity(
            "audit", "erase", state, "--inquiry", INQUIRIES["canary"], "--reason", "order 7", "--identity", officer
        )
        assert (code, said[0]["entries"]) == (0, 1)
        assert not state.joinpath("log.db-wal").exists()
        code, parts = unsealed(state, INQUIRIES["canary"], key_of(killed, "federation"))
        assert (code, [p["state"] for p in parts]) == (0, ["erased"])
    assert killed.faults() == {}
    result = reconcile(killed.broker.state, [killed.nodes[n].state for n in (A, B)], directory=killed.directory)
    assert result.discrepancies == []
    _, (part,) = unsealed(killed.broker.state, INQUIRIES["seen"], key_of(killed, "federation"))
    assert part["values"]["plate"] == SEEN


def test_a_log_whose_program_runs_is_not_erased_and_a_program_starts_after_an_erasure(killed: World) -> None:
    officer = killed.layout.identity(POLICE, "auditor")
    killed.broker.start()
    for node in (A, B):
        killed.restart(node)
    ready(killed.broker, "releasing")
    code, _, err = comity(
        "audit", "erase", killed.broker.state, "--inquiry", INQUIRIES["seen"], "--reason", "x", "--identity", officer
    )
    assert (code, "LOG_IN_USE" in err) == (1, True)
    person = Person.of(killed)
    told = person.search(person.ask(A, plate=CANARY, case_number=CANARY_CASE))
    assert (told.code, told.kinds) == ("OK", {A: "no_match"})
