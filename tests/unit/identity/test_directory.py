"""The signed directory: what it pins, and every way in which it is refused."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509

from comity import jcs
from comity.envelope import BUNDLE_TYPE, DIRECTORY_TYPE
from comity.errors import ConfigError
from identity import certificates, dsse, keys
from identity.directory import Directory, LogKey
from tests.unit.identity.world import ALDER, BRAZOS, FEDERATION, NOW, REGISTRY, World

LOG = keys.new_log_key().public_key()
POLICY = keys.new_signing_key().public_key()


def payload_of(data: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = orjson.loads(base64.b64decode(orjson.loads(data)["payload"]))
    return payload


BROKER_WITNESS = keys.new_log_key().public_key()


def reason_of(data: bytes, world: World, **kw: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        Directory.parse(data, world.federation.certificate, **kw)
    return refused.value.reason


def test_a_directory_comes_back_from_its_file_as_it_was_signed(world: World, tmp_path: Path) -> None:
    log = LogKey(origin="test-exchange/broker/b1", key=LOG, program="broker", id="b1")
    data = world.signed_directory(
        policy_keys={ALDER: [POLICY]},
        logs=[log],
        witnesses={"alder-1": LOG, "broker/b1": BROKER_WITNESS},
        denied=["ab" * 32],
    )
    (tmp_path / "directory.json").write_bytes(data)
    (tmp_path / "anchor.pem").write_bytes(certificates.pem(world.federation.certificate))
    d = Directory.load(tmp_path / "directory.json", tmp_path / "anchor.pem", minimum_version=7)
    assert (d.version, d.issued_at, d.federation.id) == (7, NOW, FEDERATION)
    assert d.federation.agreements[0].expires == dt.date(2031, 1, 1)
    assert d.authorities_of(ALDER) == (world.alder.certificate,)
    assert d.authorities_of("nobody") == ()
    assert d.agency_authorities == (world.alder.certificate, world.brazos.certificate)
    assert d.broker_authorities == (world.federation.certificate,)
    assert d.policy_keys_of(ALDER) == (POLICY,)
    assert d.policy_keys_of(BRAZOS) == ()
    assert d.logs["test-exchange/broker/b1"].key == LOG
    assert d.witnesses["alder-1"] == LOG
    assert d.witnesses["broker/b1"] == BROKER_WITNESS
    assert d.is_denied("ab" * 32)
    assert not d.is_denied("cd" * 32)


def test_the_digest_is_the_payloads_and_tells_two_directories_apart(world: World) -> None:
    one, same, other = world.directory(), world.directory(), world.directory(version=8)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert len(one.digest) == 64


def test_a_directory_cut_off_anywhere_is_refused_as_not_whole(world: World) -> None:
    data = world.signed_directory()
    cuts = range(0, len(data), 37)
    assert {reason_of(data[:n], world) for n in cuts} == {"DIRECTORY_MALFORMED"}
    assert len(cuts) > 100


def test_a_directory_with_any_one_byte_changed_is_refused(world: World) -> None:
    data, pick = world.signed_directory(), random.Random(1)
    reasons = set()
    for _ in range(200):
        at, flip = pick.randrange(len(data)), pick.randrange(1, 256)
        changed = bytearray(data)
        changed[at] ^= flip
        reasons.add(reason_of(bytes(changed), world))
    assert reasons <= {"DIRECTORY_MALFORMED", "DIRECTORY_SIGNATURE"}


def test_white_space_around_a_directory_is_refused(world: World) -> None:
    assert reason_of(world.signed_directory() + b"\n", world) == "DIRECTORY_MALFORMED"


def test_an_older_directory_is_refused_because_it_could_bring_a_revoked_certificate_back(world: World) -> None:
    data = world.signed_directory(version=7)
    assert Directory.parse(data, world.federation.certificate, minimum_version=7).version == 7
    assert reason_of(data, world, minimum_version=8) == "DIRECTORY_OLD"


def test_a_directory_signed_by_an_agency_is_refused(world: World) -> None:
    payload = jcs.encode(payload_of(world.signed_directory()))
    assert reason_of(dsse.sign_with_key(DIRECTORY_TYPE, payload, world.alder.key), world) == "DIRECTORY_SIGNATURE"


def test_a_policy_bundle_is_no_directory_though_the_federation_signed_it(world: World) -> None:
    payload = jcs.encode(payload_of(world.signed_directory()))
    assert reason_of(dsse.sign_with_key(BUNDLE_TYPE, payload, world.federation.key), world) == "DIRECTORY_MALFORMED"


def test_a_payload_that_is_not_canonical_is_refused_though_signed(world: World) -> None:
    payload = jcs.encode(payload_of(world.signed_directory()))
    twice = payload[:-1] + b',"version":9}'
    assert reason_of(dsse.sign_with_key(DIRECTORY_TYPE, twice, world.federation.key), world) == "DIRECTORY_MALFORMED"


def test_a_person_is_no_anchor(world: World) -> None:
    with pytest.raises(ConfigError) as refused:
        Directory.parse(world.signed_directory(), x509.load_der_x509_certificate(world.person().chain[0]))
    assert refused.value.reason == "DIRECTORY_ANCHOR"


def test_two_certificates_are_no_anchor(world: World, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(world.signed_directory())
    (tmp_path / "a.pem").write_bytes(certificates.pem(world.federation.certificate, world.alder.certificate))
    with pytest.raises(ConfigError) as refused:
        Directory.load(tmp_path / "d.json", tmp_path / "a.pem")
    assert refused.value.reason == "DIRECTORY_ANCHOR"


Change = Callable[[dict[str, Any], World], Any]


def put(*path: str, value: Any = None, of: Callable[[World], Any] | None = None) -> Change:
    def change(payload: dict[str, Any], world: World) -> None:
        *inner, last = path
        for key in inner:
            payload = payload[key]
        payload[last] = of(world) if of else value

    return change


def person_pem(w: World) -> str:
    return certificates.pem(x509.load_der_x509_certificate(w.person().chain[0])).decode()


def pem(w: World, *which: str) -> str:
    return certificates.pem(*(getattr(w, a).certificate for a in which)).decode()


ED25519 = base64.b64encode(LOG.public_bytes_raw()).decode()
BROKER_LOG = {"key": ED25519, "program": "broker", "id": "b1"}
SPKI = keys.public_pem(POLICY).decode()
SIGNED_BUT_REFUSED: dict[str, tuple[str, Change]] = {
    "an unknown key": ("DIRECTORY_UNKNOWN_KEY", put("extra", value=1)),
    "a key missing": ("DIRECTORY_UNKNOWN_KEY", lambda p, w: p.pop("denied")),
    "an unknown key in the registry": ("DIRECTORY_FEDERATION", put("federation", "extra", value=1)),
    "a registry that is no table": ("DIRECTORY_VALUE", put("federation", value=[])),
    "an agency in no place": ("DIRECTORY_FEDERATION", put("federation", "agency", value=[{"jurisdiction": []}])),
    "version nought": ("DIRECTORY_VALUE", put("version", value=0)),
    "a version that is true": ("DIRECTORY_VALUE", put("version", value=True)),
    "a time with an offset": ("DIRECTORY_VALUE", put("issued_at", value="2030-05-01T12:00:00+00:00")),
    "a time that is a number": ("DIRECTORY_VALUE", put("issued_at", value=5)),
    "an unregistered agency's authority": (
        "DIRECTORY_UNREGISTERED", put("authorities", "nobody", of=lambda w: [pem(w, "brazos")])),
    "one authority for two agencies": (
        "DIRECTORY_SHARED_AUTHORITY", put("authorities", BRAZOS, of=lambda w: [pem(w, "alder")])),
    "the federation's authority for an agency": (
        "DIRECTORY_SHARED_AUTHORITY", put("authorities", BRAZOS, of=lambda w: [pem(w, "federation")])),
    "an agency's authority for brokers": (
        "DIRECTORY_SHARED_AUTHORITY", put("broker_authorities", of=lambda w: [pem(w, "alder")])),
    "two certificates in one text": (
        "DIRECTORY_AUTHORITY", put("authorities", ALDER, of=lambda w: [pem(w, "alder", "brazos")])),
    "a person's certificate as authority": (
        "DIRECTORY_AUTHORITY",
        put("authorities", ALDER, of=lambda w: [person_pem(w)])),
    "half a certificate": ("DIRECTORY_AUTHORITY", put("authorities", ALDER, of=lambda w: [pem(w, "alder")[:300]])),
    "text before a certificate": (
        "DIRECTORY_AUTHORITY", put("authorities", ALDER, of=lambda w: ["hello\n" + pem(w, "alder")])),
    "no certificate in a list": ("DIRECTORY_VALUE", put("authorities", ALDER, value=[])),
    "authorities that are a list": ("DIRECTORY_VALUE", put("authorities", value=[])),
    "no authority for brokers": ("DIRECTORY_VALUE", put("broker_authorities", value=[])),
    "a policy key of nobody": ("DIRECTORY_UNREGISTERED", put("policy_keys", "nobody", value=[SPKI])),
    "a policy key of two agencies": (
        "DIRECTORY_SHARED_AUTHORITY", put("policy_keys", value={ALDER: [SPKI], BRAZOS: [SPKI]})),
    "a policy key that is none": ("DIRECTORY_VALUE", put("policy_keys", ALDER, value=["x"])),
    "a log of an unregistered node": (
        "DIRECTORY_UNREGISTERED", put("logs", "o", value=BROKER_LOG | {"program": "node", "id": "nowhere-1"})),
    "a log of a camera": ("DIRECTORY_VALUE", put("logs", "o", value=BROKER_LOG | {"program": "camera"})),
    "a log with an unknown key": ("DIRECTORY_UNKNOWN_KEY", put("logs", "o", value=BROKER_LOG | {"x": 1})),
    "an origin with a blank": ("DIRECTORY_VALUE", put("logs", "a log", value=BROKER_LOG)),
    "one key for two logs": ("DIRECTORY_SHARED_AUTHORITY", put("logs", value={"a": BROKER_LOG, "b": BROKER_LOG})),
    "a log key that is too short": ("DIRECTORY_VALUE", put("logs", "o", value=BROKER_LOG | {"key": "AAAA"})),
    "a witness that is no node": ("DIRECTORY_UNREGISTERED", put("witnesses", "nowhere-1", value=ED25519)),
    "a witness that is a broker without a log": (
        "DIRECTORY_UNREGISTERED", put("witnesses", "broker/b1", value=ED25519)),
    "one key for two witnesses": (
        "DIRECTORY_SHARED_AUTHORITY", put("witnesses", value={"alder-1": ED25519, "brazos-1": ED25519})),
    "a witness key with loose base64": ("DIRECTORY_VALUE", put("witnesses", "alder-1", value=ED25519 + "\n")),
    "a fingerprint in capitals": ("DIRECTORY_VALUE", put("denied", value=["AB" * 32])),
    "a deny list that is a table": ("DIRECTORY_VALUE", put("denied", value={})),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "change"), SIGNED_BUT_REFUSED.values(), ids=SIGNED_BUT_REFUSED)
def test_a_directory_is_refused_even_when_the_federation_signed_it(world: World, reason: str, change: Change) -> None:
    payload = payload_of(world.signed_directory())
    change(payload, world)
    data = dsse.sign_with_key(DIRECTORY_TYPE, jcs.encode(payload), world.federation.key)
    assert reason_of(data, world) == reason


def test_an_agency_with_the_federations_name_is_refused(world: World) -> None:
    registry = copy.deepcopy(REGISTRY)
    registry["agency"][0]["id"] = FEDERATION
    registry["node"][0]["agency"] = FEDERATION
    registry["agreement"] = []
    with pytest.raises(ConfigError) as refused:
        world.signed_directory(federation=registry, authorities={})
    assert refused.value.reason == "DIRECTORY_SHARED_AUTHORITY"


def test_what_would_be_refused_is_not_signed_in_the_first_place(world: World) -> None:
    with pytest.raises(ConfigError) as refused:
        world.signed_directory(authorities={ALDER: [world.alder.certificate], BRAZOS: [world.alder.certificate]})
    assert refused.value.reason == "DIRECTORY_SHARED_AUTHORITY"


@pytest.mark.parametrize(
    ("role", "leaf"),
    [("investigator", True), ("supervisor", True), ("searcher", False), ("any-role", False), ("", False), ("x", False)],
)
def test_only_a_role_that_groups_no_others_is_a_persons(world: World, role: str, leaf: bool) -> None:
    assert world.directory().is_leaf_role(role) is leaf
