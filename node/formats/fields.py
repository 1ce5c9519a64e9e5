"""Single values of camera records, checked once: each returns the value in Comity's unit or refuses it by name."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
from typing import Any

from comity.detection import MAX_WORD_CHARACTERS
from comity.errors import InvalidInput
from comity.instants import to_ms
from comity.plate import Plate
from node.formats.interface import EARLIEST_MS, MAX_AHEAD_MS, MAX_PICTURE_BYTES, BadRecord, Context

_US = re.compile(r"us-([a-z]{2})\Z")
_REGION = re.compile(r"([a-z]{2}(-[a-z0-9]{0,4})?)?\Z")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?\Z")
# 1e11 s is the year 5138 and 1e11 ms is 1973: no plausible time is read as the other unit.
_MS_FROM = 100_000_000_000


class BadField(Exception):
    """A value is refused; the reason names the field and never the value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def bad_record(error: BadField | InvalidInput) -> BadRecord:
    """The reason of `error`; of several bad fields, the first."""
    if isinstance(error, BadField):
        return BadRecord(reason=error.reason)
    return BadRecord(reason=f"BAD_{error.violations[0].field.upper()}" if error.violations else error.reason)


def plate(number: Any, state: str) -> Plate:
    """The plate; `state` is '' or two letters.

    Raises:
        BadField: NO_PLATE.
        InvalidInput: as `Plate.parse`.
    """
    if not isinstance(number, str) or not number.strip():
        raise BadField("NO_PLATE")
    return Plate.parse(number, state, state_required=False)


def state_of_region(region: Any) -> str:
    """`CA` of `us-ca`; '' for a region that names no state of the United States, or none.

    Raises:
        BadField: BAD_STATE: nothing like a region.
    """
    if region is None:
        return ""
    if not isinstance(region, str) or len(region) > 16:
        raise BadField("BAD_STATE")
    folded = region.strip().lower()
    if found := _US.match(folded):
        return found[1].upper()
    if not _REGION.match(folded):
        raise BadField("BAD_STATE")
    return ""


def epoch_ms(value: Any) -> int:
    """Milliseconds since 1970 of a count of seconds or milliseconds; which of them is told by its size.

    Raises:
        BadField: BAD_TIME.
    """
    number = finite(value, "BAD_TIME")
    if abs(number) >= 1e15:
        raise BadField("BAD_TIME")
    return round(number if abs(number) >= _MS_FROM else number * 1000)


def text_ms(value: str) -> int:
    """Milliseconds since 1970 of ISO 8601 with a zone, or of a count of seconds or milliseconds in digits.

    Raises:
        BadField: BAD_TIME; a time without zone is one, since the camera's zone is not known here.
    """
    if _NUMBER.match(value):
        return epoch_ms(float(value))
    if len(value) > 40 or not value.isascii():
        raise BadField("BAD_TIME")
    try:
        at = dt.datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise BadField("BAD_TIME")
        return to_ms(at)
    except (ValueError, OverflowError):
        raise BadField("BAD_TIME") from None


def plausible(ms: int, context: Context) -> int:
    """`ms` if a camera can have seen something then.

    Raises:
        BadField: TIME_BEFORE_2000, or TIME_IN_FUTURE: more than ten minutes ahead of the node's clock.
    """
    if ms < EARLIEST_MS:
        raise BadField("TIME_BEFORE_2000")
    if ms > context.now_ms + MAX_AHEAD_MS:
        raise BadField("TIME_IN_FUTURE")
    return ms


def finite(value: Any, reason: str) -> float:
    """The number as a float; a truth value, NaN and infinity are none.

    Raises:
        BadField: `reason`.
    """
    if type(value) is not int and type(value) is not float:
        raise BadField(reason)
    try:
        number = float(value)
    except OverflowError:
        raise BadField(reason) from None
    if not math.isfinite(number):
        raise BadField(reason)
    return number


def digits(value: str, reason: str) -> float:
    """The number that plain decimal digits write: no exponent, no blanks, no NaN.

    Raises:
        BadField: `reason`.
    """
    if not _NUMBER.match(value):
        raise BadField(reason)
    return float(value)


def place(latitude: float | None, longitude: float | None) -> tuple[int | None, int | None]:
    """Both in 1e-7 degrees. 0, 0 is how agents without a position write it, and becomes none.

    Raises:
        BadField: BAD_LOCATION: one without the other, or out of range.
    """
    if latitude is None or longitude is None:
        if latitude is not longitude:
            raise BadField("BAD_LOCATION")
        return None, None
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise BadField("BAD_LOCATION")
    if latitude == 0 and longitude == 0:
        return None, None
    return round(latitude * 1e7), round(longitude * 1e7)


def permille(value: float, whole: float) -> int:
    """0 to 1000 for a confidence of 0 to `whole`.

    Raises:
        BadField: BAD_CONFIDENCE: out of range.
    """
    if not 0 <= value <= whole:
        raise BadField("BAD_CONFIDENCE")
    return round(value * 1000 / whole)


def word(value: Any) -> str:
    """The value if it is a short plain word, such as a colour; else '', since no read is refused for a colour."""
    if not isinstance(value, str) or len(value) > MAX_WORD_CHARACTERS or not value.isprintable():
        return ""
    return value


def jpeg(data: bytes) -> bytes:
    """`data` if it begins as a JPEG does and is of at most 2 MiB; else nothing, since the read counts without it."""
    return data if data.startswith(b"\xff\xd8\xff") and len(data) <= MAX_PICTURE_BYTES else b""


def jpeg_base64(value: Any) -> bytes:
    """As `jpeg`, of base64 text."""
    if not isinstance(value, str) or len(value) > MAX_PICTURE_BYTES // 3 * 4 + 4:
        return b""
    try:
        return jpeg(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return b""
