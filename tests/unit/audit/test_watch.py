"""What is found worth a look in a log's searches, what is not, and what is said not to have been looked for."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from audit import case_number
from audit.entry import Draft
from audit.read import LogReader
from audit.sealing import Clear
from audit.watch import Finding, Kind, Limits, Watched, watch
from cli.audit import audit
from comity.decision import Effect
from comity.errors import InvalidInput, LogFault
from comity.instants import to_text
from comity.plate import Plate
from comity.query import PlateQuery
from tests.unit.audit.sample import Forger, decided, unsigned
from tests.unit.identity.world import ALDER, BRAZOS

DAY0 = dt.datetime(2030, 4, 1, tzinfo=dt.UTC)
NOW = DAY0 + dt.timedelta(days=20)
END = NOW + dt.timedelta(days=7)


class Searches:
    """A log of searches in the order of their times, each decided at two nodes, and what is sealed with each."""

    def __init__(self) -> None:
        self.all: list[tuple[dt.datetime, str, str, str, str, str, Effect]] = []
        self.clear: dict[int, tuple[str, str]] = {}

    def add(
        self,
        day: float,
        *,
        hour: float = 12,
        person: str = "t-reyes",
        agency: str = ALDER,
        beneficiary: str = "",
        plate: str = "7ABC123",
        case: str = "PA-26-0101",
        times: int = 1,
        effect: Effect = Effect.PERMIT,
    ) -> None:
        for n in range(times):
            at = DAY0 + dt.timedelta(days=day, hours=hour, seconds=n)
            self.all.append((at, agency, person, beneficiary or agency, plate, case, effect))

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        forger = Forger(folder)
        for at, agency, person, beneficiary, plate, case, effect in sorted(self.all, key=lambda s: s[0]):
            draft = unsigned()
            requester = {"agency": agency, "person": person, "role": "investigator"}
            draft = Draft("inquiry", draft.body | {"requester": requester, "beneficiary": beneficiary})
            self.clear[len(forger.entries)] = plate, case
            forger.add(draft, at=to_text(at))
            forger.add(decided(draft, "alder-1", effect), at=to_text(at))
        return forger.write()

    def open(self, index: int) -> Clear:
        plate, case = self.clear[index]
        if plate == "erased":
            raise InvalidInput("its key was deleted", reason="ERASED")
        if plate == "broken":
            raise LogFault("not the one that was written", index=index, reason="SEALED_MISMATCH")
        query = PlateQuery(plate=Plate(number="A", state="CA"))
        return Clear(
            index=index, inquiry_id="", plate=plate, state="CA", case_number=case, authority_reference="", query=query,
            disclosures=(),
        )  # fmt: skip


def named(clear: Clear) -> str:
    return f"pseudonym-of-{ord(clear.plate[0])}" if clear.plate else ""


def watched(searches: Searches, folder: Path, *, key: bool = False, zone: dt.tzinfo = dt.UTC, **limits: int) -> Watched:
    with LogReader.open(searches.write(folder / "log")) as reader:
        opened = (searches.open, named) if key else None
        return watch(reader, begin=NOW, end=END, zone=zone, limits=Limits(**limits), opened=opened)  # type: ignore[arg-type]


def kinds(found: Sequence[Finding]) -> list[Kind]:
    return [f.kind for f in found]


def usual(times: int = 4) -> Searches:
    """Three people of one agency who search so often a day for 20 days and the week after."""
    searches = Searches()
    for day in range(27):
        for person in ("t-reyes", "m-diaz", "s-okafor"):
            searches.add(day, person=person, times=times + (day + len(person)) % 3, plate=f"P{day}")
    return searches


def test_the_usual_is_no_finding(tmp_path: Path) -> None:
    seen = watched(usual(), tmp_path)
    assert seen.findings == ()
    assert seen.searches > 80


def test_a_day_far_above_ones_own_and_the_agencys_usual_is_found_with_its_entries(tmp_path: Path) -> None:
    searches = usual()
    searches.add(23, person="m-diaz", hour=15, times=40)
    (found,) = watched(searches, tmp_path).findings
    assert (found.kind, found.agency, found.person) == (Kind.VOLUME, ALDER, "m-diaz")
    assert "on 2030-04-24, against their own usual" in found.sentence
    assert "their agency's usual" in found.sentence
    assert len(found.indexes) >= 40


def test_outliers_of_the_past_do_not_make_a_new_one_usual(tmp_path: Path) -> None:
    searches = usual()
    for day in (3, 9):
        searches.add(day, person="m-diaz", hour=15, times=60)
    searches.add(23, person="m-diaz", hour=15, times=60)
    assert kinds(watched(searches, tmp_path).findings) == [Kind.VOLUME]


def test_nobody_is_held_against_fewer_than_five_days(tmp_path: Path) -> None:
    searches = Searches()
    for day in (16, 17, 18, 19):
        searches.add(day, times=2)
    searches.add(22, times=90)
    assert watched(searches, tmp_path).findings == ()


def test_the_threshold_is_the_readers_own(tmp_path: Path) -> None:
    searches = usual()
    searches.add(23, person="m-diaz", hour=15, times=40)
    assert watched(searches, tmp_path, volume=100).findings == ()


def test_a_night_is_one_of_the_readers_time_zone(tmp_path: Path) -> None:
    searches = usual()
    searches.add(23, person="m-diaz", hour=6, times=8)  # 23:00 of the day before in Los Angeles
    assert kinds(watched(searches, tmp_path / "utc_", zone=dt.UTC, volume=99).findings) == []
    (found,) = watched(searches, tmp_path / "la_", zone=ZoneInfo("America/Los_Angeles"), volume=99).findings
    assert (found.kind, found.person) == (Kind.NIGHT, "m-diaz")
    assert "8 searches at night on 2030-04-23" in found.sentence


def test_whoever_always_searches_for_one_other_agency_is_found(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(21, beneficiary="us-ice-ero", times=5)
    searches.add(21, times=4)
    searches.add(21, person="m-diaz", beneficiary="us-ice-ero", times=3)
    searches.add(22, person="m-diaz", beneficiary=BRAZOS, times=3)
    (found,) = watched(searches, tmp_path).findings
    assert (found.kind, found.person, len(found.indexes)) == (Kind.STEADY_PROXY, "t-reyes", 5)
    assert "5 of 9 searches were for us-ice-ero" in found.sentence


def test_a_search_for_an_agency_whose_own_is_refused_there_is_found(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(2, agency="us-ice-ero", person="agent-1", effect=Effect.DENY)
    searches.add(21, beneficiary="us-ice-ero")
    searches.add(21, hour=13, beneficiary=BRAZOS)
    searches.add(22, person="m-diaz", beneficiary="us-ice-ero", effect=Effect.DENY)
    (found,) = watched(searches, tmp_path).findings
    assert (found.kind, found.person, found.indexes) == (Kind.REFUSED_BENEFICIARY, "t-reyes", (3,))
    assert "us-ice-ero, stolen-vehicle, were permitted where its own are refused: entries 1" in found.sentence


def test_one_plate_searched_again_and_again_is_found_by_its_pseudonym_alone(tmp_path: Path) -> None:
    searches = Searches()
    for day in (20, 22, 24):
        searches.add(day, plate="9EXX001")
        searches.add(day, hour=14, plate=f"{chr(day + 50)}OTHER", person="m-diaz")
    seen = watched(searches, tmp_path, key=True)
    (found,) = seen.findings
    assert (found.kind, found.person) == (Kind.REPEAT_TARGET, "t-reyes")
    assert found.sentence == f"one plate, pseudonym-of-{ord('9')}, searched 3 times on 3 days"
    assert "9EXX001" not in repr(seen)


def test_repeated_searches_of_one_day_are_found_from_so_many_on(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(21, times=9)
    assert kinds(watched(searches, tmp_path / "a_", key=True).findings) == []
    assert kinds(watched(searches, tmp_path / "b_", key=True, repeat_times=9).findings) == [Kind.REPEAT_TARGET]


CASES = {
    "": "missing", " . - ": "missing", "inv": "word", "Investigation": "word", "N/A": "word", "TEST": "word",
    "test test": "word", "999": "again", "000000": "again", "aaaa": "again", "12": "short", "x1": "short",
    "123": "run", "98765": "run", "qwerty": "run", "asdf": "run", "lkjh": "run", "abc": "run",
    "PA-26-0101": "", "2026-000123": "", "W12": "", "case 4471": "", "12-345": "run", "ERO-1": "", "7788": "",
}  # fmt: skip


@pytest.mark.parametrize(("text", "why"), CASES.items(), ids=[repr(c) for c in CASES])
def test_a_case_number_that_names_no_case_is_told_from_one_that_may(text: str, why: str) -> None:
    found = case_number.fault(text)
    assert (why in found) if why else found == ""


@given(st.text(max_size=40))
def test_what_is_said_of_a_case_number_comes_from_a_closed_list(text: str) -> None:
    assert case_number.fault(text) in {
        "", "missing", "one character again and again", "too short to name a case", "a word that names no case",
        "a run of the keyboard",
    }  # fmt: skip


def test_missing_and_vague_case_numbers_are_found_and_not_repeated(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(21, case=".", plate="A1", times=2)
    searches.add(22, case="zxcv", plate="B1")
    searches.add(22, hour=14, case="PA-26-0101", plate="C1")
    seen = watched(searches, tmp_path, key=True)
    assert [(f.kind, len(f.indexes)) for f in seen.findings] == [(Kind.MISSING_CASE, 2), (Kind.VAGUE_CASE, 1)]
    assert "zxcv" not in repr(seen)


def test_without_a_key_what_is_sealed_is_said_not_to_be_looked_for(tmp_path: Path) -> None:
    searches = Searches()
    for day in (20, 22, 24):
        searches.add(day, plate="9EXX001", case="inv")
    seen = watched(searches, tmp_path)
    assert seen.findings == ()
    assert set(seen.not_looked_for) == {Kind.REPEAT_TARGET, Kind.MISSING_CASE, Kind.VAGUE_CASE}


def test_what_was_erased_is_counted_and_never_taken_for_nothing_found(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(21, plate="erased", times=3)
    seen = watched(searches, tmp_path / "a_", key=True)
    assert seen.unopened == {"ERASED": 3}
    assert Kind.REPEAT_TARGET in seen.not_looked_for
    searches.add(22, plate="A1")
    partly = watched(searches, tmp_path / "b_", key=True)
    assert (partly.unopened, partly.not_looked_for) == ({"ERASED": 3}, {})


def test_a_sealed_part_that_was_replaced_stops_the_watch(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(21, plate="broken")
    with pytest.raises(LogFault):
        watched(searches, tmp_path, key=True)


def test_a_span_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    with LogReader.open(usual(1).write(tmp_path)) as reader, pytest.raises(InvalidInput):
        watch(reader, begin=END, end=NOW)


def test_the_command_says_what_it_found_and_what_it_could_not_look_for(tmp_path: Path) -> None:
    searches = Searches()
    searches.add(20, beneficiary="us-ice-ero", times=6)
    folder = str(searches.write(tmp_path))
    result = CliRunner(env={"COLUMNS": "200"}).invoke(audit, ["watch", folder])
    assert result.exit_code == 3
    assert "steady-proxy us-ca-alder-pd/t-reyes: 6 of 6 searches were for us-ice-ero" in result.output
    assert "not looked for: repeat-target" in result.output
    lines = [json.loads(x) for x in CliRunner().invoke(audit, ["watch", folder, "--json"]).output.splitlines()]
    assert [x["event"] for x in lines] == ["finding", "summary"]
    assert (lines[1]["findings"], set(lines[1]["not_looked_for"])) == (
        1,
        {"repeat-target", "missing-case", "vague-case"},
    )
    quiet = CliRunner().invoke(audit, ["watch", folder, "--proxy", "7"])
    assert quiet.exit_code == 0
    assert "no findings" in quiet.output


@pytest.mark.parametrize(
    "arguments", [["--night", "5"], ["--night", "25-3"], ["--zone", "Mars/North"], ["--key", "k"]], ids=" ".join
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(audit, ["watch", str(usual(1).write(tmp_path)), *arguments]).exit_code == 2
