"""What only the store in PostgreSQL does: its address, its months, its retention, and a server that fails."""

from __future__ import annotations

import datetime as dt
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit.entry import Draft
from comity.errors import ConfigError, Unavailable
from comity.instants import to_ms
from comity.plate import Plate
from comity.query import AreaQuery, PatternQuery
from node.holds import Holds
from node.retention import ClockGuard, Retention
from node.store import postgres_schema
from node.store.held import Scope
from node.store.interface import StoreError
from node.store.months import Month
from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_keep import Keeper
from node.store.postgres_months import parts
from node.store.postgres_pool import Watch, connect, faults, run
from node.store.postgres_schema import DISTRIBUTE, MIGRATIONS, distribute, migrate
from node.store.rules import parse_rules
from tests.postgres_server import LocalServer, PostgresServer, wheel_binaries
from tests.unit.identity.world import ALDER, World
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

PLATE = Plate(number="7ABC123", state="CA")
DAY_S = 86_400
Open = Callable[..., PostgresStore]


@pytest.fixture
def address(postgres_server: PostgresServer) -> PostgresAddress:
    return PostgresAddress.parse(postgres_server.url, password=postgres_server.password)


@pytest.fixture
def node(address: PostgresAddress) -> Iterator[str]:
    node = f"t-{uuid.uuid4().hex[:12]}"
    yield node
    with connect(address, "public") as connection:
        run(connection, f'DROP SCHEMA IF EXISTS "{schema_of(node)}" CASCADE')


@pytest.fixture
def opened(address: PostgresAddress, node: str) -> Iterator[Open]:
    made: list[PostgresStore] = []
    PostgresStore.create(address, agency="alder", node=node, now=NOW)

    def open_(**more: Any) -> PostgresStore:
        values: dict[str, Any] = {"retention_s": YEAR_S, "clock": clock} | more
        made.append(PostgresStore.open(address, agency="alder", node=node, **values))
        return made[-1]

    yield open_
    for store in made:
        store.close()


def exact(store: PostgresStore) -> list[float]:
    found = store.exact(PLATE, ago(YEAR_S - 60), NOW, 100)
    return [(NOW - m.detection.captured_at).total_seconds() for m in found]


def tables(store: PostgresStore) -> set[str]:
    with store.pool.lent() as connection:
        rows = run(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", [store.pool.schema]).fetchall()
    return {name for (name,) in rows}


@pytest.mark.parametrize(
    ("url", "host", "sslmode"),
    [
        pytest.param("postgresql:///comity", "", "prefer", id="the local socket"),
        pytest.param("postgresql://u@127.0.0.1:5433/d", "127.0.0.1", "prefer", id="loopback"),
        pytest.param("postgresql://u@[::1]/d", "::1", "prefer", id="loopback of IPv6"),
        pytest.param("postgresql:///d?host=/run/postgresql", "/run/postgresql", "prefer", id="a socket's folder"),
        pytest.param("postgresql://u@db.example/d", "db.example", "verify-full", id="over a network, always verified"),
    ],
)
def test_what_leaves_the_machine_is_encrypted_to_a_verified_server(url: str, host: str, sslmode: str) -> None:
    settings = dict(PostgresAddress.parse(url).settings)
    assert (settings.get("host", ""), settings["sslmode"]) == (host, sslmode)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("postgresql://u:secret@127.0.0.1/d", "PASSWORD_IN_URL", id="a password"),
        pytest.param("postgresql://u@127.0.0.1/d?password=secret", "PASSWORD_IN_URL", id="a password as an option"),
        pytest.param("postgresql://db.example/d?sslmode=require", "TLS_REQUIRED", id="encrypted to whoever answers"),
        pytest.param("postgresql://db.example/d?sslmode=disable", "TLS_REQUIRED", id="in clear"),
        pytest.param("postgresql://127.0.0.1,db.example/d?sslmode=prefer", "TLS_REQUIRED", id="one host of two"),
        pytest.param("postgresql:///d?host=db.example&sslmode=prefer", "TLS_REQUIRED", id="a host as an option"),
        pytest.param("postgresql:///d?options=-csynchronous_commit%3Doff", "BAD_STORE_URL", id="settings of its own"),
        pytest.param("postgresql://127.0.0.1:port/d", "BAD_STORE_URL", id="no port"),
        pytest.param("mysql://127.0.0.1/d", "BAD_STORE_URL", id="another engine"),
    ],
)
def test_a_url_that_would_leak_or_be_unsafe_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as e:
        PostgresAddress.parse(url)
    assert (e.value.reason, "secret" in str(e.value)) == (reason, False)


