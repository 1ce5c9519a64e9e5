"""A small federation with real keys and certificates, and a forger who signs what no honest authority would."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity import certificates, keys
from identity.authority import Authority
from identity.directory import Directory
from identity.folder import DIRECTORY_FILE, IdentityFolder, write_identity
from identity.names import SpiffeId
from identity.publish import sign_directory
from identity.signing import Signer

NOW = dt.datetime(2030, 5, 1, 12, 0, tzinfo=dt.UTC)
FEDERATION = "test-exchange"
ALDER, BRAZOS = "us-ca-alder-pd", "us-tx-brazos-pd"
REGISTRY: dict[str, Any] = {
    "federation": {"id": FEDERATION, "presets": [], "witnesses": ["alder-1"], "quorum": 1},
    "purposes": {"any-purpose": "", "stolen-vehicle": "any-purpose"},
    "roles": {"any-role": "", "searcher": "any-role", "investigator": "searcher", "supervisor": "searcher"},
    "jurisdictions": {"us": "", "us/ca": "us", "us/tx": "us"},
    "agency": [
        {
            "id": ALDER,
            "name": "Alder Police",
            "kind": "municipal",
            "jurisdiction": "us/ca",
            "does": ["law-enforcement"],
        },
        {"id": BRAZOS, "name": "Brazos Police", "kind": "municipal", "jurisdiction": "us/tx", "does": []},
    ],
    "node": [
        {"id": "alder-1", "agency": ALDER, "source": "police", "retention_s": 86400},
        {"id": "brazos-1", "agency": BRAZOS, "source": "police", "retention_s": 86400},
    ],
    "agreement": [{"kind": "declaration", "from": BRAZOS, "to": ALDER, "expires": dt.date(2031, 1, 1)}],
}
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def name(agency: str, kind: str, id_: str) -> SpiffeId:
    return SpiffeId(trust_domain=agency, kind=kind, id=id_)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two agencies and the federation, their authorities under `root`, made 30 days before `at`."""

    root: Path
    at: dt.datetime
    federation: Authority
    alder: Authority
    brazos: Authority

    @classmethod
    def make(cls, root: Path, at: dt.datetime = NOW) -> World:
        def made(id_: str) -> Authority:
            return Authority.create(root / id_, id_, at=at - dt.timedelta(days=30))

        return cls(root=root, at=at, federation=made(FEDERATION), alder=made(ALDER), brazos=made(BRAZOS))

    def signed_directory(self, **changes: Any) -> bytes:
        content: dict[str, Any] = {
            "version": 7,
            "issued_at": self.at,
            "federation": REGISTRY,
            "authorities": {ALDER: [self.alder.certificate], BRAZOS: [self.brazos.certificate]},
        }
        return sign_directory(self.federation, **(content | changes))

    def directory(self, **changes: Any) -> Directory:
        return Directory.parse(self.signed_directory(**changes), self.federation.certificate)

    def signer(self, authority: Authority, spiffe: SpiffeId, *, key: Any = None, **kw: Any) -> Signer:
        key = key or keys.new_signing_key()
        leaf = authority.issue(spiffe, key.public_key(), **({"at": self.at} | kw))
        return Signer(key=key, chain=(certificates.der(leaf), certificates.der(authority.certificate)))

    def person(self, id_: str = "t-reyes", **kw: Any) -> Signer:
        return self.signer(self.alder, name(ALDER, "person", id_), **({"role": "investigator"} | kw))

    def folder(self, authority: Authority, spiffe: SpiffeId, directory: bytes = b"", **kw: Any) -> IdentityFolder:
        path = self.root / "identities" / spiffe.trust_domain / spiffe.kind / spiffe.id
        key = keys.new_signing_key()
        leaf = authority.issue(spiffe, key.public_key(), **({"at": self.at} | kw))
        anchor = certificates.pem(self.federation.certificate)
        write_identity(path, key, (leaf, authority.certificate), federation_pem=anchor)
        if directory:
            (path / DIRECTORY_FILE).write_bytes(directory)
        return IdentityFolder.load(path)


def forge(
    authority: Authority,
    uris: Sequence[str],
    *,
    at: dt.datetime = NOW,
    key: Any = None,
    role: str | None = "investigator",
    usages: Sequence[x509.ObjectIdentifier] | None = CLIENT,
    is_ca: bool = False,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
    begin: dt.datetime | None = None,
    end: dt.datetime | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    dns: Sequence[str] = (),
) -> bytes:
    """A leaf in DER signed by `authority` with whatever is asked; by default it is a good person's certificate."""
    public = (key or ec.generate_private_key(ec.SECP256R1())).public_key()
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, "someone")]
    if role is not None:
        subject.append(x509.NameAttribute(NameOID.TITLE, role))
    usage = x509.KeyUsage(True, False, False, False, False, is_ca, False, False, False)
    ski = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or at - dt.timedelta(minutes=1))
        .not_valid_after(end or at + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
    )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(u) for u in uris]
    names += [x509.DNSName(d) for d in dns]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return certificates.der(builder.sign(authority.key, digest or hashes.SHA256()))
