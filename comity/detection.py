"""One vehicle passing one camera, how near it is to the plate asked for, and how much of it is released."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from dataclasses import dataclass, field
from typing import assert_never

from comity import instants
from comity.decision import Redaction
from comity.errors import InvalidInput, Violation
from comity.federation import IDENTIFIER, SOURCES
from comity.plate import Plate
from comity.v1 import outcome_pb2

MAX_CAMERA_CHARACTERS = 64
MAX_SOURCE_ID_CHARACTERS = 256
MAX_IMAGE_CHARACTERS = 200
MAX_WORD_CHARACTERS = 32
MAX_LATITUDE_E7 = 900_000_000
MAX_LONGITUDE_E7 = 1_800_000_000
MAX_MS = 253_402_300_799_999  # the last millisecond of the year 9999
COARSE_E7 = 100_000  # 0.01 degree, about a kilometre


def uid_of(source: str, source_id: str) -> int:
    """A signed 64-bit number for the read that `source` knows as `source_id`; the same in every store."""
    digest = hashlib.blake2b(f"{source}\0{source_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class MatchClass(enum.StrEnum):
    """How near a detection is to what was asked for."""

    EXACT = "exact"
    CONFUSABLE = "confusable"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a camera read. `plate.state` is '' if it was not read, and so are `image`, `make` and `colour`.

    `uid` names the read for good, so that reading the same file twice stores it once. `captured_at` is UTC in
    whole milliseconds. Degrees are WGS 84 times 1e7, both None where unknown; confidence is 0 to 1000 or None.
    `source` is police, toll or commercial. The plate is left out of `repr`, which ends in logs.
    """

    uid: int
    plate: Plate = field(repr=False)
    captured_at: dt.datetime
    camera: str
    latitude_e7: int | None
    longitude_e7: int | None
    confidence_permille: int | None
    source: str
    image: str
    make: str
    colour: str

    @classmethod
    def parse(
        cls,
        *,
        plate: Plate,
        captured_ms: int,
        camera: str,
        source: str,
        source_id: str,
        latitude_e7: int | None = None,
        longitude_e7: int | None = None,
        confidence_permille: int | None = None,
        image: str = "",
        make: str = "",
        colour: str = "",
    ) -> Detection:
        """The detection that `source` knows as `source_id`.

        Raises:
            InvalidInput: naming each bad field of plate, time, camera, source, id, location, confidence, image,
                make, colour; values are not repeated.
        """
        bad = [*_location_faults(latitude_e7, longitude_e7), *_shared_faults(camera, confidence_permille, image)]
        if not camera:
            bad.append(Violation("camera", "must not be empty"))
        if not 0 <= captured_ms <= MAX_MS:
            bad.append(Violation("time", "must be milliseconds since 1970"))
        if source not in SOURCES:
            bad.append(Violation("source", f"must be one of {', '.join(SOURCES)}"))
        if not 0 < len(source_id) <= MAX_SOURCE_ID_CHARACTERS or not source_id.isprintable():
            bad.append(Violation("id", f"must be 1 to {MAX_SOURCE_ID_CHARACTERS} printable characters"))
        for name, word in (("make", make), ("colour", colour)):
            if len(word) > MAX_WORD_CHARACTERS or not word.isprintable():
                bad.append(Violation(name, f"must be at most {MAX_WORD_CHARACTERS} printable characters"))
        if bad:
            raise InvalidInput("not a detection", violations=bad, reason="BAD_DETECTION")
        return cls(
            uid=uid_of(source, source_id),
            plate=plate,
            captured_at=instants.from_ms(captured_ms),
            camera=camera,
            latitude_e7=latitude_e7,
            longitude_e7=longitude_e7,
            confidence_permille=confidence_permille,
            source=source,
            image=image,
            make=make,
            colour=colour,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A detection that answers a search, and how nearly."""

    detection: Detection
    match_class: MatchClass


def redact(match: Match, level: Redaction, agency: str) -> outcome_pb2.Detection:
    """What may leave the node of `agency`: each level releases a part of what the one before it does.

    `no-image` drops the image; `coarse-location` also the camera, and rounds the place to 0.01 degree; `hit-only`
    leaves plate, state, match class, source, agency and the UTC day, which may begin before the window asked for.
    """
    d = match.detection
    out = outcome_pb2.Detection(
        plate=d.plate.number,
        state=d.plate.state,
        match=MATCH_TO_WIRE[match.match_class],
        source=d.source,
        agency=agency,
    )
    if level is Redaction.HIT_ONLY:
        out.captured_at.CopyFrom(instants.to_wire(d.captured_at.replace(hour=0, minute=0, second=0, microsecond=0)))
        return out
    out.captured_at.CopyFrom(instants.to_wire(d.captured_at))
    if d.confidence_permille is not None:
        out.confidence_permille = d.confidence_permille
    located = d.latitude_e7 is not None and d.longitude_e7 is not None
    if level is Redaction.COARSE_LOCATION:
        if located:
            out.latitude_e7, out.longitude_e7 = _coarse(d.latitude_e7), _coarse(d.longitude_e7)
        return out
    if level is not Redaction.FULL and level is not Redaction.NO_IMAGE:
        assert_never(level)  # a level added later releases nothing until it is written here
    out.camera = d.camera
    if located:
        out.latitude_e7, out.longitude_e7 = d.latitude_e7 or 0, d.longitude_e7 or 0
    if level is Redaction.FULL:
        out.image = d.image
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A detection as the investigator has it: '' and None stand for what was redacted or is not known."""

    plate: Plate = field(repr=False)
    captured_at: dt.datetime
    camera: str
    latitude_e7: int | None
    longitude_e7: int | None
    confidence_permille: int | None
    match_class: MatchClass
    source: str
    agency: str
    image: str

    @classmethod
    def parse(cls, message: outcome_pb2.Detection) -> Released:
        """The detection that a node signed.

        Raises:
            InvalidInput: naming every bad field; a plate that is not written as nodes write it is one.
        """
        located = message.HasField("latitude_e7"), message.HasField("longitude_e7")
        latitude = message.latitude_e7 if located[0] else None
        longitude = message.longitude_e7 if located[1] else None
        confidence = message.confidence_permille if message.HasField("confidence_permille") else None
        bad = [
            *_location_faults(latitude, longitude),
            *_shared_faults(message.camera, confidence, message.image),
            *_message_faults(message),
        ]
        plate, captured_at = None, instants.from_wire(message.captured_at)
        try:
            plate = Plate.parse(message.plate, message.state, state_required=False)
        except InvalidInput as e:
            bad.extend(e.violations)
        if plate is not None and (plate.number, plate.state) != (message.plate, message.state):
            bad.append(Violation("plate", "is not in its canonical form"))
        if captured_at is None:
            bad.append(Violation("captured_at", "must be a time from 2000 on"))
        if bad or plate is None or captured_at is None:
            raise InvalidInput("not a detection", violations=bad, reason="BAD_DETECTION")
        return cls(
            plate=plate,
            captured_at=captured_at,
            camera=message.camera,
            latitude_e7=latitude,
            longitude_e7=longitude,
            confidence_permille=confidence,
            match_class=MATCH_FROM_WIRE[message.match],
            source=message.source,
            agency=message.agency,
            image=message.image,
        )

    def as_json(self) -> dict[str, object]:
        """The detection as `comity search --json` writes it; what is not there is null."""
        confidence = self.confidence_permille
        return {
            "plate": self.plate.number,
            "state": self.plate.state or None,
            "seen_at": instants.to_text(self.captured_at),
            "camera": self.camera or None,
            "lat": None if self.latitude_e7 is None else self.latitude_e7 / 1e7,
            "lon": None if self.longitude_e7 is None else self.longitude_e7 / 1e7,
            "confidence": None if confidence is None else confidence / 1000,
            "match": self.match_class.value,
            "source": self.source,
            "agency": self.agency,
        }


def detection_from_message(message: outcome_pb2.Detection) -> Released:
    """As `Released.parse`.

    Raises:
        InvalidInput: as `Released.parse`.
    """
    return Released.parse(message)


MATCH_TO_WIRE = {
    MatchClass.EXACT: outcome_pb2.MATCH_CLASS_EXACT,
    MatchClass.CONFUSABLE: outcome_pb2.MATCH_CLASS_CONFUSABLE,
    MatchClass.PARTIAL: outcome_pb2.MATCH_CLASS_PARTIAL,
}
MATCH_FROM_WIRE = {wire: word for word, wire in MATCH_TO_WIRE.items()}


def _coarse(degrees_e7: int | None) -> int:
    return ((degrees_e7 or 0) + COARSE_E7 // 2) // COARSE_E7 * COARSE_E7


def _location_faults(latitude: int | None, longitude: int | None) -> list[Violation]:
    if latitude is None and longitude is None:
        return []
    if latitude is None or longitude is None:
        return [Violation("location", "needs latitude and longitude, or neither")]
    if abs(latitude) > MAX_LATITUDE_E7 or abs(longitude) > MAX_LONGITUDE_E7:
        return [Violation("location", "must be at most 90 degrees of latitude and 180 of longitude")]
    return []


def _shared_faults(camera: str, confidence: int | None, image: str) -> list[Violation]:
    bad = []
    if len(camera) > MAX_CAMERA_CHARACTERS or not camera.isprintable():
        bad.append(Violation("camera", f"must be at most {MAX_CAMERA_CHARACTERS} printable characters"))
    if confidence is not None and not 0 <= confidence <= 1000:
        bad.append(Violation("confidence", "must be 0 to 1000"))
    if len(image) > MAX_IMAGE_CHARACTERS or not image.isprintable():
        bad.append(Violation("image", f"must be at most {MAX_IMAGE_CHARACTERS} printable characters"))
    return bad


def _message_faults(message: outcome_pb2.Detection) -> list[Violation]:
    bad = []
    if message.match not in MATCH_FROM_WIRE:
        bad.append(Violation("match", "must be exact, confusable or partial"))
    if message.source not in SOURCES:
        bad.append(Violation("source", f"must be one of {', '.join(SOURCES)}"))
    if not IDENTIFIER.match(message.agency):
        bad.append(Violation("agency", "must be an agency's id"))
    return bad
