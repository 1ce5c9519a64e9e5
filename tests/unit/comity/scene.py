"""An inquiry and an outcome of each kind that tests change one thing of."""

from __future__ import annotations

import datetime as dt
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from comity import commitment, instants
from comity.decision import Decision, Effect, Layer, MatchedRule, Obligations, Pep
from comity.inquiry import Disclosure, Inquiry, plate_query
from comity.outcome import Coverage, Outcome, OutcomeKind
from comity.plate import Plate
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from comity.v1 import inquiry_pb2, outcome_pb2
from tests.unit.identity.world import ALDER, FEDERATION, NOW

__all__ = ["NOW"]

__all__ = ["NOW"]

DAY = dt.timedelta(days=1)
INQUIRY_ID = "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a10"
REQUESTER = f"spiffe://{ALDER}/person/t-reyes"
PLATE = Plate.parse("7ABC123", "CA")
SALT = bytes(range(32))
CASE = "PA-26-0101"


def disclosure(label: str, value: bytes) -> Disclosure:
    return Disclosure(label=label, salt=SALT, value=value)


QUERY = disclosure(commitment.QUERY, plate_query(PLATE))
CASE_NUMBER = disclosure(commitment.CASE_NUMBER, CASE.encode())
REFERENCE = disclosure(commitment.AUTHORITY_REFERENCE, b"W-17")


def inquiry(**changes: Any) -> Inquiry:
    content: dict[str, Any] = {
        "inquiry_id": INQUIRY_ID,
        "federation": FEDERATION,
        "requester": REQUESTER,
        "beneficiary": ALDER,
        "purpose": PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL),
        "authority": Authority.NONE,
        "act": Act.EXACT,
        "begin": NOW - 7 * DAY,
        "end": NOW,
        "targets": (),
        "issued_at": NOW,
        "expires_at": NOW + dt.timedelta(minutes=5),
        "nonce": b"n" * 16,
        "query_commitment": QUERY.commitment,
        "case_number_commitment": CASE_NUMBER.commitment,
        "authority_reference_commitment": b"",
    }
    return Inquiry(**(content | changes))


def message(**changes: Any) -> inquiry_pb2.Inquiry:
    """The inquiry as a message, for what no `Inquiry` can hold."""
    out = inquiry_pb2.Inquiry.FromString(inquiry().encode())
    for name, value in changes.items():
        if isinstance(value, Timestamp | inquiry_pb2.PurposeOfUse | inquiry_pb2.Window):
            getattr(out, name).CopyFrom(value)
        elif isinstance(value, list):
            del getattr(out, name)[:]
            getattr(out, name).extend(value)
        else:
            setattr(out, name, value)
    return out


def disclosures(*made: Disclosure) -> list[inquiry_pb2.Disclosure]:
    return [d.to_message() for d in made or (QUERY, CASE_NUMBER)]


def unknown_field() -> bytes:
    """Field 1000, a varint: of no message of this version."""
    return b"\xc0\x3e\x01"


def detection(**changes: Any) -> outcome_pb2.Detection:
    content: dict[str, Any] = {
        "plate": PLATE.number,
        "state": PLATE.state,
        "captured_at": instants.to_wire(NOW - dt.timedelta(hours=3)),
        "camera": "pa-001",
        "latitude_e7": 377_912_345,
        "longitude_e7": -1_222_412_345,
        "confidence_permille": 931,
        "match": outcome_pb2.MATCH_CLASS_EXACT,
        "source": "police",
        "agency": ALDER,
        "image": "img-1",
    }
    return outcome_pb2.Detection(**(content | changes))


def decision(**changes: Any) -> Decision:
    content: dict[str, Any] = {
        "decision_id": "d-1",
        "node": "alder-1",
        "effect": Effect.DENY,
        "pep": Pep.NODE,
        "policy_digest": "ab" * 32,
        "federation_digest": "cd" * 32,
        "rules": (MatchedRule(rule="SC-1", effect="deny", basis="an ordinance", layer=Layer.NODE),),
        "obligations": Obligations(window_days=30, quota_per_day=5),
        "reason_code": "DENIED_BY_RULE",
        "reason": "refused under SC-1 (an ordinance)",
    }
    return Decision(**(content | changes))


COVERAGE = Coverage(begin=NOW - 7 * DAY, end=NOW)
_FIELDS: dict[OutcomeKind, dict[str, Any]] = {
    OutcomeKind.MATCH: {"coverage": COVERAGE, "detections": (detection(),)},
    OutcomeKind.NO_MATCH: {"coverage": COVERAGE},
    OutcomeKind.PARTIAL_COVERAGE: {
        "coverage": Coverage(begin=NOW - 3 * DAY, end=NOW),
        "detections": (detection(),),
        "reason_code": "RETENTION",
        "reason": "detections older than 3 days are not kept",
    },
    OutcomeKind.REFUSED: {"decision": decision().to_message()},
    OutcomeKind.WITHHELD: {"reason_code": "WITHHELD", "reason": "release is not permitted"},
    OutcomeKind.PENDING: {
        "decision": decision(effect=Effect.PERMIT, obligations=Obligations(approval=True)).to_message(),
        "role": "supervisor",
        "agency": ALDER,
    },
    OutcomeKind.TIMED_OUT: {"reason": "no answer by the deadline; the node may have searched"},
    OutcomeKind.UNREACHABLE: {"last_attached_at": NOW - DAY},
    OutcomeKind.ERROR: {"reason_code": "STORE_FAILED", "reason": "the node's detections cannot be read"},
}


def outcome(kind: OutcomeKind, **changes: Any) -> Outcome:
    content: dict[str, Any] = {
        "inquiry_id": INQUIRY_ID,
        "inquiry_hash": b"h" * 32,
        "node": "alder-1",
        "decided_at": NOW,
        "kind": kind,
        "policy_digest": "ab" * 32,
    }
    return Outcome(**(content | _FIELDS[kind] | changes))
