"""X.509 certificates as Comity accepts them: reading, fingerprints, and what an authority's must be."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from comity.errors import ConfigError
from identity.keys import is_p256

MAX_PEM_BYTES = 64 * 1024

# Source: SEC 2 version 2, section 2.4.2: the order n of P-256's base point.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# Source: RFC 5758 section 3.2: ecdsa-with-SHA256, parameters absent.
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")

# What reading a hostile certificate can raise in the library.
BAD_DER = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def der(certificate: x509.Certificate) -> bytes:
    """The certificate's DER."""
    return certificate.public_bytes(Encoding.DER)


def spki_of(certificate: x509.Certificate) -> bytes:
    """The certificate's public key as DER SubjectPublicKeyInfo: what tells two authorities apart."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(*certificates: x509.Certificate) -> bytes:
    """The certificates as PEM, in that order."""
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def from_pem(data: bytes, *, what: str) -> tuple[x509.Certificate, ...]:
    """The certificates in `data`, at least one, in file order; `what` names the source in the error.

    Raises:
        ConfigError: BAD_CERTIFICATE.
    """
    try:
        if len(data) > MAX_PEM_BYTES:
            raise ValueError
        return tuple(x509.load_pem_x509_certificates(data))
    except BAD_DER:
        raise ConfigError(f"{what} must hold certificates in PEM", reason="BAD_CERTIFICATE") from None


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the DER, in small hex: as `openssl x509 -fingerprint -sha256` shows, without colons."""
    return hashlib.sha256(certificate).hexdigest()


def fingerprints(certificate: x509.Certificate) -> tuple[str, str]:
    """Both fingerprints under which this P-256 signed certificate verifies: its own first, then its twin's.

    Whoever has an ECDSA signature (r, s) can make (r, n - s), which verifies too. So the holder of a revoked
    certificate can change its bytes, and its fingerprint, without the authority: a deny list must know both.

    Raises:
        ValueError: not ecdsa-with-SHA256 in DER.
    """
    r, s = decode_dss_signature(certificate.signature)
    own = _certificate(certificate.tbs_certificate_bytes, r, s)
    if own != der(certificate):
        raise ValueError("not ecdsa-with-SHA256 in DER")
    twin = _certificate(certificate.tbs_certificate_bytes, r, _P256_ORDER - s)
    return fingerprint(own), fingerprint(twin)


def authority_fault(certificate: x509.Certificate) -> str:
    """Why this may not be pinned as an authority, in words; '' if it may.

    Source: RFC 5280 sections 4.2.1.2, 4.2.1.3 and 4.2.1.9.
    """
    try:
        if not is_p256(certificate.public_key()):
            return "its key is not on P-256"
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate.verify_directly_issued_by(certificate)
    except x509.ExtensionNotFound as e:
        return f"it lacks the extension {e.oid._name}"
    except (*BAD_DER, InvalidSignature):
        return "it is not self-signed or not well-formed"
    if not (basic.critical and basic.value.ca and basic.value.path_length == 0):
        return "it must be an authority that signs no further authorities (path length 0)"
    if not (usage.critical and usage.value.key_cert_sign):
        return "its key usage does not include signing certificates"
    return ""


def _certificate(tbs: bytes, r: int, s: int) -> bytes:
    return _der(0x30, tbs + _ECDSA_SHA256 + _der(0x03, b"\x00" + encode_dss_signature(r, s)))


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body
