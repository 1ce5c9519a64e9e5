"""A node of the sample federation whose detections move to PostgreSQL, and that serves from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from cli.demo.processes import ProgramFailed, call
from node.config import FILE as NODE_FILE
from tests.integration.calls import SEEN, Person, comity
from tests.integration.conftest import INGEST_NODE, NewWorld
from tests.integration.test_ingest import read
from tests.integration.world import World
from tests.postgres_server import LocalServer

# A broker releases nothing that two nodes' witnesses have not seen recorded.
WITNESSES = ("port-alder-1", "llano-1")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server that the test may kill."""
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def password(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "password"
    path.write_text(server.password)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    return new_world()


def test_a_node_moves_to_a_server_and_answers_from_there_and_fails_when_that_is_gone(
    world: World, server: LocalServer, password: Path, tmp_path: Path
) -> None:
    program = world.nodes[INGEST_NODE]
    state = program.state
    before = orjson.loads(comity("node", "status", str(state), "--json").out)
    moved = comity("node", "copy", str(state), server.url, "--password-file", str(password), "--json")
    assert moved.code == 0, moved.err
    report = orjson.loads(moved.out)
    assert report["rows"] == before["detections"] == sum(m["rows"] for m in report["months"]) > 0

    with (state / NODE_FILE).open("a") as file:
        file.write(f'store = "{server.url}"\nstore_password_file = "{password}"\n')
    after = orjson.loads(comity("node", "status", str(state), "--json").out)
    same = ("detections", "oldest", "newest", "retention_s")
    assert {k: after[k] for k in same} == {k: before[k] for k in same}
    assert {p["name"][:4] for p in after["parts"]} == {"det_"}

    world.start(INGEST_NODE, *WITNESSES)
    person = Person.of(world)
    assert person.search(person.ask(INGEST_NODE, plate=SEEN)).kinds == {INGEST_NODE: "match"}
    assert person.search(person.ask(INGEST_NODE)).kinds == {INGEST_NODE: "no_match"}
    reads = tmp_path / "reads.jsonl"
    reads.write_bytes(read("8PGS001", 1) + b"\n" + read("8PGS002", 2) + b"\n")
    told = orjson.loads(comity("node", "ingest", str(state), str(reads), "--json").out)
    assert (told["accepted"], told["duplicates"]) == (2, 0)
    assert person.search(person.ask(INGEST_NODE, plate="8PGS001", days=1)).kinds == {INGEST_NODE: "match"}
    assert comity("node", "purge", str(state), "--dry-run").code == 0

    server.kill()
    failed = person.search(person.ask(INGEST_NODE, plate="8PGS001", days=1), deadline_s=60)
    assert failed.kinds in ({INGEST_NODE: "error"}, {INGEST_NODE: "timed_out"})
    again = comity("node", "ingest", str(state), str(reads), "--json")
    assert again.code == 1
    assert server.password not in again.err + program_log(program.state)
    server.start()
    assert person.search(person.ask(INGEST_NODE, plate="8PGS001", days=1)).kinds == {INGEST_NODE: "match"}
    assert "8PGS001" not in program_log(program.state)


def test_a_node_moves_back_to_files(world: World, server: LocalServer) -> None:
    program = world.nodes[INGEST_NODE]
    busy = comity("node", "copy", str(program.state), "sqlite:back", "--json")
    assert (busy.code, "LOG_IN_USE" in busy.err) == (1, True)
    world.stop()
    moved = comity("node", "copy", str(program.state), "sqlite:back", "--json")
    assert moved.code == 0, moved.err
    assert orjson.loads(comity("node", "copy", str(program.state), "sqlite:back", "--check", "--json").out)["rows"] > 0
    assert "TARGET_NOT_EMPTY" in comity("node", "copy", str(program.state), "sqlite:back").err


def test_a_node_is_made_on_a_server_and_a_store_that_is_there_is_migrated(
    world: World, server: LocalServer, password: Path, tmp_path: Path
) -> None:
    node = "port-alder-1"
    state, identity = tmp_path / "state", world.nodes[node].state / "identity"
    common = ("init", str(state), "--identity", str(identity), "--broker", "127.0.0.1:1")
    with pytest.raises(ProgramFailed, match="PASSWORD_IN_URL"):
        call("node", *common, "--store", server.url.replace("@", ":hush@"))
    with pytest.raises(ProgramFailed, match="STORE_FAILED"):
        call("node", *common, "--store", "postgresql://comity@127.0.0.1:1/comity")
    assert not state.exists()
    call("node", *common, "--store", server.url, "--store-password-file", str(password))
    assert "0 versions" in call("node", "init", str(state), "--migrate")
    assert orjson.loads(call("node", "status", str(state), "--json"))["detections"] == 0


def program_log(state: Path) -> str:
    """All that the node's program wrote."""
    return "".join(p.read_text() for p in state.glob("program*.log"))
