"""Does a detection that a node released answer what was asked? Only what redaction left can be held against it."""

from __future__ import annotations

from typing import assert_never

from comity.detection import COARSE_E7, MatchClass, Released
from comity.plate import Plate
from comity.purpose import Act
from comity.query import AreaQuery, ConvoyQuery, PatternQuery, PlateQuery, Query


def fits(act: Act, query: Query, d: Released) -> bool:
    """True if `d` can be an answer to a search of kind `act` for `query`."""
    match query:
        case PlateQuery():
            return _fits_plate(act, query.plate, d)
        case PatternQuery():
            return act is Act.PARTIAL and d.match_class is MatchClass.PARTIAL and query.matches(d.plate)
        case AreaQuery():
            return act is Act.AREA and d.match_class is MatchClass.EXACT and _fits_place(query, d)
        case ConvoyQuery():
            # Neither the plate itself, which it was not asked for, nor what a camera took for it.
            other = d.plate.skeleton != query.plate.skeleton
            return act is Act.CONVOY and d.match_class is MatchClass.EXACT and other
    assert_never(query)


def within_one_edit(a: str, b: str) -> bool:
    """True if `a` becomes `b` by one character replaced, put in or left out at most."""
    if abs(len(a) - len(b)) > 1:
        return False
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if len(a) == len(b):
        return a[same + 1 :] == b[same + 1 :]
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer[same + 1 :] == shorter[same:]


def _fits_plate(act: Act, asked: Plate, d: Released) -> bool:
    same = d.plate.number == asked.number and d.plate.state in ("", asked.state)
    if act is Act.EXACT:
        return same
    if act is not Act.CONFUSABLE:
        return False
    if d.match_class is MatchClass.EXACT:
        return d.plate == asked
    return d.match_class is MatchClass.CONFUSABLE and within_one_edit(asked.skeleton, d.plate.skeleton)


def _fits_place(query: AreaQuery, d: Released) -> bool:
    if query.circle is None:
        return d.camera in ("", query.camera)
    if d.latitude_e7 is None or d.longitude_e7 is None:
        return not d.camera  # redacted whole; what is shown whole was found by its place
    # A place without its camera was rounded.
    return query.circle.contains(d.latitude_e7, d.longitude_e7, slack_e7=0 if d.camera else COARSE_E7 // 2)
