"""The key of plates' pseudonyms as the directory carries it: sealed to each auditor, known to nobody else."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from comity.errors import ConfigError
from identity.auditors import SEALED_BYTES, SECRET_BYTES, AuditorKey, Recipient
from identity.dsse import strict_base64

FORMAT = "comity-pseudonym-key-1"
MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPseudonymKey:
    """One key, sealed to each of several auditors' keys: their ids -> SEALED_BYTES bytes."""

    id: str
    sealed: Mapping[str, bytes]

    @classmethod
    def fresh(cls, federation: str, auditors: Iterable[Recipient]) -> SealedPseudonymKey:
        """A new key that nobody has in clear once this returns."""
        return _sealed(secrets.token_bytes(SECRET_BYTES), federation, auditors)

    def shared(self, key: AuditorKey, federation: str, auditors: Iterable[Recipient]) -> SealedPseudonymKey:
        """The same key, sealed by an auditor who can open it to each of `auditors` instead.

        Raises:
            ConfigError: it was not sealed to this key (NOT_FOR_KEY).
            LogFault: SEALED_MISMATCH.
        """
        if key.id not in self.sealed:
            raise ConfigError("the pseudonym key was not sealed to this key", reason="NOT_FOR_KEY")
        return _sealed(key.open(self.sealed[key.id], pseudonym_info(federation, self.id)), federation, auditors)

    @classmethod
    def parse(cls, value: Any) -> SealedPseudonymKey:
        """The sealed key in `value`, as `as_json` makes it.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(value, dict) or set(value) != {"format", "id", "sealed"} or value["format"] != FORMAT:
            raise ValueError("not a sealed pseudonym key")
        id_, sealed = value["id"], value["sealed"]
        if not _is_id(id_) or not isinstance(sealed, dict) or not all(map(_is_id, sealed)):
            raise ValueError("not a sealed pseudonym key")
        parts = {recipient: strict_base64(text) for recipient, text in sealed.items()}
        if not parts or any(len(part) != SEALED_BYTES for part in parts.values()):
            raise ValueError("not a sealed pseudonym key")
        return cls(id=id_, sealed=MappingProxyType(parts))

    @classmethod
    def read(cls, data: bytes) -> SealedPseudonymKey:
        """The sealed key in a file.

        Raises:
            ConfigError: it is none (BAD_PSEUDONYM_KEY).
        """
        try:
            return cls.parse(orjson.loads(data))
        except ValueError:
            raise ConfigError("not a file with a sealed pseudonym key", reason="BAD_PSEUDONYM_KEY") from None

    def as_json(self) -> dict[str, Any]:
        """For the directory and for its file."""
        sealed = {recipient: base64.b64encode(part).decode() for recipient, part in self.sealed.items()}
        return {"format": FORMAT, "id": self.id, "sealed": sealed}


def pseudonym_info(federation: str, key_id: str) -> bytes:
    """What a sealed key is bound to."""
    return "\0".join((FORMAT, federation, key_id)).encode()


def pseudonym_key_id(secret: bytes) -> str:
    """16 hex digits of a hash of the key, which tell two keys apart and nothing more."""
    return hashlib.sha256(FORMAT.encode() + b"\0" + secret).hexdigest()[:16]


def _sealed(secret: bytes, federation: str, auditors: Iterable[Recipient]) -> SealedPseudonymKey:
    id_ = pseudonym_key_id(secret)
    info = pseudonym_info(federation, id_)
    return SealedPseudonymKey(id=id_, sealed=MappingProxyType({a.id: a.seal(secret, info) for a in auditors}))


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 16 and all(c in "0123456789abcdef" for c in value)
