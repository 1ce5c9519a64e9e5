"""What came of one search at one node: exactly one outcome for each target, and what they add up to."""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from comity import instants
from comity.errors import InvalidInput
from comity.inquiry import has_unknown_fields
from comity.v1 import decision_pb2, inquiry_pb2, outcome_pb2


class OutcomeKind(enum.StrEnum):
    """The nine outcomes. Only MATCH and NO_MATCH mean that the whole window was searched."""

    MATCH = "match"
    NO_MATCH = "no_match"
    PARTIAL_COVERAGE = "partial_coverage"
    REFUSED = "refused"
    WITHHELD = "withheld"
    PENDING = "pending"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    ERROR = "error"


# Only the node that searched may say these.
NODE_ONLY = frozenset({OutcomeKind.MATCH, OutcomeKind.NO_MATCH, OutcomeKind.PARTIAL_COVERAGE, OutcomeKind.WITHHELD})
# Nobody but the broker can say these of a node.
BROKER_ONLY = frozenset({OutcomeKind.TIMED_OUT, OutcomeKind.UNREACHABLE})

KIND_TO_WIRE = {k: outcome_pb2.OutcomeKind.Value(f"OUTCOME_KIND_{k.name}") for k in OutcomeKind}
KIND_FROM_WIRE: Mapping[int, OutcomeKind] = {v: k for k, v in KIND_TO_WIRE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The half-open interval [begin, end), UTC, that was really searched; begin = end: nothing was."""

    begin: dt.datetime
    end: dt.datetime

    def to_message(self) -> inquiry_pb2.Window:
        """The wire form."""
        return inquiry_pb2.Window(begin=instants.to_wire(self.begin), end=instants.to_wire(self.end))

    @classmethod
    def parse(cls, message: inquiry_pb2.Window) -> Coverage:
        """The interval on the wire.

        Raises:
            InvalidInput: not two instants in order.
        """
        begin, end = instants.from_wire(message.begin), instants.from_wire(message.end)
        if begin is None or end is None or begin > end:
            raise InvalidInput("coverage must be two times in order", reason="BAD_OUTCOME")
        return cls(begin=begin, end=end)

    def as_json(self) -> dict[str, str]:
        """Both ends in RFC 3339."""
        return {"begin": instants.to_text(self.begin), "end": instants.to_text(self.end)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One target's outcome. The fields that a kind does not use are empty.

    `reason_code` is stable and upper case, `reason` a sentence for people. `obligations`: what bound a node that
    searched; None if nothing did. `advice`: rules to show beside what was found.
    """

    inquiry_id: str
    inquiry_hash: bytes
    node: str
    decided_at: dt.datetime
    kind: OutcomeKind
    policy_digest: str = ""
    coverage: Coverage | None = None
    detections: tuple[outcome_pb2.Detection, ...] = ()
    decision: decision_pb2.Decision | None = None
    reason_code: str = ""
    reason: str = ""
    role: str = ""
    agency: str = ""
    last_attached_at: dt.datetime | None = None
    obligations: decision_pb2.Obligations | None = None
    advice: tuple[decision_pb2.MatchedRule, ...] = ()

    def encode(self) -> bytes:
        """The payload to sign."""
        message = outcome_pb2.Outcome(
            inquiry_id=self.inquiry_id,
            inquiry_hash=self.inquiry_hash,
            node=self.node,
            decided_at=instants.to_wire(self.decided_at),
            policy_digest=self.policy_digest,
            obligations=self.obligations,
            advice=self.advice,
        )
        coverage = self.coverage.to_message() if self.coverage else None
        match self.kind:
            case OutcomeKind.MATCH:
                message.match.CopyFrom(outcome_pb2.Match(coverage=coverage, detections=self.detections))
            case OutcomeKind.NO_MATCH:
                message.no_match.CopyFrom(outcome_pb2.NoMatch(coverage=coverage))
            case OutcomeKind.PARTIAL_COVERAGE:
                message.partial_coverage.CopyFrom(
                    outcome_pb2.PartialCoverage(
                        coverage=coverage,
                        detections=self.detections,
                        reason_code=self.reason_code,
                        reason=self.reason,
                    )
                )
            case OutcomeKind.REFUSED:
                message.refused.CopyFrom(outcome_pb2.Refused(decision=self.decision))
            case OutcomeKind.WITHHELD:
                message.withheld.CopyFrom(outcome_pb2.Withheld(reason_code=self.reason_code, reason=self.reason))
            case OutcomeKind.PENDING:
                message.pending.CopyFrom(
                    outcome_pb2.Pending(decision=self.decision, role=self.role, agency=self.agency)
                )
            case OutcomeKind.TIMED_OUT:
                message.timed_out.CopyFrom(outcome_pb2.TimedOut(reason=self.reason))
            case OutcomeKind.UNREACHABLE:
                at = instants.to_wire(self.last_attached_at) if self.last_attached_at else None
                message.unreachable.CopyFrom(outcome_pb2.Unreachable(last_attached_at=at))
            case OutcomeKind.ERROR:
                message.error.CopyFrom(outcome_pb2.Error(reason_code=self.reason_code, reason=self.reason))
        return message.SerializeToString()

    @classmethod
    def parse(cls, payload: bytes) -> Outcome:
        """The outcome in the signed bytes.

        Raises:
            InvalidInput: not an outcome, without a result, with a field this version does not know, or one that
                contradicts itself: a match without detections, a full search without its coverage.
        """
        try:
            m = outcome_pb2.Outcome.FromString(payload)
        except DecodeError:
            raise InvalidInput("not an outcome", reason="BAD_OUTCOME") from None
        name, decided_at = m.WhichOneof("result"), instants.from_wire(m.decided_at)
        if has_unknown_fields(m) or name is None or decided_at is None or len(m.inquiry_hash) != 32:
            raise InvalidInput("not a well-formed outcome", reason="BAD_OUTCOME")
        kind = OutcomeKind(name)
        result = getattr(m, name)
        coverage = Coverage.parse(result.coverage) if hasattr(result, "coverage") else None
        detections = tuple(getattr(result, "detections", ()))
        if (kind is OutcomeKind.MATCH) and not detections:
            raise InvalidInput("a match without detections", reason="BAD_OUTCOME")
        unreachable = kind is OutcomeKind.UNREACHABLE and m.unreachable.HasField("last_attached_at")
        return cls(
            inquiry_id=m.inquiry_id,
            inquiry_hash=m.inquiry_hash,
            node=m.node,
            decided_at=decided_at,
            kind=kind,
            policy_digest=m.policy_digest,
            coverage=coverage,
            detections=detections,
            decision=getattr(result, "decision", None),
            reason_code=getattr(result, "reason_code", ""),
            reason=getattr(result, "reason", ""),
            role=getattr(result, "role", ""),
            agency=getattr(result, "agency", ""),
            last_attached_at=instants.from_wire(m.unreachable.last_attached_at) if unreachable else None,
            obligations=m.obligations if m.HasField("obligations") else None,
            advice=tuple(m.advice),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the outcomes of all targets add up to; `counts` adds up to `targets`."""

    targets: int
    matched: int
    complete: bool
    counts: Mapping[OutcomeKind, int]

    @classmethod
    def of(cls, targets: int, outcomes: Iterable[tuple[OutcomeKind, int]]) -> Tally:
        """The tally of one (kind, number of detections) a target.

        Raises:
            InvalidInput: not exactly one outcome a target.
        """
        pairs = list(outcomes)
        if len(pairs) != targets:
            raise InvalidInput(f"{len(pairs)} outcomes for {targets} targets", reason="OUTCOMES_MISSING")
        counts = Counter(kind for kind, _ in pairs)
        return cls(
            targets=targets,
            matched=sum(1 for _, n in pairs if n),
            complete=targets > 0 and counts[OutcomeKind.MATCH] + counts[OutcomeKind.NO_MATCH] == targets,
            counts=dict(counts),
        )

    @property
    def no_record(self) -> bool:
        """True only if every target searched its whole window and none found anything: what may be told so."""
        return self.complete and not self.matched
