"""What agencies published and revoked outlives a broker that runs alone; what is damaged is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.links import Links
from broker.policies import pull, take_up
from broker.state.folder import FolderBundles
from broker.state.interface import HeldBundle
from comity.errors import ConfigError, PolicyError, Unavailable
from tests.unit.broker.scene import DENY
from tests.unit.broker.test_policies import NODE, bundle, directory
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import World


def held(version: int, content: bytes = b"signed") -> HeldBundle:
    return HeldBundle(version=version, digest=hashlib.sha256(content).hexdigest(), data=content)


async def test_what_was_held_and_revoked_is_there_after_a_restart(tmp_path: Path) -> None:
    before = FolderBundles(tmp_path)
    await before.hold("alder-1", held(3, bytes(range(256))))
    await before.revoke("alder-1", 2)
    await before.hold("brazos-1", held(4))
    await before.revoke("brazos-1", 9)
    after = FolderBundles(tmp_path)
    assert await after.held(["alder-1", "brazos-1"]) == {"alder-1": replace(held(3, bytes(range(256))), minimum=2)}
    assert [await after.minimum(n) for n in ("alder-1", "brazos-1", "llano-1")] == [2, 9, 0]
    assert [await after.hold("alder-1", held(2)), await after.hold("brazos-1", held(8))] == [False, False]


async def test_what_is_kept_is_verified_again_before_it_decides(tmp_path: Path, world: World) -> None:
    at = directory(world)
    published = await take_up(bundle(at, 7, DENY), at, FolderBundles(tmp_path), NODE, None, NOW)
    links = Links()
    assert await pull(at.federation.nodes, at, FolderBundles(tmp_path), links, NOW) == (NODE,)
    assert links.with_policies([NODE], NOW) == [(NODE, published.policy)]
    with pytest.raises(PolicyError) as e:
        await take_up(bundle(at, 6), at, FolderBundles(tmp_path), NODE, None, NOW)
    assert e.value.reason == "POLICY_OLDER"
    await FolderBundles(tmp_path).hold(NODE, held(8, b"signed by nobody"))
    assert await pull(at.federation.nodes, at, FolderBundles(tmp_path), fresh := Links(), NOW) == ()
    assert fresh.published(NODE) is None


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def resealed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        content = data.rpartition(b"\nsha256 ")[0].replace(old, new)
        return content + b"\nsha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n"

    return change


DAMAGE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("an empty file", lambda _: b""),
    ("half of a file", lambda data: data[: len(data) // 2]),
    ("all but the last byte", lambda data: data[:-1]),
    ("a byte more", lambda data: data + b"\n"),
    ("one bit in the version", flipped(-80)),
    ("one bit in the bundle", flipped(12)),
    ("one bit in the seal", flipped(-5)),
    ("another node's file", resealed(b"alder-1", b"llano-1")),
    ("another format", resealed(b'"format":1', b'"format":2')),
    ("a version below the minimum", resealed(b'"minimum":0', b'"minimum":4')),
    ("a version that is no number", resealed(b'"version":3', b'"version":true')),
    ("no bundle", resealed(b'"bundle":"c2lnbmVk"', b'"bundle":""')),
    ("a key too many", resealed(b'"version":3', b'"version":3,"x":1')),
    ("more than any bundle", lambda data: data * 200_000),
]


@pytest.mark.parametrize("change", [d[1] for d in DAMAGE], ids=[f"{d[0]} is refused" for d in DAMAGE])
async def test_a_damaged_file_is_refused_by_name(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    await FolderBundles(tmp_path).hold("alder-1", held(3))
    path = tmp_path / "alder-1.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError) as e:
        FolderBundles(tmp_path)
    assert e.value.reason in ("BUNDLES_DAMAGED", "FILE_TOO_LARGE")
    assert str(path) in str(e.value)


async def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    await FolderBundles(tmp_path).hold("alder-1", held(3))
    path = tmp_path / "alder-1.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            FolderBundles(tmp_path)
    path.write_bytes(whole)
    assert await FolderBundles(tmp_path).held(["alder-1"]) == {"alder-1": held(3)}


def test_without_its_folder_a_broker_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as e:
        FolderBundles(tmp_path / "bundles")
    assert e.value.reason == "NO_BUNDLES"
    assert not (tmp_path / "bundles").exists(), "serving makes no state"


def test_a_file_that_is_not_the_brokers_is_refused_and_a_draft_of_a_killed_one_goes(tmp_path: Path) -> None:
    (tmp_path / ".alder-1.json.0123").write_bytes(b"half")
    FolderBundles(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(ConfigError) as e:
        FolderBundles(tmp_path)
    assert e.value.reason == "BUNDLES_DAMAGED"


async def test_what_cannot_be_kept_is_not_held_and_can_be_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    store = FolderBundles(folder)
    await store.hold("alder-1", held(3))
    folder.rename(tmp_path / "away")
    for change in (store.hold("alder-1", held(4)), store.revoke("alder-1", 9)):
        with pytest.raises(Unavailable):
            await change
    assert (await store.held(["alder-1"]), await store.minimum("alder-1")) == ({"alder-1": held(3)}, 0)
    (tmp_path / "away").rename(folder)
    assert await store.hold("alder-1", held(4))
    assert await FolderBundles(folder).held(["alder-1"]) == {"alder-1": held(4)}


async def test_a_caller_who_leaves_in_the_middle_parts_nothing(tmp_path: Path) -> None:
    store = FolderBundles(tmp_path)
    left = [asyncio.ensure_future(store.hold("alder-1", held(v))) for v in (3, 4, 5)]
    await asyncio.sleep(0)
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await store.revoke("llano-1", 1)  # waits its turn behind the others
    assert await FolderBundles(tmp_path).held(["alder-1"]) == await store.held(["alder-1"]) == {"alder-1": held(5)}


async def test_what_is_held_already_costs_no_writing(tmp_path: Path) -> None:
    store = FolderBundles(tmp_path)
    await store.hold("alder-1", held(3))
    before = os.stat(tmp_path / "alder-1.json").st_ino
    assert await store.hold("alder-1", held(3))
    await store.revoke("alder-1", 1)
    after = os.stat(tmp_path / "alder-1.json").st_ino
    assert await store.hold("alder-1", held(3))
    await store.revoke("alder-1", 1)
    assert (after != before, os.stat(tmp_path / "alder-1.json").st_ino) == (True, after)
    assert (tmp_path / "alder-1.json").stat().st_mode & 0o777 == 0o600
