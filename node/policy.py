"""The node's own policy in force, and how a new one takes its place."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path

from audit.entry import Draft, policy_entry
from audit.log import DecisionLog
from comity.decision import KNOWN_OBLIGATIONS, NO_OBLIGATIONS, Decision, Effect
from comity.errors import ConfigError, InvalidInput, NotAuthentic, PolicyError
from identity.directory import Directory
from node.model import Trusted
from policies.engine import Policy
from policies.published import MAX_BUNDLE_BYTES, Published, open_published

FILE = "policy.bundle.json"
POLICY_CHANGED = "POLICY_CHANGED"
NOT_YET_VALID = "BUNDLE_NOT_YET_VALID"


class OwnPolicy:
    """The bundle in the node's state folder, signed by its agency. A file that is refused changes nothing."""

    def __init__(self, path: Path, directory: Directory, node: str, published: Published) -> None:
        self._path = path
        self._directory = directory
        self._node = node
        self._seen = published.data
        self._refused: bytes | None = None
        self.published = published

    @classmethod
    def load(cls, path: Path, directory: Directory, node: str, now: dt.datetime) -> OwnPolicy:
        """The policy in `path`.

        Raises:
            ConfigError: no such file.
            NotAuthentic, PolicyError, InvalidInput: as `open_published`.
        """
        return cls(path, directory, node, open_published(_read(path), directory, node, now))

    def in_force(self, now: dt.datetime) -> Policy | None:
        """What decides now; None once it has expired, and None permits nothing."""
        return self.published.policy if now < self.published.valid_to else None

    async def renew(self, log: DecisionLog, now: dt.datetime) -> bool:
        """Take up the file if it has changed. False if it has not, or is refused: then the old one stays.

        Either is recorded once.

        Raises:
            Unavailable, Exhausted, LogBroken: it could not be recorded.
        """
        try:
            data = _read(self._path)
        except ConfigError:
            data = b""
        if data == self._seen:
            return False
        try:
            new = self._opened(data, now)
        except (NotAuthentic, PolicyError, InvalidInput) as error:
            if data != self._refused:
                await log.append([refused_entry(self._node, data, error.reason)])
                self._refused = data
            if error.reason != NOT_YET_VALID:  # that one mends itself
                self._seen = data
            return False
        await log.append([taken_up_entry(new)])
        # only now: what could not be recorded is looked at again, or a stricter policy would never come into force
        self._seen, self.published = data, new
        return True

    def _opened(self, data: bytes, now: dt.datetime) -> Published:
        old, new = self.published, open_published(data, self._directory, self._node, now)
        if new.version < old.version:
            raise PolicyError("older than the policy that is in force", reason="POLICY_OLDER")
        if new.version == old.version and new.bundle_hash != old.bundle_hash:
            # brokers refuse it, so under it this node would refuse whatever they permit
            raise PolicyError("another policy of the version that is in force", reason="POLICY_OLDER")
        return new


def held_against(decision: Decision, trusted: Trusted) -> Decision:
    """The node's decision, or a refusal where the broker decided under something else than this node does.

    OBLIGATION_UNKNOWN: the broker recorded one that this version cannot enforce. POLICY_CHANGED: a permit of both,
    but under different versions of this node's policy; a refusal of the node's own stands as it is.
    """
    unknown = trusted.obligations - KNOWN_OBLIGATIONS
    if unknown:
        reason = f"refused: the broker names {len(unknown)} obligations that this node cannot enforce"
        return _refusal(decision, "OBLIGATION_UNKNOWN", reason)
    if decision.effect is Effect.PERMIT and trusted.policy_digest != decision.policy_digest:
        reason = "refused: the broker decided under another version of this node's policy; ask again in a moment"
        return _refusal(decision, POLICY_CHANGED, reason)
    return decision


def _refusal(decision: Decision, code: str, reason: str) -> Decision:
    return replace(decision, effect=Effect.DENY, obligations=NO_OBLIGATIONS, reason_code=code, reason=reason, quotas=())


def taken_up_entry(published: Published) -> Draft:
    """The log entry that says from where on this policy decided."""
    return policy_entry(
        node=published.node,
        digest=published.policy.digest,
        version=published.version,
        bundle_hash=published.bundle_hash,
        taken_up=True,
    )


def refused_entry(node: str, data: bytes, reason: str) -> Draft:
    """The log entry that says that a policy file was refused."""
    bundle_hash = hashlib.sha256(data).digest()
    return policy_entry(node=node, digest="", version=0, bundle_hash=bundle_hash, taken_up=False, reason=reason)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(MAX_BUNDLE_BYTES + 1)
    except OSError:
        raise ConfigError(f"{path} cannot be read: publish the node's policy there", reason="NO_POLICY") from None
