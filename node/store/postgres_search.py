"""Each kind of search as SQL on PostgreSQL, to find just what it finds in SQLite."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

from comity.detection import Detection
from comity.plate import Plate, skeleton
from comity.query import MIN_LITERALS, TURN_E7, AreaQuery, PatternQuery
from node.store.confusable import confusable_skeletons
from node.store.convoy import Span
from node.store.postgres_pool import Connection, run
from node.store.rows import detection_of
from node.store.rules import ClassRule

Values = dict[str, Any]
WINDOW = "d.captured_at >= %(begin)s AND d.captured_at < %(end)s"
NEWEST_FIRST = " ORDER BY d.captured_at DESC, d.uid DESC LIMIT %(most)s"
STATE = "coalesce(r.text, %(state)s) IN (%(state)s, '')"
_ALIAS = {"source": "s", "camera": "c"}
# An array, and not a join: each camera's index is asked for the window, and no more is read.
ALL_CAMERAS = "d.camera = ANY(ARRAY(SELECT w.id FROM word w WHERE w.kind = 'camera'))"
UNPLACED = f"{ALL_CAMERAS} AND d.lat IS NULL"
_ONE_CAMERA = "d.camera = ANY(ARRAY(SELECT w.id FROM word w WHERE w.kind = 'camera' AND w.text = %(camera)s))"
_OFF = "abs(d.lon::bigint - %(lon)s::bigint)"
_ACROSS = f"(least({_OFF}, {TURN_E7} - {_OFF}) * %(scale)s::float8)"
_ALONG = "abs(d.lat::bigint - %(lat)s::bigint)"
# As `Circle.contains`, in the same order, so that both agree on every point.
_INSIDE = f"{_ACROSS} * {_ACROSS} + {_ALONG} * {_ALONG} <= %(reach)s::float8 * %(reach)s::float8"
# One list leads, with cameras by their ids, so that both its columns bound the camera index.
_SPANS = (
    "unnest(%(cameras)s::int[], %(firsts)s::bigint[], %(lasts)s::bigint[]) AS j(camera, first, last)"
    " JOIN det d ON d.camera = j.camera AND d.captured_at BETWEEN j.first AND j.last"
)
WHO = (
    f"SELECT DISTINCT d.plate, c.text FROM {_SPANS}"  # noqa: S608  # nosec B608
    " LEFT JOIN word c ON c.id = d.camera LEFT JOIN word s ON s.id = d.source WHERE "
)
READS = "d.plate = ANY(%(plates)s)"


def exact(plate: Plate) -> tuple[str, Values]:
    """The rows of this number, of its state or of none."""
    return f"d.skel = %(skel)s AND d.plate = %(number)s AND {STATE}", {
        "skel": plate.skeleton,
        "number": plate.number,
        "state": plate.state,
    }


def confusable(plate: Plate) -> tuple[str, Values]:
    """The rows whose skeleton a camera may have read."""
    return "d.skel = ANY(%(skels)s)", {"skels": confusable_skeletons(plate.number)}


def area(query: AreaQuery) -> tuple[str, Values]:
    """The rows of a camera, or of a circle."""
    circle = query.circle
    if circle is None:
        return _ONE_CAMERA, {"camera": query.camera}
    reach = int(circle.radius_e7) + 1
    return f"{ALL_CAMERAS} AND d.lat BETWEEN %(south)s AND %(north)s AND {_INSIDE}", {
        "lat": circle.latitude_e7,
        "lon": circle.longitude_e7,
        "scale": circle.scale,
        "reach": circle.radius_e7,
        "south": circle.latitude_e7 - reach,
        "north": circle.latitude_e7 + reach,
    }


def partial(query: PatternQuery) -> tuple[str, Values, bool]:
    """The rows whose plate fits; true if a dictionary helps, since the beginning is not known."""
    # Neither of LIKE's own characters can stand in a pattern, which `PatternQuery.parse` saw to.
    like = query.pattern.replace("?", "_").replace("*", "%")
    values: Values = {"like": like, "state": query.state}
    fits = f"d.plate LIKE %(like)s AND (%(state)s = '' OR {STATE})"
    first = skeleton(re.split(r"[?*]", query.pattern)[0])
    if len(first) < MIN_LITERALS:
        return fits, values, True
    values |= {"low": first, "high": first[:-1] + chr(ord(first[-1]) + 1)}
    return f"d.skel >= %(low)s AND d.skel < %(high)s AND {fits}", values, False


def spans_of(connection: Connection, spans: Sequence[Span]) -> Values:
    """The values of WHO, and of a select among these; a camera that the store does not know has no row."""
    wanted = sorted({camera for camera, _, _ in spans})
    found = run(connection, "SELECT text, id FROM word WHERE kind = 'camera' AND text = ANY(%s)", [wanted]).fetchall()
    ids: dict[str, int] = dict(found)
    known = [(ids[camera], first, last) for camera, first, last in spans if camera in ids]
    return {"cameras": [c for c, _, _ in known], "firsts": [f for _, f, _ in known], "lasts": [e for _, _, e in known]}


def unexpired(rules: Sequence[ClassRule], now: dt.datetime) -> tuple[str, Values]:
    """A condition, beginning with AND or empty, that leaves out what its class rule has expired.

    A row whose word is missing must come through and be seen to be damaged.
    """
    parts, values = [], Values()
    for i, rule in enumerate(rules):
        alias = _ALIAS[rule.kind]
        parts.append(f" AND NOT ({alias}.text IS NOT DISTINCT FROM %(class{i})s AND d.captured_at < %(kept{i})s)")
        values |= {f"class{i}": rule.text, f"kept{i}": rule.before(now)}
    return "".join(parts), values


def rows_of(table: str) -> str:
    """The columns of a row as `rows.detection_of` reads them; what a condition may speak of is d, r, c and s."""
    return _columns(f"{table} d")


def _columns(source: str) -> str:
    return (
        "SELECT d.captured_at, d.uid, d.plate, r.text, c.text, s.text, d.lat, d.lon, d.conf, d.image, m.text, o.text"  # noqa: S608  # nosec B608
        f" FROM {source} LEFT JOIN word r ON r.id = d.region LEFT JOIN word c ON c.id = d.camera"
        " LEFT JOIN word s ON s.id = d.source LEFT JOIN word m ON m.id = d.make LEFT JOIN word o ON o.id = d.colour"
    )


ROWS_OF_SPANS = _columns(_SPANS)


def select(connection: Connection, where: str, values: Values, *, rows: str = "") -> list[Detection]:
    """The rows that meet `where`, the window included, newest first, at most `most`; `rows`: of `det` if empty.

    Raises:
        StoreError: STORE_CORRUPT.
        psycopg.Error: it was not searched.
    """
    statement = f"{rows or rows_of('det')} WHERE {where}{NEWEST_FIRST}"
    return [detection_of(row) for row in run(connection, statement, values).fetchall()]
