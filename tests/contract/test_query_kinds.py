"""Parts of plates, places and convoys, as every detection store finds them, whatever holds the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comity.detection import Match, MatchClass
from comity.errors import InvalidInput
from comity.plate import Plate
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery
from node.store.interface import DetectionStore
from tests.contract.test_detection_store import EARLY, LATE, LISTED, PLATE, STORES, Opener, opening, store
from tests.unit.node.samples import ago, detection

__all__ = ["store"]  # the fixture of every store


@pytest.fixture(params=[*STORES, LISTED])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    with opening(request, tmp_path) as opened:
        yield opened


PATTERNS = {
    "a beginning that is known": "7AB*",
    "three characters in the middle": "*BC1*",
    "a longer run in the middle": "?ABC12?",
    "characters here and there": "7?B?1*3",
    "the whole number": "7ABC123",
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_partial_finds_a_plate_by_what_is_known_of_it_and_no_look_alike(store: DetectionStore, pattern: str) -> None:
    others = ("7A8C123", "7ABC12", "X7ABC123", "5DEF555")
    store.add([detection(state="", seconds=20), detection(seconds=10), detection(state="NV", seconds=5)])
    store.add([detection(n) for n in others if pattern not in ("7AB*", "*BC1*") or n in ("7A8C123", "5DEF555")])
    found = store.partial(PatternQuery.parse(pattern, "CA"), EARLY, LATE, 10)
    assert [(m.detection.plate, m.match_class) for m in found] == [
        (PLATE, MatchClass.PARTIAL),
        (Plate(number="7ABC123", state=""), MatchClass.PARTIAL),
    ]
    assert len(store.partial(PatternQuery.parse(pattern, ""), EARLY, LATE, 10)) == 3


def test_area_finds_every_plate_of_one_camera_and_of_no_other(store: DetectionStore) -> None:
    here = [detection("8XYZ999", seconds=10), detection(seconds=20)]
    store.add([*here, detection(seconds=15, camera="pa-002")])
    found = store.area(AreaQuery.parse(camera="pa-001"), EARLY, LATE, 10)
    assert found == [Match(detection=d, match_class=MatchClass.EXACT) for d in here]
    assert store.area(AreaQuery.parse(camera="pa-003"), EARLY, LATE, 10) == []
    assert len(store.area(AreaQuery.parse(camera="pa-001"), EARLY, LATE, 1)) == 2


def test_area_finds_a_car_s_camera_only_where_it_was(store: DetectionStore) -> None:
    middle = detection()
    assert middle.latitude_e7 is not None
    assert middle.longitude_e7 is not None
    store.add([middle, detection(seconds=50, latitude_e7=middle.latitude_e7 + 100_000)])
    circle = Circle(latitude_e7=middle.latitude_e7, longitude_e7=middle.longitude_e7, radius_m=1_000)
    found = store.area(AreaQuery.parse(circle=circle), EARLY, LATE, 10)
    assert [m.detection for m in found] == [middle]
    assert not store.unplaced(EARLY, LATE)


def test_a_read_without_a_location_is_in_no_circle_and_is_told_of(store: DetectionStore) -> None:
    store.add([detection(latitude_e7=None, longitude_e7=None)])
    circle = Circle(latitude_e7=377_912_345, longitude_e7=-1_222_412_345, radius_m=5_000)
    assert store.area(AreaQuery.parse(circle=circle), EARLY, LATE, 10) == []
    assert store.unplaced(EARLY, LATE)
    assert not store.unplaced(EARLY, ago(61))


def test_convoy_finds_what_was_near_the_plate_at_enough_cameras(store: DetectionStore) -> None:
    own = [detection(seconds=100 * i, camera=f"c-{i}") for i in (1, 2, 3)]
    beside = [detection("8XYZ999", "NV", 100 * i + 30, camera=f"c-{i}") for i in (1, 2)]
    store.add([*own, *beside])
    # Once near it, twice at one camera, a second too far, at another camera, and the plate itself misread.
    store.add([detection("5DEF555", seconds=101, camera="c-1"), detection("6GHJ777", seconds=131, camera="c-1")])
    store.add([detection("6GHJ777", seconds=231, camera="c-2"), detection("9KMN333", seconds=300, camera="c-9")])
    store.add([detection("4PRT222", seconds=s, camera="c-1") for s in (99, 102)])
    store.add([detection("7A8C123", seconds=100 * i, camera=f"c-{i}") for i in (1, 2, 3)])
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=2)
    found = store.convoy(query, own, EARLY, LATE, 10)
    assert found == [Match(detection=d, match_class=MatchClass.EXACT) for d in beside]
    three = ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=3)
    assert store.convoy(three, own, EARLY, LATE, 10) == []


@pytest.mark.parametrize("limit", [0, 10_001], ids=["no detection", "more than may be"])
def test_a_limit_that_is_none_is_refused_by_every_kind(store: DetectionStore, limit: int) -> None:
    asks: list[Callable[[], object]] = [
        lambda: store.partial(PatternQuery.parse("7AB*", ""), EARLY, LATE, limit),
        lambda: store.area(AreaQuery.parse(camera="pa-001"), EARLY, LATE, limit),
        lambda: store.convoy(ConvoyQuery.parse("7ABC123", "CA", within_s=9, cameras=2), [], EARLY, LATE, limit),
    ]
    for ask in asks:
        with pytest.raises(InvalidInput) as e:
            ask()
        assert e.value.reason == "BAD_SEARCH"


def test_what_retention_has_expired_is_found_by_no_kind(opener: Opener) -> None:
    store = opener()
    own = [detection(seconds=100 * i, camera=f"c-{i}") for i in (1, 2)]
    store.add([*own, *(detection("8XYZ999", seconds=100 * i, camera=f"c-{i}") for i in (1, 2))])
    store.close()
    store = opener(retention_s=150)
    assert len(store.partial(PatternQuery.parse("7AB*", ""), EARLY, LATE, 10)) == 1
    assert store.area(AreaQuery.parse(camera="c-2"), EARLY, LATE, 10) == []
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=9, cameras=2)
    assert store.convoy(query, own, EARLY, LATE, 10) == []
    store.close()
