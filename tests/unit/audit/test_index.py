"""The index finds what reading the log finds, in any state it is left in, and believes nothing it cannot lead back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import index as index_module
from audit import listing
from audit.entry import Draft
from audit.hashes import reading
from audit.index import LogIndex, default_place
from audit.listing import Filter, Row
from audit.log import DecisionLog
from cli import audit_pages
from cli.audit import audit
from comity.decision import Effect, Layer, MatchedRule, Obligations
from comity.errors import ConfigError, LogFault
from comity.outcome import OutcomeKind
from tests.golden.audit.samples import DRAFTS
from tests.unit.audit.sample import START, Forger, HandClock, answered, build, decided, tamper, unsigned

RULE = (MatchedRule(rule="SC-2", effect="deny", basis="an ordinance", layer=Layer.NODE),)
FILTERS = [
    Filter(),
    Filter(agency="us-ca-alder-pd"),
    Filter(person="m-diaz"),
    Filter(node="brazos-1", decision="deny"),
    Filter(rule="SC-2"),
    Filter(rule="node:SC-2", person="t-reyes"),
    Filter(decision="pending"),
    Filter(since="2030-05-01T12:00:05.000Z"),
    Filter(until="2030-05-01T12:00:05.000Z", purpose="stolen-vehicle"),
    Filter(beneficiary="nobody"),
]


def of(person: str) -> Draft:
    draft = unsigned()
    return Draft("inquiry", draft.body | {"requester": {**draft.body["requester"], "person": person}})


def log(folder: Path, steps: Sequence[int]) -> Path:
    """A log of such steps, a second apart: 0 to 3 are searches of a kind, 4 an inquiry alone, 5 a start."""
    folder.mkdir(exist_ok=True)
    forger, second = Forger(folder), 0
    open_ones: list[Draft] = []
    for step in steps:
        at = f"2030-05-01T12:00:{second:02}.000Z"
        second = min(59, second + 1)
        if step == 5:
            forger.add(START, at=at)
        elif step == 6:
            for draft in open_ones:
                forger.add(answered(draft, "alder-1", OutcomeKind.MATCH, count=2), at=at)
            open_ones.clear()
        else:
            draft = of("m-diaz" if step % 2 else "t-reyes")
            forger.add(draft, at=at)
            if step < 4:
                forger.add(decided(draft, "alder-1", obligations=Obligations(approval=step == 3)), at=at)
                forger.add(decided(draft, "brazos-1", Effect.DENY, rules=RULE), at=at)
                forger.add(answered(draft, "brazos-1", OutcomeKind.REFUSED), at=at)
                open_ones.append(draft)
    return forger.write()


def both(folder: Path, place: Path, wanted: Filter, limit: int = 50) -> tuple[list[Row], list[Row]]:
    with reading(folder) as reader:
        read = listing.newest(reader, wanted, limit)
        with LogIndex.open(reader, place) as index:
            return read, index.newest(wanted, limit)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.integers(0, 6), max_size=12), limit=st.integers(1, 8))
def test_the_index_finds_what_reading_the_whole_log_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int
) -> None:
    folder = log(tmp_path_factory.mktemp("log"), steps)
    for wanted in FILTERS:
        read, found = both(folder, folder / "index.db", wanted, limit)
        assert found == read, wanted


@pytest.mark.parametrize("stretch", [1, 2, 3, 5])
def test_a_search_that_lies_in_several_stretches_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(index_module, "_STRETCH", stretch)
    folder = log(tmp_path, [0, 4, 1, 5, 3, 6, 2])
    for wanted in FILTERS:
        read, found = both(folder, tmp_path / "i.db", wanted)
        assert found == read, wanted


async def test_a_search_begun_before_and_ended_after_the_index_was_made_is_one_row(tmp_path: Path) -> None:
    """Its decision replaces the row of the inquiry alone, and its outcome joins the decision."""
    draft, place = of("t-reyes"), tmp_path / "index.db"
    (tmp_path / "log").mkdir()
    await build(tmp_path / "log", [[draft]])
    outcomes = []
    for further in ([decided(draft, "alder-1")], [answered(draft, "alder-1", OutcomeKind.NO_MATCH)]):
        read, found = both(tmp_path / "log", place, Filter())
        assert found == read
        outcomes.append([(r.index, r.outcome or r.note) for r in found])
        with DecisionLog.open(tmp_path / "log", clock=HandClock()) as opened:
            await opened.append(further)
    read, found = both(tmp_path / "log", place, Filter())
    assert found == read
    assert outcomes == [[(0, "no decision recorded")], [(1, "")]]
    assert [(r.index, r.outcome) for r in found] == [(1, "no_match")]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_pages_follow_one_another_without_a_gap_or_a_row_twice(tmp_path: Path, size: int) -> None:
    folder = log(tmp_path, [0, 5, 1, 4, 2, 3, 6])
    with reading(folder) as reader, LogIndex.open(reader, tmp_path / "i.db") as index:
        whole = index.newest(Filter(), 1000)
        ahead: list[Row] = []
        while page := index.following(Filter(), size, after=ahead[-1].index if ahead else -1):
            ahead += page
        back: list[Row] = []
        while page := index.newest(Filter(), size, before=back[0].index if back else 2**60):
            back = page + back
        assert ahead == whole == back


async def test_what_was_written_since_is_taken_in_and_the_rest_is_not_read_again(tmp_path: Path) -> None:
    place = tmp_path / "index.db"
    (tmp_path / "log").mkdir()
    await build(tmp_path / "log", [[START]])
    assert len(both(tmp_path / "log", place, Filter())[1]) == 1
    draft = of("t-reyes")
    with DecisionLog.open(tmp_path / "log", clock=HandClock()) as opened:
        await opened.append([draft, decided(draft, "alder-1")])
        read, found = both(tmp_path / "log", place, Filter())
    assert [r.index for r in found] == [0, 2]
    assert found == read
    seen: list[int] = []
    with reading(tmp_path / "log") as reader, LogIndex.open(reader, place, lambda done, _: seen.append(done)):
        assert seen == []


SPOILT = {
    "torn": lambda p: p.write_bytes(p.read_bytes()[:5000] + b"\0" * 9000),
    "not an index": lambda p: p.write_bytes(b"hello"),
    "empty": lambda p: p.write_bytes(b""),
    "of another form": lambda p: _sql(p, "UPDATE state SET form = 99"),
    "of another log": lambda p: _sql(p, "UPDATE state SET origin = 'another/log'"),
    "ahead of the log": lambda p: _sql(p, "UPDATE state SET size = 8, edge = zeroblob(32)"),
    "of another past": lambda p: _sql(p, "UPDATE state SET edge = zeroblob(length(edge))"),
}


def _sql(place: Path, statement: str) -> None:
    with sqlite3.connect(place) as db:
        db.execute(statement)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_index_that_is_not_of_this_log_is_made_anew(tmp_path: Path, spoil: object) -> None:
    folder, place = log(tmp_path, [0, 1]), tmp_path / "i.db"
    both(folder, place, Filter())
    assert callable(spoil)
    spoil(place)
    read, found = both(folder, place, Filter(rule="SC-2"))
    assert found == read
    assert len(found) == 2


def test_a_line_that_the_log_does_not_bear_out_is_a_fault_and_never_a_row(tmp_path: Path) -> None:
    folder, place = log(tmp_path, [0, 1]), tmp_path / "i.db"
    both(folder, place, Filter())
    _sql(place, "UPDATE line SET person = (SELECT id FROM word WHERE text = 'm-diaz')")
    with pytest.raises(LogFault, match="not what it was when it was indexed"):
        both(folder, place, Filter(person="m-diaz"))


TAMPERED = {
    "an altered entry": ("UPDATE leaf SET entry = CAST(entry || ' ' AS BLOB) WHERE idx = 5", "WRONG_HASH", 5),
    "an entry taken out": ("DELETE FROM leaf WHERE idx = 5", "MISSING", 5),
    "another entry with its hash": ("UPDATE leaf SET (hash, entry) = (SELECT hash, entry FROM leaf WHERE idx = 1)"
    " WHERE idx = 5", "WRONG_ROOT", -1),
}  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    ["UPDATE line SET idx = 10000000 WHERE idx = (SELECT max(idx) FROM line)", "UPDATE outcome SET idx = 'x'"],
    ids=["an entry beyond the log", "what is no number"],
)
def test_an_index_that_names_what_is_not_there_is_a_fault_that_says_how_to_go_on(tmp_path: Path, spoil: str) -> None:
    folder, place = log(tmp_path / "log", [0, 1]), tmp_path / "i.db"
    read, _ = both(folder, place, Filter())
    _sql(place, spoil)
    with pytest.raises(LogFault) as refused:
        both(folder, place, Filter())
    assert (refused.value.reason, "--no-index" in str(refused.value), len(read) > 0) == ("BAD_INDEX", True, True)


@pytest.mark.parametrize(("statement", "reason", "index"), TAMPERED.values(), ids=TAMPERED)
def test_entries_that_do_not_lead_to_the_head_are_not_listed_by_an_index(
    tmp_path: Path, statement: str, reason: str, index: int
) -> None:
    folder = log(tmp_path, [0, 1])
    tamper(folder, statement)
    with pytest.raises(LogFault) as e, reading(folder) as reader, LogIndex.open(reader, tmp_path / "i.db"):
        pass
    assert (e.value.reason, e.value.index) == (reason, index)


def test_nothing_is_written_beside_the_log(tmp_path: Path) -> None:
    folder = log(tmp_path / "log", [0])
    before = sorted(p.name for p in folder.iterdir())
    both(folder, tmp_path / "cache" / "i.db", Filter())
    assert sorted(p.name for p in folder.iterdir()) == before
    assert (tmp_path / "cache" / "i.db").stat().st_mode & 0o077 == 0


def test_two_logs_have_two_indexes_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = default_place(tmp_path / "a" / "log.db"), default_place(tmp_path / "b" / "log.db")
    assert one != two
    assert one.parent == two.parent == tmp_path / "comity"


def test_the_command_shows_pages_and_how_to_go_on(tmp_path: Path) -> None:
    folder = log(tmp_path / "log", [0, 5, 1])
    place = ("--index", str(tmp_path / "i.db"))

    def indexes(*arguments: str) -> list[int]:
        result = CliRunner().invoke(audit, ["list", str(folder), "--json", *arguments])
        assert result.exit_code == 0, result.output
        return [json.loads(line)["index"] for line in result.output.splitlines()]

    for how in (place, ("--no-index",)):
        assert indexes("--limit", "2", *how) == [6, 7]
        assert indexes("--limit", "2", "--before", "6", *how) == [2, 4]
        assert indexes("--limit", "2", "--after", "2", *how) == [4, 6]
    told = CliRunner(env={"COLUMNS": "200"}).invoke(audit, ["list", str(folder), "--limit", "2"]).output
    assert "--before 6" in told
    wrong = CliRunner().invoke(audit, ["list", str(folder), "--before", "1", "--after", "1"])
    assert wrong.exit_code == 2


def test_a_long_log_is_indexed_only_where_that_finds_more_than_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(audit_pages, "WORTHWHILE", 3)
    folder = log(tmp_path / "log", [0, 5, 1])
    for further, indexed in (((), False), (("--since", "2020-01-01"), False), (("--person", "m-diaz"), True)):
        result = CliRunner().invoke(audit, ["list", str(folder), "--json", *further])
        assert result.exit_code == 0
        assert default_place(folder / "log.db").exists() is indexed, further
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = CliRunner().invoke(audit, ["list", str(folder), "--json", "--person", "m-diaz"])
    assert "the log itself is read" in result.stderr
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [6, 7]


def test_an_index_that_was_asked_for_and_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = log(tmp_path / "log", [0])
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(audit, ["list", str(folder), "--index", str(tmp_path / "file" / "i.db")])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.reason == "FILE_UNWRITABLE"


def test_every_other_type_of_entry_is_a_row_with_the_same_words(tmp_path: Path) -> None:
    forger = Forger(tmp_path)
    for name in ("policy", "rejected", "purge", "erasure", "review", "start", "stop"):
        forger.add(DRAFTS[name])
    read, found = both(forger.write(), tmp_path / "i.db", Filter())
    assert found == read
    assert len(found) == 7
