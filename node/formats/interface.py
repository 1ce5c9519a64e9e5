"""What a read format does: bytes of a camera system in, detections or reasons out."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from comity.detection import Detection

MAX_RAW_BYTES = 4 * 1024 * 1024  # one record with its images
MAX_RECORD_BYTES = 256 * 1024  # one record without them
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024  # a JSON file that is one value and not one object a line
EARLIEST_MS = 946_684_800_000  # 2000-01-01
MAX_AHEAD_MS = 10 * 60 * 1000


class RecordFormat(enum.StrEnum):
    """What a record is written in."""

    OPENALPR = "openalpr"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the records do not say: the node's kind of source and the time now, ms UTC."""

    source: str
    now_ms: int


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


Read = Detection | BadRecord
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
