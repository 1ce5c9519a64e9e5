"""What a running program takes up of its identity folder: what is newer and fit, and nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comity.errors import ConfigError, NotAuthentic
from identity import certificates, keys
from identity.directory import Directory
from identity.folder import CHAIN_FILE, DIRECTORY_FILE, FEDERATION_FILE, KEY_FILE, IdentityFolder, replace_chain
from identity.renewal import Renewal
from tests.unit.identity.world import ALDER, NOW, World, name

NODE = name(ALDER, "node", "alder-1")
LATER = NOW + dt.timedelta(hours=6)


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World.make(tmp_path)


@pytest.fixture
def folder(own: World) -> IdentityFolder:
    return own.folder(own.alder, NODE, own.signed_directory())


@pytest.fixture
def renewal(folder: IdentityFolder) -> Renewal:
    return Renewal(folder, folder.directory())


def renew(own: World, folder: IdentityFolder, *, at: dt.datetime = LATER) -> None:
    leaf = own.alder.issue(NODE, folder.signer.key.public_key(), at=at)
    replace_chain(folder.path, [leaf, own.alder.certificate])


def test_a_folder_that_has_not_changed_is_not_due(renewal: Renewal) -> None:
    assert [renewal.due(NOW), renewal.due(LATER)] == [False, False]


def test_a_newer_directory_with_which_the_program_would_not_start_is_not_taken_up(
    own: World, folder: IdentityFolder
) -> None:
    def fit(directory: Directory) -> None:
        raise ConfigError(f"version {directory.version} has no pack", reason="NO_PACK")

    renewal = Renewal(folder, folder.directory(), fit)
    assert not renewal.due(NOW)
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=8))
    with pytest.raises(ConfigError, match="version 8 has no pack"):
        renewal.due(LATER)
    assert not renewal.due(LATER)


def test_the_same_content_written_again_is_not_due(renewal: Renewal, own: World, folder: IdentityFolder) -> None:
    assert not renewal.due(NOW)
    replace_chain(folder.path, folder.chain)
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory())
    assert not renewal.due(NOW)


def test_a_renewed_certificate_is_due(renewal: Renewal, own: World, folder: IdentityFolder) -> None:
    assert not renewal.due(NOW)
    renew(own, folder)
    assert renewal.due(LATER)


def test_a_certificate_renewed_before_the_first_look_is_due(
    renewal: Renewal, own: World, folder: IdentityFolder
) -> None:
    renew(own, folder)
    assert renewal.due(LATER)


def test_a_directory_of_a_higher_version_is_due(renewal: Renewal, own: World, folder: IdentityFolder) -> None:
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=8))
    assert renewal.due(NOW)


def test_a_newer_directory_that_denies_this_very_certificate_is_due(
    renewal: Renewal, own: World, folder: IdentityFolder
) -> None:
    denied = certificates.fingerprints(folder.chain[0])[0]
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=8, denied=[denied]))
    assert renewal.due(NOW)


def older(own: World, folder: IdentityFolder) -> None:
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=6))


def another_of_the_same_version(own: World, folder: IdentityFolder) -> None:
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(issued_at=LATER))


def half_a_directory(own: World, folder: IdentityFolder) -> None:
    data = own.signed_directory(version=8)
    (folder.path / DIRECTORY_FILE).write_bytes(data[: len(data) // 2])


def no_directory(own: World, folder: IdentityFolder) -> None:
    (folder.path / DIRECTORY_FILE).unlink()


def signed_by_another_federation_whose_certificate_lies_beside_it(own: World, folder: IdentityFolder) -> None:
    other = World.make(own.root / "other")
    (folder.path / DIRECTORY_FILE).write_bytes(other.signed_directory(version=8))
    (folder.path / FEDERATION_FILE).write_bytes((other.root / "test-exchange" / "ca.pem").read_bytes())


def half_a_chain(own: World, folder: IdentityFolder) -> None:
    renew(own, folder)
    path = folder.path / CHAIN_FILE
    path.write_bytes(path.read_bytes()[:300])


def a_key_without_its_certificate(own: World, folder: IdentityFolder) -> None:
    (folder.path / KEY_FILE).unlink()
    keys.write_key(folder.path / KEY_FILE, keys.new_signing_key())


def another_nodes_certificate(own: World, folder: IdentityFolder) -> None:
    leaf = own.alder.issue(name(ALDER, "node", "alder-2"), folder.signer.key.public_key(), at=NOW)
    replace_chain(folder.path, [leaf, own.alder.certificate])


def a_certificate_by_another_agencys_authority(own: World, folder: IdentityFolder) -> None:
    leaf = replace(own.brazos, trust_domain=ALDER).issue(NODE, folder.signer.key.public_key(), at=NOW)
    replace_chain(folder.path, [leaf, own.brazos.certificate])


def a_certificate_that_has_expired(own: World, folder: IdentityFolder) -> None:
    renew(own, folder, at=NOW - dt.timedelta(days=2))


def a_certificate_of_tomorrow(own: World, folder: IdentityFolder) -> None:
    renew(own, folder, at=NOW + dt.timedelta(days=1))


Change = Callable[[World, IdentityFolder], None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (older, "DIRECTORY_OLD"),
        (another_of_the_same_version, "DIRECTORY_OLD"),
        (half_a_directory, "DIRECTORY_MALFORMED"),
        (no_directory, "FILE_UNREADABLE"),
        (signed_by_another_federation_whose_certificate_lies_beside_it, "FEDERATION_CHANGED"),
        (half_a_chain, "BAD_CERTIFICATE"),
        (a_key_without_its_certificate, "KEY_MISMATCH"),
        (another_nodes_certificate, "IDENTITY_CHANGED"),
        (a_certificate_by_another_agencys_authority, "WRONG_AUTHORITY"),
        (a_certificate_that_has_expired, "CERTIFICATE_EXPIRED"),
        (a_certificate_of_tomorrow, "CERTIFICATE_NOT_YET_VALID"),
    ],
    ids=lambda x: x.__name__.replace("_", " ") if callable(x) else "",
)
def test_what_is_not_fit_is_refused_once_and_what_comes_after_it_is_taken_up(
    renewal: Renewal, own: World, folder: IdentityFolder, change: Change, reason: str
) -> None:
    federation = (folder.path / FEDERATION_FILE).read_bytes()
    assert not renewal.due(NOW)
    change(own, folder)
    with pytest.raises((ConfigError, NotAuthentic)) as refused:
        renewal.due(NOW)
    assert refused.value.reason == reason
    assert not renewal.due(NOW)
    keys_path = folder.path / KEY_FILE
    if reason == "KEY_MISMATCH":
        keys_path.unlink()
        keys.write_key(keys_path, folder.signer.key)
    (folder.path / FEDERATION_FILE).write_bytes(federation)
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=9))
    renew(own, folder)
    assert renewal.due(LATER)


def test_a_certificate_that_was_not_yet_valid_is_taken_up_when_it_is(
    renewal: Renewal, own: World, folder: IdentityFolder
) -> None:
    assert not renewal.due(NOW)
    renew(own, folder)
    with pytest.raises(NotAuthentic, match=r".+"):
        renewal.due(NOW)
    assert not renewal.due(NOW + dt.timedelta(minutes=2))  # still not, and said already
    assert renewal.due(LATER)


def test_a_key_that_others_could_read_is_looked_at_again_once_it_is_closed(
    renewal: Renewal, own: World, folder: IdentityFolder
) -> None:
    assert not renewal.due(LATER)
    key = folder.path / KEY_FILE
    key.chmod(0o644)
    renew(own, folder)
    with pytest.raises(ConfigError) as refused:
        renewal.due(LATER)
    assert refused.value.reason == "KEY_EXPOSED"
    key.chmod(0o600)
    assert renewal.due(LATER)
