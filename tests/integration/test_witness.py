"""Witnesses as real processes: what the broker may release depends on who has seen its log, and nobody can fake it."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.cosignature import WitnessKey, cosignatures
from audit.hashes import WIDTH
from audit.note import Checkpoint, VerifierKey, signatures_of, verify_checkpoint
from audit.tiles import tile_path
from audit.verify import verify
from audit.witness import DB_NAME, KEY_NAME, Report, WitnessState
from cli.demo.processes import Program
from identity import keys
from tests.go.driver import built, run
from tests.integration.calls import Person
from tests.integration.conftest import NewWorld
from tests.integration.world import SEARCH_TICK_S, World, events, ready, until

A, B, C = "port-alder-1", "sequoia-1", "brazos-bend-1"  # the witnesses that the sample's directory names
WITHIN_S = 8.0
OPEN = ("OK", "")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    """A broker with one of its three witnesses; the tests here follow one another."""
    world = new_world(broker_keys={"quorum_within_s": WITHIN_S, "tiles_every_s": 0.2}, tiles=A)
    world.start(A)
    return world


def ends(world: World, end: tuple[str, str], what: str) -> None:
    """Return once a search ends so."""
    until(lambda: search(world) == end, what, every_s=SEARCH_TICK_S)


def search(world: World) -> tuple[str, str]:
    """How a search at the one node that is always there ends."""
    person = Person.of(world)
    told = person.search(person.ask(A))
    if told.code == "OK":
        assert told.kinds == {A: "no_match"}
    else:
        assert told.outcomes == {}, "no outcome is released"
    return told.code, told.reason


def health(world: World, service: str) -> int:
    with grpc.insecure_channel(world.admin) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=60).status)


def healthy(world: World) -> list[int]:
    return [health(world, s) for s in ("", "comity.v1.SearchService", "comity.v1.NodeLinkService")]


def reports(program: Program) -> list[Report]:
    """What the witness of that program, which does not run, has reported."""
    state = WitnessState(program.state / DB_NAME)
    try:
        return state.reports()
    finally:
        state.close()


def copied(program: Program, to: Path) -> None:
    """A copy of the log of a program that has ended."""
    to.mkdir()
    shutil.copy(program.state / "log.db", to)


def put_back(program: Program, copy: Path) -> None:
    """That copy stands in the log's place."""
    for name in ("log.db-wal", "log.db-shm"):
        (program.state / name).unlink(missing_ok=True)
    shutil.copy(copy / "log.db", program.state)


def test_a_broker_with_one_of_three_witnesses_starts_and_releases_nothing(world: World) -> None:
    before = world.size(world.broker)
    assert search(world) == ("UNAVAILABLE", "NOT_WITNESSED")
    assert world.size(world.broker) == before, "nor is anything recorded that was not begun"
    assert healthy(world) == [NOT_SERVING, NOT_SERVING, SERVING]


def test_it_goes_on_by_itself_once_a_quorum_has_seen_its_log_and_both_sides_cite_what_was_cosigned(
    world: World,
) -> None:
    world.nodes[B].start()
    ends(world, OPEN, "the broker releases")
    until(lambda: healthy(world) == [SERVING, SERVING, SERVING], "and says so")
    broker, node = (verify(p.state, directory=world.directory) for p in (world.broker, world.nodes[A]))
    assert (broker.fault, node.fault) == (None, None)

    def cites() -> bool:
        search(world)
        own, other = (
            {p["origin"].split("/")[1] for e in world.log(program) for p in e["peers"]}
            for program in (world.broker, world.nodes[A])
        )
        return own == other == {"broker", "node"}

    until(cites, "entries cite cosigned heads of both logs", every_s=SEARCH_TICK_S)
    assert world.faults(world.broker, world.nodes[A]) == {}


def shown(address: str, path: str) -> bytes:
    """What an admin port serves there."""
    connection = HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, path
        return answer.read()
    finally:
        connection.close()


def cosigned(address: str, count: int) -> bytes:
    """The checkpoint there, once so many of its log's witnesses have signed it."""
    vkeys = [WitnessKey.parse(line) for line in shown(address, "/witness.vkeys").decode().splitlines()]

    def fits() -> bytes:
        note = shown(address, "/checkpoint")
        return note if len(cosignatures(note, vkeys)) >= count else b""

    return until(fits, f"{count} witnesses have signed the checkpoint")


def mirrored(address: str, note: bytes, folder: Path) -> Path:
    """A copy of the log of that checkpoint, as any client of the public format makes one."""
    size, level = Checkpoint.parse(note).size, 0
    paths = ["/log.vkey", "/witness.vkeys"]
    full, width = divmod(size, WIDTH)
    paths += [f"/{tile_path('entries', n)}" for n in range(full)]
    paths += [f"/{tile_path('entries', full, width)}"] if width else []
    while size >> (8 * level):
        full, width = divmod(size >> (8 * level), WIDTH)
        paths += [f"/{tile_path(level, n)}" for n in range(full)]
        paths += [f"/{tile_path(level, full, width)}"] if width else []
        level += 1
    for path in paths:
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (folder / path[1:]).write_bytes(shown(address, path))
    (folder / "checkpoint").write_bytes(note)
    return folder


