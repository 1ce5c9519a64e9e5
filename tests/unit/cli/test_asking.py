"""From options to a query: what does not go together is wrong usage, and what is too wide is told how to narrow it."""

from __future__ import annotations

import click
import pytest

from cli.asking import asked_for, default_days, needs
from comity.errors import InvalidInput
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, PlateQuery, Query

NEAR = Circle(latitude_e7=377_900_000, longitude_e7=-1_222_400_000, radius_m=1_500)
GOOD: dict[str, tuple[str | None, dict[str, str], Act, Query]] = {
    "a plate": ("7ABC123", {"state": "CA"}, Act.EXACT, PlateQuery.parse("7ABC123", "CA")),
    "look-alikes": (
        "7ABC123",
        {"state": "CA", "act": "confusable"},
        Act.CONFUSABLE,
        PlateQuery.parse("7ABC123", "CA"),
    ),
    "a part of a plate": ("7ab*", {"act": "partial"}, Act.PARTIAL, PatternQuery.parse("7AB*", "")),
    "near a place": (None, {"near": "37.79,-122.24,1.5"}, Act.AREA, AreaQuery.parse(circle=NEAR)),
    "at a camera": (None, {"camera": "pa-001"}, Act.AREA, AreaQuery.parse(camera="pa-001")),
    "a convoy": (
        "7ABC123",
        {"state": "CA", "convoy": "30,3"},
        Act.CONVOY,
        ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=3),
    ),
}


@pytest.mark.parametrize(("plate", "given", "act", "query"), GOOD.values(), ids=GOOD.keys())
def test_the_options_of_each_kind_make_its_query(
    plate: str | None, given: dict[str, str], act: Act, query: Query
) -> None:
    assert asked_for(plate, {"act": "exact"} | given) == (act, query)


WRONG: dict[str, tuple[str | None, dict[str, str]]] = {
    "two places": (None, {"near": "1,2,3", "camera": "pa-001"}),
    "a place and a convoy": ("7ABC123", {"camera": "pa-001", "convoy": "30,3"}),
    "a part of a plate and a convoy": ("7ABC123", {"act": "partial", "convoy": "30,3"}),
    "look-alikes near a place": (None, {"act": "confusable", "near": "1,2,3"}),
    "a plate at a place": ("7ABC123", {"near": "1,2,3"}),
    "a state at a place": (None, {"near": "1,2,3", "state": "CA"}),
    "unknown characters in a whole plate": ("7AB?*", {"state": "CA"}),
    "a place of two numbers": (None, {"near": "1,2"}),
    "a place of words": (None, {"near": "here,there,5"}),
    "no number at all": (None, {"near": "nan,nan,nan"}),
    "an infinite radius": (None, {"near": "1,2,inf"}),
    "a radius of nothing": (None, {"near": "1,2,0"}),
    "a latitude of 91": (None, {"near": "91,2,3"}),
    "a convoy of one number": ("7ABC123", {"state": "CA", "convoy": "30"}),
    "a convoy of a negative number": ("7ABC123", {"state": "CA", "convoy": "-30,3"}),
    "a convoy of a million digits": ("7ABC123", {"state": "CA", "convoy": "9" * 1_000_000 + ",3"}),
}


@pytest.mark.parametrize(("plate", "given"), WRONG.values(), ids=WRONG.keys())
def test_options_that_do_not_go_together_or_are_no_numbers_are_wrong_usage(
    plate: str | None, given: dict[str, str]
) -> None:
    with pytest.raises(click.UsageError) as e:
        asked_for(plate, {"act": "exact"} | given)
    assert "7ABC123" not in str(e.value)


WIDE: dict[str, tuple[str | None, dict[str, str]]] = {
    "two known characters": ("7*4", {"act": "partial"}),
    "six kilometres": (None, {"near": "37.79,-122.24,6"}),
    "a convoy at one camera": ("7ABC123", {"state": "CA", "convoy": "30,1"}),
}


@pytest.mark.parametrize(("plate", "given"), WIDE.values(), ids=WIDE.keys())
def test_a_search_that_is_too_wide_is_refused_before_it_is_signed(plate: str | None, given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as e:
        asked_for(plate, {"act": "exact"} | given)
    assert e.value.reason == "QUERY_TOO_WIDE"


def test_only_what_a_kind_of_search_needs_must_be_named() -> None:
    assert needs({"act": "exact"}) == ("PLATE", "--state", "--purpose", "--case")
    assert needs({"act": "exact", "convoy": "30,3"}) == ("PLATE", "--state", "--purpose", "--case")
    assert needs({"act": "partial"}) == ("PLATE", "--purpose", "--case")
    assert needs({"act": "exact", "camera": "pa-001"}) == ("--purpose", "--case")
    assert needs({"act": "exact", "near": "1,2,3"}) == ("--purpose", "--case")


def test_an_area_is_asked_for_over_a_day_unless_another_window_is_named() -> None:
    assert (default_days(Act.AREA), default_days(Act.EXACT), default_days(Act.CONVOY)) == (1, 7, 7)
