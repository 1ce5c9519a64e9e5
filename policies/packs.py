"""The packs of rules: those that the package carries, and those beside a directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comity.errors import PolicyError
from comity.federation import IDENTIFIER
from policies.seal import HEADER, seal, unseal

PACKS = Path(__file__).parent / "packs"


def load_packs(names: Sequence[str], *, own_rules: str = "", beside: Path | None = None) -> str:
    """The sealed text of all the packs named, in that order, and `own_rules` (a sealed text) after them.

    A pack in the folder `beside` goes before one of the same name in the package.

    Raises:
        PolicyError: no pack of that name, one named twice, one that is not sealed, or nothing at all.
    """
    parts = [f"# pack {name}\n{_rows(pack_text(name, beside), name)}" for name in names]
    if len(set(names)) != len(names):
        raise PolicyError("names a pack twice", file=", ".join(names))
    if own_rules:
        parts.append(f"# own rules\n{_rows(own_rules, 'own rules')}")
    if not parts:
        raise PolicyError("names no pack and has no rules of its own")
    return seal(HEADER + "\n" + "".join(parts))


def pack_text(name: str, beside: Path | None = None) -> str:
    """The sealed text of one pack, as its file holds it.

    Raises:
        PolicyError: no such pack, or the file cannot be read.
    """
    # the name comes from a directory: nothing but an identifier may become part of a path
    if not IDENTIFIER.match(name):
        raise PolicyError("right is small letters, digits and hyphens", file=name[:80])
    for folder in (beside, PACKS):
        path = folder / f"{name}.csv" if folder else None
        if path is None or not path.is_file():
            continue
        try:
            return path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise PolicyError(f"cannot be read: {type(e).__name__}", file=f"{name}.csv") from e
    known = ", ".join(sorted(p.stem for p in PACKS.glob("*.csv")))
    raise PolicyError(f"there is no pack {name}; the package carries {known}", file=name)


def _rows(text: str, name: str) -> str:
    lines = unseal(text, f"{name}.csv").splitlines(keepends=True)
    body = [line for line in lines if not line.startswith("#")]
    if not body or body[0] != HEADER + "\n":
        raise PolicyError(f"has no header; right is {HEADER}", file=f"{name}.csv", line=1)
    return "".join(body[1:])
