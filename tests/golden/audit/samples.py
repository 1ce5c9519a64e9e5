"""The golden bytes of the log's formats, from fixed input. `python -m tests.golden.audit.samples` writes them anew:
a change of any is a change of the log's format, which the changelog must name."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry
from audit.entry import Draft, Stamp, seal
from audit.erasure_record import ERASURE_TYPE, statement
from audit.note import Checkpoint, VerifierKey
from audit.tree import Tree, leaf_hash
from comity import commitment
from comity.decision import Decision, Effect, Layer, MatchedRule, Obligations, Pep, Redaction
from comity.envelope import INQUIRY_TYPE, Envelope, Signature
from comity.inquiry import Inquiry
from comity.outcome import Coverage, OutcomeKind
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from tests.golden.audit import sealed

HERE = Path(__file__).parent
AT = dt.datetime(2030, 5, 1, 12, 0, 0, 123_000, tzinfo=dt.UTC)
INQUIRY_ID = "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a10"
ORIGIN = "broker.example/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SALT = bytes(range(32))
DAY = dt.timedelta(days=1)

INQUIRY = Inquiry(
    inquiry_id=INQUIRY_ID,
    federation="test-exchange",
    requester="spiffe://us-ca-alder-pd/person/t-reyes",
    beneficiary="us-ca-alder-pd",
    purpose=PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL, offence="felony"),
    authority=Authority.COURT_ORDER,
    act=Act.EXACT,
    begin=AT - 30 * DAY,
    end=AT,
    targets=("alder-1", "brazos-1"),
    issued_at=AT,
    expires_at=AT + dt.timedelta(minutes=5),
    nonce=b"n" * 16,
    query_commitment=commitment.commit(commitment.QUERY, SALT, b"a query"),
    case_number_commitment=commitment.commit(commitment.CASE_NUMBER, SALT, b"a case"),
    authority_reference_commitment=commitment.commit(commitment.AUTHORITY_REFERENCE, SALT, b"an order"),
)
ENVELOPE = Envelope(
    payload_type=INQUIRY_TYPE,
    payload=INQUIRY.encode(),
    signatures=(
        Signature(signature=b"first", chain=(b"leaf", b"authority")),
        Signature(signature=b"second", chain=(b"another leaf",)),
    ),
)
DECISION = Decision(
    decision_id="0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a11",
    node="alder-1",
    effect=Effect.PERMIT,
    pep=Pep.BROKER,
    policy_digest="ab" * 32,
    federation_digest="cd" * 32,
    rules=(
        MatchedRule(rule="FED-7", effect="allow", basis="a statute", layer=Layer.FEDERATION),
        MatchedRule(rule="SC-4", effect="limit", basis="an ordinance", layer=Layer.NODE),
    ),
    obligations=Obligations(window_days=60, redaction=Redaction.NO_IMAGE, approval=True),
    approved=True,
    reason_code="PERMITTED",
    reason="a sentence that the log does not keep",
)
HASH = ENVELOPE.payload_hash
CHECKPOINT = Checkpoint(origin="node.example/log", size=12, root=leaf_hash(b"root")).sign(KEY)

DRAFTS: dict[str, Draft] = {
    "inquiry": entry.inquiry_entry(
        inquiry=INQUIRY,
        envelope=ENVELOPE,
        role="investigator",
        approvers=["spiffe://us-ca-alder-pd/person/s-okafor"],
        directory_version=7,
        preview=False,
        received_from="spiffe://us-ca-alder-pd/person/t-reyes",
    ),
    "decision": entry.decision_entry(DECISION, inquiry_id=INQUIRY_ID, inquiry_hash=HASH),
    "outcome": entry.outcome_entry(
        inquiry_id=INQUIRY_ID,
        inquiry_hash=HASH,
        node="alder-1",
        outcome=OutcomeKind.MATCH,
        count=3,
        coverage=Coverage(begin=AT - 30 * DAY, end=AT),
        payload_hash=leaf_hash(b"outcome"),
    ),
    "outcome-unreachable": entry.outcome_entry(
        inquiry_id=INQUIRY_ID, inquiry_hash=HASH, node="brazos-1", outcome=OutcomeKind.UNREACHABLE
    ),
    "receipt": entry.receipt_entry(
        inquiry_id=INQUIRY_ID,
        node="alder-1",
        origin="node.example/log",
        index=11,
        leaf_hash=leaf_hash(b"theirs"),
        checkpoint=CHECKPOINT,
    ),
    "policy": entry.policy_entry(
        node="alder-1", digest="ab" * 32, version=3, bundle_hash=leaf_hash(b"bundle"), taken_up=True
    ),
    "rejected": entry.rejected_entry(
        payload_hash=leaf_hash(b"rubbish"),
        received_from="spiffe://us-ca-alder-pd/person/t-reyes",
        reason_code="BAD_SIGNATURE",
    ),
    "purge": entry.purge_entry(
        node="alder-1", rows=1200, begin=AT - 31 * DAY, end=AT - 30 * DAY, rule="NH-1", digest=leaf_hash(b"rows")
    ),
    "erasure": entry.erasure_entry(
        epoch="2029-05",
        key_id="2029-05/1",
        indexes=[],
        requested_by="spiffe://us-ca-alder-pd/person/a-lind",
        rule="retention",
        envelope=Envelope(
            payload_type=ERASURE_TYPE,
            payload=statement(
                ORIGIN,
                {
                    "scope": "epoch",
                    "epoch": "2029-05",
                    "key_id": "2029-05/1",
                    "indexes": [],
                    "requested_by": "spiffe://us-ca-alder-pd/person/a-lind",
                    "rule": "retention",
                },
            ),
            signatures=ENVELOPE.signatures[:1],
        ),
    ),
    "review": entry.review_entry(
        reviewer="spiffe://us-ca-alder-pd/person/a-lind",
        begin=AT - 7 * DAY,
        end=AT,
        sampled=[4, 9],
        flagged=[9],
        envelope=Envelope(payload_type="application/x-test", payload=b"signed", signatures=ENVELOPE.signatures[:1]),
    ),
    "start": entry.start_entry(program="broker", id="b1", software_version="0.1.0", directory_version=7),
    "stop": entry.stop_entry(
        program="node", id="alder-1", software_version="0.1.0", directory_version=7, reason="asked to stop"
    ),
}
STAMP = Stamp(at="2030-05-01T12:00:00.123Z", clock_behind_ms=0, size=2, root="ef" * 32)
LATE = Stamp(at="2030-05-01T12:00:00.123Z", clock_behind_ms=1500, size=2, root="ef" * 32)


def entries() -> dict[str, bytes]:
    """Every golden entry by name."""
    return {n: seal(d, STAMP) for n, d in DRAFTS.items()} | {"start-clock-behind": seal(DRAFTS["start"], LATE)}


def files() -> dict[str, bytes]:
    """Every golden file by name, exactly its bytes."""
    out = {f"{name}.json": data for name, data in entries().items()}
    tree = Tree(map(leaf_hash, entries().values()))
    out["checkpoint"] = Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root()).sign(KEY)
    out["checkpoint-empty"] = Checkpoint(origin=ORIGIN, size=0, root=Tree().root()).sign(KEY)
    out |= sealed.files(INQUIRY, ENVELOPE, STAMP, ORIGIN, SALT)
    out["log.vkey"] = f"{VerifierKey.of(ORIGIN, KEY.public_key())}\n".encode()
    vectors = [
        {
            "label": label,
            "salt": SALT.hex(),
            "value": value.hex(),
            "commitment": commitment.commit(label, SALT, value).hex(),
        }
        for label, value in zip(commitment.LABELS, (b"7ABC123", "PA-26-0101 ü".encode(), b""), strict=True)
    ]
    out["commitments.json"] = (json.dumps(vectors, indent=1) + "\n").encode()
    return out


if __name__ == "__main__":
    for name, data in files().items():
        (HERE / name).write_bytes(data)
