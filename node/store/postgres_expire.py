"""What of a PostgreSQL store is past its retention: months that go whole, and rows of those that do not.

The rows are named one by one in a temporary table before anyone is shown them, so that just those go: a late row
that comes meanwhile was shown to nobody, and goes next time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from comity.instants import from_ms
from node.store.expire import RETENTION, Cuts
from node.store.interface import Purged
from node.store.keeping import Purgeable
from node.store.postgres_months import Part, drop, parts
from node.store.postgres_pool import Connection, faults, run
from node.store.postgres_search import ALL_CAMERAS, rows_of

FETCHED_AT_ONCE = 10_000
_DOOMED = """
CREATE TEMP TABLE doomed(part text, skel text COLLATE "C", captured_at bigint, uid bigint, rule text,
  PRIMARY KEY(part, skel, captured_at, uid))
"""
_SAME = "x.skel = d.skel AND x.captured_at = d.captured_at AND x.uid = d.uid"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthGoing:
    """Rows of one month that are about to go: all of it, or those in `doomed`. As `expire.Going`."""

    name: str
    rows: int
    first_ms: int
    last_ms: int
    whole: bool
    rules: tuple[str, ...]
    digest: bytes
    part: Part = field(repr=False)
    connection: Connection = field(repr=False)

    @property
    def readable(self) -> bool:
        """A server that cannot read its rows fails at once, and nothing of it is purged."""
        return True

    def matching(self, clause: str, values: dict[str, object]) -> Iterator[tuple[object, ...]]:
        """The rows, as `rows.SELECT` gives them, that go and meet `clause` (with :name for a value) too.

        Raises:
            StoreError: they cannot be read.
        """
        clause = re.sub(r":(\w+)", r"%(\1)s", clause)
        only = "" if self.whole else f" AND EXISTS (SELECT 1 FROM doomed x WHERE x.part = %(part)s AND {_SAME})"  # noqa: S608  # nosec B608
        statement = f"{rows_of(self.name)} WHERE ({clause}){only}"
        with faults():
            yield from streamed(self.connection, statement, {**values, "part": self.name})


class PostgresExpiry:
    """What goes now. Nothing has been deleted yet; `drop` does it. As `expire.Expiry`."""

    def __init__(self, connection: Connection, schema: str, going: Sequence[MonthGoing], cuts: Cuts) -> None:
        self._connection = connection
        self._schema = schema
        self.going = tuple(going)
        self.cuts = cuts

    @property
    def rows(self) -> int:
        """How many rows go."""
        return sum(g.rows for g in self.going)

    def spare(self, going: Purgeable) -> None:
        """Leave `going` for another time."""
        self.going = tuple(g for g in self.going if g is not going)

    def drop(self) -> Purged:
        """What is gone when this returns, durably; no partition of it is left. It erases no medium.

        Raises:
            StoreError: some of it may still be there; doing it again is safe.
        """
        with faults():
            # Before anything goes: a clock that is set back later must not turn what was purged into "no record".
            remember(self._connection, self.cuts)
            gone = [g for g in self.going if self._drop(g)]
        ends = [from_ms(ms) for g in gone if g.rows for ms in (g.first_ms, g.last_ms)]
        return Purged(rows=sum(g.rows for g in gone), oldest=min(ends, default=None), newest=max(ends, default=None))

    def _drop(self, going: MonthGoing) -> bool:
        if going.whole:
            return drop(self._connection, self._schema, going.part.month, going.rows)
        run(
            self._connection,
            f"DELETE FROM {going.name} d USING doomed x WHERE x.part = %s AND {_SAME}",  # noqa: S608  # nosec B608
            [going.name],
        )
        return True


def remember(connection: Connection, cuts: Cuts) -> None:
    """The store knows, durably, that rows before `cuts` may be gone; marks never go back.

    Raises:
        psycopg.Error: it may not.
    """
    with connection.transaction():
        run(
            connection,
            "UPDATE meta SET value = greatest(value::bigint, %s)::text WHERE key = 'purged_ms'",
            [cuts.before_ms],
        )
        run(connection, "DELETE FROM gone WHERE before_ms <= %s", [cuts.before_ms])
        for rule, cut in cuts.rules:
            mark(connection, rule.name, cut)


def mark(connection: Connection, rule: str, before_ms: int) -> None:
    """Rows of this class before this time may be gone."""
    run(
        connection,
        "INSERT INTO gone VALUES (%s, %s)"
        " ON CONFLICT (rule) DO UPDATE SET before_ms = greatest(gone.before_ms, excluded.before_ms)",
        [rule, before_ms],
    )


def expiry(connection: Connection, schema: str, cuts: Cuts, *, thorough: bool) -> PostgresExpiry:
    """What is past `cuts`. Not `thorough`: of a class only what expired since the last purge, not late rows of it.

    Raises:
        psycopg.Error: it cannot be read.
    """
    run(connection, "DROP TABLE IF EXISTS doomed")
    run(connection, _DOOMED)
    marks = {} if thorough else dict(run(connection, "SELECT rule, before_ms FROM gone").fetchall())
    going: list[MonthGoing | None] = []
    for part in parts(connection):
        if part.month.end_ms <= cuts.before_ms:
            going.append(_whole(connection, part))
        else:
            going.append(_some(connection, part, cuts, marks))
    return PostgresExpiry(connection, schema, [g for g in going if g is not None], cuts)


def streamed(connection: Connection, statement: str, values: dict[str, object]) -> Iterator[tuple[object, ...]]:
    """The rows of a statement, however many, a few thousand at a time.

    Raises:
        psycopg.Error: they cannot be read.
    """
    with connection.transaction(), connection.cursor(name="rows") as cursor:
        cursor.itersize = FETCHED_AT_ONCE
        cursor.execute(statement.encode(), values)
        yield from cursor


def _whole(connection: Connection, part: Part) -> MonthGoing:
    name = part.month.table
    digest, rows = hashlib.sha256(), 0
    for (uid,) in streamed(connection, f"SELECT uid FROM {name} ORDER BY uid", {}):  # noqa: S608  # nosec B608
        assert isinstance(uid, int)
        digest.update(uid.to_bytes(8, "big", signed=True))
        rows += 1
    first, last = run(connection, f"SELECT min(captured_at), max(captured_at) FROM {name}").fetchone()  # noqa: S608  # nosec B608
    return MonthGoing(
        name=name,
        rows=rows,
        first_ms=first if rows else part.month.begin_ms,
        last_ms=last if rows else part.month.end_ms - 1,
        whole=True,
        rules=(RETENTION,),
        digest=digest.digest(),
        part=part,
        connection=connection,
    )


def _some(connection: Connection, part: Part, cuts: Cuts, marks: dict[str, int]) -> MonthGoing | None:
    name = part.month.table
    wanted = [(RETENTION, "", "", 0, cuts.before_ms)]
    wanted += [(rule.name, rule.kind, rule.text, marks.get(rule.name, 0), cut) for rule, cut in cuts.rules]
    for rule_name, kind, text, since, cut in wanted:
        if cut <= part.month.begin_ms or since >= part.month.end_ms:
            continue
        of_class = "(SELECT id FROM word WHERE kind = %(kind)s AND text = %(text)s)"
        only = f" AND d.{kind} = {of_class}" if kind else ""
        run(
            connection,
            f"INSERT INTO doomed SELECT %(part)s, d.skel, d.captured_at, d.uid, %(rule)s FROM {name} d"  # noqa: S608  # nosec B608
            f" WHERE {ALL_CAMERAS} AND d.captured_at >= %(since)s AND d.captured_at < %(cut)s{only}"
            " ON CONFLICT DO NOTHING",
            {"part": name, "rule": rule_name, "kind": kind, "text": text, "since": since, "cut": cut},
        )
    rows, first, last, rules = run(
        connection,
        "SELECT count(*), min(captured_at), max(captured_at), array_agg(DISTINCT rule) FROM doomed WHERE part = %s",
        [name],
    ).fetchone()
    if not rows:
        return None
    digest = hashlib.sha256()
    for (uid,) in streamed(connection, "SELECT uid FROM doomed WHERE part = %(part)s ORDER BY uid", {"part": name}):
        assert isinstance(uid, int)
        digest.update(uid.to_bytes(8, "big", signed=True))
    return MonthGoing(
        name=name,
        rows=rows,
        first_ms=first,
        last_ms=last,
        whole=False,
        rules=tuple(sorted(rules)),
        digest=digest.digest(),
        part=part,
        connection=connection,
    )
