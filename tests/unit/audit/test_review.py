"""The weekly check: drawn by the log, the same for everybody, signed by who looked, and overdue when nobody did."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import Draft, review_entry
from audit.hashes import reading
from audit.listing import decode
from audit.log import DecisionLog
from audit.review import MOST, REVIEW_TYPE, Queue, Reviewed, Week, draw, reviews_of, sign, weeks_of
from audit.verify import verify
from cli.audit import audit
from comity import jcs
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.errors import InvalidInput, LogFault
from comity.instants import to_text
from identity.directory import Directory, LogKey
from identity.folder import IdentityFolder
from identity.signing import Signer
from tests.golden.audit import samples
from tests.unit.audit.sample import ORIGIN, START, Forger, HandClock, inquiry, inquiry_draft, tamper, unsigned
from tests.unit.identity.world import ALDER, NOW, World, name

WEEK = Week.parse("2030-W17")  # 22 to 28 April
AUDITOR = f"spiffe://{ALDER}/person/a-lind"


def log(folder: Path, *, closed: bool = True, searches: int = 40) -> Path:
    """Searches from Monday on, one every three hours, a preview after every fifth; a start before and one after."""
    folder.mkdir(exist_ok=True, parents=True)
    forger = Forger(folder).add(START, at="2030-04-20T12:00:00.000Z")
    for n in range(searches):
        at = to_text(WEEK.begin + dt.timedelta(hours=3 * n))
        forger.add(unsigned(), at=at)
        if n % 5 == 0:
            preview = unsigned()
            forger.add(Draft("inquiry", preview.body | {"preview": True}), at=at)
    if closed:
        forger.add(START, at=to_text(WEEK.end))
    return forger.write()


def drawn(folder: Path, sample: int = 7, week: Week = WEEK) -> Queue:
    with reading(folder) as reader:
        return draw(reader, week, sample)


@given(st.dates(dt.date(2001, 1, 1), dt.date(2099, 1, 1)))
def test_a_week_is_seven_days_from_monday_and_reads_back(day: dt.date) -> None:
    week = Week.of(dt.datetime(day.year, day.month, day.day, 23, tzinfo=dt.UTC))
    assert Week.parse(str(week)) == week
    assert week.begin.date() <= day < week.end.date()
    assert (week.begin.isoweekday(), week.end - week.begin) == (1, dt.timedelta(days=7))


@pytest.mark.parametrize("text", ["", "2030", "2030-W00", "2030-W54", "2029-W53", "1999-W01", "2030-w01", "2030-W1"])
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Week.parse(text)


def test_the_draw_is_of_the_weeks_searches_and_the_same_for_everybody(tmp_path: Path) -> None:
    folder = log(tmp_path)
    queue = drawn(folder)
    assert queue == drawn(folder)
    assert (queue.closed, queue.searches, len(queue.sampled)) == (True, 40, 7)
    with reading(folder) as reader:
        assert all(not decode(i, reader.entry(i))["preview"] for i in queue.sampled)


def test_a_larger_sample_holds_the_smaller_one(tmp_path: Path) -> None:
    folder = log(tmp_path)
    assert set(drawn(folder, 5).sampled) < set(drawn(folder, 25).sampled)
    assert len(drawn(folder, MOST).sampled) == 40


def test_what_is_written_after_the_week_changes_no_draw_and_what_is_written_in_it_does(tmp_path: Path) -> None:
    draws = set()
    for folder, searches in ((tmp_path / "a", 40), (tmp_path / "b", 41)):
        one = log(folder, searches=searches)
        draws.add(drawn(one).sampled)
    assert len(draws) == 2
    forger = Forger(tmp_path / "c")
    (tmp_path / "c").mkdir()
    with reading(tmp_path / "a") as reader:
        for entry in reader.entries(0, 1000):
            forger.raw(entry)
    forger.add(START, at="2030-05-20T12:00:00.000Z").write()
    assert drawn(tmp_path / "c").sampled == drawn(tmp_path / "a").sampled


def test_a_week_that_is_not_over_in_the_log_is_drawn_and_not_signed(tmp_path: Path, signer: Signer) -> None:
    queue = drawn(log(tmp_path, closed=False))
    assert not queue.closed
    with pytest.raises(InvalidInput) as e:
        sign(queue, signer, AUDITOR, watched=(), flagged=(), remark="")
    assert e.value.reason == "WEEK_OPEN"


def test_hashes_that_are_not_under_the_head_draw_nothing(tmp_path: Path) -> None:
    folder = log(tmp_path)
    tamper(folder, "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 5")
    with pytest.raises(LogFault):
        drawn(folder)


@pytest.mark.parametrize("sample", [0, -1, MOST + 1])
def test_a_sample_has_its_limits(tmp_path: Path, sample: int) -> None:
    folder = log(tmp_path)
    with pytest.raises(InvalidInput):
        drawn(folder, sample)


def test_a_week_without_a_search_has_an_empty_queue(tmp_path: Path) -> None:
    assert drawn(log(tmp_path), week=Week.parse("2030-W10")).sampled == ()


def test_every_week_from_the_first_entry_to_the_newest_is_one_to_review(tmp_path: Path) -> None:
    with reading(log(tmp_path)) as reader:
        assert [str(w) for w in weeks_of(reader)] == ["2030-W16", "2030-W17", "2030-W18"]


@pytest.mark.parametrize(
    ("flagged", "remark"), [((999,), ""), ((), "two\nlines"), ((), "x" * 501)], ids=["not looked at", "lines", "long"]
)
def test_what_cannot_be_signed_is_refused(
    tmp_path: Path, signer: Signer, flagged: tuple[int, ...], remark: str
) -> None:
    with pytest.raises(InvalidInput):
        sign(drawn(log(tmp_path)), signer, AUDITOR, watched=(), flagged=flagged, remark=remark)


# --- signed -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def signer(world: World) -> Signer:
    return world.signer(world.alder, name(ALDER, "person", "a-lind"), role="supervisor")


@pytest.fixture(scope="module")
def directory(world: World) -> Directory:
    return world.directory()


def kept(folder: Path, draft: Draft, at: dt.datetime = NOW) -> Path:
    async def write() -> None:
        with DecisionLog.create(folder, origin="alder/a-lind/reviews", clock=HandClock(at)) as reviews:
            await reviews.append([draft])

    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(write())
    return folder


def verified(folder: Path, reviews: Path, directory: Directory) -> list[Reviewed]:
    with reading(folder) as reader, reading(reviews) as signed:
        return reviews_of(reader, signed, directory)


def test_a_signed_review_is_verified_against_signature_draw_and_log(
    tmp_path: Path, signer: Signer, directory: Directory
) -> None:
    folder = log(tmp_path / "log")
    queue = drawn(folder)
    draft = sign(queue, signer, AUDITOR, watched=(1,), flagged=queue.sampled[:1], remark="called the sergeant")
    reviews = kept(tmp_path / "reviews", draft)
    (found,) = verified(folder, reviews, directory)
    assert (found.week, found.reviewer, found.fault) == ("2030-W17", AUDITOR, "")
    assert (found.looked_at, found.flagged) == (len({1, *queue.sampled}), queue.sampled[:1])
    assert verify(reviews).fault is None


def statement(draft: Draft) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(draft.body["envelope"]["payload"])))


FORGED: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "another sample": ("sampled is not what the log gives", lambda s: s.update(sampled=[1, 2, 3, 4, 5, 6, 7])),
    "fewer searches": ("searches is not what", lambda s: s.update(searches=7)),
    "another root": ("head is not what", lambda s: s["head"].update(root="0" * 64)),
    "another week": ("is not what the log gives", lambda s: s.update(week="2030-W16")),
    "no week": ("cannot be drawn again", lambda s: s.pop("week")),
    "a sample of rubbish": ("cannot be drawn again", lambda s: s.update(sampled=7)),
    "another format": ("is no review", lambda s: s.update(format="x")),
    "other flags": ("flagged is not what", lambda s: s.update(flagged=[1])),
}


@pytest.mark.parametrize(("why", "forge"), FORGED.values(), ids=FORGED)
def test_a_review_that_is_not_of_the_weeks_own_draw_is_at_fault(
    tmp_path: Path, signer: Signer, directory: Directory, why: str, forge: Callable[[Any], object]
) -> None:
    folder = log(tmp_path / "log")
    draft = sign(drawn(folder), signer, AUDITOR, watched=(), flagged=(), remark="")
    said = statement(draft)
    forge(said)
    envelope = signer.sign(REVIEW_TYPE, jcs.encode(said))
    sampled = draft.body["sampled"]
    forged = review_entry(
        reviewer=AUDITOR, begin=WEEK.begin, end=WEEK.end, sampled=sampled, flagged=[], envelope=envelope
    )
    (found,) = verified(folder, kept(tmp_path / "reviews", forged), directory)
    assert why in found.fault


def test_a_review_in_another_persons_name_or_out_of_date_is_at_fault(
    tmp_path: Path, signer: Signer, directory: Directory
) -> None:
    folder = log(tmp_path / "log")
    other = sign(drawn(folder), signer, f"spiffe://{ALDER}/person/s-okafor", watched=(), flagged=(), remark="")
    (found,) = verified(folder, kept(tmp_path / "one", other), directory)
    assert "another person" in found.fault
    mine = sign(drawn(folder), signer, AUDITOR, watched=(), flagged=(), remark="")
    (late,) = verified(folder, kept(tmp_path / "two", mine, NOW + dt.timedelta(days=90)), directory)
    assert "signature does not hold" in late.fault


def test_a_review_of_another_log_is_none_of_this_one(tmp_path: Path, signer: Signer, directory: Directory) -> None:
    folder = log(tmp_path / "log")
    draft = sign(drawn(folder), signer, AUDITOR, watched=(), flagged=(), remark="")
    said = statement(draft) | {"log": "another/log"}
    envelope = signer.sign(REVIEW_TYPE, jcs.encode(said))
    other = review_entry(reviewer=AUDITOR, begin=WEEK.begin, end=WEEK.end, sampled=[], flagged=[], envelope=envelope)
    assert verified(folder, kept(tmp_path / "reviews", other), directory) == []


# --- the command ------------------------------------------------------------------------------------------------------


# --- by whom ----------------------------------------------------------------------------------------------------------


def by_several(folder: Path, *people: str) -> Path:
    """A week in which these people searched in turn, twenty searches in all, and it is over."""
    folder.mkdir(parents=True)
    forger = Forger(folder)
    for n in range(20):
        made = inquiry(requester=f"spiffe://{ALDER}/person/{people[n % len(people)]}")
        envelope = Envelope(
            payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=(samples.ENVELOPE.signatures[0],)
        )
        forger.add(inquiry_draft(made, envelope), at=to_text(WEEK.begin + dt.timedelta(hours=n)))
    return forger.add(START, at=to_text(WEEK.end)).write()


def test_nobody_signs_for_a_queue_of_only_own_searches(tmp_path: Path, signer: Signer, directory: Directory) -> None:
    folder = by_several(tmp_path / "log", "a-lind")
    queue = drawn(folder)
    with pytest.raises(InvalidInput) as refused:
        sign(queue, signer, AUDITOR, watched=(), flagged=(), remark="")
    assert refused.value.reason == "OWN_SEARCHES"
    forged = sign(dataclasses.replace(queue, requesters=()), signer, AUDITOR, watched=(), flagged=(), remark="")
    (found,) = verified(folder, kept(tmp_path / "reviews", forged), directory)
    assert "reviewer's own" in found.fault


def test_own_searches_among_others_are_named_for_somebody_else_to_look_at(
    tmp_path: Path, signer: Signer, directory: Directory
) -> None:
    folder = by_several(tmp_path / "log", "a-lind", "t-reyes")
    queue = drawn(folder, MOST)
    reviews = kept(tmp_path / "reviews", sign(queue, signer, AUDITOR, watched=(), flagged=(), remark=""))
    (found,) = verified(folder, reviews, directory)
    assert (found.fault, len(found.own)) == ("", 10)
    with reading(folder) as reader:
        assert {decode(i, reader.entry(i))["requester"]["person"] for i in found.own} == {"a-lind"}


def test_a_review_by_whom_the_directory_names_no_auditor_or_supervisor_is_at_fault(
    tmp_path: Path, world: World, directory: Directory
) -> None:
    folder, who = log(tmp_path / "log"), f"spiffe://{ALDER}/person/x-moss"
    clerk = world.signer(world.alder, name(ALDER, "person", "x-moss"), role="investigator")
    forged = sign(drawn(folder), clerk, who, watched=(), flagged=(), remark="")
    (found,) = verified(folder, kept(tmp_path / "reviews", forged), directory)
    assert "x-moss is investigator: this is for an auditor or a supervisor" in found.fault


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(audit, ["review", *map(str, arguments)])


@pytest.fixture(scope="module")
def me(tmp_path_factory: pytest.TempPathFactory) -> IdentityFolder:
    """An auditor of today, since the command asks the machine for the time."""
    today = World.make(tmp_path_factory.mktemp("today"), dt.datetime.now(dt.UTC).replace(microsecond=0))
    return today.folder(today.alder, name(ALDER, "person", "a-lind"), today.signed_directory(), role="supervisor")


def test_the_week_is_drawn_signed_and_shown_as_reviewed(tmp_path: Path, me: IdentityFolder) -> None:
    folder, reviews = log(tmp_path / "log"), tmp_path / "reviews"
    week = ("--week", WEEK, "--sample", 5)
    lines = [json.loads(x) for x in run(folder, *week, "--json").output.splitlines()]
    sampled = lines[-1]["sampled"]
    assert [x["index"] for x in lines if x["event"] == "sampled"] == sampled
    assert lines == [json.loads(x) for x in run("queue", folder, *week, "--json").output.splitlines()]
    signed = run("sign", folder, *week, "--reviews", reviews, "--identity", me.path, "--flag", sampled[0])
    assert signed.exit_code == 0, signed.output + str(signed.exception)
    assert "2030-W17, 5 entries, 1 flagged" in signed.output
    again = run("sign", folder, *week, "--reviews", reviews, "--identity", me.path)
    assert again.exit_code == 0
    shown = run("weeks", folder, "--reviews", reviews, "--directory", me.directory_path)
    assert "2030-W17 reviewed" in shown.output
    assert "5 entries, 1 flagged" in shown.output
    as_json = run("weeks", folder, "--reviews", reviews, "--directory", me.directory_path, "--json").output
    assert [json.loads(x)["state"] for x in as_json.splitlines()][1] == "reviewed"


def test_an_investigator_is_told_at_once_that_they_sign_no_review(tmp_path: Path) -> None:
    today = World.make(tmp_path / "today", dt.datetime.now(dt.UTC).replace(microsecond=0))
    who = name(ALDER, "person", "x-moss")
    clerk = today.folder(today.alder, who, today.signed_directory(), role="investigator")
    refused = run("sign", log(tmp_path / "log"), "--week", WEEK, "--reviews", tmp_path / "r", "--identity", clerk.path)
    assert getattr(refused.exception, "reason", "") == "WRONG_ROLE"
    assert not (tmp_path / "r").exists()


def test_a_week_is_reviewed_once_somebody_else_looked_at_the_reviewers_own_searches(tmp_path: Path) -> None:
    folder = by_several(tmp_path / "log", "a-lind", "t-reyes")
    today = World.make(tmp_path / "today", dt.datetime.now(dt.UTC).replace(microsecond=0))
    first, second = (
        today.folder(today.alder, name(ALDER, "person", who), today.signed_directory(), role="supervisor")
        for who in ("a-lind", "s-okafor")
    )
    logs: list[object] = []
    for who, state in ((first, "open"), (second, "reviewed")):
        reviews = tmp_path / who.spiffe.id
        assert run("sign", folder, "--week", WEEK, "--reviews", reviews, "--identity", who.path).exit_code == 0
        logs += ["--reviews", reviews]
        shown = run("weeks", folder, *logs, "--directory", who.directory_path)
        assert f"{WEEK} {state}" in shown.output
        assert ("somebody else must look at them" in shown.output) is (state == "open")


def test_a_log_that_another_key_signed_than_the_directorys_is_neither_drawn_nor_counted(
    tmp_path: Path, me: IdentityFolder
) -> None:
    folder = log(tmp_path / "log")
    today = World.make(tmp_path / "today", dt.datetime.now(dt.UTC).replace(microsecond=0))
    other = LogKey(origin=ORIGIN, key=Ed25519PrivateKey.generate().public_key(), program="broker", id="b1")
    who = name(ALDER, "person", "a-lind")
    mine = today.folder(today.alder, who, today.signed_directory(logs=[other]), role="supervisor").directory_path
    assert run("sign", folder, "--week", WEEK, "--reviews", tmp_path / "r", "--identity", me.path).exit_code == 0
    for command in (("queue", folder, "--week", WEEK), ("weeks", folder, "--reviews", tmp_path / "r")):
        assert getattr(run(*command, "--directory", mine).exception, "reason", "") == "NOT_SIGNED"


def test_weeks_that_nobody_signed_are_overdue_a_week_after_their_end(tmp_path: Path, me: IdentityFolder) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    Forger(folder).add(START, at="2020-01-01T12:00:00.000Z").add(START, at="2020-01-08T12:00:00.000Z").write()
    other = log(tmp_path / "log")
    week = ("--week", WEEK, "--sample", 5)
    assert run("sign", other, *week, "--reviews", tmp_path / "r", "--identity", me.path).exit_code == 0
    result = run("weeks", folder, "--reviews", tmp_path / "r", "--directory", me.directory_path)
    assert result.exit_code == 3
    assert result.output.splitlines() == ["2020-W01 overdue", "2020-W02 overdue"]


def test_an_open_week_is_shown_with_a_warning(tmp_path: Path) -> None:
    assert "NOT OVER" in run(log(tmp_path, closed=False), "--week", WEEK).output


def test_the_newest_week_that_is_over_is_the_one_to_review(tmp_path: Path) -> None:
    assert "2030-W17: 20 of 40 searches" in run(log(tmp_path / "a")).output
    empty = tmp_path / "b"
    empty.mkdir()
    assert getattr(run(Forger(empty).write()).exception, "reason", "") == "NO_ENTRY"


def test_the_reviewers_log_is_never_another_log(tmp_path: Path, me: IdentityFolder) -> None:
    folder = log(tmp_path / "log")
    wrong = run("sign", folder, "--week", WEEK, "--reviews", folder, "--identity", me.path).exception
    assert getattr(wrong, "reason", "") == "OTHER_LOG"


def test_help_names_the_subcommands() -> None:
    assert "queue" in run("--help").output
    assert run("weeks", "x", "--reviews", "y").exit_code == 2
