"""The broker's wire: pieces of answers put together, a bounded outbox, pages under the size of a message."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit.note import Checkpoint
from broker.model import Answer, Call, Decided, Finished, Lost, Released, Work, is_permit
from broker.rpc.node_link_service import MAX_ANSWER_BYTES, _Parts
from broker.rpc.outbox import ITEMS_A_MESSAGE, MAX_WAITING, Outbox
from broker.rpc.search_service import READ_WITHIN_S, SearchService, encode
from comity import instants
from comity.outcome import BROKER_ONLY, KIND_TO_WIRE, Coverage, OutcomeKind, Tally
from comity.status import ErrorInterceptor
from comity.v1 import inquiry_pb2, search_service_pb2, search_service_pb2_grpc
from comity.v1 import node_link_service_pb2 as pb2
from node.attach import CHUNK_BYTES, chunks
from node.model import Signed
from tests.fakes import FakeLog, FixedClock
from tests.unit.broker.scene import answer, envelope_of, receipt
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW

MESSAGE_BYTES = 4 * 1024 * 1024
WINDOW = scene.COVERAGE.to_message()
BACKWARDS = inquiry_pb2.Window(begin=instants.to_wire(NOW), end=instants.to_wire(NOW - scene.DAY))
LOG = FakeLog("node.example/log", FixedClock(NOW))
CHECKPOINT = Checkpoint(origin="node.example/log", size=4, root=b"r" * 32).sign(LOG.key)


def work() -> Work:
    permit = receipt("alder-1")
    assert is_permit(permit)
    return Work(inquiry_id=scene.INQUIRY_ID, inquiry_hash=b"h" * 32, inquiry=b"w", receipt=permit, deadline_ms=1)


WIRE, HASH = envelope_of(OutcomeKind.NO_MATCH, policy_digest="ab" * 32)


def header(**changes: Any) -> pb2.OutcomeHeader:
    content: dict[str, Any] = {
        "kind": KIND_TO_WIRE[OutcomeKind.NO_MATCH],
        "coverage": WINDOW,
        "policy_digest": "ab" * 32,
        "payload_hash": HASH,
        "total_bytes": len(WIRE),
    }
    return pb2.OutcomeHeader(**(content | changes))


def peer_receipt(**changes: Any) -> pb2.Receipt:
    content: dict[str, Any] = {
        "origin": "node.example/log",
        "index": 3,
        "leaf_hash": b"l" * 32,
        "checkpoint": CHECKPOINT,
    }
    return pb2.Receipt(**(content | changes))


def put_together(parts: _Parts) -> Answer | Lost:
    assert parts.add(WIRE, True)
    return parts.answer("alder-1", work())


LENGTHS = {
    "longer than announced": (4, [(b"datas", False)]),
    "longer than announced in its second piece": (4, [(b"dat", False), (b"as", True)]),
    "shorter than announced": (4, [(b"dat", True)]),
    "longer than any answer may be": (MAX_ANSWER_BYTES + 1, [(b"x" * (MAX_ANSWER_BYTES + 1), True)]),
    "announced as longer than it may be, however it comes": (
        2**32 - 1,
        [(b"x" * MAX_ANSWER_BYTES, False), (b"x", False)],
    ),
}


@pytest.mark.parametrize(("total", "pieces"), LENGTHS.values(), ids=LENGTHS.keys())
def test_an_answer_of_another_length_than_announced_is_refused(total: int, pieces: list[tuple[bytes, bool]]) -> None:
    parts = _Parts(header(total_bytes=total))
    assert not all(parts.add(data, last) for data, last in pieces)


BAD_HEADERS: dict[str, dict[str, Any]] = {
    "no kind": {"kind": 0},
    "an unknown kind": {"kind": 10},
    "no hash": {"payload_hash": b""},
    "a hash of 31 bytes": {"payload_hash": HASH[:31]},
    "a coverage that ends before it begins": {"coverage": BACKWARDS},
    "an unset coverage": {"coverage": inquiry_pb2.Window()},
    "a policy digest of 65 characters": {"policy_digest": "a" * 65},
    "nothing found, three times": {"count": 3},
    "a match of none": {"kind": KIND_TO_WIRE[OutcomeKind.MATCH]},
    "a refusal with a count": {"kind": KIND_TO_WIRE[OutcomeKind.REFUSED], "count": 1},
    "a receipt without a checkpoint": {"receipt": peer_receipt(checkpoint=b"")},
    "a receipt whose checkpoint is too small for it": {"receipt": peer_receipt(index=4)},
    "a receipt of another log than its checkpoint": {"receipt": peer_receipt(origin="x")},
    "a receipt with half a leaf hash": {"receipt": peer_receipt(leaf_hash=b"l" * 16)},
    "a receipt with an endless checkpoint": {"receipt": peer_receipt(checkpoint=CHECKPOINT + b"x" * 100_000)},
}
BAD_HEADERS |= {f"{k.value}, which only a broker may say": {"kind": KIND_TO_WIRE[k]} for k in sorted(BROKER_ONLY)}


@pytest.mark.parametrize("changes", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_an_answer_that_the_log_could_not_take_is_this_node_s_error_alone(changes: dict[str, Any]) -> None:
    found = put_together(_Parts(header(**changes)))
    assert isinstance(found, Lost)
    assert (found.node, found.reason_code) == ("alder-1", "BAD_ANSWER")


SHORTER = Coverage(begin=NOW - scene.DAY, end=NOW)
OTHER_WORDS: dict[str, tuple[bytes, bytes]] = {
    "a match": envelope_of(OutcomeKind.MATCH, policy_digest="ab" * 32, detections=(scene.detection(),)),
    "a refusal": envelope_of(OutcomeKind.REFUSED, policy_digest="ab" * 32, decision=scene.decision().to_message()),
    "less of the window": envelope_of(OutcomeKind.NO_MATCH, policy_digest="ab" * 32, coverage=SHORTER),
    "another policy": envelope_of(OutcomeKind.NO_MATCH, policy_digest="cd" * 32),
    "no outcome": (b"data", hashlib.sha256(b"").digest()),
    "another hash": (WIRE, b"p" * 32),
}


@pytest.mark.parametrize(("wire", "payload_hash"), OTHER_WORDS.values(), ids=OTHER_WORDS.keys())
def test_an_answer_that_the_node_logs_otherwise_than_it_signs_is_not_released(wire: bytes, payload_hash: bytes) -> None:
    parts = _Parts(header(payload_hash=payload_hash, total_bytes=len(wire)))
    assert parts.add(wire, True)
    found = parts.answer("alder-1", work())
    assert isinstance(found, Lost)
    assert found.reason_code == "BAD_ANSWER"


def test_a_match_is_recorded_with_as_many_detections_as_it_releases() -> None:
    wire, payload_hash = envelope_of(OutcomeKind.MATCH, policy_digest="ab" * 32, detections=(scene.detection(),) * 2)
    kind = KIND_TO_WIRE[OutcomeKind.MATCH]
    for count, right in ((1, False), (2, True), (3, False)):
        parts = _Parts(header(kind=kind, count=count, payload_hash=payload_hash, total_bytes=len(wire)))
        assert parts.add(wire, True)
        assert isinstance(parts.answer("alder-1", work()), Answer) is right


def test_a_good_answer_keeps_its_envelope_and_its_receipt() -> None:
    found = put_together(_Parts(header(receipt=peer_receipt())))
    assert isinstance(found, Answer)
    assert (found.envelope, found.kind, found.coverage) == (WIRE, OutcomeKind.NO_MATCH, scene.COVERAGE)
    assert found.receipt is not None
    assert found.receipt.checkpoint == CHECKPOINT
    assert [d.type for d in found.drafts] == ["outcome", "receipt"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3 * CHUNK_BYTES + 1))
def test_what_a_node_cuts_into_pieces_the_broker_puts_together(size: int) -> None:
    wire, payload_hash = envelope_of(OutcomeKind.NO_MATCH, padding=size)
    signed = Signed(
        inquiry_id=scene.INQUIRY_ID,
        inquiry_hash=b"h" * 32,
        kind=OutcomeKind.NO_MATCH,
        count=0,
        coverage=scene.COVERAGE,
        policy_digest="",
        reason_code="",
        payload_hash=payload_hash,
        envelope=wire,
        receipt=None,
    )
    items = [i.outcome for i in chunks(signed)]
    assert [i.HasField("header") for i in items] == [True] + [False] * (len(items) - 1)
    assert [i.last for i in items] == [False] * (len(items) - 1) + [True]
    assert all(len(i.data) <= CHUNK_BYTES for i in items)
    parts = _Parts(items[0].header)
    assert all(parts.add(i.data, i.last) for i in items)
    found = parts.answer("alder-1", work())
    assert isinstance(found, Answer)
    assert found.envelope == signed.envelope


# What waits on a node's stream


def beat(n: int) -> pb2.BrokerItem:
    return pb2.BrokerItem(heartbeat=pb2.Heartbeat(sequence=n))


async def drained(box: Outbox) -> list[pb2.BrokerItem]:
    out = []
    while items := await box.take():
        assert len(items) <= ITEMS_A_MESSAGE
        out += items
    return out


async def test_items_go_out_in_order_those_that_are_ready_together() -> None:
    box = Outbox()
    for n in range(ITEMS_A_MESSAGE + 1):
        box.put(beat(n))
    assert [i.heartbeat.sequence for i in await box.take()] == list(range(ITEMS_A_MESSAGE))
    assert [i.heartbeat.sequence for i in await box.take()] == [ITEMS_A_MESSAGE]


async def test_a_node_that_reads_no_more_cannot_fill_the_broker_s_memory() -> None:
    box = Outbox()
    for n in range(MAX_WAITING + 100):
        box.put(beat(n))
        box.send(scene.INQUIRY_ID)
    assert box.closed
    assert len(await drained(box)) == MAX_WAITING


async def test_a_closed_outbox_takes_nothing_more_and_says_goodbye_once() -> None:
    box = Outbox()
    box.put(beat(1))
    for _ in range(3):
        box.close("the end")
        box.put(beat(2))
    assert [i.WhichOneof("item") for i in await drained(box)] == ["heartbeat", "goodbye"]


async def test_work_goes_out_with_its_receipt_and_a_cancellation_by_its_id() -> None:
    box = Outbox()
    box.send(work())
    box.send(scene.INQUIRY_ID)
    sent, cancel = await box.take()
    assert (sent.work.inquiry, sent.work.receipt.leaf_hash, sent.work.deadline_ms) == (b"w", b"l" * 32, 1)
    assert cancel.cancel.inquiry_id == scene.INQUIRY_ID


# What an investigator is sent


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 1000, 300_000, 1_200_000, MAX_ANSWER_BYTES]), min_size=1, max_size=12))
@example([1024 * 1024 - 50, MAX_ANSWER_BYTES])
@example([1024 * 1024 - 20, MAX_ANSWER_BYTES, 1])
def test_outcomes_are_paged_in_order_and_each_page_fits_a_message(sizes: list[int]) -> None:
    answers = tuple(answer(f"n{i}", envelope=b"x" * size) for i, size in enumerate(sizes))
    pages = encode(Released(answers=answers))
    assert [e.outcome.node for p in pages for e in p.events] == [a.node for a in answers]
    assert all(p.ByteSize() < MESSAGE_BYTES for p in pages)


def test_a_thousand_decisions_are_paged_too() -> None:
    decisions = tuple(scene.decision(node=f"n{i}", reason="why " * 500) for i in range(1_000))
    pages = encode(Decided(decisions=decisions))
    assert sum(len(p.events) for p in pages) == 1_000
    assert len(pages) > 1
    assert all(p.ByteSize() < MESSAGE_BYTES for p in pages)


def test_nothing_is_sent_for_nothing() -> None:
    assert encode(Released(answers=())) == []


def test_the_summary_counts_by_kind_and_claims_no_more_than_the_tally() -> None:
    tally = Tally.of(2, [(OutcomeKind.MATCH, 3), (OutcomeKind.REFUSED, 0)])
    (page,) = encode(Finished(inquiry_id=scene.INQUIRY_ID, tally=tally))
    summary = page.events[0].summary
    assert (summary.targets, summary.matched, summary.complete) == (2, 1, False)
    assert {c.kind: c.count for c in summary.outcomes} == {
        KIND_TO_WIRE[OutcomeKind.MATCH]: 1,
        KIND_TO_WIRE[OutcomeKind.REFUSED]: 1,
    }


class _Unending:
    """A search that has more to say than anybody reads; `ended` once it was told to stop."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def run(self, _: Call) -> AsyncGenerator[Released, None]:
        try:
            while True:
                yield Released(answers=(answer("alder-1", envelope=b"x" * 1_000_000),))
        finally:
            self.ended.set()


class _Late(SearchService):
    def _call(self, *_: object) -> Call:
        return SimpleNamespace(deadline=asyncio.get_running_loop().time() - READ_WITHIN_S)  # type: ignore[return-value]


async def test_a_caller_who_reads_nothing_does_not_keep_its_place_past_the_deadline() -> None:
    search = _Unending()
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(_Late(search), server)  # type: ignore[arg-type]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = search_service_pb2_grpc.SearchServiceStub(channel).Search(search_service_pb2.SearchRequest())
        await search.ended.wait()
        assert not call.done()
        call.cancel()
    await server.stop(0)
