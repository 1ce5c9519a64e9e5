"""From a certificate chain to an identity, or a refusal that says why.

    1  the leaf is one well-formed certificate                     BAD_CERTIFICATE
    2  a pinned authority signed it: that decides whose it is      WRONG_AUTHORITY
    3  P-256, SHA-256, and the X.509 rules hold                    BAD_CERTIFICATE
    4  one name, in that authority's trust domain, of a kind
       that the authority may speak for                            BAD_NAME, WRONG_AUTHORITY
    5  the key usages are those of its kind                        BAD_CERTIFICATE
    6  a person's role is registered, a node is its agency's       WRONG_ROLE, BAD_NAME
    7  further certificates sent along are the pinned one          WRONG_AUTHORITY
    8  it is of the kind that the caller expects                   WRONG_KIND
    9  it is not revoked                                           CERTIFICATE_REVOKED
    10 it is valid now            CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID

Steps 1 to 6 do not depend on the time and are remembered a leaf and a directory; 7 to 10 are done on every call.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from comity.envelope import MAX_CERTIFICATE_BYTES, MAX_CHAIN
from comity.errors import ConfigError, InvalidInput, NotAuthentic
from identity import certificates
from identity.authority import USAGES
from identity.directory import Anchor, Directory
from identity.keys import is_p256
from identity.names import BROKER, CAMERA, NODE, PERSON, SpiffeId

REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a certificate proves. `agency` is the federation's id for brokers; `role` is empty for all but persons."""

    spiffe: SpiffeId
    agency: str
    role: str
    not_before: dt.datetime
    not_after: dt.datetime
    fingerprint: str

    @property
    def kind(self) -> str:
        """`person`, `node`, `camera` or `broker`."""
        return self.spiffe.kind

    @property
    def id(self) -> str:
        """The last part of the name, unique within agency and kind."""
        return self.spiffe.id


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLeaf:
    """An identity with the key that speaks for it; `fingerprints` are all under which the leaf may be denied."""

    identity: Identity
    public_key: ec.EllipticCurvePublicKey
    anchor: Anchor
    fingerprints: tuple[str, str]


def verify_chain(chain: Sequence[bytes], directory: Directory, at: dt.datetime, *, kind: str | None = None) -> Identity:
    """Who `chain` (DER, leaf first) proves at the time `at`; `kind`: only an identity of that kind will do.

    Raises:
        NotAuthentic: WRONG_AUTHORITY, CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID, CERTIFICATE_REVOKED,
            WRONG_KIND, WRONG_ROLE, BAD_NAME or BAD_CERTIFICATE.
    """
    return verify_leaf(chain, directory, at, kind=kind).identity


def verify_leaf(
    chain: Sequence[bytes], directory: Directory, at: dt.datetime, *, kind: str | None = None
) -> VerifiedLeaf:
    """As `verify_chain`, with the leaf's key: for whoever verifies a signature next.

    Raises:
        NotAuthentic: as `verify_chain`.
    """
    if not 1 <= len(chain) <= MAX_CHAIN or not all(0 < len(c) <= MAX_CERTIFICATE_BYTES for c in chain):
        raise NotAuthentic("not a certificate chain of normal size", reason="BAD_CERTIFICATE")
    leaf = _prove(bytes(chain[0]), directory)
    identity = leaf.identity
    if any(c != leaf.anchor.der for c in chain[1:]):
        raise NotAuthentic("the chain holds an authority that is not the pinned one", reason="WRONG_AUTHORITY")
    if kind is not None and identity.kind != kind:
        raise NotAuthentic(f"a {kind} is expected here, not a {identity.kind}", reason="WRONG_KIND")
    if any(directory.is_denied(f) for f in leaf.fingerprints):
        raise NotAuthentic(f"the certificate of {identity.spiffe} is revoked", reason="CERTIFICATE_REVOKED")
    if at < identity.not_before:
        raise NotAuthentic(
            f"the certificate of {identity.spiffe} is not valid yet: check the clock",
            reason="CERTIFICATE_NOT_YET_VALID",
        )
    if at >= identity.not_after:
        raise NotAuthentic(
            f"the certificate of {identity.spiffe} has expired: run comity identity renew", reason="CERTIFICATE_EXPIRED"
        )
    return leaf


def verify_peer_pem(pem: bytes, directory: Directory, at: dt.datetime, *, kind: str | None = None) -> Identity:
    """Who a TLS peer is, from its leaf in PEM as gRPC hands it over. To be asked on every call.

    An open channel outlives its certificate: TLS looked at it only when the channel was opened.

    Raises:
        NotAuthentic: as `verify_chain`.
    """
    try:
        found = certificates.from_pem(pem, what="the peer's certificate")
    except ConfigError as e:
        raise NotAuthentic(str(e), reason="BAD_CERTIFICATE") from None
    if len(found) != 1:
        raise NotAuthentic("one certificate is expected from the peer", reason="BAD_CERTIFICATE")
    return verify_chain((certificates.der(found[0]),), directory, at, kind=kind)


