"""Cells of other products' audit exports, as published files really have them, and what was odd about each.

Nothing here repeats what a cell holds: a plate may stand in any of them.
"""

from __future__ import annotations

import datetime as dt
import enum
import re

from comity.plate import MAX_PLATE_CHARACTERS

_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(20\d\d), (\d{1,2}):(\d\d):(\d\d) ([AP])M UTC", re.ASCII)
_MASK = re.compile(r"[*#]{3,}|redacted|\[redacted\]", re.IGNORECASE)
_DASHES = re.compile(r"[—–-]+")
_NUMBER = re.compile(r"\d{1,3}(,\d{3}){1,3}|\d{1,9}", re.ASCII)  # int() of thousands of digits raises
_PLATE = re.compile(r"[A-Z0-9*?]+", re.ASCII)
# The commonest forms of plates; a case number of these forms has no hyphen, year or prefix of a case.
_LOOKS_LIKE_PLATE = re.compile(r"\d[A-Z]{3}\d{3}|[A-Z]{3}\d{3,4}|\d{3}[A-Z]{3}", re.ASCII)
_BLANKS = re.compile(r"[\s.\-·]+")


class Oddity(enum.StrEnum):
    """What was odd about a row that could be read all the same."""

    BYTE_ORDER_MARK = "byte-order mark at the start"
    NOT_UTF8 = "not UTF-8; read as Windows-1252"
    SECOND_HEADER = "a second header: exports stacked in one file"
    NO_HEADER = "another form begins without a header"
    SHIFTED = "shifted by one column; put back"
    NO_WINDOW = "no time frame of two times"
    WINDOW_REVERSED = "the time frame ends before it begins"
    WINDOW_AFTER = "the time frame begins after the search"
    WINDOW_BEYOND = "the time frame ends after the search"
    NO_NETWORKS = "no network searched"
    DASHES = "dashes in place of a number"
    NO_NUMBER = "no number in a column of numbers"
    MASKED = "masked"
    WILDCARD = "a wildcard in the plate"
    PLATE_IN_CASE = "a plate in place of the case number"
    NO_CASE = "no case number"
    SAME_TWICE = "the same row twice"
    ID_TWICE = "one id with different contents"
    WRONG_YEAR = "the file's name gives another year than its searches"


class State(enum.StrEnum):
    """What a cell held, without what it was."""

    GIVEN = "given"
    ABSENT = "absent"
    MASKED = "masked"
    WILDCARD = "wildcard"
    PLATE = "plate"


def instant(text: str) -> dt.datetime | None:
    """The time in `01/31/2026, 01:02:03 PM UTC`; None if it is none."""
    match = _TIME.fullmatch(text.strip())
    return _at(match) if match else None


def window(text: str) -> tuple[dt.datetime, dt.datetime] | None:
    """The two times in a cell, whatever stands between them, a line's end for one; None if there are not two."""
    times = [_at(m) for m in _TIME.finditer(text)]
    if len(times) != 2 or times[0] is None or times[1] is None:
        return None
    return times[0], times[1]


def number(text: str, odd: set[Oddity]) -> int | None:
    """The whole number in a cell, commas of thousands allowed; None, with what was odd added to `odd`, if none."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text.replace(",", ""))
    if _MASK.fullmatch(text):
        odd.add(Oddity.MASKED)
    else:
        odd.add(Oddity.DASHES if _DASHES.fullmatch(text) else Oddity.NO_NUMBER)
    return None


def plate(text: str) -> State:
    """What stands in the plate's cell. `***` alone is a mask, `7AB*` a wildcard, and so is `***7AB`."""
    text = text.strip()
    if not text or _DASHES.fullmatch(text):
        return State.ABSENT
    if _MASK.fullmatch(text):
        return State.MASKED
    bare = _bare(text)
    return State.WILDCARD if _PLATE.fullmatch(bare) and re.search(r"[*?]", bare) else State.GIVEN


def case(text: str, plate_cell: str) -> State:
    """What stands in the case number's cell: a plate, if it is this row's or of a plate's form."""
    text = text.strip()
    if not text or _DASHES.fullmatch(text):
        return State.ABSENT
    if _MASK.fullmatch(text):
        return State.MASKED
    bare = _bare(text)
    same = bare == _bare(plate_cell.strip()) and len(bare) <= MAX_PLATE_CHARACTERS and len(bare) > 3
    return State.PLATE if same or _LOOKS_LIKE_PLATE.fullmatch(text.upper()) else State.GIVEN


def masked(text: str) -> bool:
    """True if the cell was blacked out: `***`, `###`, `REDACTED`."""
    return _MASK.fullmatch(text.strip()) is not None


def _bare(text: str) -> str:
    return _BLANKS.sub("", text).upper()


def _at(match: re.Match[str]) -> dt.datetime | None:
    month, day, year, hour, minute, second = map(int, match.groups()[:6])
    if not 1 <= hour <= 12:
        return None
    try:
        return dt.datetime(year, month, day, hour % 12 + 12 * (match[7] == "P"), minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
