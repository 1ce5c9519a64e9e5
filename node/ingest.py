"""Camera files and batches into the store: decoded, kept, and what is bad set aside. Nothing here waits for a peer."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.instants import to_ms
from node.formats.interface import BadRecord, Context, Decode, Record, RecordFormat
from node.formats.known import FORMATS, format_of
from node.set_aside import Rejection, SetAside
from node.store.interface import Added, DetectionStore

BATCH_RECORDS = 1_000
BATCH_BYTES = 16 * 1024 * 1024
STREAM = "stream"  # what set-aside entries name that came from no file, with the sender's name if it is known
EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that was not kept, or not whole: `index` in its batch from 0, `line` in its file from 1 or 0.

    EXPIRED ones are older than the node's retention; their bytes are not set aside, for they would outlive it.
    """

    index: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch, durable. Detections are counted: a record may hold several or none."""

    accepted: int
    duplicates: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of a file so far: detections new and known; records set aside, expired and seen (`lines`).

    `reasons` counts the reasons of both. `read_bytes` of `total_bytes` of the file are done.
    """

    accepted: int
    duplicates: int
    rejected: int
    expired: int
    lines: int
    reasons: Mapping[str, int]
    read_bytes: int
    total_bytes: int


class Ingester:
    """Reads camera records in. `source` is the node's kind; `clock` returns aware UTC. Safe from several threads.

    Whatever is counted in a result is on the disk. Reading the same again adds nothing.
    """

    def __init__(
        self,
        store: DetectionStore,
        set_aside: Path,
        clock: Callable[[], dt.datetime],
        *,
        source: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._source = source
        self._set_aside = SetAside(set_aside, clock=clock)

    def ingest_records(self, format_: RecordFormat, records: Sequence[bytes], *, camera: str = "") -> BatchResult:
        """What became of these records, each complete in itself.

        `camera` is the certificate's name of who sent them: bad records are set aside under it. What a record says
        of its camera is kept as it is, since one agent speaks for many.

        Raises:
            InvalidInput: more than 1,000 records.
            Unavailable: nothing may be acknowledged; sending the batch again is safe.
        """
        if len(records) > BATCH_RECORDS:
            raise InvalidInput(f"a batch has at most {BATCH_RECORDS} records", reason="BATCH_TOO_LARGE")
        decode = FORMATS[format_].open_batch(records)
        return self._take(
            [Record(line=0, raw=raw) for raw in records], decode, f"{STREAM}:{camera}" if camera else STREAM
        )

    def ingest_file(
        self, path: Path, on_progress: Callable[[Tally], None] | None = None, *, format_: RecordFormat | None = None
    ) -> Tally:
        """What became of the file's records; `on_progress` is called after each durable batch.

        The format is told by the name's end unless given.

        Raises:
            InvalidInput: CANNOT_READ, UNKNOWN_FORMAT, or a file that is wrong as a whole (BAD_HEADER).
            Unavailable: a later batch could not be kept; reading the file again is safe.
        """
        reader = FORMATS[format_ or format_of(path)]
        if not path.is_file():
            raise InvalidInput("there is no such file, or it is no regular one", reason="CANNOT_READ")
        try:
            with path.open("rb") as file:
                count = _Count(total_bytes=os.fstat(file.fileno()).st_size)
                decode, records = reader.open(file)
                for batch in _batches(records):
                    result = self._take(batch, decode, path.name)
                    count.add(len(batch), result, file)
                    if on_progress:
                        on_progress(count.tally())
                return count.tally()
        except OSError as e:
            raise InvalidInput(f"the file cannot be read: {e.strerror}", reason="CANNOT_READ") from None

    def purge_set_aside(self, before: dt.datetime) -> int:
        """How many records set aside before `before` were deleted.

        Raises:
            Unavailable: they could not be.
        """
        return self._set_aside.purge(before)

    def _take(self, batch: Sequence[Record], decode: Decode, origin: str) -> BatchResult:
        context = Context(source=self._source, now_ms=to_ms(self._clock()))
        horizon = self._store.horizon()
        good: list[Detection] = []
        rejected: list[Rejected] = []
        for index, record in enumerate(batch):
            reads = [BadRecord(reason=record.fault)] if record.fault else decode(record.raw, context)
            reasons = []
            for read in reads:
                if isinstance(read, BadRecord):
                    reasons.append(read.reason)
                elif read.captured_at < horizon:
                    reasons.append(EXPIRED)
                else:
                    good.append(read)
            if reasons:
                # One reason a record: of one that is bad and expired, the bad one, which someone should see.
                reason = next((r for r in reasons if r != EXPIRED), EXPIRED)
                rejected.append(Rejected(index=index, line=record.line, reason=reason))
        self._set_aside.keep(
            [
                Rejection(origin=origin, line=r.line, reason=r.reason, raw=batch[r.index].head + batch[r.index].raw)
                for r in rejected
                if r.reason != EXPIRED
            ]
        )
        added = self._store.add(good) if good else Added(accepted=0, duplicates=0)
        return BatchResult(accepted=added.accepted, duplicates=added.duplicates, rejected=tuple(rejected))


class _Count:
    """Adds batches up."""

    def __init__(self, *, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._accepted = self._duplicates = self._lines = self._read_bytes = 0
        self._reasons: Counter[str] = Counter()

    def add(self, lines: int, result: BatchResult, file: BinaryIO) -> None:
        self._accepted += result.accepted
        self._duplicates += result.duplicates
        self._lines += lines
        self._reasons.update(r.reason for r in result.rejected)
        self._read_bytes = file.tell()

    def tally(self) -> Tally:
        return Tally(
            accepted=self._accepted,
            duplicates=self._duplicates,
            rejected=self._reasons.total() - self._reasons[EXPIRED],
            expired=self._reasons[EXPIRED],
            lines=self._lines,
            reasons={reason: n for reason, n in self._reasons.items() if n},
            read_bytes=self._read_bytes,
            total_bytes=self._total_bytes,
        )


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Of at most 1,000 records and about 16 MiB, since a record with images may have four."""
    batch: list[Record] = []
    held = 0
    for record in records:
        batch.append(record)
        held += len(record.raw)
        if len(batch) == BATCH_RECORDS or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
