"""What a wrong address does to `comity broker init`: it is named and refused, and nothing is half made."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.__main__ import broker
from comity.errors import ComityError
from tests.unit.identity.world import FEDERATION, World, name


@pytest.mark.parametrize("option", ["--investigators", "--nodes", "--admin"])
def test_an_address_without_a_port_makes_no_state_folder(world: World, tmp_path: Path, option: str) -> None:
    identity = world.folder(world.federation, name(FEDERATION, "broker", option.strip("-")), hosts=("localhost",))
    arguments = ["init", str(tmp_path / "b"), "--identity", str(identity.path), option, "localhost"]
    done = CliRunner().invoke(broker, arguments)
    assert isinstance(done.exception, ComityError)
    assert str(done.exception) == f"{option} must be HOST:PORT"
    assert not (tmp_path / "b").exists()
