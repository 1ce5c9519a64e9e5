"""What policy says of one inquiry at one node."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from comity.v1 import decision_pb2


class Effect(enum.StrEnum):
    """Permit or deny; everything doubtful is a deny."""

    PERMIT = "permit"
    DENY = "deny"


class Pep(enum.StrEnum):
    """The policy enforcement point that decided."""

    BROKER = "broker"
    NODE = "node"


class Layer(enum.StrEnum):
    """Whose policy a rule belongs to."""

    FEDERATION = "federation"
    NODE = "node"


class Redaction(enum.IntEnum):
    """How much of a detection is released; the greater number is the stricter."""

    FULL = 1
    NO_IMAGE = 2
    COARSE_LOCATION = 3
    HIT_ONLY = 4

    @property
    def word(self) -> str:
        """As policies and the command line write it: `full`, `no-image`, `coarse-location`, `hit-only`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligations:
    """Conditions on a permit: days back that may be searched, searches a day, nodes that one search may ask; None is
    no limit.
    """

    window_days: int | None = None
    redaction: Redaction = Redaction.FULL
    approval: bool = False
    warrant: bool = False
    quota_per_day: int | None = None
    breadth: int | None = None

    def join(self, other: Obligations) -> Obligations:
        """The strictest of both in each part: commutative, associative, idempotent; never looser than either."""
        return Obligations(
            window_days=_least(self.window_days, other.window_days),
            redaction=max(self.redaction, other.redaction),
            approval=self.approval or other.approval,
            warrant=self.warrant or other.warrant,
            quota_per_day=_least(self.quota_per_day, other.quota_per_day),
            breadth=_least(self.breadth, other.breadth),
        )

    def to_message(self) -> decision_pb2.Obligations:
        """The wire form."""
        return decision_pb2.Obligations(
            window_days=self.window_days,
            redaction=self.redaction.value,  # type: ignore[arg-type]  # the numbers are the wire's
            approval=self.approval,
            warrant=self.warrant,
            quota_per_day=self.quota_per_day,
            breadth=self.breadth,
        )

    def as_json(self) -> dict[str, object]:
        """Only what limits, for logs and `--json`: a key that is absent does not bind."""
        out: dict[str, object] = {}
        if self.window_days is not None:
            out["window_days"] = self.window_days
        if self.redaction is not Redaction.FULL:
            out["redact"] = self.redaction.word
        if self.approval:
            out["approval"] = "supervisor"
        if self.warrant:
            out["warrant"] = True
        if self.quota_per_day is not None:
            out["quota_per_day"] = self.quota_per_day
        if self.breadth is not None:
            out["breadth"] = self.breadth
        return out


NO_OBLIGATIONS = Obligations()
# As `Obligations.as_json` names them: what an enforcement point of this version can enforce.
KNOWN_OBLIGATIONS = frozenset({"window_days", "redact", "approval", "warrant", "quota_per_day", "breadth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedRule:
    """One rule that applied: its effect (`allow`, `deny`, `limit`), the law or order behind it, and whose it is.

    `advice`: it binds nothing, and whoever reads a match is shown it.
    """

    rule: str
    effect: str
    basis: str
    layer: Layer
    advice: bool = False

    def to_message(self) -> decision_pb2.MatchedRule:
        """The wire form."""
        return decision_pb2.MatchedRule(rule=self.rule, effect=self.effect, basis=self.basis, layer=self.layer.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether one node may be asked. `approved` says that a valid supervisor's signature was there.

    `reason_code` is stable and upper case: PERMITTED, DENIED_BY_RULE, NO_RULE_ALLOWS, NOT_REGISTERED,
    WARRANT_REQUIRED, NO_POLICY, POLICY_EXPIRED, INDETERMINATE, QUOTA_SPENT, BREADTH_SPENT, POLICY_CHANGED,
    OBLIGATION_UNKNOWN.
    `policy_digest` and `federation_digest` are SHA-256 in hex, empty where there was none. `quotas`: each rule that
    limits searches a day, with its limit; not on the wire.
    """

    decision_id: str
    node: str
    effect: Effect
    pep: Pep
    policy_digest: str
    federation_digest: str
    rules: tuple[MatchedRule, ...] = ()
    obligations: Obligations = field(default=NO_OBLIGATIONS)
    approved: bool = False
    reason_code: str
    reason: str
    quotas: tuple[tuple[str, int], ...] = ()

    @property
    def permitted(self) -> bool:
        """True if the node may be asked now: permitted, and approved where approval is a duty."""
        return self.effect is Effect.PERMIT and (self.approved or not self.obligations.approval)

    @property
    def pending(self) -> bool:
        """True if only a supervisor's signature is missing."""
        return self.effect is Effect.PERMIT and not self.permitted

    def to_message(self) -> decision_pb2.Decision:
        """The wire form."""
        return decision_pb2.Decision(
            decision_id=self.decision_id,
            node=self.node,
            effect=_EFFECT[self.effect],
            pep=_PEP[self.pep],
            policy_digest=self.policy_digest,
            federation_digest=self.federation_digest,
            rules=[r.to_message() for r in self.rules],
            obligations=self.obligations.to_message(),
            reason_code=self.reason_code,
            reason=self.reason,
        )


_EFFECT = {Effect.PERMIT: decision_pb2.EFFECT_PERMIT, Effect.DENY: decision_pb2.EFFECT_DENY}
_PEP = {Pep.BROKER: decision_pb2.PEP_BROKER, Pep.NODE: decision_pb2.PEP_NODE}


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
