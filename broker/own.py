"""Outcomes that the broker itself makes and signs: of targets it did not ask, or that did not answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from broker.model import Answer, Awaiting, Lost, Permit, Receipt, Requester, Ruling
from broker.ports import OutcomeSigner
from comity.envelope import OUTCOME_TYPE
from comity.outcome import Outcome, OutcomeKind


class OwnOutcomes:
    """Makes the broker's outcomes for one inquiry."""

    def __init__(self, requester: Requester, signer: OutcomeSigner, now: dt.datetime) -> None:
        self._requester = requester
        self._signer = signer
        self._now = now

    @property
    def inquiry_hash(self) -> bytes:
        """SHA-256 of the inquiry's payload."""
        return self._requester.verified.inquiry_hash

    def not_asked(
        self, receipt: Receipt[Ruling], attached: bool, last_attached_at: Mapping[str, dt.datetime | None]
    ) -> Answer:
        """Of a target that may not be asked, not yet, or that is not attached.

        A node that never showed its policy and is not attached is unreachable: nobody has refused.
        """
        decision = receipt.ruling.decision
        if isinstance(receipt.ruling, Awaiting):
            return self._answer(
                receipt.node,
                OutcomeKind.PENDING,
                decision.policy_digest,
                decision=decision.to_message(),
                role="supervisor",
                agency=self._requester.verified.requester.agency,
                reason_code="APPROVAL_AWAITED",
            )
        unknown = decision.reason_code == "NO_POLICY" and not attached
        if isinstance(receipt.ruling, Permit) or unknown:
            return self._answer(
                receipt.node,
                OutcomeKind.UNREACHABLE,
                decision.policy_digest,
                last_attached_at=last_attached_at.get(receipt.node),
                reason_code="NOT_ATTACHED",
            )
        return self._answer(
            receipt.node,
            OutcomeKind.REFUSED,
            decision.policy_digest,
            decision=decision.to_message(),
            reason_code=decision.reason_code,
        )

    def timed_out(self, receipt: Receipt[Permit], reason_code: str = "DEADLINE") -> Answer:
        """Of a node that was asked and has not answered by the deadline, or before the caller left."""
        return self._answer(
            receipt.node,
            OutcomeKind.TIMED_OUT,
            receipt.ruling.decision.policy_digest,
            reason="no answer by the deadline; the node may have searched",
            reason_code=reason_code,
        )

    def lost(self, receipt: Receipt[Permit], lost: Lost) -> Answer:
        """Of a node whose link broke, or that answered nonsense, after it was asked."""
        return self._answer(
            receipt.node,
            OutcomeKind.ERROR,
            receipt.ruling.decision.policy_digest,
            reason_code=lost.reason_code,
            reason=lost.reason,
        )

    def _answer(self, node: str, kind: OutcomeKind, policy_digest: str, **fields: object) -> Answer:
        verified = self._requester.verified
        outcome = Outcome(
            inquiry_id=self._requester.inquiry_id,
            inquiry_hash=verified.inquiry_hash,
            node=node,
            decided_at=self._now,
            kind=kind,
            policy_digest=policy_digest,
            **fields,  # type: ignore[arg-type]  # the callers above name Outcome's own fields
        )
        envelope = self._signer.sign(OUTCOME_TYPE, outcome.encode())
        return Answer(
            node=node,
            kind=kind,
            count=0,
            coverage=None,
            policy_digest=policy_digest,
            payload_hash=envelope.payload_hash,
            envelope=envelope.encode(),
            reason_code=outcome.reason_code,
        )
