"""How long an offence may be prosecuted, from a closed list: what limits how far back a federal search may look."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from comity.errors import PolicyError

FILE = Path(__file__).parent / "offences.toml"
# fact -> days that may be looked back; a fact of the conditions each, and a row of pack `ice-guidance`
LIMITATIONS: Mapping[str, int] = MappingProxyType(
    {"limitation-5y": 5 * 365, "limitation-8y": 8 * 365, "limitation-10y": 10 * 365}
)
STRICTEST = min(LIMITATIONS, key=LIMITATIONS.__getitem__)
NONE = "none"
_KEYS = {"limitation", "citation", "checked"}


def limitation_of(offence: str) -> str:
    """The fact that is true of `offence`, or empty if it has no limitation.

    An offence that is not in the list, or none at all, has the shortest one.

    >>> limitation_of("terrorism"), limitation_of("treason and worse"), limitation_of("child abduction")
    ('limitation-8y', 'limitation-5y', '')
    """
    return known_offences().get(offence, STRICTEST)


@lru_cache(maxsize=1)
def known_offences() -> Mapping[str, str]:
    """Each listed offence with the fact that is true of it, empty for none.

    Raises:
        PolicyError: the list is not of its form.
    """
    try:
        return parse_offences(tomllib.loads(FILE.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise PolicyError(f"cannot be read: {type(e).__name__}", file=FILE.name) from e


def parse_offences(data: Mapping[str, Any]) -> Mapping[str, str]:
    """The list in `data`, shaped as offences.toml.

    Raises:
        PolicyError: naming the first entry whose keys or limitation are not known.
    """
    out: dict[str, str] = {}
    for name, entry in data.items():
        if not isinstance(entry, Mapping) or set(entry) != _KEYS or not all(type(v) is str for v in entry.values()):
            raise PolicyError(f"{name!r} must have {', '.join(sorted(_KEYS))} as text", file=FILE.name)
        if entry["limitation"] not in (NONE, *LIMITATIONS):
            raise PolicyError(f"{name!r}: limitation is one of {NONE}, {', '.join(LIMITATIONS)}", file=FILE.name)
        out[name] = "" if entry["limitation"] == NONE else entry["limitation"]
    return MappingProxyType(out)
