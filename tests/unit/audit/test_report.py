"""The public report: what it counts, what it hides and that it cannot be worked out, and how it is verified."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.entry import Draft
from audit.hashes import reading
from audit.note import Checkpoint, VerifierKey
from audit.report import COLUMNS, TABLES, Span, encode, make_report
from audit.report_check import check_report
from audit.report_html import page
from audit.suppression import LEAST, Counts, suppress
from cli.audit import audit
from comity import jcs
from comity.decision import Effect, Layer, MatchedRule
from comity.errors import ComityError, ConfigError, InvalidInput, LogFault
from comity.federation import Federation
from comity.outcome import OutcomeKind
from tests.unit.audit.sample import ORIGIN, START, Forger, answered, decided, unsigned
from tests.unit.identity.world import ALDER, BRAZOS, REGISTRY, World

FEDERATION_ = Federation.parse(REGISTRY)
RULE = (MatchedRule(rule="SC-2", effect="deny", basis="an ordinance", layer=Layer.NODE),)
NAMES = "abcd"


def asked(agency: str = ALDER, beneficiary: str = ALDER, *, preview: bool = False) -> Draft:
    draft = unsigned()
    requester = {"agency": agency, "person": "t-reyes", "role": "investigator"}
    return Draft("inquiry", draft.body | {"requester": requester, "beneficiary": beneficiary, "preview": preview})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days: 9 searches of Alder, 5 of Brazos of which two are refused at a node, 2 previews."""
    forger = Forger(tmp_path_factory.mktemp("log"))
    forger.add(START)
    for n in range(16):
        at = f"2030-05-0{1 + n // 12}T12:00:{n:02}.000Z"
        agency = ALDER if n < 10 else BRAZOS
        draft = asked(agency, agency, preview=n in (0, 11))
        forger.add(draft, at=at)
        forger.add(decided(draft, "alder-1"), at=at)
        refused = n in (12, 13)
        forger.add(
            decided(draft, "brazos-1", Effect.DENY, rules=RULE) if refused else decided(draft, "brazos-1"), at=at
        )
        if n not in (0, 11):
            forger.add(answered(draft, "alder-1", OutcomeKind.MATCH, count=3), at=at)
            forger.add(answered(draft, "brazos-1", OutcomeKind.REFUSED if refused else OutcomeKind.NO_MATCH), at=at)
    return forger.write()


def made(folder: Path, **options: Any) -> dict[str, Any]:
    return make_report(folder, FEDERATION_, **({"span": Span()} | options))


def test_it_counts_searches_refusals_answers_and_matches_and_previews_apart(folder: Path) -> None:
    report = made(folder)
    assert report["totals"] == {"searches": 14, "refusals": 2, "answers": 26, "matches": 14, "previews": 2}
    assert report["entries"] == {"decision": 32, "inquiry": 16, "outcome": 28, "start": 1}
    assert (report["first"]["size"], report["last"]["size"]) == (0, 77)


def test_a_row_with_a_small_count_is_hidden_and_another_with_it(folder: Path) -> None:
    rows = made(folder)["tables"]["beneficiary"]["rows"]
    assert rows[BRAZOS] is None  # two refusals
    assert rows[ALDER] is None
    assert rows["not in the directory"] == dict.fromkeys(COLUMNS, 0)
    assert made(folder)["tables"]["rule"]["rows"]["node:SC-2"] is None


def test_the_span_is_named_by_two_heads_that_the_signed_one_grew_from(folder: Path) -> None:
    report = made(folder, span=Span(begin="2030-05-02T00:00:00.000Z", end="2030-05-03T00:00:00.000Z"))
    assert (report["totals"]["searches"], report["totals"]["previews"]) == (4, 0)
    between = report["last"]["size"] - report["first"]["size"]
    assert between == sum(report["entries"].values()) == 20
    with reading(folder) as reader:
        check_report(encode(report), reader.key(), log=folder, federation=FEDERATION_)


def test_the_same_log_gives_the_same_report_when_more_was_written_since(folder: Path, tmp_path: Path) -> None:
    report = made(folder)
    bigger = Forger(tmp_path)
    with reading(folder) as reader:
        for entry in reader.entries(0, 100):
            bigger.raw(entry)
        head = Checkpoint.parse(reader.head()[1])
    bigger.add(START, at="2030-06-01T12:00:00.000Z")
    report["checkpoint"] = head.sign(bigger.key).decode()
    again = check_report(
        encode(report), VerifierKey.of(ORIGIN, bigger.key.public_key()), log=bigger.write(), federation=FEDERATION_
    )
    assert again["last"]["size"] == 77


