"""A plate's pseudonym: the same for the same plate throughout a federation, and computable by its auditors alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from comity.errors import ConfigError, LogFault, NotAllowed
from comity.plate import Plate
from identity.auditors import AuditorKey
from identity.directory import Directory
from identity.pseudonym_key import pseudonym_info, pseudonym_key_id

FORMAT = "comity-pseudonym-1"
PSEUDONYM_BYTES = 10  # among ten million plates two share one with a chance of 1 in 20 billion


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymKey:
    """The key of one federation's pseudonyms, opened. Whoever has it can try every plate."""

    federation: str
    id: str
    secret: bytes = field(repr=False)


def pseudonym_key(directory: Directory, key: AuditorKey) -> PseudonymKey:
    """The federation's pseudonym key, which its directory holds sealed to each auditor.

    Raises:
        ConfigError: the directory has none (NO_PSEUDONYM_KEY).
        NotAllowed: it is not sealed to this key (NOT_FOR_KEY).
        LogFault: what is sealed there is another key than the directory names (SEALED_MISMATCH).
    """
    sealed = directory.pseudonym_key
    if sealed is None:
        raise ConfigError("the directory holds no pseudonym key", reason="NO_PSEUDONYM_KEY")
    mine = sealed.sealed.get(key.id)
    if mine is None:
        raise NotAllowed("the pseudonym key was not sealed to this key", reason="NOT_FOR_KEY")
    secret = key.open(mine, pseudonym_info(directory.federation.id, sealed.id))
    if pseudonym_key_id(secret) != sealed.id:
        raise LogFault("what is sealed is another pseudonym key than the directory names", reason="SEALED_MISMATCH")
    return PseudonymKey(federation=directory.federation.id, id=sealed.id, secret=secret)


def pseudonym(key: PseudonymKey, plate: str, state: str) -> str:
    """16 small letters and digits for the plate as a person writes it; the state may be empty.

    Raises:
        InvalidInput: not a plate (BAD_PLATE).
    """
    p = Plate.parse(plate, state, state_required=False)
    text = "\0".join((FORMAT, key.federation, p.number, p.state)).encode()
    return base64.b32encode(hmac.digest(key.secret, text, hashlib.sha256)[:PSEUDONYM_BYTES]).decode().lower()
