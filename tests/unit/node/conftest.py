from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.identity.world import World
from tests.unit.node.scene import NodeStage


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("node-world"))


@pytest.fixture
def stage(world: World, tmp_path: Path) -> NodeStage:
    return NodeStage(world, tmp_path)
