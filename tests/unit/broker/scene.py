"""A broker's core on fakes, with real certificates, signatures and policies."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from broker.admission import Admission
from broker.links import Link, Links
from broker.model import Answer, Awaiting, Call, Deny, Permit, Receipt, Release, Requester, Ruling, Work
from broker.own import OwnOutcomes
from broker.ports import Quota, ReplayGuard
from broker.search import Limits, Search
from broker.state.inprocess import InProcessPresence, InProcessQuota, InProcessReplayGuard
from comity.decision import Effect, Obligations, Pep
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope, Signature
from comity.federation import Federation
from comity.inquiry import Disclosed, Inquiry
from comity.outcome import Coverage, Outcome, OutcomeKind
from comity.query import PlateQuery
from comity.v1 import inquiry_pb2
from identity.directory import Directory, LogKey
from identity.inquiry import VerifiedInquiry
from identity.signing import Signer
from identity.verify import Identity, verify_chain
from policies.decide import Decider
from policies.engine import Policy, compiled
from policies.published import Published
from policies.seal import HEADER, seal
from policies.vocabulary import Vocabulary
from tests.fakes import FakeGate, FakeLog, FakeWire, FixedClock, Journal, PlainSigner
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, FEDERATION, REGISTRY, World, name

__all__ = ["Awaiting", "Deny", "Permit", "Stage", "answer", "own", "published", "receipt", "requester"]

ORIGIN = "broker.example/log"
PROCESS = "127.0.0.1:7444"
ALLOW = "T-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,a test rule"
DENY = ALLOW + "\nT-2,any-node,any-agency,any-role,any-purpose,any-act,deny,always,-,another test rule"
APPROVAL = "T-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,approval=supervisor,a test rule"


@lru_cache
def federation() -> Federation:
    return Federation.parse(REGISTRY)


def policy(rows: str = ALLOW, of: Federation | None = None) -> Policy:
    return compiled(seal(f"{HEADER}\n{rows}\n"), Vocabulary.of(of or federation()))


def published(node: str, rows: str = ALLOW, **changes: Any) -> Published:
    content: dict[str, Any] = {
        "node": node,
        "version": 1,
        "bundle_hash": b"b" * 32,
        "valid_to": NOW + DAY,
        "policy": policy(rows),
        "data": b"",
        "retention_s": 86_400,
    }
    return Published(**(content | changes))


def requester(**changes: Any) -> Requester:
    """A requester who passed step 1, without the step."""
    made = scene.inquiry(**changes)
    who = Identity(
        spiffe=name(ALDER, "person", "t-reyes"),
        agency=ALDER,
        role="investigator",
        not_before=NOW - DAY,
        not_after=NOW + DAY,
        fingerprint="f",
    )
    envelope = PlainSigner().sign(INQUIRY_TYPE, made.encode())
    return Requester(
        verified=VerifiedInquiry(
            inquiry=made,
            inquiry_hash=envelope.payload_hash,
            requester=who,
            approvers=(),
            envelope=envelope,
            disclosed=Disclosed(query=PlateQuery(plate=scene.PLATE), case_number=scene.CASE, authority_reference=""),
            received_at=NOW,
        )
    )


def own() -> OwnOutcomes:
    return OwnOutcomes(requester(), PlainSigner(), NOW)


def receipt(node: str, ruling: type[Permit] | type[Deny] | type[Awaiting] = Permit, **changes: Any) -> Receipt[Ruling]:
    content: dict[str, Any] = {"node": node, "pep": Pep.BROKER, "effect": Effect.DENY}
    if ruling is not Deny:
        content |= {"effect": Effect.PERMIT, "reason_code": "PERMITTED"}
    if ruling is Awaiting:
        content |= {"obligations": Obligations(approval=True)}
    return Receipt(
        ruling=ruling(scene.decision(**(content | changes))),
        origin=ORIGIN,
        index=1,
        entry=b"{}",
        leaf_hash=b"l" * 32,
        checkpoint=b"c",
    )


def answer(node: str, kind: OutcomeKind = OutcomeKind.NO_MATCH, **changes: Any) -> Answer:
    content: dict[str, Any] = {
        "node": node,
        "kind": kind,
        "count": 1 if kind is OutcomeKind.MATCH else 0,
        "coverage": Coverage(begin=NOW - 7 * DAY, end=NOW),
        "policy_digest": "",
        "payload_hash": b"p" * 32,
        "envelope": b"signed by " + node.encode(),
    }
    return Answer(**(content | changes))


def envelope_of(kind: OutcomeKind, *, padding: int = 0, **changes: Any) -> tuple[bytes, bytes]:
    """The wire of an outcome with a signature of no worth, and its payload's hash; `padding` bytes make it longer."""
    content: dict[str, Any] = {
        "inquiry_id": scene.INQUIRY_ID,
        "inquiry_hash": b"h" * 32,
        "node": "alder-1",
        "decided_at": NOW,
        "coverage": scene.COVERAGE,
    }
    payload = Outcome(kind=kind, **(content | changes)).encode()
    signature = Signature(signature=b"s", chain=(b"x" * (padding + 1),))
    envelope = Envelope(payload_type=OUTCOME_TYPE, payload=payload, signatures=(signature,))
    return envelope.encode(), envelope.payload_hash


