"""Camera files and batches into the store: decoded, kept, and what is bad set aside. Nothing here waits for a peer."""

from __future__ import annotations

import copy
import datetime as dt
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import orjson

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.instants import to_ms
from node.counters import Counters
from node.formats.interface import BadRecord, Context, Decode, Pictured, Record, RecordFormat
from node.formats.known import FORMATS, format_of
from node.images import Images
from node.set_aside import Aside, Rejection, SetAside
from node.store.interface import Added

BATCH_RECORDS = 1_000
BATCH_BYTES = 16 * 1024 * 1024
# The surfaces; set-aside entries that came from no file name theirs, with the sender's name if it is known.
STREAM, WEBHOOK, WATCH, FILE, REPLAY = "stream", "webhook", "watch", "file", "replay"
# An end that is missing may be that of a plate, which a second look at the same bytes does not bring back.
NEVER_REPLAYED = ("TORN", "TOO_LARGE")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Detections new and known, how many records are still set aside, and why: as counted when they were set aside."""

    accepted: int
    duplicates: int
    left: int
    reasons: Mapping[str, int]


class Taker(Protocol):
    """What detections go into: the store, or a bulk load of it. See `DetectionStore` for both methods."""

    def add(self, batch: Sequence[Detection]) -> Added:
        """Take the batch, all or nothing."""

    def horizon(self) -> dt.datetime:
        """What is older is not kept."""


class Ingester:
    """Reads camera records in. `source` is the node's kind; `clock` returns aware UTC. Safe from several threads.

    Whatever is counted in a result is on the disk. Reading the same again adds nothing. Without `images`, pictures
    are not kept. `counters` hears what became of each batch, by the surface it came in at.
    """

    def __init__(
        self,
        store: Taker,
        set_aside: Path,
        clock: Callable[[], dt.datetime],
        *,
        source: str,
        images: Images | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._source = source
        self._images = images
        self._counters = counters
        self._set_aside = SetAside(set_aside, clock=clock)

    def into(self, taker: Taker) -> Ingester:
        """The same, its detections into `taker` instead."""
        other = copy.copy(self)
        other._store = taker
        return other

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
        batch = [Record(line=0, raw=raw) for raw in records]
        return self._take(batch, decode, _Origin(name=_sender(STREAM, camera), surface=STREAM, format=format_))

    def ingest_body(self, format_: RecordFormat, body: bytes, *, sender: str = "") -> Tally:
        """What became of the records of one request's body, which may be one value or a whole file's worth.

        Raises:
            InvalidInput: a body that is wrong as a whole (BAD_HEADER).
            Unavailable: nothing of the body may be acknowledged; sending it again is safe.
        """
        origin = _Origin(name=_sender(WEBHOOK, sender), surface=WEBHOOK, format=format_)
        # One object may be printed over many lines, which in a file would be a record each.
        if _is_object(body):
            count = _Count(total_bytes=len(body))
            count.add(1, self._take([Record(line=1, raw=body)], FORMATS[format_].open_batch([body]), origin), len(body))
            return count.tally()
        return self._take_stream(io.BytesIO(body), len(body), origin, None)

    def ingest_file(
        self,
        path: Path,
        on_progress: Callable[[Tally], None] | None = None,
        *,
        format_: RecordFormat | None = None,
        surface: str = FILE,
    ) -> Tally:
        """What became of the file's records; `on_progress` is called after each durable batch.

        The format is told by the name's end unless given.

        Raises:
            InvalidInput: CANNOT_READ, UNKNOWN_FORMAT, or a file that is wrong as a whole (BAD_HEADER).
            NotYet: NO_PARQUET.
            Unavailable: a later batch could not be kept; reading the file again is safe.
        """
        origin = _Origin(name=path.name, surface=surface, format=format_ or format_of(path))
        if not path.is_file():
            raise InvalidInput("there is no such file, or it is no regular one", reason="CANNOT_READ")
        try:
            with path.open("rb") as file:
                return self._take_stream(file, os.fstat(file.fileno()).st_size, origin, on_progress)
        except OSError as e:
            raise InvalidInput(f"the file cannot be read: {e.strerror}", reason="CANNOT_READ") from None

    def replay(self, since: dt.datetime | None = None) -> Replayed:
        """What became of the records set aside since then, decoded again; those good now are set aside no more.

        Times are judged as of when a record was set aside: waiting does not make a wrong clock right. A record that
        was cut, or whose end was missing, is never taken: a plate of it may lack a character.

        Raises:
            Unavailable: what was read in is, and replaying again is safe.
        """
        accepted = duplicates = 0
        left: Counter[str] = Counter()
        horizon = self._store.horizon()
        for day in self._set_aside.all(since):
            taken: set[str] = set()
            for start in range(0, len(day), BATCH_RECORDS):
                batch = day[start : start + BATCH_RECORDS]
                good = [(aside.id, reads) for aside in batch if (reads := self._again(aside, horizon)) is not None]
                detections = self._with_images([read for _, reads in good for read in reads])
                added = self._store.add(detections) if detections else Added(accepted=0, duplicates=0)
                taken.update(id_ for id_, _ in good)
                accepted += added.accepted
                duplicates += added.duplicates
                left.update(aside.rejection.reason for aside in batch if aside.id not in taken)
            self._set_aside.drop(taken)
        if self._counters:
            self._counters.add(REPLAY, {"accepted": accepted, "duplicates": duplicates})
        return Replayed(accepted=accepted, duplicates=duplicates, left=left.total(), reasons=dict(left))

    def _again(self, aside: Aside, horizon: dt.datetime) -> list[Detection | Pictured] | None:
        """What the record holds now; None if it stays where it is."""
        r = aside.rejection
        try:
            format_ = RecordFormat(r.format) if r.format else format_of(Path(r.origin))
        except (InvalidInput, ValueError):
            return None
        if aside.cut or r.reason in NEVER_REPLAYED:
            return None
        context = self._context(to_ms(aside.at), alone=True)
        out: list[Detection | Pictured] = []
        for read in FORMATS[format_].open_batch([r.raw])(r.raw, context):
            if isinstance(read, BadRecord) or _detection(read).captured_at < horizon:
                return None
            out.append(read)
        return out

    def purge_set_aside(self, before: dt.datetime) -> int:
        """How many records set aside before `before` were deleted.

        Raises:
            Unavailable: they could not be.
        """
        return self._set_aside.purge(before)

    def _take_stream(
        self, stream: BinaryIO, size: int, origin: _Origin, on_progress: Callable[[Tally], None] | None
    ) -> Tally:
        count = _Count(total_bytes=size)
        decode, records = FORMATS[origin.format].open(stream)
        for batch in _batches(records):
            result = self._take(batch, decode, origin)
            count.add(len(batch), result, stream.tell())
            if on_progress:
                on_progress(count.tally())
        return count.tally()

    def _take(self, batch: Sequence[Record], decode: Decode, origin: _Origin) -> BatchResult:
        context = self._context(to_ms(self._clock()))
        horizon = self._store.horizon()
        good: list[Detection | Pictured] = []
        rejected: list[Rejected] = []
        for index, record in enumerate(batch):
            reads = [BadRecord(reason=record.fault)] if record.fault else decode(record.raw, context)
            reasons = []
            for read in reads:
                if isinstance(read, BadRecord):
                    reasons.append(read.reason)
                elif _detection(read).captured_at < horizon:
                    reasons.append(EXPIRED)
                else:
                    good.append(read)
            if reasons:
                # One reason a record: of one that is bad and expired, the bad one, which someone should see.
                reason = next((r for r in reasons if r != EXPIRED), EXPIRED)
                rejected.append(Rejected(index=index, line=record.line, reason=reason))
        self._set_aside.keep(
            [
                Rejection(
                    origin=origin.name,
                    line=r.line,
                    reason=r.reason,
                    raw=batch[r.index].head + batch[r.index].raw,
                    format=origin.format.value,
                )
                for r in rejected
                if r.reason != EXPIRED
            ]
        )
        detections = self._with_images(good)
        added = self._store.add(detections) if detections else Added(accepted=0, duplicates=0)
        result = BatchResult(accepted=added.accepted, duplicates=added.duplicates, rejected=tuple(rejected))
        if self._counters:
            self._counters.add(origin.surface, _counts(result))
        return result

    def _context(self, now_ms: int, *, alone: bool = False) -> Context:
        return Context(source=self._source, now_ms=now_ms, pictures=self._images is not None, alone=alone)

    def _with_images(self, reads: Sequence[Detection | Pictured]) -> list[Detection]:
        """The detections, each naming its picture, which is on the disk before a detection names it."""
        pictured = [read for read in reads if isinstance(read, Pictured)]
        if self._images is None or not pictured:
            return [_detection(read) for read in reads]
        references = iter(self._images.keep([(read.jpeg, read.detection.captured_at) for read in pictured]))
        return [
            replace(read.detection, image=next(references)) if isinstance(read, Pictured) else read for read in reads
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Where records come from: what set-aside entries name, the surface, and their format."""

    name: str
    surface: str
    format: RecordFormat


def _sender(surface: str, name: str) -> str:
    return f"{surface}:{name}" if name else surface


def _detection(read: Detection | Pictured) -> Detection:
    return read.detection if isinstance(read, Pictured) else read


def _counts(result: BatchResult) -> dict[str, int]:
    """What counters hear of a batch; of bad records also how many a reason, which never holds what was sent."""
    counts = Counter(r.reason for r in result.rejected)
    expired = counts[EXPIRED]
    return {
        "accepted": result.accepted,
        "duplicates": result.duplicates,
        "expired": expired,
        "rejected": counts.total() - expired,
        **{f"reason:{reason}": n for reason, n in counts.items() if n and reason != EXPIRED},
    }


def _is_object(body: bytes) -> bool:
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


class _Count:
    """Adds batches up."""

    def __init__(self, *, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._accepted = self._duplicates = self._lines = self._read_bytes = 0
        self._reasons: Counter[str] = Counter()

    def add(self, lines: int, result: BatchResult, read_bytes: int) -> None:
        self._accepted += result.accepted
        self._duplicates += result.duplicates
        self._lines += lines
        self._reasons.update(r.reason for r in result.rejected)
        self._read_bytes = read_bytes

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
