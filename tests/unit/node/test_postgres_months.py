"""What only the store in PostgreSQL does with its rows: a table a month, made when it is needed."""

from __future__ import annotations

import datetime as dt
import threading

from comity.instants import to_ms
from comity.query import PatternQuery
from node.store.months import Month
from node.store.postgres import PostgresStore
from node.store.postgres_keep import Keeper
from node.store.postgres_months import parts
from node.store.postgres_pool import run
from tests.unit.node.on_postgres import DAY_S, PLATE, Open, exact, tables
from tests.unit.node.samples import NOW, ago, detection


def test_a_late_row_gets_a_month_and_the_coming_months_are_there_before_it(opened: Open) -> None:
    store = opened()
    assert {"det_2026_01", "det_2026_02", "det_2026_03"} <= tables(store)
    store.add([detection(seconds=100 * DAY_S)])
    assert exact(store) == [100 * DAY_S]
    assert "det_2025_10" in tables(store)
    Keeper(store.pool, clock=lambda: NOW + dt.timedelta(days=60)).run()
    assert "det_2026_06" in tables(store)


def test_a_late_row_of_a_listed_month_is_found_by_a_part_of_its_plate(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=50 * DAY_S)])
    store.sealer.run()
    with store.pool.lent() as connection:
        assert [p.month.name for p in parts(connection) if p.listed] == ["2025_12"]
    store.add([detection("8XYZ999", seconds=50 * DAY_S + 1)])
    found = store.partial(PatternQuery.parse("*YZ9*", ""), ago(60 * DAY_S), NOW, 10)
    assert [m.detection.plate.number for m in found] == ["8XYZ999"]


def test_a_dictionary_is_searched_by_three_characters_where_the_extension_is(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=50 * DAY_S)])
    store.sealer.run()
    with store.pool.lent() as connection, connection.transaction():
        for way in ("seqscan", "indexscan", "indexonlyscan"):
            run(connection, f"SET LOCAL enable_{way} = off")
        plan = run(connection, "EXPLAIN SELECT 1 FROM plates_2025_12 WHERE plate LIKE '%BC1%'").fetchall()
    assert any("plates_2025_12_t" in line for (line,) in plan)


def test_an_exact_search_reads_the_key_of_the_months_it_asks_for_only(opened: Open) -> None:
    store = opened()
    store.add([detection(seconds=s * DAY_S) for s in (1, 40, 70)])
    values = {"skel": PLATE.skeleton, "begin": to_ms(ago(45 * DAY_S)), "end": to_ms(NOW)}
    with store.pool.lent() as connection, connection.transaction():
        run(connection, "SET LOCAL enable_seqscan = off")
        plan = run(
            connection,
            "EXPLAIN SELECT 1 FROM det WHERE skel = %(skel)s AND captured_at >= %(begin)s AND captured_at < %(end)s",
            values,
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert ("det_2025_12" in text, "det_2026_01" in text, "det_2025_11" in text) == (True, True, False)
    assert "Seq Scan" not in text


def test_writers_that_all_need_a_new_month_get_one(opened: Open) -> None:
    stores = [opened() for _ in range(3)]
    failures: list[BaseException] = []

    def add(store: PostgresStore, first: int) -> None:
        try:
            for i in range(6):
                store.add([detection(seconds=i * 31 * DAY_S + 1000 + first), detection(seconds=i * 31 * DAY_S + 999)])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=add, args=(s, n)) for n, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stores[0].count() == 24


def test_a_month_is_found_by_its_name(opened: Open) -> None:
    month = Month.of(to_ms(NOW))
    assert (month.table, month.dictionary, month.number) == ("det_2026_01", "plates_2026_01", 202601)