def test_a_password_shows_in_nothing_that_is_printed(address: PostgresAddress) -> None:
    wrong = PostgresAddress.parse("postgresql://comity@127.0.0.1:1/d", password="hush-hush")
    with pytest.raises(StoreError) as e, faults():
        connect(wrong, "x")
    assert "hush" not in f"{wrong!r} {wrong.words} {e.value!r} {e.value.__cause__!r}"
    assert "look at `store` in node.toml" in str(e.value)


def test_each_node_has_a_schema_of_its_own_in_one_database(address: PostgresAddress, opened: Open, node: str) -> None:
    store, other = opened(), f"{node}-b"
    PostgresStore.create(address, agency="alder", node=other, now=NOW)
    second = PostgresStore.open(address, agency="alder", node=other, retention_s=YEAR_S, clock=clock)
    store.add([detection()])
    assert (exact(store), exact(second), second.count()) == ([60], [], 0)
    second.close()
    with connect(address, "public") as connection:
        run(connection, f'DROP SCHEMA "{schema_of(other)}" CASCADE')


def test_a_schema_of_another_agency_s_node_is_refused(address: PostgresAddress, opened: Open, node: str) -> None:
    opened()
    for go in (
        lambda: PostgresStore.create(address, agency="birch", node=node, now=NOW),
        lambda: PostgresStore.open(address, agency="birch", node=node, retention_s=YEAR_S, clock=clock),
    ):
        with pytest.raises(ConfigError) as e:
            go()
        assert e.value.reason == "STORE_TAKEN"


def test_a_schema_with_something_else_in_it_is_left_alone(address: PostgresAddress, node: str) -> None:
    with connect(address, schema_of(node)) as connection:
        run(connection, f'CREATE SCHEMA "{schema_of(node)}"')
        run(connection, "CREATE TABLE precious(x int)")
    with pytest.raises(ConfigError) as e:
        PostgresStore.create(address, agency="alder", node=node, now=NOW)
    assert e.value.reason == "BAD_STORE"


@pytest.mark.parametrize("made_by", ["a later program", "an earlier program"])
def test_a_store_of_another_version_is_not_opened(
    address: PostgresAddress, opened: Open, node: str, made_by: str
) -> None:
    store = opened()
    later = len(MIGRATIONS) + 1
    with store.pool.lent() as connection:
        if made_by == "a later program":
            more = (*MIGRATIONS, ("CREATE TABLE novelty(x int)",))
            assert migrate(connection, store.pool.schema, f"alder/{node}", more) == 1
            assert "novelty" in tables(store)
        else:
            run(connection, "UPDATE meta SET value = '0' WHERE key = 'version'")
    with pytest.raises(ConfigError) as e:
        opened()
    assert e.value.reason == ("BAD_STORE" if made_by == "a later program" else "NO_STORE")
    if made_by == "a later program":
        with store.pool.lent() as connection, pytest.raises(ConfigError, match=f"of version {later}"):
            migrate(connection, store.pool.schema, f"alder/{node}")


