"""What the log is asked to record: one builder for each entry type, and the bytes that a draft becomes."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from audit import form
from audit.note import Checkpoint
from audit.sealed_store import SealedPart
from comity import jcs
from comity.decision import Decision
from comity.envelope import Envelope
from comity.errors import InvalidInput, LogFault, Violation
from comity.inquiry import Disclosure, Inquiry
from comity.instants import to_text
from comity.outcome import Coverage, OutcomeKind

MAX_ENTRY_BYTES = 60_000  # the tiles' format ends at 65,535


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before the log adds when it was written and after which head. Its form is checked when it is made.

    `clear` are the values behind its commitments: sealed beside the entry where auditors are named, else kept nowhere.

    Raises:
        InvalidInput: an unknown type, or a field missing, unknown or malformed (BAD_ENTRY). The value is not shown.
    """

    type: str
    body: dict[str, Any]
    clear: tuple[Disclosure, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        body = form.BODIES.get(self.type)
        bad = "type" if body is None else body.fault(self.body)
        if bad is not None:
            what = Violation(f"{self.type}.{bad}", "is not of the form of this entry")
            raise InvalidInput("not a valid log entry", violations=[what], reason="BAD_ENTRY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the log itself says in an entry: when, which head of its own was durable then, which heads were cosigned."""

    at: str
    clock_behind_ms: int
    size: int
    root: str
    peers: tuple[dict[str, Any], ...] = ()
    fields: dict[str, Any] = field(init=False, repr=False, compare=False)
    """What of it every entry has, made once for all of a commit."""

    def __post_init__(self) -> None:
        head = {"size": self.size, "root": self.root}
        fields: dict[str, Any] = {"v": form.VERSION, "at": self.at, "head": head, "peers": self.peers}
        if self.clock_behind_ms:
            fields["clock_behind_ms"] = self.clock_behind_ms
        object.__setattr__(self, "fields", fields)


def seal(draft: Draft, stamp: Stamp, sealed: SealedPart | None = None) -> bytes:
    """The entry, canonical: the bytes that are stored, hashed and never written anew. It names its sealed part.

    Raises:
        InvalidInput: more than MAX_ENTRY_BYTES (ENTRY_TOO_LARGE), or text that is not Unicode (BAD_ENTRY).
    """
    value = {**draft.body, **stamp.fields, "type": draft.type}
    if sealed is not None:
        value["sealed"] = {"key_id": sealed.key_id, "hash": sealed.hash.hex()}
    try:
        entry = jcs.write(value)  # forms allow nothing outside the profile
    except TypeError:
        raise InvalidInput("an entry holds what canonical JSON cannot", reason="BAD_ENTRY") from None
    if len(entry) > MAX_ENTRY_BYTES:
        message = f"an entry of {len(entry)} bytes; at most {MAX_ENTRY_BYTES} are kept"
        raise InvalidInput(message, reason="ENTRY_TOO_LARGE")
    return entry


def clear_fields(inquiry: Inquiry) -> dict[str, Any]:
    """What an inquiry entry shows of the signed payload, all but the requester's role, which its certificate says."""
    agency, _, person = inquiry.requester.removeprefix("spiffe://").partition("/person/")
    commitments = {"query": _text64(inquiry.query_commitment), "case_number": _text64(inquiry.case_number_commitment)}
    if inquiry.authority_reference_commitment:
        commitments["authority_reference"] = _text64(inquiry.authority_reference_commitment)
    return {
        "inquiry_id": inquiry.inquiry_id,
        "federation": inquiry.federation,
        "requester": {"agency": agency, "person": person},
        "beneficiary": inquiry.beneficiary,
        "purpose": {
            "code": inquiry.purpose.code,
            "legal_basis": inquiry.purpose.legal_basis.value,
            "offence": inquiry.purpose.offence,
        },
        "authority": inquiry.authority.value,
        "act": inquiry.act.value,
        "window": {"begin": to_text(inquiry.begin), "end": to_text(inquiry.end)},
        "targets": len(inquiry.targets),
        "issued_at": to_text(inquiry.issued_at),
        "expires_at": to_text(inquiry.expires_at),
        "commitments": commitments,
    }


def inquiry_entry(
    *,
    inquiry: Inquiry,
    envelope: Envelope,
    role: str,
    approvers: Sequence[str],
    directory_version: int,
    preview: bool,
    received_from: str,
    disclosures: Sequence[Disclosure] = (),
) -> Draft:
    """The signed question as evidence; recorded once. `inquiry` is what `envelope`'s payload says.

    `role` is the one the author's certificate gives; `approvers` and `received_from` are SPIFFE IDs. `disclosures`
    are the values behind its commitments, checked against them before.

    Raises:
        InvalidInput: BAD_ENTRY; also if the payload is another inquiry, which would be a false entry for good.
    """
    if Inquiry.parse(envelope.payload) != inquiry:
        raise InvalidInput("the envelope holds another inquiry", reason="BAD_ENTRY")
    body = clear_fields(inquiry)
    body["requester"]["role"] = role
    body |= {
        "inquiry_hash": envelope.payload_hash.hex(),
        "envelope": envelope_json(envelope),
        "approvers": list(approvers),
        "directory_version": directory_version,
        "preview": preview,
        "received_from": received_from,
    }
    return Draft("inquiry", body, tuple(disclosures))


def decision_entry(decision: Decision, *, inquiry_id: str, inquiry_hash: bytes) -> Draft:
    """What policy said of one target; permits and refusals alike.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return Draft(
        "decision",
        {
            "inquiry_id": inquiry_id,
            "inquiry_hash": inquiry_hash.hex(),
            "node": decision.node,
            "decision_id": decision.decision_id,
            "effect": decision.effect.value,
            "pep": decision.pep.value,
            "rules": [f"{r.layer.value}:{r.rule}" for r in decision.rules],
            "obligations": decision.obligations.as_json(),
            "policy_digest": decision.policy_digest,
            "federation_digest": decision.federation_digest,
            "reason_code": decision.reason_code,
            "approved": decision.approved,
        },
    )


def outcome_entry(
    *,
    inquiry_id: str,
    inquiry_hash: bytes,
    node: str,
    outcome: OutcomeKind,
    count: int = 0,
    coverage: Coverage | None = None,
    payload_hash: bytes = b"",
    reason_code: str = "",
) -> Draft:
    """What came of one target: `count` detections released, never a plate. `payload_hash`: of the signed outcome.

    Raises:
        InvalidInput: BAD_ENTRY; also a count where nothing can have been released, or a match of none.
    """
    counted = outcome in (OutcomeKind.MATCH, OutcomeKind.PARTIAL_COVERAGE)
    if (count and not counted) or (outcome is OutcomeKind.MATCH and not count):
        raise InvalidInput(f"{outcome.value} does not go with a count of {count}", reason="BAD_ENTRY")
    return Draft(
        "outcome",
        {
            "inquiry_id": inquiry_id,
            "inquiry_hash": inquiry_hash.hex(),
            "node": node,
            "outcome": outcome.value,
            "count": count,
            "coverage": coverage.as_json() if coverage else None,
            "payload_hash": payload_hash.hex(),
            "reason_code": reason_code,
        },
    )


def receipt_entry(*, inquiry_id: str, node: str, origin: str, index: int, leaf_hash: bytes, checkpoint: bytes) -> Draft:
    """The other side's proof that it recorded: entry `index` of the log `origin`, under the head in `checkpoint`.

    Raises:
        InvalidInput: BAD_ENTRY; also if the checkpoint is malformed, another log's, or too small for the index.
    """
    if not receipt_fits(origin, index, checkpoint):
        raise InvalidInput("the receipt's checkpoint does not cover its entry", reason="BAD_ENTRY")
    return Draft(
        "receipt",
        {
            "inquiry_id": inquiry_id,
            "node": node,
            "origin": origin,
            "index": index,
            "leaf_hash": leaf_hash.hex(),
            "checkpoint": checkpoint.decode(),
        },
    )


def receipt_fits(origin: str, index: int, checkpoint: bytes) -> bool:
    """True if `checkpoint` is well-formed, of the log `origin` and covers entry `index`. No signature is verified."""
    try:
        head = Checkpoint.parse(checkpoint)
    except LogFault:
        return False
    return head.origin == origin and 0 <= index < head.size


def policy_entry(
    *,
    node: str,
    digest: str,
    version: int,
    bundle_hash: bytes,
    taken_up: bool,
    reason: str = "",
    published_by: str = "",
    revoked_below: int = 0,
) -> Draft:
    """A policy bundle that came: taken up from now on, or refused and why. `digest` is hex, empty if it has none;
    `bundle_hash` is empty if nothing came that could be hashed.

    `published_by`: the SPIFFE ID of who brought it, where that was not the node; `revoked_below`: lower versions are
    revoked with it, 0 if none is.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    body: dict[str, Any] = {
        "node": node,
        "digest": digest,
        "version": version,
        "bundle_hash": bundle_hash.hex(),
        "taken_up": taken_up,
        "reason": reason,
    }
    if published_by:
        body["published_by"] = published_by
    if revoked_below:
        body["revoked_below"] = revoked_below
    return Draft("policy", body)


def rejected_entry(*, payload_hash: bytes, received_from: str, reason_code: str) -> Draft:
    """What was sent as an inquiry and refused before it was one: its payload's hash, who sent it (a SPIFFE ID), why.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return Draft(
        "rejected",
        {"payload_hash": payload_hash.hex(), "received_from": received_from, "reason_code": reason_code},
    )


def purge_entry(*, node: str, rows: int, begin: dt.datetime, end: dt.datetime, rule: str, digest: bytes) -> Draft:
    """Detections captured in [begin, end) that are gone for good, under which rule; an hour's purges in one.

    `digest` is over what was purged, empty if it was not taken.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    span = {"begin": to_text(begin), "end": to_text(end)}
    return Draft("purge", {"node": node, "rows": rows, "span": span, "rule": rule, "digest": digest.hex()})


def erasure_entry(
    *, epoch: str, key_id: str, indexes: Sequence[int], requested_by: str, rule: str, envelope: Envelope
) -> Draft:
    """Keys deleted, so that sealed values cannot be read any more: of those entries, or of the month if none is named.

    `epoch` is the key's month, YYYY-MM; `envelope` is what `requested_by` signed. The entries themselves and their
    proofs stay.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return Draft(
        "erasure",
        {
            "scope": "entry" if indexes else "epoch",
            "epoch": epoch,
            "key_id": key_id,
            "indexes": list(indexes),
            "requested_by": requested_by,
            "rule": rule,
            "envelope": envelope_json(envelope),
        },
    )


def review_entry(
    *,
    reviewer: str,
    begin: dt.datetime,
    end: dt.datetime,
    sampled: Sequence[int],
    flagged: Sequence[int],
    envelope: Envelope,
) -> Draft:
    """An auditor's signed sign-off on entries of [begin, end): which were looked at, and which of them need action.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return Draft(
        "review",
        {
            "reviewer": reviewer,
            "period": {"begin": to_text(begin), "end": to_text(end)},
            "sampled": list(sampled),
            "flagged": list(flagged),
            "envelope": envelope_json(envelope),
        },
    )


def start_entry(*, program: str, id: str, software_version: str, directory_version: int, reason: str = "") -> Draft:
    """A program (`broker` or `node`) began to serve.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return _run("start", program, id, software_version, directory_version, reason)


def stop_entry(*, program: str, id: str, software_version: str, directory_version: int, reason: str = "") -> Draft:
    """A program ended in order; a start without one before it tells of a crash.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    return _run("stop", program, id, software_version, directory_version, reason)


def _run(kind: str, program: str, id: str, software_version: str, directory_version: int, reason: str) -> Draft:
    body = {
        "program": program,
        "id": id,
        "software_version": software_version,
        "directory_version": directory_version,
        "reason": reason,
    }
    return Draft(kind, body)


def envelope_json(envelope: Envelope) -> dict[str, Any]:
    """The envelope as entries keep it: base64, byte for byte what travelled."""
    return {
        "payload_type": envelope.payload_type,
        "payload": _text64(envelope.payload),
        "signatures": [
            {"signature": _text64(s.signature), "chain": [_text64(c) for c in s.chain]} for s in envelope.signatures
        ],
    }


def _text64(data: bytes) -> str:
    return base64.b64encode(data).decode()
