"""What a PostgreSQL store's schema holds, by version, and the statements that make it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from comity.errors import ConfigError
from node.store.postgres_pool import Connection, run

Migration = Sequence[str]

# Times are ms UTC, lat and lon 1e-7 degrees, conf 0 to 1000; region, camera, source, make and colour are word.id.
# "C": sorted by bytes, so that ranges, prefixes and digests are the same on every server.
COLUMNS = """
skel text COLLATE "C" NOT NULL, captured_at bigint NOT NULL, uid bigint NOT NULL, plate text COLLATE "C" NOT NULL,
region integer NOT NULL, camera integer NOT NULL, source integer NOT NULL, lat integer, lon integer, conf integer,
make integer, colour integer, image text
"""
UNIQUE = "(skel, captured_at, uid)"
BY_CAMERA = "(camera, captured_at) INCLUDE (plate)"
# One tuple a version; what a release made is never changed, only followed.
MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE meta(key text PRIMARY KEY, value text NOT NULL)",
        "CREATE TABLE word(id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL,"
        " text text NOT NULL, UNIQUE(kind, text))",
        f"CREATE TABLE det({COLUMNS}) PARTITION BY RANGE (captured_at)",
        f"CREATE UNIQUE INDEX det_k ON det{UNIQUE}",
        f"CREATE INDEX det_c ON det{BY_CAMERA}",
        "CREATE TABLE part(name text PRIMARY KEY, begin_ms bigint NOT NULL UNIQUE, end_ms bigint NOT NULL,"
        " listed boolean NOT NULL DEFAULT false)",
        "CREATE TABLE gone(rule text PRIMARY KEY, before_ms bigint NOT NULL)",
        "INSERT INTO meta VALUES ('purged_ms', '0'), ('swept_ms', '0')",
    ),
)
# The rows of one skeleton are on one worker; words are small and on every one. New partitions follow their parent.
DISTRIBUTE = (
    "SELECT create_reference_table('word')",
    "SELECT create_distributed_table('det', 'skel')",
)
_VERSION = "SELECT value FROM meta WHERE key = 'version'"


def migrate(connection: Connection, schema: str, node: str, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """How many versions the schema was brought forward, to this program's; whole or not at all.

    `node` is "agency/node": a schema belongs to one for good.

    Raises:
        ConfigError: BAD_STORE: a later program made it, or something else is there; STORE_TAKEN: another node's.
        psycopg.Error: it was not done.
    """
    with connection.transaction():
        lock(connection, schema, 0)
        run(connection, f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        run(connection, f'REVOKE ALL ON SCHEMA "{schema}" FROM PUBLIC')
        found = version(connection, schema)
        if found:
            _check_node(connection, schema, node)
        elif run(connection, "SELECT 1 FROM pg_tables WHERE schemaname = %s LIMIT 1", [schema]).fetchone():
            raise ConfigError(f"the schema {schema} holds something else", reason="BAD_STORE")
        _check_version(found, len(migrations))
        for statement in (s for migration in migrations[found:] for s in migration):
            run(connection, statement)
        upsert = "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        run(connection, upsert, ["version", str(len(migrations))])
        run(connection, upsert, ["node", node])
        if not found and citus(connection):
            distribute(connection)
    return len(migrations) - found


def check_schema(connection: Connection, schema: str, node: str) -> None:
    """Return if the schema is this node's, of this program's version.

    Raises:
        ConfigError: NO_STORE, BAD_STORE, STORE_OLD (to be migrated), or STORE_TAKEN.
        psycopg.Error: it cannot be told.
    """
    found = version(connection, schema)
    if not found:
        raise ConfigError("there is no detection store for this node: comity node init --migrate", reason="NO_STORE")
    _check_node(connection, schema, node)
    _check_version(found, len(MIGRATIONS))
    if found < len(MIGRATIONS):
        raise ConfigError(
            "the detection store is of an earlier version: comity node init --migrate", reason="STORE_OLD"
        )


def version(connection: Connection, schema: str) -> int:
    """The schema's version; 0 if there is none."""
    if not run(connection, "SELECT to_regclass(%s)", [f'"{schema}".meta']).fetchone()[0]:
        return 0
    row = run(connection, _VERSION).fetchone()
    return int(row[0]) if row and row[0].isdecimal() else 0


def citus(connection: Connection) -> bool:
    """True if the extension that spreads tables over several servers is in this database."""
    return bool(run(connection, "SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone())


def distribute(connection: Connection) -> None:
    """Spread the tables; Citus's own functions must be there."""
    for statement in DISTRIBUTE:
        run(connection, statement)


def trigrams(connection: Connection) -> str:
    """The schema of pg_trgm, which is installed if this role may; empty if it is not to be had."""
    asked = (
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pg_trgm'"
    )
    found = run(connection, asked).fetchone()
    return str(found[0]) if found else ""


def lock(connection: Connection, schema: str, number: int, *, shared: bool = False) -> None:
    """Hold a lock of this store until the transaction ends: 0 of its form, else of the month `number`."""
    kind = "_shared" if shared else ""
    run(connection, f"SELECT pg_advisory_xact_lock{kind}(%s, %s)", [key_of(schema), number])


def key_of(schema: str) -> int:
    """What tells this store's advisory locks from another's: a signed 32-bit number."""
    return zlib.crc32(schema.encode()) - 2**31


def _check_node(connection: Connection, schema: str, node: str) -> None:
    row = run(connection, "SELECT value FROM meta WHERE key = 'node'").fetchone()
    if row is None or row[0] != node:
        raise ConfigError(f"the schema {schema} is another node's", reason="STORE_TAKEN")


def _check_version(found: int, known: int) -> None:
    if found > known:
        raise ConfigError(
            f"the detection store is of version {found}, this program's is {known}: update the program",
            reason="BAD_STORE",
        )
