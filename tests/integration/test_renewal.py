"""Certificates and directories change under running programs, which go on without anybody starting them again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

import pytest

from cli.demo.processes import Program
from comity import instants
from identity import certificates, files
from identity.authority import Authority
from identity.folder import DIRECTORY_FILE, IdentityFolder
from identity.publish import sign_directory
from tests.integration.calls import ANSWERED, SEEN, Person, comity
from tests.integration.conftest import NewWorld
from tests.integration.world import SEARCH_TICK_S, World, events, until

NODE, AGENCY = "port-alder-1", "us-ca-port-alder-pd"
WITNESSES = ("port-alder-1", "sequoia-1", "brazos-bend-1")
UNFIT = "identity not taken up"


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    world = new_world(broker_keys={"renew_every_s": 0.1, "stop_grace_s": 3.0})
    world.start(*WITNESSES)
    return world


def directory_of(
    world: World, version: int, denied: Iterable[str] = (), federation: dict[str, Any] | None = None
) -> bytes:
    """The world's directory anew."""
    top, old = Authority.load(world.layout.authority("federation")), world.directory
    return sign_directory(
        top,
        version=version,
        issued_at=instants.now(),
        federation=federation or world.layout.tables,
        authorities={a: old.authorities_of(a) for a in world.layout.federation.agencies},
        policy_keys=old.policy_keys,
        logs=old.logs.values(),
        witnesses=old.witnesses,
        denied=denied,
        auditors=old.auditors,
        pseudonym_key=old.pseudonym_key,
    )


def put(program: Program, data: bytes) -> None:
    """The program's identity folder holds that directory."""
    files.replace(program.state / "identity" / DIRECTORY_FILE, data, mode=files.PUBLIC)


def runs(world: World, program: Program) -> list[tuple[str, str, int]]:
    """The program's starts and stops, as its decision log has them."""
    return [
        (e["type"], e["reason"], e["directory_version"]) for e in world.log(program) if e["type"] in ("start", "stop")
    ]


def answered(person: Person) -> bool:
    told = person.search(person.ask(NODE, plate=SEEN))
    assert not (told.code == "OK" and set(told.kinds.values()) == {"no_match"})
    return told.code == "OK" and set(told.kinds.values()) <= ANSWERED


def test_a_node_goes_on_with_the_certificate_that_a_timer_renewed(world: World) -> None:
    program = world.nodes[NODE]
    before, pid = IdentityFolder.load(program.state / "identity").chain[0], program.pid
    attached = len(events(program, "attached"))
    printed = comity(
        "identity", "renew", str(program.state / "identity"), "--authority", str(world.layout.authority(AGENCY))
    )
    assert printed.code == 0, printed.err
    world.attached(program, attached + 1)
    assert program.pid == pid
    assert IdentityFolder.load(program.state / "identity").chain[0] != before
    assert runs(world, program) == [("start", "", 2), ("stop", "identity renewed", 2), ("start", "", 2)]
    until(lambda: answered(Person.of(world)), "the node answers", every_s=SEARCH_TICK_S)
    assert world.faults(program) == {}


def test_a_broker_refuses_whom_a_new_directory_denies_without_being_started_again(world: World) -> None:
    person, other = Person.of(world), Person.of(world, role="supervisor")
    until(lambda: answered(person), "an answer", every_s=SEARCH_TICK_S)
    pid, version = world.broker.pid, world.directory.version + 1
    put(world.broker, directory_of(world, version, [certificates.fingerprints(person.folder.chain[0])[0]]))
    told = until(lambda: refused(person), "refused as revoked", every_s=SEARCH_TICK_S)
    assert told == "CERTIFICATE_REVOKED"
    until(lambda: answered(other), "the nodes are attached again and others are answered", every_s=SEARCH_TICK_S)
    assert world.broker.pid == pid
    assert runs(world, world.broker) == [
        ("start", "", version - 1), ("stop", "identity renewed", version - 1), ("start", "", version)
    ]  # fmt: skip
    assert world.faults(world.broker) == {}


def refused(person: Person) -> str:
    told = person.search(person.ask(NODE, plate=SEEN))
    return told.reason if told.code == "UNAUTHENTICATED" else ""


def test_a_directory_that_is_not_fit_changes_nothing_and_is_said_once(world: World) -> None:
    program = world.nodes["sequoia-1"]
    started = len(runs(world, program))
    good = (program.state / "identity" / DIRECTORY_FILE).read_bytes()
    for data, reason in [
        (good[: len(good) // 2], "DIRECTORY_MALFORMED"),
        (directory_of(world, 1), "DIRECTORY_OLD"),
        (good.replace(b'"payload":"', b'"payload":"AAAA', 1), "DIRECTORY_SIGNATURE"),
    ]:
        put(program, data)  # whole at once: it is looked at ten times a second
        until(lambda r=reason: said(program, r), f"{reason} is said")  # type: ignore[misc]
    os.kill(program.pid or 0, signal.SIGHUP)
    put(program, good)
    person = Person.of(world, role="supervisor")
    until(
        lambda: person.search(person.ask("sequoia-1", plate=SEEN)).kinds.get("sequoia-1") in ANSWERED,
        "the node is attached and answers",
        every_s=SEARCH_TICK_S,
    )
    assert [len(said(program, r)) for r in ("DIRECTORY_MALFORMED", "DIRECTORY_OLD", "DIRECTORY_SIGNATURE")] == [1, 1, 1]
    assert len(runs(world, program)) == started


def test_a_broker_does_not_end_for_a_directory_with_which_it_could_not_start(world: World) -> None:
    started, pid = runs(world, world.broker), world.broker.pid
    good = (world.broker.state / "identity" / DIRECTORY_FILE).read_bytes()
    tables = world.layout.tables | {"federation": world.layout.tables["federation"] | {"presets": ["nowhere"]}}
    put(world.broker, directory_of(world, 8, federation=tables))
    until(lambda: events(world.broker, UNFIT), "it is said why")
    assert (runs(world, world.broker), world.broker.pid) == (started, pid)
    put(world.broker, good)


def said(program: Program, reason: str) -> list[dict[str, Any]]:
    return [e for e in events(program, UNFIT) if e["reason"] == reason]


def test_a_program_told_to_stop_while_it_starts_anew_stops(world: World) -> None:
    program = world.nodes["brazos-bend-1"]
    put(program, directory_of(world, 9))
    until(lambda: events(program, "certificate or directory renewed: starting anew"), "it starts anew")
    os.kill(program.pid or 0, signal.SIGTERM)
    until(program.ended, "it ended")
    assert runs(world, program)[-1][:2] in (("stop", "signal"), ("stop", "identity renewed"))
