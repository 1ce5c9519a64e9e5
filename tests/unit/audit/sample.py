"""Logs to test with: searches really signed, a clock that is set by hand, stores that stall or fail, and a forger."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry
from audit.entry import Draft, Stamp, seal
from audit.log import DecisionLog
from audit.note import Checkpoint, VerifierKey
from audit.read import LogReader
from audit.store import LogFiles, Store
from audit.tree import EMPTY_ROOT, Tree, leaf_hash
from audit.writer import Writer
from comity.commitment import CASE_NUMBER, QUERY, commit
from comity.decision import Decision, Effect, Layer, MatchedRule, Obligations, Pep
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.inquiry import Inquiry, new_inquiry_id
from comity.outcome import Coverage, OutcomeKind
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from identity import files, keys
from identity.signing import Signer
from tests.golden.audit import samples
from tests.unit.identity.world import ALDER, FEDERATION, NOW

ORIGIN = "broker.example/log"
PERSON = f"spiffe://{ALDER}/person/t-reyes"
SUPERVISOR = f"spiffe://{ALDER}/person/s-okafor"
MINUTE = dt.timedelta(minutes=1)
START = entry.start_entry(program="broker", id="b1", software_version="0.1.0", directory_version=7)


class HandClock:
    """A clock that shows what it was last set to."""

    def __init__(self, at: dt.datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> dt.datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += dt.timedelta(**by)


def reopened(folder: Path, clock: HandClock | None = None) -> DecisionLog:
    """The log in `folder`, open again."""
    return DecisionLog.open(folder, clock=clock or HandClock())


class StalledStore(Store):
    """A store whose commits wait until they are let go."""

    def __init__(self, where: LogFiles) -> None:
        super().__init__(where)
        self.reached, self.let_go = threading.Event(), threading.Event()
        self.commits: list[int] = []

    def commit(self, first: int, entries: Sequence[bytes], *rest: Any) -> None:
        self.reached.set()
        assert self.let_go.wait(120)
        self.commits.append(len(entries))
        super().commit(first, entries, *rest)


class FailingStore(Store):
    """A store whose commits fail once `error` is set, and would succeed again after."""

    error: BaseException | None = None

    def commit(self, *arguments: Any) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        super().commit(*arguments)


def inquiry(at: dt.datetime = NOW, **changes: Any) -> Inquiry:
    content: dict[str, Any] = {
        "inquiry_id": new_inquiry_id(at),
        "federation": FEDERATION,
        "requester": PERSON,
        "beneficiary": ALDER,
        "purpose": PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL),
        "authority": Authority.NONE,
        "act": Act.EXACT,
        "begin": at - dt.timedelta(days=30),
        "end": at,
        "targets": (),
        "issued_at": at,
        "expires_at": at + 5 * MINUTE,
        "nonce": b"n" * 16,
        "query_commitment": commit(QUERY, b"s" * 32, b"query"),
        "case_number_commitment": commit(CASE_NUMBER, b"s" * 32, b"case"),
        "authority_reference_commitment": b"",
    }
    return Inquiry(**(content | changes))


def asked(author: Signer, *further: Signer, at: dt.datetime = NOW, **changes: Any) -> tuple[Inquiry, Draft, Envelope]:
    """A signed inquiry, its draft and its envelope."""
    made = inquiry(at, **changes)
    envelope = author.sign(INQUIRY_TYPE, made.encode())
    for supervisor in further:
        envelope = supervisor.countersign(envelope)
    return made, inquiry_draft(made, envelope), envelope


def inquiry_draft(made: Inquiry, envelope: Envelope, **changes: Any) -> Draft:
    content: dict[str, Any] = {
        "inquiry": made,
        "envelope": envelope,
        "role": "investigator",
        "approvers": [SUPERVISOR] * (len(envelope.signatures) - 1),
        "directory_version": 7,
        "preview": False,
        "received_from": PERSON,
    }
    return entry.inquiry_entry(**(content | changes))


def unsigned() -> Draft:
    """An inquiry whose signature is none: good enough where nobody verifies it."""
    made = inquiry()
    signature = samples.ENVELOPE.signatures[0]
    return inquiry_draft(made, Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=(signature,)))


def decided(draft: Draft, node: str, effect: Effect = Effect.PERMIT, **changes: Any) -> Draft:
    content: dict[str, Any] = {
        "decision_id": "d-1",
        "node": node,
        "effect": effect,
        "pep": Pep.BROKER,
        "policy_digest": "ab" * 32,
        "federation_digest": "cd" * 32,
        "rules": (MatchedRule(rule="FED-7", effect="allow", basis="a statute", layer=Layer.FEDERATION),),
        "obligations": Obligations(window_days=60),
        "reason_code": "PERMITTED" if effect is Effect.PERMIT else "DENIED_BY_RULE",
        "reason": "",
    }
    return entry.decision_entry(Decision(**(content | changes)), **cited(draft))


def answered(draft: Draft, node: str, kind: OutcomeKind = OutcomeKind.NO_MATCH, **changes: Any) -> Draft:
    coverage = Coverage(begin=NOW - dt.timedelta(days=30), end=NOW)
    return entry.outcome_entry(**cited(draft), node=node, outcome=kind, coverage=coverage, **changes)


def cited(draft: Draft) -> dict[str, Any]:
    return {"inquiry_id": draft.body["inquiry_id"], "inquiry_hash": bytes.fromhex(draft.body["inquiry_hash"])}


def search(draft: Draft) -> list[list[Draft]]:
    """The calls of one search: inquiry and decisions first, outcomes after."""
    refused = decided(draft, "brazos-1", Effect.DENY)
    return [
        [draft, decided(draft, "alder-1"), refused],
        [answered(draft, "alder-1", OutcomeKind.MATCH, count=2), answered(draft, "brazos-1", OutcomeKind.REFUSED)],
    ]


def opened(folder: Path, store: Store, clock: HandClock, **kw: Any) -> DecisionLog:
    """The log in `folder` on a store of the test's own."""
    where = LogFiles.locate(folder)
    key = keys.load_log_key(where.key)
    vkey = VerifierKey.of(ORIGIN, key.public_key())
    writer = Writer(store, key, ORIGIN, clock)
    return DecisionLog(store=store, writer=writer, reader=LogReader(where, live=True), vkey=vkey, **kw)


