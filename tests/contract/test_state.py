"""What the ports of the shared state promise, held by every adapter: in memory, on a real server, on a cluster."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from broker.state.inprocess import InProcessPresence, InProcessQuota, InProcessReplayGuard
from broker.state.interface import LONGEST_HOLD, MARGIN, Presence, Quota, ReplayGuard
from broker.state.redis import RedisPresence, RedisQuota, RedisReplayGuard, SharedRedis
from comity.errors import Exhausted, InvalidInput

START = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)
TODAY = START.date()
DAY = dt.timedelta(days=1)
SOON = START + dt.timedelta(minutes=5)
A, B = "10.0.0.1:7400", "10.0.0.2:7400"
CLIENTS = 4


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> dt.datetime:
        return self.now


@dataclass
class State:
    """One shared state as CLIENTS broker processes see it."""

    clock: SetClock = field(default_factory=SetClock)
    guards: Sequence[ReplayGuard] = ()
    presences: Sequence[Presence] = ()
    quotas: Sequence[Quota] = ()
    url: str = ""
    prefix: str = ""

    async def advance(self, span: dt.timedelta) -> None:
        """The clock moves, and what a server holds grows older by as much."""
        self.clock.now += span
        if not self.url:
            return
        async with Redis.from_url(self.url) as client:
            async for key in client.scan_iter(match=f"{self.prefix}:*", count=1000):
                left = await client.pttl(key)
                if left >= 0:
                    await client.pexpire(key, max(0, left - span // dt.timedelta(milliseconds=1)))


def in_process() -> State:
    clock = SetClock()
    return State(
        clock=clock,
        guards=[InProcessReplayGuard(clock)] * CLIENTS,
        presences=[InProcessPresence(clock)] * CLIENTS,
        quotas=[InProcessQuota(clock)] * CLIENTS,
    )


def on_server(url: str, shared: Sequence[SharedRedis], prefix: str) -> State:
    clock = SetClock()
    return State(
        clock=clock,
        guards=[RedisReplayGuard(s, clock, prefix=prefix) for s in shared],
        presences=[RedisPresence(s, prefix=prefix) for s in shared],
        quotas=[RedisQuota(s, clock, prefix=prefix) for s in shared],
        url=url,
        prefix=prefix,
    )


@pytest.fixture(params=["in process", "redis", "redis cluster"])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[State]:
    if request.param == "in process":
        yield in_process()
        return
    if request.param == "redis":
        url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    else:
        url, prefix = request.getfixturevalue("redis_cluster_url"), f"test-{uuid.uuid4().hex}"
    shared = [SharedRedis.open(url) for _ in range(CLIENTS)]
    yield on_server(url, shared, prefix)
    for one in shared:
        await one.close()


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def test_an_inquiry_is_claimed_once_whichever_process_it_reaches(state: State) -> None:
    assert await state.guards[0].claim("id-1", nonce(1), SOON)
    assert [await g.claim("id-1", nonce(1), SOON) for g in state.guards] == [False] * CLIENTS


async def test_of_fifty_claims_of_one_id_racing_over_four_clients_exactly_one_wins(state: State) -> None:
    racing = [state.guards[i % CLIENTS].claim("id-1", nonce(i), SOON) for i in range(50)]
    assert (await asyncio.gather(*racing)).count(True) == 1


async def test_of_fifty_claims_of_one_nonce_racing_over_four_clients_exactly_one_wins(state: State) -> None:
    racing = [state.guards[i % CLIENTS].claim(f"id-{i}", nonce(1), SOON) for i in range(50)]
    assert (await asyncio.gather(*racing)).count(True) == 1


async def test_a_used_id_with_a_fresh_nonce_is_refused_and_leaves_the_nonce_fresh(state: State) -> None:
    await state.guards[0].claim("id-1", nonce(1), SOON)
    assert not await state.guards[1].claim("id-1", nonce(2), SOON)
    assert await state.guards[2].claim("id-2", nonce(2), SOON)


async def test_a_fresh_id_with_a_used_nonce_is_refused_and_stays_fresh(state: State) -> None:
    await state.guards[0].claim("id-1", nonce(1), SOON)
    assert not await state.guards[1].claim("id-2", nonce(1), SOON)
    assert await state.guards[2].claim("id-2", nonce(2), SOON)


async def test_a_claim_holds_beyond_its_time_by_the_margin_for_clocks_that_differ(state: State) -> None:
    await state.guards[0].claim("id-1", nonce(1), SOON)
    await state.advance(SOON - START + MARGIN - dt.timedelta(seconds=30))
    assert not await state.guards[1].claim("id-1", nonce(1), SOON)


async def test_a_claim_is_forgotten_when_no_clock_can_still_accept_the_inquiry(state: State) -> None:
    await state.guards[0].claim("id-1", nonce(1), SOON)
    await state.advance(SOON - START + MARGIN)
    assert await state.guards[1].claim("id-1", nonce(1), SOON)


async def test_an_inquiry_already_expired_by_this_clock_is_still_claimed_only_once(state: State) -> None:
    late = START - dt.timedelta(minutes=1)
    assert await state.guards[0].claim("id-1", nonce(1), late)
    assert not await state.guards[1].claim("id-1", nonce(1), late)


@pytest.mark.parametrize(
    ("inquiry_id", "used", "until", "named"),
    [
        pytest.param("", nonce(1), SOON, "inquiry_id", id="no id"),
        pytest.param("x" * 65, nonce(1), SOON, "inquiry_id", id="an id without end"),
        pytest.param("id:1\r\n", nonce(1), SOON, "inquiry_id", id="an id with control characters"),
        pytest.param("id-1", b"", SOON, "nonce", id="no nonce"),
        pytest.param("id-1", bytes(17), SOON, "nonce", id="a long nonce"),
        pytest.param("id-1", nonce(1), START + LONGEST_HOLD, "expires_at", id="held for longer than a day"),
        pytest.param("id-1", nonce(1), SOON.replace(tzinfo=None), "expires_at", id="a time without its zone"),
    ],
)
async def test_what_no_inquiry_can_be_is_not_claimed(
    state: State, inquiry_id: str, used: bytes, until: dt.datetime, named: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await state.guards[0].claim(inquiry_id, used, until)
    assert [v.field for v in refused.value.violations] == [named]


async def test_a_quota_grants_its_limit_and_no_more_that_day(state: State) -> None:
    taken = [await state.quotas[i % CLIENTS].take("agency-a", TODAY, 3) for i in range(5)]
    assert taken == [True, True, True, False, False]


async def test_a_quota_of_nothing_grants_nothing(state: State) -> None:
    assert not await state.quotas[0].take("agency-a", TODAY, 0)


async def test_refused_takes_are_not_counted_so_a_raised_limit_grants_the_difference(state: State) -> None:
    for _ in range(9):
        await state.quotas[0].take("agency-a", TODAY, 1)
    assert [await state.quotas[1].take("agency-a", TODAY, 2) for _ in range(2)] == [True, False]


async def test_keys_and_days_are_counted_apart(state: State) -> None:
    takes = [("a", TODAY), ("b", TODAY), ("a", TODAY + DAY), ("a", TODAY - DAY)]
    assert [await state.quotas[0].take(key, day, 1) for key, day in takes] == [True] * 4
    assert [await state.quotas[1].take(key, day, 1) for key, day in takes] == [False] * 4


async def test_a_count_is_kept_as_long_as_its_day_can_be_asked_for(state: State) -> None:
    await state.quotas[0].take("agency-a", TODAY, 1)
    await state.advance(dt.timedelta(hours=35, minutes=59))
    assert not await state.quotas[1].take("agency-a", TODAY, 1)
    await state.advance(dt.timedelta(hours=1))
    with pytest.raises(InvalidInput):
        await state.quotas[1].take("agency-a", TODAY, 1)


@pytest.mark.parametrize(
    ("key", "day", "limit", "named"),
    [
        pytest.param("", TODAY, 1, "key", id="no key"),
        pytest.param("k" * 513, TODAY, 1, "key", id="a key without end"),
        pytest.param("k", TODAY, -1, "limit", id="a negative limit"),
        pytest.param("k", TODAY, 10**12, "limit", id="a limit without end"),
        pytest.param("k", TODAY + 2 * DAY, 1, "day", id="a day that is not near"),
        pytest.param("k", TODAY - 2 * DAY, 1, "day", id="a day whose count may be gone"),
    ],
)
async def test_a_quota_that_makes_no_sense_is_refused(
    state: State, key: str, day: dt.date, limit: int, named: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await state.quotas[0].take(key, day, limit)
    assert [v.field for v in refused.value.violations] == [named]


@pytest.mark.parametrize("backend", ["in process", "redis"])
@settings(max_examples=25, deadline=None)
@given(limit=st.integers(0, 12), takes=st.lists(st.integers(0, CLIENTS - 1), max_size=40))
def test_a_quota_never_grants_more_than_its_limit_however_many_race(
    redis_url: str, backend: str, limit: int, takes: list[int]
) -> None:
    async def race() -> list[bool]:
        if backend == "in process":
            state, shared = in_process(), []
        else:
            shared = [SharedRedis.open(redis_url) for _ in range(CLIENTS)]
            state = on_server(redis_url, shared, f"test-{uuid.uuid4().hex}")
        granted = await asyncio.gather(*(state.quotas[i].take("agency-a", TODAY, limit) for i in takes))
        await state.advance(3 * DAY)
        for one in shared:
            await one.close()
        return list(granted)

    assert asyncio.run(race()).count(True) == min(limit, len(takes))


async def test_a_node_never_seen_has_no_time(state: State) -> None:
    assert await state.presences[0].last_attached_at(["north"]) == {"north": None}


async def test_the_last_time_is_the_latest_of_all_processes_and_never_goes_back(state: State) -> None:
    first, second = state.presences[:2]
    at = START + dt.timedelta(microseconds=7)
    await first.attached("north", A, at)
    await second.detached("north", B, at - dt.timedelta(seconds=1))
    assert await second.last_attached_at(["north", "south"]) == {"north": at, "south": None}
    await second.touch(["north", "south"], B, at + dt.timedelta(seconds=9))
    assert set((await first.last_attached_at(["north", "south"])).values()) == {at + dt.timedelta(seconds=9)}


async def test_a_process_is_listed_while_it_says_that_it_lives(state: State) -> None:
    first, second = state.presences[:2]
    await first.register_process(B, dt.timedelta(seconds=60))
    await second.register_process(A, dt.timedelta(seconds=30))
    assert await state.presences[2].processes() == (A, B)
    await state.advance(dt.timedelta(seconds=31))
    assert await second.processes() == (B,)
    await first.register_process(B, dt.timedelta(seconds=60))
    await state.advance(dt.timedelta(seconds=40))
    assert await second.processes() == (B,)


async def test_a_process_that_says_goodbye_is_gone_at_once_with_its_attachments(state: State) -> None:
    first, second = state.presences[:2]
    await first.register_process(A, dt.timedelta(seconds=60))
    await first.attached("north", A, START)
    await first.unregister_process(A)
    await first.unregister_process(A)
    assert await second.processes() == ()
    assert await second.attached_to(["north"]) == {"north": ()}


async def test_a_node_is_attached_to_the_processes_that_said_so_and_live(state: State) -> None:
    first, second = state.presences[:2]
    await first.register_process(A, dt.timedelta(seconds=30))
    await second.register_process(B, dt.timedelta(seconds=90))
    await first.touch(["north", "south"], A, START)
    await second.attached("north", B, START)
    assert await first.attached_to(["north", "south", "west"]) == {"north": (A, B), "south": (A,), "west": ()}
    await second.detached("north", B, START)
    assert await first.attached_to(["north"]) == {"north": (A,)}


async def test_the_attachments_of_a_dead_process_go_with_it_and_its_times_stay(state: State) -> None:
    first, second = state.presences[:2]
    await first.register_process(A, dt.timedelta(seconds=30))
    await first.attached("north", A, START)
    await state.advance(dt.timedelta(seconds=31))
    assert await second.attached_to(["north"]) == {"north": ()}
    assert await second.last_attached_at(["north"]) == {"north": START}
    await first.attached("north", A, START)
    assert await second.attached_to(["north"]) == {"north": ()}, "a process that is not registered has no nodes"
    await first.register_process(A, dt.timedelta(seconds=30))
    assert await second.attached_to(["north"]) == {"north": ()}, "what it said before does not count"
    await first.touch(["north"], A, START)
    assert await second.attached_to(["north"]) == {"north": (A,)}


@pytest.mark.parametrize(
    ("node", "process", "at"),
    [
        pytest.param("North Plate 7ABC123", A, START, id="a node id that is none"),
        pytest.param("north", "a b\r\n", START, id="an address that is none"),
        pytest.param("north", "a" * 256, START, id="an address without end"),
        pytest.param("north", A, START.replace(tzinfo=None), id="a time without its zone"),
    ],
)
async def test_a_presence_that_makes_no_sense_is_refused(
    state: State, node: str, process: str, at: dt.datetime
) -> None:
    for call in (state.presences[0].attached, state.presences[0].detached):
        with pytest.raises(InvalidInput):
            await call(node, process, at)


@pytest.mark.parametrize("ttl", [dt.timedelta(0), dt.timedelta(seconds=-1), dt.timedelta(days=1)], ids=str)
async def test_a_process_cannot_live_for_no_time_or_without_a_word_for_long(state: State, ttl: dt.timedelta) -> None:
    with pytest.raises(InvalidInput):
        await state.presences[0].register_process(A, ttl)


async def test_a_full_replay_guard_refuses_the_new_and_forgets_none_of_the_old() -> None:
    clock = SetClock()
    guard = InProcessReplayGuard(clock, capacity=2)
    assert [await guard.claim(f"id-{i}", nonce(i), SOON) for i in range(2)] == [True, True]
    with pytest.raises(Exhausted) as full:
        await guard.claim("id-2", nonce(2), SOON)
    assert (full.value.reason, full.value.retry_after_s) == ("SHARED_STATE_FULL", 600)
    assert not await guard.claim("id-0", nonce(0), SOON)
    clock.now += dt.timedelta(seconds=600)
    assert await guard.claim("id-2", nonce(2), clock.now)


async def test_a_full_quota_refuses_new_keys_goes_on_with_the_old_and_has_room_again_later() -> None:
    clock = SetClock()
    quota = InProcessQuota(clock, capacity=1)
    assert await quota.take("a", TODAY, 2)
    with pytest.raises(Exhausted):
        await quota.take("b", TODAY, 2)
    assert await quota.take("a", TODAY, 2)
    clock.now += 2 * DAY
    assert await quota.take("b", clock.now.date(), 2)


async def test_a_full_presence_refuses_more_nodes_and_processes() -> None:
    presence = InProcessPresence(SetClock(), most_nodes=1, most_processes=1)
    await presence.register_process(A, dt.timedelta(seconds=9))
    await presence.register_process(A, dt.timedelta(seconds=9))
    await presence.attached("north", A, START)
    with pytest.raises(Exhausted):
        await presence.attached("south", A, START)
    with pytest.raises(Exhausted):
        await presence.register_process(B, dt.timedelta(seconds=9))
    assert await presence.attached_to(["north"]) == {"north": (A,)}
