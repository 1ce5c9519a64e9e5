"""What a wrong address or file does to the node's own commands: named, refused, and nothing is half made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from comity.errors import ComityError
from identity.folder import IdentityFolder
from node.__main__ import node
from node.config import FILE, NodeConfig
from tests.unit.identity.world import ALDER, BRAZOS, World, name

BAD_ADDRESSES = {
    "a broker without its port": ("--broker", "localhost"),
    "a broker of nothing": ("--broker", ""),
    "an ingest port alone": ("--ingest", "7446"),
    "an admin port that is none": ("--admin", "127.0.0.1:seven"),
}


@pytest.fixture(scope="module")
def identity(world: World) -> IdentityFolder:
    return world.folder(world.alder, name(ALDER, "node", "commanded-1"))


@pytest.mark.parametrize(("option", "given"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_an_address_without_host_or_port_makes_no_state_folder(
    identity: IdentityFolder, tmp_path: Path, option: str, given: str
) -> None:
    arguments = ["init", str(tmp_path / "n"), "--identity", str(identity.path), "--broker", "127.0.0.1:7444"]
    done = CliRunner().invoke(node, [*arguments, option, given])
    assert isinstance(done.exception, ComityError)
    assert str(done.exception) == f"{option} must be HOST:PORT"
    assert not (tmp_path / "n").exists()


def test_a_person_s_identity_makes_no_node(world: World, tmp_path: Path) -> None:
    identity = world.folder(world.alder, name(ALDER, "person", "no-node"), role="investigator")
    made = ["init", str(tmp_path / "n"), "--identity", str(identity.path), "--broker", "127.0.0.1:7444"]
    done = CliRunner().invoke(node, made)
    assert isinstance(done.exception, ComityError)
    assert done.exception.reason == "WRONG_KIND"
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    "line", ['brokers = ["b"]', 'brokers = ["b:1"]\ningest = "b"', 'brokers = ["b:1"]\nadmin = "b"']
)
def test_a_wrong_address_in_the_configuration_is_told_with_its_file(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(f'identity = "i"\n{line}\n')
    with pytest.raises(ComityError, match=re.escape(f"{FILE}: ") + "[a-z]+ must be HOST:PORT$"):
        NodeConfig.load(tmp_path)


def test_holds_are_listed_while_the_detections_cannot_be_reached(tmp_path: Path) -> None:
    world = World.make(tmp_path / "world")
    identity = world.folder(world.alder, name(ALDER, "node", "alder-1"), world.signed_directory())
    made = str(tmp_path / "n")
    run = CliRunner()
    assert (
        run.invoke(node, ["init", made, "--identity", str(identity.path), "--broker", "127.0.0.1:7444"]).exit_code == 0
    )
    away = 'store = "postgresql://comity@127.0.0.1:1/comity"\n'
    text = (tmp_path / "n" / FILE).read_text()
    (tmp_path / "n" / FILE).write_text("".join(x for x in text.splitlines(True) if not x.startswith("store")) + away)
    assert isinstance(run.invoke(node, ["status", made]).exception, ComityError)
    listed = run.invoke(node, ["hold", "list", made])
    assert (listed.exit_code, listed.output) == (0, "")


def test_the_status_says_in_words_why_records_were_rejected_and_what_to_do(tmp_path: Path) -> None:
    world = World.make(tmp_path / "world")
    identity = world.folder(world.brazos, name(BRAZOS, "node", "brazos-1"), world.signed_directory())
    made, reads = str(tmp_path / "n"), tmp_path / "reads.csv"
    run = CliRunner()
    assert (
        run.invoke(node, ["init", made, "--identity", str(identity.path), "--broker", "127.0.0.1:7444"]).exit_code == 0
    )
    reads.write_text("plate,time,camera\n8TUT0!1,1770000000,c1\n")
    assert run.invoke(node, ["ingest", made, str(reads)]).exit_code == 3
    said = run.invoke(node, ["status", made]).output
    assert "rejected: 1 BAD_PLATE: the plate is not 1 to 10 of A-Z and 0-9" in said
    assert f"comity node replay {made}" in said
    assert "8TUT0!1" not in said
