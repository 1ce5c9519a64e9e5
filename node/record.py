"""Steps 7 and 9: inquiry and decision are durable before a detection is read, the outcome before it is sent."""

from __future__ import annotations

from audit.entry import decision_entry, inquiry_entry, outcome_entry, receipt_entry, rejected_entry
from audit.log import DecisionLog
from comity.decision import Decision
from node.model import OwnReceipt, Signed, Trusted


async def record(
    log: DecisionLog, trusted: Trusted, decision: Decision, *, broker: str, directory_version: int
) -> OwnReceipt:
    """This node's receipt: the inquiry, the decision and the broker's receipt are durable, in one commit.

    Raises:
        AlreadyRecorded: this inquiry id is in the log; nothing was written.
        Unavailable, Exhausted, LogBroken: not durable; nothing may be read.
    """
    v, r = trusted.verified, trusted.receipt
    inquiry_id = v.inquiry.inquiry_id
    drafts = [
        inquiry_entry(
            inquiry=v.inquiry,
            envelope=v.envelope,
            role=v.requester.role,
            approvers=tuple(str(a.spiffe) for a in v.approvers),
            directory_version=directory_version,
            preview=False,
            received_from=broker,
            disclosures=v.disclosures,
        ),
        decision_entry(decision, inquiry_id=inquiry_id, inquiry_hash=v.inquiry_hash),
        receipt_entry(
            inquiry_id=inquiry_id,
            node=decision.node,
            origin=r.origin,
            index=r.index,
            leaf_hash=r.leaf_hash,
            checkpoint=r.checkpoint,
        ),
    ]
    done = await log.append(drafts)
    return OwnReceipt(
        trusted=trusted,
        decision=decision,
        origin=log.origin,
        index=done.first_index + 1,
        leaf_hash=done.leaf_hashes[1],
        checkpoint=done.head.checkpoint,
    )


async def record_outcome(log: DecisionLog, node: str, signed: Signed) -> None:
    """Return when the outcome is durable: count and coverage, never plates.

    Raises:
        Unavailable, Exhausted, LogBroken: not durable; it may not be sent.
    """
    draft = outcome_entry(
        inquiry_id=signed.inquiry_id,
        inquiry_hash=signed.inquiry_hash,
        node=node,
        outcome=signed.kind,
        count=signed.count,
        coverage=signed.coverage,
        payload_hash=signed.payload_hash,
        reason_code=signed.reason_code,
    )
    await log.append([draft])


async def record_rejection(log: DecisionLog, payload_hash: bytes, broker: str, reason_code: str) -> None:
    """Return when it is durable that `broker` sent something that is no inquiry for this node.

    Raises:
        Unavailable, Exhausted, LogBroken: not durable.
    """
    draft = rejected_entry(payload_hash=payload_hash, received_from=broker, reason_code=reason_code)
    await log.append([draft])
