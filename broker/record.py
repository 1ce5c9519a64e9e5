"""Steps 3 and 11: what was decided is durable before anything leaves, what came of it before it is released."""

from __future__ import annotations

from collections.abc import Sequence

from audit.entry import decision_entry, inquiry_entry, outcome_entry, receipt_entry, rejected_entry
from audit.log import DecisionLog
from broker.model import Answer, Call, Receipt, Requester, Ruling
from comity.errors import ComityError


async def record(
    log: DecisionLog,
    requester: Requester,
    rulings: Sequence[Ruling],
    *,
    directory_version: int,
    preview: bool,
    deadline_s: float,
) -> tuple[Receipt[Ruling], ...]:
    """A receipt for each ruling, in order: the inquiry and all decisions are durable, in one commit.

    Raises:
        Unavailable, Exhausted, LogBroken: not durable in time; nothing may leave.
    """
    v = requester.verified
    drafts = [
        inquiry_entry(
            inquiry=v.inquiry,
            envelope=v.envelope,
            role=v.requester.role,
            approvers=tuple(str(a.spiffe) for a in v.approvers),
            directory_version=directory_version,
            preview=preview,
            received_from=str(v.requester.spiffe),
        )
    ]
    drafts += [
        decision_entry(r.decision, inquiry_id=requester.inquiry_id, inquiry_hash=v.inquiry_hash) for r in rulings
    ]
    done = await log.append(drafts, deadline_s=deadline_s)
    return tuple(
        Receipt(
            ruling=ruling,
            origin=log.origin,
            index=done.first_index + i,
            entry=done.entries[i],
            leaf_hash=done.leaf_hashes[i],
            checkpoint=done.head.checkpoint,
        )
        for i, ruling in enumerate(rulings, 1)
    )


async def record_outcomes(
    log: DecisionLog, requester: Requester, answers: Sequence[Answer], *, deadline_s: float | None
) -> None:
    """Return when each answer's outcome, and the node's receipt where it sent one, is durable. Counts, never plates.

    Raises:
        Unavailable, Exhausted, LogBroken: not durable; the answers may not be released.
    """
    inquiry_id, inquiry_hash = requester.inquiry_id, requester.verified.inquiry_hash
    drafts = []
    for a in answers:
        drafts.append(
            outcome_entry(
                inquiry_id=inquiry_id,
                inquiry_hash=inquiry_hash,
                node=a.node,
                outcome=a.kind,
                count=a.count,
                coverage=a.coverage,
                payload_hash=a.payload_hash,
                reason_code=a.reason_code,
            )
        )
        if a.receipt is not None:
            drafts.append(
                receipt_entry(
                    inquiry_id=inquiry_id,
                    node=a.node,
                    origin=a.receipt.origin,
                    index=a.receipt.index,
                    leaf_hash=a.receipt.leaf_hash,
                    checkpoint=a.receipt.checkpoint,
                )
            )
    await log.append(drafts, deadline_s=deadline_s)


async def record_rejection(log: DecisionLog, call: Call, error: ComityError) -> None:
    """Return when it is durable that this caller sent something that is no inquiry of theirs."""
    draft = rejected_entry(
        payload_hash=call.envelope.payload_hash,
        received_from=str(call.peer.spiffe),
        reason_code=error.reason,
    )
    await log.append([draft])
