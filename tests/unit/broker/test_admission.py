"""Admission is bounded, fair between agencies, and loses no place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.admission import Admission
from comity.errors import ConfigError, Exhausted


def admission(total: int = 4, per_agency: int = 2, waiting: int = 2, wait_s: float = 60) -> Admission:
    return Admission(total=total, per_agency=per_agency, waiting=waiting, wait_s=wait_s, retry_after_s=1.5)


class Crowd:
    """Searches that enter, note who got a place, and stay until they are let go."""

    def __init__(self, doors: Admission) -> None:
        self.doors = doors
        self.inside: list[str] = []
        self.entered: list[str] = []
        self.refused: list[str] = []
        self._tasks: list[tuple[str, asyncio.Task[None], asyncio.Event]] = []

    async def send(self, *agencies: str) -> None:
        for agency in agencies:
            go = asyncio.Event()
            self._tasks.append((agency, asyncio.create_task(self._search(agency, go)), go))
        await self.settle()

    async def finish(self, agency: str) -> None:
        for name, task, go in self._tasks:
            if name == agency and not task.done() and not go.is_set():
                go.set()
                await self.settle()
                return
        raise AssertionError(f"no search of {agency}")

    async def cancel(self, chosen: Callable[[str], bool]) -> None:
        for name, task, _ in self._tasks:
            if chosen(name):
                task.cancel()
        await self.settle()

    async def empty(self) -> None:
        for _, _, go in self._tasks:
            go.set()
        await asyncio.gather(*(task for _, task, _ in self._tasks), return_exceptions=True)

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def _search(self, agency: str, go: asyncio.Event) -> None:
        try:
            async with self.doors.enter(agency):
                self.entered.append(agency)
                self.inside.append(agency)
                try:
                    await go.wait()
                finally:
                    self.inside.remove(agency)
        except Exhausted:
            self.refused.append(agency)


async def test_an_agency_has_no_more_searches_at_a_time_than_its_share() -> None:
    crowd = Crowd(admission())
    await crowd.send("a", "a", "a")
    assert crowd.inside == ["a", "a"]
    assert crowd.doors.waiting == 1
    await crowd.empty()


async def test_all_agencies_together_have_no_more_than_the_total() -> None:
    crowd = Crowd(admission(total=3))
    await crowd.send("a", "a", "b", "b", "c")
    assert crowd.inside == ["a", "a", "b"]
    await crowd.empty()


async def test_over_the_line_is_refused_with_when_to_come_again_and_before_any_work() -> None:
    crowd = Crowd(admission(waiting=1))
    await crowd.send("a", "a", "a")
    worked = False
    with pytest.raises(Exhausted) as refused:
        async with crowd.doors.enter("a"):
            worked = True
    assert (refused.value.reason, refused.value.retry_after_s, worked) == ("ADMISSION_FULL", 1.5, False)
    assert refused.value.quota == "searches at a time"
    await crowd.empty()


async def test_with_no_line_what_does_not_fit_is_refused_at_once_and_leaves_no_trace() -> None:
    crowd = Crowd(admission(waiting=0))
    await crowd.send("a", "a", "a")
    assert (crowd.refused, crowd.doors.waiting) == (["a"], 0)
    await crowd.empty()


async def test_one_agency_flooding_does_not_keep_another_out() -> None:
    crowd = Crowd(admission(total=4, per_agency=2, waiting=2))
    await crowd.send(*["flood"] * 1000)
    await crowd.send("quiet")
    assert "quiet" in crowd.inside
    assert len(crowd.refused) == 996
    await crowd.empty()


async def test_with_all_places_taken_a_newcomer_is_next_before_the_rest_of_a_long_line() -> None:
    crowd = Crowd(admission(total=2, per_agency=2, waiting=50))
    await crowd.send(*["flood"] * 52, "quiet")
    await crowd.finish("flood")
    await crowd.finish("flood")
    assert crowd.entered[2:] == ["flood", "quiet"]
    await crowd.empty()


async def test_free_places_go_to_the_waiting_agencies_in_turn() -> None:
    crowd = Crowd(admission(total=1, per_agency=1, waiting=3))
    await crowd.send("z", "a", "a", "a", "b", "b", "c")
    for agency in ["z", "a", "b", "c", "a", "b"]:
        await crowd.finish(agency)
    assert crowd.entered == ["z", "a", "b", "c", "a", "b", "a"]
    await crowd.empty()


async def test_an_agency_at_its_share_does_not_hold_up_the_turn_of_the_others() -> None:
    crowd = Crowd(admission(total=3, per_agency=2, waiting=5))
    await crowd.send("a", "a", "a", "b", "b")
    await crowd.finish("b")
    assert sorted(crowd.inside) == ["a", "a", "b"]
    await crowd.empty()


async def test_a_search_that_fails_gives_its_place_back() -> None:
    doors = admission(total=1, per_agency=1)
    with pytest.raises(RuntimeError):
        async with doors.enter("a"):
            raise RuntimeError
    assert doors.running == 0
    async with doors.enter("a"):
        assert doors.running == 1


async def test_a_cancelled_search_in_line_gives_up_its_turn() -> None:
    crowd = Crowd(admission(total=1, per_agency=1))
    await crowd.send("a", "b", "b", "c")
    await crowd.cancel(lambda agency: agency == "b")
    await crowd.finish("a")
    assert (crowd.inside, crowd.doors.waiting) == (["c"], 0)
    await crowd.empty()


async def test_a_place_given_to_a_search_cancelled_in_the_same_moment_goes_to_the_next() -> None:
    doors = admission(total=1, per_agency=1)
    async with AsyncExitStack() as first:
        await first.enter_async_context(doors.enter("a"))
        crowd = Crowd(doors)
        await crowd.send("b", "c")
        await first.aclose()  # b has the place, and has not run since
        await crowd.cancel(lambda agency: agency == "b")
    assert crowd.inside == ["c"]
    await crowd.empty()
    assert (doors.running, doors.waiting) == (0, 0)


async def test_a_search_cancelled_just_before_a_place_is_free_does_not_swallow_it() -> None:
    doors = admission(total=1, per_agency=1)
    crowd = Crowd(doors)
    async with AsyncExitStack() as first:
        await first.enter_async_context(doors.enter("a"))
        await crowd.send("b", "c")
        cancelled = crowd.cancel(lambda agency: agency == "b")
        await asyncio.gather(cancelled, first.aclose())
    await crowd.settle()
    assert crowd.inside == ["c"]
    await crowd.empty()


async def test_a_turn_that_does_not_come_within_the_wait_is_refused() -> None:
    doors = admission(total=1, per_agency=1, wait_s=0)
    async with doors.enter("a"):
        with pytest.raises(Exhausted, match="in time"):
            async with doors.enter("b"):
                pytest.fail("there is no place")
    assert (doors.running, doors.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("total", "per_agency", "waiting", "wait_s"),
    [
        pytest.param(0, 0, 1, 1.0, id="no place at all"),
        pytest.param(2, 3, 1, 1.0, id="an agency with more than the total"),
        pytest.param(2, 1, -1, 1.0, id="a line of negative length"),
        pytest.param(2, 1, 1, -1.0, id="a negative wait"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(total: int, per_agency: int, waiting: int, wait_s: float) -> None:
    with pytest.raises(ConfigError):
        Admission(total=total, per_agency=per_agency, waiting=waiting, wait_s=wait_s)


_STEP = st.tuples(st.sampled_from(["send", "finish", "cancel"]), st.sampled_from("abcd"))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.lists(_STEP, max_size=40))
def test_whatever_happens_the_bounds_hold_no_place_idles_and_none_is_lost(
    total: int, per_agency: int, waiting: int, steps: list[tuple[str, str]]
) -> None:
    per_agency = min(per_agency, total)

    async def run() -> None:
        crowd = Crowd(admission(total, per_agency, waiting))
        for step, agency in steps:
            if step == "send":
                await crowd.send(agency)
            elif step == "cancel":
                await crowd.cancel(lambda name, agency=agency: name == agency)  # type: ignore[misc]
            elif agency in crowd.inside:
                await crowd.finish(agency)
            assert crowd.doors.running == len(crowd.inside) <= total
            assert all(crowd.inside.count(a) <= per_agency for a in "abcd")
            assert crowd.doors.waiting <= waiting * 4
            if len(crowd.inside) < total:
                stuck = [a for a in crowd.doors._lines if crowd.inside.count(a) < per_agency]
                assert not stuck
        await crowd.empty()
        assert (crowd.doors.running, crowd.doors.waiting) == (0, 0)

    asyncio.run(run())
