"""What is past its retention leaves the disk, in an order that a kill at any instant cannot turn into a silent loss.

    1  the clocks agree: one that jumped ahead would expire everything
    2  every hold that began and is not over is there and can be believed, else nothing goes; none begins or ends now
    3  holds that began or ended are entries in the decision log
    4  rows that are held are copied to hold.db, durably
    5  what goes is counted, durably, and is in an entry of the log: one an hour at most
    6  the watermark, then the files: unlinked, the folder synced, their absence verified
    7  rows of holds that are over leave hold.db

After a kill between 5 and 6 the same rows are counted once more, at each such kill; none goes uncounted.
Unlinking erases no medium, and a backup made before is the operator's to purge.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from audit.entry import Draft, purge_entry
from audit.log import DecisionLog
from comity.errors import ConfigError, InvalidInput, Unavailable
from comity.instants import from_ms, to_ms
from identity import files
from node.holds import Hold, Holds
from node.store.held import FILE as HELD_FILE
from node.store.held import Held
from node.store.keeping import Expiring, KeptStore, Purgeable

FILE = "retention.json"
HOUR_MS = 3_600_000
MAX_BYTES = 1024 * 1024
MAX_RULE_CHARACTERS = 200
TOLERANCE_S = 300.0
SETTLED_S, LONGEST_S = 3600.0, 7 * 86_400.0
STEADY_EVERY_MS = 600_000
UNSEEN_S = 86_400.0
ADDED, ENDED, OVER, LOST = "hold-added", "hold-ended", "hold-over", "hold-lost"
SLACK = dt.timedelta(days=1)  # how long expired rows stay in a sealed part before it is rewritten for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What went since the last entry, and what is known of holds: `hold-added:ID` and `hold-ended:ID` are in the log,
    and so is `hold-lost:ID`; `hold-over:ID` was seen to be. `steady_ms`: when the clock was last found to be right.
    """

    rows: int = 0
    begin_ms: int = 0
    end_ms: int = 0
    rules: tuple[str, ...] = ()
    digest: str = ""
    logged_ms: int = 0
    holds: tuple[str, ...] = ()
    steady_ms: int = 0

    def adding(self, going: Purgeable) -> Tally:
        """With `going` counted too; the digest is over the earlier one and its own."""
        chained = hashlib.sha256(bytes.fromhex(self.digest) + going.digest).hexdigest() if self.rows else None
        return replace(
            self,
            rows=self.rows + going.rows,
            begin_ms=min(self.begin_ms, going.first_ms) if self.rows else going.first_ms,
            end_ms=max(self.end_ms, going.last_ms + 1),
            rules=tuple(sorted({*self.rules, *going.rules})),
            digest=chained or going.digest.hex(),
        )

    def marked(self, mark: str) -> frozenset[str]:
        """The holds of which that is known."""
        return frozenset(m.partition(":")[2] for m in self.holds if m.startswith(f"{mark}:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What went, or in a dry run would go: rows, by file; rows copied for holds; and what holds released."""

    rows: int
    held: int
    released: int
    files: tuple[Purgeable, ...]


class ClockGuard:
    """Tells whether the wall clock went as the machine's own counter did; both in seconds.

    `known_ms`: the newest time that this node wrote down before it started, ms UTC; 0 if it wrote none. The clock may
    have jumped while nobody looked: more than a day after it is taken for a jump, and so is any time before it.
    """

    def __init__(self, counter: Callable[[], float], known_ms: int = 0) -> None:
        self._counter = counter
        self._known_s = known_ms / 1000
        self._last: tuple[float, float] | None = None
        self._jumped_at: float | None = None
        self._ahead_s = 0.0

    def steady(self, now: dt.datetime) -> bool:
        """False from a jump of more than five minutes until an hour without a further one has passed.

        Until as long as it jumped ahead has passed if that is longer, a week at most: somebody should see it first.
        """
        wall, count = now.timestamp(), self._counter()
        if self._last is not None:
            jump = (wall - self._last[0]) - (count - self._last[1])
            if abs(jump) > TOLERANCE_S:
                self._jumped_at, self._ahead_s = count, self._ahead_s + jump
        elif self._known_s and not -TOLERANCE_S <= wall - self._known_s <= UNSEEN_S:
            self._jumped_at = count
        self._last = wall, count
        if self._jumped_at is None:
            return True
        if count - self._jumped_at < min(max(SETTLED_S, self._ahead_s), LONGEST_S):
            return False
        self._jumped_at, self._ahead_s = None, 0.0
        return True


class Retention:
    """Purges one node's store. `record` returns when the entry is durable in the decision log, or raises."""

    def __init__(
        self,
        state: Path,
        *,
        node: str,
        store: KeptStore,
        holds: Holds,
        guard: ClockGuard,
        record: Callable[[Draft], None],
    ) -> None:
        self._file = state / FILE
        self._node = node
        self._store = store
        self._holds = holds
        self._held = Held(state / HELD_FILE)
        self._guard = guard
        self._record = record

    def check_clock(self, now: dt.datetime) -> None:
        """Return if something may expire now.

        Raises:
            Unavailable: CLOCK_JUMPED, or RETENTION_UNREADABLE or RETENTION_UNWRITABLE.
        """
        if not self._guard.steady(now):
            raise Unavailable(
                "the clock jumped, maybe while the node was stopped: nothing is purged until it was steady for an hour",
                reason="CLOCK_JUMPED",
            )
        tally, now_ms = self._load(), to_ms(now)
        if abs(now_ms - tally.steady_ms) >= STEADY_EVERY_MS:
            self._save(replace(tally, steady_ms=now_ms))

    def run(
        self, now: dt.datetime, before: dt.datetime, *, slack: dt.timedelta = SLACK, without: Collection[str] = ()
    ) -> Report:
        """Purge what was captured before `before` or is expired by a class rule.

        `without`: holds that are lost, says somebody who looked. Their rows in hold.db stay; no further ones are kept.

        Raises:
            Unavailable: CLOCK_JUMPED, HOLD_UNVERIFIED, RETENTION_UNWRITABLE, or as the log: nothing was purged.
            InvalidInput: NOT_LOST: one of `without` is there, or never was.
            StoreError: not all was purged; the next round does the rest.
        """
        self.check_clock(now)  # 1
        with self._holds.alone():
            holds = self._all_holds(without)  # 2
            self._record_holds(holds)  # 3
            self._record_lost(without, now)
            with self._store.expiring(before, slack=slack) as found:
                held = self._keep(found, holds)  # 4
                self._count(found, now)  # 5
                found.drop()  # 6
            known = self._load()
            over = known.marked(ENDED) | known.marked(OVER)
            released = self._held.release(over - {h.hold_id for h in holds if h.in_force})  # 7
        return Report(rows=found.rows, held=held, released=released, files=found.going)

    def rehearse(self, before: dt.datetime, *, slack: dt.timedelta = SLACK) -> Report:
        """What `run` would purge now; nothing is changed.

        Raises:
            Unavailable: HOLD_UNVERIFIED.
            StoreError: the store cannot be read.
        """
        holds = [h for h in self._all_holds() if h.in_force]
        with self._store.expiring(before, slack=slack) as found:
            self._spare(found, holds)
            held = sum(sum(1 for _ in g.matching(*h.scope.clause())) for g in found.going if g.readable for h in holds)
            return Report(rows=found.rows, held=held, released=0, files=found.going)

    def held(self) -> dict[str, int]:
        """Rows in hold.db, by hold.

        Raises:
            StoreError: they cannot be read.
        """
        return self._held.counts()

    def _all_holds(self, without: Collection[str] = ()) -> tuple[Hold, ...]:
        """Step 2. Whoever takes a hold's file away shall not have ended it: two persons do."""
        tally = self._load()
        lost = tally.marked(LOST) | frozenset(without)
        holds = self._holds.all(without=lost)
        there = {h.hold_id for h in holds}
        for hold_id in without:
            if hold_id in there or hold_id not in tally.marked(ADDED):
                raise InvalidInput(f"no hold {hold_id} is lost", reason="NOT_LOST")
        missing = tally.marked(ADDED) - tally.marked(ENDED) - tally.marked(OVER) - lost - there
        if missing:
            raise Unavailable(
                f"the hold {min(missing)} began and is not there: put its file back, or purge --without-hold",
                reason="HOLD_UNVERIFIED",
            )
        return holds

    def _keep(self, found: Expiring, holds: tuple[Hold, ...]) -> int:
        in_force = [h for h in holds if h.in_force]
        self._spare(found, in_force)
        return sum(
            self._held.keep(h.hold_id, g.matching(*h.scope.clause()))
            for g in found.going
            if g.readable
            for h in in_force
        )

    def _spare(self, found: Expiring, in_force: list[Hold]) -> None:
        # What cannot be read may hold what a court ordered kept.
        for going in found.going:
            if not going.readable and in_force:
                found.spare(going)

    def _record_holds(self, holds: tuple[Hold, ...]) -> None:
        tally = self._load()
        for hold in holds:
            known = hold.state in ("in force", "ending", "ended", "over")
            marks = [(f"{ADDED}:{hold.hold_id}", hold.digest)] if known else []
            marks += [(f"{ENDED}:{hold.hold_id}", hold.ended_digest)] if hold.ended_digest else []
            for mark, digest in marks:
                if mark not in tally.holds:
                    self._record(
                        purge_entry(
                            node=self._node, rows=0, begin=hold.issued_at, end=hold.ends_at, rule=mark, digest=digest
                        )
                    )
                    tally = replace(tally, holds=(*tally.holds, mark))
                    self._save(tally)
            if hold.state == "over" and hold.hold_id not in tally.marked(OVER):
                tally = replace(tally, holds=(*tally.holds, f"{OVER}:{hold.hold_id}"))
                self._save(tally)

    def _record_lost(self, without: Collection[str], now: dt.datetime) -> None:
        tally = self._load()
        for hold_id in sorted(frozenset(without) - tally.marked(LOST)):
            mark = f"{LOST}:{hold_id}"
            self._record(purge_entry(node=self._node, rows=0, begin=now, end=now, rule=mark, digest=b""))
            tally = replace(tally, holds=(*tally.holds, mark))
            self._save(tally)

    def _count(self, found: Expiring, now: dt.datetime) -> None:
        tally, now_ms = self._load(), to_ms(now)
        for going in found.going:
            if going.rows:
                tally = tally.adding(going)
        if not tally.rows:
            return
        # A clock set back must not silence the log for as long.
        if abs(now_ms - tally.logged_ms) >= HOUR_MS:
            rule = ",".join(tally.rules)
            self._record(
                purge_entry(
                    node=self._node,
                    rows=tally.rows,
                    begin=from_ms(tally.begin_ms),
                    end=from_ms(tally.end_ms),
                    rule=rule if len(rule) <= MAX_RULE_CHARACTERS else "retention,classes",
                    digest=bytes.fromhex(tally.digest),
                )
            )
            tally = Tally(logged_ms=now_ms, holds=tally.holds, steady_ms=tally.steady_ms)
        elif not found.rows:
            return
        self._save(tally)

    def _load(self) -> Tally:
        return _tally(self._file)

    def _save(self, tally: Tally) -> None:
        try:
            files.replace(self._file, orjson.dumps(asdict(tally)), mode=files.PRIVATE)
        except ConfigError:
            raise Unavailable(f"{FILE} cannot be written: nothing is purged", reason="RETENTION_UNWRITABLE") from None


def known_ms(state: Path, log: DecisionLog) -> int:
    """When the clock was last found to be right, or else the log's newest entry was written, ms UTC; 0 if it has none.

    That entry may be dated by a clock that had jumped already, and an idle node writes none for days.

    Raises:
        LogFault: LOG_UNREADABLE.
    """
    try:
        steady_ms = _tally(state / FILE).steady_ms
    except Unavailable:
        steady_ms = 0  # nothing is purged until it can be read
    return steady_ms or newest_ms(log)


def _tally(file: Path) -> Tally:
    if not file.exists():
        return Tally()
    try:
        raw = orjson.loads(files.read(file, max_bytes=MAX_BYTES, private=True))
        return Tally(**{**raw, "rules": tuple(raw["rules"]), "holds": tuple(raw["holds"])})
    except (ConfigError, ValueError, TypeError, KeyError):
        raise Unavailable(
            f"{FILE} cannot be read: what was purged would go uncounted", reason="RETENTION_UNREADABLE"
        ) from None


def newest_ms(log: DecisionLog) -> int:
    """When the log's newest entry was written, ms UTC; 0 if it has none.

    Raises:
        LogFault: LOG_UNREADABLE.
    """
    size = log.head.size
    return to_ms(dt.datetime.fromisoformat(orjson.loads(log.entries(size - 1, size)[0])["at"])) if size else 0
