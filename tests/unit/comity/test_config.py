"""A configuration is right in every key, or refused with every key that is wrong named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.config import BrokerConfig
from comity import config
from comity.errors import ConfigError
from node.config import NodeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One field of each type."""

    place: Path
    name: str = "n"
    number: int = 1
    seconds: float = 1.5
    on: bool = False
    hosts: tuple[str, ...] = ()


BAD = {
    "an unknown key": ('place="p"\nplaces="q"', "places is not a key of it"),
    "a missing key": ('name="n"', "place is missing"),
    "an empty path": ('place=""', "place must be a path"),
    "a number as text": ('place="p"\nname=7', "name must be text"),
    "text as a number": ('place="p"\nnumber="7"', "number must be a whole number"),
    "true as a whole number": ('place="p"\nnumber=true', "number must be a whole number"),
    "a fraction as a whole number": ('place="p"\nnumber=7.0', "number must be a whole number"),
    "true as seconds": ('place="p"\nseconds=true', "seconds must be a number"),
    "one as true": ('place="p"\non=1', "on must be true or false"),
    "text as a list": ('place="p"\nhosts="a"', "hosts must be a list of texts"),
    "a list with a number": ('place="p"\nhosts=["a",1]', "hosts must be a list of texts"),
    "a table": ("[place]", "place must be a path"),
    "half a line": ("place=", "is not TOML"),
    "a key twice": ('place="p"\nplace="q"', "is not TOML"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_a_wrong_key_is_refused_by_its_name(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as e:
        config.parse(Example, text, file="x.toml")
    assert str(e.value).startswith("x.toml")
    assert told in str(e.value)


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as e:
        config.parse(Example, 'name=7\nnumber="x"\nmore=1', file="x.toml")
    assert all(name in str(e.value) for name in ("place", "name", "number", "more"))


def test_keys_that_are_not_given_have_their_defaults() -> None:
    assert config.parse(Example, 'place="p"', file="x") == Example(place=Path("p"))
    full = 'place="p"\nname="m"\nnumber=2\nseconds=3\non=true\nhosts=["a"]'
    assert config.parse(Example, full, file="x") == Example(
        place=Path("p"), name="m", number=2, seconds=3, on=True, hosts=("a",)
    )


ADDRESSES = ["", "host", ":80", "host:", "host:x", "host:-1", "host:65536", "host:8 0"]


@pytest.mark.parametrize("text", ADDRESSES)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="listen must be HOST:PORT"):
        config.address(text, key="listen")


def test_an_address_is_its_host_and_port() -> None:
    assert config.address("[::1]:0", key="listen") == ("[::1]", 0)
    assert config.address("node.example:7444", key="listen") == ("node.example", 7444)


PROGRAMS = {
    "a broker's admin port for everybody": (BrokerConfig, "broker.toml", 'identity="i"\nadmin="0.0.0.0:7445"'),
    "a broker that listens nowhere": (BrokerConfig, "broker.toml", 'identity="i"\nlisten_nodes="x"'),
    "a broker without identity": (BrokerConfig, "broker.toml", ""),
    "a node without brokers": (NodeConfig, "node.toml", 'identity="i"\nbrokers=[]'),
    "a node with half a broker": (NodeConfig, "node.toml", 'identity="i"\nbrokers=["b:1","b"]'),
    "a node's admin port for everybody": (
        NodeConfig,
        "node.toml",
        'identity="i"\nbrokers=["b:1"]\nadmin="192.0.2.1:7"',
    ),
    "a node with an unknown key": (NodeConfig, "node.toml", 'identity="i"\nbrokers=["b:1"]\nbroker="b:1"'),
}


@pytest.mark.parametrize(("kind", "file", "text"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_does_not_start_on_a_wrong_configuration(
    kind: type[BrokerConfig] | type[NodeConfig], file: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text, "utf-8")
    with pytest.raises(ConfigError) as e:
        kind.load(tmp_path)
    assert file in str(e.value) or "HOST:PORT" in str(e.value)


@pytest.mark.parametrize("kind", [BrokerConfig, NodeConfig])
def test_a_folder_without_configuration_is_refused(kind: type[BrokerConfig] | type[NodeConfig], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as e:
        kind.load(tmp_path)
    assert e.value.reason == "NO_CONFIG"
