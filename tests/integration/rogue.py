"""A broker gone bad: the federation's own certificate and a pinned log, and it does what a test tells it to.

A real node attaches to it and a real client calls it; neither can tell it from an honest one by its certificate.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from audit.entry import decision_entry
from audit.log import DecisionLog
from cli.compose import SignedInquiry
from comity import instants
from comity.decision import Decision, Effect, Pep
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope
from comity.inquiry import Inquiry
from comity.outcome import Outcome, OutcomeKind
from comity.v1 import node_link_service_pb2 as link
from comity.v1 import node_link_service_pb2_grpc, search_service_pb2_grpc
from comity.v1 import search_service_pb2 as pb2
from identity.folder import IdentityFolder
from identity.tls import server_credentials
from policies.published import open_published
from tests.integration.world import BROKER_2, World, until

ANSWER_WITHIN_S = 120.0
Tamper = Callable[[list[pb2.SignedOutcome], pb2.SearchRequest], Sequence[pb2.SignedOutcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a node sent back."""

    header: link.OutcomeHeader
    envelope: bytes = field(repr=False)

    @property
    def outcome(self) -> Outcome:
        """The outcome inside, unverified."""
        return Outcome.parse(Envelope.parse(self.envelope, payload_type=OUTCOME_TYPE).payload)

    @property
    def reason(self) -> str:
        """Its reason code: its decision's, if it has one."""
        o = self.outcome
        return o.decision.reason_code if o.decision else o.reason_code


class Rogue:
    """Stands at the second broker's address. `tamper` is done to the outcomes of every search it serves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = IdentityFolder.load(world.second.state / "identity")
        self.log = DecisionLog.open(world.second.state, clock=instants.now)
        self.address = world.second_nodes
        self.tamper: Tamper = lambda outcomes, _: outcomes
        self.breaks_off = False
        self.digests: dict[str, str] = {}
        self._to: dict[str, queue.Queue[link.BrokerItem | None]] = {}
        self._from: defaultdict[tuple[str, str], queue.Queue[Answered]] = defaultdict(queue.Queue)
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(24), options=[("grpc.so_reuseport", 0)])
        node_link_service_pb2_grpc.add_NodeLinkServiceServicer_to_server(_Attach(self), self._server)
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(_Search(self), self._server)
        credentials = server_credentials(self.folder, world.directory.agency_authorities)
        self._server.add_secure_port(self.address, credentials)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for outbox in self._to.values():
            outbox.put(None)
        self._server.stop(0.5).wait()
        self.log.close()

    def attached(self, *nodes: str) -> None:
        """Return once these nodes have dialled out to it."""
        until(lambda: all(n in self._to for n in nodes), f"{nodes} attached to the rogue")

    def receipt(
        self, signed: SignedInquiry, node: str, *, effect: Effect = Effect.PERMIT, id_: str = ""
    ) -> link.Receipt:
        """A receipt of an entry that really is in its log."""
        decision = Decision(
            decision_id="rogue",
            node=node,
            effect=effect,
            pep=Pep.BROKER,
            policy_digest=self.digests.get(node, "0" * 64),
            federation_digest="0" * 64,
            reason_code="PERMITTED",
            reason="permitted",
        )
        inquiry_id = id_ or Inquiry.parse(signed.envelope.payload).inquiry_id
        draft = decision_entry(decision, inquiry_id=inquiry_id, inquiry_hash=signed.envelope.payload_hash)
        done = asyncio.run(self.log.append([draft]))
        return link.Receipt(
            origin=self.log.origin,
            index=done.first_index,
            entry=done.entries[0],
            leaf_hash=done.leaf_hashes[0],
            checkpoint=done.head.checkpoint,
        )

    def work(self, signed: SignedInquiry, node: str, **fields: Any) -> link.Work:
        """What an honest broker would send for `signed`, with `fields` instead of its own."""
        inquiry = link.WorkInquiry(
            envelope=signed.envelope.encode(), disclosures=[d.to_message() for d in signed.disclosures]
        )
        work = link.Work(inquiry=inquiry.SerializeToString(), deadline_ms=100_000)
        work.inquiry_id = fields.pop("inquiry_id", None) or Inquiry.parse(signed.envelope.payload).inquiry_id
        work.receipt.CopyFrom(fields.pop("receipt", None) or self.receipt(signed, node, id_=work.inquiry_id))
        for name, value in fields.items():
            setattr(work, name, value)
        return work

    def send(self, node: str, work: link.Work) -> None:
        """Put it on the node's stream."""
        self._to[node].put(link.BrokerItem(work=work))

    def answer(self, node: str, inquiry_id: str) -> Answered:
        """The node's next answer to that inquiry."""
        return self._from[node, inquiry_id].get(timeout=ANSWER_WITHIN_S)

    def ask(self, node: str, work: link.Work) -> Answered:
        """Send it, and wait for the answer."""
        self.send(node, work)
        return self.answer(node, work.inquiry_id)

    def sign(self, outcome: Outcome) -> pb2.SignedOutcome:
        """An outcome in the node's name, signed by this broker."""
        envelope = self.folder.signer.sign(OUTCOME_TYPE, outcome.encode())
        return pb2.SignedOutcome(node=outcome.node, envelope=envelope.encode())

    def serve(self, request: pb2.SearchRequest) -> Iterator[pb2.SearchResponse]:
        """Ask every target as an honest broker would, and then do as the test wants."""
        envelope = Envelope.from_message(request.inquiry, payload_type=INQUIRY_TYPE)
        inquiry = Inquiry.parse(envelope.payload)
        wire = link.WorkInquiry(
            envelope=request.inquiry.SerializeToString(), disclosures=request.disclosures
        ).SerializeToString()
        honest = SignedInquiry(envelope=envelope, disclosures=())
        outcomes = []
        for node in inquiry.targets:
            with self._lock:
                work = self.work(honest, node, inquiry=wire)
            outcomes.append(pb2.SignedOutcome(node=node, envelope=self.ask(node, work).envelope))
        for outcome in self.tamper(outcomes, request):
            yield pb2.SearchResponse(events=[pb2.SearchEvent(outcome=outcome)])
        # It also lies about what it adds up to.
        lie = pb2.Summary(inquiry_id=inquiry.inquiry_id, targets=len(inquiry.targets), matched=0, complete=True)
        yield pb2.SearchResponse(events=[pb2.SearchEvent(summary=lie)])

    def outcome_of(self, signed: SignedInquiry, node: str, kind: OutcomeKind, **fields: Any) -> Outcome:
        """An outcome that fits the inquiry in every field."""
        inquiry = Inquiry.parse(signed.envelope.payload)
        return Outcome(
            inquiry_id=inquiry.inquiry_id,
            inquiry_hash=signed.envelope.payload_hash,
            node=node,
            decided_at=instants.now(),
            kind=kind,
            **fields,
        )

    def _take(self, node: str, requests: Iterator[link.AttachRequest]) -> None:
        parts: dict[str, tuple[link.OutcomeHeader, bytearray]] = {}
        try:
            for request in requests:
                for item in request.items:
                    if item.WhichOneof("item") != "outcome":
                        continue
                    chunk = item.outcome
                    if chunk.HasField("header"):
                        parts[chunk.inquiry_id] = (chunk.header, bytearray())
                    header, data = parts[chunk.inquiry_id]
                    data += chunk.data
                    if chunk.last:
                        answered = Answered(header=header, envelope=bytes(data))
                        self._from[node, chunk.inquiry_id].put(answered)
        except grpc.RpcError:
            pass  # the stream has ended with the test


