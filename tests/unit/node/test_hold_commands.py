"""`comity node hold` and `purge`, as two persons of an agency type them: what is held, what goes, and what is told."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from audit.read import LogReader
from comity import instants
from comity.errors import Unavailable
from node.__main__ import node
from node.config import FILE
from tests.unit.identity.world import ALDER, World, name

PLATE = "7CNR042"
KEPT_S = 60  # of this camera; the node itself keeps a day


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "world", at=instants.now())


@pytest.fixture
def state(world: World, tmp_path: Path) -> Path:
    """A node with one detection that is past its camera's retention."""
    identity = world.folder(world.alder, name(ALDER, "node", "alder-1"), world.signed_directory())
    made = tmp_path / "node"
    done(run("init", made, "--identity", identity.path, "--broker", "127.0.0.1:7444"))
    with (made / FILE).open("a") as config:
        config.write(f'retention_rules = ["camera:c1={KEPT_S}"]\n')
    seen_at = (instants.now() - dt.timedelta(hours=1)).isoformat()
    (tmp_path / "reads.csv").write_text(f"plate,state,time,camera\n{PLATE},CA,{seen_at},c1\n")
    done(run("ingest", made, tmp_path / "reads.csv"))
    return made


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(node, [str(a) for a in arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    assert PLATE not in result.output
    return result.output


def held(world: World, state: Path) -> str:
    """A hold on the camera, by two persons."""
    author = world.folder(world.alder, name(ALDER, "person", "t-reyes"), world.signed_directory(), role="investigator")
    other = world.folder(world.alder, name(ALDER, "person", "s-okafor"), world.signed_directory(), role="supervisor")
    why = ("--reason", "appeal", "--order", "CO-26-17", "--days", "90")
    hold = done(run("hold", "add", state, "--camera", "c1", *why, "--identity", author.path)).split()[1].rstrip(".")
    assert "in force" in done(run("hold", "approve", state, hold, "--identity", other.path))
    return hold


def rules(state: Path) -> list[str]:
    with LogReader.open(state) as log:
        return [value["rule"] for _, entry in log.forwards(0) if (value := orjson.loads(entry))["type"] == "purge"]


def test_what_is_held_is_kept_when_it_is_purged_and_the_log_says_both(world: World, state: Path) -> None:
    hold = held(world, state)
    assert "1 detections would go, 1 of them kept" in done(run("purge", state, "--dry-run"))
    assert "1 detections gone, 1 of them kept" in done(run("purge", state))
    listed = orjson.loads(done(run("hold", "list", state, "--json")))
    assert (listed["hold_id"], listed["state"], listed["rows"]) == (hold, "in force", 1)
    assert rules(state) == [f"hold-added:{hold}", "camera:c1"]


def test_without_a_hold_s_file_nothing_is_purged_until_somebody_says_so(world: World, state: Path) -> None:
    hold = held(world, state)
    done(run("purge", state))
    (state / "holds" / f"{hold}.json").unlink()
    for command in (("purge", state), ("purge", state, "--dry-run")):
        refused = run(*command)
        assert isinstance(refused.exception, Unavailable)
        assert (refused.exception.reason, hold in str(refused.exception)) == ("HOLD_UNVERIFIED", True)
    done(run("purge", state, "--without-hold", hold))
    assert rules(state)[-1] == f"hold-lost:{hold}"
    assert orjson.loads(done(run("status", state, "--json")))["held"] == 1
