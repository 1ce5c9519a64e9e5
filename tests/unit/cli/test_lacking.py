"""Whoever signs a directory is told what its readers would stumble over, before they do."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from cli.lacking import lacking, left_out
from identity import keys
from identity.authority import Authority
from identity.directory import LogKey
from policies.setting import SAMPLE
from tests.unit.identity.world import NOW, World

NODE, AGENCY = "port-alder-1", "us-ca-port-alder-pd"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that the sample federation's directory can hold."""
    tables = tomllib.loads((SAMPLE / "directory.toml").read_text(encoding="utf-8"))
    root = tmp_path_factory.mktemp("authorities")
    names = [("broker", "b1"), *(("node", n["id"]) for n in tables["node"])]
    return {
        "federation": tables,
        "authorities": {
            a["id"]: [Authority.create(root / a["id"], a["id"], at=NOW).certificate] for a in tables["agency"]
        },
        "policy_keys": {n["agency"]: [keys.new_signing_key().public_key()] for n in tables["node"]},
        "logs": [LogKey(origin=f"x/{p}/{i}", key=keys.new_log_key().public_key(), program=p, id=i) for p, i in names],
    }


OLD, NEW = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    ("version", "denied", "said"),
    [
        pytest.param(8, [OLD, NEW], "", id="nothing of one that is higher and denies no less"),
        pytest.param(8, [NEW], f"{OLD}: denied before and no more", id="whom it lets in again"),
        pytest.param(7, [OLD], "version 7 was here: running programs take up a higher", id="the same version"),
        pytest.param(6, [OLD], "version 7 was here: running programs take up a higher", id="a lower version"),
    ],
)
def test_whoever_replaces_a_directory_is_told_where_it_goes_back(
    world: World, version: int, denied: list[str], said: str
) -> None:
    before = world.directory(version=7, denied=[OLD])
    sentences = list(left_out(world.directory(version=version, denied=denied), before))
    assert len(sentences) == bool(said)
    assert all(s.startswith(said) for s in sentences)


def test_a_directory_that_replaces_none_goes_back_behind_nothing(world: World) -> None:
    assert list(left_out(world.directory(), None)) == []


def told(world: World, whole: dict[str, Any], **changes: Any) -> list[str]:
    return list(lacking(world.directory(**(whole | changes)), SAMPLE / "packs"))


def test_of_a_directory_that_lacks_nothing_nothing_is_said(world: World, whole: dict[str, Any]) -> None:
    assert told(world, whole) == []


@pytest.mark.parametrize(
    ("part", "kept", "said"),
    [
        pytest.param("authorities", lambda k: k != AGENCY, f"{AGENCY}: no authority is pinned", id="an authority"),
        pytest.param("policy_keys", lambda k: k != AGENCY, f"{AGENCY}: no policy key is pinned", id="a policy key"),
        pytest.param("logs", lambda k: k.id != NODE, f"{NODE}: no key of its log is pinned", id="a node's log"),
        pytest.param("logs", lambda k: k.id != "b1", "no key of a broker's log is pinned", id="a broker's log"),
    ],
)
def test_what_is_not_pinned_yet_is_named_with_what_follows(
    world: World, whole: dict[str, Any], part: str, kept: Any, said: str
) -> None:
    have = whole[part]
    less = {k: v for k, v in have.items() if kept(k)} if isinstance(have, dict) else [k for k in have if kept(k)]
    (sentence,) = told(world, whole, **{part: less})
    assert sentence.startswith(said)


@pytest.mark.parametrize(
    ("purposes", "presets", "said"),
    [
        pytest.param(
            {"any-purpose": "", "criminal": "any-purpose"}, ["federation-base"], "no broker starts", id="words"
        ),
        pytest.param(None, [], "federation.presets names no pack", id="no pack"),
        pytest.param(None, ["nowhere"], "pack nowhere: no broker starts", id="a pack that there is not"),
    ],
)
def test_packs_that_no_broker_could_start_with_are_named(
    world: World, whole: dict[str, Any], purposes: dict[str, str] | None, presets: list[str], said: str
) -> None:
    tables = whole["federation"]
    changed = tables | {"federation": tables["federation"] | {"presets": presets}, "node": [], "agreement": []}
    changed["federation"] |= {"witnesses": [], "quorum": 0}
    changed["purposes"] = purposes or tables["purposes"]
    sentences = told(world, whole, federation=changed, policy_keys={}, logs=[k for k in whole["logs"] if k.id == "b1"])
    assert any(said in s for s in sentences)
