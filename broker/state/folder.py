"""Nodes' policy bundles of a broker that runs alone, kept in its state folder: a restart forgets no revocation.

One file a node, `NODE.json`: one object, and a line with its SHA-256. It is replaced as a whole and on the disk before
the change holds. A signed bundle is verified again by whoever reads it here; a minimum has no signature, so that a file
that is not whole is refused, and the broker does not start on it.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import orjson

from broker.state.inprocess import InProcessBundles
from broker.state.interface import MOST_BUNDLE_BYTES, UNAVAILABLE, HeldBundle, require_bundle, require_version
from comity import jcs
from comity.errors import ConfigError, InvalidInput, Unavailable
from comity.federation import IDENTIFIER
from identity import files

FOLDER = "bundles"
SUFFIX = ".json"
FORMAT = 1
MAX_BYTES = 2 * MOST_BUNDLE_BYTES  # base64 and the other keys
_SEAL = b"\nsha256 "
_KEYS = {"format", "node", "minimum", "version", "digest", "bundle"}


class FolderBundles(InProcessBundles):
    """A Bundles for one process, that remembers."""

    def __init__(self, folder: Path, *, most_nodes: int = 10_000) -> None:
        """What `folder` keeps.

        Raises:
            ConfigError: NO_BUNDLES (there is no such folder), BUNDLES_DAMAGED (a file in it is not what was written).
        """
        super().__init__(most_nodes=most_nodes)
        self._folder = folder
        try:
            paths = sorted(folder.iterdir())
        except OSError:
            raise ConfigError(
                f"{folder} cannot be read: broker init makes it; without it, what agencies published and revoked "
                "is forgotten",
                reason="NO_BUNDLES",
            ) from None
        for path in paths:
            if path.name.startswith("."):  # a draft whose writer was killed; it never held
                path.unlink(missing_ok=True)
                continue
            node, held, minimum = _read(path)
            self._room(node)
            self._minimum[node] = minimum
            if held is not None:
                self._held[node] = held

    async def keep(self, node_id: str, held: HeldBundle | None, minimum: int) -> None:
        """On the disk when it returns.

        Raises:
            Unavailable: it could not be written.
        """
        path = self._folder / (node_id + SUFFIX)
        try:
            await asyncio.to_thread(files.replace, path, _encode(node_id, held, minimum), mode=files.PRIVATE)
        except ConfigError as error:
            raise Unavailable(f"the policy cannot be kept: {error}", reason=UNAVAILABLE) from None


def _encode(node: str, held: HeldBundle | None, minimum: int) -> bytes:
    content = jcs.encode(
        {
            "format": FORMAT,
            "node": node,
            "minimum": minimum,
            "version": held.version if held else 0,
            "digest": held.digest if held else "",
            "bundle": b64encode(held.data).decode() if held else "",
        }
    )
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _read(path: Path) -> tuple[str, HeldBundle | None, int]:
    node = path.name.removesuffix(SUFFIX)
    if not IDENTIFIER.match(node) or path.name == node:
        raise _damaged(path, "is not of the broker's making")
    content, seal, digest = files.read(path, max_bytes=MAX_BYTES).rpartition(_SEAL)
    if not seal or digest != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise _damaged(path, "is not whole: its last line is not the SHA-256 of what is before it")
    try:
        raw = orjson.loads(content)
        if type(raw) is not dict or raw.keys() != _KEYS or (raw["format"], raw["node"]) != (FORMAT, node):
            raise ValueError
        if any(type(raw[key]) is not int for key in ("minimum", "version")):
            raise ValueError
        return node, _held(node, raw), raw["minimum"]
    except (ValueError, TypeError, InvalidInput):  # orjson's own error is a ValueError
        raise _damaged(path, "is not what this version writes") from None


def _held(node: str, raw: dict[str, Any]) -> HeldBundle | None:
    if raw["minimum"] != 0:
        require_version(raw["minimum"])
    if raw["version"] == 0:
        return None
    held = HeldBundle(version=raw["version"], digest=raw["digest"], data=b64decode(raw["bundle"], validate=True))
    require_bundle(node, held)
    if held.version < raw["minimum"]:
        raise ValueError
    return held


def _damaged(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"{path} {what}. Take it from a backup. Whoever removes it has its agency publish again, with --revoke-older "
        "if it had revoked anything",
        reason="BUNDLES_DAMAGED",
    )
