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


def encode(record: object) -> bytes:
    return orjson.dumps(record)
