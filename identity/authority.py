"""A certificate authority: an agency's, for its persons, nodes and cameras, or the federation's, for brokers."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from comity.errors import ConfigError, InvalidInput
from identity import certificates, files, keys
from identity.names import BROKER, NODE, PERSON, SpiffeId, parse_trust_domain, trust_domain_uri

KEY_FILE = "ca-key.pem"
CERTIFICATE_FILE = "ca.pem"
AUTHORITY_YEARS = 10
DEFAULT_TTL = dt.timedelta(hours=12)
MIN_TTL = dt.timedelta(minutes=1)
MAX_TTL = dt.timedelta(days=90)
MAX_HOSTS = 16
# Clocks of one federation differ by seconds: a certificate must not be "not yet valid" where it is first used.
BACKDATE = dt.timedelta(minutes=1)

# A node serves TLS on its ingest socket, a broker to everybody; persons and cameras only call.
USAGES: dict[str, frozenset[x509.ObjectIdentifier]] = {
    PERSON: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
    "camera": frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
    NODE: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    BROKER: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
}
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")
_ROLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The key and certificate of one trust domain."""

    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, folder: Path, trust_domain: str, *, at: dt.datetime, name: str = "") -> Authority:
        """A new authority, valid for ten years from `at`, written to `folder`; `name` is for people.

        Raises:
            InvalidInput: BAD_NAME.
            ConfigError: FILE_EXISTS (an authority is never overwritten) or FILE_UNWRITABLE.
        """
        key = keys.new_signing_key()
        certificate = _self_signed(key, trust_domain, name or trust_domain, at)
        files.make_folder(folder)
        keys.write_key(folder / KEY_FILE, key)
        files.write_new(folder / CERTIFICATE_FILE, certificates.pem(certificate), mode=files.PUBLIC)
        return cls(trust_domain=trust_domain, certificate=certificate, key=key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority in `folder`, as `create` wrote it.

        Raises:
            ConfigError: FILE_UNREADABLE, KEY_EXPOSED, BAD_KEY, BAD_CERTIFICATE or KEY_MISMATCH.
        """
        key = keys.load_signing_key(folder / KEY_FILE)
        path = folder / CERTIFICATE_FILE
        found = certificates.from_pem(files.read(path, max_bytes=certificates.MAX_PEM_BYTES), what=str(path))
        fault = "" if len(found) == 1 else "it must be the only certificate in the file"
        fault = fault or certificates.authority_fault(found[0])
        if fault:
            raise ConfigError(f"{path} is no authority's certificate: {fault}", reason="BAD_CERTIFICATE")
        if found[0].public_key() != key.public_key():
            raise ConfigError(f"{path} does not belong to {KEY_FILE} beside it", reason="KEY_MISMATCH")
        return cls(trust_domain=trust_domain_of(found[0]), certificate=found[0], key=key)

    def issue(
        self,
        name: SpiffeId,
        public_key: ec.EllipticCurvePublicKey,
        *,
        at: dt.datetime,
        role: str = "",
        hosts: Sequence[str] = (),
        ttl: dt.timedelta = DEFAULT_TTL,
    ) -> x509.Certificate:
        """A certificate for `name`, valid from a minute before `at` until `ttl` (a minute to 90 days) after.

        `role` becomes the subject's title: for persons, and only for them. `hosts` are DNS names and IP addresses:
        at least one for a broker, any number up to 16 for a node, none for others.

        Raises:
            ConfigError: WRONG_AUTHORITY (another trust domain), WRONG_ROLE, BAD_HOST, BAD_TTL, BAD_KEY, or
                CERTIFICATE_EXPIRED (the authority's own).
        """
        self._check(name, public_key, role, hosts, ttl)
        begin = max(at - BACKDATE, self.certificate.not_valid_before_utc).replace(microsecond=0)
        end = min(at + ttl, self.certificate.not_valid_after_utc).replace(microsecond=0)
        if not self.certificate.not_valid_before_utc <= at < self.certificate.not_valid_after_utc:
            raise ConfigError(
                f"the authority {self.trust_domain} is not valid now: make a new one", reason="CERTIFICATE_EXPIRED"
            )
        subject = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, name.id),
        ]
        if role:
            subject.append(x509.NameAttribute(NameOID.TITLE, role))
        names = [x509.UniformResourceIdentifier(str(name)), *(_host(h) for h in hosts)]
        usages = sorted(USAGES[name.kind], key=lambda o: o.dotted_string)
        ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _check(self, name: SpiffeId, key: object, role: str, hosts: Sequence[str], ttl: dt.timedelta) -> None:
        if name.trust_domain != self.trust_domain:
            raise ConfigError(
                f"the authority {self.trust_domain} does not speak for {name.trust_domain}", reason="WRONG_AUTHORITY"
            )
        if (name.kind == PERSON) != bool(role) or (role and not _ROLE.match(role)):
            raise ConfigError("a person needs one role (--role), and nobody else has one", reason="WRONG_ROLE")
        if (hosts and name.kind not in (NODE, BROKER)) or (name.kind == BROKER and not hosts):
            raise ConfigError("a broker needs a host name, a node may have one, others have none", reason="BAD_HOST")
        if len(hosts) > MAX_HOSTS:
            raise ConfigError(f"at most {MAX_HOSTS} host names", reason="BAD_HOST")
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise ConfigError("a certificate is valid for one minute to 90 days", reason="BAD_TTL")
        if not keys.is_p256(key):
            raise ConfigError("the key must be an ECDSA key on P-256", reason="BAD_KEY")


def trust_domain_of(certificate: x509.Certificate) -> str:
    """The trust domain that an authority's certificate names as its own.

    Raises:
        ConfigError: BAD_CERTIFICATE, it names none.
    """
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = san.get_values_for_type(x509.UniformResourceIdentifier)
        return parse_trust_domain(uri)
    except (*certificates.BAD_DER, x509.ExtensionNotFound, InvalidInput):
        raise ConfigError("the authority's certificate names no trust domain", reason="BAD_CERTIFICATE") from None


def _self_signed(key: ec.EllipticCurvePrivateKey, trust_domain: str, name: str, at: dt.datetime) -> x509.Certificate:
    uri = trust_domain_uri(trust_domain)
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise InvalidInput("an authority's name for people must be 1 to 64 printable characters", reason="BAD_NAME")
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, trust_domain)]
    )
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((at - BACKDATE).replace(microsecond=0))
        .not_valid_after((at + dt.timedelta(days=365.25 * AUTHORITY_YEARS)).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(ski, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    # Digital signature stays on for authorities: the federation's key signs the directory too.
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.match(text):
            raise ConfigError(
                "a host must be an IP address or a DNS name in small letters", reason="BAD_HOST"
            ) from None
        return x509.DNSName(text)
