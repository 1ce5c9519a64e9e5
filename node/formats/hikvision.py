"""Hikvision plate events: an `EventNotificationAlert` in XML, alone or as a multipart body with its JPEGs.

Source: ISAPI, EventNotificationAlert of event type ANPR; RFC 2046, section 5.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO
from xml.parsers import expat  # nosec B407

from comity.detection import Detection
from comity.errors import InvalidInput
from node.formats import fields, multipart
from node.formats.fields import BadField
from node.formats.framing import KEPT_OF_TOO_LARGE
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

ROOT = "EventNotificationAlert"
MAX_DEPTH = 16
MAX_ELEMENTS = 2_000
_XML_TYPES = ("application/xml", "text/xml")
# What cameras write where they saw a vehicle and read no plate. As they write it: a plate is in capital letters.
_UNREAD = ("", "unknown", "noplate", "noPlate", "no plate")
_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}\Z")
_PICTURES = ("detection", "vehicle", "licenseplate")


class Hikvision:
    """One event a record, and one a file."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """See `ReadFormat.open`."""
        return decode, _one(stream)

    def open_batch(self, records: Sequence[bytes]) -> Decode:  # noqa: ARG002
        """See `ReadFormat.open_batch`."""
        return decode


def decode(raw: bytes, context: Context) -> list[Read]:
    """One item; none for a camera's heartbeat or a vehicle whose plate was not read.

    Reasons: TOO_LARGE, BAD_MULTIPART, BAD_XML, UNKNOWN_TYPE, NO_PLATE, BAD_PLATE, BAD_TIME, TIME_BEFORE_2000,
    TIME_IN_FUTURE, BAD_CAMERA, BAD_CONFIDENCE, BAD_ID.
    """
    if len(raw) > MAX_RAW_BYTES:
        return [BadRecord(reason="TOO_LARGE")]
    try:
        if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            document, pictures = raw, list[multipart.Part]()
        else:
            document, pictures = _split(raw)
        said = _leaves(document)
        kind = said.get("eventType", "").lower()
        if kind != "anpr":
            if kind == "videoloss" and said.get("eventState") == "inactive":
                return []
            raise BadField("UNKNOWN_TYPE")
        plate = said.get("ANPR/licensePlate")
        if plate is None:
            raise BadField("NO_PLATE")
        if plate in _UNREAD:
            return []
        detection = _detection(said, context)
    except (BadField, InvalidInput) as e:
        return [fields.bad_record(e)]
    jpeg = _best(pictures) if context.pictures else b""
    return [Pictured(detection=detection, jpeg=jpeg) if jpeg else detection]


def _detection(said: Mapping[str, str], context: Context) -> Detection:
    captured_ms = fields.plausible(fields.text_ms(said.get("dateTime", "")), context)
    camera = _camera(said)
    confidence = said.get("ANPR/confidenceLevel", "")
    identity = said.get("UUID", "") or f"{captured_ms}:{said.get('ANPR/line', '')}"
    if len(identity) > 128 or not identity.isprintable():
        raise BadField("BAD_ID")
    return Detection.parse(
        plate=fields.plate(said["ANPR/licensePlate"], ""),
        captured_ms=captured_ms,
        camera=camera,
        source=context.source,
        source_id=f"hikvision:{camera}:{identity}",
        confidence_permille=(fields.permille(fields.digits(confidence, "BAD_CONFIDENCE"), 100) if confidence else None),
        colour=fields.word(said.get("ANPR/vehicleInfo/color", "")),
    )


def _camera(said: Mapping[str, str]) -> str:
    """The device's hardware address and channel: its name is `Camera 01` on every device of a street."""
    mac = said.get("macAddress", "").lower()
    channel = said.get("channelID", "") or said.get("dynChannelID", "") or "1"
    if not _MAC.match(mac) or not channel.isdecimal() or len(channel) > 5:
        raise BadField("BAD_CAMERA")
    return f"{mac.replace(':', '').replace('-', '')}-{int(channel)}"


def _split(raw: bytes) -> tuple[bytes, list[multipart.Part]]:
    parts = multipart.parts(raw)
    documents = [p for p in parts if p.media_type in _XML_TYPES or p.name.lower().endswith(".xml")]
    # Of two documents nobody can say which one the camera means.
    if len(documents) != 1:
        raise BadField("BAD_MULTIPART")
    return documents[0].content, [p for p in parts if p is not documents[0]]


def _best(pictures: Sequence[multipart.Part]) -> bytes:
    """The picture of the vehicle before that of its plate, and that before any other."""
    known = [p for p in pictures if fields.jpeg(p.content)]
    for wanted in _PICTURES:
        for picture in known:
            if picture.name.lower().startswith(wanted):
                return picture.content
    return known[0].content if known else b""


def _leaves(document: bytes) -> Mapping[str, str]:
    """The text of each element below the root, by its path of local names; of several at one path, the first."""
    if len(document) > MAX_RECORD_BYTES:
        raise BadField("TOO_LARGE")
    # A document type is refused as it begins, so that no entity can be declared: neither one that multiplies nor one
    # that names a file.
    parser, reader = expat.ParserCreate(), _Reader()
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise BadField("BAD_XML") from None
    return reader.leaves


class _Reader:
    """What one document says, within limits of depth and number."""

    def __init__(self) -> None:
        self.leaves: dict[str, str] = {}
        self._path: list[str] = []
        self._text: list[str] = []
        self._elements = 0

    def refuse(self, *_: object) -> None:
        raise BadField("BAD_XML")

    def start(self, name: str, _: object) -> None:
        self._elements += 1
        local = name.rpartition(":")[2]
        if len(self._path) >= MAX_DEPTH or self._elements > MAX_ELEMENTS or (not self._path and local != ROOT):
            raise BadField("BAD_XML")
        self._path.append(local)
        self._text = []

    def text(self, data: str) -> None:
        self._text.append(data)

    def end(self, _: str) -> None:
        self.leaves.setdefault("/".join(self._path[1:]), "".join(self._text).strip())
        self._path.pop()
        self._text = []


def _one(stream: BinaryIO) -> Iterator[Record]:
    raw = stream.read(MAX_RAW_BYTES + 1)
    if len(raw) > MAX_RAW_BYTES:
        stream.seek(0, 2)
        yield Record(line=1, raw=raw[:KEPT_OF_TOO_LARGE], fault="TOO_LARGE")
    elif raw.strip():
        yield Record(line=1, raw=raw)
