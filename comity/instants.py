"""Instants: aware UTC datetimes here, protobuf timestamps on the wire, RFC 3339 in logs; all to the millisecond."""

from __future__ import annotations

import datetime as dt

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EARLIEST_S = 946_684_800  # 2000-01-01
_LATEST_S = 4_102_444_800  # 2100-01-01
_MS = dt.timedelta(milliseconds=1)


def from_wire(value: Timestamp) -> dt.datetime | None:
    """The instant, cut to the millisecond; None if it is not between 2000 and 2100 or its nanoseconds are not valid."""
    if not _EARLIEST_S <= value.seconds < _LATEST_S or not 0 <= value.nanos < 1_000_000_000:
        return None
    return _EPOCH + dt.timedelta(seconds=value.seconds, milliseconds=value.nanos // 1_000_000)


def to_wire(at: dt.datetime) -> Timestamp:
    """The wire form of an aware datetime, cut to the millisecond."""
    ms = to_ms(at)
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def to_ms(at: dt.datetime) -> int:
    """Milliseconds since 1970, cut, of an aware datetime."""
    return (at - _EPOCH) // _MS


def from_ms(ms: int) -> dt.datetime:
    """The aware UTC datetime that many milliseconds after 1970 began."""
    return _EPOCH + dt.timedelta(milliseconds=ms)


def to_text(at: dt.datetime) -> str:
    """RFC 3339, UTC, three decimals, `Z`: 2026-01-31T12:00:00.000Z."""
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> dt.datetime:
    """The system clock, cut to the millisecond: the clock that programs pass in."""
    return from_ms(to_ms(dt.datetime.now(dt.UTC)))
