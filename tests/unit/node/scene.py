"""A node's core on fakes, with real certificates, signatures, policies and a real broker's receipt."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.entry import decision_entry, inquiry_entry
from comity.decision import Effect, Pep
from comity.detection import Detection
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope
from comity.inquiry import Inquiry
from comity.instants import to_ms
from comity.outcome import Coverage, Outcome, OutcomeKind
from comity.plate import Plate
from comity.v1 import node_link_service_pb2 as pb2
from identity.directory import LogKey
from identity.signing import Signer, verify_envelope
from node.kept import Kept
from node.model import BrokerReceipt, Signed, Work
from node.policy import OwnPolicy
from node.quota import Quotas
from node.search import Search
from tests.fakes import FakeLog, FakeStore, FixedClock, JournalKept
from tests.unit.broker.scene import ALLOW, ORIGIN, Stage, policy, published
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, FEDERATION, World, name

NODE = "alder-1"
BROKER = f"spiffe://{FEDERATION}/broker/b1"


def somebody() -> bool:
    return False


def nobody() -> bool:
    return True


def seen(seconds: float = 3600, number: str = "7ABC123", **fields: Any) -> Detection:
    """A read of the plate so many seconds before NOW."""
    at = NOW - dt.timedelta(seconds=seconds)
    content: dict[str, Any] = {"camera": "pa-001", "source": "police", "source_id": f"{number}/{seconds}"}
    return Detection.parse(plate=Plate.parse(number, "CA"), captured_ms=to_ms(at), **(content | fields))


def signed(**changes: Any) -> Signed:
    """An answer to keep."""
    content: dict[str, Any] = {
        "inquiry_id": scene.INQUIRY_ID,
        "inquiry_hash": b"h" * 32,
        "kind": OutcomeKind.MATCH,
        "count": 2,
        "coverage": Coverage(begin=NOW - DAY, end=NOW),
        "policy_digest": "ab" * 32,
        "reason_code": "",
        "payload_hash": b"p" * 32,
        "envelope": b"the signed bytes with 7ABC123",
        "receipt": None,
    }
    return Signed(**(content | changes))


@dataclass
class NodeStage:
    """One node, a broker whose log is pinned, and an investigator."""

    world: World
    folder: Path
    rows: str = ALLOW
    retention_s: int = 30 * 86_400

    def __post_init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.at_broker = Stage(self.world)
        self.journal = self.at_broker.journal
        self.log = FakeLog("node.example/log", self.clock, self.journal)
        other = FakeLog("node.other/log", self.clock)
        self.other_log = other
        self.directory = self.world.directory(
            logs=[
                LogKey(origin=ORIGIN, key=self.at_broker.log.key.public_key(), program="broker", id="b1"),
                LogKey(origin="node.other/log", key=other.key.public_key(), program="node", id="brazos-1"),
            ]
        )
        self.store = FakeStore(self.journal)
        self.kept: Kept = JournalKept(self.folder, self.journal)
        self.quotas = Quotas(self.folder)
        own = published(
            NODE,
            policy=policy(self.rows, self.directory.federation),
            retention_s=self.retention_s,
        )
        self.policy = OwnPolicy(self.folder / "policy.bundle.json", self.directory, NODE, own)
        self.signer = self.world.signer(self.world.alder, name(ALDER, "node", NODE))
        self.search = self.searching()

    def searching(self, **changes: Any) -> Search:
        content: dict[str, Any] = {
            "node": NODE,
            "agency": ALDER,
            "retention_s": self.retention_s,
            "directory": self.directory,
            "decider": Stage.decider(self.at_broker, Pep.NODE),
            "policy": self.policy,
            "log": self.log,
            "store": self.store,
            "kept": self.kept,
            "quotas": self.quotas,
            "signer": self.signer,
            "clock": self.clock,
            "new_id": lambda: "d-0",
        }
        return Search(**(content | changes))

    def envelope(self, *further: Signer, **changes: Any) -> Envelope:
        return self.at_broker.signed(*further, **changes)

    async def receipt(self, envelope: Envelope, **changes: Any) -> BrokerReceipt:
        """What an honest broker records of a permit for this node; `changes` are the decision's."""
        inquiry = Inquiry.parse(envelope.payload)
        content: dict[str, Any] = {"node": NODE, "effect": Effect.PERMIT, "pep": Pep.BROKER, "reason_code": "PERMITTED"}
        content["policy_digest"] = self.policy.published.policy.digest
        asked = inquiry_entry(
            inquiry=inquiry,
            envelope=envelope,
            role="investigator",
            approvers=[],
            directory_version=7,
            preview=False,
            received_from=scene.REQUESTER,
        )
        decided = decision_entry(
            scene.decision(**(content | changes)), inquiry_id=inquiry.inquiry_id, inquiry_hash=envelope.payload_hash
        )
        self.at_broker.log._inquiries.clear()  # a broker that delivers twice records twice
        done = await self.at_broker.log.append([asked, decided])
        self.journal.clear()
        return BrokerReceipt(
            origin=ORIGIN,
            index=done.first_index + 1,
            entry=done.entries[1],
            leaf_hash=done.leaf_hashes[1],
            checkpoint=done.head.checkpoint,
        )

    async def work(self, envelope: Envelope | None = None, **changes: Any) -> Work:
        envelope = envelope or self.envelope()
        content: dict[str, Any] = {
            "inquiry_id": Inquiry.parse(envelope.payload).inquiry_id,
            "inquiry": pb2.WorkInquiry(envelope=envelope.encode(), disclosures=scene.disclosures()).SerializeToString(),
            "nobody_waits": somebody,
        }
        if "receipt" not in changes:
            content["receipt"] = await self.receipt(envelope)
        return Work(**(content | changes))

    async def answer(self, work: Work) -> tuple[Signed, Outcome]:
        """The node's answer, and the outcome in it once its signature was verified."""
        out = await self.search.run(work, BROKER)
        return out, self.opened(out)

    def opened(self, out: Signed) -> Outcome:
        envelope = Envelope.parse(out.envelope, payload_type=OUTCOME_TYPE)
        (who,) = verify_envelope(envelope, self.directory, NOW, kind="node")
        outcome = Outcome.parse(envelope.payload)
        assert (who.id, outcome.node) == (NODE, NODE)
        assert envelope.payload_hash == out.payload_hash
        assert (outcome.kind, len(outcome.detections)) == (out.kind, out.count)
        return outcome


def unsigned() -> Envelope:
    return Envelope(payload_type=INQUIRY_TYPE, payload=b"x", signatures=())
