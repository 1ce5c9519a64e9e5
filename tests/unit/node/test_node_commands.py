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
from tests.unit.identity.world import ALDER, World, name

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


@pytest.mark.parametrize(
    "line", ['brokers = ["b"]', 'brokers = ["b:1"]\ningest = "b"', 'brokers = ["b:1"]\nadmin = "b"']
)
def test_a_wrong_address_in_the_configuration_is_told_with_its_file(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(f'identity = "i"\n{line}\n')
    with pytest.raises(ComityError, match=re.escape(f"{FILE}: ") + "[a-z]+ must be HOST:PORT$"):
        NodeConfig.load(tmp_path)
