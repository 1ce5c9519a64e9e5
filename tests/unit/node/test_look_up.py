"""Step 8: what may be searched, what is said to have been, and what is released are one and the same."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity import instants
from comity.decision import Obligations, Redaction
from comity.inquiry import Disclosed
from comity.outcome import Coverage
from comity.purpose import Act
from comity.query import PlateQuery
from node.look_up import MAX_DETECTIONS, look_up, permitted_window
from node.model import Found
from tests.fakes import FakeStore
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER
from tests.unit.node.scene import seen

YEAR_S = 365 * 86_400
MINUTE = dt.timedelta(minutes=1)
S = dt.timedelta(seconds=1)
DISCLOSED = Disclosed(query=PlateQuery(plate=scene.PLATE), case_number="", authority_reference="")
NO_LIMIT = Obligations()

# inquiry, window_days, retention in s -> begin and end as spans before NOW, code
WINDOWS: dict[str, tuple[dict[str, Any], int | None, int, dt.timedelta, dt.timedelta, str]] = {
    "nothing limits": ({}, None, YEAR_S, 7 * DAY, 0 * DAY, ""),
    "retention clips": ({}, None, 86_400, DAY, 0 * DAY, "RETENTION"),
    "an obligation clips": ({}, 3, YEAR_S, 3 * DAY, 0 * DAY, "WINDOW_LIMIT"),
    "both clip, retention more": ({}, 3, 86_400, DAY, 0 * DAY, "RETENTION"),
    "both clip, the obligation more": ({}, 1, 3 * 86_400, DAY, 0 * DAY, "WINDOW_LIMIT"),
    "both exactly reach the window": ({}, 7, 7 * 86_400, 7 * DAY, 0 * DAY, ""),
    "an obligation of no days": ({}, 0, YEAR_S, 0 * DAY, 0 * DAY, "WINDOW_LIMIT"),
    "the window lies wholly before retention": ({"end": NOW - 2 * DAY}, None, 86_400, DAY, DAY, "RETENTION"),
    "the window lies wholly before the limit": ({"end": NOW - 2 * DAY}, 1, YEAR_S, DAY, DAY, "WINDOW_LIMIT"),
    "the window ends where retention begins": ({"end": NOW - DAY}, None, 86_400, DAY, DAY, "RETENTION"),
    "the end lies in the future of this clock": ({"end": NOW + MINUTE}, None, YEAR_S, 7 * DAY, 0 * DAY, ""),
    "the whole lies in the future of this clock": (
        {"begin": NOW + S, "end": NOW + MINUTE},
        None,
        YEAR_S,
        -S,
        -S,
        "NOT_YET_PAST",
    ),
}


@pytest.mark.parametrize(
    ("changes", "days", "retention_s", "begin", "end", "code"), WINDOWS.values(), ids=WINDOWS.keys()
)
def test_the_permitted_window_is_the_least_of_all_limits_and_says_which_clipped_it(
    changes: dict[str, Any], days: int | None, retention_s: int, begin: dt.timedelta, end: dt.timedelta, code: str
) -> None:
    found, why, sentence = permitted_window(scene.inquiry(**changes), Obligations(window_days=days), retention_s, NOW)
    assert found == Coverage(begin=NOW - begin, end=NOW - end)
    assert why == code
    assert bool(sentence) == bool(code)


def found_in(store: FakeStore, obligations: Obligations = NO_LIMIT, retention_s: int = YEAR_S, **changes: Any) -> Found:
    return look_up(
        store, scene.inquiry(**changes), DISCLOSED, obligations, retention_s=retention_s, agency=ALDER, now=NOW
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 20), max_size=20, unique=True),
    st.none() | st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 20),
)
def test_nothing_outside_the_stated_coverage_is_released_and_nothing_inside_left_out(
    days: list[int], limit: int | None, kept: int, horizon: int
) -> None:
    store = FakeStore()
    store.add([seen(d * 86_400 + 1) for d in days])
    store.horizon_at = NOW - horizon * DAY
    found = found_in(store, Obligations(window_days=limit), kept * 86_400, begin=NOW - 14 * DAY)
    times = {instants.from_wire(d.captured_at) for d in found.detections}
    c = found.coverage
    assert times == {r.captured_at for r in store.rows if c.begin <= r.captured_at < c.end}
    assert (c == Coverage(begin=NOW - 14 * DAY, end=NOW)) == (not found.reason_code)
    assert c.begin >= NOW - min(d for d in (limit, kept, 14) if d is not None) * DAY


def test_a_window_with_nothing_permitted_is_not_searched_and_says_so() -> None:
    store = FakeStore()
    store.add([seen(2 * 86_400 + 60)])
    found = found_in(store, retention_s=86_400, end=NOW - 2 * DAY)
    assert (found.coverage.begin, found.reason_code, found.detections) == (found.coverage.end, "RETENTION", ())
    assert store.searches == 0


def test_what_fell_out_of_retention_during_the_search_is_neither_covered_nor_released() -> None:
    store = FakeStore()
    store.add([seen(86_400 - 1), seen(60)])
    store.horizon_at = NOW - DAY + 2 * S
    found = found_in(store, retention_s=86_400)
    assert found.coverage == Coverage(begin=store.horizon_at, end=NOW)
    assert found.reason_code == "RETENTION"
    assert [instants.from_wire(d.captured_at) for d in found.detections] == [NOW - MINUTE]


def test_a_horizon_past_the_whole_window_leaves_nothing_covered() -> None:
    store = FakeStore()
    store.horizon_at = NOW + DAY
    found = found_in(store)
    assert (found.coverage, found.reason_code) == (Coverage(begin=NOW, end=NOW), "RETENTION")


def test_exactly_as_many_as_may_be_are_all_released() -> None:
    store = FakeStore()
    store.add([seen(1 + i) for i in range(MAX_DETECTIONS)])
    found = found_in(store)
    assert (len(found.detections), found.reason_code) == (MAX_DETECTIONS, "")


def test_more_than_may_be_are_cut_and_the_coverage_begins_after_the_newest_one_left_out() -> None:
    store = FakeStore()
    store.add([seen(1 + i) for i in range(MAX_DETECTIONS + 5)])
    found = found_in(store)
    left_out = NOW - (MAX_DETECTIONS + 1) * S
    assert (len(found.detections), found.reason_code) == (MAX_DETECTIONS, "TOO_MANY")
    assert found.coverage == Coverage(begin=left_out + dt.timedelta(milliseconds=1), end=NOW)


def test_detections_of_the_millisecond_that_was_cut_through_are_all_left_out() -> None:
    store = FakeStore()
    ties = [seen(7200, source_id=f"tie-{i}") for i in range(10)]
    store.add([seen(1 + i) for i in range(MAX_DETECTIONS - 5)] + ties)
    found = found_in(store)
    assert len(found.detections) == MAX_DETECTIONS - 5
    assert found.coverage.begin == NOW - 7200 * S + dt.timedelta(milliseconds=1)
    assert all(instants.from_wire(d.captured_at) >= found.coverage.begin for d in found.detections)  # type: ignore[operator]


def test_more_than_may_be_within_one_millisecond_release_none_and_cover_only_what_came_after() -> None:
    store = FakeStore()
    store.add([seen(7200, source_id=f"tie-{i}") for i in range(MAX_DETECTIONS + 1)])
    found = found_in(store)
    assert (found.detections, found.reason_code) == ((), "TOO_MANY")
    assert found.coverage.begin == NOW - 7200 * S + dt.timedelta(milliseconds=1)


def test_a_horizon_later_than_the_cut_bounds_the_coverage() -> None:
    store = FakeStore()
    store.add([seen(1 + i) for i in range(MAX_DETECTIONS + 5)])
    store.horizon_at = NOW - 10 * S
    found = found_in(store)
    assert found.coverage == Coverage(begin=NOW - 10 * S, end=NOW)
    assert len(found.detections) == 10


def test_detections_are_redacted_by_the_obligations() -> None:
    store = FakeStore()
    store.add([seen(image="img-1")])
    (released,) = found_in(store, Obligations(redaction=Redaction.HIT_ONLY)).detections
    assert (released.camera, released.image, released.agency) == ("", "", ALDER)
    assert instants.from_wire(released.captured_at) == NOW.replace(hour=0)


def test_only_an_exact_search_asks_the_store_for_the_very_plate() -> None:
    store = FakeStore()
    store.add([seen(number="7A8C123")])
    assert found_in(store).detections == ()
    assert len(found_in(store, act=Act.CONFUSABLE).detections) == 1
