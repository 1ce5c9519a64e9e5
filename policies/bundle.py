"""A node's policy as its agency signs it: the payload, without the signature."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from comity import jcs
from comity.errors import PolicyError
from comity.federation import IDENTIFIER, Federation, Node
from policies.engine import Policy, compiled
from policies.retention import retention_s
from policies.seal import MAX_BYTES, unseal
from policies.vocabulary import Vocabulary, vocabulary_of

FORMAT = 1
MAX_PAYLOAD_BYTES = MAX_BYTES + 64 * 1024
MAX_PACKS = 64
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_TYPES: Mapping[str, type] = {
    "format": int,
    "federation": str,
    "node": str,
    "agency": str,
    "version": int,
    "valid_from": str,
    "valid_to": str,
    "packs": list,
    "policy": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One version of a node's policy. `policy`: a sealed text; `packs`: what it was made of; from, up to before to."""

    federation: str
    node: str
    agency: str
    version: int
    valid_from: dt.datetime
    valid_to: dt.datetime
    packs: tuple[str, ...]
    policy: str

    def valid_at(self, now: dt.datetime) -> bool:
        """True from `valid_from` up to, not at, `valid_to`."""
        return self.valid_from <= now < self.valid_to

    def retention_s(self, node: Node) -> int:
        """Seconds after which the node must neither hold nor return a detection: its own setting or its packs'."""
        return retention_s(node.retention_s, (*node.presets, *self.packs))


def make_bundle(
    *,
    federation: Federation,
    node: str,
    version: int,
    valid_from: dt.datetime,
    valid_to: dt.datetime,
    packs: Sequence[str],
    policy: str,
) -> bytes:
    """The payload to sign. `policy` is the sealed text of `load_packs`; times are cut to whole seconds.

    Raises:
        PolicyError: what `parse_bundle` would refuse at `valid_from`, or a node that is not registered.
    """
    if node not in federation.nodes:
        raise PolicyError("the node is not registered", file="bundle", reason="BUNDLE_MISDIRECTED")
    payload = jcs.encode(
        {
            "format": FORMAT,
            "federation": federation.id,
            "node": node,
            "agency": federation.nodes[node].agency,
            "version": version,
            "valid_from": _text(valid_from),
            "valid_to": _text(valid_to),
            "packs": list(packs),
            "policy": policy,
        }
    )
    parse_bundle(payload, federation, valid_from)
    return payload


def parse_bundle(payload: bytes, federation: Federation, now: dt.datetime) -> Bundle:
    """The bundle in `payload`, fit to be used at `now` (aware). Its signature is the caller's to verify first.

    Raises:
        PolicyError: BUNDLE_MALFORMED (not canonical JSON, a key missing or unknown, another format, a policy that
            is not sealed), BUNDLE_MISDIRECTED (another federation, an unknown node, another agency's node),
            BUNDLE_EXPIRED, BUNDLE_NOT_YET_VALID.
    """
    raw = _decoded(payload)
    bundle = Bundle(
        federation=raw["federation"],
        node=raw["node"],
        agency=raw["agency"],
        version=raw["version"],
        valid_from=_time(raw["valid_from"]),
        valid_to=_time(raw["valid_to"]),
        packs=tuple(raw["packs"]),
        policy=raw["policy"],
    )
    if bundle.valid_from >= bundle.valid_to:
        raise _malformed("valid_to must be later than valid_from")
    unseal(bundle.policy, f"bundle of {bundle.node}")
    _check_address(bundle, federation)
    if now >= bundle.valid_to:
        raise PolicyError(f"expired at {raw['valid_to']}", file="bundle", reason="BUNDLE_EXPIRED")
    if now < bundle.valid_from:
        raise PolicyError(f"not valid before {raw['valid_from']}", file="bundle", reason="BUNDLE_NOT_YET_VALID")
    return bundle


def compile_bundle(bundle: Bundle, words: Vocabulary | Federation) -> Policy:
    """The compiled version in the words of a directory; bundles with the same text share one.

    Raises:
        PolicyError: a rule is refused, see `policies.load.load`.
    """
    return compiled(bundle.policy, words if isinstance(words, Vocabulary) else vocabulary_of(words))


def _decoded(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise _malformed(f"longer than {MAX_PAYLOAD_BYTES} bytes")
    try:
        raw = orjson.loads(payload)
        # one reading only: a key that stands twice, or another spelling of the same bundle, is refused
        canonical = jcs.encode(raw)
    except (orjson.JSONDecodeError, TypeError, RecursionError) as e:
        raise _malformed("is not JSON of the restricted profile") from e
    if canonical != payload:
        raise _malformed("is not canonical JSON")
    if type(raw) is not dict or raw.keys() != _TYPES.keys():
        raise _malformed(f"must have exactly the keys {', '.join(_TYPES)}")
    for key, kind in _TYPES.items():
        if type(raw[key]) is not kind:
            raise _malformed(f"{key} must be {kind.__name__}")
    if raw["format"] != FORMAT:
        raise _malformed(f"format must be {FORMAT}")
    if raw["version"] < 1:
        raise _malformed("version must be from 1")
    packs = raw["packs"]
    if len(packs) > MAX_PACKS or not all(type(p) is str and IDENTIFIER.match(p) for p in packs):
        raise _malformed(f"packs must be at most {MAX_PACKS} names")
    return raw


def _check_address(bundle: Bundle, federation: Federation) -> None:
    if bundle.federation != federation.id:
        raise _misdirected("is for another federation")
    if bundle.node not in federation.nodes:
        raise _misdirected("is for a node that is not registered")
    if federation.nodes[bundle.node].agency != bundle.agency:
        raise _misdirected("names an agency that does not own the node")


def _text(time: dt.datetime) -> str:
    if time.tzinfo is None:
        raise _malformed("a time without its zone")
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> dt.datetime:
    try:
        if _TIME.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    raise _malformed("times must be like 2026-01-31T12:00:00Z")


def _malformed(message: str) -> PolicyError:
    return PolicyError(message, file="bundle", reason="BUNDLE_MALFORMED")


def _misdirected(message: str) -> PolicyError:
    return PolicyError(message, file="bundle", reason="BUNDLE_MISDIRECTED")
