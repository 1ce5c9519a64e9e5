"""OpenALPR records: what is read from a good one, and why a bad one is set aside."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate
from node.formats.interface import MAX_RECORD_BYTES, BadRecord
from node.formats.openalpr import decode
from tests.unit.node.samples import CONTEXT, NOW_MS, encode, group, result


def only(raw: bytes) -> Detection:
    [read] = decode(raw, CONTEXT)
    assert isinstance(read, Detection), read
    return read


def reason(raw: bytes) -> str:
    [read] = decode(raw, CONTEXT)
    assert isinstance(read, BadRecord), "was taken"
    return read.reason


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_is_one_detection_at_the_time_of_its_best_frame(version: int) -> None:
    d = only(encode(group(version=version)))
    assert d.plate == Plate(number="7ABC123", state="CA")
    assert to_ms(d.captured_at) == NOW_MS - 60_000
    assert (d.camera, d.latitude_e7, d.longitude_e7) == ("14", 377_900_000, -1_222_400_000)
    assert (d.confidence_permille, d.source, d.make, d.colour, d.image) == (931, "police", "honda", "blue", "u-1")


def test_a_group_without_best_plate_number_takes_its_best_plate() -> None:
    record = group(best_plate={"plate": "8XYZ999", "region": "us-nv", "confidence": 50})
    for key in ("best_plate_number", "best_region", "best_confidence"):
        del record[key]
    d = only(encode(record))
    assert (d.plate.number, d.plate.state, d.confidence_permille) == ("8XYZ999", "NV", 500)


def test_a_result_with_several_plates_gives_a_detection_each() -> None:
    plates = [{"plate": "AAA111", "confidence": 90}, {"plate": "BBB222", "confidence": 80}]
    reads = decode(encode(result(results=plates)), CONTEXT)
    assert [r.plate.number for r in reads if isinstance(r, Detection)] == ["AAA111", "BBB222"]
    assert len({r.uid for r in reads if isinstance(r, Detection)}) == 2


def test_a_bad_plate_leaves_the_other_plates_of_its_record_in() -> None:
    reads = decode(encode(result(results=[{"plate": "AAA111"}, {"plate": "Ааа111"}])), CONTEXT)
    assert isinstance(reads[0], Detection)
    assert reads[1] == BadRecord(reason="BAD_PLATE")


def test_a_frame_without_plates_is_no_bad_record() -> None:
    assert decode(encode(result(results=[])), CONTEXT) == []


def test_without_a_plate_of_its_own_a_result_takes_its_likeliest_candidate() -> None:
    candidates = [{"plate": "A137O9", "confidence": 71.0}, {"plate": "A13709", "confidence": 88.0}]
    assert only(encode(result(results=[{"candidates": candidates}]))).plate.number == "A13709"


@pytest.mark.parametrize(
    ("epoch", "ms"),
    [
        pytest.param((NOW_MS - 5000) // 1000, NOW_MS - 5000, id="seconds"),
        pytest.param(NOW_MS - 5000, NOW_MS - 5000, id="milliseconds"),
        pytest.param((NOW_MS - 5500) / 1000, NOW_MS - 5500, id="seconds with a fraction"),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_size(epoch: float, ms: int) -> None:
    assert to_ms(only(encode(result(epoch_time=epoch))).captured_at) == ms


@pytest.mark.parametrize(
    ("region", "state"),
    [("us-ca", "CA"), ("US-TX", "TX"), ("us", ""), ("", ""), (None, ""), ("eu-de", "")],
)
def test_only_a_region_of_the_united_states_is_an_issuing_state(region: str | None, state: str) -> None:
    assert only(encode(group(best_region=region))).plate.state == state


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gps_latitude": None, "gps_longitude": None}, id="null"),
        pytest.param({"gps_latitude": 0, "gps_longitude": 0}, id="zero, zero"),
    ],
)
def test_an_agent_without_position_gives_a_detection_without_place(changes: dict[str, Any]) -> None:
    d = only(encode(group(**changes)))
    assert (d.latitude_e7, d.longitude_e7) == (None, None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"best_plate_number": ""}, "NO_PLATE", id="no plate"),
        pytest.param({"best_plate_number": 7}, "NO_PLATE", id="a plate that is a number"),
        pytest.param({"best_plate_number": "A" * 10_000}, "BAD_PLATE", id="a plate of 10,000 characters"),
        pytest.param({"best_plate_number": "АВС123"}, "BAD_PLATE", id="homoglyphs"),
        pytest.param({"best_plate_number": "7AB\u0000C123"}, "BAD_PLATE", id="a control character"),
        pytest.param({"best_plate_number": "7AB\u202eC12"}, "BAD_PLATE", id="a change of direction"),
        pytest.param({"best_plate_number": "7AB*"}, "BAD_PLATE", id="a wildcard"),
        pytest.param({"best_region": 5}, "BAD_STATE", id="a region that is a number"),
        pytest.param({"best_region": "us-california"}, "BAD_STATE", id="a region spelled out"),
        pytest.param({"best_uuid_epoch_ms": "now"}, "BAD_TIME", id="a time in words"),
        pytest.param({"best_uuid_epoch_ms": True}, "BAD_TIME", id="a truth value for a time"),
        pytest.param({"best_uuid_epoch_ms": 1e300}, "BAD_TIME", id="a time out of all range"),
        pytest.param({"best_uuid_epoch_ms": 946_684_799_999}, "TIME_BEFORE_2000", id="before 2000"),
        pytest.param({"best_uuid_epoch_ms": NOW_MS + 600_001}, "TIME_IN_FUTURE", id="over ten minutes ahead"),
        pytest.param({"camera_id": ""}, "BAD_CAMERA", id="no camera"),
        pytest.param({"camera_id": "c" * 65}, "BAD_CAMERA", id="a camera name too long"),
        pytest.param({"camera_id": "a\nb"}, "BAD_CAMERA", id="a line end in a camera name"),
        pytest.param({"camera_id": [1]}, "BAD_CAMERA", id="a camera that is a list"),
        pytest.param({"gps_latitude": 91}, "BAD_LOCATION", id="latitude over 90"),
        pytest.param({"gps_longitude": None}, "BAD_LOCATION", id="latitude alone"),
        pytest.param({"best_confidence": 101}, "BAD_CONFIDENCE", id="confidence over 100"),
        pytest.param({"best_confidence": -1}, "BAD_CONFIDENCE", id="confidence under 0"),
        pytest.param({"best_uuid": None}, "BAD_ID", id="no id"),
        pytest.param({"best_uuid": "u" * 200}, "BAD_ID", id="an id too long"),
        pytest.param({"version": 3}, "UNKNOWN_VERSION", id="a version to come"),
        pytest.param({"data_type": "heartbeat"}, "UNKNOWN_TYPE", id="another type"),
        pytest.param({"notes": "x" * MAX_RECORD_BYTES}, "TOO_LARGE", id="large without images"),
        pytest.param({"overview_jpeg": "x" * (4 << 20)}, "TOO_LARGE", id="over 4 MiB with images"),
    ],
)
def test_a_bad_group_is_set_aside_with_its_own_reason(changes: dict[str, Any], why: str) -> None:
    assert reason(encode(group(**changes))) == why


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        pytest.param(b"", "NOT_JSON", id="nothing"),
        pytest.param(encode(group())[:-9], "NOT_JSON", id="cut off"),
        pytest.param(b"\x00" * 64, "NOT_JSON", id="zero bytes"),
        pytest.param(b"[" * 200_000, "NOT_JSON", id="nested without end"),
        pytest.param(b'{"data_type": "\xff"}', "NOT_JSON", id="not UTF-8"),
        pytest.param(b'{"data_type":"alpr_group","gps_latitude":NaN}', "NOT_JSON", id="NaN"),
        pytest.param(b"[]", "NOT_AN_OBJECT", id="a list"),
        pytest.param(encode(result(results="none")), "BAD_RESULTS", id="results in words"),
        pytest.param(encode(result(results=[{}] * 65)), "BAD_RESULTS", id="65 results"),
        pytest.param(encode(result(results=[5])), "BAD_RESULTS", id="a result that is a number"),
        pytest.param(encode(result(results=[{"candidates": [7]}])), "NO_PLATE", id="candidates that are numbers"),
        pytest.param(encode(result(epoch_time=None)), "BAD_TIME", id="no time"),
    ],
)
def test_what_is_no_record_is_set_aside_with_its_own_reason(raw: bytes, why: str) -> None:
    assert reason(raw) == why


def test_images_do_not_count_against_the_size_of_a_record() -> None:
    image = "x" * (3 * MAX_RECORD_BYTES)
    assert only(encode(group(overview_jpeg=image, vehicle_crop_jpeg=image))).plate.number == "7ABC123"


def test_infinity_in_digits_is_refused() -> None:
    raw = encode(group(gps_latitude=-1)).replace(b'"gps_latitude":-1', b'"gps_latitude":1e999')
    assert reason(raw) in {"NOT_JSON", "BAD_LOCATION"}


def test_the_same_record_twice_has_the_same_uid_and_another_camera_another() -> None:
    first, again, other = (only(encode(group(**c))).uid for c in ({}, {}, {"camera_id": 15}))
    assert first == again != other


def test_no_reason_repeats_what_the_record_says() -> None:
    raw = orjson.dumps(group(best_plate_number="7SECRET9XX", camera_id=""))
    assert "SECRET" not in str(decode(raw, CONTEXT))
