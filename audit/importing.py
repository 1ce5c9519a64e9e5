"""Today's audit exports, read whatever state they are in: what was searched when by whom, and what could not be read.

A row is taken by the names in its file's header, or by how many cells it has where there is none. A row that is not
understood is kept as it is, with the reason; it is never dropped and never guessed at beyond one column's shift.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit import quirks
from audit.hashes import Progress
from audit.quirks import Oddity, State
from comity.errors import InvalidInput
from identity import files

COLUMNS = (
    "ID", "Name", "Org Name", "Total Networks Searched", "Total Devices Searched", "Time Frame", "License Plate",
    "Reason", "Case #", "Filters", "Search Time", "Search Type", "Text Prompt", "Moderation",
)  # fmt: skip
# Where no header says it: an older export lacks the newer columns at its end, and the oldest the id too.
FORMS: Mapping[int, tuple[str, ...]] = {14: COLUMNS, 13: COLUMNS[:13], 11: COLUMNS[:11], 10: COLUMNS[1:11]}
NEEDED = frozenset({"Org Name", "Search Time"})
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_CELL_CHARACTERS = 32_768
MAX_CELLS = 64
_YEAR = re.compile(r"(?<!\d)(20\d\d)(?!\d)")
_PROGRESS_EVERY = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One row: no plate, case number or reason, only whether one was given."""

    line: int
    id: str
    org: str
    person: str
    at: dt.datetime
    networks: int | None
    devices: int | None
    begin: dt.datetime | None
    end: dt.datetime | None
    plate: State
    case: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A row that was not understood: the line it begins on, why, and the row as it is, which may hold a plate."""

    line: int
    why: str
    cells: tuple[str, ...] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Imported:
    """What one file held. `odd` counts rows by what was odd about them; `examples` has the first lines of each."""

    file: Path
    searches: list[Search] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    odd: Counter[Oddity] = field(default_factory=Counter)
    examples: dict[Oddity, list[int]] = field(default_factory=dict)

    def note(self, line: int, oddity: Oddity) -> None:
        """Count it."""
        self.odd[oddity] += 1
        lines = self.examples.setdefault(oddity, [])
        if len(lines) < 5:
            lines.append(line)


def read_export(path: Path, progress: Progress | None = None) -> Imported:
    """Everything in one file.

    Raises:
        ConfigError: it cannot be read, or is larger than MAX_FILE_BYTES.
        InvalidInput: no row of it is one of an audit export (NOT_AN_EXPORT).
    """
    out = Imported(file=path)
    form: tuple[str, ...] = ()
    seen: dict[str, Search] = {}
    size = 0
    for line, cells in _rows(out, files.read(path, max_bytes=MAX_FILE_BYTES)):
        size += 1
        if progress and size % _PROGRESS_EVERY == 0:
            progress(size, size)
        header = _header(cells)
        if header:
            if form:
                out.note(line, Oddity.SECOND_HEADER)
            form = header
            continue
        try:
            form = _form_of(out, line, cells, form)
            search = _search(out, line, cells, form)
        except _NotUnderstood as e:
            out.unread.append(Unread(line=line, why=str(e), cells=tuple(cells)))
            continue
        if search.id:
            _note_twice(out, search, seen)
        out.searches.append(search)
    if not out.searches and not form:
        raise InvalidInput(f"{path.name} is no audit export: no header and no row of one", reason="NOT_AN_EXPORT")
    _note_year(out)
    return out


class _NotUnderstood(Exception):
    """Why a row is not understood, in words that repeat nothing of it."""


def _rows(out: Imported, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line it begins on; a row that breaks the CSV ends the file."""
    if data.startswith(b"\xef\xbb\xbf"):
        out.note(1, Oddity.BYTE_ORDER_MARK)
        data = data[3:]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        out.note(1, Oddity.NOT_UTF8)
        text = data.decode("cp1252", errors="replace")
    reader = csv.reader(io.StringIO(text.replace("\0", ""), newline=""))
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            out.unread.append(Unread(line=line, why="not CSV from here to the end of the file", cells=()))
            return
        if any(c.strip() for c in cells):
            yield line, [c.lstrip("\ufeff") if i == 0 else c for i, c in enumerate(cells)]


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns, if the row is a header; a name that is not known stands for a column that is not read."""
    names = tuple(" ".join(c.split()) for c in cells)
    known = {c.casefold(): c for c in COLUMNS}
    found = tuple(known.get(n.casefold(), "") for n in names)
    return found if set(found) >= NEEDED else ()


def _form_of(out: Imported, line: int, cells: Sequence[str], form: tuple[str, ...]) -> tuple[str, ...]:
    """The form that the row is read in: the current one, or another that its number of cells tells.

    Raises:
        _NotUnderstood: too many or too long cells, or no form has as many.
    """
    if len(cells) > MAX_CELLS or any(len(c) > MAX_CELL_CHARACTERS for c in cells):
        raise _NotUnderstood("more or longer cells than any export has")
    other = FORMS.get(len(cells))
    if len(cells) == len(form) or other is None:
        if not form:
            raise _NotUnderstood(f"{len(cells)} cells, and no header says what they are")
        return form
    if quirks.instant(_named(cells, other).get("Search Time", "")) is None:
        return form or other  # it may be a row of the current form that is shifted
    out.note(line, Oddity.NO_HEADER)
    return other


def _search(out: Imported, line: int, cells: Sequence[str], form: tuple[str, ...]) -> Search:
    """The search in a row.

    Raises:
        _NotUnderstood: no time of a search, or nobody who searched.
    """
    odd: set[Oddity] = set()
    row = _aligned(cells, form, odd)
    at, org = quirks.instant(row["Search Time"]), " ".join(row["Org Name"].split())
    if at is None:
        masked = quirks.masked(row["Search Time"])
        raise _NotUnderstood("the time of the search is masked" if masked else "no time of the search where it belongs")
    if not org:
        raise _NotUnderstood("no organisation")
    span = quirks.window(row.get("Time Frame", ""))
    plate_cell = row.get("License Plate", "")
    search = Search(
        line=line,
        id=row.get("ID", "").strip()[:200],
        org=org[:200],
        person=State.MASKED if quirks.masked(row.get("Name", "")) else State.GIVEN if row.get("Name") else State.ABSENT,
        at=at,
        networks=quirks.number(row["Total Networks Searched"], odd) if "Total Networks Searched" in row else None,
        devices=quirks.number(row["Total Devices Searched"], odd) if "Total Devices Searched" in row else None,
        begin=span[0] if span else None,
        end=span[1] if span else None,
        plate=quirks.plate(plate_cell),
        case=quirks.case(row.get("Case #", ""), plate_cell),
    )
    odd |= set(_oddities(search, "Time Frame" in row, "Case #" in row))
    if any(map(quirks.masked, row.values())):
        odd.add(Oddity.MASKED)
    for oddity in sorted(odd):
        out.note(line, oddity)
    return search


def _oddities(search: Search, has_window: bool, has_case: bool) -> Iterator[Oddity]:
    if search.begin and search.end:
        if search.end < search.begin:
            yield Oddity.WINDOW_REVERSED
        if search.begin > search.at:
            yield Oddity.WINDOW_AFTER
        if search.end > search.at:
            yield Oddity.WINDOW_BEYOND
    elif has_window:
        yield Oddity.NO_WINDOW
    if search.networks == 0:
        yield Oddity.NO_NETWORKS
    if search.plate is State.WILDCARD:
        yield Oddity.WILDCARD
    if search.case is State.PLATE:
        yield Oddity.PLATE_IN_CASE
    if has_case and search.case is State.ABSENT:
        yield Oddity.NO_CASE


def _aligned(cells: Sequence[str], form: tuple[str, ...], odd: set[Oddity]) -> dict[str, str]:
    """The row by column; one whose time stands one cell aside is put back."""
    row = _named(cells, form)
    if quirks.instant(row["Search Time"]) is not None and len(cells) == len(form):
        return row
    for moved in ([*cells[1:], ""], ["", *cells]):
        again = _named(moved, form)
        numbers = again.get("Total Networks Searched", "0")
        if quirks.instant(again["Search Time"]) is not None and quirks.number(numbers, set()) is not None:
            odd.add(Oddity.SHIFTED)
            return again
    return row


def _named(cells: Sequence[str], form: tuple[str, ...]) -> dict[str, str]:
    filled = [*cells, *[""] * (len(form) - len(cells))]
    return {name: cell for name, cell in zip(form, filled, strict=False) if name}


def _note_twice(out: Imported, search: Search, seen: dict[str, Search]) -> None:
    before = seen.setdefault(search.id, search)
    if before is not search:
        fields = ("org", "at", "networks", "devices", "begin", "end")
        same = all(getattr(before, name) == getattr(search, name) for name in fields)
        out.note(search.line, Oddity.SAME_TWICE if same else Oddity.ID_TWICE)


def _note_year(out: Imported) -> None:
    named = {int(y) for y in _YEAR.findall(out.file.name)}
    years = {s.at.year for s in out.searches}
    if named and years and not named & years:
        out.note(0, Oddity.WRONG_YEAR)
