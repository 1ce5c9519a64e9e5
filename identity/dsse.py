"""DSSE as a JSON file, signed by bare P-256 keys: the form of the directory and of policy bundles.

Source: DSSE envelope v1.0.0 (secure-systems-lab/dsse).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from comity import jcs
from comity.envelope import BUNDLE_TYPE, MAX_SIGNATURES, pae
from comity.errors import InvalidInput, NotAuthentic
from identity.keys import key_id

MAX_FILE_BYTES = 16 * 1024 * 1024
ALGORITHM = ec.ECDSA(hashes.SHA256())
_KEY_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySignature:
    """One signature; `key_id` is the SHA-256 of the signer's SubjectPublicKeyInfo in hex."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEnvelope:
    """A payload, its type and its signatures, none of them verified."""

    payload_type: str
    payload: bytes
    signatures: tuple[KeySignature, ...]


def strict_base64(text: Any) -> bytes:
    """The bytes of standard, padded base64 in its one canonical spelling.

    Source: RFC 4648 sections 3.3 and 3.5.

    Raises:
        ValueError: not text, another alphabet, padding missing, or stray bits.
    """
    if not isinstance(text, str):
        raise ValueError("not text")  # noqa: TRY004  # callers treat both alike
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def dsse_json_encode(envelope: KeyEnvelope) -> bytes:
    """The one JSON spelling of the envelope: canonical, no white space, no final newline."""
    return jcs.encode(
        {
            "payload": base64.b64encode(envelope.payload).decode(),
            "payloadType": envelope.payload_type,
            "signatures": [
                {"keyid": s.key_id, "sig": base64.b64encode(s.signature).decode()} for s in envelope.signatures
            ],
        }
    )


def dsse_json_decode(data: bytes, *, payload_type: str, max_bytes: int = MAX_FILE_BYTES) -> KeyEnvelope:
    """The envelope in `data`, which is then exactly `dsse_json_encode` of it: no byte of a file is left unchecked.

    Raises:
        InvalidInput: BAD_ENVELOPE; cut off, of another type, too large, no or too many signatures, or not canonical.
    """
    try:
        envelope = _decode(data, payload_type, max_bytes)
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(f"not a whole signed file of type {payload_type}", reason="BAD_ENVELOPE") from None
    return envelope


def sign_with_key(payload_type: str, payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A DSSE JSON file: `payload` signed once by `key`."""
    signature = KeySignature(key_id=key_id(key.public_key()), signature=key.sign(pae(payload_type, payload), ALGORITHM))
    return dsse_json_encode(KeyEnvelope(payload_type=payload_type, payload=payload, signatures=(signature,)))


def verify_with_keys(data: bytes, keys: Iterable[ec.EllipticCurvePublicKey], *, payload_type: str) -> bytes:
    """The payload of `data`, after every one of its signatures was verified by another one of `keys`.

    Raises:
        InvalidInput: BAD_ENVELOPE.
        NotAuthentic: UNKNOWN_KEY, BAD_SIGNATURE or DUPLICATE_SIGNER.
    """
    envelope = dsse_json_decode(data, payload_type=payload_type)
    known = {key_id(k): k for k in keys}
    signed = pae(envelope.payload_type, envelope.payload)
    for s in envelope.signatures:
        if s.key_id not in known:
            raise NotAuthentic("signed by a key that is not registered for this", reason="UNKNOWN_KEY")
        try:
            known[s.key_id].verify(s.signature, signed, ALGORITHM)
        except InvalidSignature:
            raise NotAuthentic("the signature does not fit the content", reason="BAD_SIGNATURE") from None
    if len({s.key_id for s in envelope.signatures}) != len(envelope.signatures):
        raise NotAuthentic("one key signed twice", reason="DUPLICATE_SIGNER")
    return envelope.payload


def countersign_with_key(data: bytes, key: ec.EllipticCurvePrivateKey, *, payload_type: str) -> bytes:
    """The same file with one more signature, by `key`, behind those it has, which are not verified here.

    Raises:
        InvalidInput: BAD_ENVELOPE.
        NotAuthentic: DUPLICATE_SIGNER; this key has signed already.
    """
    envelope = dsse_json_decode(data, payload_type=payload_type)
    signer = key_id(key.public_key())
    if any(s.key_id == signer for s in envelope.signatures):
        raise NotAuthentic("this key has signed already", reason="DUPLICATE_SIGNER")
    signature = KeySignature(key_id=signer, signature=key.sign(pae(payload_type, envelope.payload), ALGORITHM))
    return dsse_json_encode(replace(envelope, signatures=(*envelope.signatures, signature)))


def verify_bundle_signature(data: bytes, keys: Iterable[ec.EllipticCurvePublicKey], *, least: int = 1) -> bytes:
    """The payload of a policy bundle signed by at least `least` of the agency's registered `keys`, all verified.

    Raises:
        InvalidInput, NotAuthentic: as `verify_with_keys`; TOO_FEW_SIGNATURES.
    """
    payload = verify_with_keys(data, keys, payload_type=BUNDLE_TYPE)
    # every signature was verified, each by another key
    if len(dsse_json_decode(data, payload_type=BUNDLE_TYPE).signatures) < least:
        raise NotAuthentic(f"the agency asks for {least} signatures on its policies", reason="TOO_FEW_SIGNATURES")
    return payload


def _decode(data: bytes, payload_type: str, max_bytes: int) -> KeyEnvelope:
    if len(data) > max_bytes:
        raise ValueError
    raw = orjson.loads(data)
    if raw["payloadType"] != payload_type or not 1 <= len(raw["signatures"]) <= MAX_SIGNATURES:
        raise ValueError
    signatures = tuple(KeySignature(key_id=s["keyid"], signature=strict_base64(s["sig"])) for s in raw["signatures"])
    if not all(isinstance(s.key_id, str) and _KEY_ID.match(s.key_id) for s in signatures):
        raise ValueError
    envelope = KeyEnvelope(payload_type=payload_type, payload=strict_base64(raw["payload"]), signatures=signatures)
    # Unknown keys, keys given twice and stray white space all end here.
    if dsse_json_encode(envelope) != data:
        raise ValueError
    return envelope
