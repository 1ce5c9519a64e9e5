"""What a read format does: bytes of a camera system in, detections or reasons out."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from comity.detection import Detection

MAX_RAW_BYTES = 4 * 1024 * 1024  # one record with its images
MAX_RECORD_BYTES = 256 * 1024  # one record without them
MAX_PICTURE_BYTES = 2 * 1024 * 1024
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024  # a JSON file that is one value and not one object a line
EARLIEST_MS = 946_684_800_000  # 2000-01-01
MAX_AHEAD_MS = 10 * 60 * 1000


class RecordFormat(enum.StrEnum):
    """What a record is written in."""

    OPENALPR = "openalpr"
    CSV = "csv"
    FIWARE = "fiware"
    HIKVISION = "hikvision"
    PARQUET = "parquet"  # a file; one record of it is a CSV header and line


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the records do not say: the node's kind of source, the time now, ms UTC, and whether pictures are kept.

    `alone`: the records were taken out of their file, so that nothing says whether a confidence of 0.9 in a format
    that has both scales is of 1 or of 100. It is read as the lower.
    """

    source: str
    now_ms: int
    pictures: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """Why a record, or one plate of it, is set aside: upper case, stable, without a value of the record.

    `line` counts from 1; 0 where the record came from no file.
    """

    reason: str
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as it was framed. `fault` is the reason if it cannot even be decoded; `head` its file's header.

    `head` and `raw` together are what the ingest service takes as one record.
    """

    line: int
    raw: bytes
    head: bytes = b""
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured:
    """A detection and the JPEG that came with it; only where the context asks for pictures."""

    detection: Detection
    jpeg: bytes = field(repr=False)


Read = Detection | Pictured | BadRecord
Decode = Callable[[bytes, Context], list[Read]]


class ReadFormat(Protocol):
    """One format. `Decode` never raises: one item a plate read, or a single BadRecord for the whole record."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """The records of a seekable file and what decodes them.

        Raises:
            InvalidInput: the file as a whole cannot be read; nothing of it is repeated.
        """

    def open_batch(self, records: Sequence[bytes]) -> Decode:
        """What decodes these records, each complete in itself."""
