"""A place as SQL on one segment: its cameras, each by its index over the window, and where each read was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from comity.query import TURN_E7, AreaQuery
from node.store.segment import Segment

_NUMBERED = "d.camera = :number"
_ONE = "d.camera IN (SELECT w.id FROM word w WHERE w.kind = 'camera' AND w.text = :camera)"
# Every camera is asked, since a patrol car's is not where it was: the window of a day bounds what is read.
_ALL = "d.camera IN (SELECT w.id FROM word w WHERE w.kind = 'camera')"
_BOX = "d.lat BETWEEN :south AND :north"
_ACROSS = f"(min(abs(d.lon - :lon), {TURN_E7} - abs(d.lon - :lon)) * :scale)"
# As `Circle.contains`, in the same order, so that both agree on every point.
_INSIDE = f"{_ACROSS} * {_ACROSS} + abs(d.lat - :lat) * abs(d.lat - :lat) <= :reach * :reach"


UNPLACED = f"{_ALL} AND d.lat IS NULL"


Where = Callable[[Segment], tuple[str, Mapping[str, object]] | None]


def condition(query: AreaQuery) -> tuple[Where, dict[str, object]]:
    """What just the rows of the place meet in a segment, None if none there does, and its values.

    A read without its location is in no circle.
    """
    circle = query.circle
    if circle is None:
        return lambda segment: _one(segment, query.camera), {"camera": query.camera}
    reach = int(circle.radius_e7) + 1
    return lambda _: (f"{_ALL} AND {_BOX} AND {_INSIDE}", {}), {
        "lat": circle.latitude_e7,
        "lon": circle.longitude_e7,
        "scale": circle.scale,
        "reach": circle.radius_e7,
        "south": circle.latitude_e7 - reach,
        "north": circle.latitude_e7 + reach,
    }


def _one(segment: Segment, camera: str) -> tuple[str, Mapping[str, object]] | None:
    if not segment.sealed:
        return _ONE, {}
    number = segment.cameras().get(camera)  # a sealed part gets no further ones
    return None if number is None else (_NUMBERED, {"number": number})
