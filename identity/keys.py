"""Private keys and their files: ECDSA P-256 for identities, Ed25519 for logs and witnesses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeAlias, TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from comity.errors import ConfigError
from identity import files

MAX_KEY_BYTES = 8 * 1024

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


def new_signing_key() -> ec.EllipticCurvePrivateKey:
    """A fresh ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_log_key() -> Ed25519PrivateKey:
    """A fresh Ed25519 key, for a log's checkpoints or a witness's cosignatures."""
    return Ed25519PrivateKey.generate()


def is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    """True if `key` is a public key on P-256."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(spki(key)).hexdigest()


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as PEM SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> bytes:
    """The private key as PEM PKCS #8, not encrypted: only for a file of mode 0600 or for TLS."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_key(path: Path, key: PrivateKey) -> None:
    """`path` is a new file of mode 0600 that holds the key, durably.

    Raises:
        ConfigError: FILE_EXISTS (a key is never overwritten) or FILE_UNWRITABLE.
    """
    files.write_new(path, private_pem(key), mode=files.PRIVATE)


def load_signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The ECDSA P-256 key in `path`.

    Raises:
        ConfigError: FILE_UNREADABLE, KEY_EXPOSED, or BAD_KEY: no key, another type or another curve.
    """
    key = _load(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_p256(key.public_key()):
        raise ConfigError(f"{path} must hold an ECDSA key on P-256", reason="BAD_KEY")
    return key


def load_log_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in `path`.

    Raises:
        ConfigError: FILE_UNREADABLE, KEY_EXPOSED, or BAD_KEY: no key or another type.
    """
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} must hold an Ed25519 key", reason="BAD_KEY")
    return key


def _load(path: Path) -> object:
    data = files.read(path, max_bytes=MAX_KEY_BYTES, private=True)
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is dropped: it may describe the key's content.
        raise ConfigError(f"{path} must hold one private key in PEM, not encrypted", reason="BAD_KEY") from None
