"""Which certificate proves whom, and with which reason every other one is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from comity.errors import NotAuthentic
from identity import certificates
from identity.authority import Authority
from identity.directory import Directory
from identity.verify import verify_chain, verify_peer_pem
from tests.unit.identity.world import ALDER, BOTH, BRAZOS, FEDERATION, NOW, World, forge, name

PERSON = f"spiffe://{ALDER}/person/t-reyes"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"")


def reason_of(chain: tuple[bytes, ...], directory: Directory, at: dt.datetime = NOW, kind: str | None = None) -> str:
    with pytest.raises(NotAuthentic) as refused:
        verify_chain(chain, directory, at, kind=kind)
    return refused.value.reason


@pytest.mark.parametrize(
    ("kind", "id_", "role", "hosts"),
    [("person", "t-reyes", "investigator", ()), ("node", "alder-1", "", ("127.0.0.1",)), ("camera", "al-014", "", ())],
)
def test_an_agencys_certificate_proves_its_own_people_nodes_and_cameras(
    world: World, directory: Directory, kind: str, id_: str, role: str, hosts: tuple[str, ...]
) -> None:
    signer = world.signer(world.alder, name(ALDER, kind, id_), role=role, hosts=hosts)
    who = verify_chain(signer.chain, directory, NOW, kind=kind)
    assert (who.agency, who.kind, who.id, who.role) == (ALDER, kind, id_, role)
    assert who.fingerprint == certificates.fingerprint(signer.chain[0])
    assert who.not_after - NOW == dt.timedelta(hours=12)


def test_the_federations_certificate_proves_a_broker(world: World, directory: Directory) -> None:
    signer = world.signer(world.federation, name(FEDERATION, "broker", "b1"), hosts=["localhost", "127.0.0.1"])
    who = verify_chain(signer.chain, directory, NOW, kind="broker")
    assert (who.agency, who.kind, who.role) == (FEDERATION, "broker", "")


def test_the_leaf_alone_is_enough_because_the_authority_is_pinned(world: World, directory: Directory) -> None:
    assert verify_chain(world.person().chain[:1], directory, NOW).agency == ALDER


# Each row: the rule, the reason, and how the forged leaf is made.
FORGED: list[tuple[str, str, Callable[[World], bytes]]] = [
    ("the federation may not name a person", "WRONG_AUTHORITY",
     lambda w: forge(w.federation, [f"spiffe://{FEDERATION}/person/x"])),
    ("the federation may not name a node", "WRONG_AUTHORITY",
     lambda w: forge(w.federation, [f"spiffe://{FEDERATION}/node/alder-1"], usages=BOTH, role=None)),
    ("the federation may not name an agency's person", "WRONG_AUTHORITY", lambda w: forge(w.federation, [PERSON])),
    ("an agency may not name the federation's broker", "WRONG_AUTHORITY",
     lambda w: forge(w.alder, [f"spiffe://{FEDERATION}/broker/b1"], usages=BOTH, role=None)),
    ("an agency may not name a broker of its own", "WRONG_AUTHORITY",
     lambda w: forge(w.alder, [f"spiffe://{ALDER}/broker/b1"], usages=BOTH, role=None)),
    ("an agency may not name another agency's person", "WRONG_AUTHORITY", lambda w: forge(w.brazos, [PERSON])),
    ("a node must be registered", "BAD_NAME",
     lambda w: forge(w.alder, [f"spiffe://{ALDER}/node/alder-9"], usages=BOTH, role=None)),
    ("a node must be the agency's own", "BAD_NAME",
     lambda w: forge(w.alder, [f"spiffe://{ALDER}/node/brazos-1"], usages=BOTH, role=None)),
    ("a person needs a role", "WRONG_ROLE", lambda w: forge(w.alder, [PERSON], role=None)),
    ("a role must be registered", "WRONG_ROLE", lambda w: forge(w.alder, [PERSON], role="chief")),
    ("a group of roles is no role", "WRONG_ROLE", lambda w: forge(w.alder, [PERSON], role="searcher")),
    ("a camera has no role", "WRONG_ROLE", lambda w: forge(w.alder, [f"spiffe://{ALDER}/camera/c1"])),
    ("a certificate needs a name", "BAD_NAME", lambda w: forge(w.alder, [], dns=["localhost"])),
    ("a certificate has one name", "BAD_NAME", lambda w: forge(w.alder, [PERSON, f"spiffe://{ALDER}/person/other"])),
    ("a person has no host name", "BAD_NAME", lambda w: forge(w.alder, [PERSON], dns=["localhost"])),
    ("capital letters are no name", "BAD_NAME", lambda w: forge(w.alder, [f"spiffe://{ALDER}/person/T-Reyes"])),
    ("a longer path is no name", "BAD_NAME", lambda w: forge(w.alder, [PERSON + "/x"])),
    ("a server's usage is not a person's", "BAD_CERTIFICATE", lambda w: forge(w.alder, [PERSON], usages=BOTH)),
    ("a client's usage alone is not a node's", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [f"spiffe://{ALDER}/node/alder-1"], role=None)),
    ("a code signer's usage is nobody's", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], usages=[ExtendedKeyUsageOID.CODE_SIGNING])),
    ("no usage at all is nobody's", "BAD_CERTIFICATE", lambda w: forge(w.alder, [PERSON], usages=None)),
    ("an RSA key is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], key=rsa.generate_private_key(65537, 2048))),
    ("a P-384 key is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], key=ec.generate_private_key(ec.SECP384R1()))),
    ("an Ed25519 key is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], key=ed25519.Ed25519PrivateKey.generate())),
    ("SHA-384 is refused", "BAD_CERTIFICATE", lambda w: forge(w.alder, [PERSON], digest=hashes.SHA384())),
    ("an authority's certificate is no person's", "BAD_CERTIFICATE", lambda w: forge(w.alder, [PERSON], is_ca=True)),
    ("the authority itself is no person", "BAD_CERTIFICATE", lambda w: certificates.der(w.alder.certificate)),
    ("an unknown critical extension is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], extra=[(UNKNOWN, True)])),
    ("a validity that begins before the authority's is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], begin=NOW - dt.timedelta(days=60))),
    ("a validity that outlasts the authority's is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON], end=NOW.replace(year=2060))),
    ("bytes that are no certificate are refused", "BAD_CERTIFICATE", lambda w: b"not a certificate"),
    ("a certificate of a version that does not exist is refused", "BAD_CERTIFICATE",
     lambda w: forge(w.alder, [PERSON]).replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1)),
    ("a certificate with a byte behind it is refused", "BAD_CERTIFICATE", lambda w: forge(w.alder, [PERSON]) + b"\0"),
    ("a certificate larger than any real one is refused", "BAD_CERTIFICATE", lambda w: b"0" * 9000),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "make"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_a_forged_certificate_is_refused_with_its_reason(
    world: World, directory: Directory, reason: str, make: Callable[[World], bytes]
) -> None:
    assert reason_of((make(world),), directory) == reason


def test_the_forger_makes_a_good_certificate_when_told_no_lie(world: World, directory: Directory) -> None:
    assert verify_chain((forge(world.alder, [PERSON]),), directory, NOW).role == "investigator"


def test_an_authority_that_is_not_pinned_proves_nobody(
    world: World, directory: Directory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority.create(tmp_path_factory.mktemp("s"), ALDER, at=NOW)
    leaf = forge(stranger, [PERSON])
    assert reason_of((leaf,), directory) == "WRONG_AUTHORITY"
    assert reason_of((leaf, certificates.der(stranger.certificate)), directory) == "WRONG_AUTHORITY"


def test_an_authority_named_like_another_agency_still_speaks_only_for_its_own(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    twin = Authority.create(tmp_path_factory.mktemp("t"), ALDER, at=NOW - dt.timedelta(days=1))
    directory = world.directory(authorities={ALDER: [world.alder.certificate], BRAZOS: [twin.certificate]})
    assert twin.certificate.subject == world.alder.certificate.subject
    assert reason_of((forge(twin, [PERSON]),), directory) == "WRONG_AUTHORITY"
    assert verify_chain((forge(world.alder, [PERSON]),), directory, NOW).agency == ALDER


def test_a_chain_with_an_authority_of_its_own_is_refused_even_when_the_leaf_is_good(
    world: World, directory: Directory
) -> None:
    leaf, pinned = world.person().chain
    extra = certificates.der(world.brazos.certificate)
    assert reason_of((leaf, extra), directory) == "WRONG_AUTHORITY"
    assert reason_of((leaf, pinned, extra), directory) == "WRONG_AUTHORITY"


def test_an_intermediate_authority_signs_for_nobody(world: World, directory: Directory) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    middle_der = forge(world.alder, [f"spiffe://{ALDER}"], key=key, is_ca=True, role=None,
                       extra=[(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)])  # fmt: skip
    middle = Authority(trust_domain=ALDER, certificate=x509.load_der_x509_certificate(middle_der), key=key)
    leaf = forge(middle, [PERSON])
    assert reason_of((leaf, middle_der, certificates.der(world.alder.certificate)), directory) == "WRONG_AUTHORITY"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_single_flipped_bit_of_a_certificate_is_refused_on_purpose(world: World, directory: Directory) -> None:
    leaf, reasons = world.person().chain[0], set()
    for at in range(len(leaf)):
        changed = bytearray(leaf)
        changed[at] ^= 1 << (at % 8)
        reasons.add(reason_of((bytes(changed),), directory))
    assert reasons <= {"BAD_CERTIFICATE", "WRONG_AUTHORITY"}


def test_no_chain_is_a_bad_one(directory: Directory) -> None:
    assert reason_of((), directory) == "BAD_CERTIFICATE"


HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        pytest.param(NOW - HOUR, "CERTIFICATE_NOT_YET_VALID", id="an hour before it was issued"),
        pytest.param(NOW + 12 * HOUR, "CERTIFICATE_EXPIRED", id="at its very last instant"),
        pytest.param(NOW + 99 * HOUR, "CERTIFICATE_EXPIRED", id="days later"),
    ],
)
def test_validity_is_asked_again_after_the_certificate_was_remembered(
    world: World, directory: Directory, at: dt.datetime, reason: str
) -> None:
    chain = world.person().chain
    verify_chain(chain, directory, NOW)
    assert reason_of(chain, directory, at) == reason


def test_a_directory_with_a_longer_deny_list_refuses_what_an_older_one_remembered(world: World) -> None:
    chain = world.person().chain
    fingerprint = certificates.fingerprint(chain[0])
    assert verify_chain(chain, world.directory(), NOW).fingerprint == fingerprint
    assert reason_of(chain, world.directory(version=8, denied=[fingerprint])) == "CERTIFICATE_REVOKED"


def test_a_revoked_certificate_does_not_come_back_under_its_signatures_twin(world: World) -> None:
    chain = world.person().chain
    leaf = x509.load_der_x509_certificate(chain[0])
    r, s = decode_dss_signature(leaf.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = encode_dss_signature(r, order - s)
    body = leaf.tbs_certificate_bytes + bytes.fromhex("300a06082a8648ce3d040302")
    body += bytes((0x03, len(other) + 1, 0)) + other
    twin = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    x509.load_der_x509_certificate(twin).verify_directly_issued_by(world.alder.certificate)
    directory = world.directory(denied=[certificates.fingerprint(chain[0])])
    assert certificates.fingerprint(twin) != certificates.fingerprint(chain[0])
    assert reason_of((twin,), directory) == "CERTIFICATE_REVOKED"


def test_a_person_is_not_taken_for_a_node(world: World, directory: Directory) -> None:
    assert reason_of(world.person().chain, directory, kind="node") == "WRONG_KIND"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda leaf: leaf, None, id="one certificate"),
        pytest.param(lambda leaf: leaf + leaf, "BAD_CERTIFICATE", id="two certificates"),
        pytest.param(lambda leaf: b"", "BAD_CERTIFICATE", id="nothing"),
        pytest.param(lambda leaf: leaf[: len(leaf) // 2], "BAD_CERTIFICATE", id="half of it"),
    ],
)
def test_a_tls_peer_is_one_certificate_in_pem(
    world: World, directory: Directory, make: Callable[[bytes], bytes], reason: str | None
) -> None:
    leaf = x509.load_der_x509_certificate(world.person().chain[0]).public_bytes(Encoding.PEM)
    if reason is None:
        assert verify_peer_pem(make(leaf), directory, NOW).agency == ALDER
    else:
        with pytest.raises(NotAuthentic) as refused:
            verify_peer_pem(make(leaf), directory, NOW)
        assert refused.value.reason == reason
