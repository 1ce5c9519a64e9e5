"""What a policy says that it is made of, held against the packs that the package carries.

Names are what people read. A row `CA-1` that asks for less than the pack's, or a bundle that names a pack and leaves
out one of its rows, would pass for the law on every page and in every refusal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from policies.packs import PACKS, pack_metadata, pack_text, rows_of
from policies.seal import HEADER
from policies.setting import Setting

COLUMNS = tuple(HEADER.split(","))
_WHAT = slice(COLUMNS.index("node"), COLUMNS.index("basis"))  # the basis may be worded otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that does not hold: of which row of which shipped pack, and what is so instead."""

    pack: str
    row: str
    message: str

    def __str__(self) -> str:
        return f"{self.row} {self.message}"


def altered(rows: Iterable[Sequence[str]]) -> Iterator[Claim]:
    """Each row, as cells, that has the name of a rule which a shipped pack words otherwise."""
    for cells in rows:
        row, rule = cells[0], cells[0].partition(".")[0]
        pack = _packs_of_rules().get(rule)
        if pack is None:
            continue
        theirs = _shipped(pack).get(row)
        if theirs is None:
            yield Claim(pack=pack, row=row, message=f"is no part of {rule} in pack {pack}; right is a name of its own")
        elif theirs[_WHAT] != tuple(cells)[_WHAT]:
            differ = [f"{c} is {b}" for c, a, b in zip(COLUMNS, cells, theirs, strict=False) if a != b and c != "basis"]
            yield Claim(
                pack=pack,
                row=row,
                message=f"is not what pack {pack} says: {', '.join(differ)}; right is a name of its own",
            )


def left_out(packs: Iterable[str], rows: Iterable[Sequence[str]], on: dt.date) -> Iterator[Claim]:
    """Each row of the packs named that the package carries and that is in force on the day, yet not among `rows`."""
    have = {cells[0] for cells in rows}
    for pack in packs:
        known = pack_metadata(pack) if (PACKS / f"{pack}.csv").is_file() else None
        for row in _shipped(pack) if known is not None else ():
            if known is not None and row not in have and known.rules[row.partition(".")[0]].in_force(on):
                yield Claim(pack=pack, row=row, message=f"of pack {pack} is left out, though the policy names the pack")


def claims(packs: Sequence[str], text: str, on: dt.date) -> list[Claim]:
    """Everything in a sealed policy text made of `packs` that is not as the package's packs have it.

    Raises:
        PolicyError: the text is not sealed, or has no header.
    """
    rows = [tuple(row.rstrip("\n").split(",")) for row in rows_of(text, "policy")]
    return [*altered(rows), *left_out(packs, rows, on)]


def node_claims(setting: Setting, node: str, on: dt.date) -> list[Claim]:
    """The same of the policy of one node, under the packs that it names; none of a node without a policy."""
    policy = setting.node_policies[node]
    if policy is None:
        return []
    rows = [rule.cells for rule in policy.rules]
    return [*altered(rows), *left_out(setting.packs_of(node), rows, on)]


def replaced(setting: Setting) -> list[str]:
    """A sentence for each pack that is followed, of the package's name, which the setting's folder has otherwise.

    Of the federation's own that is no detail: brokers and nodes decide by the package's, whatever a folder shows.
    """
    if setting.folder is None:
        return []
    federation, out = setting.federation, []
    for name in sorted({*federation.presets, *(p for n in federation.nodes for p in setting.packs_of(n))}):
        own = setting.folder / "packs" / f"{name}.csv"
        if not own.is_file() or not (PACKS / f"{name}.csv").is_file():
            continue
        rows = {tuple(row.rstrip("\n").split(",")) for row in rows_of(pack_text(name, own.parent), name)}
        if rows != set(_shipped(name).values()):
            after = "; brokers and nodes decide by that one" if name in federation.presets else ""
            out.append(f"pack {name} is this folder's own, and not the one that the package carries{after}")
    return out


@lru_cache(maxsize=256)
def _shipped(pack: str) -> Mapping[str, tuple[str, ...]]:
    text = (PACKS / f"{pack}.csv").read_text(encoding="ascii")
    rows = [tuple(row.rstrip("\n").split(",")) for row in rows_of(text, pack)]
    return MappingProxyType({cells[0]: cells for cells in rows})


@lru_cache(maxsize=1)
def _packs_of_rules() -> Mapping[str, str]:
    packs = sorted(path.stem for path in PACKS.glob("*.csv"))
    return MappingProxyType({row.partition(".")[0]: pack for pack in packs for row in _shipped(pack)})
