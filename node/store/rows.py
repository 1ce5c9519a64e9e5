"""Rows as SQLite holds them: the columns a search selects, and a detection to and from them."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Mapping
from typing import cast

from comity.detection import MAX_MS, Detection
from comity.instants import from_ms, to_ms
from comity.plate import Plate
from node.store.interface import StoreError

# LEFT JOIN, so that the planner starts from det, and a word that is missing shows as NULL and not as no row.
_COLUMNS = "d.captured_at, d.uid, d.plate, r.text, c.text, s.text, d.lat, d.lon, d.conf, d.image, m.text, o.text"
_REGION, _CAMERA = "LEFT JOIN word r ON r.id = d.region", "LEFT JOIN word c ON c.id = d.camera"
_OTHERS = """
LEFT JOIN word s ON s.id = d.source LEFT JOIN word m ON m.id = d.make LEFT JOIN word o ON o.id = d.colour
"""
SELECT = f"SELECT {_COLUMNS} FROM det d {_REGION} {_CAMERA} {_OTHERS}"  # noqa: S608  # nosec B608
# The same of each skeleton in `:skels`, looked up in their order, which is that of the rows.
SELECT_LISTED = (
    f"SELECT {_COLUMNS} FROM json_each(:skels) j CROSS JOIN det d ON d.skel = j.value"  # noqa: S608  # nosec B608
    f" {_REGION} {_CAMERA} {_OTHERS}"
)
# The same of each camera and span of time in `:spans`; the order of the joins is fixed, so that the camera index
# leads from each span to its rows and to no other.
SPANS = """
json_each(:spans) j CROSS JOIN word c ON c.kind = 'camera' AND c.text = json_extract(j.value, '$[0]')
CROSS JOIN det d ON d.camera = c.id
  AND d.captured_at BETWEEN json_extract(j.value, '$[1]') AND json_extract(j.value, '$[2]')
"""
SELECT_SPANS = f"SELECT {_COLUMNS} FROM {SPANS} {_REGION} {_OTHERS}"  # noqa: S608  # nosec B608
STAGE = """
INSERT INTO det(skel, captured_at, uid, plate, region, camera, source, lat, lon, conf, make, colour, image)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT = f"{STAGE} ON CONFLICT(skel, captured_at, uid) DO NOTHING"
HAS = "SELECT 1 FROM det WHERE skel = ? AND captured_at = ? AND uid = ?"

_JUST_UNDER = dt.timedelta(microseconds=999)

Key = tuple[str, int, int]  # skeleton, ms UTC, uid: what makes a row the same row
Words = dict[tuple[str, str], int]
# A row as SELECT gives it, and every combination of types that its columns may have.
_Read = tuple[
    int, int, str, str, str, str, int | None, int | None, int | None, str | None, str | None, str | None
]  # fmt: skip
_SHAPES = frozenset(
    itertools.product((int,), (int,), *[(str,)] * 4, *[(int, type(None))] * 3, *[(str, type(None))] * 3)
)
Row = tuple[str, int, int, str, int, int, int, int | None, int | None, int | None, int | None, int | None, str | None]


def first_ms(at: dt.datetime) -> int:
    """The first whole millisecond not before `at`, since rows keep whole milliseconds."""
    return to_ms(at + _JUST_UNDER)


def key_of(d: Detection) -> Key:
    """What two copies of one read share."""
    return d.plate.skeleton, to_ms(d.captured_at), d.uid


def row_of(d: Detection, words: Words, connection: sqlite3.Connection) -> Row:
    """The row of `d`; words that are new are written through `connection` and added to `words`."""

    def word(kind: str, text: str) -> int:
        known = words.get((kind, text))
        if known is None:
            known = words[kind, text] = _word_id(connection, kind, text)
        return known

    return (
        *key_of(d),
        d.plate.number,
        word("region", d.plate.state),
        word("camera", d.camera),
        word("source", d.source),
        d.latitude_e7,
        d.longitude_e7,
        d.confidence_permille,
        word("make", d.make) if d.make else None,
        word("colour", d.colour) if d.colour else None,
        d.image or None,
    )


def detection_of(row: tuple[object, ...]) -> Detection:
    """What SELECT gave as a detection, which was parsed before it was written.

    Raises:
        StoreError: STORE_CORRUPT; a column holds what was never written, so the file is damaged.
    """
    # Looked up as a whole: a pattern of twelve types costs more than reading the row does.
    if tuple(map(type, row)) not in _SHAPES or not 0 <= row[0] <= MAX_MS:  # type: ignore[operator]
        raise StoreError("the detection store holds a row that was never written", reason="STORE_CORRUPT")
    captured, uid, number, state, camera, source, lat, lon, confidence, image, make, colour = cast(_Read, row)
    return Detection(
        uid=uid,
        plate=Plate(number=number, state=state),
        captured_at=from_ms(captured),
        camera=camera,
        latitude_e7=lat,
        longitude_e7=lon,
        confidence_permille=confidence,
        source=source,
        image=image or "",
        make=make or "",
        colour=colour or "",
    )


def timed_detection(row: tuple[object, ...]) -> tuple[tuple[object, ...], Detection]:
    """`detection_of` with its (ms UTC, uid).

    Raises:
        StoreError: as `detection_of`.
    """
    return row[:2], detection_of(row)


def word_ids(connection: sqlite3.Connection, wanted: Mapping[tuple[str, str], int]) -> dict[int, int]:
    """The values of `wanted` by the id that this segment gives each (kind, text); those it has not are left out."""
    out = {}
    for (kind, text), value in wanted.items():
        found = connection.execute("SELECT id FROM word WHERE kind = ? AND text = ?", (kind, text)).fetchone()
        if found is not None:
            out[int(found[0])] = value
    return out


def _word_id(connection: sqlite3.Connection, kind: str, text: str) -> int:
    connection.execute("INSERT INTO word(kind, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (kind, text))
    found = connection.execute("SELECT id FROM word WHERE kind = ? AND text = ?", (kind, text)).fetchone()
    assert found is not None
    return int(found[0])
