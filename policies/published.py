"""A node's policy as its agency published it: signed by the agency's policy key, then read strictly."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

from comity.errors import PolicyError
from identity.directory import Directory
from identity.dsse import verify_bundle_signature
from policies.bundle import compile_bundle, parse_bundle
from policies.engine import Policy

MAX_BUNDLE_BYTES = 2 * 1024 * 1024


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
        NotAuthentic: not signed by the policy key that the directory pins for the node's agency.
        PolicyError: for another node or federation, expired, or a text that the strict loader refuses.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise PolicyError("larger than 2 MiB", reason="BUNDLE_TOO_LARGE")
    agency = directory.federation.nodes[node].agency
    payload = verify_bundle_signature(data, directory.policy_keys_of(agency))
    bundle = parse_bundle(payload, directory.federation, now)
    if bundle.node != node:
        raise PolicyError("the bundle is another node's", reason="WRONG_NODE")
    return Published(
        node=node,
        version=bundle.version,
        bundle_hash=hashlib.sha256(payload).digest(),
        valid_to=bundle.valid_to,
        retention_s=bundle.retention_s(directory.federation.nodes[node]),
        policy=compile_bundle(bundle, directory.federation),
        data=data,
    )
