"""Programs that die, freeze, cannot write or are told to stop: the search ends, and nobody is told "no record"."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from cli.demo.processes import Program
from comity.v1 import search_service_pb2 as pb2
from tests.integration.calls import (
    ANSWERED,
    CASE,
    NEVER_SEEN,
    NO_RECORD,
    SEEN,
    STATE,
    Person,
    opened,
    told_of,
)
from tests.integration.conftest import NewWorld
from tests.integration.world import BROKER_1, SEARCH_TICK_S, World, attachments, events, ready, until

A, B = "port-alder-1", "sequoia-1"
SEARCH = ("--state", STATE, "--purpose", "stolen-vehicle", "--case", CASE, "--node", A, "--node", B)


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    """A broker and two nodes, that every test here leaves running."""
    world = new_world()
    world.start(A, B)
    return world


@pytest.fixture
def person(world: World) -> Person:
    return Person.of(world)


def freeze(program: Program) -> None:
    """It stays connected and does nothing any more."""
    assert program.pid is not None
    os.kill(program.pid, signal.SIGSTOP)


def thaw(program: Program) -> None:
    """It goes on."""
    assert program.pid is not None
    os.kill(program.pid, signal.SIGCONT)


@contextmanager
def searching(
    person: Person, *, plate: str = NEVER_SEEN, deadline_s: float = 60.0
) -> Iterator[Iterator[pb2.SearchEvent]]:
    """A search of A and B with B frozen, once A has answered: B was asked, and has not answered."""
    world = person.world
    freeze(world.nodes[B])
    with person.channel() as channel:
        stream = person.stream(person.ask(A, B, plate=plate), channel, deadline_s=deadline_s)
        for event in stream:
            if event.WhichOneof("event") == "outcome":
                assert event.outcome.node == A
                break
        yield stream


def rest(stream: Iterator[pb2.SearchEvent]) -> tuple[str, dict[str, str], list[pb2.SearchEvent]]:
    """How the stream ends: its code, the outcomes that still came, and all that came."""
    got: list[pb2.SearchEvent] = []
    code = "OK"
    try:
        for event in stream:
            got.append(event)
    except grpc.RpcError as error:
        code = told_of(error, []).code  # type: ignore[arg-type]  # what stubs raise is a call too
    outcomes = {e.outcome.node: opened(e.outcome).kind.value for e in got if e.WhichOneof("event") == "outcome"}
    return code, outcomes, got


def test_a_node_killed_in_the_middle_of_a_search_is_an_error_and_the_search_ends(world: World, person: Person) -> None:
    before = crashes(world)
    with searching(person) as stream:
        world.kill(world.nodes[B])
        code, outcomes, got = rest(stream)
    assert (code, outcomes) == ("OK", {B: "error"})
    (event,) = [e for e in got if e.WhichOneof("event") == "outcome"]
    assert opened(event.outcome).reason_code == "LINK_LOST"
    assert got[-1].summary.complete is False
    recorded = world.entries(world.broker, "outcome", node=B)[-1]
    assert (recorded["outcome"], recorded["count"], recorded["reason_code"]) == ("error", 0, "LINK_LOST")
    world.restart(B)
    assert crashes(world) == before + 1


def test_a_node_that_is_gone_is_unreachable_and_no_record_is_not_said(world: World, person: Person) -> None:
    world.kill(world.nodes[B])
    until(lambda: len(events(world.broker, "node detached")) >= 1, "the broker has noticed")
    until(
        lambda: person.search(person.ask(B)).kinds == {B: "unreachable"},
        "the broker says that the node is not connected",
        every_s=SEARCH_TICK_S,
    )
    table, lines = person.both(NEVER_SEEN, *SEARCH)
    assert (table.code, lines.code) == (3, 3)
    assert lines.kinds == {A: "no_match", B: "unreachable"}
    assert lines.last_of_each[B]["last_attached_at"]
    assert NO_RECORD not in table.out
    alone = person.command(NEVER_SEEN, *SEARCH[:6], "--node", B)
    assert alone.code == 5
    assert NO_RECORD not in alone.out
    world.restart(B)
    assert person.search(person.ask(A, B)).kinds == {A: "no_match", B: "no_match"}


def test_a_node_that_never_answers_is_timed_out_at_the_deadline(world: World, person: Person) -> None:
    freeze(world.nodes[B])
    table, lines = person.both(NEVER_SEEN, *SEARCH, "--deadline", "5")
    assert (table.code, lines.code) == (3, 3)
    assert lines.kinds == {A: "no_match", B: "timed_out"}
    assert lines.last_of_each[B]["signed_by"] == "broker"
    assert lines.summary["complete"] is False
    assert NO_RECORD not in table.out
    thaw(world.nodes[B])
    # The late answer is nobody's any more, and the next search is whole again.
    assert person.search(person.ask(A, B)).kinds == {A: "no_match", B: "no_match"}


def test_a_caller_who_leaves_is_recorded_for_every_node_that_was_asked(world: World, person: Person) -> None:
    with searching(person):
        pass
    until(
        lambda: world.entries(world.broker, "outcome", node=B)[-1]["reason_code"] == "CALLER_LEFT",
        "the broker recorded that the caller left",
    )
    thaw(world.nodes[B])
    assert person.search(person.ask(A, B)).kinds == {A: "no_match", B: "no_match"}


def test_a_node_that_cannot_write_its_log_releases_nothing_and_stops(world: World, person: Person) -> None:
    before, crashed = world.size(world.nodes[B]), crashes(world)
    no_more_writing(world.nodes[B])
    told = person.search(person.ask(A, B, plate=SEEN))
    assert told.kinds == {A: "match", B: "error"}
    assert told.outcomes[B].detections == ()
    assert told.events[-1].summary.complete is False
    until(world.nodes[B].ended, "the node stopped by itself")
    assert world.nodes[B]._process.returncode == 1
    assert events(world.nodes[B], "the decision log is broken") == [], "its own log could not be written either"
    assert world.size(world.nodes[B]) == before
    world.restart(B)
    assert crashes(world) == crashed + 1
    assert person.search(person.ask(B, plate=SEEN)).kinds == {B: "match"}


def test_a_broker_that_cannot_write_its_log_asks_nobody_and_stops(world: World, person: Person) -> None:
    before = {p: world.size(p) for p in (world.broker, world.nodes[A], world.nodes[B])}
    no_more_writing(world.broker)
    told = person.search(person.ask(A, B, plate=SEEN))
    assert (told.code, told.reason, told.events) == ("UNAVAILABLE", "LOG_BROKEN", ())
    until(world.broker.ended, "the broker stopped by itself")
    assert world.broker._process.returncode == 1
    assert {p: world.size(p) for p in before} == before
    printed = person.command(NEVER_SEEN, *SEARCH)
    assert (printed.code, printed.out) == (1, "")
    assert "NO_BROKER" in printed.err
    attached_again(world)


def test_a_log_that_fails_in_the_middle_of_a_search_releases_no_outcome(world: World, person: Person) -> None:
    with searching(person, plate=SEEN) as stream:
        no_more_writing(world.broker)
        thaw(world.nodes[B])
        code, outcomes, _ = rest(stream)
    assert (code, outcomes) == ("UNAVAILABLE", {}), "what B found is not recorded, so it is not released"
    until(world.broker.ended, "the broker stopped by itself")
    attached_again(world)


def test_a_broker_told_to_stop_lets_a_running_search_end_whole(world: World, person: Person) -> None:
    with searching(person) as stream:
        assert world.broker.pid is not None
        os.kill(world.broker.pid, signal.SIGTERM)
        until(lambda: events(world.broker, "stopping"), "the broker is stopping")
        thaw(world.nodes[B])
        code, outcomes, got = rest(stream)
    assert (code, outcomes) == ("OK", {B: "no_match"})
    assert got[-1].summary.complete is True
    until(world.broker.ended, "the broker ended")
    assert world.broker._process.returncode == 0
    assert world.entries(world.broker, "stop")
    attached_again(world)


def test_a_broker_told_to_stop_does_not_wait_for_ever_and_the_search_fails_clearly(
    world: World, person: Person
) -> None:
    stopped = len(world.entries(world.broker, "stop"))
    with searching(person, deadline_s=60.0) as stream:
        world.kill(world.broker, signal.SIGTERM)
        code, outcomes, _ = rest(stream)
    assert code in ("UNAVAILABLE", "CANCELLED")
    assert not ANSWERED & set(outcomes.values())
    assert len(world.entries(world.broker, "stop")) == stopped + 1
    last = world.entries(world.broker, "outcome", node=B)[-1]
    assert (last["outcome"], last["reason_code"]) == ("timed_out", "CALLER_LEFT")
    thaw(world.nodes[B])
    attached_again(world)


def test_every_log_verifies_after_all_that(world: World) -> None:
    assert world.faults(world.broker, world.nodes[A], world.nodes[B]) == {}


def test_a_crash_is_told_from_a_stop_in_order_by_the_log(world: World) -> None:
    before = crashes(world)
    world.kill(world.nodes[B], signal.SIGTERM)
    world.restart(B)
    assert crashes(world) == before
    world.kill(world.nodes[B])
    world.restart(B)
    assert crashes(world) == before + 1


def crashes(world: World) -> int:
    """How often B ended without a word, by its decision log; it runs."""
    return len(world.entries(world.nodes[B], "start")) - len(world.entries(world.nodes[B], "stop")) - 1


def no_more_writing(program: Program) -> None:
    """Every further write to a file fails, as on a full disk: its decision log's and its own log's alike."""
    assert program.pid is not None
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (0, 0))


def attached_again(world: World) -> None:
    """The broker has ended and runs again, and the nodes have found it by themselves."""
    until(world.broker.ended, "the broker ended")
    counts = {n: len(attachments(world.nodes[n], BROKER_1)) for n in (A, B)}
    world.broker.start()
    for node, count in counts.items():
        world.attached(world.nodes[node], count + 1)
    ready(world.broker, "releasing")
    person = Person.of(world)
    assert person.search(person.ask(A, B)).kinds == {A: "no_match", B: "no_match"}
