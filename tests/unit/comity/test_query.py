"""What may be asked for: what is no query is refused, and what would sweep up too much is told what narrows it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity import commitment
from comity.errors import InvalidInput
from comity.inquiry import Disclosed
from comity.plate import Plate
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, PlateQuery, Query, check_window, query_of
from comity.v1 import inquiry_pb2
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW

S = dt.timedelta(seconds=1)


def circle(latitude: float = 37.79, longitude: float = -122.24, radius_m: int = 2_000) -> Circle:
    return Circle(latitude_e7=round(latitude * 1e7), longitude_e7=round(longitude * 1e7), radius_m=radius_m)


GOOD: dict[str, tuple[Act, Query]] = {
    "a plate": (Act.EXACT, PlateQuery.parse("7abc-123", "ca")),
    "a plate and what looks like it": (Act.CONFUSABLE, PlateQuery.parse("7ABC123", "CA")),
    "a part of a plate of any state": (Act.PARTIAL, PatternQuery.parse("7a?c*", "")),
    "a part of a plate of one state": (Act.PARTIAL, PatternQuery.parse("*ABC", "ca")),
    "a circle": (Act.AREA, AreaQuery.parse(circle=circle())),
    "a circle of 5 km": (Act.AREA, AreaQuery.parse(circle=circle(radius_m=5_000))),
    "a camera": (Act.AREA, AreaQuery.parse(camera="pa-001")),
    "a convoy": (Act.CONVOY, ConvoyQuery.parse("7ABC123", "CA", within_s=300, cameras=2)),
}


@pytest.mark.parametrize(("act", "query"), GOOD.values(), ids=GOOD.keys())
def test_what_is_written_is_read_back_as_the_same_query(act: Act, query: Query) -> None:
    assert query_of(act, inquiry_pb2.Query.FromString(query.encode())) == query


@pytest.mark.parametrize(("act", "query"), GOOD.values(), ids=GOOD.keys())
def test_a_query_is_read_only_by_a_search_of_its_own_kind(act: Act, query: Query) -> None:
    message = inquiry_pb2.Query.FromString(query.encode())
    plates = {Act.EXACT, Act.CONFUSABLE}
    for other in set(Act) - ({act} if act not in plates else plates):
        with pytest.raises(InvalidInput) as e:
            query_of(other, message)
        assert e.value.reason == ("NOT_YET" if other is Act.ALERT else "BAD_QUERY")


@pytest.mark.parametrize(("act", "query"), GOOD.values(), ids=GOOD.keys())
def test_no_plate_or_part_of_one_is_in_the_repr_of_a_query(act: Act, query: Query) -> None:
    assert "ABC" not in repr(query)
    assert "7A" not in repr(query)


Make = Callable[[], object]
BAD: dict[str, tuple[Make, str]] = {
    "a pattern of two known characters": (lambda: PatternQuery.parse("*A??7*", "CA"), "QUERY_TOO_WIDE"),
    "a pattern of everything": (lambda: PatternQuery.parse("*", "CA"), "QUERY_TOO_WIDE"),
    "an empty pattern": (lambda: PatternQuery.parse("", "CA"), "BAD_QUERY"),
    "a pattern longer than any plate": (lambda: PatternQuery.parse("ABC????????", "CA"), "BAD_QUERY"),
    "a pattern of 10,000 characters": (lambda: PatternQuery.parse("A*" * 5_000, "CA"), "BAD_QUERY"),
    "a set of characters in a pattern": (lambda: PatternQuery.parse("7[A-C]BC", "CA"), "BAD_QUERY"),
    "a Cyrillic pattern": (lambda: PatternQuery.parse("АВС*", "CA"), "BAD_QUERY"),
    "a state of three letters": (lambda: PatternQuery.parse("ABC*", "CAL"), "BAD_QUERY"),
    "a circle of 5,001 m": (lambda: AreaQuery.parse(circle=circle(radius_m=5_001)), "QUERY_TOO_WIDE"),
    "a circle without a radius": (lambda: AreaQuery.parse(circle=circle(radius_m=0)), "BAD_QUERY"),
    "a circle at a pole": (lambda: AreaQuery.parse(circle=circle(latitude=89)), "BAD_QUERY"),
    "a circle beyond the date line": (lambda: AreaQuery.parse(circle=circle(longitude=180.1)), "BAD_QUERY"),
    "a circle and a camera": (lambda: AreaQuery.parse(circle=circle(), camera="pa-001"), "BAD_QUERY"),
    "neither a circle nor a camera": (AreaQuery.parse, "BAD_QUERY"),
    "a camera with an escape": (lambda: AreaQuery.parse(camera="a\x1b[2J"), "BAD_QUERY"),
    "a camera of 65 characters": (lambda: AreaQuery.parse(camera="c" * 65), "BAD_QUERY"),
    "a convoy of no plate": (lambda: ConvoyQuery.parse("", "CA", within_s=30, cameras=3), "BAD_PLATE"),
    "a convoy within 301 s": (lambda: ConvoyQuery.parse("7ABC123", "CA", within_s=301, cameras=3), "QUERY_TOO_WIDE"),
    "a convoy at one camera": (lambda: ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=1), "QUERY_TOO_WIDE"),
    "a convoy within no time": (lambda: ConvoyQuery.parse("7ABC123", "CA", within_s=0, cameras=3), "BAD_QUERY"),
    "a convoy at no camera": (lambda: ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=0), "BAD_QUERY"),
    "a convoy at 21 cameras": (lambda: ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=21), "BAD_QUERY"),
    "an area over a day": (lambda: check_window(Act.AREA, NOW - DAY - S, NOW), "QUERY_TOO_WIDE"),
    "a convoy over a week": (lambda: check_window(Act.CONVOY, NOW - 7 * DAY - S, NOW), "QUERY_TOO_WIDE"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
def test_what_is_no_query_or_too_wide_is_refused_with_its_own_reason(make: Make, reason: str) -> None:
    with pytest.raises(InvalidInput) as e:
        make()
    assert e.value.reason == reason
    assert e.value.violations
    assert "7ABC123" not in str(e.value)


@pytest.mark.parametrize(
    ("act", "window"),
    [(Act.AREA, dt.timedelta(hours=24)), (Act.CONVOY, dt.timedelta(days=7)), (Act.PARTIAL, dt.timedelta(days=1500))],
    ids=["an area over a whole day", "a convoy over a whole week", "a part of a plate over years"],
)
def test_a_window_that_just_reaches_its_limit_may_be_asked_for(act: Act, window: dt.timedelta) -> None:
    check_window(act, NOW - window, NOW)
    with pytest.raises(InvalidInput) if act is not Act.PARTIAL else nullcontext():
        check_window(act, NOW - window - S, NOW)


@pytest.mark.parametrize(
    ("act", "query", "window"),
    [
        pytest.param(Act.AREA, AreaQuery.parse(camera="pa-001"), dt.timedelta(days=2), id="an area over two days"),
        pytest.param(Act.CONVOY, GOOD["a convoy"][1], dt.timedelta(days=8), id="a convoy over eight days"),
    ],
)
def test_a_signed_search_over_too_long_a_window_is_refused_by_whoever_opens_it(
    act: Act, query: Query, window: dt.timedelta
) -> None:
    given = scene.disclosure(commitment.QUERY, query.encode())
    made = scene.inquiry(act=act, query_commitment=given.commitment, begin=NOW - window)
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(made, scene.disclosures(given, scene.CASE_NUMBER))
    assert (e.value.reason, [v.field for v in e.value.violations]) == ("QUERY_TOO_WIDE", ["window"])


NUMBERS = st.text(alphabet="AB1", min_size=1, max_size=6)


def fits(pattern: str, number: str) -> bool:
    """The definition, a character at a time."""
    if not pattern:
        return not number
    if pattern[0] == "*":
        return any(fits(pattern[1:], number[i:]) for i in range(len(number) + 1))
    return bool(number) and pattern[0] in ("?", number[0]) and fits(pattern[1:], number[1:])


@given(
    pattern=st.text(alphabet="AB1?*", min_size=3, max_size=8), number=NUMBERS, state=st.sampled_from(["", "CA", "TX"])
)
def test_a_plate_fits_a_pattern_exactly_if_each_character_does(pattern: str, number: str, state: str) -> None:
    try:
        query = PatternQuery.parse(pattern, "CA")
    except InvalidInput:
        return
    assert query.matches(Plate(number=number, state=state)) == (fits(pattern, number) and state != "TX")


@pytest.mark.parametrize(
    ("latitude", "longitude", "inside"),
    [
        pytest.param(37.79, -122.24, True, id="the middle"),
        pytest.param(37.79 + 1.99 / 111.195, -122.24, True, id="1.99 km to the north"),
        pytest.param(37.79 - 2.01 / 111.195, -122.24, False, id="2.01 km to the south"),
        pytest.param(37.79, -122.24 + 1.99 / 87.88, True, id="1.99 km to the east"),
        pytest.param(37.79, -122.24 - 2.01 / 87.87, False, id="2.01 km to the west"),
        pytest.param(-37.79, 57.76, False, id="the other side of the earth"),
    ],
)
def test_a_circle_reaches_as_far_on_the_ground_in_every_direction(
    latitude: float, longitude: float, inside: bool
) -> None:
    assert circle().contains(round(latitude * 1e7), round(longitude * 1e7)) is inside


def test_a_circle_on_the_date_line_has_two_sides() -> None:
    assert circle(longitude=179.999).contains(377_900_000, -1_799_990_000)
