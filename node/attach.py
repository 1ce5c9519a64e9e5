"""The node dials out: one connection and one long-lived stream to each broker process, kept up for ever."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from audit.exchange import Exchange, Send
from audit.witness import ToWitness, Witnessed
from comity.errors import InvalidInput, LogBroken
from comity.outcome import KIND_TO_WIRE
from comity.v1 import node_link_service_pb2 as pb2
from comity.v1 import node_link_service_pb2_grpc as pb2_grpc
from node.model import BrokerReceipt, Signed, Work
from node.witnessing import peer_of

CHUNK_BYTES = 64 * 1024  # so that answers share the stream fairly
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 0.8
REFUSED_WAIT_S = 10.0  # a broker that said no says so again until somebody mends it
WELCOME_WITHIN_S = 10.0
SHOW_EVERY_S = 1.0
MOST_IN_MESSAGE = 16  # items
MOST_AT_ONCE = 64
MOST_WAITING = 1024
MOST_WORK_BYTES = 256 * 1024  # an inquiry with all its signatures and its receipt is about 150 kB at most
# What a broker may name: gRPC takes more for an address, sockets of this machine and resolvers elsewhere among it.
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\Z")

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED)
logger = structlog.get_logger("attach")

Run = Callable[[Work, str], Awaitable[Signed]]


async def nothing_new() -> bool:
    """False: no policy was looked for."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What it takes to attach. `hello` makes the first item, with the policy in force; `run` answers work.

    `look`: looks for a new policy, and is true if every broker has been told of one.
    """

    credentials: grpc.ChannelCredentials
    hello: Callable[[], pb2.Hello]
    run: Run
    on_broken: Callable[[], None]
    look: Callable[[], Awaitable[bool]] = nothing_new
    witnessing: Exchange | None = None


class Requests:
    """What goes out on one stream: the hello, then what is put into the queue, up to 16 items a message; None ends it.

    An iterator and no generator: gRPC drops it half-way when a call fails, and the event loop would then close a
    generator in a task of its own, which fails while the generator still runs.
    """

    def __init__(self, hello: Callable[[], pb2.Hello], outgoing: asyncio.Queue[pb2.NodeItem | None]) -> None:
        self._hello: Callable[[], pb2.Hello] | None = hello
        self._outgoing = outgoing
        self._ended = False

    def __aiter__(self) -> AsyncIterator[pb2.AttachRequest]:
        return self

    async def __anext__(self) -> pb2.AttachRequest:
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return pb2.AttachRequest(items=[pb2.NodeItem(hello=hello())])
        items: list[pb2.NodeItem] = []
        while not self._ended and len(items) < MOST_IN_MESSAGE and not (items and self._outgoing.empty()):
            item = await self._outgoing.get()
            if item is None:
                self._ended = True
            else:
                items.append(item)
        if not items:
            raise StopAsyncIteration
        return pb2.AttachRequest(items=items)


class Attached:
    """One broker process that this node is attached to, or tries to be."""

    def __init__(self, address: str, attachment: Attachment, on_brokers: Callable[[list[str]], None]) -> None:
        self.address = address
        self.welcomed = asyncio.Event()
        self._attachment = attachment
        self._on_brokers = on_brokers
        self._outgoing: asyncio.Queue[pb2.NodeItem | None] = asyncio.Queue()
        self._running: dict[str, float] = {}  # inquiry id -> when nobody waits any more, in the loop's time
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)
        self._leaving = False
        self._shown_at = -SHOW_EVERY_S

    async def run(self) -> None:
        """Attach, and attach again whenever it ends, until `leave`."""
        wait_s = FIRST_WAIT_S
        while not self._leaving:
            refused = False
            try:
                await self._attach()
            except grpc.aio.AioRpcError as error:
                refused = error.code() not in _PASSING
                logger.warning("not attached", broker=self.address, code=error.code().name, why=why(error))
            except Exception as error:  # whatever it was, a node that gives up is a node that is gone
                logger.error("not attached", broker=self.address, kind=type(error).__name__)
            wait_s = FIRST_WAIT_S if self.welcomed.is_set() else min(LONGEST_WAIT_S, wait_s * 2)
            wait_s = REFUSED_WAIT_S if refused else wait_s
            self.welcomed.clear()
            if not self._leaving:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  not a secret

    def renew(self) -> None:
        """Say hello again: the policy has changed."""
        if self.welcomed.is_set():
            self._outgoing.put_nowait(pb2.NodeItem(hello=self._attachment.hello()))

    async def leave(self, reason: str) -> None:
        """Finish what is being answered, say goodbye and end the stream."""
        self._leaving = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=5)
        self._outgoing.put_nowait(pb2.NodeItem(goodbye=pb2.Goodbye(reason=reason)))
        self._outgoing.put_nowait(None)

    async def _attach(self) -> None:
        self._outgoing = asyncio.Queue()
        witnessing, witness = self._attachment.witnessing, _witness(self._outgoing)
        async with grpc.aio.secure_channel(self.address, self._attachment.credentials, OPTIONS) as channel:
            call = pb2_grpc.NodeLinkServiceStub(channel).Attach(Requests(self._attachment.hello, self._outgoing))
            silent = asyncio.get_running_loop().call_later(WELCOME_WITHIN_S, call.cancel)
            broker = ""
            try:
                async for response in call:
                    for item in response.items:
                        if item.WhichOneof("item") == "welcome":
                            silent.cancel()
                            broker = item.welcome.broker
                            if witnessing:
                                witnessing.attached(peer_of(broker), witness)
                        self._take(item, broker)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                # The call's end alone is a broker that said nothing; the task's own is a program that stops, and
                # one that dialled on would never stop.
                if broker or not call.cancelled() or (task is not None and task.cancelling()):
                    raise
                logger.warning("not attached", broker=self.address, code="NO_WELCOME")
            finally:
                silent.cancel()
                self._outgoing.put_nowait(None)  # gRPC still waits for what is to be sent next, call or no call
                if witnessing:
                    witnessing.detached(peer_of(broker), witness)

    def _take(self, item: pb2.BrokerItem, broker: str) -> None:
        match item.WhichOneof("item"):
            case "welcome":
                self.welcomed.set()
                self._on_brokers(list(item.welcome.brokers))
                logger.info("attached", broker=broker, policy=item.welcome.policy_digest[:12])
            case "work":
                self._start(item.work, broker)
            case "cancel":
                self._running.pop(item.cancel.inquiry_id, None)
            case "to_witness" | "witnessed":
                self._witness(item, broker)
            case "show_policy":
                self._show()
            case "goodbye":
                logger.info("broker says goodbye", broker=broker, reason=item.goodbye.reason)
            case _:
                pass  # heartbeats, and what a later broker may say

    def _witness(self, item: pb2.BrokerItem, broker: str) -> None:
        witnessing, peer = self._attachment.witnessing, peer_of(broker)
        if witnessing is None:
            return
        try:
            if item.HasField("to_witness"):
                witnessing.asked(peer, ToWitness.parse(item.to_witness), _witness(self._outgoing))
            else:
                witnessing.answered(peer, Witnessed.parse(item.witnessed))
        except InvalidInput as error:
            logger.warning("broker shows no head", broker=broker, reason=error.reason)

    def _show(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._shown_at >= SHOW_EVERY_S:  # a broker that asks and asks costs no more than that
            self._shown_at = now
            task = asyncio.ensure_future(self._look_and_say())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look_and_say(self) -> None:
        try:
            told = await self._attachment.look()
        except Exception as error:  # what is in force is shown whatever lies in the folder
            logger.warning("policy not looked for", kind=type(error).__name__)
            told = False
        if not told:
            self.renew()

    def _start(self, work: pb2.Work, broker: str) -> None:
        if len(self._tasks) >= MOST_WAITING or work.ByteSize() > MOST_WORK_BYTES:
            logger.error("too much work at once", broker=broker)
            return  # unanswered: the broker calls it timed out
        loop = asyncio.get_running_loop()
        inquiry_id = work.inquiry_id
        self._running[inquiry_id] = loop.time() + work.deadline_ms / 1000

        def nobody_waits() -> bool:
            return loop.time() > self._running.get(inquiry_id, 0.0)

        received = Work(
            inquiry_id=inquiry_id,
            inquiry=work.inquiry,
            receipt=BrokerReceipt(
                origin=work.receipt.origin,
                index=work.receipt.index,
                entry=work.receipt.entry,
                leaf_hash=work.receipt.leaf_hash,
                checkpoint=work.receipt.checkpoint,
            ),
            nobody_waits=nobody_waits,
        )
        task = asyncio.ensure_future(self._answer(received, broker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, work: Work, broker: str) -> None:
        outgoing = self._outgoing
        try:
            async with self._at_once:
                signed = await self._attachment.run(work, broker)
        except LogBroken:
            self._attachment.on_broken()
            return
        except Exception as error:  # a defect must not end the stream of every other inquiry
            logger.error("no answer", inquiry_id=work.inquiry_id, kind=type(error).__name__)
            return
        finally:
            self._running.pop(work.inquiry_id, None)
        for item in chunks(signed):
            outgoing.put_nowait(item)


_WHY = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate does not prove that the federation's broker is at this address"),
    ("Connection refused", "nothing listens there"),
    ("Socket closed", "it closed at once: it may not accept our certificate, see comity identity show"),
    ("recvmsg:Connection reset", "it closed at once: it may not accept our certificate, see comity identity show"),
    ("Hostname Verification Check failed", "its certificate does not name this address"),
    ("address lookup failed", "there is no host of that name"),
    ("Method not found", "it takes no nodes: listen_nodes of broker.toml is meant"),
)


def why(error: grpc.aio.AioRpcError) -> str:
    """What gRPC says of a failed connection, in words; of all else nothing, since it was the broker that said it."""
    said = error.details() or ""
    return next((words for sign, words in _WHY if sign in said), "")


def _witness(outgoing: asyncio.Queue[pb2.NodeItem | None]) -> Send:
    def send(item: ToWitness | Witnessed) -> None:
        if outgoing.qsize() > MOST_WAITING:  # a broker that asks and does not read
            return
        if isinstance(item, ToWitness):
            outgoing.put_nowait(pb2.NodeItem(to_witness=item.to_message()))
        else:
            outgoing.put_nowait(pb2.NodeItem(witnessed=item.to_message()))

    return send


def chunks(signed: Signed) -> list[pb2.NodeItem]:
    """The answer in pieces, the header on the first."""
    r = signed.receipt
    header = pb2.OutcomeHeader(
        kind=KIND_TO_WIRE[signed.kind],
        count=signed.count,
        coverage=signed.coverage.to_message() if signed.coverage else None,
        policy_digest=signed.policy_digest,
        payload_hash=signed.payload_hash,
        receipt=pb2.Receipt(origin=r.origin, index=r.index, leaf_hash=r.leaf_hash, checkpoint=r.checkpoint)
        if r
        else None,
        total_bytes=len(signed.envelope),
    )
    pieces = [signed.envelope[i : i + CHUNK_BYTES] for i in range(0, len(signed.envelope), CHUNK_BYTES)]
    return [
        pb2.NodeItem(
            outcome=pb2.OutcomeChunk(
                inquiry_id=signed.inquiry_id,
                header=header if i == 0 else None,
                data=piece,
                last=i == len(pieces) - 1,
            )
        )
        for i, piece in enumerate(pieces)
    ]


class Brokers:
    """Every broker process that this node attaches to: those configured, and those a welcome names."""

    def __init__(self, addresses: tuple[str, ...], attachment: Attachment, most: int = 16) -> None:
        self._attachment = attachment
        self._most = most
        self._attached: dict[str, Attached] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._configured = addresses

    def start(self) -> None:
        """Dial out to every configured address."""
        self._add(list(self._configured))

    def renew(self) -> None:
        """Say hello again everywhere: the policy has changed."""
        for attached in self._attached.values():
            attached.renew()

    @property
    def welcomed(self) -> int:
        """How many broker processes this node is attached to now."""
        return sum(1 for a in self._attached.values() if a.welcomed.is_set())

    async def leave(self, reason: str) -> None:
        """Leave them all."""
        await asyncio.gather(*(a.leave(reason) for a in self._attached.values()))
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=2)
            for task in late:
                task.cancel()

    def _named(self, addresses: list[str]) -> None:
        self._add([a for a in addresses if _ADDRESS.match(a)])

    def _add(self, addresses: list[str]) -> None:
        for address in addresses:
            if address in self._attached or len(self._attached) >= self._most:
                continue
            attached = Attached(address, self._attachment, self._named)
            self._attached[address] = attached
            task = asyncio.ensure_future(attached.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
