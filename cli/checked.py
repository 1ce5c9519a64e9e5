"""What the broker streams, believed only as far as it is proven: the client's own reading of a search.

The client expands the targets itself, demands one outcome of each, and takes what only a node can know with that
node's signature alone. Whatever does not hold becomes an `error` of that node; nothing of it reads as "no record".
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace

from cli.fitting import fits
from comity import instants
from comity.detection import Released
from comity.envelope import OUTCOME_TYPE, Envelope
from comity.errors import ComityError, InvalidInput, NotAuthentic
from comity.inquiry import CLOCK_SKEW, Inquiry
from comity.outcome import BROKER_ONLY, NODE_ONLY, Outcome, OutcomeKind, Tally
from comity.query import Query
from comity.v1 import search_service_pb2 as pb2
from identity.directory import Directory
from identity.signing import verify_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One target's outcome as the client takes it; `signer` is `node`, `broker`, or `client` for what is not proven."""

    node: str
    outcome: Outcome
    detections: tuple[Released, ...] = field(repr=False)
    signer: str

    @property
    def kind(self) -> OutcomeKind:
        """The outcome's kind."""
        return self.outcome.kind


class Reading:
    """Checks one search's outcomes as they come. `targets` are worked out from the pinned directory, sorted."""

    def __init__(
        self, inquiry: Inquiry, inquiry_hash: bytes, query: Query, directory: Directory, now: dt.datetime
    ) -> None:
        self.inquiry = inquiry
        self.targets = tuple(inquiry.targets or sorted(directory.federation.nodes))
        self._hash = inquiry_hash
        self._query = query
        self._directory = directory
        self._now = now
        self._have: dict[str, Checked] = {}

    def take(self, signed: pb2.SignedOutcome) -> Checked | None:
        """The outcome, checked; None if it is of no target. A second one of a target makes both an error."""
        node = signed.node
        if node not in self.targets:
            return None
        if node in self._have:
            checked = self._unproven(node, "TWO_OUTCOMES", "two outcomes came for this node")
        else:
            try:
                checked = self._check(node, signed.envelope)
            except ComityError as error:
                checked = self._unproven(node, "UNVERIFIED", f"the outcome is not proven: {error} [{error.reason}]")
        self._have[node] = checked
        return checked

    def finish(self, why: str) -> list[Checked]:
        """An error for each target that has no outcome yet, because `why`."""
        missing = [
            self._unproven(n, "NO_OUTCOME", f"no outcome came: {why}") for n in self.targets if n not in self._have
        ]
        self._have |= {c.node: c for c in missing}
        return missing

    @property
    def outcomes(self) -> tuple[Checked, ...]:
        """Every target's outcome, in the order of `targets`, of those that came."""
        return tuple(self._have[n] for n in self.targets if n in self._have)

    def tally(self) -> Tally:
        """What they add up to, whatever the broker's own summary says.

        Raises:
            InvalidInput: a target has no outcome: call `finish` first.
        """
        return Tally.of(len(self.targets), [(c.kind, len(c.detections)) for c in self.outcomes])

    def _check(self, node: str, wire: bytes) -> Checked:
        envelope = Envelope.parse(wire, payload_type=OUTCOME_TYPE)
        signers = verify_envelope(envelope, self._directory, self._now)
        outcome = Outcome.parse(envelope.payload)
        signer = signers[0]
        by_node = len(signers) == 1 and signer.kind == "node" and signer.id == node
        by_broker = len(signers) == 1 and signer.kind == "broker"
        if not (by_node and outcome.kind not in BROKER_ONLY) and not (by_broker and outcome.kind not in NODE_ONLY):
            raise NotAuthentic("it is not signed by the one who may say so", reason="WRONG_SIGNER")
        about = (outcome.inquiry_id, outcome.inquiry_hash, outcome.node)
        if about != (self.inquiry.inquiry_id, self._hash, node):
            raise NotAuthentic("it answers another inquiry", reason="WRONG_INQUIRY")
        detections = tuple(Released.parse(d) for d in outcome.detections)
        self._check_detections(node, outcome, detections)
        return Checked(
            node=node,
            outcome=self._check_coverage(outcome),
            detections=detections,
            signer="node" if by_node else "broker",
        )

    def _check_detections(self, node: str, outcome: Outcome, detections: tuple[Released, ...]) -> None:
        if not detections:  # a target that this directory does not register has none: only its own node signs them
            return
        agency = self._directory.federation.nodes[node].agency
        for d in detections:
            if d.agency != agency or not fits(self.inquiry.act, self._query, d):
                raise InvalidInput("it holds a detection that was not asked for", reason="BAD_OUTCOME")
            c = outcome.coverage
            # A redacted time is the day's first moment, which may lie before the window.
            first = _day(c.begin) if c else None
            if c is None or c.begin == c.end or not (d.captured_at == first or c.begin <= d.captured_at < c.end):
                raise InvalidInput("it holds a detection outside its own coverage", reason="BAD_OUTCOME")

    def _check_coverage(self, outcome: Outcome) -> Outcome:
        """A `match` or `no_match` whose coverage is less than the window is a partial one, whatever it is called."""
        if outcome.kind not in (OutcomeKind.MATCH, OutcomeKind.NO_MATCH):
            return outcome
        c, asked = outcome.coverage, self.inquiry
        # A node whose clock is behind searches up to its own now; of a short window that may be next to nothing.
        behind = min(CLOCK_SKEW, (asked.end - asked.begin) / 10)
        end = max(asked.end - behind, min(asked.end, asked.issued_at - CLOCK_SKEW))
        # Nothing searched is never the whole, however short the window and whatever the clocks.
        if c is not None and c.begin <= asked.begin and c.end >= end and c.begin < c.end:
            return outcome
        span = f"{instants.to_text(c.begin)} to {instants.to_text(c.end)}" if c else "nothing"
        return replace(
            outcome,
            kind=OutcomeKind.PARTIAL_COVERAGE,
            reason_code="COVERAGE_SHORT",
            reason=f"the node covered only {span}",
        )

    def _unproven(self, node: str, reason_code: str, reason: str) -> Checked:
        outcome = Outcome(
            inquiry_id=self.inquiry.inquiry_id,
            inquiry_hash=self._hash,
            node=node,
            decided_at=self._now,
            kind=OutcomeKind.ERROR,
            reason_code=reason_code,
            reason=reason,
        )
        return Checked(node=node, outcome=outcome, detections=(), signer="client")


def _day(at: dt.datetime) -> dt.datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def exit_code(tally: Tally) -> int:
    """0 complete; 3 some node answered, not all; 6 none did and an approval is awaited; 4 none did and at least one
    refused; 5 none did and none refused."""
    if tally.complete:
        return 0
    answered = (OutcomeKind.MATCH, OutcomeKind.NO_MATCH, OutcomeKind.PARTIAL_COVERAGE)
    if any(tally.counts.get(k) for k in answered):
        return 3
    if tally.counts.get(OutcomeKind.PENDING):
        return 6
    return 4 if tally.counts.get(OutcomeKind.REFUSED) else 5
