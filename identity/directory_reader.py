"""Reads a directory's payload, whose signature is already verified, and refuses whatever it does not know."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from comity import jcs
from comity.errors import ConfigError, InvalidInput
from comity.federation import IDENTIFIER, Federation
from identity import certificates
from identity.auditors import ALL_LOGS, Recipient, usable
from identity.directory import Anchor, Directory, LogKey, parse_time
from identity.dsse import strict_base64
from identity.keys import is_p256, key_id, public_pem
from identity.names import PERSON, SpiffeId
from identity.pseudonym_key import SealedPseudonymKey

_SECTIONS = ("authorities", "broker_authorities", "policy_keys", "logs", "witnesses", "denied")
KEYS = frozenset(("version", "issued_at", "federation", *_SECTIONS))
OPTIONAL = frozenset(("auditors", "pseudonym_key"))  # absent where nobody may unseal
MAX_PER_AGENCY = 8
MAX_DENIED = 100_000
MAX_AUDITORS = 64  # each month's key of each log is sealed to every one of them
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
# Source: C2SP tlog-checkpoint, "origin": a schema-less URL without spaces or plus signs.
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/-]{0,199}\Z")


def read_payload(payload: bytes) -> Directory:
    """The directory in `payload`.

    Raises:
        ConfigError: with a reason of `Directory.parse`.
    """
    try:
        raw = orjson.loads(payload)
        canonical = jcs.encode(raw) == payload
    except (ValueError, TypeError):
        canonical = False
    if not canonical or not isinstance(raw, dict):
        _no("DIRECTORY_MALFORMED", "its content is not canonical JSON")
    if set(raw) - OPTIONAL != KEYS:
        odd = sorted((set(raw) - OPTIONAL) ^ KEYS)[0]
        _no("DIRECTORY_UNKNOWN_KEY", f"{odd[:40]!r} is {'missing' if odd in KEYS else 'unknown'}")
    try:
        federation = Federation.parse(_table(raw["federation"], "federation"))
    except (InvalidInput, TypeError) as e:
        raise ConfigError(f"the directory's registry is wrong: {e}", reason="DIRECTORY_FEDERATION") from None
    if type(raw["version"]) is not int or raw["version"] < 1:
        _no("DIRECTORY_VALUE", "its version must be a whole number from 1")
    anchors = _anchors(raw, federation)
    by_subject: dict[bytes, tuple[Anchor, ...]] = {}
    for a in anchors:
        subject = a.certificate.subject.public_bytes()
        by_subject[subject] = (*by_subject.get(subject, ()), a)
    auditors = _auditors(raw.get("auditors", {}), federation, raw["logs"])
    logs = _logs(raw["logs"], federation)
    return Directory(
        version=raw["version"],
        issued_at=_issued_at(raw["issued_at"]),
        digest=hashlib.sha256(payload).hexdigest(),
        federation=federation,
        anchors=anchors,
        by_subject=MappingProxyType(by_subject),
        policy_keys=_policy_keys(raw["policy_keys"], federation),
        logs=logs,
        witnesses=_witnesses(raw["witnesses"], federation, logs),
        denied=_denied(raw["denied"]),
        auditors=auditors,
        pseudonym_key=_pseudonym_key(raw.get("pseudonym_key"), auditors),
    )


def _anchors(raw: Mapping[str, Any], federation: Federation) -> tuple[Anchor, ...]:
    if federation.id in federation.agencies:
        _no("DIRECTORY_SHARED_AUTHORITY", "the federation and an agency have the same id")
    agencies = _table(raw["authorities"], "authorities")
    owners = [(federation.id, True, "broker_authorities", raw["broker_authorities"])]
    owners += [(agency, False, f"authorities.{agency[:63]}", pems) for agency, pems in agencies.items()]
    anchors: list[Anchor] = []
    owner_of_key: dict[bytes, str] = {}
    for owner, is_federation, field, pems in owners:
        if not is_federation and owner not in federation.agencies:
            _no("DIRECTORY_UNREGISTERED", f"{field} is no registered agency's")
        for text in _texts(pems, field):
            certificate = _authority(text, field)
            # The same key in two certificates would be the same authority: the key decides, not the file.
            key = certificates.spki_of(certificate)
            if owner_of_key.setdefault(key, owner) != owner:
                _no("DIRECTORY_SHARED_AUTHORITY", f"{field} has the authority of {owner_of_key[key]}")
            anchors.append(
                Anchor(
                    trust_domain=owner,
                    federation=is_federation,
                    certificate=certificate,
                    der=certificates.der(certificate),
                )
            )
    return tuple(anchors)


def _authority(text: str, field: str) -> x509.Certificate:
    try:
        found = certificates.from_pem(text.encode(), what=field)
    except ConfigError as e:
        _no("DIRECTORY_AUTHORITY", str(e))
    fault = certificates.authority_fault(found[0]) if len(found) == 1 else "it must be one certificate a text"
    if fault or certificates.pem(*found) != text.encode():
        _no("DIRECTORY_AUTHORITY", f"{field}: {fault or 'not PEM alone'}")
    return found[0]


def _policy_keys(raw: Any, federation: Federation) -> Mapping[str, tuple[ec.EllipticCurvePublicKey, ...]]:
    out: dict[str, tuple[ec.EllipticCurvePublicKey, ...]] = {}
    owner_of_key: dict[str, str] = {}
    for agency, pems in _table(raw, "policy_keys").items():
        field = f"policy_keys.{agency[:63]}"
        if agency not in federation.agencies:
            _no("DIRECTORY_UNREGISTERED", f"{field} is no registered agency's")
        found: list[ec.EllipticCurvePublicKey] = []
        for text in _texts(pems, field):
            try:
                key = load_pem_public_key(text.encode())
            except certificates.BAD_DER:
                key = None
            if not is_p256(key) or public_pem(key) != text.encode():
                _no("DIRECTORY_VALUE", f"{field} must hold ECDSA P-256 public keys in PEM")
            if owner_of_key.setdefault(key_id(key), agency) != agency:
                _no("DIRECTORY_SHARED_AUTHORITY", f"{field} has a key of {owner_of_key[key_id(key)]}")
            found.append(key)
        out[agency] = tuple(found)
    return MappingProxyType(out)


def _logs(raw: Any, federation: Federation) -> Mapping[str, LogKey]:
    out: dict[str, LogKey] = {}
    seen: set[bytes] = set()
    for origin, entry in _table(raw, "logs").items():
        field = f"logs.{origin[:80]}"
        if not _ORIGIN.match(origin):
            _no("DIRECTORY_VALUE", "a log's origin must be a URL without scheme, of at most 200 characters")
        t = _table(entry, field)
        if set(t) != {"key", "program", "id"}:
            _no("DIRECTORY_UNKNOWN_KEY", f"{field} must have key, program and id, and nothing else")
        if t["program"] not in ("broker", "node") or not isinstance(t["id"], str) or not IDENTIFIER.match(t["id"]):
            _no("DIRECTORY_VALUE", f"{field} must be of a broker or a node, with its id")
        if t["program"] == "node" and t["id"] not in federation.nodes:
            _no("DIRECTORY_UNREGISTERED", f"{field} is no registered node's")
        key = _ed25519(t["key"], field)
        # One key for two logs would let a checkpoint of the one pass for the other's.
        if key.public_bytes_raw() in seen:
            _no("DIRECTORY_SHARED_AUTHORITY", f"{field} has another log's key")
        seen.add(key.public_bytes_raw())
        out[origin] = LogKey(origin=origin, key=key, program=t["program"], id=t["id"])
    return MappingProxyType(out)


def _witnesses(raw: Any, federation: Federation, logs: Mapping[str, LogKey]) -> Mapping[str, Ed25519PublicKey]:
    known = {*federation.nodes, *(f"broker/{log.id}" for log in logs.values() if log.program == "broker")}
    out: dict[str, Ed25519PublicKey] = {}
    seen: set[bytes] = set()
    for who, text in _table(raw, "witnesses").items():
        if who not in known:
            _no("DIRECTORY_UNREGISTERED", f"witnesses.{who[:80]} is no registered node, nor a broker with a log here")
        key = _ed25519(text, f"witnesses.{who}")
        # One key for two witnesses would count twice towards the quorum.
        if key.public_bytes_raw() in seen:
            _no("DIRECTORY_SHARED_AUTHORITY", f"witnesses.{who} has another witness's key")
        seen.add(key.public_bytes_raw())
        out[who] = key
    return MappingProxyType(out)


def _auditors(raw: Any, federation: Federation, logs: Any) -> tuple[Recipient, ...]:
    out: list[Recipient] = []
    for name, entry in _table(raw, "auditors").items():
        field = f"auditors.{name[:140]}"
        try:
            spiffe = SpiffeId.parse(name)
        except InvalidInput:
            _no("DIRECTORY_VALUE", "an auditor must be named by a SPIFFE ID")
        if spiffe.kind != PERSON or spiffe.trust_domain not in (federation.id, *federation.agencies):
            _no("DIRECTORY_UNREGISTERED", f"{field} is no person of a registered agency or of the federation")
        t = _table(entry, field)
        if set(t) != {"key", "logs"}:
            _no("DIRECTORY_UNKNOWN_KEY", f"{field} must have key and logs, and nothing else")
        try:
            key = X25519PublicKey.from_public_bytes(strict_base64(t["key"]))
        except ValueError:
            _no("DIRECTORY_VALUE", f"{field} must have a raw X25519 key in base64")
        if not usable(key):
            _no("DIRECTORY_VALUE", f"{field} has a key with which nothing can be sealed")
        out.append(Recipient(name=name, key=key, logs=_logs_read(t["logs"], field, logs)))
    if len(out) > MAX_AUDITORS or len({a.id for a in out}) != len(out):
        _no("DIRECTORY_VALUE", f"auditors must be at most {MAX_AUDITORS}, each with a key of their own")
    return tuple(out)


def _logs_read(raw: Any, field: str, logs: Any) -> frozenset[str] | None:
    if raw == ALL_LOGS:
        return None
    # An empty list is refused: it must not be mistaken for every log.
    if not isinstance(raw, list) or not raw or not all(isinstance(o, str) and o in logs for o in raw):
        _no("DIRECTORY_VALUE", f'{field}.logs must be "{ALL_LOGS}" or a list of logs of this directory')
    return frozenset(raw)


def _pseudonym_key(raw: Any, auditors: tuple[Recipient, ...]) -> SealedPseudonymKey | None:
    if raw is None:
        return None
    try:
        key = SealedPseudonymKey.parse(raw)
    except ValueError:
        _no("DIRECTORY_VALUE", "pseudonym_key must be a key sealed to auditors")
    if not set(key.sealed) <= {a.id for a in auditors}:
        _no("DIRECTORY_UNREGISTERED", "pseudonym_key is sealed to a key that is no auditor's of this directory")
    return key


def _denied(raw: Any) -> frozenset[str]:
    if not isinstance(raw, list) or len(raw) > MAX_DENIED:
        _no("DIRECTORY_VALUE", f"denied must be a list of at most {MAX_DENIED} fingerprints")
    if not all(isinstance(f, str) and _FINGERPRINT.match(f) for f in raw):
        _no("DIRECTORY_VALUE", "denied must hold SHA-256 fingerprints, 64 small hex digits each")
    return frozenset(raw)


def _issued_at(raw: Any) -> dt.datetime:
    try:
        return parse_time(raw)
    except (ValueError, TypeError):
        _no("DIRECTORY_VALUE", "issued_at must be a UTC time such as 2030-01-31T12:00:00Z")


def _ed25519(raw: Any, field: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(strict_base64(raw))
    except ValueError:
        _no("DIRECTORY_VALUE", f"{field} must be a raw Ed25519 key in base64")


def _table(raw: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        _no("DIRECTORY_VALUE", f"{field} must be a table")
    return raw


def _texts(raw: Any, field: str) -> list[str]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_PER_AGENCY or not all(isinstance(t, str) for t in raw):
        _no("DIRECTORY_VALUE", f"{field} must be a list of 1 to {MAX_PER_AGENCY} PEM texts")
    return raw


def _no(reason: str, text: str) -> NoReturn:
    raise ConfigError(f"the directory is refused: {text}", reason=reason)