def test_a_store_of_an_earlier_version_is_not_opened_until_it_was_migrated(
    address: PostgresAddress, opened: Open, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().add([detection(seconds=10)])
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE novelty(x int)",)))
    with pytest.raises(ConfigError) as e:
        opened()
    assert e.value.reason == "STORE_OLD"
    with connect(address, schema_of(node)) as connection:
        assert migrate(connection, schema_of(node), f"alder/{node}", postgres_schema.MIGRATIONS) == 1
    assert exact(opened()) == [10]


def test_a_migration_that_fails_leaves_the_store_as_it_was(opened: Open, node: str) -> None:
    store = opened()
    with store.pool.lent() as connection, pytest.raises(psycopg.Error):
        migrate(
            connection, store.pool.schema, f"alder/{node}", (*MIGRATIONS, ("CREATE TABLE half(x int)", "no such thing"))
        )
    assert "half" not in tables(store)
    assert opened().count() == 0


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


def test_no_error_repeats_a_row(opened: Open) -> None:
    store = opened()
    store.add([detection()])
    with store.pool.own() as connection:
        run(connection, "ALTER TABLE det_2026_01 ADD CONSTRAINT never CHECK (uid IS NULL) NOT VALID")
    with pytest.raises(StoreError) as e:
        store.add([detection("8XYZ999")])
    assert "8XYZ999" not in f"{e.value!r}{e.value.__cause__!r}"
    assert e.value.__suppress_context__


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("53100", "STORE_FULL", id="the disk is full"),
        pytest.param("XX001", "STORE_CORRUPT", id="a page is damaged"),
        pytest.param("XX002", "STORE_CORRUPT", id="an index is damaged"),
        pytest.param("40P01", "STORE_BUSY", id="two writers wait for one another"),
        pytest.param("53200", "STORE_FAILED", id="the server has no memory left"),
    ],
)
def test_what_the_server_cannot_write_is_not_acknowledged_and_what_was_is_still_found(
    opened: Open, code: str, reason: str
) -> None:
    store = opened()
    store.add([detection(seconds=10)])
    failing(store, "BEFORE INSERT ON det FOR EACH ROW", code)
    with pytest.raises(StoreError) as e:
        store.add([detection(seconds=20), detection("8XYZ999")])
    assert e.value.reason == reason
    assert "8XYZ999" not in f"{e.value!r}"
    assert exact(store) == [10]
    with store.pool.own() as connection:
        run(connection, "DROP TRIGGER failing ON det")
    assert store.add([detection(seconds=20)]).accepted == 1


def failing(store: PostgresStore, when: str, code: str) -> None:
    """From now on the server fails with this code there."""
    with store.pool.own() as connection:
        run(connection, fails(code))
        run(connection, f"CREATE TRIGGER failing {when} EXECUTE FUNCTION fail()")


def fails(code: str) -> str:
    return (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '8XYZ999' USING ERRCODE = '{code}'; END $$"
    )


def test_a_statement_that_takes_too_long_is_an_error(opened: Open) -> None:
    store = opened()
    with store.pool.lent() as connection:
        run(connection, "SET statement_timeout = '10ms'")
        with pytest.raises(StoreError) as e, faults():
            run(connection, "SELECT pg_sleep(5)")
    assert e.value.reason == "STORE_BUSY"


def test_the_engine_s_statements_to_spread_the_rows_are_sent_as_they_are_documented(opened: Open) -> None:
    store = opened()
    with store.pool.own() as connection:
        asked = "CREATE TABLE asked(what text)"
        for statement in (asked, *(stub(name) for name in ("reference", "distributed"))):
            run(connection, statement)
        distribute(connection)
        assert run(connection, "SELECT what FROM asked").fetchall() == [("word",), ("det skel",)]
    assert DISTRIBUTE == (
        "SELECT create_reference_table('word')",
        "SELECT create_distributed_table('det', 'skel')",
    )


def stub(name: str) -> str:
    column = ", by text" if name == "distributed" else ""
    what = "t::text || ' ' || by" if column else "t::text"
    return (
        f"CREATE FUNCTION create_{name}_table(t regclass{column}) RETURNS void"
        f" LANGUAGE sql AS $$ INSERT INTO asked VALUES ({what}) $$"
    )


@pytest.fixture(scope="module")
def spoilt() -> Iterator[LocalServer]:
    """A server that tests may kill, as long as they start it again."""
    with LocalServer() as server:
        yield server


def own(server: LocalServer) -> PostgresStore:
    address = PostgresAddress.parse(server.url, password=server.password)
    PostgresStore.create(address, agency="alder", node="n-1", now=NOW)
    return PostgresStore.open(address, agency="alder", node="n-1", retention_s=YEAR_S, clock=clock)


