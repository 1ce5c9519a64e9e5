"""OpenALPR and Rekor Scout: `alpr_results`, and `alpr_group` of versions 1 and 2.

Source: OpenALPR documentation, "JSON output" and "Vehicle groups".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

from comity.detection import Detection
from comity.errors import InvalidInput
from node.formats import fields
from node.formats.fields import BadField
from node.formats.framing import json_records
from node.formats.interface import (
    MAX_RAW_BYTES,
    MAX_RECORD_BYTES,
    BadRecord,
    Context,
    Decode,
    Pictured,
    Read,
    Record,
)

MAX_RESULTS = 64
_IMAGES = ("vehicle_crop_jpeg", "plate_crop_jpeg", "overview_jpeg", "image_bytes")
_ID_CHARACTERS = 128


class OpenAlpr:
    """One JSON object a record."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """See `ReadFormat.open`."""
        return decode, json_records(stream)

    def open_batch(self, records: Sequence[bytes]) -> Decode:  # noqa: ARG002
        """See `ReadFormat.open_batch`."""
        return decode


def decode(raw: bytes, context: Context) -> list[Read]:
    """One item a plate; none for a frame without plates. A bad plate leaves the others of its record in.

    Reasons: TOO_LARGE, NOT_JSON, NOT_AN_OBJECT, UNKNOWN_TYPE, UNKNOWN_VERSION, BAD_RESULTS, NO_PLATE, BAD_PLATE,
    BAD_STATE, BAD_TIME, TIME_BEFORE_2000, TIME_IN_FUTURE, BAD_CAMERA, BAD_LOCATION, BAD_CONFIDENCE, BAD_ID.
    """
    if len(raw) > MAX_RAW_BYTES:
        return [BadRecord(reason="TOO_LARGE")]
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return [BadRecord(reason="NOT_JSON")]
    if type(data) is not dict:
        return [BadRecord(reason="NOT_AN_OBJECT")]
    if len(raw) > MAX_RECORD_BYTES and len(raw) - _image_bytes(data) > MAX_RECORD_BYTES:
        return [BadRecord(reason="TOO_LARGE")]
    kind = data.get("data_type")
    try:
        if kind == "alpr_group":
            return [_pictured(_group(data, context), data, context)]
        if kind == "alpr_results":
            return [_pictured(read, data, context) for read in _results(data, context)]
    except (BadField, InvalidInput) as e:
        return [fields.bad_record(e)]
    return [BadRecord(reason="UNKNOWN_TYPE")]


def _group(data: dict[str, Any], context: Context) -> Detection:
    """One vehicle passing; `best_plate_number` is the group's word, `best_plate` that of its best frame."""
    if data.get("version", 1) not in (1, 2):
        raise BadField("UNKNOWN_VERSION")
    best = data.get("best_plate")
    if not isinstance(best, dict):
        best = {}
    at = data.get("best_uuid_epoch_ms")
    identity = _identity(data.get("best_uuid"))
    camera = _camera(data.get("camera_id"))
    vehicle = data.get("vehicle")
    if not isinstance(vehicle, dict):
        vehicle = {}
    latitude, longitude = fields.place(_degrees(data.get("gps_latitude")), _degrees(data.get("gps_longitude")))
    return Detection.parse(
        plate=fields.plate(
            data.get("best_plate_number", best.get("plate")),
            fields.state_of_region(data.get("best_region", best.get("region"))),
        ),
        captured_ms=fields.plausible(fields.epoch_ms(data.get("epoch_start") if at is None else at), context),
        camera=camera,
        source=context.source,
        source_id=f"group:{camera}:{identity}",
        latitude_e7=latitude,
        longitude_e7=longitude,
        confidence_permille=_confidence(data.get("best_confidence", best.get("confidence"))),
        image=identity,
        make=_likeliest(vehicle.get("make")),
        colour=_likeliest(vehicle.get("color")),
    )


def _results(data: dict[str, Any], context: Context) -> list[Read]:
    """One detection for each plate in the frame; they share camera, time and image."""
    identity = _identity(data.get("uuid"))
    camera = _camera(data.get("camera_id"))
    captured_ms = fields.plausible(fields.epoch_ms(data.get("epoch_time")), context)
    results = data.get("results")
    if not isinstance(results, list) or len(results) > MAX_RESULTS:
        raise BadField("BAD_RESULTS")
    out: list[Read] = []
    for i, result in enumerate(results):
        try:
            number, confidence = _best_candidate(result)
            out.append(
                Detection.parse(
                    plate=fields.plate(number, fields.state_of_region(result.get("region"))),
                    captured_ms=captured_ms,
                    camera=camera,
                    source=context.source,
                    source_id=f"result:{camera}:{identity}:{i}",
                    confidence_permille=_confidence(confidence),
                    image=identity,
                )
            )
        except (BadField, InvalidInput) as e:
            out.append(fields.bad_record(e))
    return out


def _best_candidate(result: Any) -> tuple[Any, Any]:
    """The plate that the agent put first and its confidence; without one, its likeliest candidate."""
    if not isinstance(result, dict):
        raise BadField("BAD_RESULTS")
    if "plate" in result:
        return result["plate"], result.get("confidence")
    candidates = result.get("candidates")
    if not isinstance(candidates, list) or not candidates or not all(isinstance(c, dict) for c in candidates):
        raise BadField("NO_PLATE")
    best = max(candidates, key=lambda c: fields.finite(c.get("confidence"), "BAD_CONFIDENCE"))
    return best.get("plate"), best["confidence"]


def _identity(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _ID_CHARACTERS or not value.isprintable():
        raise BadField("BAD_ID")
    return value


def _camera(value: Any) -> str:
    """`camera_id` is a number in most agents and text in some."""
    if type(value) is int and 0 <= value < 2**63:
        return str(value)
    if not isinstance(value, str):
        raise BadField("BAD_CAMERA")
    return value.strip()


def _degrees(value: Any) -> float | None:
    return None if value is None else fields.finite(value, "BAD_LOCATION")


def _confidence(value: Any) -> int | None:
    return None if value is None else fields.permille(fields.finite(value, "BAD_CONFIDENCE"), 100)


def _likeliest(guesses: Any) -> str:
    """The name of the first guess, which agents sort by confidence; '' if it is not a plain word."""
    if not isinstance(guesses, list) or not guesses or not isinstance(guesses[0], dict):
        return ""
    return fields.word(guesses[0].get("name"))


def _pictured(read: Read, data: dict[str, Any], context: Context) -> Read:
    """The read with its picture, if it has one and they are asked for: the vehicle before the plate, then the frame."""
    if not context.pictures or not isinstance(read, Detection):
        return read
    best = data.get("best_plate")
    parts = [data, best] if isinstance(best, dict) else [data]
    for name in _IMAGES:
        for part in parts:
            if jpeg := fields.jpeg_base64(part.get(name)):
                return Pictured(detection=read, jpeg=jpeg)
    return read


def _image_bytes(data: dict[str, Any]) -> int:
    """What the images of a record take of its size."""
    parts = [data, data.get("best_plate"), *(data["results"] if isinstance(data.get("results"), list) else ())]
    values = [part.get(name) for part in parts if isinstance(part, dict) for name in _IMAGES]
    return sum(len(v) for v in values if isinstance(v, str))
