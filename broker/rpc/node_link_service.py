"""NodeLinkService: the stream on which each node stays attached."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from audit.entry import Draft
from audit.exchange import Exchange
from audit.log import DecisionLog
from audit.witness import ToWitness, Witnessed
from broker.links import Link, Links
from broker.model import Answer, Lost, PeerReceipt, Work
from broker.policies import OLDER, refused_entry, stands_under_older, take_up, taken_up_entry
from broker.ports import Bundles, Clock, Presence
from broker.record import outcome_drafts
from broker.rpc.outbox import Outbox
from broker.rpc.peer import peer_of
from comity.errors import ComityError, Exhausted, InvalidInput, NotAuthentic, PolicyError
from comity.outcome import BROKER_ONLY, KIND_FROM_WIRE, Coverage, OutcomeKind
from comity.v1 import envelope_pb2, outcome_pb2
from comity.v1 import node_link_service_pb2 as pb2
from comity.v1 import node_link_service_pb2_grpc as pb2_grpc
from identity.directory import Directory
from identity.verify import Identity
from policies.published import Published

HELLO_WITHIN_S = 10.0
MAX_ANSWER_BYTES = 3 * 1024 * 1024
MOST_STREAMS = 16  # of one node: a few whose end was not noticed yet, and the one in use
MOST_HELLOS = 120  # of one node in a minute: each costs a compilation and an entry in the log
MINUTE_S = 60.0
SHOWN_WITHIN_S = 5.0  # of being asked
ASK_EVERY_S = 1.0  # for a node's policy, however many of its answers are under another than was decided by

Context = grpc.aio.ServicerContext[Any, Any]
logger = structlog.get_logger("attach")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """What every attached stream needs. `addresses` are the broker processes that nodes attach to."""

    directory: Directory
    links: Links
    log: DecisionLog
    presence: Presence
    bundles: Bundles
    clock: Clock
    broker: str
    process: str
    addresses: Callable[[], Sequence[str]]
    witnessing: Exchange


class NodeLinkService(pb2_grpc.NodeLinkServiceServicer):
    """One `Attach` a node; the node's hello with its signed policy comes first."""

    def __init__(self, attachments: Attachments) -> None:
        self._a = attachments
        self._open: set[Outbox] = set()
        self._recorded: dict[str, dict[str, Any]] = {}  # the last policy entry of each registered node
        self._streams: Counter[str] = Counter()
        self._hellos: dict[str, tuple[float, ...]] = {}  # the last minute's, of each registered node

    def goodbye(self, reason: str) -> None:
        """End every stream, after what is queued on it."""
        for outbox in tuple(self._open):
            outbox.close(reason)

    async def Attach(
        self, request_iterator: AsyncIterator[pb2.AttachRequest], context: Context
    ) -> AsyncIterator[pb2.AttachResponse]:
        """Take the node up, then carry work out and answers in until either side ends it."""
        peer = peer_of(context, "NodeLinkService", self._a.directory, self._a.clock())
        with self._one_more_stream(peer.id):
            async with aclosing(self._attached(peer, request_iterator)) as responses:
                async for response in responses:
                    yield response

    async def _attached(
        self, peer: Identity, request_iterator: AsyncIterator[pb2.AttachRequest]
    ) -> AsyncGenerator[pb2.AttachResponse, None]:
        a = self._a
        first = await _first(request_iterator)
        if not self.may_say_hello(peer.id):
            raise Exhausted("the node says hello too often", retry_after_s=MINUTE_S, reason="TOO_MANY_HELLOS")
        published, stale = await self._shown(peer, first.items[0].hello)
        outbox = Outbox()
        stream = _Stream(self, peer, published, outbox, stale=stale)
        self._open.add(outbox)
        reader = asyncio.ensure_future(stream.read(first, request_iterator))
        # An open stream outlives its certificate; it may not.
        left_s = (peer.not_after - a.clock()).total_seconds()
        expiry = asyncio.get_running_loop().call_later(left_s, outbox.close, "certificate expired")
        reason = "the node left"
        try:
            await stream.attach()
            while items := await outbox.take():
                yield pb2.AttachResponse(items=items)
            reason = "the broker ended the stream"
        finally:
            expiry.cancel()
            reader.cancel()
            self._open.discard(outbox)
            await asyncio.shield(stream.detach(reason))

    @contextmanager
    def _one_more_stream(self, node: str) -> Iterator[None]:
        if self._streams[node] >= MOST_STREAMS:
            raise Exhausted("too many streams of this node are open", retry_after_s=1, reason="TOO_MANY_STREAMS")
        self._streams[node] += 1
        try:
            yield
        finally:
            self._streams[node] -= 1

    def may_say_hello(self, node: str) -> bool:
        """Count a hello of the node; False if it has said too many in the last minute."""
        now = asyncio.get_running_loop().time()
        recent = tuple(at for at in self._hellos.get(node, ()) if at > now - MINUTE_S)
        if len(recent) >= MOST_HELLOS:
            return False
        self._hellos[node] = (*recent, now)
        return True

    async def _shown(self, peer: Identity, hello: pb2.Hello) -> tuple[Published, bool]:
        """What a node attaches under, and whether that is older than what its agency has published.

        Raises:
            NotAuthentic, PolicyError, InvalidInput: as `_take_up`.
        """
        a = self._a
        try:
            return await self._take_up(peer, hello, None), False
        except PolicyError as error:
            if error.reason != OLDER:
                raise
            older = await stands_under_older(
                hello.bundle, a.directory, a.bundles, a.links, peer.id, a.clock(), a.log.append
            )
            if older is None:
                raise
            return older, True

    async def _take_up(self, peer: Identity, hello: pb2.Hello, old: Published | None) -> Published:
        """The node's published policy, recorded. A refused one is recorded too.

        Raises:
            NotAuthentic, PolicyError, InvalidInput: not the node's, or not one that may be taken up.
        """
        a = self._a
        if hello.node != peer.id:
            raise NotAuthentic("a node attaches under its certificate's name only", reason="WRONG_NODE")
        async with a.links.taking_up(peer.id):
            try:
                published = await take_up(hello.bundle, a.directory, a.bundles, peer.id, old, a.clock())
            except (NotAuthentic, PolicyError, InvalidInput) as error:
                logger.warning("policy refused", node=peer.id, reason=error.reason)
                shown = hashlib.sha256(hello.bundle).digest()
                await self._record(refused_entry(peer.id, shown, error.reason), renewed=old is not None)
                raise
            await self._record(taken_up_entry(published), renewed=old is not None)
            a.links.learn(published)
            return published

    async def _record(self, draft: Draft, *, renewed: bool) -> None:
        """Each renewal, and of attachments each change: a node that comes and goes does not fill the log."""
        node = draft.body["node"]
        if renewed or self._recorded.get(node) != draft.body:
            await self._a.log.append([draft])
            self._recorded[node] = draft.body


