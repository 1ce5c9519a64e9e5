"""A node's folder with a clock and a counter that tests move, and the log's entries in a list."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.entry import Draft
from comity.plate import Plate
from node.holds import Holds
from node.retention import ClockGuard, Retention
from node.store.held import Scope
from node.store.rules import ClassRule
from node.store.sqlite import SqliteStore
from tests.unit.identity.world import ALDER, World
from tests.unit.node.samples import NOW, YEAR_S, ago, detection

PLATE = Plate(number="7ABC123", state="CA")
DAY_S = 86_400
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)


@dataclass
class Agency:
    """A node's folder with a clock and a counter that tests move, and the log's entries in a list."""

    folder: Path
    world: World
    retention_s: int = YEAR_S
    rules: tuple[ClassRule, ...] = ()
    now: dt.datetime = NOW
    counter: float = 0.0
    entries: list[Draft] = field(default_factory=list)
    failing: Exception | None = None

    def __post_init__(self) -> None:
        SqliteStore.create(self.folder / "store")
        self.store = self.opened()
        self.holds = Holds(
            self.folder / "holds",
            directory=self.world.directory(),
            node="alder-1",
            agency=ALDER,
            clock=lambda: self.now,
        )
        self.retention = Retention(
            self.folder,
            node="alder-1",
            store=self.store,
            holds=self.holds,
            guard=ClockGuard(lambda: self.counter),
            record=self.record,
        )

    def opened(self) -> SqliteStore:
        return SqliteStore.open(
            self.folder / "store",
            retention_s=self.retention_s,
            clock=lambda: self.now,
            rules=self.rules,
            max_hot_rows=50,
        )

    def record(self, draft: Draft) -> None:
        if self.failing is not None:
            raise self.failing
        self.entries.append(draft)

    def passes(self, time: dt.timedelta) -> None:
        self.now += time
        self.counter += time.total_seconds()

    def run(self, slack: dt.timedelta = dt.timedelta()) -> int:
        before = self.now - dt.timedelta(seconds=self.retention_s)
        return self.retention.run(self.now, before, slack=slack).rows

    def sealed_days(self, days: int, **fields: Any) -> None:
        """One read for each of the last `days`, sealed."""
        self.store.add([detection(seconds=d * DAY_S + 1, **fields) for d in range(days)])
        self.store._shelf.rotate(self.store._shelf.view())
        self.store.sealer.run()

    def hold(self, scope: Scope, days: int = 100) -> str:
        author = self.world.person("t-reyes", at=self.now)
        other = self.world.person("s-okafor", role="supervisor", at=self.now)
        made = self.holds.add(scope, kind="hold", reason="appeal", order="CO-26-17", days=days, signer=author)
        assert self.holds.approve(made.hold_id, other).in_force
        return made.hold_id

    def seconds(self) -> list[float]:
        found = self.store.exact(PLATE, ago(2 * YEAR_S), self.now, 1000)
        return [(NOW - m.detection.captured_at).total_seconds() for m in found]
