"""The usage policy that a node posts: for what purposes, by whom and how licence-plate data is used there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comity.errors import PolicyError
from comity.federation import IDENTIFIER, Federation
from policies.vocabulary import Vocabulary

# Source: Cal. Civ. Code 1798.90.51(b)(2), (A) to (H): what a posted policy must state beside its purposes.
STATEMENTS = ("job_titles", "training", "monitoring", "sharing_limits", "custodian", "accuracy", "retention")
FIELDS = ("purposes", *STATEMENTS)
MAX_CHARACTERS = 2_000
MAX_PURPOSES = 200
REASON = "BUNDLE_USAGE_POLICY"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePolicy:
    """A complete usage policy. `purposes`: of the federation's tree; a group stands for all below it."""

    purposes: tuple[str, ...]
    job_titles: str
    training: str
    monitoring: str
    sharing_limits: str
    custodian: str
    accuracy: str
    retention: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> UsagePolicy:
        """The usage policy in `data`, which must have every field and no other.

        Raises:
            PolicyError: reason BUNDLE_USAGE_POLICY, naming every field that is missing, unknown or ill-formed.
        """
        bad = [f"{f} is missing" for f in FIELDS if f not in data]
        bad += [f"{f[:40]!r} is unknown" for f in sorted(data) if f not in FIELDS]
        purposes = data.get("purposes", [])
        if not _are_purposes(purposes):
            bad.append(f"purposes must be 1 to {MAX_PURPOSES} purposes, none twice")
        for field in STATEMENTS:
            if field in data and not _is_statement(data[field]):
                bad.append(f"{field} must be 1 to {MAX_CHARACTERS} printable characters, more than blanks")
        if bad:
            raise PolicyError("; ".join(bad), file="usage policy", reason=REASON)
        return cls(purposes=tuple(purposes), **{f: data[f] for f in STATEMENTS})

    @classmethod
    def read(cls, path: Path) -> UsagePolicy:
        """The usage policy in a TOML file.

        Raises:
            PolicyError: reason BUNDLE_USAGE_POLICY, the file cannot be read as TOML, or as `parse`.
        """
        try:
            return cls.parse(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise PolicyError(f"cannot be read: {type(e).__name__}", file=path.name, reason=REASON) from e

    def as_json(self) -> dict[str, object]:
        """What `parse` takes."""
        return {"purposes": list(self.purposes), **{f: getattr(self, f) for f in STATEMENTS}}

    def posted(self, words: Vocabulary) -> frozenset[str]:
        """The purposes that a request may name and that are listed, or lie under one that is."""
        listed = set(self.purposes)
        return frozenset(leaf for leaf in words.purpose.leaves if words.purpose.above[leaf] & listed)

    def check_registered(self, federation: Federation) -> None:
        """Return if every purpose is one of the federation's: a misspelt one would only refuse, without a word.

        Raises:
            PolicyError: reason BUNDLE_USAGE_POLICY, naming the first that is not.
        """
        for purpose in self.purposes:
            if purpose not in federation.purposes:
                raise PolicyError(f"purpose {purpose!r} is not registered", file="usage policy", reason=REASON)


def usage_policies(folder: Path, federation: Federation) -> Mapping[str, UsagePolicy]:
    """Node -> the usage policy in `folder/usage/NODE.toml`; nodes without such a file left out.

    Raises:
        PolicyError: as `UsagePolicy.read` and `check_registered`.
    """
    out = {}
    for node in federation.nodes:
        path = folder / "usage" / f"{node}.toml"
        if path.is_file():
            out[node] = UsagePolicy.read(path)
            out[node].check_registered(federation)
    return out


def _are_purposes(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MAX_PURPOSES:
        return False
    return all(type(p) is str and IDENTIFIER.match(p) for p in value) and len(set(value)) == len(value)


def _is_statement(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_CHARACTERS and value.isprintable() and value.strip() != ""
