"""Which format a file or a message is in: told by name alone, and every format that travels is understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from comity.errors import InvalidInput
from comity.v1 import ingest_service_pb2 as pb2
from node.formats.interface import RecordFormat
from node.formats.known import FORMATS, format_of
from node.rpc.ingest_service import FORMAT_FROM_WIRE
from node.rpc.webhook import PATHS


def test_every_format_has_its_reader() -> None:
    assert set(FORMATS) == set(RecordFormat)


def test_every_format_on_the_wire_but_none_is_understood() -> None:
    assert set(FORMAT_FROM_WIRE) == set(pb2.RecordFormat.values()) - {pb2.RECORD_FORMAT_UNSPECIFIED}


def test_a_webhook_is_of_one_request_so_that_a_parquet_file_is_none() -> None:
    assert set(PATHS.values()) == set(RecordFormat) - {RecordFormat.PARQUET}


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.json", RecordFormat.OPENALPR),
        ("a.fiware.json", RecordFormat.FIWARE),
        ("A.FIWARE.JSONL", RecordFormat.FIWARE),
        ("a.csv", RecordFormat.CSV),
        ("a.xml", RecordFormat.HIKVISION),
        ("a.mime", RecordFormat.HIKVISION),
        ("a.parquet", RecordFormat.PARQUET),
    ],
)
def test_the_end_of_a_name_tells_the_format(name: str, format_: RecordFormat) -> None:
    assert format_of(Path("folder.csv") / name) is format_


@pytest.mark.parametrize("name", ["a", "csv", "a.csv.gz", "a.txt"])
def test_a_name_that_tells_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        format_of(Path(name))
    assert caught.value.reason == "UNKNOWN_FORMAT"
