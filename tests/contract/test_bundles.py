"""What a store of nodes' policy bundles promises, held by every adapter: in memory, on a real server, on a cluster."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.state.folder import FolderBundles
from broker.state.inprocess import InProcessBundles
from broker.state.interface import MOST_BUNDLE_BYTES, Bundles, HeldBundle
from broker.state.redis import SharedRedis
from broker.state.redis_bundles import RedisBundles
from comity.errors import Exhausted, InvalidInput
from tests.redis_server import LocalServer

CLIENTS = 3


def bundle(version: int, content: bytes = b"signed") -> HeldBundle:
    return HeldBundle(version=version, digest=content.hex().ljust(64, "0"), data=content)


@pytest.fixture(params=["in process", "in a folder", "redis", "redis cluster"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sequence[Bundles]]:
    """The same store as several processes see it."""
    if request.param.startswith("in "):
        yield [InProcessBundles() if request.param == "in process" else FolderBundles(tmp_path)] * CLIENTS
        return
    url = request.getfixturevalue("redis_url" if request.param == "redis" else "redis_cluster_url")
    prefix = f"test-{uuid.uuid4().hex}"
    shared = [SharedRedis.open(url) for _ in range(CLIENTS)]
    yield [RedisBundles(s, prefix=prefix) for s in shared]
    for one in shared:
        await one.close()


async def test_what_one_process_holds_every_process_has(stores: Sequence[Bundles]) -> None:
    assert await stores[0].hold("alder-1", bundle(3, bytes(range(20))))
    assert [await s.held(["alder-1", "brazos-1"]) for s in stores] == [{"alder-1": bundle(3, bytes(range(20)))}] * 3


@pytest.mark.parametrize(
    ("new", "held"),
    [
        pytest.param(bundle(4, b"x"), True, id="a newer one is held"),
        pytest.param(bundle(3), True, id="the same one is still held"),
        pytest.param(bundle(3, b"x"), False, id="another one of the same version is not"),
        pytest.param(bundle(2, b"x"), False, id="an older one is not"),
    ],
)
async def test_a_node_s_policy_never_goes_back(stores: Sequence[Bundles], new: HeldBundle, held: bool) -> None:
    await stores[0].hold("alder-1", bundle(3))
    assert await stores[1].hold("alder-1", new) is held
    assert await stores[2].held(["alder-1"]) == {"alder-1": new if held else bundle(3)}


async def test_of_versions_racing_over_processes_the_newest_stays(stores: Sequence[Bundles]) -> None:
    await asyncio.gather(*(stores[v % CLIENTS].hold("alder-1", bundle(v)) for v in (5, 2, 9, 1, 7, 3)))
    assert (await stores[0].held(["alder-1"]))["alder-1"].version == 9


async def test_a_revoked_version_is_dropped_and_never_held_again(stores: Sequence[Bundles]) -> None:
    await stores[0].hold("alder-1", bundle(3))
    await stores[1].revoke("alder-1", 4)
    assert await stores[2].held(["alder-1"]) == {}
    assert not await stores[0].hold("alder-1", bundle(3))
    assert await stores[0].hold("alder-1", bundle(4))


async def test_a_minimum_is_never_lowered(stores: Sequence[Bundles]) -> None:
    await stores[0].revoke("alder-1", 4)
    await stores[1].revoke("alder-1", 2)
    assert not await stores[2].hold("alder-1", bundle(3))


async def test_versions_are_compared_exactly_up_to_their_limit(stores: Sequence[Bundles]) -> None:
    assert await stores[0].hold("alder-1", bundle(2**53 - 2))
    assert await stores[0].hold("alder-1", bundle(2**53 - 1, b"x"))
    assert not await stores[0].hold("alder-1", bundle(2**53 - 2))


async def test_a_bundle_comes_with_the_minimum_of_its_node(stores: Sequence[Bundles]) -> None:
    await stores[0].hold("alder-1", bundle(5))
    await stores[1].revoke("alder-1", 4)
    assert (await stores[2].held(["alder-1"]))["alder-1"] == replace(bundle(5), minimum=4)
    assert [await s.minimum("alder-1") for s in stores] == [4] * CLIENTS
    assert await stores[0].minimum("brazos-1") == 0


@pytest.mark.parametrize(
    ("known", "told"),
    [
        pytest.param((5, 4), False, id="what is known is not sent again"),
        pytest.param((6, 0), True, id="a higher minimum is sent to who knows a newer version"),
        pytest.param((4, 4), True, id="a newer version is sent"),
        pytest.param((5, 3), True, id="a higher minimum is sent"),
    ],
)
async def test_only_what_is_newer_than_what_is_known_is_sent(
    stores: Sequence[Bundles], known: tuple[int, int], told: bool
) -> None:
    await stores[0].hold("alder-1", bundle(5))
    await stores[0].revoke("alder-1", 4)
    assert ("alder-1" in await stores[1].held(["alder-1"], {"alder-1": known})) is told


async def test_a_listener_is_told_to_look_first_and_then_of_each_change(stores: Sequence[Bundles]) -> None:
    async with aclosing(stores[1].hints()) as hints:
        async with asyncio.timeout(120):
            assert await anext(hints) == ""
            await stores[0].hold("alder-1", bundle(3))
            assert await anext(hints) == "alder-1"
            await stores[0].revoke("brazos-1", 2)
            assert await anext(hints) == "brazos-1"


async def test_what_is_refused_is_no_news(stores: Sequence[Bundles]) -> None:
    await stores[0].hold("alder-1", bundle(3))
    async with aclosing(stores[1].hints()) as hints:
        async with asyncio.timeout(120):
            assert await anext(hints) == ""
            await stores[0].hold("alder-1", bundle(2))
            await stores[0].hold("brazos-1", bundle(1))
            assert await anext(hints) == "brazos-1"


async def test_nonsense_on_the_channel_is_passed_over_and_a_lost_connection_is_made_again() -> None:
    with LocalServer() as server:
        shared = SharedRedis.open(server.url)
        store = RedisBundles(shared, prefix="test")
        async with aclosing(store.hints()) as hints, asyncio.timeout(120):
            assert await anext(hints) == ""
            for nonsense in ("", "Alder 1", "x" * 100_000, "*"):
                server.client().publish("test:bundles", nonsense)
            await store.hold("alder-1", bundle(1))
            assert await anext(hints) == "alder-1"
            server.kill()
            server.start()
            assert await anext(hints) == "", "whoever listens is told to look for what was lost"
        await shared.close()


@pytest.mark.parametrize(
    ("node", "bad"),
    [
        pytest.param("Alder 1", bundle(1), id="no node's id"),
        pytest.param("alder-1", bundle(0), id="version nought"),
        pytest.param("alder-1", bundle(2**53), id="a version that is too great"),
        pytest.param("alder-1", HeldBundle(version=1, digest="x", data=b"x"), id="a digest that is none"),
        pytest.param("alder-1", bundle(1, b""), id="nothing"),
        pytest.param(
            "alder-1", HeldBundle(version=1, digest="0" * 64, data=bytes(MOST_BUNDLE_BYTES + 1)), id="too much"
        ),
    ],
)
async def test_what_is_no_bundle_is_refused(stores: Sequence[Bundles], node: str, bad: HeldBundle) -> None:
    with pytest.raises(InvalidInput):
        await stores[0].hold(node, bad)


async def test_memory_in_process_is_bounded() -> None:
    store = InProcessBundles(most_nodes=1)
    await store.hold("alder-1", bundle(1))
    with pytest.raises(Exhausted):
        await store.hold("alder-2", bundle(1))
