"""Part of a plate as SQL on one segment: a range, the trigrams or the places of the dictionary, or a scan of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from comity.plate import skeleton
from comity.query import MIN_LITERALS, PatternQuery
from node.store.segment import Segment

_TRIGRAM = 3
PLACES = "abcdefghij"  # of the characters of a plate
_MIN_PLACED = 2  # with one alone, a scan of the dictionary is as quick
# GLOB reads the pattern as the query means it: of its special characters only ? and * can stand in one.
_FITS = "d.plate GLOB :pattern AND (:state = '' OR coalesce(r.text, :state) IN (:state, ''))"
_PREFIX = "d.skel >= :low AND d.skel < :high"
_LISTED = "d.skel IN (SELECT p.skel FROM plates p WHERE p.plate GLOB :pattern)"
_FOUND = (
    "d.skel IN (SELECT p.skel FROM {0} t JOIN plates p ON p.pid = t.rowid"
    " WHERE {0} MATCH :words AND p.plate GLOB :pattern)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What rows must meet in a segment, by the dictionary that it has, and the values of it all."""

    plain: str
    listed: str
    index: str = ""
    indexed: str = ""
    values: dict[str, object] = field(repr=False)

    def of(self, segment: Segment) -> str:
        """SQL on `rows.SELECT`. A part that was sealed before it had the index is scanned."""
        if not segment.sealed:
            return self.plain
        return self.indexed if self.index and self.index in segment.tables() else self.listed


def conditions(query: PatternQuery) -> Conditions:
    """The conditions that find just the rows whose plate fits `query`, in every kind of segment alike."""
    values: dict[str, object] = {"pattern": query.pattern, "state": query.state}
    known = [skeleton(run) for run in re.split(r"[?*]+", query.pattern)]
    if len(known[0]) >= MIN_LITERALS:
        # The folded beginning: no plate that fits has another, and the rows are sorted by it.
        values |= {"low": known[0], "high": known[0][:-1] + chr(ord(known[0][-1]) + 1)}
        return Conditions(plain=f"{_PREFIX} AND {_FITS}", listed=f"{_PREFIX} AND {_FITS}", values=values)
    runs = {run[i : i + _TRIGRAM] for run in known for i in range(len(run) - _TRIGRAM + 1)}
    placed = [f"{PLACES[i]}{c}" for i, c in enumerate(skeleton(query.pattern.partition("*")[0])) if c != "?"]
    index, words = ("tri", sorted(runs)) if runs else ("pos", placed) if len(placed) >= _MIN_PLACED else ("", [])
    values["words"] = " AND ".join(f'"{word}"' for word in words)
    return Conditions(
        plain=_FITS,
        listed=f"{_LISTED} AND {_FITS}",
        index=index,
        indexed=f"{_FOUND.format(index)} AND {_FITS}",
        values=values,
    )
