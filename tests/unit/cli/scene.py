"""A client's reading of a search, and outcomes signed by whoever a test wants."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from cli.checked import Checked, Reading
from comity.detection import Released
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE
from comity.federation import Federation
from comity.inquiry import Inquiry
from comity.outcome import BROKER_ONLY, Coverage, Outcome, OutcomeKind, Tally
from comity.query import PlateQuery
from comity.v1 import search_service_pb2 as pb2
from identity.signing import Signer
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, BRAZOS, FEDERATION, REGISTRY, World, name

QUERY = PlateQuery(plate=scene.PLATE)
TARGETS = ("alder-1", "brazos-1")
WHOLE = Coverage(begin=NOW - 7 * DAY, end=NOW)


def federation() -> Federation:
    return Federation.parse(REGISTRY)


@dataclass
class Client:
    """An investigator's client with a pinned directory, and everybody who may sign an outcome."""

    world: World

    def __post_init__(self) -> None:
        w = self.world
        self.directory = w.directory()
        self.alder = w.signer(w.alder, name(ALDER, "node", "alder-1"))
        self.brazos = w.signer(w.brazos, name(BRAZOS, "node", "brazos-1"))
        self.broker = w.signer(w.federation, name(FEDERATION, "broker", "b1"), hosts=("localhost",))
        self.person = w.person()
        self.start()

    def start(self, **changes: Any) -> Reading:
        self.inquiry: Inquiry = scene.inquiry(**changes)
        self.envelope = self.person.sign(INQUIRY_TYPE, self.inquiry.encode())
        self.reading = Reading(self.inquiry, self.envelope.payload_hash, QUERY, self.directory, NOW)
        return self.reading

    def outcome(self, kind: OutcomeKind, **changes: Any) -> Outcome:
        return scene.outcome(kind, **({"inquiry_hash": self.envelope.payload_hash} | changes))

    def signed(self, outcome: Outcome, *signers: Signer, node: str = "") -> pb2.SignedOutcome:
        by = signers or (self.broker if outcome.kind in BROKER_ONLY else self.alder,)
        envelope = by[0].sign(OUTCOME_TYPE, outcome.encode())
        for further in by[1:]:
            envelope = further.countersign(envelope)
        return pb2.SignedOutcome(node=node or outcome.node, envelope=envelope.encode())

    def take(self, outcome: Outcome, *signers: Signer, node: str = "") -> Checked:
        checked = self.reading.take(self.signed(outcome, *signers, node=node))
        assert checked is not None
        return checked


def checked(kind: OutcomeKind, node: str = "alder-1", **changes: Any) -> Checked:
    """An outcome as the client takes it, unsigned."""
    made = scene.outcome(kind, node=node, **changes)
    return Checked(node=node, outcome=made, detections=tuple(Released.parse(d) for d in made.detections), signer="node")


def tally_of(outcomes: tuple[Checked, ...]) -> Tally:
    return Tally.of(len(outcomes), [(c.kind, len(c.detections)) for c in outcomes])


def hours(n: float) -> dt.timedelta:
    return dt.timedelta(hours=n)
