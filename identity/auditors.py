"""Auditors' keys: X25519, to which logs and the federation seal what auditors alone may read.

Source: RFC 9180 (HPKE), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; a sealed value is the 32 bytes
of the encapsulated key and then the ciphertext.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from comity.errors import ConfigError, LogFault
from identity import files
from identity.keys import MAX_KEY_BYTES

SECRET_BYTES = 32
SEALED_BYTES = 32 + SECRET_BYTES + 16
ALL_LOGS = "all"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recipient:
    """An auditor as the directory names them: a person's SPIFFE ID, their public key, and which logs they may unseal.

    `logs` are origins; None is every log.
    """

    name: str
    key: X25519PublicKey
    logs: frozenset[str] | None

    @property
    def id(self) -> str:
        """The key's id, 16 hex digits."""
        return recipient_id(self.key)

    def reads(self, origin: str) -> bool:
        """True if the log of that name is sealed to this auditor too."""
        return self.logs is None or origin in self.logs

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """`secret` (32 bytes) for this auditor alone, SEALED_BYTES long; it opens only under the same `info`."""
        return _SUITE.encrypt(secret, self.key, info)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AuditorKey:
    """An auditor's private key."""

    private: X25519PrivateKey = field(repr=False)

    @property
    def id(self) -> str:
        """The key's id, 16 hex digits."""
        return recipient_id(self.private.public_key())

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret that was sealed to this key under `info`.

        Raises:
            LogFault: it was not, or was altered (SEALED_MISMATCH).
        """
        try:
            secret = _SUITE.decrypt(sealed, self.private, info)
        except (InvalidTag, ValueError):
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise LogFault("a key that was sealed to this auditor does not open", reason="SEALED_MISMATCH")
        return secret


def recipient_id(key: X25519PublicKey) -> str:
    """The first 16 hex digits of the raw public key's SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def usable(key: X25519PublicKey) -> bool:
    """False for the few points of low order, with which everybody would share the same secret."""
    try:
        X25519PrivateKey.generate().exchange(key)
    except ValueError:
        return False
    return True


def write_auditor_key(path: Path, key: X25519PrivateKey) -> None:
    """`path` is a new file of mode 0600 that holds the key in PEM (PKCS #8), durably.

    Raises:
        ConfigError: FILE_EXISTS or FILE_UNWRITABLE.
    """
    files.write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=files.PRIVATE)


def open_auditor_key(path: Path) -> AuditorKey:
    """The auditor's private key in `path`.

    Raises:
        ConfigError: FILE_UNREADABLE, KEY_EXPOSED, or BAD_KEY: no key or another type.
    """
    data = files.read(path, max_bytes=MAX_KEY_BYTES, private=True)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise ConfigError(f"{path} must hold an auditor's private key (X25519, PEM)", reason="BAD_KEY")
    return AuditorKey(private=key)


def public_pem(key: X25519PublicKey) -> bytes:
    """The public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_public(path: Path) -> X25519PublicKey:
    """An auditor's public key in `path`.

    Raises:
        ConfigError: FILE_UNREADABLE or BAD_KEY.
    """
    try:
        key = load_pem_public_key(files.read(path, max_bytes=MAX_KEY_BYTES))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey) or not usable(key):
        raise ConfigError(f"{path} must hold an auditor's public key (X25519, PEM)", reason="BAD_KEY")
    return key
