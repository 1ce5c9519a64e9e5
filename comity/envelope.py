"""DSSE envelopes: the bytes that were signed are the bytes that travel and are kept.

Source: DSSE protocol v1.0.2 (secure-systems-lab/dsse), Pre-Authentication Encoding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from comity.errors import InvalidInput, Violation
from comity.v1 import envelope_pb2

INQUIRY_TYPE = "application/vnd.comity.inquiry.v1+protobuf"
OUTCOME_TYPE = "application/vnd.comity.outcome.v1+protobuf"
BUNDLE_TYPE = "application/vnd.comity.policy-bundle.v1+json"
DIRECTORY_TYPE = "application/vnd.comity.directory.v1+json"

MAX_SIGNATURES = 4
MAX_CHAIN = 3
MAX_CERTIFICATE_BYTES = 8 * 1024


def pae(payload_type: str, payload: bytes) -> bytes:
    """The exact bytes a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature with the certificates that speak for it, leaf first, DER."""

    signature: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, its type and its signatures. Nothing is verified here; `identity.signing` does that."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def payload_hash(self) -> bytes:
        """SHA-256 of the payload, 32 bytes: what logs and further signatures refer to, never the envelope."""
        return hashlib.sha256(self.payload).digest()

    @classmethod
    def parse(cls, wire: bytes, *, payload_type: str, max_payload_bytes: int = 4 * 1024 * 1024) -> Envelope:
        """The envelope in `wire`, of the type that the caller expects.

        Raises:
            InvalidInput: not an envelope, of another type, too large, or with no or too many signatures.
        """
        try:
            message = envelope_pb2.Envelope.FromString(wire)
        except DecodeError:
            raise InvalidInput("not a signed envelope", reason="BAD_ENVELOPE") from None
        return cls.from_message(message, payload_type=payload_type, max_payload_bytes=max_payload_bytes)

    @classmethod
    def from_message(
        cls, message: envelope_pb2.Envelope, *, payload_type: str, max_payload_bytes: int = 4 * 1024 * 1024
    ) -> Envelope:
        """As `parse`, from a decoded message.

        Raises:
            InvalidInput: as `parse`.
        """
        bad: list[Violation] = []
        if message.payload_type != payload_type:
            bad.append(Violation("payload_type", f"must be {payload_type}"))
        if not 0 < len(message.payload) <= max_payload_bytes:
            bad.append(Violation("payload", f"must have 1 to {max_payload_bytes} bytes"))
        if not 1 <= len(message.signatures) <= MAX_SIGNATURES:
            bad.append(Violation("signatures", f"must be 1 to {MAX_SIGNATURES}"))
        for i, s in enumerate(message.signatures[: MAX_SIGNATURES + 1]):
            if not 1 <= len(s.chain) <= MAX_CHAIN or any(len(c) > MAX_CERTIFICATE_BYTES for c in s.chain):
                bad.append(
                    Violation(f"signatures[{i}].chain", f"must have 1 to {MAX_CHAIN} certificates of normal size")
                )
            if not 1 <= len(s.signature) <= 256:
                bad.append(Violation(f"signatures[{i}].signature", "must have 1 to 256 bytes"))
        if bad:
            raise InvalidInput("not a valid envelope", violations=bad, reason="BAD_ENVELOPE")
        return cls(
            payload_type=message.payload_type,
            payload=message.payload,
            signatures=tuple(Signature(signature=s.signature, chain=tuple(s.chain)) for s in message.signatures),
        )

    def to_message(self) -> envelope_pb2.Envelope:
        """The wire form."""
        return envelope_pb2.Envelope(
            payload_type=self.payload_type,
            payload=self.payload,
            signatures=[envelope_pb2.Signature(signature=s.signature, chain=s.chain) for s in self.signatures],
        )

    def encode(self) -> bytes:
        """The wire form as bytes."""
        return self.to_message().SerializeToString()
