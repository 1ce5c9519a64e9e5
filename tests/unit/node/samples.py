"""Detections and camera records that tests change one thing of."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate
from node.formats.interface import Context

NOW = dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC)
NOW_MS = to_ms(NOW)
CONTEXT = Context(source="police", now_ms=NOW_MS)
YEAR_S = 365 * 86_400


def clock() -> dt.datetime:
    return NOW


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def detection(number: str = "7ABC123", state: str = "CA", seconds: float = 60, **fields: Any) -> Detection:
    """A read of `number`, `seconds` before NOW; its id is what it says unless `source_id` is given."""
    values: dict[str, Any] = {
        "camera": "pa-001",
        "source": "police",
        "source_id": f"{number}/{state}/{seconds}",
        "latitude_e7": 377_912_345,
        "longitude_e7": -1_222_412_345,
        "confidence_permille": 931,
        "image": "img-1",
        "make": "honda",
        "colour": "blue",
    } | fields
    plate = Plate.parse(number, state, state_required=False)
    return Detection.parse(plate=plate, captured_ms=to_ms(ago(seconds)), **values)


def group(**changes: Any) -> dict[str, Any]:
    """An `alpr_group` of version 2, a minute before NOW."""
    return {
        "data_type": "alpr_group",
        "version": 2,
        "epoch_start": NOW_MS - 61_000,
        "epoch_end": NOW_MS - 59_000,
        "camera_id": 14,
        "gps_latitude": 37.79,
        "gps_longitude": -122.24,
        "best_plate": {"plate": "7ABC123", "confidence": 93.1, "region": "us-ca"},
        "best_confidence": 93.1,
        "best_plate_number": "7ABC123",
        "best_region": "us-ca",
        "best_uuid": "u-1",
        "best_uuid_epoch_ms": NOW_MS - 60_000,
        "vehicle": {"color": [{"name": "blue", "confidence": 80}], "make": [{"name": "honda", "confidence": 80}]},
    } | changes


def result(**changes: Any) -> dict[str, Any]:
    """An `alpr_results` with one plate, a minute before NOW."""
    return {
        "data_type": "alpr_results",
        "uuid": "r-1",
        "camera_id": 14,
        "epoch_time": NOW_MS - 60_000,
        "results": [{"plate": "7ABC123", "confidence": 93.1, "region": "us-ca", "candidates": []}],
    } | changes


JPEG = b"\xff\xd8\xff\xe0" + b"picture" * 8


def observed(**changes: Any) -> dict[str, Any]:
    """A FIWARE AnprFlowObserved with key-values, a minute before NOW."""
    return {
        "id": "urn:ngsi-ld:AnprFlowObserved:5th-street",
        "type": "AnprFlowObserved",
        "dateObserved": "2026-01-31T11:59:00Z",
        "observedBy": "urn:ngsi-ld:Device:anpr-1",
        "laneId": "2",
        "location": {"type": "Point", "coordinates": [-122.24, 37.79]},
        "vehiclePlateNotRead": False,
        "observedVehicle": {
            "direction": "away",
            "brand": {"name": "honda", "confidence": 0.9},
            "color": "blue",
            "licensePlate": {"identifier": "7ABC123", "confidence": 0.931},
        },
    } | changes


def alert(*, root: str = "EventNotificationAlert", extra: str = "", **changes: str) -> bytes:
    """A Hikvision plate event, a minute before NOW, in a zone eight hours ahead."""
    said = {
        "time": "2026-01-31T19:59:00+08:00",
        "plate": "7ABC123",
        "confidence": "93",
        "mac": "4c:bd:8f:00:00:01",
        "channel": "1",
        "kind": "ANPR",
        "state": "active",
        "uuid": "e-1",
    } | changes
    return f"""<?xml version="1.0" encoding="UTF-8"?>{extra}
<{root} version="2.0" xmlns="http://www.isapi.org/ver20/XMLSchema">
<macAddress>{said["mac"]}</macAddress><channelID>{said["channel"]}</channelID><dateTime>{said["time"]}</dateTime>
<eventType>{said["kind"]}</eventType><eventState>{said["state"]}</eventState>
<ANPR><licensePlate>{said["plate"]}</licensePlate><line>1</line><direction>forward</direction>
<confidenceLevel>{said["confidence"]}</confidenceLevel><vehicleInfo><color>blue</color></vehicleInfo></ANPR>
<UUID>{said["uuid"]}</UUID></{root}>""".encode()


def multipart(*parts: tuple[str, str, bytes], boundary: str = "boundary") -> bytes:
    """A body of parts: name, media type and content each."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, kind, content in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def encode(record: object) -> bytes:
    return orjson.dumps(record)
