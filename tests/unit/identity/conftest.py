from __future__ import annotations

import pytest

from identity.directory import Directory
from tests.unit.identity.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Read only: a test that changes files makes its own."""
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def directory(world: World) -> Directory:
    return world.directory()
