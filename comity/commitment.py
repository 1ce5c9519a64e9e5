"""Salted commitments: what a log keeps in place of a plate, a case number or a warrant's reference."""

from __future__ import annotations

import hashlib
import hmac

SALT_BYTES = 32
COMMITMENT_BYTES = 32
QUERY, CASE_NUMBER, AUTHORITY_REFERENCE = "query", "case_number", "authority_reference"
LABELS = (QUERY, CASE_NUMBER, AUTHORITY_REFERENCE)


def commit(label: str, salt: bytes, value: bytes) -> bytes:
    """HMAC-SHA256(salt, label || 0x00 || value), 32 bytes; `value` is exactly what will be disclosed.

    Raises:
        ValueError: a salt that is not 32 bytes, or a label that is not one of LABELS.
    """
    if len(salt) != SALT_BYTES or label not in LABELS:
        raise ValueError("a commitment needs a known label and a salt of 32 bytes")
    return hmac.digest(salt, label.encode() + b"\0" + value, hashlib.sha256)


def matches(commitment: bytes, label: str, salt: bytes, value: bytes) -> bool:
    """True if `commitment` was made from these; compared in constant time. False for a malformed salt or label."""
    if len(salt) != SALT_BYTES or label not in LABELS:
        return False
    return hmac.compare_digest(commitment, commit(label, salt, value))
