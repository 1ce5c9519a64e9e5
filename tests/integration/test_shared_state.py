"""Two broker processes on one real Redis: they act as one, and without Redis they wave nothing through."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from broker.app import PRESENCE_EVERY_S
from broker.state.redis import PREFIX
from tests.integration.calls import ANSWERED, NEVER_SEEN, NO_RECORD, SEEN, STATE, Person
from tests.integration.conftest import NewWorld
from tests.integration.policies import bundle, publish
from tests.integration.world import BROKER_2, SEARCH_TICK_S, World, ready, until
from tests.redis_server import LocalServer

A, B, AWAY = "port-alder-1", "sequoia-1", "llano-1"
TICK_MS = 1000 * PRESENCE_EVERY_S


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def world(new_world: NewWorld, server: LocalServer) -> World:
    """Two brokers and two nodes, which are told of the first broker alone."""
    world = new_world(broker_keys={"redis_url": server.url})
    # The second registers itself before a node dials out, so that the first broker's welcome names both.
    world.second.start()
    ready(world.second, "serving")
    world.start(A, B)
    for node in (A, B):
        world.attached(world.nodes[node], 1, BROKER_2)
    ready(world.second, "releasing")
    return world


def ticked(server: LocalServer, broker: str) -> int:
    """When that broker last said that it lives, in milliseconds of no particular clock."""
    with server.client() as client, client.pipeline() as both:
        (seconds, micros), left = both.time().pttl(f"{PREFIX}:{{presence}}:process:{broker}").execute()
    assert left > 0
    return int(seconds) * 1000 + int(micros) // 1000 + int(left)


def until_told(person: Person, kinds: dict[str, str], what: str, *, plate: str = NEVER_SEEN) -> None:
    """Return once a search of those nodes comes to that."""
    until(lambda: person.search(person.ask(*kinds, plate=plate)).kinds == kinds, what, every_s=SEARCH_TICK_S)


@pytest.fixture
def first(world: World) -> Person:
    return Person.of(world)


@pytest.fixture
def second(world: World) -> Person:
    return Person.of(world, address=world.second_address)


def test_a_node_that_knows_one_broker_learns_of_the_other_and_a_search_at_either_reaches_it(
    first: Person, second: Person
) -> None:
    for person in (first, second):
        assert person.search(person.ask(A, B, plate=SEEN)).kinds == {A: "match", B: "match"}


@pytest.mark.parametrize("at_first", [True, False], ids=["first", "second"])
def test_a_replay_at_the_other_broker_is_refused(first: Person, second: Person, at_first: bool) -> None:
    here, there = (first, second) if at_first else (second, first)
    signed = here.ask(A, plate=SEEN)
    assert here.search(signed).kinds == {A: "match"}
    before = here.world.size(here.world.nodes[A])
    told = there.search(signed)
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "REPLAYED", ())
    assert here.world.size(here.world.nodes[A]) == before


def test_when_a_node_was_last_there_is_known_to_both_brokers(world: World, first: Person, second: Person) -> None:
    world.kill(world.nodes[B], signal.SIGTERM)
    for person in (first, second):
        until_told(person, {B: "unreachable"}, "it is known to be gone")
        told = person.search(person.ask(A, B))
        assert told.kinds == {A: "no_match", B: "unreachable"}
        assert told.outcomes[B].last_attached_at is not None
        assert person.search(person.ask(AWAY)).outcomes[AWAY].last_attached_at is None, "it never was"
    world.restart(B)
    world.attached(world.nodes[B], 2, BROKER_2)


def test_a_policy_published_at_one_broker_is_decided_by_at_the_other_at_once(
    world: World, server: LocalServer, first: Person, second: Person
) -> None:
    supervisor = Person.of(world, world.layout.federation.nodes[B].agency, "supervisor")
    version = 1

    def sooner_than_asked() -> bool:
        """True if a new policy is at the other before that asks the shared state by itself, as it does after a tick."""
        nonlocal version
        version += 1
        tick = ticked(server, world.second_nodes)
        new = bundle(world, B, version, ("toll-operator",))  # it lets nobody search for a stolen car
        assert publish(supervisor, B, new)[0] == "OK"
        assert first.search(first.ask(B, plate=SEEN)).kinds == {B: "refused"}
        until(lambda: world.entries(world.second, "policy", node=B, version=version, taken_up=True), "the other has it")
        return ticked(server, world.second_nodes) - tick < TICK_MS / 2

    # A tick that comes in between by chance shows nothing; without the hint, every one comes in between.
    assert any(sooner_than_asked() for _ in range(6)), "the hint has come"
    before = world.size(world.nodes[B])
    assert second.search(second.ask(B, plate=SEEN)).reasons == {B: "DENIED_BY_RULE"}
    assert world.size(world.nodes[B]) == before
    assert len(world.entries(world.broker, "policy", node=B, version=version)) == 1, "it is recorded once at each"
    world.give_policy(B, bundle(world, B, version + 1))
    for person in (first, second):
        until_told(person, {B: "match"}, "the node shows a newer", plate=SEEN)


def test_without_redis_every_search_is_refused_and_with_it_again_they_go_on(
    world: World, server: LocalServer, first: Person, second: Person
) -> None:
    before = {p: world.size(p) for p in (world.broker, world.second, world.nodes[A])}
    server.kill()
    for person in (first, second):
        told = person.search(person.ask(A, B, plate=SEEN))
        assert (told.code, told.events) == ("UNAVAILABLE", ())
        assert told.reason not in ("", "LOG_BROKEN")
        assert person.preview(person.ask(A))[0] == "UNAVAILABLE"
    printed = first.command(NEVER_SEEN, "--state", STATE, "--purpose", "stolen-vehicle", "--case", "R-1", "--node", A)
    assert (printed.code, printed.out) == (1, "")
    assert NO_RECORD not in printed.err
    assert {p: world.size(p) for p in before} == before, "nothing was decided, and no node was asked"
    server.start()
    for person in (first, second):
        until_told(person, {A: "no_match", B: "no_match"}, "searches work again")


def test_a_redis_that_hangs_is_as_good_as_none(world: World, server: LocalServer, first: Person) -> None:
    server.pause()
    try:
        told = first.search(first.ask(A, plate=SEEN))
    finally:
        server.resume()
    assert (told.code, told.events) == ("UNAVAILABLE", ())


def test_redis_gone_in_the_middle_of_a_search_fails_it_and_tells_of_no_node_what_it_does_not_know(
    world: World, server: LocalServer, first: Person
) -> None:
    # A's answer is held back until Redis is gone; when AWAY was last there only Redis knows.
    pid = world.nodes[A].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with first.channel() as channel:
            stream = first.stream(first.ask(A, B), channel, deadline_s=60)
            assert next(stream).WhichOneof("event") == "decision"
            server.kill()
            os.kill(pid, signal.SIGCONT)
            kinds = [e.outcome.node for e in stream if e.WhichOneof("event") == "outcome"]
        assert set(kinds) == {A, B}, "what was claimed before goes on: its nodes need no shared state"
        told = first.search(first.ask(A, AWAY))
        assert (told.code, ANSWERED & set(told.kinds.values())) == ("UNAVAILABLE", set())
    finally:
        os.kill(pid, signal.SIGCONT)
        server.start()


def test_one_broker_stopped_leaves_the_other_whole(world: World, second: Person) -> None:
    world.kill(world.broker, signal.SIGTERM)
    assert until(lambda: second.search(second.ask(A, B)).kinds == {A: "no_match", B: "no_match"}, "the second goes on")
    assert world.faults(world.broker, world.second, world.nodes[A], world.nodes[B]) == {}