def test_what_was_acknowledged_survives_the_server_s_death_and_searches_fail_until_it_is_back(
    spoilt: LocalServer,
) -> None:
    store = own(spoilt)
    store.add([detection(seconds=s) for s in (10, 20)])
    errors: list[str] = []

    def ask() -> None:
        try:
            with store.pool.lent() as connection:
                started.set()
                run(connection, "SELECT pg_sleep(20)")
        except StoreError as e:
            errors.append(e.reason)

    started = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(10)
    spoilt.kill()
    thread.join(20)
    assert errors == ["STORE_FAILED"]
    for call in (lambda: exact(store), store.count):
        with pytest.raises(StoreError):
            call()
    spoilt.start()
    assert exact(store) == [10, 20]
    assert store.add([detection(seconds=10)]).duplicates == 1
    store.close()


def test_a_damaged_page_is_an_error_of_each_search_and_never_no_record(spoilt: LocalServer) -> None:
    store = own(spoilt)
    store.add([detection(seconds=s) for s in (30, 40)])
    with store.pool.own() as connection:
        [path] = run(connection, "SELECT pg_relation_filepath('det_2026_01')").fetchone()
    spoilt.ask("CHECKPOINT")
    spoilt.kill()
    file = spoilt.folder / "data" / path
    whole = file.read_bytes()
    file.write_bytes(b"\xff" * 8192 + whole[8192:])
    spoilt.start()
    queries: list[Callable[[], object]] = [
        lambda: exact(store),
        lambda: store.confusable(PLATE, ago(60), NOW, 10),
        lambda: store.partial(PatternQuery.parse("7AB*", "CA"), ago(60), NOW, 10),
        lambda: store.partial(PatternQuery.parse("*123", "CA"), ago(60), NOW, 10),
        lambda: store.area(AreaQuery.parse(camera=detection().camera), ago(60), NOW, 10),
    ]
    reasons = []
    for query in queries:
        with pytest.raises(StoreError) as e:
            query()
        reasons.append(e.value.reason)
    spoilt.kill()
    file.write_bytes(whole)
    spoilt.start()
    assert reasons == ["STORE_CORRUPT"] * len(queries)
    assert 30 in exact(store)
    store.close()


def test_a_server_that_stops_answering_is_given_up(spoilt: LocalServer) -> None:
    address = PostgresAddress.parse(spoilt.url, password=spoilt.password)
    watch = Watch()
    with connect(address, "public") as connection:
        spoilt.stop()
        try:
            with pytest.raises(psycopg.OperationalError), watch.over(connection, 0.2):
                run(connection, "SELECT 1")
        finally:
            spoilt.stop(signal.SIGCONT)
    watch.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_forgets_what_it_acknowledged_is_refused(spoilt: LocalServer, setting: str) -> None:
    spoilt.ask(f"ALTER SYSTEM SET {setting} = off")
    spoilt.ask("SELECT pg_reload_conf()")
    until_it_says(spoilt, setting, "off")
    with pytest.raises(ConfigError) as e:
        own(spoilt)
    assert e.value.reason == "STORE_UNFIT"
    spoilt.ask(f"ALTER SYSTEM RESET {setting}")
    spoilt.ask("SELECT pg_reload_conf()")
    until_it_says(spoilt, setting, "on")


def until_it_says(server: LocalServer, setting: str, value: str) -> None:
    for _ in range(1000):
        if server.ask(f"SHOW {setting}") == [(value,)]:
            return
    raise AssertionError(f"{setting} is not {value}")


def test_the_wheel_s_newer_server_holds_a_store_too() -> None:
    with LocalServer(binaries=wheel_binaries()) as server:
        store = own(server)
        store.add([detection(seconds=s * DAY_S) for s in (1, 40, 70)])
        store.sealer.run()
        store.purge(ago(60 * DAY_S))
        assert exact(store) == [DAY_S, 40 * DAY_S]
        store.close()


def test_a_month_is_found_by_its_name(opened: Open) -> None:
    month = Month.of(to_ms(NOW))
    assert (month.table, month.dictionary, month.number) == ("det_2026_01", "plates_2026_01", 202601)
