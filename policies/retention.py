"""How long a node may answer from what it holds: the least of its own setting and of the packs it follows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from comity.errors import PolicyError
from policies.packs import PACKS, pack_metadata

DAY_S = 86_400


def retention_s(own_s: int, packs: Iterable[str]) -> int:
    """The seconds that count for a node whose own setting is `own_s` and which follows `packs`.

    A pack that the package does not carry sets no limit here: its agency states it as the node's own. Dates of
    rules do not count: a limit that is to come, or is past, is kept too.

    Raises:
        PolicyError: the metadata of a pack that the package carries is missing or refused.
    """
    limits = (_limit_s(pack) for pack in packs)
    return min([own_s, *(s for s in limits if s is not None)])


@lru_cache(maxsize=256)
def _limit_s(pack: str) -> int | None:
    if not (PACKS / f"{pack}.csv").is_file():
        return None
    known = pack_metadata(pack)
    if known is None:
        raise PolicyError("has no metadata", file=pack)
    return known.retention_s
