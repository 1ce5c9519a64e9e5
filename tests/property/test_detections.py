"""Detections: searches against a scan of everything, redaction against what each level allows."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.demo.traffic import traffic
from comity.decision import Redaction
from comity.detection import COARSE_E7, Detection, Match, MatchClass, detection_from_message, redact
from comity.errors import InvalidInput
from comity.federation import Federation
from comity.plate import MAX_PLATE_CHARACTERS, Plate, skeleton
from comity.v1 import outcome_pb2
from node.formats.csv import Csv
from node.formats.interface import BadRecord
from node.formats.openalpr import decode
from node.store.confusable import confusable_skeletons
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import CONTEXT, NOW, YEAR_S, ago, clock, detection, encode, group

AGENCY = "us-ca-port-alder-pd"
# A small alphabet, so that numbers meet: two folded groups, further pairs, and one that is like nothing.
NUMBERS = st.text(alphabet="0O1IT7ZJ4AX", min_size=1, max_size=5)
STATES = st.sampled_from(["CA", "TX", ""])
PAIRS = {
    frozenset(p) for p in ["1T", "1J", "27", "3E", "3J", "37", "4A", "56", "58", "6G", "7J", "MN", "MH", "NH", "VW"]
}
DETECTIONS = st.builds(
    lambda number, state, seconds, n: detection(number, state, seconds, source_id=f"{number}-{n}"),
    NUMBERS,
    STATES,
    st.integers(0, 5),
    st.integers(0, 3),
)


def looks_alike(asked: str, read: str) -> bool:
    """The definition, written without the search's list: equal skeletons, one further pair, or one character."""
    a, b = skeleton(asked), skeleton(read)
    if len(a) == len(b):
        different = [frozenset((x, y)) for x, y in zip(a, b, strict=True) if x != y]
        return not different or (len(different) == 1 and different[0] in PAIRS)
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return len(longer) == len(shorter) + 1 and any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def distinct(batch: Sequence[Detection]) -> list[Detection]:
    return list({(d.plate.skeleton, d.captured_at, d.uid): d for d in reversed(batch)}.values())


def newest_first(found: Sequence[Match]) -> list[Match]:
    return sorted(found, key=lambda m: (m.detection.captured_at, m.detection.uid), reverse=True)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.lists(DETECTIONS, max_size=25),
    number=NUMBERS,
    begin=st.integers(1, 6),
    span=st.integers(1, 6),
    limit=st.integers(1, 6),
)
def test_searches_find_exactly_what_a_scan_of_everything_finds(
    batch: list[Detection], number: str, begin: int, span: int, limit: int
) -> None:
    asked = Plate(number=number, state="CA")
    window = ago(begin), ago(begin - span)
    inside = [d for d in distinct(batch) if window[0] <= d.captured_at < window[1]]
    exact = [
        Match(detection=d, match_class=MatchClass.EXACT if d.plate.state else MatchClass.PARTIAL)
        for d in inside
        if d.plate.number == number and d.plate.state in ("CA", "")
    ]
    alike = [
        Match(detection=d, match_class=MatchClass.EXACT if d.plate == asked else MatchClass.CONFUSABLE)
        for d in inside
        if looks_alike(number, d.plate.number)
    ]
    with tempfile.TemporaryDirectory() as folder:
        SqliteStore.create(Path(folder))
        store = SqliteStore.open(Path(folder), retention_s=YEAR_S, clock=clock)
        # First come, first stored: a batch's later twin is the duplicate.
        store.add(batch)
        assert store.exact(asked, *window, limit) == newest_first(exact)[: limit + 1]
        assert store.confusable(asked, *window, limit) == newest_first(alike)[: limit + 1]
        store.close()


@given(number=st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=MAX_PLATE_CHARACTERS))
def test_being_confusable_is_mutual_and_contains_oneself(number: str) -> None:
    others = confusable_skeletons(number)
    assert skeleton(number) in others
    assert all(1 <= len(s) <= MAX_PLATE_CHARACTERS and skeleton(s) == s for s in others)
    for other in random.Random(number).sample(others, min(5, len(others))):
        assert skeleton(number) in confusable_skeletons(other)


MATCHES = st.builds(
    lambda number, state, seconds, where, confidence, image, kind: Match(
        detection=detection(
            number, state, seconds, latitude_e7=where and where[0], longitude_e7=where and where[1],
            confidence_permille=confidence, image=image,
        ),
        match_class=kind,
    ),
    st.text(alphabet="ABC0189", min_size=1, max_size=10),
    STATES,
    st.floats(0, 1e6).map(lambda s: round(s, 3)),
    st.none() | st.tuples(st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000)),
    st.none() | st.integers(0, 1000),
    st.sampled_from(["", "img-7"]),
    st.sampled_from(MatchClass),
)  # fmt: skip


