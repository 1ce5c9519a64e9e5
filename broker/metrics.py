"""What monitoring reads of a broker: searches by how they ended, nodes, the log. No plate, no person, no agency."""

from __future__ import annotations

import datetime as dt
from collections import Counter

from audit.log import DecisionLog
from broker.admission import Admission
from broker.links import Links
from comity.metrics import Labels, counter, exposition, gauge
from comity.outcome import OutcomeKind, Tally


class Finishes:
    """Counts how searches ended, and what each node's outcome was; of all since the process began."""

    def __init__(self) -> None:
        self.searches: Counter[bool] = Counter()
        self.outcomes: Counter[OutcomeKind] = Counter()

    def add(self, tally: Tally) -> None:
        """Count one finished search in."""
        self.searches[tally.complete] += 1
        self.outcomes.update(tally.counts)


def metrics(finishes: Finishes, *, links: Links, admission: Admission, log: DecisionLog, expires: dt.datetime) -> bytes:
    """The text of /metrics. `expires`: the broker's own certificate."""
    outcomes: dict[Labels, float] = {
        (("outcome", kind.value.lower()),): float(finishes.outcomes[kind]) for kind in OutcomeKind
    }
    searches: dict[Labels, float] = {
        (("complete", str(c).lower()),): float(finishes.searches[c]) for c in (True, False)
    }
    return exposition(
        [
            counter("comity_searches_total", "Searches that were answered to the end.", searches),
            counter("comity_outcomes_total", "Outcomes released, one a targeted node.", outcomes),
            gauge("comity_searches_running", "Searches under way.", admission.running),
            gauge("comity_nodes_attached", "Nodes attached to this process.", len(links)),
            gauge("comity_certificate_expires_seconds", "When its own certificate expires.", expires.timestamp()),
            gauge("comity_log_entries", "Entries of the decision log.", log.head.size),
            gauge("comity_log_broken", "1 if the decision log cannot be written: nothing is released.", log.broken),
        ]
    )
