from __future__ import annotations

import pytest

from tests.unit.cli.scene import Client
from tests.unit.identity.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("cli-world"))


@pytest.fixture
def client(world: World) -> Client:
    return Client(world)
