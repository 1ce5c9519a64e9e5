"""`comity policy countersign`: the second signature that a directory may ask for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from cli.policy import policy
from comity.envelope import BUNDLE_TYPE
from comity.errors import InvalidInput, NotAuthentic
from identity.dsse import sign_with_key, verify_bundle_signature
from identity.keys import load_signing_key, new_signing_key, write_key
from policies.bundle import make_bundle
from policies.packs import load_packs
from policies.setting import Setting

NODE = "brazos-bend-1"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    now = dt.datetime.now(dt.UTC)
    federation = Setting.load().federation
    packs = federation.nodes[NODE].presets
    payload = make_bundle(
        federation=federation,
        node=NODE,
        version=1,
        valid_from=now,
        valid_to=now + dt.timedelta(days=1),
        packs=packs,
        policy=load_packs(packs),
    )
    write_key(tmp_path / "first.pem", first := new_signing_key())
    write_key(tmp_path / "second.pem", new_signing_key())
    path = tmp_path / "policy.bundle.json"
    path.write_bytes(sign_with_key(BUNDLE_TYPE, payload, first))
    return path


def countersign(bundle: Path, key: str) -> None:
    result = CliRunner().invoke(policy, ["countersign", str(bundle), "--key", str(bundle.parent / key)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0


def keys_of(bundle: Path, *names: str) -> list[ec.EllipticCurvePublicKey]:
    return [load_signing_key(bundle.parent / n).public_key() for n in names]


def test_a_bundle_has_two_signatures_once_a_second_key_has_signed_it(bundle: Path) -> None:
    both = keys_of(bundle, "first.pem", "second.pem")
    with pytest.raises(NotAuthentic):
        verify_bundle_signature(bundle.read_bytes(), both, least=2)
    countersign(bundle, "second.pem")
    assert verify_bundle_signature(bundle.read_bytes(), both, least=2)


def test_one_key_does_not_sign_twice(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(NotAuthentic, match="already"):
        countersign(bundle, "first.pem")
    assert bundle.read_bytes() == before


def test_half_a_bundle_is_not_signed(bundle: Path) -> None:
    half = bundle.read_bytes()[:200]
    bundle.write_bytes(half)
    with pytest.raises(InvalidInput):
        countersign(bundle, "second.pem")
    assert bundle.read_bytes() == half