class _Attach(node_link_service_pb2_grpc.NodeLinkServiceServicer):
    def __init__(self, rogue: Rogue) -> None:
        self._rogue = rogue

    def Attach(
        self, request_iterator: Iterator[link.AttachRequest], context: grpc.ServicerContext
    ) -> Iterator[link.AttachResponse]:
        hello = next(request_iterator).items[0].hello
        node = hello.node
        published = open_published(hello.bundle, self._rogue.world.directory, node, instants.now())
        self._rogue.digests[node] = published.policy.digest
        outbox: queue.Queue[link.BrokerItem | None] = queue.Queue()
        threading.Thread(target=self._rogue._take, args=(node, request_iterator), daemon=True).start()
        welcome = link.Welcome(broker=BROKER_2, brokers=[self._rogue.address])
        yield link.AttachResponse(items=[link.BrokerItem(welcome=welcome)])
        self._rogue._to[node] = outbox
        while (item := outbox.get()) is not None:
            yield link.AttachResponse(items=[item])


class _Search(search_service_pb2_grpc.SearchServiceServicer):
    def __init__(self, rogue: Rogue) -> None:
        self._rogue = rogue

    def Preview(self, request: pb2.PreviewRequest, context: grpc.ServicerContext) -> pb2.PreviewResponse:
        return pb2.PreviewResponse()

    def Search(self, request: pb2.SearchRequest, context: grpc.ServicerContext) -> Iterator[pb2.SearchResponse]:
        yield from self._rogue.serve(request)
        if self._rogue.breaks_off:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
