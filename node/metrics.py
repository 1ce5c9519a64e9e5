"""What monitoring reads of a node: what came in, what is held, whether it purges, the log. No plate, no camera."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from audit.log import DecisionLog
from comity.errors import ComityError
from comity.metrics import Labels, Metric, counter, exposition, gauge
from node import counters
from node.reasons import REASON, REFUSED
from node.store.interface import StoreError
from node.store.status import SET_ASIDE, StoreStatus

COUNTED_EVERY_S = 300.0  # to count what a store holds, an index of every part is read


@dataclass(slots=True)
class Housekeeping:
    """What the background work did since the process began; `failing` by job, with the reason of its last round."""

    purged: int = 0
    held: int = 0
    failing: dict[str, str] = field(default_factory=dict)

    def purge(self, rows: int, held: int) -> None:
        """A purge went well."""
        self.purged, self.held = self.purged + rows, self.held + held
        self.failing.pop("purge", None)


class NodeMetrics:
    """Gathers them when they are asked for; the store is counted every five minutes at most. `expires`: the node's own
    certificate.
    """

    def __init__(
        self,
        state: Path,
        *,
        status: Callable[[], StoreStatus],
        log: DecisionLog,
        brokers: Callable[[], int],
        expires: dt.datetime,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = state / counters.FILE
        self._status, self._log, self._brokers, self._expires = status, log, brokers, expires
        self.done = Housekeeping()
        self._seconds = seconds
        self._found: StoreStatus | None = None
        self._read_at = -COUNTED_EVERY_S

    def text(self) -> bytes:
        """The text of /metrics. Waits for the disk."""
        return exposition([*_ingest(counters.read(self._counters)), *self._store(), *self._rest()])

    def _store(self) -> list[Metric]:
        if self._seconds() - self._read_at >= COUNTED_EVERY_S:
            self._read_at = self._seconds()
            try:
                self._found = self._status()
            except (StoreError, ComityError):
                self._found = None
        found = self._found
        up = gauge("comity_store_up", "1 if the detection store can be read.", found is not None)
        if found is None:
            return [up]
        by_state = Counter(p.state for p in found.parts)
        parts: dict[Labels, float] = {(("state", state),): float(n) for state, n in by_state.items()}
        return [
            up,
            gauge("comity_detections", "Detections held, expired ones that are not purged yet among them.", found.rows),
            gauge("comity_store_bytes", "Size of the detections on the disk.", found.size_bytes),
            Metric(name="comity_store_parts", kind="gauge", means="Parts of the store, by state.", values=parts),
            gauge("comity_store_damaged_parts", "Parts set aside: searches of their span fail.", by_state[SET_ASIDE]),
            gauge("comity_oldest_seconds", "When the oldest detection was captured.", _stamp(found.oldest)),
            gauge("comity_newest_seconds", "When the newest detection was captured.", _stamp(found.newest)),
        ]

    def _rest(self) -> list[Metric]:
        done = self.done
        failing: dict[Labels, float] = {
            (("job", job), ("reason", reason)): 1.0 for job, reason in dict(done.failing).items()
        }
        return [
            counter("comity_purged_total", "Detections deleted past their retention.", {(): done.purged}),
            counter("comity_purged_held_total", "Of these, copied to hold.db for a hold.", {(): done.held}),
            Metric(name="comity_job_failing", kind="gauge", means="1: its last round failed, why.", values=failing),
            gauge("comity_brokers_attached", "Broker processes that this node is attached to.", self._brokers()),
            gauge("comity_certificate_expires_seconds", "When its own certificate expires.", self._expires.timestamp()),
            gauge("comity_log_entries", "Entries of the decision log.", self._log.head.size),
            gauge(
                "comity_log_broken", "1 if the decision log cannot be written: nothing is released.", self._log.broken
            ),
        ]


def _stamp(at: dt.datetime | None) -> float | None:
    return at.timestamp() if at else None


def _ingest(counts: Mapping[str, Mapping[str, int]]) -> list[Metric]:
    """By surface: what became of records, why some were set aside, and why requests were refused."""
    outcomes: dict[Labels, float] = {}
    reasons: dict[Labels, float] = {}
    refused: dict[Labels, float] = {}
    for surface, names in counts.items():
        for name, n in names.items():
            into, label = outcomes, name
            if name.startswith(REASON):
                into, label = reasons, name.removeprefix(REASON)
            elif name.startswith(REFUSED):
                into, label = refused, name.removeprefix(REFUSED)
            into[(("surface", surface), ("outcome" if into is outcomes else "reason", label))] = float(n)
    return [
        counter("comity_ingest_total", "Detections and records that came in, by what became of them.", outcomes),
        counter("comity_set_aside_total", "Records set aside, by reason.", reasons),
        counter("comity_webhook_refused_total", "Requests of the webhook that were refused, by reason.", refused),
    ]
