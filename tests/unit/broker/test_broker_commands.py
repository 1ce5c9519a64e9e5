"""What a wrong address does to `comity broker init`: it is named and refused, and nothing is half made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.__main__ import broker
from broker.config import FILE, BrokerConfig
from comity.errors import ComityError
from tests.unit.identity.world import ALDER, FEDERATION, World, name


@pytest.mark.parametrize("option", ["--investigators", "--nodes", "--admin"])
def test_an_address_without_a_port_makes_no_state_folder(world: World, tmp_path: Path, option: str) -> None:
    identity = world.folder(world.federation, name(FEDERATION, "broker", option.strip("-")), hosts=("localhost",))
    arguments = ["init", str(tmp_path / "b"), "--identity", str(identity.path), option, "localhost"]
    done = CliRunner().invoke(broker, arguments)
    assert isinstance(done.exception, ComityError)
    assert str(done.exception) == f"{option} must be HOST:PORT"
    assert not (tmp_path / "b").exists()


def test_somebody_else_s_identity_makes_no_broker(world: World, tmp_path: Path) -> None:
    identity = world.folder(world.alder, name(ALDER, "node", "no-broker"))
    done = CliRunner().invoke(broker, ["init", str(tmp_path / "b"), "--identity", str(identity.path)])
    assert isinstance(done.exception, ComityError)
    assert done.exception.reason == "WRONG_KIND"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("key", ["listen_investigators", "listen_nodes", "advertise_nodes", "admin"])
def test_a_wrong_address_in_the_configuration_is_told_with_its_file(tmp_path: Path, key: str) -> None:
    (tmp_path / FILE).write_text(f'identity = "i"\n{key} = "localhost"\n')
    with pytest.raises(ComityError, match=re.escape(f"{tmp_path / FILE}: {key} must be HOST:PORT") + "$"):
        BrokerConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("url", "mode", "reason"),
    [
        pytest.param("redis://:secret@127.0.0.1/0", 0o640, "KEY_EXPOSED", id="a password that others can read"),
        pytest.param("redis://:secret@127.0.0.1/0", 0o600, "", id="a password that the owner alone can read"),
        pytest.param("redis://127.0.0.1/0", 0o644, "", id="no password"),
    ],
)
def test_a_configuration_with_a_password_is_its_owner_s_alone(tmp_path: Path, url: str, mode: int, reason: str) -> None:
    (tmp_path / FILE).write_text(f'identity = "i"\nredis_url = "{url}"\n')
    (tmp_path / FILE).chmod(mode)
    try:
        loaded, found = BrokerConfig.load(tmp_path).redis_url, ""
    except ComityError as error:
        loaded, found = url, error.reason
    assert (loaded, found) == (url, reason)
