"""A broker's and two nodes' logs of one eventful day, and a forger who may rewrite any one of them and sign it anew.

Clocks are minutes apart and drift; a link is lost, a node and the broker crash in the middle of a search, policies
change: nothing of it is a discrepancy.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry
from audit.entry import Draft, Stamp, seal
from audit.note import Checkpoint, VerifierKey
from audit.store import LogFiles, Store
from audit.tree import EMPTY_ROOT, Tree, leaf_hash
from comity import jcs
from comity.decision import Decision, Effect, Layer, MatchedRule, Obligations, Pep
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.instants import to_text
from comity.outcome import Coverage, OutcomeKind
from tests.golden.audit import samples
from tests.unit.audit.sample import cited, inquiry, inquiry_draft
from tests.unit.identity.world import FEDERATION, NOW

BROKER = f"spiffe://{FEDERATION}/broker/b1"
NODES = ("alder-1", "brazos-1")
CLOSING = "closing"


@dataclass(slots=True)
class Book:
    """A log in memory, commit by commit; an entry is its value before it is sealed."""

    origin: str
    skew: dt.timedelta = dt.timedelta()
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    commits: list[list[dict[str, Any]]] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    sealed: list[bytes] = field(default_factory=list)

    def append(self, drafts: Sequence[Draft], at: dt.datetime) -> int:
        """One commit at that true time; returns its first index."""
        stamp = Stamp(at=to_text(at + self.skew), clock_behind_ms=0, size=0, root="0" * 64)
        return self.commit([json.loads(seal(draft, stamp)) for draft in drafts])

    def commit(self, values: list[dict[str, Any]]) -> int:
        first, head = self.tree.size, {"size": self.tree.size, "root": self.tree.root().hex()}
        self.commits.append(values)
        for value in values:
            data = jcs.encode(value | {"head": head})
            self.sealed.append(data)
            self.tree.append(leaf_hash(data))
        return first

    def receipt(self, index: int) -> dict[str, Any]:
        checkpoint = Checkpoint(origin=self.origin, size=self.tree.size, root=self.tree.root()).sign(self.key)
        leaf = leaf_hash(self.sealed[index])
        return {"origin": self.origin, "index": index, "leaf_hash": leaf, "checkpoint": checkpoint}

    def entries(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Every (commit, place in it, value)."""
        for c, values in enumerate(self.commits):
            for i, value in enumerate(values):
                yield c, i, value

    def forged(self, commits: list[list[dict[str, Any]]]) -> Book:
        """What the owner of the key can make of it: every citation, hash and signature is right again."""
        book = Book(self.origin, self.skew, self.key)
        for values in commits:
            if values:
                book.commit(deepcopy(values))
        return book

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        where = LogFiles.locate(folder)
        where.vkey.write_text(f"{VerifierKey.of(self.origin, self.key.public_key())}\n")
        Store.create(LogFiles.locate(folder), Checkpoint(origin=self.origin, size=0, root=EMPTY_ROOT).sign(self.key))
        head = Checkpoint(origin=self.origin, size=self.tree.size, root=self.tree.root()).sign(self.key)
        asked: dict[str, int] = {}
        for index, (_, _, value) in enumerate(self.entries()):
            if value["type"] == "inquiry":
                asked.setdefault(value["inquiry_id"], index)
        store = Store(LogFiles.locate(folder))
        store.commit(0, self.sealed, [leaf_hash(e) for e in self.sealed], tuple(asked.items()), head)
        store.close()
        return folder


def ask(at: dt.datetime, *, preview: bool = False) -> Draft:
    made = inquiry(at)
    signature = samples.ENVELOPE.signatures[0]
    envelope = Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=(signature,))
    return inquiry_draft(made, envelope, preview=preview)


