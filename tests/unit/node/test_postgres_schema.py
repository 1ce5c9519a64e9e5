"""A node's schema in PostgreSQL: whose it is, of which version, and how it is brought to a later one."""

from __future__ import annotations

import psycopg
import pytest

from comity.errors import ConfigError
from node.store import postgres_schema
from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_pool import connect, run
from node.store.postgres_schema import DISTRIBUTE, MIGRATIONS, distribute, migrate
from tests.unit.node.on_postgres import Open, exact, tables
from tests.unit.node.samples import NOW, YEAR_S, clock, detection


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
