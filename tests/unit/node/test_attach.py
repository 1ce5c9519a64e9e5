"""What a broker may ask of a node that is attached: work of a size, and other brokers by address alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from comity.v1 import node_link_service_pb2 as pb2
from comity.v1 import node_link_service_pb2_grpc as pb2_grpc
from node.attach import MOST_IN_MESSAGE, MOST_WORK_BYTES, Attached, Attachment, Brokers, Requests, why
from node.model import Signed, Work

OWN = "127.0.0.1:1"
MOST = 3


class Dialled:
    """A node that dials one broker, and what it was given to do; nothing is ever answered."""

    def __init__(self) -> None:
        self.work: list[Work] = []
        self.looks: list[BaseException | bool] = []
        self.looked = 0
        attachment = Attachment(
            credentials=grpc.ssl_channel_credentials(),
            hello=pb2.Hello,
            run=self.run,
            on_broken=lambda: None,
            look=self.look,
        )
        self.brokers = Brokers((OWN,), attachment, most=MOST)
        self.brokers.start()

    async def run(self, work: Work, broker: str) -> Signed:
        """Never an answer."""
        self.work.append(work)
        never: asyncio.Future[Signed] = asyncio.get_running_loop().create_future()
        return await never

    async def look(self) -> bool:
        """The next of `looks`: an error, or whether there was a new policy."""
        self.looked += 1
        found = self.looks.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    @property
    def hellos(self) -> int:
        """How many wait to be sent."""
        queue = self.attached._outgoing
        waiting = [queue.get_nowait() for _ in range(queue.qsize())]
        return sum(item is not None for item in waiting)

    @property
    def attached(self) -> Attached:
        return self.brokers._attached[OWN]

    async def hear(self, item: pb2.BrokerItem) -> None:
        """Take the item, and let what it starts begin."""
        self.attached._take(item, "spiffe://test-exchange/broker/b1")
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing runs any more."""
        tasks = (*self.brokers._tasks, *self.attached._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def dialled() -> AsyncIterator[Dialled]:
    made = Dialled()
    yield made
    await made.close()


async def test_a_node_dials_what_a_broker_names_only_if_it_is_host_and_port(dialled: Dialled) -> None:
    odd = ["unix:/tmp/socket", "unix:/tmp/socket:1", "dns://resolver.example/broker.example:443", "a b:1", "x:port", ""]
    await dialled.hear(pb2.BrokerItem(welcome=pb2.Welcome(brokers=[OWN, *odd, "127.0.0.2:1", "[::1]:2"])))
    assert list(dialled.brokers._attached) == [OWN, "127.0.0.2:1", "[::1]:2"]


async def test_a_node_dials_so_many_addresses_and_no_more(dialled: Dialled) -> None:
    await dialled.hear(pb2.BrokerItem(welcome=pb2.Welcome(brokers=[f"127.0.0.2:{i}" for i in range(1, 9)])))
    assert len(dialled.brokers._attached) == MOST


async def test_a_node_that_is_stopped_while_it_dials_stops(dialled: Dialled) -> None:
    (dialling,) = dialled.brokers._tasks
    await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling


async def test_work_that_no_inquiry_can_be_is_dropped_before_it_takes_up_room(dialled: Dialled) -> None:
    await dialled.hear(pb2.BrokerItem(work=pb2.Work(inquiry_id="big", inquiry=b"x" * MOST_WORK_BYTES, deadline_ms=9)))
    await dialled.hear(pb2.BrokerItem(work=pb2.Work(inquiry_id="small", inquiry=b"x", deadline_ms=9)))
    assert [w.inquiry_id for w in dialled.work] == ["small"]
    assert list(dialled.attached._running) == ["small"]


@pytest.mark.parametrize(
    ("look", "hellos"),
    [
        pytest.param(False, 1, id="with the old one where there is none"),
        pytest.param(True, 0, id="not twice where every broker was told of a new one"),
        pytest.param(OSError("no such folder"), 1, id="with the old one where the folder cannot be read"),
    ],
)
async def test_a_node_that_is_asked_for_its_policy_looks_for_a_new_one_and_says_hello(
    dialled: Dialled, look: BaseException | bool, hellos: int
) -> None:
    dialled.attached.welcomed.set()
    dialled.looks = [look]
    await dialled.hear(pb2.BrokerItem(show_policy=pb2.ShowPolicy()))
    await asyncio.sleep(0)
    assert (dialled.looked, dialled.hellos) == (1, hellos)


async def test_a_broker_that_asks_and_asks_makes_a_node_look_once_a_second(dialled: Dialled) -> None:
    dialled.attached.welcomed.set()
    dialled.looks = [False]
    for _ in range(500):
        await dialled.hear(pb2.BrokerItem(show_policy=pb2.ShowPolicy()))
    assert (dialled.looked, dialled.hellos) == (1, 1)


@pytest.mark.parametrize(
    ("waiting", "sent"),
    [
        pytest.param(0, [1], id="nothing but the hello"),
        pytest.param(1, [1, 1], id="one item"),
        pytest.param(MOST_IN_MESSAGE, [1, MOST_IN_MESSAGE], id="as many as a message takes"),
        pytest.param(2 * MOST_IN_MESSAGE + 1, [1, MOST_IN_MESSAGE, MOST_IN_MESSAGE, 1], id="more"),
    ],
)
async def test_what_goes_out_is_the_hello_and_then_every_item_in_its_order(waiting: int, sent: list[int]) -> None:
    outgoing: asyncio.Queue[pb2.NodeItem | None] = asyncio.Queue()
    for number in range(waiting):
        outgoing.put_nowait(pb2.NodeItem(goodbye=pb2.Goodbye(reason=str(number))))
    outgoing.put_nowait(None)
    messages = [m async for m in Requests(pb2.Hello, outgoing)]
    assert [len(m.items) for m in messages] == sent
    assert messages[0].items[0].HasField("hello")
    assert [i.goodbye.reason for m in messages[1:] for i in m.items] == [str(n) for n in range(waiting)]


def test_what_goes_out_leaves_no_generator_for_the_event_loop_to_close() -> None:
    assert not hasattr(Requests(pb2.Hello, asyncio.Queue()), "aclose")


class Ending(pb2_grpc.NodeLinkServiceServicer):
    """A broker that welcomes whoever attaches and ends the stream when told to."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def Attach(
        self,
        request_iterator: AsyncIterator[pb2.AttachRequest],
        context: grpc.aio.ServicerContext[pb2.AttachRequest, pb2.AttachResponse],
    ) -> AsyncIterator[pb2.AttachResponse]:
        """A welcome, and nothing more."""
        await anext(aiter(request_iterator))
        yield pb2.AttachResponse(items=[pb2.BrokerItem(welcome=pb2.Welcome())])
        await self.end.wait()


async def unasked(work: Work, broker: str) -> Signed:
    """No answer: nobody asks."""
    raise AssertionError(f"{broker} asks {work.inquiry_id}")


@pytest.fixture
async def ending() -> AsyncIterator[Ending]:
    """A broker, and a node is attached to it."""
    broker, server = Ending(), grpc.aio.server()
    pb2_grpc.add_NodeLinkServiceServicer_to_server(broker, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    await server.start()
    attachment = Attachment(
        credentials=grpc.local_channel_credentials(), hello=pb2.Hello, run=unasked, on_broken=lambda: None
    )
    attached = Attached(f"127.0.0.1:{port}", attachment, lambda _: None)
    running = asyncio.ensure_future(attached.run())
    await attached.welcomed.wait()
    yield broker
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(None)


async def test_nothing_waits_any_more_for_what_was_to_go_out_on_a_stream_that_ended(ending: Ending) -> None:
    sending = [t for t in asyncio.all_tasks() if "_consume_request_iterator" in repr(t) and not t.done()]
    assert len(sending) == 1
    ending.end.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*sending)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        pytest.param(
            "last error: UNKNOWN: ipv4:1: Failed to connect: Connection refused", "nothing listens", id="gone"
        ),
        pytest.param("Ssl handshake failed: CERTIFICATE_VERIFY_FAILED: x", "does not prove", id="another's name"),
        pytest.param("UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", "not accept our certificate", id="closed at once"),
        pytest.param("Hostname Verification Check failed.", "does not name this address", id="not named by this"),
        pytest.param("the shared state cannot be reached", "", id="what the broker itself said"),
    ],
)
def test_why_no_broker_was_reached_is_told_in_our_words(details: str, said: str) -> None:
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)
    assert (said in why(error), bool(why(error))) == (True, bool(said))
