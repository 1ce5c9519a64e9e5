"""A node's policy as its agency published it: signed by the agency's policy key, then read strictly."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, replace

from comity.decision import Decision
from comity.errors import PolicyError
from identity.directory import Directory
from identity.dsse import verify_bundle_signature
from policies.bundle import check_posted, compile_bundle, parse_bundle
from policies.engine import Policy

MAX_BUNDLE_BYTES = 2 * 1024 * 1024
NO_POLICY, EXPIRED = "NO_POLICY", "POLICY_EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A policy in force. `bundle_hash` is the SHA-256 of the signed payload; `valid_to` is exclusive.

    `retention_s`: the least of the directory's and of the packs in it.
    """

    node: str
    version: int
    bundle_hash: bytes
    valid_to: dt.datetime
    retention_s: int
    policy: Policy
    data: bytes


def open_published(data: bytes, directory: Directory, node: str, now: dt.datetime) -> Published:
    """The policy in a signed bundle for `node`.

    Raises:
        NotAuthentic: not signed by as many of the policy keys that the directory pins for the node's agency as it
            asks for.
        PolicyError: for another node or federation, expired, revoked by the directory's minimum (POLICY_REVOKED), or
            a text that the strict loader refuses, or rules on posted purposes without any posted.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise PolicyError("larger than 2 MiB", reason="BUNDLE_TOO_LARGE")
    registered = directory.federation.nodes[node]
    agency = directory.federation.agencies[registered.agency]
    payload = verify_bundle_signature(data, directory.policy_keys_of(agency.id), least=agency.policy_signatures)
    bundle = parse_bundle(payload, directory.federation, now)
    if bundle.node != node:
        raise PolicyError("the bundle is another node's", reason="WRONG_NODE")
    if bundle.version < registered.policy_minimum:
        raise PolicyError(f"versions before {registered.policy_minimum} are revoked", reason="POLICY_REVOKED")
    policy = compile_bundle(bundle, directory.federation)
    check_posted(bundle, policy)
    return Published(
        node=node,
        version=bundle.version,
        bundle_hash=hashlib.sha256(payload).digest(),
        valid_to=bundle.valid_to,
        retention_s=bundle.retention_s(registered),
        policy=policy,
        data=data,
    )


def with_expiry(decision: Decision, published: Published | None) -> Decision:
    """The decision on a node whose policy is not in force, with the true reason if it was shown and has expired since.

    To be asked only where the decider was given no policy of the node's.
    """
    if decision.reason_code != NO_POLICY or published is None:
        return decision
    reason = (
        f"refused: the node's policy was valid to {published.valid_to:%Y-%m-%d %H:%M} UTC, and no later one is known"
    )
    return replace(decision, reason_code=EXPIRED, reason=reason)