def decide(draft: Draft, node: str, pep: Pep, effect: Effect = Effect.PERMIT, **changes: Any) -> Draft:
    content: dict[str, Any] = {
        "decision_id": f"d-{pep.value}-{node}",
        "node": node,
        "effect": effect,
        "pep": pep,
        "policy_digest": "ab" * 32,
        "federation_digest": "cd" * 32,
        "rules": (MatchedRule(rule="FED-7", effect="allow", basis="a statute", layer=Layer.FEDERATION),),
        "obligations": Obligations(window_days=60),
        "reason_code": "PERMITTED" if effect is Effect.PERMIT else "DENIED_BY_RULE",
        "reason": "",
    }
    return entry.decision_entry(Decision(**(content | changes)), **cited(draft))


def outcome(draft: Draft, node: str, kind: OutcomeKind, **changes: Any) -> Draft:
    return entry.outcome_entry(**cited(draft), node=node, outcome=kind, **changes)


def receipt(draft: Draft, node: str, made: dict[str, Any]) -> Draft:
    return entry.receipt_entry(inquiry_id=draft.body["inquiry_id"], node=node, **made)


class Day:
    """The three logs, and the steps of a search."""

    def __init__(self) -> None:
        minutes = {"alder-1": 4, "brazos-1": -3}
        self.broker = Book("broker.example/log")
        self.nodes = {n: Book(f"{n}.example/log", dt.timedelta(minutes=minutes[n])) for n in NODES}
        self.at = NOW
        self.count = 0

    def pass_(self, **by: float) -> dt.datetime:
        self.at += dt.timedelta(**by)
        return self.at

    def start(self, node: str = "") -> None:
        book = self.nodes[node] if node else self.broker
        book.append(
            [
                entry.start_entry(
                    program="node" if node else "broker", id=node or "b1", software_version="1", directory_version=7
                )
            ],
            self.pass_(seconds=30),
        )

    def asked(self, *, preview: bool = False, **decisions: dict[str, Any]) -> tuple[Draft, dict[str, dict[str, Any]]]:
        """The broker's first commit of a search, and a receipt for each node."""
        self.pass_(minutes=25)
        draft = ask(self.at, preview=preview)
        first = self.broker.append(
            [draft, *(decide(draft, n, Pep.BROKER, **decisions.get(n.partition("-")[0], {})) for n in NODES)], self.at
        )
        return draft, {n: self.broker.receipt(first + 1 + i) for i, n in enumerate(NODES)}

    def reached(self, draft: Draft, node: str, made: dict[str, Any], **decision: Any) -> dict[str, Any]:
        """The node's first commit; its receipt."""
        self.pass_(milliseconds=20)
        content = [
            Draft(draft.type, draft.body | {"received_from": BROKER}),
            decide(draft, node, Pep.NODE, **decision),
            receipt(draft, node, made),
        ]
        book = self.nodes[node]
        return book.receipt(book.append(content, self.at) + 1)

    def answered(self, draft: Draft, node: str, kind: OutcomeKind, reason_code: str = "") -> dict[str, Any]:
        """The node's outcome; what the broker would record of it."""
        self.count += 1
        span = Coverage(begin=NOW - dt.timedelta(days=30), end=NOW)
        searched = kind not in (OutcomeKind.REFUSED, OutcomeKind.PENDING)
        said = {
            "count": 2 if kind is OutcomeKind.MATCH else 0,
            "coverage": span if searched else None,
            "payload_hash": leaf_hash(b"%d" % self.count),
        }
        self.nodes[node].append(
            [outcome(draft, node, kind, reason_code=reason_code, **said)], self.pass_(milliseconds=30)
        )
        return {"kind": kind, **said}

    def collected(self, draft: Draft, node: str, said: dict[str, Any], made: dict[str, Any] | None = None) -> None:
        """The broker's outcome, with the node's receipt where one came."""
        drafts = [outcome(draft, node, **said)]
        if made is not None:
            drafts.append(receipt(draft, node, made))
        self.broker.append(drafts, self.pass_(milliseconds=10))

    def own(self, draft: Draft, node: str, kind: OutcomeKind, reason_code: str) -> None:
        said = {"kind": kind, "reason_code": reason_code, "payload_hash": leaf_hash(reason_code.encode())}
        self.collected(draft, node, said)

    def search(self, *kinds: OutcomeKind) -> None:
        """Both nodes asked, both answered."""
        draft, made = self.asked()
        for node, kind in zip(NODES, kinds, strict=True):
            own = self.reached(draft, node, made[node])
            self.collected(draft, node, self.answered(draft, node, kind), own)

    @classmethod
    def eventful(cls) -> Day:
        """Every way in which a search may go; the last one leaves each side with a late head of the other."""
        day = cls()
        day.start()
        for node in NODES:
            day.start(node)
        day.broker.append([samples.DRAFTS["policy"]], day.pass_(seconds=1))
        day.search(OutcomeKind.MATCH, OutcomeKind.NO_MATCH)
        _refused_and_partial(day)
        _lost_link(day)
        day.nodes["alder-1"].skew += dt.timedelta(minutes=2)
        _node_crashes(day)
        _broker_crashes(day)
        _rejected_and_skewed(day)
        _not_asked(day)
        day.search(OutcomeKind.NO_MATCH, OutcomeKind.MATCH)
        return day


