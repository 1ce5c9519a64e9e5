"""Steps 3 and 11: what was decided is durable before anything leaves, what came of it before it is released."""

from __future__ import annotations

from collections.abc import Sequence

from audit.entry import Draft, decision_entry, inquiry_entry, outcome_entry, receipt_entry, rejected_entry
from audit.log import AlreadyRecorded, DecisionLog
from broker.model import Answer, Call, Receipt, Requester, Ruling
from comity.errors import ComityError, NotAuthentic


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
        NotAuthentic: REPLAYED.
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
            disclosures=v.disclosures,
        )
    ]
    drafts += [
        decision_entry(r.decision, inquiry_id=requester.inquiry_id, inquiry_hash=v.inquiry_hash) for r in rulings
    ]
    try:
        done = await log.append(drafts, deadline_s=deadline_s)
    except AlreadyRecorded:  # the shared state forgot it, this log did not
        raise NotAuthentic("this inquiry was sent before: sign a new one", reason="REPLAYED") from None
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
    drafts: list[Draft] = []
    for answer in answers:
        drafts += answer.drafts or outcome_drafts(requester.inquiry_id, requester.verified.inquiry_hash, answer)
    await log.append(drafts, deadline_s=deadline_s)


def outcome_drafts(inquiry_id: str, inquiry_hash: bytes, answer: Answer) -> list[Draft]:
    """The entries for one answer: its outcome, and the node's receipt where it sent one.

    Raises:
        InvalidInput: the answer contradicts itself, or is not of the form of these entries.
    """
    drafts = [
        outcome_entry(
            inquiry_id=inquiry_id,
            inquiry_hash=inquiry_hash,
            node=answer.node,
            outcome=answer.kind,
            count=answer.count,
            coverage=answer.coverage,
            payload_hash=answer.payload_hash,
            reason_code=answer.reason_code,
        )
    ]
    receipt = answer.receipt
    if receipt is not None:
        drafts.append(
            receipt_entry(
                inquiry_id=inquiry_id,
                node=answer.node,
                origin=receipt.origin,
                index=receipt.index,
                leaf_hash=receipt.leaf_hash,
                checkpoint=receipt.checkpoint,
            )
        )
    return drafts


async def record_rejection(log: DecisionLog, call: Call, error: ComityError) -> None:
    """Return when it is durable that this caller sent something that is no inquiry of theirs."""
    draft = rejected_entry(
        payload_hash=call.envelope.payload_hash,
        received_from=str(call.peer.spiffe),
        reason_code=error.reason,
    )
    await log.append([draft])
