"""Envelopes signed by certificates: an investigator's inquiry, a supervisor's approval, a node's outcome."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from comity.envelope import MAX_CHAIN, MAX_SIGNATURES, Envelope, Signature, pae
from comity.errors import ConfigError, InvalidInput, NotAuthentic
from identity import certificates, keys
from identity.directory import Directory
from identity.dsse import ALGORITHM
from identity.verify import Identity, verify_leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key and the certificates that speak for it, DER, leaf first."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Refuse a key that is not the leaf's: every signature it made would be refused far from here.

        Raises:
            ConfigError: KEY_MISMATCH or BAD_CERTIFICATE.
        """
        try:
            if not 1 <= len(self.chain) <= MAX_CHAIN:
                raise ValueError
            leaf = x509.load_der_x509_certificate(self.chain[0])
            matches = leaf.public_key() == self.key.public_key()
        except certificates.BAD_DER:
            raise ConfigError("a signer needs its certificate first", reason="BAD_CERTIFICATE") from None
        if not matches:
            raise ConfigError("the key does not belong to the certificate", reason="KEY_MISMATCH")

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """An envelope with exactly these bytes and one signature, the author's."""
        return Envelope(
            payload_type=payload_type, payload=payload, signatures=(self._signature(payload_type, payload),)
        )

    def countersign(self, envelope: Envelope) -> Envelope:
        """The same payload with one more signature. Nothing is verified: look at the payload before you sign it.

        Raises:
            InvalidInput: DUPLICATE_SIGNER, or TOO_MANY_SIGNATURES.
        """
        if any(s.chain[:1] == self.chain[:1] for s in envelope.signatures):
            raise InvalidInput("you have already signed this: another person must", reason="DUPLICATE_SIGNER")
        if len(envelope.signatures) >= MAX_SIGNATURES:
            raise InvalidInput(f"it has {MAX_SIGNATURES} signatures already", reason="TOO_MANY_SIGNATURES")
        further = self._signature(envelope.payload_type, envelope.payload)
        return replace(envelope, signatures=(*envelope.signatures, further))

    def _signature(self, payload_type: str, payload: bytes) -> Signature:
        return Signature(signature=self.key.sign(pae(payload_type, payload), ALGORITHM), chain=self.chain)


def verify_envelope(
    envelope: Envelope,
    directory: Directory,
    at: dt.datetime,
    *,
    kind: str | None = None,
    approvers_at: dt.datetime | None = None,
) -> tuple[Identity, ...]:
    """Who signed, the author first, after every signature was verified.

    `kind`: every signer must be of it. `at` is when the author's certificate must be valid; `approvers_at`, if given,
    when the further ones' must be. Whether an approver may approve is not decided here.

    Raises:
        NotAuthentic: BAD_SIGNATURE, DUPLICATE_SIGNER (one person, or one key under two names, signed twice), or as
            `verify_chain`.
        InvalidInput: BAD_ENVELOPE, no signatures or too many.
    """
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise InvalidInput(f"it must have 1 to {MAX_SIGNATURES} signatures", reason="BAD_ENVELOPE")
    signed = pae(envelope.payload_type, envelope.payload)
    identities: list[Identity] = []
    seen: set[object] = set()
    for i, s in enumerate(envelope.signatures):
        when = approvers_at if i and approvers_at is not None else at
        leaf = verify_leaf(s.chain, directory, when, kind=kind)
        try:
            leaf.public_key.verify(s.signature, signed, ALGORITHM)
        except InvalidSignature:
            raise NotAuthentic(
                f"the signature of {leaf.identity.spiffe} does not fit what was sent", reason="BAD_SIGNATURE"
            ) from None
        # A renewed certificate does not make a second person of the first, nor does a second name for one key.
        marks = {leaf.identity.spiffe, keys.spki(leaf.public_key)}
        if marks & seen:
            raise NotAuthentic(f"{leaf.identity.spiffe} signed twice", reason="DUPLICATE_SIGNER")
        seen |= marks
        identities.append(leaf.identity)
    return tuple(identities)
