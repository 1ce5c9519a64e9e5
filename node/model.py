"""The values that the node's steps of a search hand on. Each is frozen, and the next step requires it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from comity.decision import Decision
from comity.outcome import Coverage, OutcomeKind
from comity.v1 import outcome_pb2
from identity.inquiry import VerifiedInquiry


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerReceipt:
    """What the broker says it recorded: the exact decision entry, its place, and a signed head that covers it."""

    origin: str
    index: int
    entry: bytes
    leaf_hash: bytes
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One inquiry as it came in, nothing of it checked. `nobody_waits` is true once it is cancelled or too late."""

    inquiry_id: str
    inquiry: bytes = field(repr=False)
    receipt: BrokerReceipt
    nobody_waits: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Step 5 passed: the investigator signed it, and the broker recorded that it permits this node to be asked.

    `policy_digest`: the node's policy as the broker decided under it; `obligations`: the names of those it recorded.
    """

    verified: VerifiedInquiry
    receipt: BrokerReceipt
    policy_digest: str
    obligations: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """The cameras whose detections may be released: those `named` alone, or all but them."""

    named: frozenset[str]
    alone: bool

    @property
    def some_left_out(self) -> bool:
        """True unless every camera is among them."""
        return self.alone or bool(self.named)

    def __contains__(self, camera: str) -> bool:
        return (camera in self.named) is self.alone


ALL_CAMERAS = Cameras(named=frozenset(), alone=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReceipt:
    """Step 7 passed: inquiry and decision are durable in this node's own log. `cameras`: those it is about."""

    trusted: Trusted
    decision: Decision
    origin: str
    index: int
    leaf_hash: bytes
    checkpoint: bytes
    cameras: Cameras = ALL_CAMERAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Step 8: what may be released, redacted, and what was really searched. `reason_code` says why not all was.

    `oldest_at`: when the oldest of the detections was captured, whatever is left of its time; None if there are none.
    """

    detections: tuple[outcome_pb2.Detection, ...] = field(repr=False)
    coverage: Coverage
    reason_code: str
    reason: str
    oldest_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Step 9: the one outcome of this node, signed, and what of it goes into the logs.

    `keep_until`: from when on a detection in it is past its retention; None if it holds none.
    """

    inquiry_id: str
    inquiry_hash: bytes
    kind: OutcomeKind
    count: int
    coverage: Coverage | None
    policy_digest: str
    reason_code: str
    payload_hash: bytes
    envelope: bytes = field(repr=False)
    receipt: OwnReceipt | None
    keep_until: dt.datetime | None = None
