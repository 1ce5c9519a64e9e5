"""How long a node may answer from what it holds: the least of its own setting and of the packs it follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

DAY_S = 86_400

# pack -> seconds after which a detection must be gone
PACK_RETENTION_S: Mapping[str, int] = MappingProxyType(
    {
        "us-nh": 180,  # Source: RSA 261:75-b VIII (report): three minutes without an alarm
        "us-va": 21 * DAY_S,  # Source: Va. Code 2.2-5517 (report)
        "us-me": 21 * DAY_S,  # Source: 29-A M.R.S. 2117-A (report)
    }
)


def retention_s(own_s: int, packs: Iterable[str]) -> int:
    """The seconds that count for a node whose own setting is `own_s` and which follows `packs`."""
    return min([own_s, *(PACK_RETENTION_S[p] for p in packs if p in PACK_RETENTION_S)])