def test_go_verifies_what_broker_and_node_serve_on_their_admin_ports_with_the_witnesses_signatures(
    world: World, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "go").mkdir()
    verifier = built(tmp_path / "go", pytestconfig)
    for name, address in (("broker", world.admin), (A, world.tiles_address)):
        note = cosigned(address, 2)
        head = verify_checkpoint(note, VerifierKey.parse(shown(address, "/log.vkey").decode()))
        done = run(verifier, mirrored(address, note, tmp_path / name))
        said = f"{head.size} entries were seen by 2 witnesses\nverified {head.size} entries of {head.origin}\n"
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    names = {n for n, _ in signatures_of(note)}
    assert names == {head.origin, "pacific-exchange/witness/broker-1", "us-ca-sequoia-so/witness/sequoia-1"}


def test_without_a_quorum_for_long_enough_it_stops_and_with_one_it_goes_on(world: World) -> None:
    world.kill(world.nodes[B])
    ends(world, ("UNAVAILABLE", "NOT_WITNESSED"), "it stops")
    until(lambda: healthy(world) == [NOT_SERVING, NOT_SERVING, SERVING], "and says so")
    world.nodes[B].start()
    ends(world, OPEN, "it goes on")


def test_a_witness_that_lies_is_outvoted_and_alone_it_lets_nothing_pass(world: World) -> None:
    forged = Checkpoint(origin=_origin(world), size=10**9, root=b"r" * 32).sign(Ed25519PrivateKey.generate())
    liar = world.nodes[C]
    with sqlite3.connect(liar.state / DB_NAME) as db:
        db.execute("INSERT INTO head(origin, size, note) VALUES (?, ?, ?)", (_origin(world), 10**9, forged))
    world.nodes[C].start()
    ready(liar, "attached")
    until(lambda: events(liar, "a log is not what it was"), "it says that the log was rolled back")
    assert search(world) == OPEN
    world.kill(world.nodes[B])
    ends(world, ("UNAVAILABLE", "NOT_WITNESSED"), "its word makes no quorum")
    world.kill(liar)
    # And one whose key is not the one that the directory pins.
    (liar.state / DB_NAME).unlink()
    WitnessState.create(liar.state / DB_NAME)
    (liar.state / KEY_NAME).unlink()
    keys.write_key(liar.state / KEY_NAME, keys.new_log_key())
    liar.start()
    ready(liar, "attached")
    assert search(world) == ("UNAVAILABLE", "NOT_WITNESSED")
    world.kill(liar)
    world.nodes[B].start()
    ends(world, OPEN, "the honest ones are enough")


def test_a_broker_whose_log_was_put_back_releases_nothing_until_the_true_log_is_there(
    world: World, tmp_path: Path
) -> None:
    world.kill(world.broker, signal.SIGTERM)
    copied(world.broker, tmp_path / "older")
    world.broker.start()
    ends(world, OPEN, "it goes on from the same log")
    for _ in range(3):
        assert search(world) == OPEN
    newest = world.size(world.broker)
    until(lambda: _held(world, A) >= newest and _held(world, B) >= newest, "both witnesses have seen the newest head")
    world.kill(world.broker, signal.SIGTERM)
    copied(world.broker, tmp_path / "true")

    put_back(world.broker, tmp_path / "older")
    world.broker.start()
    until(lambda: events(world.broker, "not releasing")[-1]["reason"].startswith("LOG_"), "a witness says so")
    assert search(world) in {("UNAVAILABLE", "LOG_ROLLED_BACK"), ("UNAVAILABLE", "LOG_FORKED")}
    until(lambda: healthy(world) == [NOT_SERVING, NOT_SERVING, SERVING], "and says so")
    world.kill(world.broker, signal.SIGTERM)

    put_back(world.broker, tmp_path / "true")
    world.broker.start()
    ends(world, OPEN, "the true log goes on")
    assert world.faults(world.broker) == {}


def test_a_node_whose_log_was_put_back_is_refused_and_reported_by_the_broker(world: World, tmp_path: Path) -> None:
    node = world.nodes[A]
    world.kill(node, signal.SIGTERM)
    copied(node, tmp_path / "older")
    world.restart(A)
    ends(world, OPEN, "the broker releases")
    before = world.size(node)
    until(lambda: _held(world, "", node) >= before, "the broker has seen the node's newest head")
    world.kill(node, signal.SIGTERM)
    put_back(node, tmp_path / "older")
    world.restart(A)
    until(lambda: events(world.broker, "a log is not what it was"), "the broker says so")
    world.kill(world.broker, signal.SIGTERM)
    (first, *_) = reports(world.broker)
    assert first.origin.endswith(f"/node/{A}")
    assert first.kind in ("ROLLED_BACK", "FORKED", "INCONSISTENT")
    held, shown = Checkpoint.parse(first.held), Checkpoint.parse(first.shown)
    assert held.origin == shown.origin
    assert held.root != shown.root


def _origin(world: World) -> str:
    return next(o for o, log in world.directory.logs.items() if log.program == "broker" and log.id == "broker-1")


def _held(world: World, witness: str, of: Program | None = None) -> int:
    """The size of the head that the witness (the broker, if none is named) holds of that log (the broker's)."""
    program = world.nodes[witness] if witness else world.broker
    origin = _origin(world) if of is None else (of.state / "log.vkey").read_text().partition("+")[0]
    with sqlite3.connect(f"file:{program.state / DB_NAME}?mode=ro", uri=True) as db:
        row = db.execute("SELECT size FROM head WHERE origin = ?", (origin,)).fetchone()
    return int(row[0]) if row else 0
