"""Step 8 for parts of plates, places and convoys: what is asked of the store, and what may not be told at all."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from comity import commitment, instants
from comity.decision import Obligations, Redaction
from comity.inquiry import Disclosed
from comity.outcome import Coverage, OutcomeKind
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, Query
from comity.v1 import node_link_service_pb2 as pb2
from node.look_up import MAX_DETECTIONS, MAX_SIGHTINGS, Withheld, look_up
from node.model import Found
from node.store.rules import parse_rules
from node.store.sqlite import SqliteStore
from tests.fakes import FakeStore
from tests.unit.broker.scene import ALLOW
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, World
from tests.unit.node.scene import NodeStage, seen
from tests.unit.node.test_look_up import YEAR_S, S

PLACE: dict[str, Any] = {"latitude_e7": 377_912_345, "longitude_e7": -1_222_412_345}
CIRCLE = Circle(**PLACE, radius_m=1_000)
SMALL = Circle(**PLACE, radius_m=999)
NO_LIMIT = Obligations()
ACTS = {PatternQuery: Act.PARTIAL, AreaQuery: Act.AREA, ConvoyQuery: Act.CONVOY}


def found_in(store: FakeStore, query: Query, obligations: Obligations = NO_LIMIT) -> Found:
    disclosed = Disclosed(query=query, case_number="", authority_reference="")
    inquiry = scene.inquiry(act=ACTS[type(query)], begin=NOW - DAY)
    return look_up(store, inquiry, disclosed, obligations, retention_s=YEAR_S, agency=ALDER, now=NOW)


def plates(found: Found) -> list[str]:
    return [d.plate for d in found.detections]


def test_a_partial_search_releases_what_fits_the_pattern_newest_first() -> None:
    store = FakeStore()
    store.add([seen(20), seen(10, "7ABX123"), seen(15, "8XYZ999")])
    found = found_in(store, PatternQuery.parse("7AB?123", "CA"))
    assert (plates(found), found.reason_code) == (["7ABX123", "7ABC123"], "")


def test_a_camera_search_releases_every_plate_of_that_camera() -> None:
    store = FakeStore()
    store.add([seen(20), seen(10, "8XYZ999"), seen(15, camera="pa-002")])
    found = found_in(store, AreaQuery.parse(camera="pa-001"))
    assert (plates(found), found.reason_code) == (["8XYZ999", "7ABC123"], "")


def test_a_circle_search_says_that_cameras_without_a_location_were_in_no_circle() -> None:
    store = FakeStore()
    store.add([seen(20, **PLACE)])
    query = AreaQuery.parse(circle=CIRCLE)
    assert found_in(store, query).reason_code == ""
    store.add([seen(15, "8XYZ999")])
    found = found_in(store, query)
    assert (plates(found), found.reason_code) == (["7ABC123"], "NO_LOCATION")


def test_more_at_a_camera_than_may_be_released_is_cut_and_said_so() -> None:
    store = FakeStore()
    store.add([seen(1 + i, f"A{i}") for i in range(MAX_DETECTIONS + 5)])
    found = found_in(store, AreaQuery.parse(camera="pa-001"))
    assert (len(found.detections), found.reason_code) == (MAX_DETECTIONS, "TOO_MANY")
    assert found.coverage.begin == NOW - (MAX_DETECTIONS + 1) * S + dt.timedelta(milliseconds=1)


def test_a_convoy_search_releases_those_near_the_plate_and_not_the_plate_itself() -> None:
    store = FakeStore()
    for i in (1, 2):
        store.add([seen(i * 100, camera=f"c-{i}"), seen(i * 100 + 5, "8XYZ999", camera=f"c-{i}")])
        store.add([seen(i * 100 + 1, "7A8C123", camera=f"c-{i}"), seen(i * 100 + 6, "5DEF555", camera=f"c-{i}")])
    found = found_in(store, ConvoyQuery.parse("7ABC123", "CA", within_s=5, cameras=2))
    assert (plates(found), found.reason_code) == (["8XYZ999", "8XYZ999"], "")


def test_a_convoy_of_a_plate_that_was_not_seen_is_nothing_found() -> None:
    found = found_in(FakeStore(), ConvoyQuery.parse("7ABC123", "CA", within_s=5, cameras=2))
    assert found == Found(detections=(), coverage=Coverage(begin=NOW - DAY, end=NOW), reason_code="", reason="")


def test_a_plate_seen_too_often_bounds_the_coverage_of_its_convoy() -> None:
    store = FakeStore()
    store.add([seen(10 * (1 + i), camera=f"c-{i % 2}") for i in range(MAX_SIGHTINGS + 1)])
    store.add([seen(15 + 10 * i, "8XYZ999", camera=f"c-{i % 2}") for i in (0, 1, MAX_SIGHTINGS, MAX_SIGHTINGS + 1)])
    found = found_in(store, ConvoyQuery.parse("7ABC123", "CA", within_s=5, cameras=2))
    assert found.coverage.begin == NOW - 10 * (MAX_SIGHTINGS + 1) * S + dt.timedelta(milliseconds=1)
    assert (plates(found), found.reason_code) == (["8XYZ999", "8XYZ999"], "TOO_MANY")


def test_a_plate_seen_too_often_in_the_last_millisecond_leaves_no_coverage() -> None:
    store = FakeStore()
    store.add([seen(0.001, source_id=f"x-{i}") for i in range(MAX_SIGHTINGS + 1)])
    found = found_in(store, ConvoyQuery.parse("7ABC123", "CA", within_s=5, cameras=2))
    assert (found.coverage.begin, found.detections, found.reason_code) == (found.coverage.end, (), "TOO_MANY")


WITHHELD = {
    "a circle, of which only hits may be told": (AreaQuery.parse(circle=CIRCLE), Redaction.HIT_ONLY, True),
    "a camera, of which only hits may be told": (AreaQuery.parse(camera="pa-001"), Redaction.HIT_ONLY, True),
    "a camera, where places are rounded": (AreaQuery.parse(camera="pa-001"), Redaction.COARSE_LOCATION, True),
    "a circle finer than the rounding": (AreaQuery.parse(circle=SMALL), Redaction.COARSE_LOCATION, True),
    "a circle as coarse as the rounding": (AreaQuery.parse(circle=CIRCLE), Redaction.COARSE_LOCATION, False),
    "a camera without images": (AreaQuery.parse(camera="pa-001"), Redaction.NO_IMAGE, False),
    "a pattern, of which only hits may be told": (PatternQuery.parse("7AB*", ""), Redaction.HIT_ONLY, False),
}


@pytest.mark.parametrize(("query", "redaction", "withheld"), WITHHELD.values(), ids=WITHHELD.keys())
def test_a_place_that_may_not_be_told_is_not_told_by_answering_a_question_about_it(
    query: Query, redaction: Redaction, withheld: bool
) -> None:
    store = FakeStore()
    store.add([seen(20, **PLACE)])
    if withheld:
        with pytest.raises(Withheld) as e:
            found_in(store, query, Obligations(redaction=redaction))
        assert (e.value.reason, store.searches) == ("PLACE_NOT_RELEASED", 0)
    else:
        assert plates(found_in(store, query, Obligations(redaction=redaction))) == ["7ABC123"]


def test_a_convoy_of_which_only_hits_may_be_told_names_no_place_or_time() -> None:
    store = FakeStore()
    for i in (1, 2):
        store.add([seen(i * 100, camera=f"c-{i}", **PLACE), seen(i * 100, "8XYZ999", camera=f"c-{i}", **PLACE)])
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=5, cameras=2)
    released = found_in(store, query, Obligations(redaction=Redaction.HIT_ONLY)).detections
    assert len(released) == 2
    for d in released:
        assert (d.camera, d.HasField("latitude_e7"), d.HasField("longitude_e7"), d.image) == ("", False, False, "")
        assert instants.from_wire(d.captured_at) == NOW.replace(hour=0)


async def test_what_may_not_be_told_is_one_signed_outcome_that_says_neither_found_nor_not(
    world: World, tmp_path: Path
) -> None:
    stage = NodeStage(world, tmp_path, rows=ALLOW.replace(",-,", ",redact=hit-only,"))
    query = scene.disclosure(commitment.QUERY, AreaQuery.parse(camera="pa-001").encode())
    stage.store.add([seen(20)])
    envelope = stage.envelope(act=Act.AREA, query_commitment=query.commitment, begin=NOW - DAY)
    given = scene.disclosures(query, scene.CASE_NUMBER)
    sent = pb2.WorkInquiry(envelope=envelope.encode(), disclosures=given).SerializeToString()
    _, outcome = await stage.answer(await stage.work(envelope, inquiry=sent))
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.WITHHELD, "PLACE_NOT_RELEASED")
    assert (outcome.detections, outcome.coverage, stage.store.searches) == ((), None, 0)


def test_what_a_class_rule_has_expired_is_in_no_convoy_area_or_part(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path / "store")
    rules = parse_rules(["source:commercial=150"])
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=lambda: NOW, rules=rules)
    own = [seen(100 * i, camera=f"c-{i}") for i in (1, 2)]
    store.add([*own, *(seen(100 * i, "8XYZ999", camera=f"c-{i}", source="commercial") for i in (1, 2))])
    window = NOW - DAY, NOW
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=9, cameras=2)
    assert store.convoy(query, own, *window, 10) == []
    assert [m.detection.plate.number for m in store.area(AreaQuery.parse(camera="c-2"), *window, 10)] == ["7ABC123"]
    assert len(store.partial(PatternQuery.parse("8XY*", ""), *window, 10)) == 1
    store.close()