class _Stream:
    """One node's attached stream: answers in, link up and down."""

    def __init__(
        self, service: NodeLinkService, peer: Identity, published: Published, outbox: Outbox, *, stale: bool = False
    ) -> None:
        self._service = service
        self._a = service._a
        self._peer = peer
        self._published = published
        self._outbox = outbox
        self._link = Link(peer.id, published, outbox.send, stale=stale)
        self._parts: dict[str, _Parts] = {}
        self._asked_at = -SHOWN_WITHIN_S

    async def attach(self) -> None:
        """Be present, and welcome the node."""
        a = self._a
        old = a.links.attach(self._link)
        if old is not None:
            old.lost("the node attached anew")
        await a.presence.attached(self._peer.id, a.process, a.clock())
        self._welcome()
        a.witnessing.attached(self._peer.id, self._outbox.witness)
        logger.info("node attached", node=self._peer.id, policy=self._published.policy.digest[:12])

    async def detach(self, reason: str) -> None:
        """Be absent; whoever waits for an answer is told."""
        a = self._a
        self._link.lost(f"the connection ended: {reason}")
        a.witnessing.detached(self._peer.id, self._outbox.witness)
        if a.links.detach(self._link):
            try:
                await a.presence.detached(self._peer.id, a.process, a.clock())
            except ComityError as error:  # it runs out by itself
                logger.warning("presence not updated", node=self._peer.id, reason=error.reason)
        logger.info("node detached", node=self._peer.id, reason=reason)

    async def read(self, first: pb2.AttachRequest, rest: AsyncIterator[pb2.AttachRequest]) -> None:
        """Take in what the node sends until it ends the stream; nonsense ends it too."""
        try:
            for item in first.items[1:]:
                await self._item(item)
            async for message in rest:
                for item in message.items:
                    await self._item(item)
            self._outbox.close("goodbye")
        except ComityError as error:
            logger.warning("stream ended", node=self._peer.id, reason=error.reason)
            self._outbox.close(error.reason)

    async def _item(self, item: pb2.NodeItem) -> None:
        match item.WhichOneof("item"):
            case "outcome":
                self._chunk(item.outcome)
            case "hello":
                await self._renew(item.hello)
            case "goodbye":
                self._outbox.close("goodbye")
            case "heartbeat":
                # Made anew: with what else the node put into it, a few thousand that it never reads fill the memory.
                beat = pb2.Heartbeat(sequence=item.heartbeat.sequence)
                self._outbox.put(pb2.BrokerItem(heartbeat=beat))
            case "to_witness":
                self._a.witnessing.asked(self._peer.id, ToWitness.parse(item.to_witness), self._outbox.witness)
            case "witnessed":
                self._a.witnessing.answered(self._peer.id, Witnessed.parse(item.witnessed))
            case _:
                raise InvalidInput("an item that this version does not know", reason="BAD_ITEM")

    async def _renew(self, hello: pb2.Hello) -> None:
        """A new policy; one that is refused leaves the old one in force, and the welcome says which that is.

        So does one that comes too soon after many others: it is not even looked at.
        """
        asked = asyncio.get_running_loop().time() - self._asked_at < SHOWN_WITHIN_S
        # What it was asked to show again, or is known to be older, and is the same is no news: it fills no log.
        again = (asked or self._link.stale) and hello.bundle == self._published.data
        if again or not self._service.may_say_hello(self._peer.id):
            self._welcome()
            return
        try:
            self._published = await self._service._take_up(self._peer, hello, self._published)
        except (NotAuthentic, PolicyError, InvalidInput):
            pass
        else:
            self._a.links.take_up(self._link, self._published)
        self._welcome()

    def _welcome(self) -> None:
        a = self._a
        welcome = pb2.Welcome(
            broker=a.broker,
            directory_version=a.directory.version,
            policy_digest=self._published.policy.digest,
            brokers=a.addresses(),
        )
        self._outbox.put(pb2.BrokerItem(welcome=welcome))

    def _chunk(self, chunk: pb2.OutcomeChunk) -> None:
        inquiry_id = chunk.inquiry_id
        work = self._link.unanswered(inquiry_id)
        if work is None:
            self._parts.pop(inquiry_id, None)
            return
        if chunk.HasField("header"):
            self._compare(chunk.header.policy_digest, work)
            # A node that begins answers and never ends them keeps no memory past their deadlines.
            self._parts = {i: p for i, p in self._parts.items() if self._link.waits_for(i)}
            self._parts[inquiry_id] = _Parts(chunk.header)
        parts = self._parts.get(inquiry_id)
        if parts is None or not parts.add(chunk.data, chunk.last):
            self._parts.pop(inquiry_id, None)
            self._link.answered(inquiry_id, Lost(self._peer.id, "BAD_ANSWER", "the node sent no valid outcome"))
        elif chunk.last:
            del self._parts[inquiry_id]
            self._link.answered(inquiry_id, parts.answer(self._peer.id, work))

    def _compare(self, digest: str, work: Work) -> None:
        """An answer under another policy than was decided by: the node is asked for it at once."""
        now = asyncio.get_running_loop().time()
        if digest in ("", work.receipt.ruling.decision.policy_digest) or now - self._asked_at < ASK_EVERY_S:
            return
        self._asked_at = now
        self._link.ask_policy()


