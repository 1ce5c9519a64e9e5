"""An identity folder: whole or refused, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from comity.errors import ConfigError
from identity import certificates
from identity.folder import IdentityFolder, write_identity
from identity.names import SpiffeId
from tests.unit.identity.world import ALDER, World, name

PERSON = name(ALDER, "person", "t-reyes")


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World.make(tmp_path)


@pytest.fixture
def folder(own: World) -> IdentityFolder:
    return own.folder(own.alder, PERSON, own.signed_directory(), role="investigator")


def test_a_folder_knows_who_it_is_and_what_it_trusts(own: World, folder: IdentityFolder) -> None:
    assert folder.spiffe == SpiffeId.parse(f"spiffe://{ALDER}/person/t-reyes")
    assert folder.federation_pem() == certificates.pem(own.federation.certificate)
    assert folder.directory().version == 7
    assert folder.signer.chain[1] == certificates.der(own.alder.certificate)


def test_a_new_folder_and_its_key_are_its_owners_alone(folder: IdentityFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_an_identity_is_never_written_over_another(folder: IdentityFolder) -> None:
    before = (folder.path / "chain.pem").read_bytes()
    with pytest.raises(ConfigError) as refused:
        write_identity(folder.path, folder.signer.key, folder.chain[:1])
    assert refused.value.reason == "FILE_EXISTS"
    assert (folder.path / "chain.pem").read_bytes() == before


def test_another_key_than_the_certificates_is_refused(own: World, folder: IdentityFolder) -> None:
    other = own.folder(own.alder, name(ALDER, "person", "s-cole"), role="supervisor")
    (other.path / "key.pem").write_bytes((folder.path / "key.pem").read_bytes())
    with pytest.raises(ConfigError) as refused:
        IdentityFolder.load(other.path)
    assert refused.value.reason == "KEY_MISMATCH"


Damage = Callable[[Path], object]
LOADING: dict[str, tuple[str, Damage]] = {
    "no key": ("NO_IDENTITY", lambda p: (p / "key.pem").unlink()),
    "no certificate": ("NO_IDENTITY", lambda p: (p / "chain.pem").unlink()),
    "a key for all to read": ("KEY_EXPOSED", lambda p: (p / "key.pem").chmod(0o644)),
    "half a key": ("BAD_KEY", lambda p: (p / "key.pem").write_bytes((p / "key.pem").read_bytes()[:60])),
    "half a certificate": (
        "BAD_CERTIFICATE", lambda p: (p / "chain.pem").write_bytes((p / "chain.pem").read_bytes()[:300])),
    "four certificates": (
        "BAD_CERTIFICATE", lambda p: (p / "chain.pem").write_bytes((p / "chain.pem").read_bytes() * 2)),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "damage"), LOADING.values(), ids=LOADING)
def test_a_damaged_folder_is_refused_by_name(folder: IdentityFolder, reason: str, damage: Damage) -> None:
    damage(folder.path)
    with pytest.raises(ConfigError) as refused:
        IdentityFolder.load(folder.path)
    assert refused.value.reason == reason
    assert str(folder.path) in str(refused.value)


def test_what_is_optional_is_asked_for_only_when_it_is_needed(folder: IdentityFolder) -> None:
    for file in ("federation-ca.pem", "directory.json"):
        (folder.path / file).unlink()
    bare = IdentityFolder.load(folder.path)
    asked: dict[str, Callable[[], object]] = {
        "NO_FEDERATION": bare.federation_pem, "NO_BROKER": bare.broker_address
    }  # fmt: skip
    for reason, ask in asked.items():
        with pytest.raises(ConfigError) as refused:
            ask()
        assert refused.value.reason == reason
    (folder.path / "federation-ca.pem").write_bytes(b"x")
    with pytest.raises(ConfigError) as refused:
        bare.directory()
    assert refused.value.reason == "NO_DIRECTORY"


@pytest.mark.parametrize("text", ["127.0.0.1:7443", "broker.example.org:1", "[::1]:65535\n"])
def test_a_brokers_address_is_host_and_port(folder: IdentityFolder, text: str) -> None:
    (folder.path / "broker.addr").write_text(text)
    assert folder.broker_address() == text.strip()


@pytest.mark.parametrize("text", ["", "localhost", "localhost:0", "localhost:65536", "a b:1", "http://x:1", "x:1\ny:2"])
def test_anything_else_is_no_address(folder: IdentityFolder, text: str) -> None:
    (folder.path / "broker.addr").write_text(text)
    with pytest.raises(ConfigError) as refused:
        folder.broker_address()
    assert refused.value.reason == "BAD_ADDRESS"
