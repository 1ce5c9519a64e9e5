"""Detections in a PostgreSQL database: the store of an agency whose rows outgrow one machine's files."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence

from comity.detection import Detection, Match, MatchClass
from comity.instants import from_ms, to_ms
from comity.plate import Plate
from comity.query import AreaQuery, ConvoyQuery, PatternQuery
from node.store import postgres_search as kinds
from node.store.convoy import companions, near
from node.store.expire import Cuts
from node.store.interface import Added, Gap, Purged, StoreError, check_bounds, check_search
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_expire import PostgresExpiry, expiry
from node.store.postgres_keep import Keeper, measure
from node.store.postgres_months import ahead, ensure, install_trigrams, parts, sweep
from node.store.postgres_pool import LONG_S, Connection, Pool, check_server, connect, faults, run
from node.store.postgres_schema import check_schema, key_of, migrate
from node.store.postgres_search import WINDOW, Values
from node.store.postgres_write import Lexicon, add
from node.store.rows import first_ms
from node.store.rows import key_of as row_key
from node.store.rules import ClassRule
from node.store.status import StoreStatus

DAY = dt.timedelta(days=1)


class PostgresStore:
    """The `DetectionStore` of one schema. Every search is one statement, so that it sees one instant of the store.

    Several processes of one node may have it open.
    """

    def __init__(
        self, pool: Pool, *, retention_s: int, clock: Callable[[], dt.datetime], rules: Sequence[ClassRule] = ()
    ) -> None:
        self.pool = pool
        self.lexicon = Lexicon()
        self._retention_s = retention_s
        self._clock = clock
        self._rules = tuple(r for r in rules if r.kept_s < retention_s)
        self.sealer = Keeper(pool, clock=clock)

    @classmethod
    def create(cls, address: PostgresAddress, *, agency: str, node: str, now: dt.datetime) -> int:
        """Make or migrate the schema of this node; how many versions forward it is.

        Raises:
            ConfigError: the server or the schema is not fit.
            StoreError: it was not done.
        """
        schema = schema_of(node)
        with faults(), contextlib.closing(connect(address, schema)) as connection:
            run(connection, f"SET statement_timeout = '{int(LONG_S)}s'")
            check_server(connection)
            done = migrate(connection, schema, f"{agency}/{node}")
            install_trigrams(connection)
            ensure(connection, schema, ahead(now))
        return done

    @classmethod
    def open(
        cls,
        address: PostgresAddress,
        *,
        agency: str,
        node: str,
        retention_s: int,
        clock: Callable[[], dt.datetime],
        rules: Sequence[ClassRule] = (),
    ) -> PostgresStore:
        """The store of this node; `clock` returns aware UTC.

        Raises:
            ConfigError: there is none, or it is another node's or another version's.
            StoreError: it cannot be reached.
        """
        schema = schema_of(node)
        with faults(), contextlib.closing(connect(address, schema)) as connection:
            check_server(connection)
            check_schema(connection, schema, f"{agency}/{node}")
        return cls(Pool(address, schema), retention_s=retention_s, clock=clock, rules=rules)

    def add(self, batch: Sequence[Detection]) -> Added:
        """See `DetectionStore.add`."""
        return add(self.pool, self.lexicon, batch)

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.exact`."""
        check_search(plate, begin, end, limit)
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.PARTIAL)
            for d in self.select(*kinds.exact(plate), begin, end, limit)
        ]

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.confusable`."""
        check_search(plate, begin, end, limit)
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.CONFUSABLE)
            for d in self.select(*kinds.confusable(plate), begin, end, limit)
        ]

    def partial(self, query: PatternQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.partial`."""
        check_bounds(begin, end, limit)
        where, values, by_list = kinds.partial(query)
        search = self._listed if by_list else self.select
        return [Match(detection=d, match_class=MatchClass.PARTIAL) for d in search(where, values, begin, end, limit)]

    def area(self, query: AreaQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.area`."""
        check_bounds(begin, end, limit)
        found = self.select(*kinds.area(query), begin, end, limit)
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in found]

    def unplaced(self, begin: dt.datetime, end: dt.datetime) -> bool:
        """See `DetectionStore.unplaced`."""
        return bool(self.select(kinds.UNPLACED, {}, begin, end, 1))

    def convoy(
        self, query: ConvoyQuery, sightings: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int
    ) -> list[Match]:
        """See `DetectionStore.convoy`."""
        check_bounds(begin, end, limit)
        window, bounds = self._window(begin, end)
        spans = near(query, sightings, bounds["begin"], bounds["end"])
        with self.pool.lent() as connection:
            asked = kinds.spans_of(connection, spans) | bounds | {"most": limit + 1}
            numbers = companions(query, run(connection, kinds.WHO + window, asked).fetchall())
            where, asked["plates"] = f"{kinds.READS} AND {window}", numbers
            found = kinds.select(connection, where, asked, rows=kinds.ROWS_OF_SPANS) if numbers else []
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in found]

    def select(self, where: str, values: Values, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Detection]:
        """Unexpired rows of the window that meet `where` (SQL on `rows.SELECT`), newest first, at most `limit` + 1.

        Raises:
            StoreError: it was not searched.
        """
        window, bounds = self._window(begin, end)
        with self.pool.lent() as connection:
            return kinds.select(connection, f"{where} AND {window}", {**values, **bounds, "most": limit + 1})

    def horizon(self) -> dt.datetime:
        """See `DetectionStore.horizon`; a clock that was set back does not bring back what was purged."""
        with self.pool.lent() as connection:
            purged = run(connection, "SELECT value::bigint FROM meta WHERE key = 'purged_ms'").fetchone()
        if purged is None:
            raise StoreError("the detection store does not say what was purged", reason="STORE_CORRUPT")
        return max(self._clock() - dt.timedelta(seconds=self._retention_s), from_ms(purged[0]))

    def gaps(self, begin: dt.datetime, end: dt.datetime) -> tuple[Gap, ...]:
        """See `DetectionStore.gaps`."""
        now, horizon = self._clock(), self.horizon()
        with self.pool.lent() as connection:
            until: dict[str, int] = dict(run(connection, "SELECT rule, before_ms FROM gone").fetchall())
        for rule in self._rules:
            until[rule.name] = max(rule.before(now), until.get(rule.name, 0))
        found = [
            Gap(begin=max(begin, horizon), end=min(end, from_ms(ms)), rule=name) for name, ms in sorted(until.items())
        ]
        return tuple(sorted((g for g in found if g.begin < g.end), key=lambda g: g.begin))

    def oldest(self) -> dt.datetime | None:
        """See `DetectionStore.oldest`."""
        return self.status().oldest

    def newest(self) -> dt.datetime | None:
        """See `DetectionStore.newest`."""
        return self.status().newest

    def count(self) -> int:
        """See `DetectionStore.count`."""
        return self.status().rows

    def status(self) -> StoreStatus:
        """What the schema holds, month by month; reads an index of every month.

        Raises:
            StoreError: it cannot be read.
        """
        with self.pool.own() as connection:
            return measure(connection, self._clock())

    def purge(self, before: dt.datetime) -> Purged:
        """See `DetectionStore.purge`; what class rules have expired goes too."""
        with self.expiring(before) as found:
            return found.drop()

    @contextlib.contextmanager
    def expiring(self, before: dt.datetime, *, slack: dt.timedelta = dt.timedelta()) -> Iterator[PostgresExpiry]:
        """What is captured before `before` or expired by a class rule: to be shown, and dropped, inside the block.

        With a slack, late rows of a class are looked for once a day only.

        Raises:
            StoreError: it cannot be read, or another process purges just now.
        """
        now = self._clock()
        cuts = Cuts(before_ms=max(0, first_ms(before)), rules=tuple((r, r.before(now)) for r in self._rules))
        with self.alone() as connection:
            sweep(connection)
            swept = from_ms(run(connection, "SELECT value::bigint FROM meta WHERE key = 'swept_ms'").fetchone()[0])
            thorough = not slack or abs(now - swept) >= DAY
            yield expiry(connection, self.pool.schema, cuts, thorough=thorough)
            if thorough:
                run(connection, "UPDATE meta SET value = %s WHERE key = 'swept_ms'", [str(to_ms(now))])

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection of its own, while no other process purges, lists or copies.

        Raises:
            StoreError: STORE_BUSY, or as `Pool.own`.
        """
        with self.pool.own() as connection:
            run(connection, "SELECT pg_advisory_lock(%s, 1)", [key_of(self.pool.schema)])
            yield connection

    def close(self) -> None:
        """See `DetectionStore.close`."""
        self.pool.close()

    def _window(self, begin: dt.datetime, end: dt.datetime) -> tuple[str, Values]:
        """The condition of the window without what is expired, and its values."""
        clause, cuts = kinds.unexpired(self._rules, self._clock())
        bounds = {"begin": first_ms(max(begin, self.horizon())), "end": first_ms(end)}
        return WINDOW + clause, cuts | bounds

    def _listed(self, where: str, values: Values, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Detection]:
        """As `select`, month by month, each by its dictionary if it has one; of one instant of the store."""
        window, bounds = self._window(begin, end)
        asked = {**values, **bounds, "most": limit + 1}
        found: list[Detection] = []
        with self.pool.lent() as connection, connection.transaction():
            run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for part in parts(connection):
                m = part.month
                if not (m.begin_ms < bounds["end"] and bounds["begin"] < m.end_ms) or len(found) > limit:
                    continue
                listed = f"d.skel IN (SELECT p.skel FROM {m.dictionary} p WHERE p.plate LIKE %(like)s) AND "  # noqa: S608  # nosec B608
                condition = f"{listed if part.listed else ''}{where} AND {window}"
                found += kinds.select(connection, condition, asked, rows=kinds.rows_of(m.table))
        return sorted(found, key=lambda d: (row_key(d)[1], d.uid), reverse=True)[: limit + 1]
