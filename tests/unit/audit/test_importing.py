"""Today's audit exports: every odd form of them is read or kept with a reason, and no plate leaves the reader."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import quirks
from audit.entry import Draft
from audit.import_compare import compare
from audit.importing import COLUMNS, FORMS, Imported, read_export
from audit.quirks import Oddity, State
from audit.read import LogReader
from cli.audit import audit
from comity.errors import ConfigError, InvalidInput
from comity.federation import Federation
from tests.unit.audit.sample import START, Forger, unsigned
from tests.unit.identity.world import ALDER, BRAZOS, REGISTRY

PLATE = "7CAN042"
ROW = (
    "81a0", "T. Reyes", "Alder Police", "412", "5,310", "01/24/2026, 01:02:03 PM UTC\n01/31/2026, 01:02:03 PM UTC",
    PLATE, "stolen", "PA-26-0101", "make: any", "01/31/2026, 01:02:05 PM UTC", "exact", "", "none",
)  # fmt: skip


def row(**changes: str) -> tuple[str, ...]:
    names = {c.split()[0].lower().rstrip("#"): i for i, c in enumerate(COLUMNS)}
    names |= {"networks": 3, "devices": 4, "frame": 5, "plate": 6, "at": 10}
    cells = list(ROW)
    for name, cell in changes.items():
        cells[names[name]] = cell
    return tuple(cells)


def text(*rows: Sequence[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def read(tmp_path: Path, data: bytes, name: str = "searches.csv") -> Imported:
    (tmp_path / name).write_bytes(data)
    return read_export(tmp_path / name)


def export(tmp_path: Path, *rows: Sequence[str], columns: Sequence[str] = COLUMNS) -> Imported:
    return read(tmp_path, text(columns, *rows))


@pytest.mark.parametrize("columns", FORMS.values(), ids=[f"{n} columns" for n in FORMS])
@pytest.mark.parametrize("header", [True, False], ids=["with a header", "without"])
def test_every_form_is_read_with_its_header_and_without(tmp_path: Path, columns: tuple[str, ...], header: bool) -> None:
    cells = [ROW[COLUMNS.index(c)] for c in columns]
    found = read(tmp_path, text(*([columns] if header else []), cells))
    (search,) = found.searches
    assert (search.org, search.at) == ("Alder Police", dt.datetime(2026, 1, 31, 13, 2, 5, tzinfo=dt.UTC))
    assert (search.networks, search.devices) == (412, 5310)
    assert (search.plate, search.case) == (State.GIVEN, State.GIVEN)
    assert search.begin == dt.datetime(2026, 1, 24, 13, 2, 3, tzinfo=dt.UTC)
    assert found.odd == ({} if header else {Oddity.NO_HEADER: 1})
    assert found.unread == []


def test_columns_in_another_order_and_unknown_ones_are_read_by_name(tmp_path: Path) -> None:
    columns = ("New", "search time", " ORG  Name ", "Total Networks Searched")
    (search,) = export(tmp_path, ("x", ROW[10], "Alder Police", "7"), columns=columns).searches
    assert (search.org, search.networks, search.plate) == ("Alder Police", 7, State.ABSENT)


ODD: dict[str, tuple[dict[str, str], Oddity]] = {
    "a window that ends before it begins": (
        {"frame": "01/31/2026, 01:02:03 AM UTC\n01/24/2026, 01:02:03 AM UTC"}, Oddity.WINDOW_REVERSED,
    ),
    "a window that begins after the search": (
        {"frame": "02/01/2026, 01:02:03 PM UTC\n02/03/2026, 01:02:03 PM UTC"}, Oddity.WINDOW_AFTER,
    ),
    "a window that ends after the search": (
        {"frame": "01/24/2026, 01:02:03 PM UTC - 02/03/2026, 01:02:03 PM UTC"}, Oddity.WINDOW_BEYOND,
    ),
    "no window": ({"frame": "last week"}, Oddity.NO_WINDOW),
    "no networks": ({"networks": "0"}, Oddity.NO_NETWORKS),
    "two em-dashes": ({"networks": "——"}, Oddity.DASHES),
    "words for a number": ({"devices": "many"}, Oddity.NO_NUMBER),
    "stars": ({"name": "***"}, Oddity.MASKED),
    "redacted": ({"reason": "REDACTED"}, Oddity.MASKED),
    "hashes": ({"plate": "###"}, Oddity.MASKED),
    "a wildcard": ({"plate": "7CA*"}, Oddity.WILDCARD),
    "a wildcard beside a mask": ({"plate": "7CA*", "name": "***"}, Oddity.WILDCARD),
    "this row's plate for a case number": ({"case": "7can-042"}, Oddity.PLATE_IN_CASE),
    "a plate for a case number": ({"case": "8XYZ123", "plate": "***"}, Oddity.PLATE_IN_CASE),
    "no case number": ({"case": " "}, Oddity.NO_CASE),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "oddity"), ODD.values(), ids=ODD)
def test_what_is_odd_about_a_row_is_told_and_the_row_read(
    tmp_path: Path, changes: dict[str, str], oddity: Oddity
) -> None:
    found = export(tmp_path, row(**changes))
    assert len(found.searches) == 1
    assert found.examples[oddity] == [2]


PLATES = {
    "7ABC123": State.GIVEN, "***": State.MASKED, "*****": State.MASKED, "REDACTED": State.MASKED, "###": State.MASKED,
    "7A*": State.WILDCARD, "*7A": State.WILDCARD, "7?BC": State.WILDCARD, "***7AB": State.WILDCARD, "": State.ABSENT,
    "——": State.ABSENT, "7ABC123 / 8XY*": State.GIVEN,
}  # fmt: skip


@pytest.mark.parametrize(("cell", "state"), PLATES.items(), ids=[p or "nothing" for p in PLATES])
def test_a_mask_a_wildcard_and_a_plate_are_told_apart(cell: str, state: State) -> None:
    assert quirks.plate(cell) is state


def test_a_byte_order_mark_a_second_header_and_a_second_form_are_told(tmp_path: Path) -> None:
    ten = [ROW[COLUMNS.index(c)] for c in FORMS[10]]
    data = b"\xef\xbb\xbf" + text(COLUMNS, row(), COLUMNS, row(id="2"), ten, row(id="3"))
    found = read(tmp_path, data)
    assert len(found.searches) == 4
    assert found.odd == {Oddity.BYTE_ORDER_MARK: 1, Oddity.SECOND_HEADER: 1, Oddity.NO_HEADER: 2}


@pytest.mark.parametrize(
    "cells", [("", *row()), row()[1:], ("", *row()[:13])], ids=["a cell more", "a cell less", "pushed to the right"]
)
def test_a_row_shifted_by_one_column_is_put_back_and_told(tmp_path: Path, cells: tuple[str, ...]) -> None:
    found = export(tmp_path, cells)
    (search,) = found.searches
    assert (search.org, search.networks) == ("Alder Police", 412)
    assert found.odd[Oddity.SHIFTED] == 1


def test_one_id_with_other_counts_is_told_from_the_same_row_twice(tmp_path: Path) -> None:
    found = export(tmp_path, row(), row(), row(networks="9"))
    assert len(found.searches) == 3
    assert (found.odd[Oddity.SAME_TWICE], found.odd[Oddity.ID_TWICE]) == (1, 1)


def test_a_file_named_after_another_year_is_told(tmp_path: Path) -> None:
    data = text(COLUMNS, row())
    assert read(tmp_path, data, "audit-2024-01.csv").odd == {Oddity.WRONG_YEAR: 1}
    assert read(tmp_path, data, "audit-2026-01.csv").odd == {}


def test_other_encodings_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, text(COLUMNS, row(org="Cañada Police")).decode().encode("cp1252"))
    assert (found.searches[0].org, found.odd[Oddity.NOT_UTF8]) == ("Cañada Police", 1)


UNREAD = {
    "no time": row(at="soon"),
    "a masked time": row(at="***"),
    "a time that is none": row(at="13/45/2026, 01:02:03 PM UTC"),
    "hour 13 of twelve": row(at="01/31/2026, 13:02:03 PM UTC"),
    "no organisation": row(org=" "),
    "a word": ("total",),
    "a cell of a book's length": row(reason="x" * 40_000),
    "too many cells": tuple("x" * 80),
}


@pytest.mark.parametrize("cells", UNREAD.values(), ids=UNREAD)
def test_a_row_that_is_not_understood_is_kept_whole_with_its_line_and_a_reason(
    tmp_path: Path, cells: tuple[str, ...]
) -> None:
    found = export(tmp_path, row(), cells, row(id="z"))
    assert len(found.searches) == 2
    (unread,) = found.unread
    assert (unread.line, unread.cells) == (4, cells)
    assert unread.why
    assert PLATE not in unread.why + repr(unread)


def test_what_is_not_csv_ends_the_file_and_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, text(COLUMNS, row()) + b'"' + b"x" * 200_000)
    assert (len(found.searches), len(found.unread)) == (1, 1)


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"\x00\x01\xff", b"PK\x03\x04"])
def test_what_is_no_export_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidInput) as e:
        read(tmp_path, data)
    assert e.value.reason == "NOT_AN_EXPORT"


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.one_of(st.sampled_from([*ROW, "***", "——", ""]), st.text(max_size=8)), max_size=16), max_size=6
    )
)
def test_every_row_is_read_or_kept(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    clean = [[c.replace("\r", " ").replace("\n", " ").replace("\0", "") for c in cells] for cells in rows]
    data = text(COLUMNS, *clean)
    kept = [c for c in clean if any(cell.strip() for cell in c)]
    found = read(tmp_path_factory.mktemp("x"), data)
    assert len(found.searches) + len(found.unread) == len(kept)


# --- compared ---------------------------------------------------------------------------------------------------------


def log(folder: Path, *searches: tuple[str, str]) -> tuple[Path, list[str]]:
    """A log with those searches (agency, day of January 2026); their ids."""
    folder.mkdir(exist_ok=True)
    forger, ids = Forger(folder), []
    for agency, day in searches:
        draft = unsigned()
        requester = {"agency": agency, "person": "t-reyes", "role": "investigator"}
        ids.append(draft.body["inquiry_id"])
        forger.add(Draft("inquiry", draft.body | {"requester": requester}), at=f"2026-01-{day}T12:00:00.000Z")
    return forger.add(START, at="2026-03-01T12:00:00.000Z").write(), ids


def on(day: str, org: str = "Alder Police", id_: str = "") -> tuple[str, ...]:
    return row(at=f"01/{day}/2026, 01:02:05 PM UTC", org=org, id=id_)


def test_counts_are_compared_by_agency_and_day_under_either_name(tmp_path: Path) -> None:
    folder, _ = log(tmp_path / "log", (ALDER, "30"), (ALDER, "30"), (BRAZOS, "31"), (ALDER, "31"))
    found = export(tmp_path, on("30"), on("30", ALDER), on("31", "BRAZOS police"), on("31", "Elsewhere PD"))
    with LogReader.open(folder) as reader:
        c = compare(found.searches, reader, Federation.parse(REGISTRY))
    assert [(d.agency, d.day.day, d.ours, d.theirs) for d in c.differing] == [
        ("Elsewhere PD", 31, 0, 1),
        (ALDER, 31, 1, 0),
    ]
    assert (c.days, c.unknown_orgs, c.by_id, c.agree) == (4, ("Elsewhere PD",), False, False)


def test_ids_missing_on_either_side_are_named_where_they_are_those_of_inquiries(tmp_path: Path) -> None:
    folder, (first, second) = log(tmp_path / "log", (ALDER, "30"), (ALDER, "31"))
    other = "01890a5d-ac96-774b-bcce-b302099a8057"
    found = export(tmp_path, on("30", ALDER, first), on("31", ALDER, other))
    with LogReader.open(folder) as reader:
        c = compare(found.searches, reader, None)
    assert (c.differing, c.by_id, c.not_ours, c.not_theirs) == ((), True, (other,), (second,))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(audit, ["import", *map(str, arguments)])


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    rows = [row(), row(case=PLATE), row(plate="7CA*", id="2"), UNREAD["no time"], row(networks="0", id="3")]
    (tmp_path / "odd.csv").write_bytes(text(COLUMNS, *rows))
    return tmp_path / "odd.csv"


def test_the_command_tells_line_by_line_and_shows_no_plate(odd_file: Path, tmp_path: Path) -> None:
    result = run(odd_file, "--rows", "--rejects", tmp_path / "rejects")
    assert result.exit_code == 3
    assert "odd.csv:8: not read: no time of the search where it belongs" in result.output
    assert "odd.csv: a plate in place of the case number: 1 rows (lines 4, ...)" in result.output
    assert "4 searches of 1 organisations read, 1 rows not." in result.output
    as_json = run(odd_file, "--rows", "--json")
    for output in (result.output, as_json.output):
        assert PLATE not in output
        assert "7CA*" not in output
        assert "PA-26" not in output
    assert [json.loads(x)["event"] for x in as_json.output.splitlines()] == [*["search"] * 4, "unread", "file"]
    kept = tmp_path / "rejects"
    assert json.loads(kept.read_bytes())["cells"] == list(UNREAD["no time"])
    assert kept.stat().st_mode & 0o077 == 0


def test_the_command_compares_and_says_by_its_exit_code_whether_they_agree(tmp_path: Path) -> None:
    folder, ids = log(tmp_path / "log", (ALDER, "30"), (ALDER, "31"))

    def compared(*rows: Sequence[str]) -> tuple[int, dict[str, Any]]:
        (tmp_path / "x.csv").write_bytes(text(COLUMNS, *rows))
        result = run(tmp_path / "x.csv", "--compare", folder, "--json")
        return result.exit_code, json.loads(result.output.splitlines()[-1])

    code, said = compared(on("30", ALDER, ids[0]), on("31", ALDER, ids[1]))
    assert (code, said["agree"], said["not_in_log"]) == (0, True, [])
    code, said = compared(on("30", ALDER, ids[0]), on("31", ALDER, ids[1]), on("31", ALDER))
    assert (code, said["differing"]) == (3, [{"agency": ALDER, "day": "2026-01-31", "log": 1, "exports": 2}])
    words = run(tmp_path / "x.csv", "--compare", folder).output
    assert f"2026-01-31 {ALDER}: 1 in the log, 2 in the exports" in words


REFUSED: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "no file": lambda p: (p / "none.csv",),
    "rejects that are there": lambda p: (p / "a.csv", "--rejects", p / "a.csv"),
    "no log": lambda p: (p / "a.csv", "--compare", p),
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_or_kept_is_an_error(
    tmp_path: Path, arguments: Callable[[Path], tuple[object, ...]]
) -> None:
    (tmp_path / "a.csv").write_bytes(text(COLUMNS, row()))
    assert isinstance(run(*arguments(tmp_path)).exception, ConfigError)
