"""The values that the steps of a search hand on. Each is frozen, and the next step requires it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeGuard, TypeVar

from audit.entry import Draft
from comity.decision import Decision
from comity.envelope import Envelope
from comity.outcome import Coverage, OutcomeKind, Tally
from comity.v1 import inquiry_pb2
from identity.inquiry import VerifiedInquiry
from identity.verify import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as it came in: who is at the other end of the connection, and what they sent.

    `deadline` is in the event loop's time; `work` is the inquiry as every node will be sent it.
    """

    peer: Identity
    envelope: Envelope
    disclosures: Sequence[inquiry_pb2.Disclosure] = field(repr=False)
    work: bytes = field(repr=False)
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Step 1 passed: the inquiry is the caller's own, fresh, and seen for the first time."""

    verified: VerifiedInquiry

    @property
    def inquiry_id(self) -> str:
        """The inquiry's id."""
        return self.verified.inquiry.inquiry_id


@dataclass(frozen=True, slots=True)
class Permit:
    """The node may be asked now."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Deny:
    """The node may not be asked."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The node may be asked once a supervisor has signed too."""

    decision: Decision


Ruling = Permit | Deny | Awaiting
D = TypeVar("D", bound=Ruling, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Generic[D]):
    """Step 3 passed: the decision is durable in the log named `origin`."""

    ruling: D
    origin: str
    index: int
    entry: bytes
    leaf_hash: bytes
    checkpoint: bytes

    @property
    def node(self) -> str:
        """The node decided on."""
        return self.ruling.decision.node


def is_permit(receipt: Receipt[Ruling]) -> TypeGuard[Receipt[Permit]]:
    """True if the receipt is of a permit: only then may its node be asked."""
    return isinstance(receipt.ruling, Permit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReceipt:
    """Where the other side recorded the same decision in its own log."""

    origin: str
    index: int
    leaf_hash: bytes
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one node is sent. `inquiry` is the same bytes for all; `deadline_ms` is the time left to answer."""

    inquiry_id: str
    inquiry_hash: bytes
    inquiry: bytes = field(repr=False)
    receipt: Receipt[Permit]
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One target's outcome: the signed envelope, relayed as it is, and what of it goes into the log.

    `drafts`: its entries, where they were made already to see whether it is of their form.
    """

    node: str
    kind: OutcomeKind
    count: int
    coverage: Coverage | None
    policy_digest: str
    payload_hash: bytes
    envelope: bytes = field(repr=False)
    reason_code: str = ""
    receipt: PeerReceipt | None = None
    drafts: tuple[Draft, ...] = ()


@dataclass(frozen=True, slots=True)
class ShowPolicy:
    """Asks a node to look for a new policy and to say hello with the one in force."""


@dataclass(frozen=True, slots=True)
class End:
    """Ends a node's stream after what is queued on it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The link to a node broke, or brought nonsense, while it worked."""

    node: str
    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Released first: one decision a target, durable."""

    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Outcomes whose entries are durable."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Released last: every target has its outcome."""

    inquiry_id: str
    tally: Tally


Release = Decided | Released | Finished
