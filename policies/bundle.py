"""A node's policy as its agency signs it: the payload, without the signature."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from comity import jcs
from comity.errors import PolicyError
from comity.federation import IDENTIFIER, Federation, Node
from policies.engine import UNPOSTED, Policy, compiled
from policies.packs import PACKS, next_change, pack_metadata
from policies.retention import retention_s
from policies.seal import MAX_BYTES, unseal
from policies.usage import MAX_CHARACTERS, REASON, STATEMENTS, UsagePolicy
from policies.vocabulary import Vocabulary, vocabulary_of

FORMAT = 1
MAX_PAYLOAD_BYTES = MAX_BYTES + 64 * 1024 + 4 * len(STATEMENTS) * MAX_CHARACTERS
MAX_PACKS = 64
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
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
    "usage_policy": dict,
    "next_change": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One version of a node's policy. `policy`: a sealed text; `packs`: what it was made of; from, up to before to.

    `next_change`: the first later day (UTC) on which a rule of the packs begins or ceases to hold, None if none will.
    """

    federation: str
    node: str
    agency: str
    version: int
    valid_from: dt.datetime
    valid_to: dt.datetime
    packs: tuple[str, ...]
    policy: str
    usage_policy: UsagePolicy | None
    next_change: dt.date | None

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
    usage_policy: UsagePolicy | None = None,
    beside: Path | None = None,
) -> bytes:
    """The payload to sign. `policy` is the sealed text of `load_packs`; times are cut to whole seconds.

    `valid_to` is brought forward to the beginning (UTC) of the next day on which a rule of the packs begins or ceases
    to hold: a bundle holds the rules of its making, and must not outlive them. `beside`: as in `load_packs`.

    Raises:
        PolicyError: what `parse_bundle` would refuse at `valid_from`, a node or a posted purpose that is not
            registered, or no pack of that name.
    """
    if usage_policy is not None:
        usage_policy.check_registered(federation)
    change = next_change(packs, valid_from.astimezone(dt.UTC).date(), beside)
    if change is not None:
        valid_to = min(valid_to, _midnight(change))
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
            "usage_policy": usage_policy.as_json() if usage_policy else {},
            "next_change": change.isoformat() if change else "",
        }
    )
    parse_bundle(payload, federation, valid_from)
    return payload


def parse_bundle(payload: bytes, federation: Federation, now: dt.datetime) -> Bundle:
    """The bundle in `payload`, fit to be used at `now` (aware). Its signature is the caller's to verify first.

    Raises:
        PolicyError: BUNDLE_MALFORMED (not canonical JSON, a key missing or unknown, another format, a policy that
            is not sealed), BUNDLE_MISDIRECTED (another federation, an unknown node, another agency's node),
            BUNDLE_USAGE_POLICY (incomplete, or missing where a pack asks for one), BUNDLE_EXPIRED,
            BUNDLE_NOT_YET_VALID.
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
        usage_policy=UsagePolicy.parse(raw["usage_policy"]) if raw["usage_policy"] else None,
        next_change=_day(raw["next_change"]),
    )
    if bundle.valid_from >= bundle.valid_to:
        raise _malformed("valid_to must be later than valid_from")
    if bundle.next_change is not None and bundle.valid_to > _midnight(bundle.next_change):
        raise _malformed("valid_to must not be later than next_change")
    unseal(bundle.policy, f"bundle of {bundle.node}")
    _check_address(bundle, federation)
    _check_usage_policy(bundle, federation)
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
    vocabulary = words if isinstance(words, Vocabulary) else vocabulary_of(words)
    return compiled(bundle.policy, vocabulary, bundle.usage_policy.posted(vocabulary) if bundle.usage_policy else None)


def check_posted(bundle: Bundle, policy: Policy) -> None:
    """Return if its rules on the posted purposes have a usage policy to rest on: else they would refuse nothing.

    Raises:
        PolicyError: BUNDLE_USAGE_POLICY, naming the first such rule.
    """
    for rule in policy.rules if bundle.usage_policy is None else ():
        if UNPOSTED in rule.condition.needs | rule.condition.bars:
            message = f"{rule.row} rests on a usage policy, and none is posted"
            raise PolicyError(message, file="bundle", reason=REASON)


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


def _check_usage_policy(bundle: Bundle, federation: Federation) -> None:
    """Source: Cal. Civ. Code 1798.90.51(b) (rule CA-5): posted before the node is active."""
    if bundle.usage_policy is not None:
        return
    for pack in (*federation.nodes[bundle.node].presets, *bundle.packs):
        known = pack_metadata(pack) if (PACKS / f"{pack}.csv").is_file() else None
        if known is not None and known.usage_policy:
            raise PolicyError(f"pack {pack} asks for a usage policy, and none is posted", file="bundle", reason=REASON)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _day(text: str) -> dt.date | None:
    if not text:
        return None
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError:
        pass
    raise _malformed("next_change must be empty or a day like 2026-01-31")


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