def test_counts_below_five_are_never_published(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="below 5"):
        made(folder, least=4)


FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "fewer searches": ("WRONG_COUNTS", lambda r: r["totals"].update(searches=13)),
    "an entry left out": ("WRONG_COUNTS", lambda r: r["entries"].update(decision=31)),
    "an earlier last head": ("WRONG_COUNTS", lambda r: r["entries"].update(decision=31) or r["last"].update(size=76)),
    "another root": ("WRONG_ROOT", lambda r: r["last"].update(root="0" * 64)),
    "another first root": ("WRONG_ROOT", lambda r: r["first"].update(root="0" * 64)),
    "another log": ("WRONG_ORIGIN", lambda r: r.update(origin="other/log")),
    "refusals moved": ("OTHER_REPORT", lambda r: r["totals"].update(refusals=1)),
    "a row shown that was hidden": (
        "OTHER_REPORT",
        lambda r: r["tables"]["beneficiary"]["rows"].update({ALDER: dict.fromkeys(COLUMNS, 2)}),
    ),
    "a smaller threshold": ("BAD_REPORT", lambda r: r.update(least=2)),
    "a field more": ("BAD_REPORT", lambda r: r.update(note="trust me")),
    "a negative count": ("BAD_REPORT", lambda r: r["totals"].update(matches=-1)),
}


@pytest.mark.parametrize(("reason", "forge"), FORGED.values(), ids=FORGED)
def test_a_report_that_says_otherwise_is_found(folder: Path, reason: str, forge: Callable[[Any], object]) -> None:
    report = made(folder)
    forge(report)
    with reading(folder) as reader, pytest.raises(LogFault) as e:
        check_report(encode(report), reader.key(), log=folder, federation=FEDERATION_)
    if reason == "WRONG_COUNTS" and e.value.reason == "BAD_PROOF":
        reason = "BAD_PROOF"  # the size was moved as well: the proof has not the hashes for it
    assert e.value.reason == reason


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]\n", b'{"a":1}\n', b"\xff", b"9" * 5000])
def test_what_is_no_report_is_refused(folder: Path, data: bytes) -> None:
    with reading(folder) as reader, pytest.raises(LogFault) as e:
        check_report(data, reader.key())
    assert e.value.reason == "BAD_REPORT"


