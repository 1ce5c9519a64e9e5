"""Writes and signs a directory: the work of the federation's operator."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from comity import jcs
from comity.envelope import DIRECTORY_TYPE
from identity import certificates, dsse
from identity.auditors import ALL_LOGS, Recipient
from identity.authority import Authority
from identity.directory import Directory, LogKey, format_time
from identity.keys import public_pem
from identity.pseudonym_key import SealedPseudonymKey


def sign_directory(
    authority: Authority,
    *,
    version: int,
    issued_at: dt.datetime,
    federation: Mapping[str, Any],
    authorities: Mapping[str, Sequence[x509.Certificate]],
    broker_authorities: Sequence[x509.Certificate] = (),
    policy_keys: Mapping[str, Sequence[ec.EllipticCurvePublicKey]] | None = None,
    logs: Iterable[LogKey] = (),
    witnesses: Mapping[str, Ed25519PublicKey] | None = None,
    denied: Iterable[str] = (),
    auditors: Iterable[Recipient] = (),
    pseudonym_key: SealedPseudonymKey | None = None,
) -> bytes:
    """The bytes of `directory.json`, signed by the federation's `authority`.

    `federation` has the tables of `directory.toml`. `broker_authorities`: the federation's own if empty.
    What `Directory.parse` would refuse is not signed.

    Raises:
        ConfigError: as `Directory.parse`.
        TypeError: a value that canonical JSON does not have.
    """
    payload = jcs.encode(
        {
            "version": version,
            "issued_at": format_time(issued_at),
            "federation": _plain(federation),
            "authorities": {a: [certificates.pem(c).decode() for c in cs] for a, cs in authorities.items()},
            "broker_authorities": [
                certificates.pem(c).decode() for c in broker_authorities or (authority.certificate,)
            ],
            "policy_keys": {a: [public_pem(k).decode() for k in ks] for a, ks in (policy_keys or {}).items()},
            "logs": {o.origin: {"key": _raw(o.key), "program": o.program, "id": o.id} for o in logs},
            "witnesses": {node: _raw(key) for node, key in (witnesses or {}).items()},
            "denied": sorted(set(denied)),
            **_unsealing(auditors, pseudonym_key),
        }
    )
    data = dsse.sign_with_key(DIRECTORY_TYPE, payload, authority.key)
    Directory.parse(data, authority.certificate)
    return data


def _unsealing(auditors: Iterable[Recipient], pseudonym_key: SealedPseudonymKey | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    named = {a.name: {"key": _raw(a.key), "logs": ALL_LOGS if a.logs is None else sorted(a.logs)} for a in auditors}
    if named:
        out["auditors"] = named
    if pseudonym_key is not None:
        out["pseudonym_key"] = pseudonym_key.as_json()
    return out


def _raw(key: Ed25519PublicKey | X25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _plain(value: Any) -> Any:
    """TOML's dates as ISO text and its tables as plain ones, so that canonical JSON takes them."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    return value
