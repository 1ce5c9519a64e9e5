"""A log and its witnesses: which heads each of them has cosigned, and what a head that one of them shows says of it.

A claim counts only with the log's own signature on it, so that no witness can make one up. A head of the log's own
signing that the log does not hold says that this is an older copy, or another past, of it: a fault for good.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from audit.cosignature import WitnessKey, cosignature
from audit.note import Checkpoint, Cited, VerifierKey, verify_checkpoint
from audit.proof import Proof
from audit.witness import Clock, Refusal, ToWitness, Witnessed
from audit.writer import SignedHead
from comity.errors import LogFault

CLOCKS_APART = dt.timedelta(minutes=5)
KEPT_HEADS = 16  # heads for which cosignatures are gathered at once


class Proofs(Protocol):
    """What `audit.live.LiveHashes` does."""

    def root(self, size: int) -> bytes:
        """The root over the first `size` entries."""
        ...

    def consistency(self, old: int, new: int) -> Proof:
        """That the log of `new` entries begins with that of `old`."""
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """The head that a witness was asked to cosign last, and when, in the caller's seconds."""

    head: SignedHead
    at_s: float
    old_size: int


class OwnHeads:
    """What the witnesses in `witnesses` (who -> key) have cosigned of one's own log. For one thread at a time.

    `quorum` of them make a head one that may be cited: at least one. `fault` is set once and stays.
    """

    def __init__(
        self,
        *,
        vkey: VerifierKey,
        head: Callable[[], SignedHead],
        proofs: Proofs,
        witnesses: Mapping[str, WitnessKey],
        quorum: int,
        clock: Clock,
    ) -> None:
        self.witnesses = witnesses
        self.quorum = quorum
        self.fault: Refusal | None = None
        self.cited: Cited | None = None
        self._vkey, self._head, self._proofs, self._clock = vkey, head, proofs, clock
        self._known: dict[str, int] = {}
        self._sent: dict[str, _Sent] = {}
        self._fresh: dict[str, float] = {}
        self._again: set[str] = set()
        self._lines: dict[int, dict[str, bytes]] = {}
        self._note = b""

    @property
    def note(self) -> bytes:
        """The newest head that a quorum has cosigned, with every cosignature that came; empty if there is none."""
        return self._note

    def due(self, who: str, now_s: float, *, renew_s: float, retry_s: float) -> bool:
        """True if this witness should be shown the head: it has moved, or its last cosignature is so old."""
        sent = self._sent.get(who)
        if sent is None:
            return True
        answered = self._fresh.get(who, -1.0) >= sent.at_s
        if answered and sent.head.size != self._head().size:
            return True
        return now_s - sent.at_s >= (renew_s if answered else retry_s)

    def forget(self, who: str) -> None:
        """The way to this witness is new: what was sent on the old one may never have come."""
        self._sent.pop(who, None)
        self._again.discard(who)

    def to_witness(self, who: str, now_s: float) -> ToWitness:
        """The newest head, with the proof from the one that this witness is known to hold. Waits for the disk.

        Raises:
            LogFault: the log's hashes cannot be read.
        """
        head = self._head()
        known = self._known.get(who, 0)
        old = known if known <= head.size else 0
        proof = self._proofs.consistency(old, head.size)
        self._sent[who] = _Sent(head, now_s, old)
        return ToWitness(old_size=old, proof=proof, checkpoint=head.checkpoint)

    def heard(self, who: str, said: Witnessed) -> bool:
        """True if this witness should be asked once more, now that it is known what it holds. Waits for the disk.

        Raises:
            LogFault: the log's hashes cannot be read.
        """
        key, sent = self.witnesses.get(who), self._sent.get(who)
        if key is None or sent is None:
            return False
        try:
            shown = verify_checkpoint(said.checkpoint, self._vkey)
            signed = cosignature(said.checkpoint, key)
        except LogFault:
            return False
        self._hold_against_log(shown, sent.head)
        if self.fault is not None:
            return False
        self._known[who] = shown.size
        if said.refused:
            return said.refused == Refusal.STALE and shown.size != sent.old_size and self._once_more(who)
        self._again.discard(who)
        if signed is None or (shown.size, shown.root) != (sent.head.size, sent.head.root):
            return False
        if abs(signed[0] - self._clock()) > CLOCKS_APART:  # cited, it would make this log look back-dated
            return False
        self._fresh[who] = sent.at_s
        self._gather(who, shown, signed[1], sent.head.checkpoint)
        return False

    def fresh(self, now_s: float, within_s: float) -> int:
        """How many witnesses cosigned a head that was shown to them within the last `within_s` seconds."""
        return sum(1 for at in tuple(self._fresh.values()) if at >= now_s - within_s)

    def _once_more(self, who: str) -> bool:
        """False every second time: a witness that holds now this and now that would be asked without a pause."""
        self._again ^= {who}
        return who in self._again

    def _hold_against_log(self, shown: Checkpoint, sent: SignedHead) -> None:
        if (shown.size, shown.root) == (sent.size, sent.root):
            return
        if shown.size > self._head().size:
            self.fault = Refusal.ROLLED_BACK
        elif self._proofs.root(shown.size) != shown.root:
            self.fault = Refusal.FORKED

    def _gather(self, who: str, shown: Checkpoint, line: bytes, checkpoint: bytes) -> None:
        lines = self._lines.setdefault(shown.size, {})
        lines[who] = line
        for size in sorted(self._lines)[:-KEPT_HEADS]:
            del self._lines[size]
        if len(lines) < max(1, self.quorum) or (self.cited is not None and shown.size < self.cited.size):
            return
        self._note = checkpoint + b"".join(lines[name] for name in sorted(lines))
        if self.cited is None or shown.size > self.cited.size:
            self.cited = Cited.parse(self._note)
