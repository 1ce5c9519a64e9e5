from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_pool import connect, run
from tests.postgres_server import PostgresServer
from tests.unit.identity.world import World
from tests.unit.node.on_postgres import Open
from tests.unit.node.samples import NOW, YEAR_S, clock
from tests.unit.node.scene import NodeStage


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("node-world"))


@pytest.fixture
def stage(world: World, tmp_path: Path) -> NodeStage:
    return NodeStage(world, tmp_path)


@pytest.fixture
def address(postgres_server: PostgresServer) -> PostgresAddress:
    return PostgresAddress.parse(postgres_server.url, password=postgres_server.password)


@pytest.fixture
def node(address: PostgresAddress) -> Iterator[str]:
    node = f"t-{uuid.uuid4().hex[:12]}"
    yield node
    with connect(address, "public") as connection:
        run(connection, f'DROP SCHEMA IF EXISTS "{schema_of(node)}" CASCADE')


@pytest.fixture
def opened(address: PostgresAddress, node: str) -> Iterator[Open]:
    made: list[PostgresStore] = []
    PostgresStore.create(address, agency="alder", node=node, now=NOW)

    def open_(**more: Any) -> PostgresStore:
        values: dict[str, Any] = {"retention_s": YEAR_S, "clock": clock} | more
        made.append(PostgresStore.open(address, agency="alder", node=node, **values))
        return made[-1]

    yield open_
    for store in made:
        store.close()