class _Parts:
    """The pieces of one answer."""

    def __init__(self, header: pb2.OutcomeHeader) -> None:
        self._header = header
        self._data = bytearray()

    def add(self, data: bytes, last: bool) -> bool:
        """False if the pieces are not as long as the header said."""
        self._data += data
        total = self._header.total_bytes
        return len(self._data) <= min(total, MAX_ANSWER_BYTES) and (not last or len(self._data) == total)

    def answer(self, node: str, work: Work) -> Answer | Lost:
        """The whole. The signature is the node's to make and the client's and auditors' to verify.

        What the log could not take is refused here: one node's nonsense shall not end a search of many. So is a
        header that says anything else than the outcome: it is what the log records, and the outcome what is released.
        """
        h = self._header
        kind = KIND_FROM_WIRE.get(h.kind)
        bad = Lost(node, "BAD_ANSWER", "the node sent no valid outcome")
        if kind is None or kind in BROKER_ONLY or len(h.policy_digest) > 64 or not _says(h, kind, self._data):
            return bad
        receipt = PeerReceipt(
            origin=h.receipt.origin,
            index=h.receipt.index,
            leaf_hash=h.receipt.leaf_hash,
            checkpoint=h.receipt.checkpoint,
        )
        try:
            answer = Answer(
                node=node,
                kind=kind,
                count=h.count,
                coverage=Coverage.parse(h.coverage) if h.HasField("coverage") else None,
                policy_digest=h.policy_digest,
                payload_hash=h.payload_hash,
                envelope=bytes(self._data),
                receipt=receipt if h.HasField("receipt") else None,
            )
            return replace(answer, drafts=tuple(outcome_drafts(work.inquiry_id, work.inquiry_hash, answer)))
        except InvalidInput:
            return bad


def _says(header: pb2.OutcomeHeader, kind: OutcomeKind, wire: bytearray) -> bool:
    """True if the signed outcome in `wire` is of that kind, count, coverage, policy and hash."""
    try:
        envelope = envelope_pb2.Envelope.FromString(bytes(wire))
        outcome = outcome_pb2.Outcome.FromString(envelope.payload)
    except DecodeError:
        return False
    if hashlib.sha256(envelope.payload).digest() != header.payload_hash:
        return False
    result = getattr(outcome, kind.value)
    covers = hasattr(result, "coverage") and result.HasField("coverage")
    return (
        outcome.WhichOneof("result") == kind.value
        and outcome.policy_digest == header.policy_digest
        and len(getattr(result, "detections", ())) == header.count
        and covers == header.HasField("coverage")
        and (not covers or result.coverage == header.coverage)
    )


async def _first(requests: AsyncIterator[pb2.AttachRequest]) -> pb2.AttachRequest:
    try:
        async with asyncio.timeout(HELLO_WITHIN_S):
            message = await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise InvalidInput("a node says hello first", reason="NO_HELLO") from None
    if not message.items or message.items[0].WhichOneof("item") != "hello":
        raise InvalidInput("a node says hello first", reason="NO_HELLO")
    return message
