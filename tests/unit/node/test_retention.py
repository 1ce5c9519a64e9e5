"""Retention: what is expired goes and is counted, what is held stays, and no gap reads as "no record"."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.entry import purge_entry
from audit.log import DecisionLog
from comity.decision import Obligations
from comity.errors import ComityError, ConfigError, Unavailable
from comity.inquiry import Disclosed
from comity.instants import to_ms
from comity.query import PlateQuery
from node.__main__ import recorder
from node.look_up import look_up
from node.retention import FILE, ClockGuard, newest_ms
from node.store.held import Held, Scope
from node.store.interface import StoreError
from node.store.rules import parse_rules
from node.store.sqlite import SqliteStore
from tests.unit.comity import scene
from tests.unit.identity.world import ALDER, World, name
from tests.unit.node.agency import DAY, DAY_S, HOUR, PLATE, Agency
from tests.unit.node.samples import NOW, YEAR_S, ago, detection


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"), at=NOW)


@pytest.fixture
def agency(tmp_path: Path, world: World) -> Iterator[Agency]:
    made = Agency(tmp_path, world)
    yield made
    made.store.close()


def test_a_part_that_is_wholly_expired_is_unlinked_and_its_digest_is_in_the_log(agency: Agency) -> None:
    agency.sealed_days(70)
    oldest = agency.store.status().parts[-1]
    path = agency.folder / "store" / oldest.name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    agency.passes(dt.timedelta(seconds=YEAR_S) - 61 * DAY)
    assert agency.run(DAY) == oldest.rows
    assert not path.exists()
    [entry] = agency.entries
    assert (entry.body["digest"], entry.body["rows"], entry.body["rule"]) == (digest, oldest.rows, "retention")


def test_a_part_that_is_partly_expired_is_rewritten_without_those_rows_after_a_days_slack(agency: Agency) -> None:
    agency.sealed_days(20)
    agency.passes(dt.timedelta(seconds=YEAR_S) - 15 * DAY)
    before, visible = agency.store.count(), agency.seconds()
    assert agency.run() == 5
    assert (agency.store.count(), agency.seconds()) == (before - 5, visible)
    agency.passes(DAY)
    assert agency.run(DAY) == 0


def test_space_comes_back_when_rows_of_the_hot_part_go(agency: Agency) -> None:
    store = SqliteStore.open(agency.folder / "store", retention_s=YEAR_S, clock=lambda: NOW)
    store.add([detection(seconds=s) for s in range(1000, 6000)])
    full = store.status().size_bytes
    assert store.purge(ago(1000)).rows == 4999
    assert store.status().size_bytes < full / 5
    store.close()


def test_entries_are_one_an_hour_at_most_and_leave_no_row_out(agency: Agency) -> None:
    agency.store.add([detection(seconds=s * 600) for s in range(1, 30)])
    agency.passes(dt.timedelta(seconds=YEAR_S) - 5 * HOUR)
    gone = 0
    for _ in range(30):
        gone += agency.run()
        agency.passes(dt.timedelta(minutes=10))
    assert len(agency.entries) <= 6
    agency.passes(HOUR)
    assert gone + agency.run() == 29
    assert sum(e.body["rows"] for e in agency.entries) == 29


def test_what_was_counted_and_not_logged_survives_a_restart(agency: Agency) -> None:
    agency.store.add([detection(seconds=s * 600) for s in (1, 2)])
    agency.passes(dt.timedelta(seconds=YEAR_S) - dt.timedelta(seconds=1200) + dt.timedelta(seconds=1))
    agency.run()
    agency.passes(dt.timedelta(minutes=10))
    agency.run()
    assert [e.body["rows"] for e in agency.entries] == [1]
    agency.__post_init__()
    agency.passes(HOUR)
    agency.run()
    assert [e.body["rows"] for e in agency.entries] == [1, 1]


@pytest.mark.parametrize("failing", ["the log", "a hold's file", "the tally"])
def test_nothing_goes_when_it_cannot_be_counted_or_a_hold_cannot_be_believed(agency: Agency, failing: str) -> None:
    agency.sealed_days(5)
    agency.passes(dt.timedelta(seconds=YEAR_S))
    if failing == "the log":
        agency.failing = Unavailable("no room", reason="LOG_TIMEOUT")
    elif failing == "a hold's file":
        hold = agency.hold(Scope(camera="pa-009"))
        path = agency.folder / "holds" / f"{hold}.json"
        path.write_bytes(path.read_bytes().replace(b'"add"', b'"odd"', 1))
    else:
        (agency.folder / FILE).write_bytes(b"{")
        (agency.folder / FILE).chmod(0o600)
    with pytest.raises(ComityError):
        agency.run()
    assert agency.store.count() == 5


def test_held_rows_are_copied_before_they_go_and_searches_do_not_return_them(agency: Agency) -> None:
    agency.store.add([detection(seconds=60), detection("7A8CI23", seconds=61), detection("8XYZ999", seconds=62)])
    hold = agency.hold(Scope(plate=PLATE), days=800)
    agency.passes(dt.timedelta(seconds=YEAR_S + 61))
    assert agency.run() == 2 + 1
    assert Held(agency.folder / "hold.db").counts() == {hold: 2}
    assert (agency.seconds(), agency.store.count()) == ([], 0)
    assert (agency.folder / "hold.db").stat().st_mode & 0o777 == 0o600


def test_a_hold_that_is_over_releases_its_rows_at_the_next_purge(agency: Agency) -> None:
    agency.store.add([detection(seconds=60)])
    agency.hold(Scope(camera="pa-001"), days=400)
    agency.passes(dt.timedelta(seconds=YEAR_S))
    agency.run()
    assert sum(agency.retention.held().values()) == 1
    agency.passes(36 * DAY)
    agency.run()
    assert agency.retention.held() == {}


def test_a_damaged_part_outlives_its_retention_only_while_something_is_held(agency: Agency) -> None:
    agency.sealed_days(5)
    [part] = [p for p in agency.store.status().parts if p.state == "sealed"]
    agency.store._shelf.set_aside(part.name, "DIGEST_DIFFERS")
    agency.hold(Scope(plate=PLATE), days=400)
    agency.passes(dt.timedelta(seconds=YEAR_S))
    agency.run()
    assert (agency.folder / "store" / part.name).exists()
    agency.passes(36 * DAY)
    agency.run()
    assert not (agency.folder / "store" / part.name).exists()


def test_the_beginning_of_a_hold_is_one_entry_that_names_no_plate(agency: Agency) -> None:
    hold = agency.hold(Scope(plate=PLATE))
    agency.run()
    agency.run()
    [entry] = agency.entries
    assert (entry.body["rule"], entry.body["rows"]) == (f"hold-added:{hold}", 0)
    assert "7ABC123" not in str(entry)
    assert "CO-26-17" not in str(entry)


def test_a_clock_that_jumps_ahead_expires_nothing_for_an_hour_after(agency: Agency) -> None:
    agency.sealed_days(5)
    agency.run()
    agency.now += 3 * dt.timedelta(seconds=YEAR_S)
    with pytest.raises(Unavailable) as caught:
        agency.run()
    assert caught.value.reason == "CLOCK_JUMPED"
    agency.now -= 3 * dt.timedelta(seconds=YEAR_S)
    with pytest.raises(Unavailable):
        agency.run()
    agency.passes(HOUR)
    assert (agency.run(), agency.store.count()) == (0, 5)


@pytest.mark.parametrize(
    ("known_s", "steady"),
    [
        pytest.param(0, True, id="a node that never ran"),
        pytest.param(60, True, id="a minute after it stopped"),
        pytest.param(DAY_S - 1, True, id="within a day"),
        pytest.param(DAY_S + 1, False, id="more than a day after"),
        pytest.param(20 * YEAR_S, False, id="twenty years after"),
        pytest.param(-3600, False, id="before it stopped"),
    ],
)
def test_a_clock_that_jumped_while_the_node_was_stopped_expires_nothing_for_an_hour(known_s: int, steady: bool) -> None:
    counter = [0.0]
    guard = ClockGuard(lambda: counter[0], to_ms(NOW - dt.timedelta(seconds=known_s)) if known_s else 0)
    assert guard.steady(NOW) is steady
    counter[0] += 3600
    assert guard.steady(NOW + HOUR)


@pytest.mark.parametrize(
    ("jump_s", "wait_s"),
    [
        pytest.param(600, 3600, id="minutes ahead: an hour"),
        pytest.param(-20 * YEAR_S, 3600, id="back: an hour"),
        pytest.param(2 * DAY_S, 2 * DAY_S, id="two days ahead: two days"),
        pytest.param(20 * YEAR_S, 7 * DAY_S, id="twenty years ahead: a week"),
    ],
)
def test_after_a_jump_nothing_is_purged_for_as_long_as_somebody_may_need_to_see_it(jump_s: int, wait_s: int) -> None:
    counter = [0.0]
    guard = ClockGuard(lambda: counter[0])
    jumped = NOW + dt.timedelta(seconds=jump_s)
    assert [guard.steady(NOW), guard.steady(jumped)] == [True, False]
    for passed, steady in ((wait_s - 1, False), (wait_s, True), (wait_s + 1, True)):
        counter[0] = passed
        assert guard.steady(jumped + dt.timedelta(seconds=passed)) is steady


def test_the_newest_time_that_a_node_knows_is_its_log_s(tmp_path: Path) -> None:
    with DecisionLog.create(tmp_path, origin="n.example/log", clock=lambda: NOW) as log:
        assert newest_ms(log) == 0
        recorder(log)(purge_entry(node="n", rows=1, begin=NOW, end=NOW + HOUR, rule="retention", digest=bytes(32)))
        assert newest_ms(log) == to_ms(NOW)


def test_a_rehearsal_says_what_would_go_and_changes_nothing(agency: Agency) -> None:
    agency.sealed_days(5)
    agency.hold(Scope(plate=PLATE), days=400)
    agency.passes(dt.timedelta(seconds=YEAR_S))
    report = agency.retention.rehearse(agency.now - dt.timedelta(seconds=YEAR_S), slack=dt.timedelta())
    assert (report.rows, report.held) == (5, 5)
    assert (agency.store.count(), agency.entries, agency.retention.held()) == (5, [], {})


@pytest.fixture
def classed(tmp_path: Path, world: World) -> Iterator[Agency]:
    made = Agency(tmp_path, world, rules=parse_rules([f"source:commercial={2 * DAY_S}", f"camera:pa-007={3 * DAY_S}"]))
    yield made
    made.store.close()


@pytest.mark.parametrize("sealed", [False, True], ids=["in the hot part", "in a sealed part"])
def test_a_class_is_neither_returned_nor_kept_past_its_own_rule(classed: Agency, sealed: bool) -> None:
    batch = [
        detection(seconds=d * DAY_S + s, camera=camera, source=source)
        for d in range(6)
        for s, camera, source in ((1, "pa-001", "police"), (2, "pa-001", "commercial"), (3, "pa-007", "police"))
    ]
    classed.store.add(batch)
    if sealed:
        classed.store._shelf.rotate(classed.store._shelf.view())
        classed.store.sealer.run()
    kept = 6 + 2 + 3
    assert len(classed.seconds()) == kept
    assert classed.run() == 18 - kept
    assert (classed.store.count(), len(classed.seconds())) == (kept, kept)
    [entry] = classed.entries
    assert set(entry.body["rule"].split(",")) == {"source:commercial", "camera:pa-007"}


def test_a_window_past_a_class_rule_is_partial_coverage_and_a_shorter_one_is_not(classed: Agency) -> None:
    disclosed = Disclosed(query=PlateQuery(plate=PLATE), case_number="", authority_reference="")
    codes = []
    for days in (7, 3, 2):
        inquiry = scene.inquiry(begin=NOW - days * DAY, end=NOW)
        found = look_up(classed.store, inquiry, disclosed, Obligations(), retention_s=YEAR_S, agency=ALDER, now=NOW)
        codes.append(found.reason_code)
    assert codes == ["CLASS_RETENTION", "CLASS_RETENTION", ""]


def test_a_rule_that_is_taken_back_leaves_its_gap_where_rows_are_gone(classed: Agency) -> None:
    classed.store.add([detection(seconds=400 + 3 * DAY_S, source="commercial"), detection(seconds=60)])
    assert classed.run() == 1
    classed.store.close()
    classed.rules = ()
    classed.__post_init__()
    gaps = classed.store.gaps(NOW - 10 * DAY, NOW)
    assert ("source:commercial", NOW - 2 * DAY) in [(g.rule, g.end) for g in gaps]


@pytest.mark.parametrize(
    "text",
    ["", "source:navy=10", "camera:=10", "camera:pa=0", "camera:pa=-1", "camera:pa", "plate:7ABC123=10", "camera:\n=1"],
)
def test_what_is_no_retention_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rules([text])


def test_two_rules_for_one_class_are_refused() -> None:
    with pytest.raises(ConfigError):
        parse_rules(["camera:a=10", "camera:a=20"])


def test_a_purge_on_a_full_disk_loses_nothing_that_is_not_expired(agency: Agency) -> None:
    agency.sealed_days(20)
    agency.passes(dt.timedelta(seconds=YEAR_S) - 15 * DAY)
    visible = agency.seconds()
    store = agency.folder / "store"
    blocked = agency.store._shelf.view().manifest.next + 1
    for n in range(blocked - 1, blocked + 3):
        (store / f"part-{n}.db.tmp").mkdir(exist_ok=True)  # stands for a file that cannot be written
    with pytest.raises(StoreError):
        agency.run()
    assert agency.seconds() == visible
    assert name(ALDER, "person", "x").trust_domain == ALDER
