"""What is searched: a whole plate, a part of one, a place, or what travels together with a plate.

A query that would sweep up too much is refused with QUERY_TOO_WIDE by whoever reads it first: the investigator's own
client, the broker, and every node again. The limits hold for everybody; a policy may be narrower.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass, field

from comity.errors import InvalidInput, Violation
from comity.plate import MAX_PLATE_CHARACTERS, Plate
from comity.purpose import Act
from comity.v1 import inquiry_pb2

MIN_LITERALS = 3
MAX_PATTERN_CHARACTERS = 20
MAX_RADIUS_M = 5_000
MAX_LATITUDE_E7 = 850_000_000  # nearer the poles a circle is not what `Circle.contains` takes it for
MAX_LONGITUDE_E7 = 1_800_000_000
MAX_AREA_WINDOW = dt.timedelta(hours=24)
MAX_WITHIN_S = 300
MIN_CAMERAS, MAX_CAMERAS = 2, 20
MAX_CONVOY_WINDOW = dt.timedelta(days=7)
MAX_CAMERA_CHARACTERS = 64
METRES_PER_E7 = 6_371_008.8 * math.pi / 180 / 1e7  # along a meridian. Source: IUGG mean earth radius
TURN_E7 = 3_600_000_000
_PATTERN = re.compile(rf"[A-Z0-9?*]{{1,{MAX_PATTERN_CHARACTERS}}}\Z")
_STATE = re.compile(r"([A-Z]{2})?\Z")
_PUNCTUATION = str.maketrans("", "", " -.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateQuery:
    """One whole plate with its issuing state."""

    plate: Plate = field(repr=False)

    @classmethod
    def parse(cls, number: str, state: str) -> PlateQuery:
        """The query for a plate as a person writes it.

        Raises:
            InvalidInput: BAD_PLATE.
        """
        return cls(plate=Plate.parse(number, state))

    def encode(self) -> bytes:
        """The bytes to commit to."""
        return inquiry_pb2.Query(plate=_plate_message(self.plate)).SerializeToString()

    @property
    def words(self) -> str:
        """What it asks for, to be shown to a person."""
        return f"{self.plate.number} {self.plate.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternQuery:
    """A part of a plate: `?` is one character, `*` any number of them, none too. `state` may be empty: any."""

    pattern: str = field(repr=False)
    state: str

    @classmethod
    def parse(cls, pattern: str, state: str) -> PatternQuery:
        """The pattern as a person writes it.

        Raises:
            InvalidInput: BAD_QUERY, not a pattern that a plate can have; QUERY_TOO_WIDE, too few characters known.
        """
        short = len(pattern) <= 2 * MAX_PATTERN_CHARACTERS and pattern.isascii()
        text = pattern.translate(_PUNCTUATION).upper() if short else ""
        text = re.sub(r"\*+", "*", text)
        code = state.strip().upper() if len(state) <= 8 and state.isascii() else "-"
        bad = []
        if not _PATTERN.match(text) or len(text.replace("*", "")) > MAX_PLATE_CHARACTERS:
            bad.append(Violation("pattern", f"must be at most {MAX_PLATE_CHARACTERS} of A-Z, 0-9 and ?, and *"))
        if not _STATE.match(code):
            bad.append(Violation("state", "must be the two letters of the issuing state, or empty"))
        if bad:
            raise InvalidInput("not a part of a plate", violations=bad, reason="BAD_QUERY")
        if len(text) - text.count("?") - text.count("*") < MIN_LITERALS:
            raise _too_wide("pattern", f"needs {MIN_LITERALS} known characters at least: add what else was seen")
        return cls(pattern=text, state=code)

    def encode(self) -> bytes:
        """The bytes to commit to."""
        message = inquiry_pb2.PatternQuery(pattern=self.pattern, state=self.state)
        return inquiry_pb2.Query(pattern=message).SerializeToString()

    def matches(self, plate: Plate) -> bool:
        """True if `plate` fits: every character as it was read, and its state the one asked for or not read."""
        wanted = "".join({"?": ".", "*": ".*"}.get(c, c) for c in self.pattern)
        return bool(re.fullmatch(wanted, plate.number)) and (not self.state or plate.state in ("", self.state))

    @property
    def words(self) -> str:
        """What it asks for, to be shown to a person."""
        return f"plates like {self.pattern} {self.state or 'of any state'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """A circle on the ground: its middle in degrees (WGS 84) times 1e7, its radius in metres."""

    latitude_e7: int
    longitude_e7: int
    radius_m: int

    @property
    def scale(self) -> float:
        """How much shorter a degree of longitude is here than one of latitude."""
        return math.cos(math.radians(self.latitude_e7 / 1e7))

    @property
    def radius_e7(self) -> float:
        """The radius in 1e-7 degrees of latitude."""
        return self.radius_m / METRES_PER_E7

    def contains(self, latitude_e7: int, longitude_e7: int, *, slack_e7: int = 0) -> bool:
        """True if the point is inside, or may be if each of its coordinates is off by up to `slack_e7`.

        Flat-earth distance: less than 0.1 % off at the sizes and latitudes that are allowed.
        """
        across = abs(longitude_e7 - self.longitude_e7)
        x = max(0, min(across, TURN_E7 - across) - slack_e7) * self.scale
        y = max(0, abs(latitude_e7 - self.latitude_e7) - slack_e7)
        return x * x + y * y <= self.radius_e7 * self.radius_e7


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaQuery:
    """Every plate seen in a circle, or by one camera: exactly one of the two; `camera` is empty for a circle."""

    circle: Circle | None
    camera: str

    @classmethod
    def parse(cls, *, circle: Circle | None = None, camera: str = "") -> AreaQuery:
        """The query for a place.

        Raises:
            InvalidInput: BAD_QUERY, not a place; QUERY_TOO_WIDE, over 5 km.
        """
        bad = []
        if (circle is None) == (not camera):
            bad.append(Violation("area", "must be either a circle or a camera"))
        if len(camera) > MAX_CAMERA_CHARACTERS or not camera.isprintable():
            bad.append(Violation("camera", f"must be at most {MAX_CAMERA_CHARACTERS} printable characters"))
        if circle is not None:
            if abs(circle.latitude_e7) > MAX_LATITUDE_E7 or abs(circle.longitude_e7) > MAX_LONGITUDE_E7:
                bad.append(Violation("circle", "must lie within 85 degrees of latitude and 180 of longitude"))
            if circle.radius_m < 1:
                bad.append(Violation("circle", "must have a radius of a metre at least"))
        if bad:
            raise InvalidInput("not an area", violations=bad, reason="BAD_QUERY")
        if circle is not None and circle.radius_m > MAX_RADIUS_M:
            raise _too_wide("circle", f"may reach {MAX_RADIUS_M // 1000} km at most: name a smaller radius or a camera")
        return cls(circle=circle, camera=camera)

    def encode(self) -> bytes:
        """The bytes to commit to."""
        message = inquiry_pb2.AreaQuery(camera=self.camera)
        if self.circle is not None:
            c = self.circle
            message = inquiry_pb2.AreaQuery(
                circle=inquiry_pb2.Circle(latitude_e7=c.latitude_e7, longitude_e7=c.longitude_e7, radius_m=c.radius_m)
            )
        return inquiry_pb2.Query(area=message).SerializeToString()

    @property
    def words(self) -> str:
        """What it asks for, to be shown to a person."""
        if self.circle is None:
            return f"every plate at camera {self.camera}"
        c = self.circle
        return f"every plate within {c.radius_m} m of {c.latitude_e7 / 1e7:.5f}, {c.longitude_e7 / 1e7:.5f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvoyQuery:
    """Plates seen within so many seconds of one plate, at so many of an agency's cameras."""

    plate: Plate = field(repr=False)
    within_s: int
    cameras: int

    @classmethod
    def parse(cls, number: str, state: str, *, within_s: int, cameras: int) -> ConvoyQuery:
        """The query for what travels with a plate.

        Raises:
            InvalidInput: BAD_PLATE; BAD_QUERY, no such number of seconds or cameras; QUERY_TOO_WIDE.
        """
        plate = Plate.parse(number, state)
        if within_s < 1 or not 0 < cameras <= MAX_CAMERAS:
            what = Violation("convoy", f"must be a second at least, and 1 to {MAX_CAMERAS} cameras")
            raise InvalidInput("not a convoy", violations=[what], reason="BAD_QUERY")
        if within_s > MAX_WITHIN_S or cameras < MIN_CAMERAS:
            what_else = f"must be within {MAX_WITHIN_S} seconds, at {MIN_CAMERAS} cameras or more"
            raise _too_wide("convoy", what_else)
        return cls(plate=plate, within_s=within_s, cameras=cameras)

    def encode(self) -> bytes:
        """The bytes to commit to."""
        message = inquiry_pb2.ConvoyQuery(
            plate=_plate_message(self.plate), within_s=self.within_s, cameras=self.cameras
        )
        return inquiry_pb2.Query(convoy=message).SerializeToString()

    @property
    def words(self) -> str:
        """What it asks for, to be shown to a person."""
        plate = f"{self.plate.number} {self.plate.state}"
        return f"plates within {self.within_s} s of {plate} at {self.cameras} cameras or more"