async def build(folder: Path, calls: Sequence[Sequence[Draft]], clock: HandClock | None = None) -> None:
    """A log in `folder` with one commit a call, closed."""
    with DecisionLog.create(folder, origin=ORIGIN, clock=clock or HandClock()) as log:
        for call in calls:
            await log.append(call)


def tamper(folder: Path, *statements: str, arguments: Sequence[Any] = ()) -> None:
    """Change the closed log with SQL, as somebody with the file can."""
    db = sqlite3.connect(folder / "log.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    for statement in statements:
        db.execute(statement, arguments)
    db.close()


class Forger:
    """Somebody with the log's own key: every hash and signature is right, whatever the entries say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key, self.tree = folder, Ed25519PrivateKey.generate(), Tree()
        self.entries: list[bytes] = []
        self.inquiries: dict[str, int] = {}

    def add(self, draft: Draft, *, at: str = "2030-05-01T12:00:00.000Z", **changes: Any) -> Forger:
        """One more entry, a commit of its own; `changes` replace fields, None removes one."""
        stamp = Stamp(at=at, clock_behind_ms=0, size=self.tree.size, root=self.tree.root().hex())
        value = json.loads(seal(draft, stamp)) | changes
        kept = {k: v for k, v in value.items() if v is not ...}
        if draft.type == "inquiry":
            self.inquiries.setdefault(kept.get("inquiry_id", ""), len(self.entries))
        return self.raw(json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())

    def raw(self, data: bytes) -> Forger:
        self.entries.append(data)
        self.tree.append(leaf_hash(data))
        return self

    def write(self) -> Path:
        where = LogFiles.locate(self.folder)
        keys.write_key(where.key, self.key)
        vkey = VerifierKey.of(ORIGIN, self.key.public_key())
        files.write_new(where.vkey, f"{vkey}\n".encode(), mode=0o644)
        Store.create(LogFiles.locate(self.folder), Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT).sign(self.key))
        head = Checkpoint(origin=ORIGIN, size=self.tree.size, root=self.tree.root()).sign(self.key)
        store = Store(LogFiles.locate(self.folder))
        hashes = [leaf_hash(e) for e in self.entries]
        store.commit(0, self.entries, hashes, tuple(self.inquiries.items()), head)
        store.close()
        return self.folder