def test_the_page_is_whole_on_its_own_and_every_table_has_a_caption_and_heads(folder: Path) -> None:
    html = page(made(folder))
    root = ElementTree.fromstring(html.partition(b"\n")[2])
    space = "{http://www.w3.org/1999/xhtml}"
    assert root.get("lang") == "en"
    assert root.findtext(f"{space}head/{space}title")
    assert not [e for e in root.iter() if e.tag in (f"{space}script", f"{space}link", f"{space}img")]
    assert not [e for e in root.iter() if e.get("src") or e.get("href")]
    tables = list(root.iter(f"{space}table"))
    assert len(tables) == 4
    for table in tables:
        assert table.findtext(f"{space}caption")
        assert {th.get("scope") for th in table.iter(f"{space}th")} == {"col", "row"}
        widths = {len(list(row)) for row in table.iter(f"{space}tr")}
        assert len(widths) == 1
    levels = [int(e.tag[-1]) for e in root.iter() if e.tag.removeprefix(space) in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_a_name_in_the_log_cannot_become_markup() -> None:
    registry = Federation.parse(REGISTRY)
    forger_name = "<b>x</b>&"
    report = {
        "origin": "o<script>", "span": {"begin": "", "end": ""}, "federation": registry.id, "least": 5,
        "totals": dict.fromkeys((*COLUMNS, "previews"), 0), "entries": {}, "checkpoint": "a<b",
        "first": {"size": 0, "root": ""}, "last": {"size": 0, "root": ""},
        "tables": {t: {"withheld": False, "rows": {forger_name: None}} for t in TABLES},
    }  # fmt: skip
    html = page(report)
    assert b"<b>" not in html
    assert b"<script" not in html


# --- small counts ---------------------------------------------------------------------------------------------------


def split(total: int, rows: int) -> Iterator[tuple[int, ...]]:
    """Every way in which that many rows have that total."""
    if rows == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in split(total - first, rows - 1):
            yield (first, *rest)


def worlds(rows: int, totals: Counts) -> Iterator[dict[str, Counts]]:
    """Every table with those totals; where nothing was searched nothing was refused."""
    for columns in itertools.product(*(split(t, rows) for t in totals)):
        table = list(zip(*columns, strict=True))
        if not any(row[0] == 0 and any(row) for row in table):
            yield dict(zip(NAMES, table, strict=False))


@pytest.mark.parametrize(
    ("rows", "totals"), [(2, (14, 7)), (3, (9, 4)), (4, (6, 3))], ids=["two rows", "three", "four"]
)
def test_whoever_knows_totals_and_procedure_cannot_tell_a_hidden_count(rows: int, totals: tuple[int, int]) -> None:
    for searches, refusals in itertools.product(range(1, totals[0] + 1), range(totals[1] + 1)):
        same: defaultdict[Any, list[dict[str, Counts]]] = defaultdict(list)
        for world in worlds(rows, (searches, refusals)):
            shown = suppress(world, LEAST)
            same[shown.withheld, tuple(sorted(shown.rows.items()))].append(world)
        for (withheld, shown_rows), fitting in same.items():
            hidden = [n for n in NAMES[:rows] if withheld or dict(shown_rows)[n] is None]
            for name, (column, total) in itertools.product(hidden, enumerate((searches, refusals))):
                assert total == 0 or len({world[name][column] for world in fitting}) > 1, fitting[:2]


ROWS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.tuples(st.integers(0, 30), st.integers(0, 60), st.integers(0, 60), st.integers(0, 9)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, least=st.integers(LEAST, 12))
def test_no_small_count_is_shown_and_hidden_rows_may_be_exchanged(rows: dict[str, Counts], least: int) -> None:
    shown = suppress(rows, least)
    assert all(c == 0 or c >= least for counts in shown.rows.values() if counts for c in counts)
    hidden = [n for n, counts in shown.rows.items() if counts is None]
    for one, other in itertools.combinations(hidden[:5], 2):
        assert suppress(rows | {one: rows[other], other: rows[one]}, least) == shown
    for column in range(4) if hidden else ():
        if any(c[column] for c in rows.values()):
            assert len({rows[n][column] for n in hidden}) > 1


# --- the command ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(audit, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[str, ...]:
    root = tmp_path_factory.mktemp("world")
    world = World.make(root)
    (root / "directory.json").write_bytes(world.signed_directory())
    (root / "federation-ca.pem").write_bytes((root / "test-exchange" / "ca.pem").read_bytes())
    return ("--directory", str(root / "directory.json"), "--vkey", str(folder / "log.vkey"))


def test_the_command_makes_both_files_and_checks_them_with_and_without_the_log(
    folder: Path, tmp_path: Path, directory: tuple[str, ...]
) -> None:
    result = run(folder, *directory, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "14 searches, 2 refusals" in result.output
    report = tmp_path / "out" / "report.json"
    assert json.loads(report.read_bytes())["format"] == "comity-report-1"
    assert (tmp_path / "out" / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert "Verified" in run("--check", report, "--vkey", folder / "log.vkey").output
    said = json.loads(run(folder, "--check", report, *directory, "--json").output)
    assert (said["ok"], said["totals"]["searches"]) == (True, 14)
    spoilt = jcs.encode(json.loads(report.read_bytes()) | {"federation": "other"}) + b"\n"
    report.write_bytes(spoilt)
    wrong = run(folder, "--check", report, *directory).exception
    assert isinstance(wrong, LogFault)
    assert wrong.reason == "OTHER_REPORT"


def test_the_directory_of_the_program_is_taken_with_a_note_if_none_is_given(
    folder: Path, tmp_path: Path, directory: tuple[str, ...]
) -> None:
    state = Path(shutil.copytree(folder, tmp_path / "state"))
    (state / "identity").mkdir()
    for name in ("directory.json", "federation-ca.pem"):
        shutil.copy(Path(directory[1]).with_name(name), state / "identity")
    result = run(state, "--vkey", state / "log.vkey", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "no --directory was given" in result.stderr
    assert (tmp_path / "out" / "report.json").exists()


def test_the_command_overwrites_no_report(folder: Path, tmp_path: Path, directory: tuple[str, ...]) -> None:
    (tmp_path / "report.html").write_text("mine")
    wrong = run(folder, *directory, "--out", tmp_path).exception
    assert isinstance(wrong, ConfigError)
    assert (tmp_path / "report.html").read_text() == "mine"
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [("LOG",), ("LOG", "--out", "x"), ("--check", "x"), ("LOG", "--check", "x"), ("LOG", "--least", "4")],
    ids=["nothing else", "no directory", "a check without a key", "a check with a log alone", "too small a threshold"],
)
def test_wrong_usage_is_told(folder: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "x").write_bytes(encode(made(folder)))
    words = {"LOG": str(folder), "x": str(tmp_path / "x")}
    result = run(*(words.get(a, a) for a in arguments))
    assert result.exit_code == 2
    assert not isinstance(result.exception, ComityError)
