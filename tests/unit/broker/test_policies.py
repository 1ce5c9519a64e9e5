"""Policies that nodes show: opened, held for all processes, and pulled from there."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from broker.links import Links
from broker.policies import pull, take_up
from broker.state.inprocess import InProcessBundles
from broker.state.interface import HeldBundle
from comity.envelope import BUNDLE_TYPE
from comity.errors import ComityError, NotAuthentic, PolicyError
from comity.federation import Federation
from identity import dsse
from identity.directory import Directory
from policies.bundle import make_bundle
from policies.published import open_published
from policies.seal import HEADER, seal
from tests.unit.broker.scene import ALLOW, DENY
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, REGISTRY, World

KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
NODE = "alder-1"


def directory(world: World, *, signatures: int = 1, minimum: int = 0) -> Directory:
    registry: dict[str, Any] = dict(REGISTRY)
    registry["agency"] = [dict(a, policy_signatures=signatures) if a["id"] == ALDER else a for a in REGISTRY["agency"]]
    registry["node"] = [dict(n, policy_minimum=minimum) if n["id"] == NODE else n for n in REGISTRY["node"]]
    return world.directory(federation=registry, policy_keys={ALDER: [k.public_key() for k in KEYS]})


def bundle(at: Directory, version: int = 1, rows: str = ALLOW, signers: int = 1) -> bytes:
    payload = make_bundle(
        federation=at.federation,
        node=NODE,
        version=version,
        valid_from=NOW - DAY,
        valid_to=NOW + DAY,
        packs=[],
        policy=seal(f"{HEADER}\n{rows}\n"),
    )
    data = dsse.sign_with_key(BUNDLE_TYPE, payload, KEYS[0])
    return data if signers == 1 else dsse.countersign_with_key(data, KEYS[1], payload_type=BUNDLE_TYPE)


async def test_what_one_process_took_up_another_has_without_the_node(world: World) -> None:
    at, store, links = directory(world), InProcessBundles(), Links()
    published = await take_up(bundle(at, rows=DENY), at, store, NODE, None, NOW)
    assert await pull(at.federation.nodes, at, store, links, NOW) == (NODE,)
    assert links.with_policies([NODE], NOW) == [(NODE, published.policy)]
    assert await pull(at.federation.nodes, at, store, links, NOW) == ()


async def test_a_node_that_shows_an_older_one_to_another_process_is_refused(world: World) -> None:
    at, store = directory(world), InProcessBundles()
    await take_up(bundle(at, 2), at, store, NODE, None, NOW)
    with pytest.raises(PolicyError) as e:
        await take_up(bundle(at, 1), at, store, NODE, None, NOW)
    assert e.value.reason == "POLICY_OLDER"


async def test_another_policy_of_the_same_version_is_refused(world: World) -> None:
    at, store = directory(world), InProcessBundles()
    await take_up(bundle(at, 2), at, store, NODE, None, NOW)
    with pytest.raises(PolicyError) as e:
        await take_up(bundle(at, 2, DENY), at, store, NODE, None, NOW)
    assert e.value.reason == "POLICY_OLDER"


async def test_what_the_store_holds_is_verified_again(world: World) -> None:
    at, store, links = directory(world), InProcessBundles(), Links()
    await store.hold(NODE, HeldBundle(version=9, digest="0" * 64, data=b"not signed"))
    assert await pull(at.federation.nodes, at, store, links, NOW) == ()
    assert links.published(NODE) is None


async def test_a_newer_version_is_pulled_and_an_older_one_never(world: World) -> None:
    at, store, links = directory(world), InProcessBundles(), Links()
    links.learn(open_published(bundle(at, 5), at, NODE, NOW))
    await take_up(bundle(at, 4), at, store, NODE, None, NOW)
    assert await pull([NODE], at, store, links, NOW) == ()
    await take_up(bundle(at, 6, DENY), at, store, NODE, None, NOW)
    assert await pull([NODE], at, store, links, NOW) == (NODE,)


@pytest.mark.parametrize(
    ("asks_for", "signers", "reason"),
    [
        pytest.param(1, 1, "", id="one where one is asked for"),
        pytest.param(1, 2, "", id="two where one is asked for"),
        pytest.param(2, 2, "", id="two where two are asked for"),
        pytest.param(2, 1, "TOO_FEW_SIGNATURES", id="one where two are asked for"),
    ],
)
def test_a_bundle_has_as_many_signatures_as_its_agency_asks_for(
    world: World, asks_for: int, signers: int, reason: str
) -> None:
    at = directory(world, signatures=asks_for)
    data, got = bundle(at, signers=signers), ""
    try:
        open_published(data, at, NODE, NOW)
    except ComityError as e:
        got = e.reason
    assert got == reason


def test_one_key_does_not_count_twice(world: World) -> None:
    with pytest.raises(NotAuthentic) as e:
        dsse.countersign_with_key(bundle(directory(world)), KEYS[0], payload_type=BUNDLE_TYPE)
    assert e.value.reason == "DUPLICATE_SIGNER"


@pytest.mark.parametrize(("version", "reason"), [(3, "POLICY_REVOKED"), (4, ""), (5, "")])
def test_versions_below_the_directory_s_minimum_are_revoked(world: World, version: int, reason: str) -> None:
    at, got = directory(world, minimum=4), ""
    try:
        open_published(bundle(at, version), at, NODE, NOW)
    except PolicyError as e:
        got = e.reason
    assert got == reason


@pytest.mark.parametrize("signatures", [0, 3, "2", True])
def test_an_agency_asks_for_one_or_two_signatures(signatures: object) -> None:
    agencies = [dict(a, policy_signatures=signatures) for a in REGISTRY["agency"]]
    with pytest.raises(ComityError):
        Federation.parse({**REGISTRY, "agency": agencies})