def _refused_and_partial(day: Day) -> None:
    draft, made = day.asked(brazos={"effect": Effect.DENY})
    day.own(draft, "brazos-1", OutcomeKind.REFUSED, "DENIED_BY_RULE")
    own = day.reached(draft, "alder-1", made["alder-1"])
    day.collected(draft, "alder-1", day.answered(draft, "alder-1", OutcomeKind.PARTIAL_COVERAGE, "RETENTION"), own)


def _lost_link(day: Day) -> None:
    draft, made = day.asked()
    for node in NODES:
        day.reached(draft, node, made[node])
    day.own(draft, "alder-1", OutcomeKind.TIMED_OUT, "DEADLINE")
    day.own(draft, "brazos-1", OutcomeKind.ERROR, "LINK_LOST")
    for node in NODES:
        day.answered(draft, node, OutcomeKind.MATCH)


def _node_crashes(day: Day) -> None:
    draft, made = day.asked()
    own = day.reached(draft, "alder-1", made["alder-1"])
    day.reached(draft, "brazos-1", made["brazos-1"])
    day.own(draft, "brazos-1", OutcomeKind.ERROR, "LINK_LOST")
    day.start("brazos-1")
    day.collected(draft, "alder-1", day.answered(draft, "alder-1", OutcomeKind.NO_MATCH), own)


def _broker_crashes(day: Day) -> None:
    draft, made = day.asked()
    day.reached(draft, "alder-1", made["alder-1"])
    day.answered(draft, "alder-1", OutcomeKind.NO_MATCH)
    day.start()


def _rejected_and_skewed(day: Day) -> None:
    draft, made = day.asked()
    rejected = entry.rejected_entry(
        payload_hash=bytes.fromhex(draft.body["inquiry_hash"]), received_from=BROKER, reason_code="CERTIFICATE_REVOKED"
    )
    day.nodes["alder-1"].append([rejected], day.pass_(milliseconds=5))
    day.collected(draft, "alder-1", {"kind": OutcomeKind.REFUSED, "payload_hash": leaf_hash(b"rejected")})
    newer = {"effect": Effect.DENY, "policy_digest": "ef" * 32, "obligations": Obligations()}
    own = day.reached(draft, "brazos-1", made["brazos-1"], **newer)
    day.collected(draft, "brazos-1", day.answered(draft, "brazos-1", OutcomeKind.REFUSED, "DENIED_BY_RULE"), own)


def _not_asked(day: Day) -> None:
    draft, _ = day.asked(alder={"obligations": Obligations(approval=True)})
    day.own(draft, "alder-1", OutcomeKind.PENDING, "APPROVAL_AWAITED")
    day.own(draft, "brazos-1", OutcomeKind.UNREACHABLE, "NOT_ATTACHED")
    day.asked(preview=True)
