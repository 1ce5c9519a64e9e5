"""Parts of plates, places and convoys: each search against a scan of everything, over hot and sealed rows alike."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.detection import Detection, Match, MatchClass
from comity.errors import InvalidInput
from comity.plate import skeleton
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery
from node.store.confusable import confusable_skeletons
from node.store.sqlite import SqliteStore
from tests.fakes import FakeStore
from tests.unit.node.samples import YEAR_S, ago, clock, detection

NUMBERS = st.text(alphabet="0OABC18", min_size=1, max_size=7)
CAMERAS = ("c-1", "c-2", "c-3")
# Around one point, a few hundred metres apart, at the equator, in the north, and on both sides of the date line.
PLACES = st.one_of(
    st.none(),
    st.tuples(st.integers(-9_000, 9_000), st.integers(-9_000, 9_000)),
    st.tuples(st.integers(600_000_000, 600_020_000), st.integers(1_799_990_000, 1_800_000_000)),
    st.tuples(st.integers(600_000_000, 600_020_000), st.integers(-1_800_000_000, -1_799_990_000)),
)
DETECTIONS = st.builds(
    lambda number, state, seconds, camera, place: detection(
        number,
        state,
        seconds,
        camera=camera,
        source_id=f"{number}-{seconds}-{camera}",
        latitude_e7=place and place[0],
        longitude_e7=place and place[1],
    ),
    NUMBERS,
    st.sampled_from(["CA", "TX", ""]),
    st.integers(0, 40),
    st.sampled_from(CAMERAS),
    PLACES,
)
BATCHES = st.lists(DETECTIONS, max_size=40, unique_by=lambda d: (d.plate.skeleton, d.captured_at, d.uid))
WINDOWS = st.tuples(st.integers(0, 40), st.integers(1, 41)).map(lambda w: (ago(w[0]), ago(w[0] - w[1])))


@contextmanager
def stores(batch: Sequence[Detection], sealed: int) -> Iterator[tuple[SqliteStore, FakeStore]]:
    """A real store whose first `sealed` rows are in sealed parts, and the same rows in a list."""
    with tempfile.TemporaryDirectory() as folder:
        SqliteStore.create(Path(folder))
        real = SqliteStore.open(Path(folder), retention_s=YEAR_S, clock=clock, max_hot_rows=1)
        real.add(batch[:sealed])
        real.sealer.run()
        real.add(batch[sealed:])
        listed = FakeStore()
        listed.add(batch)
        yield real, listed
        real.close()


@settings(max_examples=80, deadline=None)
@given(
    batch=BATCHES,
    sealed=st.integers(0, 40),
    pattern=st.text(alphabet="0OABC18?*", min_size=3, max_size=8),
    state=st.sampled_from(["", "CA"]),
    window=WINDOWS,
    limit=st.integers(1, 20),
)
def test_a_partial_search_finds_exactly_the_plates_that_fit(
    batch: list[Detection],
    sealed: int,
    pattern: str,
    state: str,
    window: tuple[dt.datetime, dt.datetime],
    limit: int,
) -> None:
    try:
        query = PatternQuery.parse(pattern, state)
    except InvalidInput:
        return
    with stores(batch, sealed) as (real, listed):
        assert real.partial(query, *window, limit) == listed.partial(query, *window, limit)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.lists(DETECTIONS, min_size=1, max_size=40, unique_by=lambda d: (d.plate.skeleton, d.captured_at, d.uid)),
    sealed=st.integers(0, 40),
    wildcards=st.integers(0, 2**32),
    window=WINDOWS,
)
def test_a_plate_is_found_by_whatever_part_of_it_is_known(
    batch: list[Detection], sealed: int, wildcards: int, window: tuple[dt.datetime, dt.datetime]
) -> None:
    dice = random.Random(wildcards)
    number = dice.choice(batch).plate.number
    hidden = "".join(dice.choice([c, c, "?", "*"]) for c in number)
    try:
        query = PatternQuery.parse(hidden, "")
    except InvalidInput:
        return
    with stores(batch, sealed) as (real, listed):
        found = real.partial(query, *window, 100)
        assert found == listed.partial(query, *window, 100)
        inside = [d for d in batch if d.plate.number == number and window[0] <= d.captured_at < window[1]]
        assert {d.uid for d in inside} <= {m.detection.uid for m in found}


AREAS = st.one_of(
    st.sampled_from(CAMERAS).map(lambda camera: AreaQuery.parse(camera=camera)),
    st.builds(
        lambda middle, radius: AreaQuery.parse(
            circle=Circle(latitude_e7=middle[0], longitude_e7=middle[1], radius_m=radius)
        ),
        PLACES.filter(lambda p: p is not None),
        st.integers(1, 2_000),
    ),
)


@settings(max_examples=80, deadline=None)
@given(batch=BATCHES, sealed=st.integers(0, 40), query=AREAS, window=WINDOWS, limit=st.integers(1, 20))
def test_an_area_search_finds_exactly_what_was_seen_there(
    batch: list[Detection], sealed: int, query: AreaQuery, window: tuple[dt.datetime, dt.datetime], limit: int
) -> None:
    with stores(batch, sealed) as (real, listed):
        assert real.area(query, *window, limit) == listed.area(query, *window, limit)
        assert real.unplaced(*window) == listed.unplaced(*window)


@settings(max_examples=80, deadline=None)
@given(
    batch=BATCHES,
    sealed=st.integers(0, 40),
    number=NUMBERS,
    within_s=st.integers(1, 5),
    cameras=st.integers(2, 3),
    window=WINDOWS,
    limit=st.integers(1, 20),
)
def test_a_convoy_search_finds_exactly_what_was_near_the_plate_at_so_many_cameras(
    batch: list[Detection],
    sealed: int,
    number: str,
    within_s: int,
    cameras: int,
    window: tuple[dt.datetime, dt.datetime],
    limit: int,
) -> None:
    number = batch[0].plate.number if batch else number
    query = ConvoyQuery.parse(number, "CA", within_s=within_s, cameras=cameras)
    with stores(batch, sealed) as (real, listed):
        sightings = [m.detection for m in real.exact(query.plate, *window, 100)]
        found = real.convoy(query, sightings, *window, limit)
        assert found == listed.convoy(query, sightings, *window, limit)
        assert all(m.match_class is MatchClass.EXACT for m in found)


def test_a_convoy_is_found_across_a_sealed_and_a_growing_part() -> None:
    near = [detection("8XYZ999", "NV", 100 * i + 2, camera=f"c-{i}") for i in (1, 2, 3)]
    own = [detection("7ABC123", "CA", 100 * i, camera=f"c-{i}") for i in (1, 2, 3)]
    once = detection("5DEF555", "CA", 101, camera="c-1")
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=2, cameras=3)
    with stores([near[0], own[0], near[1], once, own[1], own[2], near[2]], 3) as (real, _):
        assert real.convoy(query, own, ago(1000), ago(0), 10) == [
            Match(detection=d, match_class=MatchClass.EXACT) for d in near
        ]


CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# Each pair of characters that cameras take for one another, the folded ones too.
PAIRS = (
    "0O", "0Q", "0D", "OQ", "OD", "QD", "1I", "1L", "IL", "1T", "1J", "2Z", "27", "3E", "3J", "37", "4A", "5S", "56",
    "58", "6G", "8B", "7J", "7Z", "MN", "MH", "NH", "VW",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["replaced", "lost", "added"])
def test_confusable_finds_99_of_100_single_misreads(kind: str) -> None:
    dice = random.Random(kind)
    found = total = 0
    while total < 5_000:
        number = "".join(dice.choice(CHARACTERS) for _ in range(7))
        i = dice.randrange(7)
        if kind == "replaced":
            others = [p.replace(number[i], "", 1) for p in PAIRS if number[i] in p]
            if not others:
                continue
            read = number[:i] + dice.choice(others) + number[i + 1 :]
        else:
            read = number[:i] + ("" if kind == "lost" else dice.choice(CHARACTERS) + number[i]) + number[i + 1 :]
        total += 1
        found += skeleton(read) in confusable_skeletons(number)
    assert found / total >= 0.99
