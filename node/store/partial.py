"""Part of a plate as SQL on one segment: a range, the trigrams of the dictionary, or a scan of the dictionary."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from comity.plate import skeleton
from comity.query import MIN_LITERALS, PatternQuery

_TRIGRAM = 3
# GLOB reads the pattern as the query means it: of its special characters only ? and * can stand in one.
_FITS = "d.plate GLOB :pattern AND (:state = '' OR coalesce(r.text, :state) IN (:state, ''))"
_PREFIX = "d.skel >= :low AND d.skel < :high"
_LISTED = "d.skel IN (SELECT p.skel FROM plates p WHERE p.plate GLOB :pattern)"
_RUN = (
    "d.skel IN (SELECT p.skel FROM tri t JOIN plates p ON p.pid = t.rowid"
    " WHERE tri MATCH :runs AND p.plate GLOB :pattern)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What rows must meet in a segment without a dictionary and in one with it, and the values of both."""

    plain: str
    sealed: str
    values: dict[str, object] = field(repr=False)


def conditions(query: PatternQuery) -> Conditions:
    """The conditions that find just the rows whose plate fits `query`, in either kind of segment alike."""
    values: dict[str, object] = {"pattern": query.pattern, "state": query.state}
    known = [skeleton(run) for run in re.split(r"[?*]+", query.pattern)]
    if len(known[0]) >= MIN_LITERALS:
        # The folded beginning: no plate that fits has another, and the rows are sorted by it.
        values |= {"low": known[0], "high": known[0][:-1] + chr(ord(known[0][-1]) + 1)}
        return Conditions(plain=f"{_PREFIX} AND {_FITS}", sealed=f"{_PREFIX} AND {_FITS}", values=values)
    runs = {run[i : i + _TRIGRAM] for run in known for i in range(len(run) - _TRIGRAM + 1)}
    if runs:
        values["runs"] = " AND ".join(f'"{run}"' for run in sorted(runs))
    return Conditions(plain=_FITS, sealed=f"{_RUN if runs else _LISTED} AND {_FITS}", values=values)
