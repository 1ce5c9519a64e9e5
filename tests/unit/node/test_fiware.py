"""FIWARE observations: what is read from a good one, and why a bad one is set aside."""

from __future__ import annotations

from typing import Any

import pytest

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate
from node.formats.fiware import decode
from node.formats.interface import MAX_RECORD_BYTES, BadRecord
from tests.unit.node.samples import CONTEXT, NOW_MS, encode, observed

NORMALIZED = {
    "id": "urn:ngsi-ld:AnprFlowObserved:5th-street",
    "type": "AnprFlowObserved",
    "dateObserved": {"type": "Property", "value": {"@type": "DateTime", "@value": "2026-01-31T11:59:00Z"}},
    "observedBy": {"type": "Relationship", "object": "urn:ngsi-ld:Device:anpr-1"},
    "laneId": {"type": "Property", "value": "2"},
    "location": {"type": "GeoProperty", "value": {"type": "Point", "coordinates": [-122.24, 37.79]}},
    "vehiclePlateNotRead": {"type": "Property", "value": False},
    "observedVehicle": {
        "type": "Property",
        "value": {
            "brand": "honda",
            "color": "blue",
            "licensePlate": {"identifier": "7ABC123", "confidence": 0.931},
        },
    },
}


def vehicle(identifier: Any = "7ABC123", **plate: Any) -> dict[str, Any]:
    return {"licensePlate": {"identifier": identifier, **plate}}


def only(entity: object) -> Detection:
    [read] = decode(encode(entity), CONTEXT)
    assert isinstance(read, Detection), read
    return read


@pytest.mark.parametrize("entity", [observed(), NORMALIZED], ids=["key-values", "normalized"])
def test_an_observation_is_one_detection(entity: dict[str, Any]) -> None:
    d = only(entity)
    assert d.plate == Plate(number="7ABC123", state="")
    assert to_ms(d.captured_at) == NOW_MS - 60_000
    assert (d.camera, d.make, d.colour) == ("Device:anpr-1", "honda", "blue")
    assert (d.latitude_e7, d.longitude_e7) == (377_900_000, -1_222_400_000)


def test_the_same_observation_in_both_writings_is_one_read() -> None:
    assert only(observed()).uid == only(NORMALIZED).uid


def test_a_confidence_is_of_one_and_never_of_a_hundred() -> None:
    assert only(observed()).confidence_permille == 931
    assert decode(encode(observed(observedVehicle=vehicle(confidence=93.1))), CONTEXT) == [
        BadRecord(reason="BAD_CONFIDENCE")
    ]


def test_an_entity_that_is_updated_is_a_read_each_time() -> None:
    later = observed(dateObserved="2026-01-31T11:59:30Z")
    assert only(observed()).uid != only(later).uid


def test_a_time_with_an_offset_is_taken_to_utc() -> None:
    assert to_ms(only(observed(dateObserved="2026-01-31T04:59:00-07:00")).captured_at) == NOW_MS - 60_000


def test_without_a_device_the_entity_is_the_camera() -> None:
    entity = observed()
    del entity["observedBy"]
    assert only(entity).camera == "AnprFlowObserved:5th-street"


def test_a_vehicle_whose_plate_was_not_read_is_no_bad_record() -> None:
    assert decode(encode(observed(vehiclePlateNotRead=True, observedVehicle={"speed": 50})), CONTEXT) == []


def test_a_notification_gives_each_of_its_entities_and_a_bad_one_leaves_the_others_in() -> None:
    sent = {"subscriptionId": "s-1", "data": [observed(), observed(type="Vehicle"), observed(laneId="3")]}
    reads = decode(encode(sent), CONTEXT)
    assert [isinstance(r, Detection) for r in reads] == [True, False, True]
    assert reads[1] == BadRecord(reason="UNKNOWN_TYPE")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"vehiclePlateNotRead": True}, "PLATE_CONTRADICTED", id="a plate that was not read"),
        pytest.param({"vehiclePlateNotRead": "no"}, "PLATE_CONTRADICTED", id="a text for a truth value"),
        pytest.param({"observedVehicle": {}}, "NO_PLATE", id="no plate"),
        pytest.param({"observedVehicle": vehicle(17)}, "NO_PLATE", id="a number for a plate"),
        pytest.param({"observedVehicle": vehicle("7АВС123")}, "BAD_PLATE", id="a plate in look-alike letters"),
        pytest.param({"observedVehicle": vehicle(confidence=True)}, "BAD_CONFIDENCE", id="a truth value's confidence"),
        pytest.param({"dateObserved": "2026-01-31T11:59:00"}, "BAD_TIME", id="a time without its zone"),
        pytest.param({"dateObserved": 1}, "BAD_TIME", id="a time that is no text"),
        pytest.param({"dateObserved": "2026-01-31T12:11:00Z"}, "TIME_IN_FUTURE", id="a clock ahead"),
        pytest.param({"dateObserved": "1999-12-31T23:59:59Z"}, "TIME_BEFORE_2000", id="a clock that began anew"),
        pytest.param({"location": {"type": "Point", "coordinates": [37.79]}}, "BAD_LOCATION", id="half a place"),
        pytest.param(
            {"location": {"type": "Point", "coordinates": [0, 122.2]}}, "BAD_LOCATION", id="lat. and lon. swapped"
        ),
        pytest.param({"location": {"type": "Polygon", "coordinates": []}}, "BAD_LOCATION", id="an area"),
        pytest.param({"id": ""}, "BAD_ID", id="no id"),
        pytest.param({"id": "a\nb"}, "BAD_ID", id="an id of two lines"),
        pytest.param({"observedBy": 4}, "BAD_CAMERA", id="a device that is a number"),
        pytest.param({"type": "Vehicle"}, "UNKNOWN_TYPE", id="another entity"),
    ],
)
def test_an_observation_is_set_aside_for(changes: dict[str, Any], reason: str) -> None:
    assert decode(encode(observed(**changes)), CONTEXT) == [BadRecord(reason=reason)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"{", "NOT_JSON", id="a torn record"),
        pytest.param(b"[]", "NOT_AN_OBJECT", id="a list"),
        pytest.param(b" " * (MAX_RECORD_BYTES + 1), "TOO_LARGE", id="a record over 256 KiB"),
        pytest.param(encode({"subscriptionId": "s", "data": {}}), "BAD_ENTITIES", id="a notification of no list"),
        pytest.param(encode({"subscriptionId": "s", "data": [{}] * 257}), "BAD_ENTITIES", id="one of 257 entities"),
    ],
)
def test_a_record_is_set_aside_as_a_whole_for(raw: bytes, reason: str) -> None:
    assert decode(raw, CONTEXT) == [BadRecord(reason=reason)]
