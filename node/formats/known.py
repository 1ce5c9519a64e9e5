"""Every read format, and which of them a file is written in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from comity.errors import InvalidInput
from node.formats.csv import Csv
from node.formats.interface import ReadFormat, RecordFormat
from node.formats.openalpr import OpenAlpr

FORMATS: Mapping[RecordFormat, ReadFormat] = {RecordFormat.OPENALPR: OpenAlpr(), RecordFormat.CSV: Csv()}
_ENDINGS = {
    ".json": RecordFormat.OPENALPR,
    ".jsonl": RecordFormat.OPENALPR,
    ".ndjson": RecordFormat.OPENALPR,
    ".csv": RecordFormat.CSV,
}


def format_of(path: Path) -> RecordFormat:
    """The format that the end of the file's name tells.

    Raises:
        InvalidInput: UNKNOWN_FORMAT.
    """
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(f"the file's name must end in {', '.join(_ENDINGS)}", reason="UNKNOWN_FORMAT")
    return found
