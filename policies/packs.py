"""The packs of rules: those that the package carries, and those beside a directory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from comity.errors import PolicyError
from comity.federation import IDENTIFIER
from policies.metadata import Metadata
from policies.seal import HEADER, seal, unseal

PACKS = Path(__file__).parent / "packs"
_RULE, _EFT = HEADER.split(",").index("rule"), HEADER.split(",").index("eft")


def load_packs(
    names: Sequence[str], *, own_rules: str = "", beside: Path | None = None, on: dt.date | None = None
) -> str:
    """The sealed text of all the packs named, in that order, and `own_rules` (a sealed text) after them.

    A pack in the folder `beside` goes before one of the same name in the package. Only the rules that are in force
    on the day `on` are in it. With no day the strictest reading is taken: every deny and limit whatever its dates,
    and of the allows only those without any.

    Raises:
        PolicyError: no pack of that name, one named twice, one that is not sealed, or nothing at all.
    """
    parts = [f"# pack {name}\n{''.join(_in_force(name, beside, on))}" for name in names]
    if len(set(names)) != len(names):
        raise PolicyError("names a pack twice", file=", ".join(names))
    if own_rules:
        parts.append(f"# own rules\n{''.join(rows_of(own_rules, 'own rules'))}")
    if not parts:
        raise PolicyError("names no pack and has no rules of its own")
    return seal(HEADER + "\n" + "".join(parts))


def pack_text(name: str, beside: Path | None = None) -> str:
    """The sealed text of one pack, as its file holds it.

    Raises:
        PolicyError: no such pack, or the file cannot be read.
    """
    return _read(_folder(name, beside) / f"{name}.csv")


def pack_metadata(name: str, beside: Path | None = None) -> Metadata | None:
    """What is known about the pack's rules. None only for a pack in the folder `beside` that comes without it.

    Raises:
        PolicyError: no such pack, or its metadata is missing or refused.
    """
    folder = _folder(name, beside)
    path = folder / f"{name}.meta.toml"
    if folder == PACKS:
        return _shipped(name)
    return Metadata.parse(_read(path), name, _bases(name, beside)) if path.exists() else None


def next_change(names: Sequence[str], on: dt.date, beside: Path | None = None) -> dt.date | None:
    """The first day after `on` on which a rule of the packs begins or ceases to hold; None if none will.

    Raises:
        PolicyError: as `pack_metadata`.
    """
    known = [pack_metadata(name, beside) for name in names]
    return min((d for m in known if m is not None for d in m.changes() if d > on), default=None)


def not_law(names: Sequence[str], beside: Path | None = None) -> tuple[str, ...]:
    """A sentence for each pack that holds rules which are not law, in the order of `names`.

    Raises:
        PolicyError: as `pack_metadata`.
    """
    out = []
    for name in names:
        known = pack_metadata(name, beside)
        if known is not None and known.not_law():
            rules = ", ".join(f"{rule} is {status}" for rule, status in sorted(known.not_law().items()))
            out.append(f"pack {name} is not law: {rules}")
    return tuple(out)


def rows_of(text: str, name: str) -> list[str]:
    """The rows of a sealed text, each with its line feed.

    Raises:
        PolicyError: not sealed, or no header.
    """
    lines = unseal(text, f"{name}.csv").splitlines(keepends=True)
    body = [line for line in lines if not line.startswith("#")]
    if not body or body[0] != HEADER + "\n":
        raise PolicyError(f"has no header; right is {HEADER}", file=f"{name}.csv", line=1)
    return body[1:]


@lru_cache(maxsize=256)
def _shipped(name: str) -> Metadata:
    return Metadata.parse(_read(PACKS / f"{name}.meta.toml"), name, _bases(name, None))


def _folder(name: str, beside: Path | None) -> Path:
    # the name comes from a directory: nothing but an identifier may become part of a path
    if not IDENTIFIER.match(name):
        raise PolicyError("right is small letters, digits and hyphens", file=name[:80])
    for folder in (beside, PACKS):
        if folder is not None and (folder / f"{name}.csv").is_file():
            return folder
    known = ", ".join(sorted(p.stem for p in PACKS.glob("*.csv")))
    raise PolicyError(f"there is no pack {name}; the package carries {known}", file=name)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise PolicyError(f"cannot be read: {type(e).__name__}", file=path.name) from e


def _bases(name: str, beside: Path | None) -> Mapping[str, str]:
    """Each rule of the pack, without its part, with its basis: its last cell, so commas inside it do not count."""
    cells = [row.rstrip("\n").split(",") for row in rows_of(pack_text(name, beside), name)]
    return {c[_RULE].partition(".")[0]: c[-1] for c in cells}


def _in_force(name: str, beside: Path | None, on: dt.date | None) -> list[str]:
    rows = rows_of(pack_text(name, beside), name)
    known = pack_metadata(name, beside)
    return rows if known is None else [row for row in rows if _counts(row, known, on)]


def _counts(row: str, known: Metadata, on: dt.date | None) -> bool:
    cells = row.split(",")
    meta = known.rules[cells[_RULE].partition(".")[0]]
    if on is not None:
        return meta.in_force(on)
    # a row too short to have an effect is kept: the loader refuses it by its line
    undated = meta.from_date is None and meta.until is None
    return undated or len(cells) <= _EFT or cells[_EFT] != "allow"
