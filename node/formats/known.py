"""Every read format, and which of them a file is written in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from comity.errors import InvalidInput
from node.formats.csv import Csv
from node.formats.fiware import Fiware
from node.formats.hikvision import Hikvision
from node.formats.interface import ReadFormat, RecordFormat
from node.formats.openalpr import OpenAlpr
from node.formats.parquet import Parquet

FORMATS: Mapping[RecordFormat, ReadFormat] = {
    RecordFormat.OPENALPR: OpenAlpr(),
    RecordFormat.CSV: Csv(),
    RecordFormat.FIWARE: Fiware(),
    RecordFormat.HIKVISION: Hikvision(),
    RecordFormat.PARQUET: Parquet(),
}
# The longer ends come first, since `.fiware.json` ends in `.json` too.
_ENDINGS = {
    ".fiware.json": RecordFormat.FIWARE,
    ".fiware.jsonl": RecordFormat.FIWARE,
    ".json": RecordFormat.OPENALPR,
    ".jsonl": RecordFormat.OPENALPR,
    ".ndjson": RecordFormat.OPENALPR,
    ".csv": RecordFormat.CSV,
    ".xml": RecordFormat.HIKVISION,
    ".mime": RecordFormat.HIKVISION,
    ".parquet": RecordFormat.PARQUET,
}


def format_of(path: Path) -> RecordFormat:
    """The format that the end of the file's name tells.

    Raises:
        InvalidInput: UNKNOWN_FORMAT.
    """
    name = path.name.lower()
    found = next((format_ for ending, format_ in _ENDINGS.items() if name.endswith(ending)), None)
    if found is None:
        raise InvalidInput(f"the file's name must end in {', '.join(_ENDINGS)}", reason="UNKNOWN_FORMAT")
    return found
