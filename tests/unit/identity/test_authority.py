"""What an authority makes, and what it refuses to issue."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from comity.errors import ComityError, ConfigError
from identity import certificates, keys
from identity.authority import Authority, trust_domain_of
from tests.unit.identity.world import ALDER, BRAZOS, NOW, World, name

KEY = keys.new_signing_key().public_key()


def test_an_authority_is_self_signed_for_ten_years_and_signs_no_further_authority(world: World) -> None:
    c = world.alder.certificate
    basic = c.extensions.get_extension_for_class(x509.BasicConstraints)
    assert certificates.authority_fault(c) == ""
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (c.not_valid_after_utc - c.not_valid_before_utc).days in (3652, 3653)
    assert trust_domain_of(c) == ALDER


def test_a_persons_certificate_says_who_in_what_role_for_what_and_by_whom(world: World) -> None:
    c = world.alder.issue(name(ALDER, "person", "t-reyes"), KEY, at=NOW, role="investigator")
    san = c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    aki = c.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    ski = world.alder.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{ALDER}/person/t-reyes"]
    assert aki.key_identifier == ski.digest
    assert [a.value for a in c.subject.get_attributes_for_oid(x509.NameOID.TITLE)] == ["investigator"]
    assert c.not_valid_before_utc == NOW - dt.timedelta(minutes=1)
    assert c.not_valid_after_utc == NOW + dt.timedelta(hours=12)


def test_every_serial_number_is_another(world: World) -> None:
    made = [world.alder.issue(name(ALDER, "camera", "c1"), KEY, at=NOW).serial_number for _ in range(20)]
    assert len(set(made)) == 20


def test_an_authority_comes_back_from_its_folder_with_its_key_private(world: World) -> None:
    loaded = Authority.load(world.root / ALDER)
    assert loaded.trust_domain == ALDER
    assert loaded.certificate == world.alder.certificate
    assert (world.root / ALDER / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert (world.root / ALDER).stat().st_mode & 0o077 == 0
    assert "key" not in repr(loaded)


def test_an_authority_is_never_made_over_another(tmp_path: Path) -> None:
    first = Authority.create(tmp_path / "ca", ALDER, at=NOW)
    with pytest.raises(ConfigError) as refused:
        Authority.create(tmp_path / "ca", ALDER, at=NOW)
    assert refused.value.reason == "FILE_EXISTS"
    assert Authority.load(tmp_path / "ca").certificate == first.certificate


def test_a_key_beside_another_authoritys_certificate_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a", ALDER, at=NOW)
    other = Authority.create(tmp_path / "b", ALDER, at=NOW)
    (tmp_path / "a" / "ca.pem").write_bytes(certificates.pem(other.certificate))
    with pytest.raises(ConfigError) as refused:
        Authority.load(tmp_path / "a")
    assert refused.value.reason == "KEY_MISMATCH"


def test_a_persons_certificate_is_no_authority(tmp_path: Path, world: World) -> None:
    Authority.create(tmp_path / "a", ALDER, at=NOW)
    leaf = x509.load_der_x509_certificate(world.person().chain[0])
    (tmp_path / "a" / "ca.pem").write_bytes(certificates.pem(leaf))
    with pytest.raises(ConfigError) as refused:
        Authority.load(tmp_path / "a")
    assert refused.value.reason == "BAD_CERTIFICATE"


@pytest.mark.parametrize("bad", ["", "Alder", "alder/x", "alder.pd", "ålder", "a" * 64, "alder\n"])
def test_a_trust_domain_is_small_letters_digits_and_hyphens(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ComityError) as refused:
        Authority.create(tmp_path / "ca", bad, at=NOW)
    assert refused.value.reason == "BAD_NAME"
    assert not (tmp_path / "ca").exists()


PERSON = name(ALDER, "person", "t-reyes")
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "another agency's person": ("WRONG_AUTHORITY", {"name": name(BRAZOS, "person", "x"), "role": "investigator"}),
    "a person without a role": ("WRONG_ROLE", {}),
    "a role with a blank": ("WRONG_ROLE", {"role": "chief of police"}),
    "a camera with a role": ("WRONG_ROLE", {"name": name(ALDER, "camera", "c1"), "role": "investigator"}),
    "a person with a host": ("BAD_HOST", {"role": "investigator", "hosts": ["localhost"]}),
    "a broker without a host": ("BAD_HOST", {"name": name(ALDER, "broker", "b1")}),
    "a node with a wildcard host": ("BAD_HOST", {"name": name(ALDER, "node", "n"), "hosts": ["*.example.org"]}),
    "a node with 17 hosts": ("BAD_HOST", {"name": name(ALDER, "node", "n"), "hosts": ["localhost"] * 17}),
    "a life of a second": ("BAD_TTL", {"role": "investigator", "ttl": dt.timedelta(seconds=1)}),
    "a life of a year": ("BAD_TTL", {"role": "investigator", "ttl": dt.timedelta(days=365)}),
    "a P-384 key": (
        "BAD_KEY", {"role": "investigator", "public_key": ec.generate_private_key(ec.SECP384R1()).public_key()}
    ),
    "an authority that has ended": ("CERTIFICATE_EXPIRED", {"role": "investigator", "at": NOW.replace(year=2050)}),
    "an authority not yet begun": ("CERTIFICATE_EXPIRED", {"role": "investigator", "at": NOW.replace(year=2020)}),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "asked"), REFUSED.values(), ids=REFUSED)
def test_an_authority_refuses_to_issue(world: World, reason: str, asked: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"name": PERSON, "public_key": KEY, "at": NOW} | asked
    with pytest.raises(ConfigError) as refused:
        world.alder.issue(**arguments)
    assert refused.value.reason == reason
