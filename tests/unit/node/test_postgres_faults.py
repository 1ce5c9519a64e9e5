"""A PostgreSQL that cannot write, forgets, hangs, is damaged or dies."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from comity.errors import ConfigError
from comity.query import AreaQuery, PatternQuery
from node.store.interface import StoreError
from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress
from node.store.postgres_pool import Watch, connect, faults, run
from tests.postgres_server import PASSWORD, USER, LocalServer, wait_until, wheel_binaries
from tests.unit.node.on_postgres import DAY_S, PLATE, Open, exact
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection


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
            run(connection, "SELECT pg_sleep(600)")
    assert e.value.reason == "STORE_BUSY"


@pytest.mark.parametrize(
    ("password", "database", "said"),
    [
        pytest.param("wrong", USER, "does not accept the password or the user", id="a wrong password"),
        pytest.param("", USER, "asks for a password", id="no password"),
        pytest.param(PASSWORD, "nowhere", "no such database or user", id="a database that is not there"),
    ],
)
def test_why_a_server_was_not_reached_is_told_in_our_words(
    spoilt: LocalServer, password: str, database: str, said: str
) -> None:
    address = PostgresAddress.parse(f"postgresql://{USER}@127.0.0.1:{spoilt.port}/{database}", password=password)
    with pytest.raises(StoreError, match=said) as e, faults(), connect(address, "public"):
        pass
    assert e.value.reason == "STORE_FAILED"
    assert "nowhere" not in str(e.value)


def test_what_the_server_itself_said_is_not_repeated() -> None:
    with pytest.raises(StoreError, match="the connection was lost or never made") as e, faults():
        raise psycopg.OperationalError("8XYZ999")
    assert "8XYZ999" not in f"{e.value!r}"


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
                run(connection, "SELECT pg_sleep(600)")
        except StoreError as e:
            errors.append(e.reason)

    started = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(120)
    spoilt.kill()
    thread.join(120)
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
    wait_until(lambda: server.ask(f"SHOW {setting}") == [(value,)], f"{setting} is {value}")


def test_the_wheel_s_newer_server_holds_a_store_too() -> None:
    with LocalServer(binaries=wheel_binaries()) as server:
        store = own(server)
        store.add([detection(seconds=s * DAY_S) for s in (1, 40, 70)])
        store.sealer.run()
        store.purge(ago(60 * DAY_S))
        assert exact(store) == [DAY_S, 40 * DAY_S]
        store.close()
