"""Rows as SQLite holds them: the columns a search selects, and a detection to and from them."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, cast

from comity.detection import MAX_MS, Detection, Match, MatchClass
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
# The same with numbers for words, which `coded` reads; joins that no condition speaks of are left out by SQLite.
_CODES = "d.captured_at, d.uid, d.plate, d.region, d.camera, d.source, d.lat, d.lon, d.conf, d.image, d.make, d.colour"
CODED = f"SELECT {_CODES} FROM det d {_REGION} {_CAMERA} LEFT JOIN word s ON s.id = d.source"  # noqa: S608  # nosec B608
# The same of each skeleton in `:skels`, looked up in their order, which is that of the rows.
CODED_LISTED = (
    f"SELECT {_CODES} FROM json_each(:skels) j CROSS JOIN det d ON d.skel = j.value"  # noqa: S608  # nosec B608
    f" {_CAMERA} LEFT JOIN word s ON s.id = d.source"
)
# The same of each camera and span of time in `:spans`; the order of the joins is fixed, so that the camera index
# leads from each span to its rows and to no other.
SPANS = """
json_each(:spans) j CROSS JOIN word c ON c.kind = 'camera' AND c.text = json_extract(j.value, '$[0]')
CROSS JOIN det d ON d.camera = c.id
  AND d.captured_at BETWEEN json_extract(j.value, '$[1]') AND json_extract(j.value, '$[2]')
"""
CODED_SPANS = f"SELECT {_CODES} FROM {SPANS} LEFT JOIN word s ON s.id = d.source"  # noqa: S608  # nosec B608
STAGE = """
INSERT INTO det(skel, captured_at, uid, plate, region, camera, source, lat, lon, conf, make, colour, image)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT = f"{STAGE} ON CONFLICT(skel, captured_at, uid) DO NOTHING"
HAS = "SELECT 1 FROM det WHERE skel = ? AND captured_at = ? AND uid = ?"

_JUST_UNDER = dt.timedelta(microseconds=999)

Key = tuple[str, int, int]  # skeleton, ms UTC, uid: what makes a row the same row
Placed = tuple[tuple[object, ...], Detection]  # (ms UTC, uid), by which results are sorted, and what is there
Words = dict[tuple[str, str], int]
# A row as SELECT gives it, and every combination of types that its columns may have.
_Read = tuple[
    int, int, str, str, str, str, int | None, int | None, int | None, str | None, str | None, str | None
]  # fmt: skip
_SHAPES = frozenset(
    itertools.product((int,), (int,), *[(str,)] * 4, *[(int, type(None))] * 3, *[(str, type(None))] * 3)
)
# The same of `CODED`.
_Coded = tuple[
    int, int, str, int, int, int, int | None, int | None, int | None, str | None, int | None, int | None
]  # fmt: skip
_CODED_SHAPES = frozenset(
    itertools.product(
        (int,), (int,), (str,), *[(int,)] * 3, *[(int, type(None))] * 3, (str, type(None)), *[(int, type(None))] * 2
    )
)
Row = tuple[str, int, int, str, int, int, int, int | None, int | None, int | None, int | None, int | None, str | None]


def first_ms(at: dt.datetime) -> int:
    """The first whole millisecond not before `at`, since rows keep whole milliseconds."""
    return to_ms(at + _JUST_UNDER)


def key_of(d: Detection) -> Key:
    """What two copies of one read share."""
    return d.plate.skeleton, to_ms(d.captured_at), d.uid


def row_of(d: Detection, words: Words, connection: sqlite3.Connection, key: Key | None = None) -> Row:
    """The row of `d`; words that are new are written through `connection` and added to `words`.

    `key`: its `key_of`, where that is known already.
    """

    def word(kind: str, text: str) -> int:
        known = words.get((kind, text))
        if known is None:
            known = words[kind, text] = _word_id(connection, kind, text)
        return known

    return (
        *(key or key_of(d)),
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
        raise never_written()
    captured, uid, number, state, camera, source, lat, lon, confidence, image, make, colour = cast(_Read, row)
    return _made(
        captured, uid, number, state, camera, source, lat, lon, confidence, image or "", make or "", colour or ""
    )


def coded(row: tuple[object, ...], words: Mapping[int, str]) -> Placed:
    """What CODED gave as a detection, with its (ms UTC, uid); `words` are the segment's.

    Raises:
        KeyError: a word that `words` has not.
        StoreError: as `detection_of`.
    """
    if tuple(map(type, row)) not in _CODED_SHAPES or not 0 <= row[0] <= MAX_MS:  # type: ignore[operator]
        raise never_written()
    captured, uid, number, region, camera, source, lat, lon, confidence, image, make, colour = cast(_Coded, row)
    return (captured, uid), _made(
        captured,
        uid,
        number,
        words[region],
        words[camera],
        words[source],
        lat,
        lon,
        confidence,
        image or "",
        "" if make is None else words[make],
        "" if colour is None else words[colour],
    )


def matches(found: Iterable[Detection], of: MatchClass) -> list[Match]:
    """Each as a match of this class, in their order."""
    return [matched(d, of) for d in found]


def matched(d: Detection, of: MatchClass) -> Match:
    """The detection as a match of this class."""
    out = _new(Match)
    _detection(out, d)
    _match_class(out, of)
    return out


def never_written() -> StoreError:
    """The fault of a file with a row that no program wrote."""
    return StoreError("the detection store holds a row that was never written", reason="STORE_CORRUPT")


def _slots(kind: type) -> list[Callable[[object, object], None]]:
    return [cast(Any, getattr(kind, f.name)).__set__ for f in fields(kind)]


# A frozen class's own __init__ looks each field up by name, which takes longer than all the rest of reading a row.
# A field more or less fails here, on import.
_number, _state = _slots(Plate)
_detection, _match_class = _slots(Match)
_uid, _plate, _captured_at, _camera, _lat, _lon, _confidence, _source, _image, _make, _colour = _slots(Detection)
_new = object.__new__
_EPOCH = from_ms(0)


def _made(
    captured: int,
    uid: int,
    number: str,
    state: str,
    camera: str,
    source: str,
    lat: int | None,
    lon: int | None,
    confidence: int | None,
    image: str,
    make: str,
    colour: str,
) -> Detection:
    plate, out = _new(Plate), _new(Detection)
    _number(plate, number)
    _state(plate, state)
    _uid(out, uid)
    _plate(out, plate)
    _captured_at(out, _EPOCH + dt.timedelta(0, 0, 0, captured))
    _camera(out, camera)
    _lat(out, lat)
    _lon(out, lon)
    _confidence(out, confidence)
    _source(out, source)
    _image(out, image)
    _make(out, make)
    _colour(out, colour)
    return out


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
