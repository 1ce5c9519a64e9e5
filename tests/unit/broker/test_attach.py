"""A node's stream at the broker: whose it is, what it may send, and how little of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.model import Answer, Lost, Work, is_permit
from broker.rpc.node_link_service import (
    MOST_HELLOS,
    MOST_STREAMS,
    Attachments,
    NodeLinkService,
    _first,
    _Stream,
)
from broker.rpc.outbox import Outbox
from broker.rpc.peer import peer_of
from broker.state.inprocess import InProcessBundles
from comity.errors import ComityError, Exhausted, InvalidInput, NotAllowed, NotAuthentic
from comity.outcome import KIND_TO_WIRE, OutcomeKind
from comity.v1 import node_link_service_pb2 as pb2
from identity.signing import Signer
from tests.unit.audit.growing import silent_exchange
from tests.unit.broker.scene import PROCESS, Stage, envelope_of, published, receipt
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import ALDER, name

IDS = [f"0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a1{i}" for i in range(3)]


class FakeContext:
    """A call's context that knows the caller's certificate."""

    def __init__(self, *signers: Signer) -> None:
        ders = [x509.load_der_x509_certificate(s.chain[0]) for s in signers]
        self.pems = [d.public_bytes(Encoding.PEM) for d in ders]

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return {"x509_pem_cert": self.pems} if self.pems else {}


def node(stage: Stage) -> Signer:
    return stage.world.signer(stage.world.alder, name(ALDER, "node", "alder-1"))


def stream(stage: Stage, box: Outbox) -> _Stream:
    attachments = Attachments(
        directory=stage.directory,
        links=stage.links,
        log=stage.log,
        presence=stage.presence,
        bundles=InProcessBundles(),
        clock=stage.clock,
        broker="spiffe://test-exchange/broker/b1",
        process=PROCESS,
        addresses=lambda: (PROCESS,),
        witnessing=silent_exchange(stage.log),
    )
    return _Stream(NodeLinkService(attachments), stage.identity(node(stage)), published("alder-1"), box)


def work(inquiry_id: str) -> Work:
    permit = receipt("alder-1")
    assert is_permit(permit)
    return Work(inquiry_id=inquiry_id, inquiry_hash=b"h" * 32, inquiry=b"w", receipt=permit, deadline_ms=1)


WIRE, HASH = envelope_of(OutcomeKind.NO_MATCH)
OTHER_WIRE, OTHER_HASH = envelope_of(OutcomeKind.NO_MATCH, inquiry_id=IDS[1])


def chunk(
    inquiry_id: str, data: bytes, *, last: bool = False, total: int = 0, payload_hash: bytes = HASH
) -> pb2.NodeItem:
    header = pb2.OutcomeHeader(
        kind=KIND_TO_WIRE[OutcomeKind.NO_MATCH],
        coverage=scene.COVERAGE.to_message(),
        payload_hash=payload_hash,
        total_bytes=total,
    )
    piece = pb2.OutcomeChunk(inquiry_id=inquiry_id, header=header if total else None, data=data, last=last)
    return pb2.NodeItem(outcome=piece)


async def requests(*messages: pb2.AttachRequest) -> AsyncIterator[pb2.AttachRequest]:
    for message in messages:
        yield message


HELLO = pb2.AttachRequest(items=[pb2.NodeItem(hello=pb2.Hello(node="alder-1"))])


async def read(at: _Stream, *items: pb2.NodeItem) -> None:
    await at.read(HELLO, requests(*(pb2.AttachRequest(items=[i]) for i in items)))


async def test_pieces_that_are_mixed_up_with_another_answer_s_are_put_together_apart(stage: Stage) -> None:
    at, heard = stream(stage, Outbox()), list[Answer | Lost]()
    for inquiry_id in IDS[:2]:
        at._link.ask(work(inquiry_id), heard.append)
    await read(
        at,
        chunk(IDS[0], WIRE[:9], total=len(WIRE)),
        chunk(IDS[1], OTHER_WIRE[:5], total=len(OTHER_WIRE), payload_hash=OTHER_HASH),
        chunk(IDS[1], OTHER_WIRE[5:], last=True),
        chunk(IDS[0], WIRE[9:], last=True),
    )
    assert [a.envelope for a in heard if isinstance(a, Answer)] == [OTHER_WIRE, WIRE]


PIECES = {
    "a piece without a beginning": [chunk(IDS[0], b"x", last=True)],
    "more than was announced": [chunk(IDS[0], b"xx", total=1)],
    "an end too early": [chunk(IDS[0], b"x", total=2, last=True)],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
async def test_an_answer_in_wrong_pieces_is_an_error_at_once_and_only_once(
    pieces: list[pb2.NodeItem], stage: Stage
) -> None:
    at, heard = stream(stage, Outbox()), list[Answer | Lost]()
    at._link.ask(work(IDS[0]), heard.append)
    await read(at, *pieces, *pieces)
    assert [(a.node, a.reason_code) for a in heard] == [("alder-1", "BAD_ANSWER")]


async def test_an_answer_to_what_nobody_asked_is_dropped(stage: Stage) -> None:
    at = stream(stage, Outbox())
    await read(at, chunk(IDS[0], b"x", total=100))
    assert at._parts == {}


async def test_answers_that_are_begun_and_never_ended_are_not_kept_past_their_inquiry(stage: Stage) -> None:
    at, heard = stream(stage, Outbox()), list[Answer | Lost]()
    for inquiry_id in IDS:
        at._link.ask(work(inquiry_id), heard.append)
        await at._item(chunk(inquiry_id, b"x", total=100))
        assert set(at._parts) == {inquiry_id}
        at._link.cancel(inquiry_id)
    assert heard == []


async def test_a_heartbeat_is_sent_back_and_the_end_of_the_stream_is_a_goodbye(stage: Stage) -> None:
    box = Outbox()
    await read(stream(stage, box), pb2.NodeItem(heartbeat=pb2.Heartbeat(sequence=7)))
    beat, goodbye = await box.take()
    assert (beat.heartbeat.sequence, goodbye.goodbye.reason) == (7, "goodbye")


async def test_an_item_that_this_version_does_not_know_ends_the_stream_with_its_reason(stage: Stage) -> None:
    box = Outbox()
    await read(stream(stage, box), pb2.NodeItem())
    (goodbye,) = await box.take()
    assert goodbye.goodbye.reason == "BAD_ITEM"


async def test_a_refused_renewal_leaves_the_old_policy_and_the_welcome_says_which(stage: Stage) -> None:
    box = Outbox()
    at = stream(stage, box)
    await read(at, pb2.NodeItem(hello=pb2.Hello(node="alder-1", bundle=b"half a bund")))
    welcome = (await box.take())[0].welcome
    assert welcome.policy_digest == published("alder-1").policy.digest
    assert [(b["taken_up"], b["reason"]) for b in stage.log.bodies("policy")] == [(False, "BAD_ENVELOPE")]


async def test_a_node_that_leaves_is_absent_and_whoever_waits_is_told(stage: Stage) -> None:
    at, heard = stream(stage, Outbox()), list[Answer | Lost]()
    await at.attach()
    assert stage.links.get("alder-1") is at._link
    at._link.ask(work(IDS[0]), heard.append)
    await at.detach("cable cut")
    assert stage.links.get("alder-1") is None
    assert [a.reason_code for a in heard] == ["LINK_LOST"]
    assert (await stage.presence.last_attached_at(["alder-1"]))["alder-1"] == NOW


async def test_a_node_that_attaches_anew_loses_what_was_asked_of_it_before(stage: Stage) -> None:
    old, new, heard = stream(stage, Outbox()), stream(stage, Outbox()), list[Answer | Lost]()
    await old.attach()
    old._link.ask(work(IDS[0]), heard.append)
    await new.attach()
    await old.detach("replaced")
    assert [a.reason_code for a in heard] == ["LINK_LOST"]
    assert stage.links.get("alder-1") is new._link


@pytest.mark.parametrize(
    "messages",
    [(), (pb2.AttachRequest(),), (pb2.AttachRequest(items=[pb2.NodeItem(heartbeat=pb2.Heartbeat())]),)],
    ids=["nothing", "an empty message", "a heartbeat first"],
)
async def test_a_node_that_does_not_say_hello_first_is_refused(messages: tuple[pb2.AttachRequest, ...]) -> None:
    with pytest.raises(InvalidInput) as e:
        await _first(requests(*messages))
    assert e.value.reason == "NO_HELLO"


async def test_a_node_attaches_under_its_own_name_only(stage: Stage) -> None:
    at = stream(stage, Outbox())
    with pytest.raises(NotAuthentic) as e:
        await at._service._take_up(stage.identity(node(stage)), pb2.Hello(node="brazos-1"), None)
    assert e.value.reason == "WRONG_NODE"


# Who may call


def peer(stage: Stage, service: str, *signers: Signer) -> str:
    context: Any = FakeContext(*signers)
    return peer_of(context, service, stage.directory, NOW).id


def test_people_search_and_nodes_attach(stage: Stage) -> None:
    assert peer(stage, "SearchService", stage.person) == "t-reyes"
    assert peer(stage, "NodeLinkService", node(stage)) == "alder-1"


def test_each_service_refuses_the_others_callers(stage: Stage) -> None:
    for service, signer in (
        ("SearchService", node(stage)),
        ("SearchService", stage.broker),
        ("NodeLinkService", stage.person),
    ):
        with pytest.raises(NotAllowed):
            peer(stage, service, signer)


def test_a_service_without_callers_is_for_nobody(stage: Stage) -> None:
    with pytest.raises(KeyError):
        peer(stage, "AuditService", stage.person)


def test_a_caller_without_a_certificate_or_with_an_expired_one_is_nobody(stage: Stage) -> None:
    for signers in ((), (stage.world.person(at=NOW - 20 * scene.DAY),)):
        with pytest.raises(ComityError) as e:
            peer(stage, "SearchService", *signers)
        assert isinstance(e.value, NotAuthentic)


# What one node may cost the broker


async def test_nothing_that_a_node_hides_in_a_heartbeat_is_kept_or_sent_back(stage: Stage) -> None:
    box = Outbox()
    hidden = pb2.Heartbeat.FromString(b"\x7a\x05extra")  # field 15, which no version knows
    await read(stream(stage, box), pb2.NodeItem(heartbeat=hidden))
    assert (await box.take())[0].heartbeat == pb2.Heartbeat()


async def test_a_node_that_says_hello_again_and_again_does_not_fill_the_log(stage: Stage) -> None:
    box = Outbox()
    hellos = [pb2.NodeItem(hello=pb2.Hello(node="alder-1", bundle=b"no. %d" % i)) for i in range(MOST_HELLOS + 50)]
    await read(stream(stage, box), *hellos)
    assert len(stage.log.bodies("policy")) == MOST_HELLOS


async def test_a_node_that_keeps_attaching_is_turned_away_for_a_minute(stage: Stage) -> None:
    service = stream(stage, Outbox())._service
    while service.may_say_hello("alder-1"):
        pass
    with pytest.raises(Exhausted) as e:
        await anext(attach(service, stage, requests(HELLO)))
    assert e.value.reason == "TOO_MANY_HELLOS"
    assert service.may_say_hello("brazos-1")


async def test_one_node_has_a_few_streams_open_and_no_more(stage: Stage) -> None:
    async def silent() -> AsyncIterator[pb2.AttachRequest]:
        await asyncio.get_running_loop().create_future()
        yield HELLO

    service = stream(stage, Outbox())._service
    streams = [attach(service, stage, silent()) for _ in range(MOST_STREAMS)]
    opening = [asyncio.ensure_future(anext(s)) for s in streams]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted) as e:
        await anext(attach(service, stage, silent()))
    assert e.value.reason == "TOO_MANY_STREAMS"
    for task in opening:
        task.cancel()
    await asyncio.gather(*opening, return_exceptions=True)
    with pytest.raises(InvalidInput, match="hello"):
        await anext(attach(service, stage, requests()))


def attach(
    service: NodeLinkService, stage: Stage, from_node: AsyncIterator[pb2.AttachRequest]
) -> AsyncIterator[pb2.AttachResponse]:
    context: Any = FakeContext(node(stage))
    return service.Attach(from_node, context)
