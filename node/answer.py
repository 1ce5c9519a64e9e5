"""Step 9: one signed outcome, a refusal and a negative as much as a match."""

from __future__ import annotations

import datetime as dt
from typing import Protocol

from comity.decision import NO_OBLIGATIONS, Decision, Effect, Pep
from comity.envelope import OUTCOME_TYPE, Envelope
from comity.outcome import Outcome, OutcomeKind
from comity.v1 import decision_pb2
from node.model import Found, OwnReceipt, Signed


class OutcomeSigner(Protocol):
    """Signs with the node's key."""

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """An envelope with the node's signature."""
        ...


class Answers:
    """Makes this node's outcomes of one inquiry."""

    def __init__(
        self, node: str, signer: OutcomeSigner, inquiry_id: str, inquiry_hash: bytes, now: dt.datetime
    ) -> None:
        self._node = node
        self._signer = signer
        self._inquiry_id = inquiry_id
        self._inquiry_hash = inquiry_hash
        self._now = now

    def found(self, receipt: OwnReceipt, found: Found) -> Signed:
        """`match` or `no_match` if the whole window was searched, else `partial_coverage`."""
        if found.reason_code:
            kind = OutcomeKind.PARTIAL_COVERAGE
        else:
            kind = OutcomeKind.MATCH if found.detections else OutcomeKind.NO_MATCH
        outcome = self._outcome(
            kind,
            policy_digest=receipt.decision.policy_digest,
            coverage=found.coverage,
            detections=found.detections,
            reason_code=found.reason_code,
            reason=found.reason,
            obligations=_bound_by(receipt),
            advice=tuple(r.to_message() for r in receipt.decision.rules if r.advice and found.detections),
        )
        return self._sign(outcome, receipt)

    def withheld(self, receipt: OwnReceipt, reason_code: str, reason: str) -> Signed:
        """`withheld`: permitted, but what was asked may not be told."""
        digest = receipt.decision.policy_digest
        outcome = self._outcome(
            OutcomeKind.WITHHELD,
            policy_digest=digest,
            reason_code=reason_code,
            reason=reason,
            obligations=_bound_by(receipt),
        )
        return self._sign(outcome, receipt)

    def not_permitted(self, receipt: OwnReceipt) -> Signed:
        """`pending` if only a supervisor's signature is missing, else `refused`."""
        decision = receipt.decision
        pending = decision.pending
        outcome = self._outcome(
            OutcomeKind.PENDING if pending else OutcomeKind.REFUSED,
            policy_digest=decision.policy_digest,
            decision=decision.to_message(),
            role="supervisor" if pending else "",
            agency=receipt.trusted.verified.requester.agency if pending else "",
        )
        return self._sign(outcome, receipt, "APPROVAL_AWAITED" if pending else decision.reason_code)

    def not_trusted(self, decision_id: str, reason_code: str, reason: str) -> Signed:
        """`refused`, because what the broker sent is not proven to be a person's inquiry for this node."""
        decision = Decision(
            decision_id=decision_id,
            node=self._node,
            effect=Effect.DENY,
            pep=Pep.NODE,
            policy_digest="",
            federation_digest="",
            reason_code=reason_code,
            reason=reason,
        )
        outcome = self._outcome(OutcomeKind.REFUSED, decision=decision.to_message())
        return self._sign(outcome, None, reason_code)

    def failed(self, reason_code: str, reason: str, receipt: OwnReceipt | None = None) -> Signed:
        """`error`: nothing is said of what the node holds."""
        digest = receipt.decision.policy_digest if receipt else ""
        outcome = self._outcome(OutcomeKind.ERROR, policy_digest=digest, reason_code=reason_code, reason=reason)
        return self._sign(outcome, receipt)

    def _outcome(self, kind: OutcomeKind, **fields: object) -> Outcome:
        return Outcome(
            inquiry_id=self._inquiry_id,
            inquiry_hash=self._inquiry_hash,
            node=self._node,
            decided_at=self._now,
            kind=kind,
            **fields,  # type: ignore[arg-type]  # the callers above name Outcome's own fields
        )

    def _sign(self, outcome: Outcome, receipt: OwnReceipt | None, reason_code: str = "") -> Signed:
        envelope = self._signer.sign(OUTCOME_TYPE, outcome.encode())
        return Signed(
            inquiry_id=self._inquiry_id,
            inquiry_hash=self._inquiry_hash,
            kind=outcome.kind,
            count=len(outcome.detections),
            coverage=outcome.coverage,
            policy_digest=outcome.policy_digest,
            reason_code=reason_code or outcome.reason_code,
            payload_hash=envelope.payload_hash,
            envelope=envelope.encode(),
            receipt=receipt,
        )


def _bound_by(receipt: OwnReceipt) -> decision_pb2.Obligations | None:
    obligations = receipt.decision.obligations
    return None if obligations == NO_OBLIGATIONS else obligations.to_message()
