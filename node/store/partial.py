"""Part of a plate as SQL on one segment: ranges of skeletons, the trigrams or places of the dictionary, or a scan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from comity.plate import skeleton
from comity.query import MIN_LITERALS, PatternQuery
from node.store.confusable import ALPHABET
from node.store.segment import Segment
from node.store.sieve import Marked, marked

_TRIGRAM = 3
PLACES = "abcdefghij"  # of the characters of a plate
_MIN_PLACED = 2  # with one alone, a scan of the dictionary is as quick
# GLOB reads the pattern as the query means it: of its special characters only ? and * can stand in one.
# No parameter stands alone after GLOB: SQLite would compile the statement anew for every pattern.
_FITS = "d.plate GLOB (:pattern || '') AND (:state = '' OR coalesce(r.text, :state) IN (:state, ''))"
_PREFIX = "d.skel >= :low AND d.skel < :high"
# By the key alone, which every kind of segment has; ~ comes after every character of a plate.
_BEGUN = (
    "d.skel IN (SELECT k.skel FROM json_each(:starts) j"
    " CROSS JOIN det k ON k.skel BETWEEN j.value AND j.value || '~' WHERE k.skel GLOB (:folded || ''))"
)
_SCANNED = "d.skel IN (SELECT k.skel FROM det k WHERE k.skel GLOB (:folded || ''))"
_LISTED = "d.skel IN (SELECT p.skel FROM plates p WHERE p.plate GLOB (:pattern || ''))"
_FOUND = (
    "d.skel IN (SELECT p.skel FROM {0} t JOIN plates p ON p.pid = t.rowid"
    " WHERE {0} MATCH :words AND p.plate GLOB (:pattern || ''))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What rows must meet in a segment, by the dictionary that it has, and the values of it all."""

    plain: str
    listed: str
    index: str = ""
    indexed: str = ""
    whole: Marked = field(default=(), repr=False)  # if just these skeletons can fit
    values: dict[str, object] = field(repr=False)

    def asked(self, segment: Segment) -> tuple[str, Mapping[str, object]] | None:
        """SQL on `rows.CODED` and values of its own; None if nothing in the segment fits."""
        if not self.whole:
            return self.of(segment), {}
        held = segment.among(self.whole)
        return (self.of(segment), {"starts": orjson.dumps(held).decode()}) if held else None

    def of(self, segment: Segment) -> str:
        """SQL on `rows.CODED`. A part that was sealed before it had the index is scanned."""
        if not segment.sealed:
            return self.plain
        return self.indexed if self.index and self.index in segment.tables() else self.listed


def conditions(query: PatternQuery) -> Conditions:
    """The conditions that find just the rows whose plate fits `query`, in every kind of segment alike."""
    values: dict[str, object] = {"pattern": query.pattern, "state": query.state}
    folded = skeleton(query.pattern)
    known = re.split(r"[?*]+", folded)
    if len(known[0]) >= MIN_LITERALS:
        # The folded beginning: no plate that fits has another, and the rows are sorted by it.
        # Where rows still come the range is put as a list, or the planner would take the window's index instead.
        values |= {"low": known[0], "high": known[0][:-1] + chr(ord(known[0][-1]) + 1)}
        values |= {"starts": orjson.dumps(known[:1]).decode(), "folded": folded}
        return Conditions(plain=f"{_BEGUN} AND {_FITS}", listed=f"{_PREFIX} AND {_FITS}", values=values)
    starts, literals = _starts(folded)
    values |= {"starts": orjson.dumps(starts).decode(), "folded": folded}
    if literals >= MIN_LITERALS:
        whole = marked(starts) if len(starts[0]) == len(folded) and "*" not in folded else ()
        return Conditions(plain=f"{_BEGUN} AND {_FITS}", listed=f"{_BEGUN} AND {_FITS}", whole=whole, values=values)
    runs = {run[i : i + _TRIGRAM] for run in known for i in range(len(run) - _TRIGRAM + 1)}
    placed = [f"{PLACES[i]}{c}" for i, c in enumerate(folded.partition("*")[0]) if c != "?"]
    index, words = ("tri", sorted(runs)) if runs else ("pos", placed) if len(placed) >= _MIN_PLACED else ("", [])
    values["words"] = " AND ".join(f'"{word}"' for word in words)
    return Conditions(
        plain=f"{_BEGUN if literals else _SCANNED} AND {_FITS}",
        listed=f"{_LISTED} AND {_FITS}",
        index=index,
        indexed=f"{_FOUND.format(index)} AND {_FITS}",
        values=values,
    )


def _starts(folded: str) -> tuple[list[str], int]:
    """How skeletons that fit may begin, and how many known characters each of these has.

    Up to the second character that is not known: each one makes as many ranges as there are characters.
    """
    known = re.match(r"[^?*]*\??[^?*]*", folded)
    head = known.group().rstrip("?") if known else ""
    starts = [head.replace("?", c) for c in ALPHABET] if "?" in head else [head]
    return starts, len(head) - head.count("?")