Query = PlateQuery | PatternQuery | AreaQuery | ConvoyQuery
_KIND = {
    Act.EXACT: "plate",
    Act.CONFUSABLE: "plate",
    Act.PARTIAL: "pattern",
    Act.AREA: "area",
    Act.CONVOY: "convoy",
}
_MAX_WINDOW = {Act.AREA: MAX_AREA_WINDOW, Act.CONVOY: MAX_CONVOY_WINDOW}


def query_of(act: Act, message: inquiry_pb2.Query) -> Query:
    """The query that a search of this kind discloses.

    Raises:
        InvalidInput: BAD_QUERY if it is another kind's, or as the kind's own `parse`; NOT_YET for an alert.
    """
    if act not in _KIND:
        raise InvalidInput(f"{act.value} searches are not supported yet", reason="NOT_YET")
    match message.WhichOneof("kind"):
        case "plate" if _KIND[act] == "plate":
            return PlateQuery.parse(message.plate.plate, message.plate.state)
        case "pattern" if _KIND[act] == "pattern":
            return PatternQuery.parse(message.pattern.pattern, message.pattern.state)
        case "area" if _KIND[act] == "area":
            return _area(message.area)
        case "convoy" if _KIND[act] == "convoy":
            c = message.convoy
            return ConvoyQuery.parse(c.plate.plate, c.plate.state, within_s=c.within_s, cameras=c.cameras)
    raise InvalidInput(f"the disclosed query is not one of a search of kind {act.value}", reason="BAD_QUERY")


def check_window(act: Act, begin: dt.datetime, end: dt.datetime) -> None:
    """Return if a search of this kind may look at so long a time.

    Raises:
        InvalidInput: QUERY_TOO_WIDE.
    """
    most = _MAX_WINDOW.get(act)
    if most is not None and end - begin > most:
        what = f"may be {most // dt.timedelta(hours=1)} hours at most for a search of kind {act.value}: ask for less"
        raise _too_wide("window", what)


def _area(message: inquiry_pb2.AreaQuery) -> AreaQuery:
    circle = None
    if message.HasField("circle"):
        c = message.circle
        circle = Circle(latitude_e7=c.latitude_e7, longitude_e7=c.longitude_e7, radius_m=c.radius_m)
    return AreaQuery.parse(circle=circle, camera=message.camera)


def _plate_message(plate: Plate) -> inquiry_pb2.PlateQuery:
    return inquiry_pb2.PlateQuery(plate=plate.number, state=plate.state)


def _too_wide(field_: str, description: str) -> InvalidInput:
    return InvalidInput("too wide", violations=[Violation(field_, description)], reason="QUERY_TOO_WIDE")
