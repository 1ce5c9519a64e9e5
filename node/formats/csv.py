"""CSV with a header, columns in any order, one read a line.

Columns, by any of the names in `COLUMNS`, small or capital: plate, time and camera are required; state, latitude and
longitude (both or neither), confidence, id, image, make, colour may be there; others are ignored. A record is a line:
a quoted cell cannot hold a line end, so that one open quote cannot swallow the rest of a file.

Confidence is 0-1 or 0-100 by file, never by row: any value over 1 says 0-100. A single bad row can therefore make
a file's confidences look too low, never too high.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from comity.detection import Detection
from comity.errors import InvalidInput
from node.formats import fields
from node.formats.fields import BadField
from node.formats.framing import lines
from node.formats.interface import MAX_RECORD_BYTES, BadRecord, Context, Decode, Read, Record

MAX_COLUMNS = 64
MAX_HEADER_BYTES = 8 * 1024
COLUMNS = {
    "plate": ("plate", "plate_number", "license_plate", "licence_plate"),
    "state": ("state", "plate_state", "issuing_state", "region"),
    "time": ("timestamp", "time", "datetime", "captured_at", "epoch_time", "epoch_ms"),
    "camera": ("camera", "camera_id", "camera_name"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng", "long"),
    "confidence": ("confidence", "conf", "score"),
    "id": ("id", "uuid", "read_id", "detection_id"),
    "image": ("image", "image_id", "image_ref"),
    "make": ("make", "vehicle_make"),
    "colour": ("colour", "color", "vehicle_color"),
}
REQUIRED = ("plate", "time", "camera")
_COLUMN_OF = {alias: column for column, aliases in COLUMNS.items() for alias in aliases}
_BOM = b"\xef\xbb\xbf"


class Csv:
    """A header and lines in a file; a header and one line in each record of a batch."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """See `ReadFormat.open`; the file is read twice if it has confidences."""
        head = stream.readline(MAX_HEADER_BYTES + 1)
        header = _Header(head)
        start = stream.tell()
        whole = 1.0
        if header.confidence is not None:
            whole = _whole(header.confidence, (record.raw for record, _ in lines(stream, MAX_RECORD_BYTES)))
            stream.seek(start)
        return _Decoder(header, whole).decode, _file_records(stream, head.strip() + b"\n")

    def open_batch(self, records: Sequence[bytes]) -> Decode:
        """See `ReadFormat.open_batch`; the batch is one file for what concerns the scale of confidence."""
        headers: dict[bytes, _Header | BadRecord] = {}
        by_header: dict[bytes, list[bytes]] = {}
        for record in records:
            head, _, line = record.partition(b"\n")
            by_header.setdefault(head, []).append(line)
            if head not in headers:
                try:
                    headers[head] = _Header(head)
                except InvalidInput as e:
                    headers[head] = BadRecord(reason=e.reason)
        whole = 1.0
        for head, rows in by_header.items():
            header = headers[head]
            if isinstance(header, _Header) and header.confidence is not None:
                whole = max(whole, _whole(header.confidence, rows))

        def decode(record: bytes, context: Context) -> list[Read]:
            if len(record) > MAX_RECORD_BYTES:
                return [BadRecord(reason="TOO_LARGE")]
            head, _, line = record.partition(b"\n")
            header = headers[head]
            if isinstance(header, BadRecord):
                return [header]
            return _Decoder(header, 100.0 if context.alone else whole).decode(line.strip(b"\r\n"), context)

        return decode


class _Header:
    """Where each column stands.

    Raises:
        InvalidInput: BAD_HEADER; a file without header begins with a plate, so nothing of the line is repeated.
    """

    def __init__(self, line: bytes) -> None:
        cells = _cells(line.removeprefix(_BOM).strip(b"\r\n")) if len(line) <= MAX_HEADER_BYTES else None
        if cells is None or len(cells) > MAX_COLUMNS:
            raise InvalidInput("the first line must be a header of at most 64 columns", reason="BAD_HEADER")
        at: dict[str, int] = {}
        for i, cell in enumerate(cells):
            column = _COLUMN_OF.get(cell.strip().lower())
            if column in at:
                raise InvalidInput(f"two columns of the header mean {column}", reason="BAD_HEADER")
            if column:
                at[column] = i
        missing = [column for column in REQUIRED if column not in at]
        if missing or ("latitude" in at) != ("longitude" in at):
            wanted = ", ".join(missing) or "latitude and longitude together"
            raise InvalidInput(f"the header lacks {wanted}", reason="BAD_HEADER")
        self.at = at
        self.columns = len(cells)
        self.confidence = at.get("confidence")


class _Decoder:
    """Decodes the lines under one header; `whole` is the confidence that means certainty, 1 or 100."""

    def __init__(self, header: _Header, whole: float) -> None:
        self._at = header.at
        self._columns = header.columns
        self._whole = whole

    def decode(self, line: bytes, context: Context) -> list[Read]:
        """One detection or one reason: NOT_CSV, BAD_COLUMNS, and those of `openalpr.decode` for its fields."""
        cells = _cells(line)
        if cells is None:
            return [BadRecord(reason="NOT_CSV")]
        if len(cells) != self._columns:
            return [BadRecord(reason="BAD_COLUMNS")]
        try:
            return [self._detection([cell.strip() for cell in cells], context)]
        except (BadField, InvalidInput) as e:
            return [fields.bad_record(e)]

    def _detection(self, cells: list[str], context: Context) -> Detection:
        def cell(column: str) -> str:
            i = self._at.get(column)
            return "" if i is None else cells[i]

        state = cell("state")
        plate = fields.plate(cell("plate"), state if len(state) == 2 else fields.state_of_region(state))
        captured_ms = fields.plausible(fields.text_ms(cell("time")), context)
        camera, confidence = cell("camera"), cell("confidence")
        latitude, longitude = fields.place(_degrees(cell("latitude")), _degrees(cell("longitude")))
        # Without an id of its own a read is named by what it says, so that the same line twice is one read.
        said = f"{camera}\0{captured_ms}\0{plate.number}\0{plate.state}"
        identity = cell("id") or hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
        return Detection.parse(
            plate=plate,
            captured_ms=captured_ms,
            camera=camera,
            source=context.source,
            source_id=f"csv:{camera}:{identity}",
            latitude_e7=latitude,
            longitude_e7=longitude,
            confidence_permille=_confidence(confidence, self._whole),
            image=cell("image"),
            make=cell("make"),
            colour=cell("colour"),
        )


def _file_records(stream: BinaryIO, head: bytes) -> Iterator[Record]:
    for record, ended in lines(stream, MAX_RECORD_BYTES):
        # A last line without its end may lack a character of the plate as well as a column: it is not taken.
        fault = record.fault or ("" if ended else "TORN")
        yield Record(line=record.line + 1, raw=record.raw, head=head, fault=fault)


def _whole(column: int, rows: Iterable[bytes]) -> float:
    for row in rows:
        cells = _cells(row)
        if cells is None or len(cells) <= column:
            continue
        try:
            if 1 < fields.digits(cells[column].strip(), "BAD_CONFIDENCE") <= 100:
                return 100.0
        except BadField:
            continue
    return 1.0


def _cells(line: bytes) -> list[str] | None:
    """The cells of one line, or None if it is not one line of CSV in UTF-8."""
    try:
        return next(csv.reader([line.decode()], strict=True), None)
    except (UnicodeDecodeError, csv.Error):
        return None


def _degrees(cell: str) -> float | None:
    return fields.digits(cell, "BAD_LOCATION") if cell else None


def _confidence(cell: str, whole: float) -> int | None:
    return fields.permille(fields.digits(cell, "BAD_CONFIDENCE"), whole) if cell else None
