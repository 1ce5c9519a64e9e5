"""FIWARE AnprFlowObserved: an entity, or the notification in which a context broker sends some.

Source: Smart Data Models, dataModel.Transportation, AnprFlowObserved; ETSI GS CIM 009 (NGSI-LD), section 5.2;
RFC 7946 (GeoJSON), section 3.1.2: longitude comes first.
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
from node.formats.interface import MAX_RECORD_BYTES, BadRecord, Context, Decode, Read, Record

TYPE = "AnprFlowObserved"
MAX_ENTITIES = 256
_URN = "urn:ngsi-ld:"
_ID_CHARACTERS = 128
_WRAPS = ("value", "object", "@value")


class Fiware:
    """One entity or one notification a record."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """See `ReadFormat.open`."""
        return decode, json_records(stream)

    def open_batch(self, records: Sequence[bytes]) -> Decode:  # noqa: ARG002
        """See `ReadFormat.open_batch`."""
        return decode


def decode(raw: bytes, context: Context) -> list[Read]:
    """One item a vehicle; none for one whose plate was not read. A bad entity leaves the others of its record in.

    Values may be plain (key-values) or wrapped (normalized). Confidence is 0 to 1: one above is refused, not scaled.

    Reasons: TOO_LARGE, NOT_JSON, NOT_AN_OBJECT, UNKNOWN_TYPE, BAD_ENTITIES, PLATE_CONTRADICTED, NO_PLATE, BAD_PLATE,
    BAD_TIME, TIME_BEFORE_2000, TIME_IN_FUTURE, BAD_CAMERA, BAD_LOCATION, BAD_CONFIDENCE, BAD_ID.
    """
    if len(raw) > MAX_RECORD_BYTES:
        return [BadRecord(reason="TOO_LARGE")]
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return [BadRecord(reason="NOT_JSON")]
    if type(data) is not dict:
        return [BadRecord(reason="NOT_AN_OBJECT")]
    entities = data.get("data") if "subscriptionId" in data else [data]
    if not isinstance(entities, list) or len(entities) > MAX_ENTITIES:
        return [BadRecord(reason="BAD_ENTITIES")]
    out: list[Read] = []
    for entity in entities:
        try:
            out.extend(_reads(entity, context))
        except (BadField, InvalidInput) as e:
            out.append(fields.bad_record(e))
    return out


def _reads(entity: Any, context: Context) -> list[Detection]:
    if not isinstance(entity, dict):
        raise BadField("NOT_AN_OBJECT")
    if entity.get("type") != TYPE:
        raise BadField("UNKNOWN_TYPE")
    vehicle = _plain(entity.get("observedVehicle"))
    if not isinstance(vehicle, dict):
        vehicle = {}
    plate = _plain(vehicle.get("licensePlate"))
    named = plate if isinstance(plate, dict) else {"identifier": plate}
    number = _plain(named.get("identifier"))
    not_read = _plain(entity.get("vehiclePlateNotRead"))
    if not_read not in (None, True, False):
        raise BadField("PLATE_CONTRADICTED")
    if not_read:
        if number:
            raise BadField("PLATE_CONTRADICTED")
        return []
    return [_detection(entity, vehicle, number, _plain(named.get("confidence")), context)]


def _detection(
    entity: dict[str, Any], vehicle: dict[str, Any], number: Any, confidence: Any, context: Context
) -> Detection:
    identity, lane = _id(entity.get("id")), _plain(entity.get("laneId"))
    at = _plain(entity.get("dateObserved"))
    if not isinstance(at, str):
        raise BadField("BAD_TIME")
    captured_ms = fields.plausible(fields.text_ms(at), context)
    observer = _plain(entity.get("observedBy"))
    camera = identity if observer is None else _id(observer, "BAD_CAMERA")
    latitude, longitude = _point(_plain(entity.get("location")))
    return Detection.parse(
        plate=fields.plate(number, ""),
        captured_ms=captured_ms,
        camera=camera.removeprefix(_URN),
        source=context.source,
        # A context broker keeps one entity and updates it, so that its id alone does not name a read.
        source_id=f"fiware:{identity}:{fields.word(lane)}:{captured_ms}",
        latitude_e7=latitude,
        longitude_e7=longitude,
        confidence_permille=(
            None if confidence is None else fields.permille(fields.finite(confidence, "BAD_CONFIDENCE"), 1)
        ),
        make=_name(vehicle.get("brand")),
        colour=_name(vehicle.get("color")),
    )


def _plain(value: Any) -> Any:
    """The value inside NGSI's wrappings, of which there are at most two."""
    for _ in range(2):
        if not isinstance(value, dict):
            break
        wrapped = next((name for name in _WRAPS if name in value), None)
        if wrapped is None:
            break
        value = value[wrapped]
    return value


def _id(value: Any, reason: str = "BAD_ID") -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _ID_CHARACTERS or not value.isprintable():
        raise BadField(reason)
    return value


def _point(location: Any) -> tuple[int | None, int | None]:
    if location is None:
        return None, None
    coordinates = location.get("coordinates") if isinstance(location, dict) else None
    if not isinstance(location, dict) or location.get("type") != "Point" or not isinstance(coordinates, list):
        raise BadField("BAD_LOCATION")
    if len(coordinates) not in (2, 3):
        raise BadField("BAD_LOCATION")
    longitude, latitude = (fields.finite(c, "BAD_LOCATION") for c in coordinates[:2])
    return fields.place(latitude, longitude)


def _name(value: Any) -> str:
    """Of a brand or a colour, which is a word or an object with a name."""
    plain = _plain(value)
    return fields.word(_plain(plain.get("name")) if isinstance(plain, dict) else plain)
