"""A federation and its policies as a folder holds them: what tests, the demo and authors decide against."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comity.errors import ConfigError
from comity.federation import Federation
from policies.engine import Policy, compiled
from policies.packs import load_packs
from policies.vocabulary import Vocabulary, vocabulary_of

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A directory with every policy compiled; None for a node that follows no pack."""

    federation: Federation
    vocabulary: Vocabulary
    federation_policy: Policy
    node_policies: Mapping[str, Policy | None]

    @classmethod
    def load(cls, folder: Path = SAMPLE) -> Setting:
        """What `folder/directory.toml` states, with packs from `folder/packs` before those of the package.

        Raises:
            ConfigError: the directory cannot be read.
            InvalidInput: the directory is refused.
            PolicyError: a pack is refused, or there is none of that name.
        """
        federation = load_federation(folder)
        words = vocabulary_of(federation)
        beside = folder / "packs"
        nodes = {
            n.id: compiled(load_packs(n.presets, beside=beside), words) if n.presets else None
            for n in federation.nodes.values()
        }
        return cls(
            federation=federation,
            vocabulary=words,
            federation_policy=compiled(load_packs(federation.presets, beside=beside), words),
            node_policies=nodes,
        )


def load_federation(folder: Path) -> Federation:
    """The registry in `folder/directory.toml`.

    Raises:
        ConfigError: it cannot be read as TOML.
        InvalidInput: it is refused.
    """
    try:
        with (folder / "directory.toml").open("rb") as file:
            data = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"directory.toml in {folder} cannot be read: {e}") from e
    return Federation.parse(data)
