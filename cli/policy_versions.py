"""The two versions that `comity policy diff` compares, from whatever an author has at hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import orjson

from comity.decision import Layer
from comity.envelope import BUNDLE_TYPE
from comity.errors import PolicyError
from comity.federation import Federation
from identity.dsse import dsse_json_decode
from policies.bundle import Bundle, compile_bundle, parse_bundle
from policies.engine import compiled
from policies.packs import load_packs, pack_text
from policies.setting import Setting
from policies.sides import Registry, Side, Stated, sides_of

MAX_FILE_BYTES = 4 * 1024 * 1024
Sides = Mapping[str, Side]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One side as it was named: a pack's name, or the text of a file; `bundle` where that was a signed bundle."""

    name: str
    is_pack: bool
    text: str
    bundle: Bundle | None = None


def versions(a: str, b: str, folder: Path, node: str | None, day: dt.date) -> tuple[Sides, Sides, str]:
    """Both sides by node, and in words what they are compared as.

    Raises:
        UsageError: one of the two is a federation and the other is not, or there is no such node.
        PolicyError, InvalidInput, ConfigError: one of them is refused.
    """
    if Path(a, "directory.toml").is_file() or Path(b, "directory.toml").is_file():
        if not (Path(a, "directory.toml").is_file() and Path(b, "directory.toml").is_file()):
            raise click.UsageError("a federation's folder can only be compared with another one")
        first, second = (sides_of(Setting.load(Path(f), on=day), day) for f in (a, b))
        chosen = _chosen(first, node), _chosen(second, node)
        if node is not None and not (chosen[0] or chosen[1]):
            raise click.UsageError(f"no node {node!r} in either directory")
        return *chosen, "two federations"
    setting = Setting.load(folder, on=day)
    if node is not None and node not in setting.federation.nodes:
        raise click.UsageError(f"no node {node!r} in the directory; right is one of {', '.join(setting.node_policies)}")
    before, after = (_read(name, folder, setting.federation) for name in (a, b))
    named = node or next((v.bundle.node for v in (before, after) if v.bundle is not None), None)
    if before.is_pack and named is None:
        held = _in_place(before, after, setting, folder, day)
        if held is not None:
            return *held, f"pack {before.name} where it is followed, and {after.name} in its place"
    if named is not None:
        return _whole(before, setting, named, day), _whole(after, setting, named, day), f"the policy of {named}"
    return _alone(before, setting, day), _alone(after, setting, day), "each alone, at every node"


def _chosen(sides: Sides, node: str | None) -> Sides:
    return {n: side for n, side in sides.items() if node in (None, n)}


def _read(name: str, folder: Path, federation: Federation) -> Version:
    path = Path(name)
    if not path.is_file():
        return Version(name=name, is_pack=True, text=pack_text(name, folder / "packs"))
    data = path.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise PolicyError(f"longer than {MAX_FILE_BYTES} bytes", file=path.name)
    if not data.startswith(b"{"):
        return Version(name=path.name, is_pack=False, text=data.decode("utf-8", errors="replace"))
    payload = dsse_json_decode(data, payload_type=BUNDLE_TYPE).payload
    bundle = parse_bundle(payload, federation, _valid_from(payload))
    return Version(name=path.name, is_pack=False, text=bundle.policy, bundle=bundle)


def _valid_from(payload: bytes) -> dt.datetime:
    """When the bundle began to hold: what it says is compared, whether or not it still holds."""
    try:
        return dt.datetime.fromisoformat(orjson.loads(payload)["valid_from"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return dt.datetime.now(dt.UTC)


def _whole(version: Version, setting: Setting, node: str, day: dt.date) -> Sides:
    side = sides_of(setting, day)[node]
    if version.bundle is not None:
        policy = compile_bundle(version.bundle, setting.federation)
    else:
        usage = setting.usage_policies.get(node)
        policy = compiled(version.text, setting.vocabulary, usage.posted(setting.vocabulary) if usage else None)
    return {node: replace(side, layers=(side.layers[0], Stated.of(Layer.NODE, policy)))}


def _alone(version: Version, setting: Setting, day: dt.date) -> Sides:
    registry = Registry(setting.federation, day)
    stated = Stated.of(Layer.NODE, compiled(version.text, setting.vocabulary))
    return {node: Side(registry=registry, node=node, layers=(stated,)) for node in setting.federation.nodes}


def _in_place(
    before: Version, after: Version, setting: Setting, folder: Path, day: dt.date
) -> tuple[Sides, Sides] | None:
    """The nodes that follow pack `before`, and the same with `after` in its place; None if nobody follows it."""
    sides, federation = sides_of(setting, day), setting.federation
    everywhere = before.name in federation.presets
    old: dict[str, Side] = {}
    new: dict[str, Side] = {}
    for node, side in sides.items():
        presets = federation.nodes[node].presets
        if not everywhere and before.name not in presets:
            continue
        layers = list(side.layers)
        for number, packs in enumerate((federation.presets, presets)):
            if before.name in packs:
                text = _replaced(packs, before, after, folder, day)
                policy = compiled(text, setting.vocabulary, side.layers[number].posted)
                layers[number] = Stated.of(side.layers[number].layer, policy)
        old[node], new[node] = side, replace(side, layers=tuple(layers))
    return (old, new) if old else None


def _replaced(packs: tuple[str, ...], before: Version, after: Version, folder: Path, day: dt.date) -> str:
    kept = [p for p in packs if p != before.name]
    if after.is_pack:
        return load_packs([*kept, after.name], beside=folder / "packs", on=day)
    return load_packs(kept, own_rules=after.text, beside=folder / "packs", on=day)
