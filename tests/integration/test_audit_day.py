"""The auditor's day on logs that running programs write, and on a copy that nobody can write to."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.review import Week
from cli.demo.build import SEALING_KEY
from tests.integration.calls import POLICE, SEEN, Person
from tests.integration.conftest import NewWorld
from tests.integration.world import World

A, B = "port-alder-1", "sequoia-1"
FEDERATION = "federation"


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    """A federation at work, in which one person searched one plate three times under a vague case number."""
    world: World = new_world()
    world.start(A, B)  # both are witnesses: without their quorum nothing is released
    person, agent = Person.of(world), Person.of(world, "us-ice-ero")
    for _ in range(3):
        assert person.search(person.ask(A, plate=SEEN, case_number="inv")).kinds == {A: "match"}
    assert agent.search(agent.ask(A, plate=SEEN, purpose="immigration-civil")).kinds == {A: "refused"}
    return world


def comity(*arguments: object, cache: Path | None = None) -> tuple[int, list[dict[str, Any]]]:
    """The command's exit code and its lines of JSON."""
    command = [sys.executable, "-m", "cli", *map(str, arguments), "--json"]
    env = dict(os.environ) | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    assert done.returncode in (0, 3), done.stderr.decode()
    assert SEEN.encode() not in done.stdout + done.stderr
    return done.returncode, [orjson.loads(line) for line in done.stdout.splitlines()]


def pinned(world: World) -> tuple[object, ...]:
    """The options that pin the federation's directory."""
    return "--directory", world.layout.identity(POLICE, "auditor") / "directory.json"


def test_a_plate_searched_again_and_again_is_found_by_the_auditors_key_alone(world: World) -> None:
    log = world.broker.state
    code, said = comity("audit", "watch", log)
    assert (code, said[-1]["findings"], set(said[-1]["not_looked_for"])) == (
        0, 0, {"repeat-target", "missing-case", "vague-case"},
    )  # fmt: skip
    key = world.layout.identity(FEDERATION, "auditor") / SEALING_KEY
    code, said = comity("audit", "watch", log, "--key", key, *pinned(world), "--repeat-times", 3)
    assert code == 3
    found = {f["kind"]: f for f in said[:-1]}
    assert set(found) == {"repeat-target", "vague-case"}
    assert (found["repeat-target"]["agency"], len(found["repeat-target"]["indexes"])) == (POLICE, 3)
    assert (said[-1]["not_looked_for"], said[-1]["unopened"]) == ({}, {})


def test_the_report_is_made_from_a_log_at_work_and_verified_from_a_copy_at_rest(world: World, tmp_path: Path) -> None:
    log = world.broker.state
    comity("audit", "report", log, *pinned(world), "--out", tmp_path / "out")
    report = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    assert (report["totals"]["searches"], report["totals"]["refusals"], report["totals"]["matches"]) == (4, 1, 3)
    comity("audit", "report", "--check", tmp_path / "out" / "report.json", *pinned(world))
    _, (said,) = comity("audit", "report", log, "--check", tmp_path / "out" / "report.json", *pinned(world))
    assert said["ok"] is True


def test_the_weeks_queue_is_drawn_and_the_open_week_not_signed(world: World) -> None:
    _, said = comity("audit", "review", world.broker.state, "--week", Week.of(dt.datetime.now(dt.UTC)), "--sample", 2)
    assert [x["event"] for x in said] == ["sampled", "sampled", "summary"]
    assert (said[-1]["searches"], said[-1]["closed"]) == (4, False)


def test_a_log_on_a_read_only_medium_is_listed_by_an_index_that_lies_elsewhere(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in world.broker.state.glob("log.db*"):
        shutil.copy(file, copy)
    if (copy / "log.db-shm").exists():
        (copy / "log.db-shm").unlink()
    live = comity("audit", "list", world.broker.state, "--decision", "permit")[1]
    before = sorted(copy.iterdir())
    index = tmp_path / "cache" / "index.db"
    found = comity("audit", "list", copy, "--decision", "permit", "--index", index)[1]
    assert found == live
    assert len(found) == 3
    assert index.stat().st_mode & 0o077 == 0
    assert {p.name for p in copy.iterdir()} - {p.name for p in before} <= {"log.db-shm"}
