"""The broker's witnesses, as its directory and its state folder have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.log import DecisionLog
from audit.witness import DB_NAME, VKEY_NAME, Witness
from broker.witnessing import Witnessing
from cli.directory import witness_key
from comity.errors import ConfigError
from identity.directory import LogKey
from tests.unit.audit.growing import HandSeconds, public
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import World

ORIGIN = "test-exchange/broker/b1"
WITNESS = "us-ca-alder-pd/witness/alder-1"


def key_of(name: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public(name).key)


def made(world: World, folder: Path, log: DecisionLog, **changes: Any) -> Witnessing:
    """The witnessing of a broker in `folder`, whose directory has these `changes`."""
    own = LogKey(origin=ORIGIN, key=Ed25519PublicKey.from_public_bytes(log.vkey.key), program="broker", id="b1")
    content: dict[str, Any] = {"logs": [own], "witnesses": {"alder-1": key_of(WITNESS)}}
    return Witnessing(
        folder,
        log=log,
        directory=world.directory(**(content | changes)),
        broker="spiffe://test-exchange/broker/b1",
        within_s=900,
        tiles_every_s=0,
        clock=lambda: NOW,
        seconds=HandSeconds(),
        changed=lambda _: None,
    )


def test_a_broker_does_not_start_if_its_directory_pins_fewer_witnesses_than_it_asks_for(
    world: World, tmp_path: Path
) -> None:
    with (
        DecisionLog.create(tmp_path, origin=ORIGIN, clock=lambda: NOW) as log,
        pytest.raises(ConfigError) as refused,
    ):
        made(world, tmp_path, log, witnesses={})
    assert refused.value.reason == "TOO_FEW_WITNESSES"


def test_its_witnesses_are_those_that_the_directory_names_under_their_own_names(world: World, tmp_path: Path) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=lambda: NOW) as log:
        pinned = {"alder-1": key_of(WITNESS), "brazos-1": key_of("b"), "broker/b1": key_of("c")}
        witnessing = made(world, tmp_path, log, witnesses=pinned)
        assert witnessing.own.witnesses == {"alder-1": public(WITNESS)}, "a key alone makes no witness of the broker's"
        witnessing.close()


def test_a_broker_whose_witness_s_memory_is_gone_does_not_start(world: World, tmp_path: Path) -> None:
    Witness.create(tmp_path, "test-exchange/witness/b1")
    pinned = {"alder-1": key_of(WITNESS), "broker/b1": witness_key(tmp_path / VKEY_NAME)}
    (tmp_path / DB_NAME).unlink()
    with (
        DecisionLog.create(tmp_path, origin=ORIGIN, clock=lambda: NOW) as log,
        pytest.raises(ConfigError) as refused,
    ):
        made(world, tmp_path, log, witnesses=pinned)
    assert refused.value.reason == "NO_STATE"
