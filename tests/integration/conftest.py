"""The sample federation as real processes: one for everybody, and copies to break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.rogue import Rogue
from tests.integration.world import World, build_template

INGEST_NODE = "sequoia-1"
# The nodes that also dial out to the second broker's address.
DOUBLE = ("port-alder-1", "sequoia-1")

NewWorld = Callable[..., World]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample federation, built and never started."""
    root = tmp_path_factory.mktemp("federation") / "template"
    build_template(root)
    return root


@pytest.fixture(scope="session")
def federation(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The whole of it, running: one broker and eight nodes. A test leaves it as it found it."""
    world = World(template, tmp_path_factory.mktemp("running") / "world", both=DOUBLE, ingest=INGEST_NODE)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def new_world(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewWorld]:
    """Makes copies, not started, that are stopped at the module's end."""
    made: list[World] = []

    def make(**options: object) -> World:
        world = World(template, tmp_path_factory.mktemp("copy") / "world", **options)  # type: ignore[arg-type]
        made.append(world)
        return world

    yield make
    for world in made:
        world.stop()


@pytest.fixture(scope="session")
def rogue(federation: World) -> Iterator[Rogue]:
    """A bad broker, to which two of the federation's nodes attach."""
    with Rogue(federation) as rogue:
        rogue.attached(*DOUBLE)
        yield rogue
