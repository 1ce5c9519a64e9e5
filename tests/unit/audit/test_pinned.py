"""A program whose log the directory does not pin says so when it starts: no auditor would believe that log."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from structlog.testing import capture_logs

from audit.note import VerifierKey
from audit.pinned import tell_if_not_pinned
from identity import keys
from identity.directory import LogKey
from tests.unit.identity.world import ALDER, World

ORIGIN = f"{ALDER}/node/alder-1"


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("pinned"))


@pytest.mark.parametrize(
    ("pinned", "warnings"),
    [
        pytest.param("its own", 0, id="its own key is pinned"),
        pytest.param("another", 1, id="another key is pinned"),
        pytest.param("none", 1, id="none is pinned"),
    ],
)
def test_a_log_that_the_directory_does_not_pin_is_told_at_the_start(world: World, pinned: str, warnings: int) -> None:
    own, other = (keys.new_log_key().public_key() for _ in range(2))
    chosen: list[Ed25519PublicKey] = {"its own": [own], "another": [other], "none": []}[pinned]
    logs = [LogKey(origin=ORIGIN, key=k, program="node", id="alder-1") for k in chosen]
    with capture_logs() as said:
        tell_if_not_pinned(world.directory(logs=logs), VerifierKey.of(ORIGIN, own))
    assert [(s["log_level"], s["origin"]) for s in said] == [("warning", ORIGIN)] * warnings
