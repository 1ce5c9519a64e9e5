"""Names that a person types, held against the directory at hand: a slip is told before anything is signed or sent."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric import ec

from comity.errors import ConfigError
from comity.federation import Federation
from identity import files, keys
from identity.directory import Directory
from identity.folder import DIRECTORY_FILE, FEDERATION_FILE, IdentityFolder

MOST_NAMED = 30  # in one message
MAX_CONFIG_BYTES = 64 * 1024
_NEWER = "if it is new, copy the newer directory.json into the identity folder"


def require_person(folder: IdentityFolder) -> None:
    """Nothing, if the identity is a person's.

    Raises:
        ConfigError: WRONG_KIND, with what to take instead.
    """
    if folder.spiffe.kind != "person":
        raise ConfigError(
            f"{folder.path} is the identity of a {folder.spiffe.kind}, and only a person searches: take an "
            "investigator's, made by comity identity issue person ID --role investigator",
            reason="WRONG_KIND",
        )


def require_node(node: str, known: Collection[str], *, where: str = "the directory") -> None:
    """Nothing, if there is such a node.

    Raises:
        UsageError: none; those that there are.
    """
    if node not in known:
        raise click.UsageError(f"no node {node!r} in {where}{_meant(node, known)}; it has {_listed(known)}")


def require_purpose(purpose: str, federation: Federation) -> None:
    """Nothing, if a search can name this purpose: one that is registered and stands for no others.

    Raises:
        UsageError: it is not, or is a group; with the nearest, and those that there are.
    """
    purposes = federation.purposes
    if purpose not in purposes:
        leaves = _leaves(purposes)
        hint = _meant(purpose, leaves)
        raise click.UsageError(f"--purpose: {purpose!r} is not registered{hint}; right is {_listed(leaves)} ({_NEWER})")
    if purpose in purposes.values():
        below = [p for p in _leaves(purposes) if purpose in _above(p, purposes)]
        raise click.UsageError(f"--purpose: {purpose} is a group; name one purpose of it: {_listed(below)}")


def require_agency(agency: str, federation: Federation) -> None:
    """Nothing, if the agency is registered.

    Raises:
        UsageError: it is not; with the nearest, and those that there are.
    """
    if agency not in federation.agencies:
        known = federation.agencies
        hint = _meant(agency, known)
        raise click.UsageError(
            f"--for: no agency {agency!r} in the directory{hint}; it has {_listed(known)} ({_NEWER})"
        )


def directory_beside(folder: Path, out: Path) -> Directory | None:
    """The directory in a federation's folder, else the one of the node whose state folder `out` is in; None if neither.

    Raises:
        ConfigError: there is one, and it cannot be believed.
    """
    places = [folder]
    try:
        config = tomllib.loads(files.read(out.parent / "node.toml", max_bytes=MAX_CONFIG_BYTES).decode())
        places.append(out.parent / str(config["identity"]))
    except (ConfigError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError):
        pass  # no node's folder, or one that the node itself will complain of
    for place in places:
        if (place / DIRECTORY_FILE).is_file() and (place / FEDERATION_FILE).is_file():
            return Directory.load(place / DIRECTORY_FILE, place / FEDERATION_FILE)
    return None


def require_policy_key(key: ec.EllipticCurvePublicKey, agency: str, directory: Directory, *, file: Path) -> None:
    """Nothing, if the directory pins the key for the agency's policies.

    Raises:
        ConfigError: WRONG_KEY; whose it is, if it is anybody's.
    """
    shown = keys.public_pem(key)
    owners = [a for a, pinned in directory.policy_keys.items() if shown in map(keys.public_pem, pinned)]
    if agency in owners:
        return
    if owners:
        whose = f"is the policy key of {owners[0]}, and this node's policy is signed by {agency}"
    else:
        whose = f"is not pinned in the directory (version {directory.version}) for {agency}"
    raise ConfigError(
        f"{file} {whose}: sign with {agency}'s own, or have the federation's operator pin this one", reason="WRONG_KEY"
    )


def _leaves(tree: Mapping[str, str]) -> list[str]:
    parents = set(tree.values())
    return [name for name in tree if name not in parents]


def _above(name: str, tree: Mapping[str, str]) -> set[str]:
    above: set[str] = set()
    while (name := tree.get(name, "")) and name not in above:
        above.add(name)
    return above


def _meant(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _listed(known: Collection[str]) -> str:
    names = sorted(known)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
