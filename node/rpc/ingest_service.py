"""IngestService: what this agency's own cameras call, on its own network."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from comity.errors import InvalidInput, NotAllowed
from comity.v1 import ingest_service_pb2 as pb2
from comity.v1 import ingest_service_pb2_grpc as pb2_grpc
from identity.directory import Directory
from identity.tls import peer_pem
from identity.verify import verify_peer_pem
from node.formats.interface import RecordFormat
from node.ingest import BATCH_RECORDS, Ingester

FORMAT_FROM_WIRE = {
    pb2.RECORD_FORMAT_OPENALPR: RecordFormat.OPENALPR,
    pb2.RECORD_FORMAT_CSV: RecordFormat.CSV,
    pb2.RECORD_FORMAT_FIWARE: RecordFormat.FIWARE,
    pb2.RECORD_FORMAT_HIKVISION: RecordFormat.HIKVISION,
}


class IngestService(pb2_grpc.IngestServiceServicer):
    """Batches in, an acknowledgement a batch out once it is durable; the next is read only then."""

    def __init__(self, ingester: Ingester, directory: Directory, agency: str, clock: Callable[[], dt.datetime]) -> None:
        self._ingester = ingester
        self._directory = directory
        self._agency = agency
        self._clock = clock

    async def Ingest(
        self, request_iterator: AsyncIterator[pb2.IngestRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb2.IngestResponse]:
        """Acknowledge each batch with its sequence number, which counts up by one from 1."""
        expected = 1
        async for request in request_iterator:
            # On every batch, since an open stream outlives its certificate.
            camera = self._camera(context)
            if request.sequence != expected:
                raise InvalidInput(f"batch {expected} comes next, not {request.sequence}", reason="OUT_OF_SEQUENCE")
            format_ = FORMAT_FROM_WIRE.get(request.format)
            if format_ is None or not 1 <= len(request.records) <= BATCH_RECORDS:
                raise InvalidInput(f"a batch has a format and 1 to {BATCH_RECORDS} records", reason="BAD_BATCH")
            result = await asyncio.to_thread(
                self._ingester.ingest_records, format_, tuple(request.records), camera=camera
            )
            yield pb2.IngestResponse(
                sequence=expected,
                accepted=result.accepted,
                duplicates=result.duplicates,
                rejected=[pb2.RejectedRecord(index=r.index, reason=r.reason) for r in result.rejected],
            )
            expected += 1

    def _camera(self, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        pem = peer_pem({k: tuple(v) for k, v in context.auth_context().items()})
        peer = verify_peer_pem(pem, self._directory, self._clock(), kind="camera")
        if peer.agency != self._agency:
            raise NotAllowed("only this agency's own cameras send reads here", reason="WRONG_AGENCY")
        return peer.id
