from __future__ import annotations

import pytest

from tests.unit.broker.scene import Stage
from tests.unit.identity.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("broker-world"))


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)
