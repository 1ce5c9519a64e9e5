"""Key files: who may read them, and what may be in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from comity.errors import ConfigError
from identity import files, keys


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=["open umask", "usual umask", "strict umask"])
def test_a_key_file_is_never_for_others_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        keys.write_key(tmp_path / "key.pem", keys.new_signing_key())
    finally:
        os.umask(old)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_file_is_opened_with_its_mode_and_never_over_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    real = os.open

    def watched(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append((flags, mode))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    keys.write_key(tmp_path / "key.pem", keys.new_signing_key())
    flags, mode = opened[0]
    assert flags & os.O_EXCL
    assert flags & os.O_CREAT
    assert mode == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    keys.write_key(path, keys.new_signing_key())
    before = path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        keys.write_key(path, keys.new_signing_key())
    assert refused.value.reason == "FILE_EXISTS"
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644], ids=oct)
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    keys.write_key(path, keys.new_signing_key())
    path.chmod(mode)
    with pytest.raises(ConfigError) as refused:
        keys.load_signing_key(path)
    assert refused.value.reason == "KEY_EXPOSED"
    assert "chmod 600" in str(refused.value)


def test_a_key_comes_back_as_it_was(tmp_path: Path) -> None:
    signing, log = keys.new_signing_key(), keys.new_log_key()
    keys.write_key(tmp_path / "key.pem", signing)
    keys.write_key(tmp_path / "log.key", log)
    assert keys.load_signing_key(tmp_path / "key.pem").public_key() == signing.public_key()
    assert keys.load_log_key(tmp_path / "log.key").public_key() == log.public_key()


def pkcs8(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted() -> bytes:
    secret = BestAvailableEncryption(b"secret")
    return keys.new_signing_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)


NO_SIGNING_KEYS = {
    "an RSA key": pkcs8(rsa.generate_private_key(65537, 2048)),
    "a P-384 key": pkcs8(ec.generate_private_key(ec.SECP384R1())),
    "a log's key": keys.private_pem(keys.new_log_key()),
    "a public key": keys.public_pem(keys.new_signing_key().public_key()),
    "an encrypted key": encrypted(),
    "half a key": pkcs8(keys.new_signing_key())[:100],
    "nothing": b"",
}


@pytest.mark.parametrize("content", NO_SIGNING_KEYS.values(), ids=NO_SIGNING_KEYS)
def test_only_a_p256_key_is_a_signing_key_and_the_refusal_shows_nothing_of_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    files.write_new(path, content, mode=0o600)
    with pytest.raises(ConfigError) as refused:
        keys.load_signing_key(path)
    assert refused.value.reason == "BAD_KEY"
    assert refused.value.__suppress_context__ or refused.value.__cause__ is None
    assert not any(line and line in str(refused.value) for line in content.decode().splitlines())


def test_a_signing_key_is_no_log_key(tmp_path: Path) -> None:
    keys.write_key(tmp_path / "key.pem", keys.new_signing_key())
    with pytest.raises(ConfigError) as refused:
        keys.load_log_key(tmp_path / "key.pem")
    assert refused.value.reason == "BAD_KEY"


def make_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def make_large(path: Path) -> None:
    files.write_new(path, b"x" * 9000, mode=0o600)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(Path.mkdir, "FILE_UNREADABLE", id="a folder"),
        pytest.param(make_pipe, "FILE_UNREADABLE", id="a pipe that would block"),
        pytest.param(make_large, "FILE_TOO_LARGE", id="a file too large for a key"),
        pytest.param(lambda path: None, "FILE_UNREADABLE", id="nothing there"),
    ],
)
def test_what_is_no_key_file_is_refused_and_never_waited_for(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "key.pem")
    with pytest.raises(ConfigError) as refused:
        keys.load_signing_key(tmp_path / "key.pem")
    assert refused.value.reason == reason


def test_a_replaced_file_leaves_no_draft_behind(tmp_path: Path) -> None:
    files.replace(tmp_path / "chain.pem", b"old", mode=files.PUBLIC)
    files.replace(tmp_path / "chain.pem", b"new", mode=files.PUBLIC)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("chain.pem", b"new")]
