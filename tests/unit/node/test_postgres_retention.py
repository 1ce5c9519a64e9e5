"""How long the store in PostgreSQL keeps its rows: classes, months that are past, holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from audit.entry import Draft
from comity.errors import Unavailable
from comity.plate import Plate
from node.holds import Holds
from node.retention import ClockGuard, Retention
from node.store.held import Scope
from node.store.postgres_pool import run
from node.store.rules import parse_rules
from tests.unit.identity.world import ALDER, World
from tests.unit.node.on_postgres import DAY_S, PLATE, Open, exact, tables
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection


def test_a_class_that_is_kept_for_less_is_neither_found_nor_left_uncounted(opened: Open) -> None:
    rules = parse_rules(["source:commercial=3600", "camera:pa-002=60"])
    store = opened(rules=rules)
    sold = [detection(seconds=s, source="commercial") for s in (10, 3601)]
    store.add([*sold, detection(seconds=70, camera="pa-002"), detection(seconds=4000)])
    assert exact(store) == [10, 4000]
    gaps = store.gaps(ago(5000), NOW)
    assert [(g.rule, g.end) for g in gaps] == [("camera:pa-002", ago(60)), ("source:commercial", ago(3600))]
    with store.expiring(ago(5000)) as found:
        [going] = found.going
        assert (going.rows, going.rules, going.whole) == (2, ("camera:pa-002", "source:commercial"), False)
        assert found.drop().rows == 2
    assert store.count() == 2
    assert [g.rule for g in opened().gaps(ago(5000), NOW)] == ["camera:pa-002", "source:commercial"]


def test_with_a_slack_late_rows_of_a_class_go_once_a_day(opened: Open) -> None:
    now = [NOW]
    store = opened(rules=parse_rules(["source:commercial=3600"]), clock=lambda: now[0])
    store.purge(ago(YEAR_S))
    store.add([detection(seconds=9000, source="commercial")])
    assert exact(store) == []
    with store.expiring(ago(YEAR_S), slack=dt.timedelta(days=1)) as found:
        assert found.rows == 0
    now[0] += dt.timedelta(days=1)
    with store.expiring(ago(YEAR_S), slack=dt.timedelta(days=1)) as found:
        assert found.rows == 1


def test_a_month_that_is_past_goes_whole_and_is_not_there_any_more(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=s * DAY_S) for s in (1, 40, 41, 70)])
    store.sealer.run()
    with store.expiring(ago(30 * DAY_S)) as found:
        assert [(g.name, g.rows, g.whole) for g in found.going] == [("det_2025_12", 2, True), ("det_2025_11", 1, True)]
        assert len({g.digest for g in found.going}) == 2
        assert store.count() == 4
        assert found.drop().rows == 3
    assert not {"det_2025_12", "plates_2025_12", "det_2025_11"} & tables(store)
    assert exact(store) == [DAY_S]
    assert store.horizon() == ago(30 * DAY_S)


def test_rows_that_come_while_a_purge_is_shown_are_purged_by_the_next(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=s * DAY_S) for s in (1, 20, 40)])
    with store.expiring(ago(10 * DAY_S)) as found:
        store.add([detection("8XYZ999", seconds=s * DAY_S) for s in (21, 41)])
        assert found.rows == 2
        assert found.drop().rows == 1  # the month got a row that nobody was shown, and stays
    with store.expiring(ago(10 * DAY_S)) as found:
        assert found.rows == 3
        found.drop()
    assert store.count() == 1


def test_a_hold_is_shown_just_the_rows_that_go_and_meet_it(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=s * DAY_S) for s in (1, 20, 40)])
    store.add([detection("8XYZ999", seconds=s * DAY_S, camera="pa-002") for s in (21, 42)])
    scopes = (
        Scope(plate=PLATE),
        Scope(plate=Plate(number="7A8C123", state="")),
        Scope(camera="pa-002"),
        Scope(begin=ago(41 * DAY_S), end=ago(30 * DAY_S)),
    )
    with store.expiring(ago(10 * DAY_S)) as found:
        kept = [sum(len(list(g.matching(*s.clause()))) for g in found.going) for s in scopes]
    assert kept == [2, 2, 2, 1]
    assert store.count() == 5


def test_a_purge_is_in_the_log_and_what_is_held_is_kept_before_a_month_goes(opened: Open, tmp_path: Path) -> None:
    store, world = opened(), World.make(tmp_path / "world", at=NOW)
    store.add([detection(seconds=s * DAY_S) for s in (1, 40)])
    store.add([detection("8XYZ999", seconds=s * DAY_S) for s in (2, 41)])
    holds = Holds(tmp_path / "holds", directory=world.directory(), node="alder-1", agency=ALDER, clock=clock)
    author, other = world.person("t-reyes", at=NOW), world.person("s-okafor", role="supervisor", at=NOW)
    made = holds.add(Scope(plate=PLATE), kind="hold", reason="appeal", order="CO-26-17", days=90, signer=author)
    holds.approve(made.hold_id, other)
    entries: list[str] = []
    broken = [True]

    def record(draft: Draft) -> None:
        rule = str(draft.body["rule"])
        if broken[0] and not rule.startswith("hold"):
            raise Unavailable("no log", reason="LOG_TIMEOUT")
        assert store.count() == 4
        entries.append(rule)

    retention = Retention(
        tmp_path, node="alder-1", store=store, holds=holds, guard=ClockGuard(lambda: 0.0), record=record
    )
    with pytest.raises(Unavailable):
        retention.run(NOW, ago(30 * DAY_S))
    assert store.count() == 4
    broken[0] = False
    report = retention.run(NOW, ago(30 * DAY_S))
    assert (report.rows, report.held, store.count()) == (2, 0, 2)
    assert retention.held() == {made.hold_id: 1}
    assert entries == [f"hold-added:{made.hold_id}", "retention"]
    assert "det_2025_12" not in tables(store)


def test_what_a_killed_purge_had_detached_is_gone_after_the_next(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=40 * DAY_S)])
    with store.pool.own() as connection:
        run(connection, "ALTER TABLE det DETACH PARTITION det_2025_12 CONCURRENTLY")
    store.purge(ago(30 * DAY_S))
    assert "det_2025_12" not in tables(store)
    store.add([detection(seconds=40 * DAY_S)])
    assert store.count() == 1
