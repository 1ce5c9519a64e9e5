"""What a node says it found must fit what was asked, as far as redaction lets anybody see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.fitting import fits, within_one_edit
from comity.decision import Redaction
from comity.detection import Match, MatchClass, Released, redact
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, PlateQuery, Query
from comity.v1 import outcome_pb2
from tests.unit.comity import scene
from tests.unit.node.samples import detection

PLACE: dict[str, int] = {"latitude_e7": 377_912_345, "longitude_e7": -1_222_412_345}
PLATE = PlateQuery(plate=scene.PLATE)
PATTERN = PatternQuery.parse("7A?C*", "CA")
CIRCLE = AreaQuery.parse(circle=Circle(**PLACE, radius_m=1_000))
CAMERA = AreaQuery.parse(camera="pa-001")
CONVOY = ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=2)
CONFUSABLE, PARTIAL = outcome_pb2.MATCH_CLASS_CONFUSABLE, outcome_pb2.MATCH_CLASS_PARTIAL
KM_E7 = 89_932  # of latitude

CASES: dict[str, tuple[Act, Query, dict[str, Any], bool]] = {
    "a look-alike": (Act.CONFUSABLE, PLATE, {"plate": "7A8C123", "match": CONFUSABLE}, True),
    "a look-alike of another state": (Act.CONFUSABLE, PLATE, {"state": "NV", "match": CONFUSABLE}, True),
    "one character lost": (Act.CONFUSABLE, PLATE, {"plate": "7ABC12", "match": CONFUSABLE}, True),
    "two characters away": (Act.CONFUSABLE, PLATE, {"plate": "7XYC123", "match": CONFUSABLE}, False),
    "another state called exact": (Act.CONFUSABLE, PLATE, {"state": "NV"}, False),
    "a look-alike called partial": (Act.CONFUSABLE, PLATE, {"plate": "7A8C123", "match": PARTIAL}, False),
    "what fits the pattern": (Act.PARTIAL, PATTERN, {"match": PARTIAL}, True),
    "what fits the pattern, no state read": (Act.PARTIAL, PATTERN, {"state": "", "match": PARTIAL}, True),
    "what fits the pattern, called exact": (Act.PARTIAL, PATTERN, {}, False),
    "what does not fit the pattern": (Act.PARTIAL, PATTERN, {"plate": "7ABX123", "match": PARTIAL}, False),
    "what fits the pattern, of another state": (Act.PARTIAL, PATTERN, {"state": "NV", "match": PARTIAL}, False),
    "the camera asked for": (Act.AREA, CAMERA, {}, True),
    "another camera": (Act.AREA, CAMERA, {"camera": "pa-002"}, False),
    "a camera that was redacted": (Act.AREA, CAMERA, {"camera": ""}, True),
    "inside the circle": (Act.AREA, CIRCLE, {"latitude_e7": PLACE["latitude_e7"] + KM_E7 - 100}, True),
    "outside the circle": (Act.AREA, CIRCLE, {"latitude_e7": PLACE["latitude_e7"] + KM_E7 + 100}, False),
    "without its place in a circle": (Act.AREA, CIRCLE, {"latitude_e7": None, "longitude_e7": None}, False),
    "without camera and place": (Act.AREA, CIRCLE, {"camera": "", "latitude_e7": None, "longitude_e7": None}, True),
    "rounded, and so far away that it was outside": (
        Act.AREA,
        CIRCLE,
        {"camera": "", "latitude_e7": PLACE["latitude_e7"] + KM_E7 + 50_100},
        False,
    ),
    "a companion": (Act.CONVOY, CONVOY, {"plate": "8XYZ999", "state": "NV"}, True),
    "the convoy's own plate": (Act.CONVOY, CONVOY, {}, False),
    "the convoy's own plate misread": (Act.CONVOY, CONVOY, {"plate": "7A8C123"}, False),
    "a companion called partial": (Act.CONVOY, CONVOY, {"plate": "8XYZ999", "match": PARTIAL}, False),
}


@pytest.mark.parametrize(("act", "query", "changes", "good"), CASES.values(), ids=CASES.keys())
def test_a_detection_is_taken_only_if_it_can_answer_what_was_asked(
    act: Act, query: Query, changes: dict[str, Any], good: bool
) -> None:
    given = {k: v for k, v in changes.items() if v is not None}
    message = scene.detection(**given)
    for name in changes.keys() - given.keys():
        message.ClearField(name)  # type: ignore[arg-type]  # names of the table above
    assert fits(act, query, Released.parse(message)) is good


@pytest.mark.parametrize("query", [PATTERN, CAMERA, CONVOY], ids=["a pattern", "an area", "a convoy"])
def test_no_query_is_answered_under_another_act(query: Query) -> None:
    assert not fits(Act.EXACT, query, Released.parse(scene.detection()))


OFFSETS = st.integers(-120_000, 120_000)


@given(latitude=OFFSETS, longitude=OFFSETS, level=st.sampled_from(Redaction))
def test_what_a_node_found_in_a_circle_fits_it_however_it_was_redacted(
    latitude: int, longitude: int, level: Redaction
) -> None:
    at: dict[str, Any] = {
        "latitude_e7": PLACE["latitude_e7"] + latitude,
        "longitude_e7": PLACE["longitude_e7"] + longitude,
    }
    assert CIRCLE.circle is not None
    if CIRCLE.circle.contains(**at):
        found = Match(detection=detection(**at), match_class=MatchClass.EXACT)
        assert fits(Act.AREA, CIRCLE, Released.parse(redact(found, level, "us-ca-port-alder-pd")))


def edits(a: str, b: str) -> int:
    """The least number of characters replaced, put in or left out; the textbook's table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, above = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


WORDS = st.text(alphabet="AB", max_size=5)


@given(a=WORDS, b=WORDS)
def test_one_edit_is_what_the_table_of_edits_says(a: str, b: str) -> None:
    assert within_one_edit(a, b) is (edits(a, b) <= 1)
