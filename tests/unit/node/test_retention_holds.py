"""Holds while something is purged: none is lost silently, none comes between; and what was never kept is no record."""

from __future__ import annotations

import datetime as dt
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.entry import Draft, purge_entry
from audit.log import DecisionLog
from comity.errors import ComityError, Unavailable
from comity.instants import to_ms
from node.__main__ import recorder
from node.holds import LOCK_FILE
from node.retention import FILE, ClockGuard, known_ms
from node.store.held import Scope
from tests.unit.identity.world import World
from tests.unit.node.agency import DAY, DAY_S, HOUR, PLATE, Agency
from tests.unit.node.samples import NOW, YEAR_S, detection


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"), at=NOW)


@pytest.fixture
def agency(tmp_path: Path, world: World) -> Iterator[Agency]:
    made = Agency(tmp_path, world)
    yield made
    made.store.close()


def held_then_lost(agency: Agency) -> tuple[str, Path, bytes]:
    """A hold with one row in hold.db, and one more to come; its file is gone."""
    agency.store.add([detection(seconds=60), detection(seconds=30)])
    hold = agency.hold(Scope(plate=PLATE), days=800)
    agency.passes(dt.timedelta(seconds=YEAR_S - 45))
    assert agency.run() == 1
    path = agency.folder / "holds" / f"{hold}.json"
    data = path.read_bytes()
    path.unlink()
    agency.passes(HOUR)
    return hold, path, data


def test_a_hold_whose_file_is_gone_is_not_over(agency: Agency) -> None:
    hold, path, data = held_then_lost(agency)
    for attempt in (agency.run, lambda: agency.retention.rehearse(agency.now)):
        with pytest.raises(Unavailable) as caught:
            attempt()
        assert caught.value.reason == "HOLD_UNVERIFIED"
    assert (agency.retention.held(), agency.store.count()) == ({hold: 1}, 1)
    path.write_bytes(data)
    path.chmod(0o600)
    assert agency.run() == 1
    assert agency.retention.held() == {hold: 2}


def test_who_purges_without_a_lost_hold_says_so_in_the_log_and_its_rows_stay(agency: Agency) -> None:
    hold, path, data = held_then_lost(agency)
    report = agency.retention.run(agency.now, agency.now - dt.timedelta(seconds=YEAR_S), without=[hold])
    assert (report.rows, report.held, agency.store.count()) == (1, 0, 0)
    assert [e.body["rule"] for e in agency.entries][-2:] == [f"hold-lost:{hold}", "retention"]
    agency.passes(HOUR)
    agency.run()
    assert agency.retention.held() == {hold: 1}
    path.write_bytes(data)
    path.chmod(0o600)
    agency.passes(2 * dt.timedelta(seconds=YEAR_S))
    agency.run()
    assert agency.retention.held() == {}


@pytest.mark.parametrize("lost", [False, True], ids=["one that is there", "one that never was"])
def test_only_a_lost_hold_is_done_without(agency: Agency, lost: bool) -> None:
    agency.store.add([detection(seconds=60)])
    hold = agency.hold(Scope(plate=PLATE), days=800)
    agency.run()
    agency.passes(dt.timedelta(seconds=YEAR_S))
    named = "b185d03e-c71a-4dbc-a7a6-0c26caacc710" if lost else hold
    with pytest.raises(ComityError) as caught:
        agency.retention.run(agency.now, agency.now - dt.timedelta(seconds=YEAR_S), without=[named])
    assert caught.value.reason == "NOT_LOST"
    assert agency.store.count() == 1


def test_the_file_of_a_hold_that_was_seen_to_be_over_may_go(agency: Agency) -> None:
    agency.store.add([detection(seconds=60)])
    hold = agency.hold(Scope(plate=PLATE), days=30)
    agency.run()
    agency.passes(31 * DAY)
    agency.run()
    (agency.folder / "holds" / f"{hold}.json").unlink()
    agency.passes(dt.timedelta(seconds=YEAR_S))
    assert agency.run() == 1


def test_a_hold_that_two_persons_ended_releases_its_rows(agency: Agency) -> None:
    agency.store.add([detection(seconds=60)])
    hold = agency.hold(Scope(plate=PLATE), days=800)
    agency.passes(dt.timedelta(seconds=YEAR_S))
    agency.run()
    assert agency.retention.held() == {hold: 1}
    persons = [agency.world.person(who, role="supervisor", at=agency.now) for who in ("t-reyes", "s-okafor")]
    agency.holds.end(hold, persons[0])
    agency.run()
    assert agency.retention.held() == {hold: 1}, "one person ends nothing"
    agency.holds.approve(hold, persons[1])
    agency.run()
    assert agency.retention.held() == {}


def test_what_is_held_stays_though_nobody_remembers_the_hold(agency: Agency) -> None:
    hold, _, _ = held_then_lost(agency)
    (agency.folder / FILE).unlink()
    agency.run()
    assert agency.retention.held() == {hold: 1}


def test_no_hold_comes_into_force_between_what_a_purge_reads_and_what_it_deletes(agency: Agency) -> None:
    agency.store.add([detection(seconds=60)])
    agency.passes(dt.timedelta(seconds=YEAR_S))
    locked = []

    def record(draft: Draft) -> None:
        agency.entries.append(draft)
        with (agency.folder / "holds" / LOCK_FILE).open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(draft.body["rule"])

    agency.retention._record = record
    assert agency.run() == 1
    assert locked == ["retention"]


def test_reads_refused_as_expired_do_not_become_no_record_when_detections_are_kept_longer(agency: Agency) -> None:
    agency.retention_s = 10 * DAY_S
    agency.__post_init__()
    assert agency.run() == 0
    agency.retention_s = 30 * DAY_S
    agency.__post_init__()
    assert agency.store.horizon() == NOW - 10 * DAY


def test_a_jump_ahead_is_not_forgotten_by_starting_again(agency: Agency) -> None:
    with DecisionLog.create(agency.folder, origin="n.example/log", clock=lambda: agency.now) as log:
        for jump in (dt.timedelta(), dt.timedelta(seconds=2 * YEAR_S)):
            agency.now += jump
            recorder(log)(purge_entry(node="n", rows=1, begin=NOW, end=NOW + HOUR, rule="retention", digest=bytes(32)))
            if not jump:
                agency.run()
        known = known_ms(agency.folder, log)
    assert known == to_ms(NOW), "the log's newest entry bears the time of the clock that jumped"
    assert not ClockGuard(lambda: 0.0, known).steady(agency.now)


def test_a_node_whose_log_is_idle_for_days_purges_at_once_when_it_starts_again(agency: Agency) -> None:
    with DecisionLog.create(agency.folder, origin="n.example/log", clock=lambda: agency.now) as log:
        recorder(log)(purge_entry(node="n", rows=1, begin=NOW, end=NOW + HOUR, rule="retention", digest=bytes(32)))
        for _ in range(3):
            agency.passes(DAY)
            agency.run()
        known = known_ms(agency.folder, log)
    assert ClockGuard(lambda: 0.0, known).steady(agency.now)