# Refusals are not remembered: only what an authority signed takes up room, so strangers cannot push it out.
@lru_cache(maxsize=REMEMBERED)
def _prove(der: bytes, directory: Directory) -> VerifiedLeaf:
    try:
        return _proven(x509.load_der_x509_certificate(der), directory)
    except certificates.BAD_DER:
        # The library reads names, dates and extensions only when they are asked for, so any step below can find
        # them malformed.
        raise NotAuthentic("not a well-formed certificate", reason="BAD_CERTIFICATE") from None


def _proven(certificate: x509.Certificate, directory: Directory) -> VerifiedLeaf:
    key, extensions = certificate.public_key(), certificate.extensions
    anchor = _signed_by(certificate, directory)
    if not is_p256(key):
        raise NotAuthentic("the key must be an ECDSA key on P-256", reason="BAD_CERTIFICATE")
    fingerprints = _checked(certificate, anchor)
    name = _name(extensions, anchor)
    _check_usages(extensions, name.kind)
    identity = Identity(
        spiffe=name,
        agency=anchor.trust_domain,
        role=_role(certificate, name, directory),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=fingerprints[0],
    )
    return VerifiedLeaf(identity=identity, public_key=key, anchor=anchor, fingerprints=fingerprints)


def _signed_by(certificate: x509.Certificate, directory: Directory) -> Anchor:
    # Two authorities may carry the same subject, by chance or to deceive: only the signature tells them apart.
    for anchor in directory.by_subject.get(certificate.issuer.public_bytes(), ()):
        try:
            certificate.verify_directly_issued_by(anchor.certificate)
        except (*certificates.BAD_DER, InvalidSignature):
            continue
        return anchor
    raise NotAuthentic("no pinned authority signed this certificate", reason="WRONG_AUTHORITY")


def _checked(certificate: x509.Certificate, anchor: Anchor) -> tuple[str, str]:
    """Step 3; the validity must lie within the authority's, so that later only the leaf's is compared."""
    ca = anchor.certificate
    nested = (
        ca.not_valid_before_utc <= certificate.not_valid_before_utc
        and certificate.not_valid_after_utc <= ca.not_valid_after_utc
    )
    try:
        if not nested or not isinstance(certificate.signature_hash_algorithm, hashes.SHA256):
            raise ValueError
        verifier = (
            PolicyBuilder()
            .store(Store([ca]))
            .time(certificate.not_valid_before_utc)
            .max_chain_depth(0)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.webpki_defaults_ee()
            )
            .build_client_verifier()
        )
        verifier.verify(certificate, [])
        return certificates.fingerprints(certificate)
    except (*certificates.BAD_DER, VerificationError):
        # The library's message is dropped: it can quote the certificate's content.
        raise NotAuthentic("the certificate breaks the rules of X.509", reason="BAD_CERTIFICATE") from None


def _name(extensions: x509.Extensions, anchor: Anchor) -> SpiffeId:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        name = SpiffeId.parse(uri)
    except (x509.ExtensionNotFound, ValueError, InvalidInput):
        raise NotAuthentic("the certificate has no single name of this federation", reason="BAD_NAME") from None
    if name.trust_domain != anchor.trust_domain:
        raise NotAuthentic(
            f"the authority of {anchor.trust_domain} does not speak for {name.trust_domain}", reason="WRONG_AUTHORITY"
        )
    if (name.kind == BROKER) != anchor.federation:
        raise NotAuthentic(
            "only the federation's authority speaks for brokers, and for nothing else", reason="WRONG_AUTHORITY"
        )
    if len(names) != 1 and name.kind in (PERSON, CAMERA):
        raise NotAuthentic(f"a {name.kind} has one name only", reason="BAD_NAME")
    return name


def _check_usages(extensions: x509.Extensions, kind: str) -> None:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise NotAuthentic("the certificate does not say what it is for", reason="BAD_CERTIFICATE") from None
    if not usage.digital_signature or frozenset(extended) != USAGES[kind]:
        raise NotAuthentic(f"the certificate's key usages are not a {kind}'s", reason="BAD_CERTIFICATE")


def _role(certificate: x509.Certificate, name: SpiffeId, directory: Directory) -> str:
    titles = certificate.subject.get_attributes_for_oid(NameOID.TITLE)
    if name.kind == PERSON:
        if len(titles) != 1 or not directory.is_leaf_role(str(titles[0].value)):
            right = [r for r in directory.federation.roles if directory.is_leaf_role(r)]
            words = f"the certificate does not name one registered role; right is {', '.join(right[:20])}"
            raise NotAuthentic(words, reason="WRONG_ROLE")
        return str(titles[0].value)
    if titles:
        raise NotAuthentic(f"a {name.kind} has no role", reason="WRONG_ROLE")
    if name.kind == NODE:
        node = directory.federation.nodes.get(name.id)
        if node is None or node.agency != name.trust_domain:
            raise NotAuthentic("the certificate names no registered node of its agency", reason="BAD_NAME")
    return ""
