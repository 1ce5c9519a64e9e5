"""What a reconciliation finds, and what it counts without finding fault with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The classes of discrepancy."""

    LOG_FAULT = "LOG_FAULT"
    MISSING_AT_NODE = "MISSING_AT_NODE"
    MISSING_AT_BROKER = "MISSING_AT_BROKER"
    FIELD_DIFFERS = "FIELD_DIFFERS"
    ORDER_DIFFERS = "ORDER_DIFFERS"
    BACKDATED = "BACKDATED"
    OUTCOME_DIFFERS = "OUTCOME_DIFFERS"
    UNANSWERED = "UNANSWERED"
    RECEIPT_NOT_HONOURED = "RECEIPT_NOT_HONOURED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One disagreement. Indexes are -1 where that side has no entry; `count` says how many more are of its kind."""

    kind: Kind
    sentence: str
    node: str = ""
    inquiry_id: str = ""
    broker_index: int = -1
    node_index: int = -1
    fields: tuple[str, ...] = ()
    count: int = 1


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """What came of it. `skewed` are exchanges decided under different policies; `lost` answers that did not arrive;
    `cut_off` searches that a stop or crash ended; `elsewhere` what concerns logs that were not given."""

    exchanges: int = 0
    skewed: list[tuple[str, str]] = field(default_factory=list)
    lost: int = 0
    cut_off: int = 0
    elsewhere: int = 0
    unpinned: dict[str, int] = field(default_factory=dict)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
