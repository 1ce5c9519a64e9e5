"""The directory: one signed, versioned file that says who is who in a federation.

It pins every agency's authority, the brokers' authority, and the keys of policies, logs and witnesses; it holds the
registry itself and the deny list. A participant trusts one thing beforehand: the federation's own certificate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from comity.envelope import DIRECTORY_TYPE
from comity.errors import ConfigError, InvalidInput, NotAuthentic
from comity.federation import Federation
from identity import certificates, dsse, files
from identity.auditors import Recipient
from identity.keys import is_p256
from identity.pseudonym_key import SealedPseudonymKey

# Beyond 500 agencies with a certificate of 1 kB each; a file that is larger is not read to its end.
MAX_DIRECTORY_BYTES = dsse.MAX_FILE_BYTES
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A pinned authority and whose it is; `federation`: it speaks for brokers and for nothing else."""

    trust_domain: str
    federation: bool
    certificate: x509.Certificate
    der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """A decision log's checkpoint key; `program` is `broker` or `node`, `id` which one."""

    origin: str
    key: Ed25519PublicKey
    program: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Directory:
    """A verified directory. Two are equal if their payloads are; `digest` is the payload's SHA-256 in hex.

    `witnesses`: a node's id, or `broker/ID`, and the key that it cosigns others' logs with.
    """

    version: int
    issued_at: dt.datetime
    digest: str
    federation: Federation
    anchors: tuple[Anchor, ...]
    by_subject: Mapping[bytes, tuple[Anchor, ...]]
    policy_keys: Mapping[str, tuple[ec.EllipticCurvePublicKey, ...]]
    logs: Mapping[str, LogKey]
    witnesses: Mapping[str, Ed25519PublicKey]
    denied: frozenset[str]
    auditors: tuple[Recipient, ...] = ()
    pseudonym_key: SealedPseudonymKey | None = None

    @classmethod
    def load(cls, path: Path, anchor_path: Path, *, minimum_version: int = 0) -> Directory:
        """The directory in `path`, signed by the federation whose certificate is in `anchor_path`.

        `minimum_version` is the highest version seen before: an older one would bring a revoked certificate back.

        Raises:
            ConfigError: FILE_UNREADABLE, FILE_TOO_LARGE, DIRECTORY_ANCHOR, or as `parse`.
        """
        found = certificates.from_pem(
            files.read(anchor_path, max_bytes=certificates.MAX_PEM_BYTES), what=str(anchor_path)
        )
        if len(found) != 1:
            raise ConfigError(f"{anchor_path} must hold the federation's one certificate", reason="DIRECTORY_ANCHOR")
        data = files.read(path, max_bytes=MAX_DIRECTORY_BYTES)
        return cls.parse(data, found[0], minimum_version=minimum_version)

    @classmethod
    def parse(cls, data: bytes, anchor: x509.Certificate, *, minimum_version: int = 0) -> Directory:
        """The directory in `data`, signed by the key of `anchor`.

        Raises:
            ConfigError: DIRECTORY_ANCHOR (not an authority's certificate), DIRECTORY_MALFORMED (cut off or not one),
                DIRECTORY_SIGNATURE (not signed by the anchor), DIRECTORY_OLD, DIRECTORY_UNKNOWN_KEY,
                DIRECTORY_FEDERATION (the registry in it), DIRECTORY_UNREGISTERED, DIRECTORY_AUTHORITY,
                DIRECTORY_SHARED_AUTHORITY, DIRECTORY_VALUE.
        """
        # Imported here because the reader builds this very class.
        from identity.directory_reader import read_payload

        payload = _verified_payload(data, anchor)
        directory = read_payload(payload)
        if directory.version < minimum_version:
            raise ConfigError(
                f"the directory has version {directory.version}, and {minimum_version} was seen before: "
                "fetch the current one from the federation",
                reason="DIRECTORY_OLD",
            )
        return directory

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Directory) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def authorities_of(self, agency: str) -> tuple[x509.Certificate, ...]:
        """The pinned certificates of one agency, in the directory's order; none if it has pinned none."""
        return tuple(a.certificate for a in self.anchors if not a.federation and a.trust_domain == agency)

    @property
    def agency_authorities(self) -> tuple[x509.Certificate, ...]:
        """The pinned certificates of all agencies."""
        return tuple(a.certificate for a in self.anchors if not a.federation)

    @property
    def broker_authorities(self) -> tuple[x509.Certificate, ...]:
        """The pinned certificates that speak for brokers."""
        return tuple(a.certificate for a in self.anchors if a.federation)

    def policy_keys_of(self, agency: str) -> tuple[ec.EllipticCurvePublicKey, ...]:
        """The keys that may sign the agency's policy bundles; none if it has registered none."""
        return self.policy_keys.get(agency, ())

    def is_denied(self, fingerprint: str) -> bool:
        """True if the certificate of that fingerprint (SHA-256, hex) is revoked."""
        return fingerprint in self.denied

    def is_leaf_role(self, role: str) -> bool:
        """True if `role` is registered and is no other role's parent: groups are for policies, not for people."""
        roles = self.federation.roles
        return role in roles and role not in roles.values()


def format_time(at: dt.datetime) -> str:
    """`at` in UTC to the second, as the directory writes it.

    Raises:
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a time needs its zone")
    return at.astimezone(dt.UTC).strftime(_TIME)


def parse_time(text: str) -> dt.datetime:
    """The time in `text`, in UTC.

    Raises:
        ValueError: not exactly as `format_time` writes it.
    """
    at = dt.datetime.strptime(text, _TIME).replace(tzinfo=dt.UTC)
    if format_time(at) != text:
        raise ValueError("not a canonical time")
    return at


def _verified_payload(data: bytes, anchor: x509.Certificate) -> bytes:
    fault = certificates.authority_fault(anchor)
    key = anchor.public_key()
    if fault or not is_p256(key):
        raise ConfigError(f"the federation's certificate cannot be trusted: {fault}", reason="DIRECTORY_ANCHOR")
    try:
        return dsse.verify_with_keys(data, [key], payload_type=DIRECTORY_TYPE)
    except InvalidInput as e:
        raise ConfigError(f"the directory is not whole: {e}; fetch it again", reason="DIRECTORY_MALFORMED") from None
    except NotAuthentic as e:
        raise ConfigError(
            f"the directory is not from this federation: {e}; fetch it again and compare the federation's certificate",
            reason="DIRECTORY_SIGNATURE",
        ) from None
