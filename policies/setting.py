"""A federation and its policies as a folder holds them: what tests, the demo and authors decide against."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from comity.errors import ConfigError
from comity.federation import Federation
from policies.engine import Policy, compiled
from policies.packs import load_packs
from policies.retention import retention_s
from policies.usage import UsagePolicy, usage_policies
from policies.vocabulary import Vocabulary, vocabulary_of

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A directory with every policy compiled; None for a node that follows no pack.

    `usage_policies`: of the nodes that have one. A node without one is taken to have posted every purpose here,
    so that rules can be tried before; its bundle is refused all the same where a pack asks for one.
    `packs`: of the nodes whose policy is made of others than the directory says, as their bundles name them.
    `texts`: what each policy was compiled from, the federation's under the empty name.
    """

    federation: Federation
    vocabulary: Vocabulary
    federation_policy: Policy
    node_policies: Mapping[str, Policy | None]
    usage_policies: Mapping[str, UsagePolicy] = field(default_factory=dict)
    packs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path | None = None
    _days: dict[dt.date, Mapping[str, str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path = SAMPLE, on: dt.date | None = None) -> Setting:
        """What `folder/directory.toml` states, with packs from `folder/packs` before those of the package.

        Usage policies are in `folder/usage/NODE.toml`. `on`: the day whose rules count, see `load_packs`.

        Raises:
            ConfigError: the directory cannot be read.
            InvalidInput: the directory is refused.
            PolicyError: a pack or usage policy is refused, or there is no pack of that name.
        """
        federation = load_federation(folder)
        words = vocabulary_of(federation)
        usage, texts = usage_policies(folder, federation), _texts(folder, federation, on)
        return cls(
            federation=federation,
            vocabulary=words,
            federation_policy=compiled(texts[""], words),
            node_policies={n: _compiled(n, texts, words, usage) for n in federation.nodes},
            usage_policies=usage,
            texts=texts,
            folder=folder,
        )

    def at(self, day: dt.date) -> Setting:
        """The same under the rules in force on `day`; what does not differ from this one stays the same object.

        Raises:
            PolicyError: a pack is refused.
        """
        if self.folder is None:
            return self
        if day not in self._days:
            self._days[day] = _texts(self.folder, self.federation, day)
        texts = self._days[day]
        changed = {n for n in texts.keys() | self.texts.keys() if texts.get(n) != self.texts.get(n)}
        if not changed:
            return self
        usage, words = self.usage_policies, self.vocabulary
        nodes = {n: _compiled(n, texts, words, usage) for n in changed if n}
        return replace(
            self,
            federation_policy=compiled(texts[""], words) if "" in changed else self.federation_policy,
            node_policies={**self.node_policies, **nodes},
            texts=texts,
        )

    def packs_of(self, node: str) -> tuple[str, ...]:
        """What the node's policy is made of."""
        return self.packs.get(node, self.federation.nodes[node].presets)

    def kept_s(self, node: str) -> int:
        """For how many seconds the node's data is kept: the least of its own setting and of every pack named for it."""
        registered = self.federation.nodes[node]
        return retention_s(registered.retention_s, (*registered.presets, *self.packs_of(node)))


def _texts(folder: Path, federation: Federation, on: dt.date | None) -> Mapping[str, str]:
    followed = {"": federation.presets, **{n.id: n.presets for n in federation.nodes.values() if n.presets}}
    same = {packs: load_packs(packs, beside=folder / "packs", on=on) for packs in set(followed.values())}
    return {n: same[packs] for n, packs in followed.items()}


def _compiled(
    node: str, texts: Mapping[str, str], words: Vocabulary, usage: Mapping[str, UsagePolicy]
) -> Policy | None:
    if node not in texts:
        return None
    return compiled(texts[node], words, usage[node].posted(words) if node in usage else None)


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