@given(match=MATCHES)
def test_release_never_yields_another_plate_nor_more_than_the_level_allows(match: Match) -> None:
    d = match.detection
    full, no_image, coarse, hit = (redact(match, level, AGENCY) for level in Redaction)
    for message in (full, no_image, coarse, hit):
        assert (message.plate, message.state) == (d.plate.number, d.plate.state)
        assert (message.source, message.agency) == (d.source, AGENCY)
        assert detection_from_message(message).match_class is match.match_class
    assert (full.camera, full.image) == (d.camera, d.image)
    expected = outcome_pb2.Detection()
    expected.CopyFrom(full)
    expected.image = ""
    assert no_image == expected
    expected.camera = ""
    if d.latitude_e7 is not None and d.longitude_e7 is not None:
        assert abs(coarse.latitude_e7 - d.latitude_e7) <= COARSE_E7 // 2
        assert abs(coarse.longitude_e7 - d.longitude_e7) <= COARSE_E7 // 2
        assert coarse.latitude_e7 % COARSE_E7 == coarse.longitude_e7 % COARSE_E7 == 0
        expected.latitude_e7, expected.longitude_e7 = coarse.latitude_e7, coarse.longitude_e7
    assert coarse == expected
    for name in ("latitude_e7", "longitude_e7", "confidence_permille"):
        expected.ClearField(name)
    expected.captured_at.FromDatetime(dt.datetime.combine(d.captured_at.date(), dt.time(), dt.UTC))
    assert hit == expected


@given(match=MATCHES)
def test_what_is_released_in_full_is_read_back_unchanged(match: Match) -> None:
    back = detection_from_message(redact(match, Redaction.FULL, AGENCY))
    for name in ("plate", "captured_at", "camera", "latitude_e7", "longitude_e7", "confidence_permille", "image"):
        assert getattr(back, name) == getattr(match.detection, name)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"plate": "7abc123"}, "plate", id="a plate in small letters"),
        pytest.param({"plate": "A" * 10_000}, "plate", id="a plate of 10,000 characters"),
        pytest.param({"plate": "АВС123"}, "plate", id="homoglyphs"),
        pytest.param({"state": "California"}, "state", id="a state spelled out"),
        pytest.param({"captured_at": None}, "captured_at", id="no time"),
        pytest.param({"camera": "a\u001b[2J"}, "camera", id="a terminal's escape in the camera"),
        pytest.param({"latitude_e7": None}, "location", id="longitude alone"),
        pytest.param({"latitude_e7": 900_000_001}, "location", id="latitude over 90"),
        pytest.param({"confidence_permille": 1001}, "confidence", id="confidence over 1000"),
        pytest.param({"match": 0}, "match", id="no match class"),
        pytest.param({"match": 77}, "match", id="an unknown match class"),
        pytest.param({"source": "rumour"}, "source", id="an unknown source"),
        pytest.param({"agency": ""}, "agency", id="no agency"),
    ],
)
def test_a_detection_that_no_honest_node_sends_is_refused(change: dict[str, object], field: str) -> None:
    message = redact(Match(detection=detection(), match_class=MatchClass.EXACT), Redaction.FULL, AGENCY)
    for name, value in change.items():
        if value is None:
            message.ClearField(name)  # type: ignore[arg-type]  # names of the table above
        else:
            setattr(message, name, value)
    with pytest.raises(InvalidInput) as caught:
        detection_from_message(message)
    assert {v.field for v in caught.value.violations} == {field}
    assert caught.value.reason == "BAD_DETECTION"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(group())), value=JSON)
def test_no_value_of_any_field_gets_past_as_anything_but_a_valid_detection(name: str, value: object) -> None:
    try:
        raw = encode(group(**{name: value}))
    except TypeError:  # an integer that JSON libraries do not write
        return
    [read] = decode(raw, CONTEXT) or [BadRecord(reason="NONE")]
    if isinstance(read, Detection):
        plate = read.plate
        assert Plate.parse(plate.number, plate.state, state_required=False) == plate
        assert read.captured_at <= NOW + dt.timedelta(minutes=10)
    else:
        assert isinstance(read, BadRecord)
        assert read.reason.isupper()


@settings(max_examples=200)
@given(raw=st.binary(max_size=200), line=st.binary(max_size=100))
def test_any_bytes_at_all_are_refused_without_an_exception(raw: bytes, line: bytes) -> None:
    assert all(isinstance(r, BadRecord) for r in decode(raw, CONTEXT))
    record = b"plate,time,camera\n" + line
    assert len(Csv().open_batch([record])(record, CONTEXT)) == 1


def test_confusable_search_finds_nearly_every_misread_of_the_generated_traffic() -> None:
    path = Path(__file__).parents[1] / "unit" / "node" / "federation.toml"
    federation = Federation.parse(tomllib.loads(path.read_text()))
    wrong = [p for p in traffic("port-alder-1", federation, 5, 60_000, NOW) if p.read != p.number]
    found = sum(skeleton(p.read) in confusable_skeletons(p.number) for p in wrong)
    assert len(wrong) > 1500
    assert found / len(wrong) >= 0.99