@dataclass
class Stage:
    """A broker with two nodes that may be attached, and an investigator who may search."""

    world: World
    replay: ReplayGuard | None = None
    limits: Limits = field(default_factory=lambda: Limits(person_per_day=5, agency_per_day=5))
    quota: Quota | None = None

    def __post_init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.journal: Journal = []
        self.log = FakeLog(ORIGIN, self.clock, self.journal)
        key = LogKey(origin=ORIGIN, key=self.log.key.public_key(), program="broker", id="b1")
        self.directory: Directory = self.world.directory(logs=[key])
        self.person = self.world.person()
        self.supervisor = self.world.person("s-okafor", role="supervisor")
        self.broker = self.world.signer(self.world.federation, name(FEDERATION, "broker", "b1"), hosts=("localhost",))
        self.links = Links()
        self.wires: dict[str, FakeWire] = {}
        self.presence = InProcessPresence(self.clock)
        self.gate = FakeGate()
        self.tasks: list[asyncio.Task[None]] = []
        self.replay_guard: ReplayGuard = self.replay or InProcessReplayGuard(self.clock)
        self.search = Search(
            directory=self.directory,
            decider=self.decider(),
            links=self.links,
            log=self.log,
            signer=self.broker,
            replay=self.replay_guard,
            presence=self.presence,
            quota=self.quota or InProcessQuota(self.clock),
            admission=Admission(total=4, per_agency=2, waiting=0),
            gate=self.gate,
            limits=self.limits,
            clock=self.clock,
            background=self.tasks.append,
        )

    def decider(self, pep: Pep = Pep.BROKER) -> Decider:
        of = self.directory.federation
        return Decider(of, policy(ALLOW, of), pep, map("d-{}".format, itertools.count()).__next__)

    def attach(self, node: str, rows: str = ALLOW, *, answers: Answer | None = None) -> FakeWire:
        """`answers`: what the node says to any work, at once; None: nothing."""
        wire = FakeWire(journal=self.journal)
        link = Link(node, published(node, policy=policy(rows, self.directory.federation)), wire)
        if answers is not None:

            def reply(work: Work) -> None:
                loop = asyncio.get_running_loop()
                loop.call_soon(link.answered, work.inquiry_id, answers)

            wire.on_work = reply
        self.links.attach(link)
        self.wires[node] = wire
        return wire

    def signed(self, *further: Signer, author: Signer | None = None, **changes: Any) -> Envelope:
        envelope = (author or self.person).sign(INQUIRY_TYPE, scene.inquiry(**changes).encode())
        for signer in further:
            envelope = signer.countersign(envelope)
        return envelope

    def call(
        self,
        envelope: Envelope | None = None,
        *,
        disclosures: Sequence[inquiry_pb2.Disclosure] | None = None,
        caller: Signer | None = None,
        seconds: float = 3600,
    ) -> Call:
        return Call(
            peer=self.identity(caller or self.person),
            envelope=envelope or self.signed(),
            disclosures=scene.disclosures() if disclosures is None else disclosures,
            work=b"work",
            deadline=asyncio.get_running_loop().time() + seconds,
        )

    def identity(self, signer: Signer) -> Identity:
        return verify_chain(signer.chain, self.directory, NOW)

    async def run(self, call: Call) -> list[Release]:
        """Everything released; the journal hears it too."""
        out = []
        async for release in self.search.run(call):
            self.journal.append(f"released {type(release).__name__}")
            out.append(release)
        return out

    async def settle(self) -> None:
        """Wait for what runs in the background."""
        await asyncio.gather(*self.tasks)


def at(**by: float) -> dt.datetime:
    return NOW + dt.timedelta(**by)


def inquiry_of(envelope: Envelope) -> Inquiry:
    return Inquiry.parse(envelope.payload)
