"""SearchService: what investigators call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from broker.model import Call, Decided, Finished, Release, Released
from broker.rpc.peer import peer_of
from broker.search import Search
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.inquiry import MAX_PAYLOAD_BYTES
from comity.outcome import KIND_TO_WIRE
from comity.v1 import node_link_service_pb2 as link_pb2
from comity.v1 import search_service_pb2 as pb2
from comity.v1 import search_service_pb2_grpc as pb2_grpc

DEFAULT_DEADLINE_S = 10.0
MAX_DEADLINE_S = 120.0
READ_WITHIN_S = 30.0  # of the deadline, for whoever is slow to read what came of it
EVENTS_BYTES = 1024 * 1024  # of one response, a larger event alone in its own; the limit of a message is 4 MiB

Context = grpc.aio.ServicerContext[Any, Any]


class SearchService(pb2_grpc.SearchServiceServicer):
    """Decode, run, encode."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def Preview(self, request: pb2.PreviewRequest, context: Context) -> pb2.PreviewResponse:
        """Decisions only."""
        decisions = await self._search.preview(self._call(request, context))
        return pb2.PreviewResponse(decisions=[d.to_message() for d in decisions])

    async def Search(self, request: pb2.SearchRequest, context: Context) -> AsyncIterator[pb2.SearchResponse]:
        """Decisions, outcomes as they arrive, the summary."""
        call = self._call(request, context)
        task = asyncio.current_task()
        assert task is not None
        # gRPC waits for a reader for as long as the caller said, without a deadline for ever: so would the place that
        # the search takes from others.
        end = asyncio.get_running_loop().call_at(call.deadline + READ_WITHIN_S, task.cancel)
        try:
            async with aclosing(self._search.run(call)) as releases:
                async for release in releases:
                    for response in encode(release):
                        yield response
        finally:
            end.cancel()

    def _call(self, request: pb2.SearchRequest | pb2.PreviewRequest, context: Context) -> Call:
        search = self._search
        left_s = context.time_remaining()
        left_s = DEFAULT_DEADLINE_S if left_s is None else min(left_s, MAX_DEADLINE_S)
        peer = peer_of(context, "SearchService", search.directory, search.clock())
        envelope = Envelope.from_message(
            request.inquiry, payload_type=INQUIRY_TYPE, max_payload_bytes=MAX_PAYLOAD_BYTES
        )
        return Call(
            peer=peer,
            envelope=envelope,
            disclosures=tuple(request.disclosures[:4]),
            # Encoded anew, so that nothing unknown beside what was signed is multiplied by the number of nodes.
            work=link_pb2.WorkInquiry(
                envelope=envelope.encode(), disclosures=request.disclosures[:4]
            ).SerializeToString(),
            deadline=asyncio.get_running_loop().time() + left_s,
        )


def encode(release: Release) -> list[pb2.SearchResponse]:
    """The responses that carry `release`, each well under the size of a message."""
    match release:
        case Decided():
            return _pages([pb2.SearchEvent(decision=d.to_message()) for d in release.decisions])
        case Released():
            return _pages(
                [pb2.SearchEvent(outcome=pb2.SignedOutcome(node=a.node, envelope=a.envelope)) for a in release.answers]
            )
        case Finished():
            return [pb2.SearchResponse(events=[pb2.SearchEvent(summary=_summary(release))])]


def _summary(finished: Finished) -> pb2.Summary:
    tally = finished.tally
    return pb2.Summary(
        inquiry_id=finished.inquiry_id,
        targets=tally.targets,
        matched=tally.matched,
        complete=tally.complete,
        outcomes=[pb2.OutcomeCount(kind=KIND_TO_WIRE[k], count=n) for k, n in tally.counts.items()],
    )


def _pages(events: list[pb2.SearchEvent]) -> list[pb2.SearchResponse]:
    pages: list[pb2.SearchResponse] = []
    page: list[pb2.SearchEvent] = []
    size = 0
    for event in events:
        more = event.ByteSize()
        if page and size + more > EVENTS_BYTES:
            pages.append(pb2.SearchResponse(events=page))
            size, page = 0, []
        page.append(event)
        size += more
    if page:
        pages.append(pb2.SearchResponse(events=page))
    return pages
