"""Parquet rows: each is decoded as the CSV line that it would be."""

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from comity.detection import Detection
from comity.errors import InvalidInput, NotYet
from node.formats.interface import BadRecord, Read
from node.formats.parquet import Parquet, opened
from tests.unit.node.samples import CONTEXT, NOW

ROW: Mapping[str, Any] = {"Plate": "7ABC123", "state": "CA", "time": NOW, "camera": "c1", "conf": 0.5}


def reads(*rows: Mapping[str, Any]) -> list[Read]:
    decode, records = opened(list(ROW), lambda _: rows)
    return [read for record in records for read in decode(record.raw, CONTEXT)]


def confidences(*rows: Mapping[str, Any]) -> Sequence[int | None]:
    return [r.confidence_permille for r in reads(*rows) if isinstance(r, Detection)]


def test_a_row_is_a_detection() -> None:
    [read] = reads(ROW)
    assert isinstance(read, Detection)
    assert (read.plate.number, read.plate.state, read.captured_at, read.camera) == ("7ABC123", "CA", NOW, "c1")


def test_the_scale_of_confidence_is_the_file_s() -> None:
    assert confidences(ROW) == [500]
    assert confidences(ROW, {**ROW, "conf": 93.1}) == [5, 931]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"Plate": None}, "NO_PLATE", id="no plate"),
        pytest.param({"time": NOW.replace(tzinfo=None)}, "BAD_TIME", id="a time without its zone"),
        pytest.param({"camera": "a\nb,c"}, None, id="nothing: an end of line in a cell makes no second record"),
        pytest.param({"conf": float("nan")}, "BAD_CONFIDENCE", id="a confidence that is no number"),
        pytest.param({"time": NOW + dt.timedelta(hours=1)}, "TIME_IN_FUTURE", id="a clock ahead"),
    ],
)
def test_a_row_is_set_aside_for(changes: Mapping[str, Any], reason: str | None) -> None:
    [read] = reads({**ROW, **changes})
    assert (read.reason if isinstance(read, BadRecord) else None) == reason


def test_a_record_that_is_set_aside_can_be_sent_again_and_its_confidence_is_read_as_the_lower() -> None:
    _, records = opened(list(ROW), lambda _: [ROW])
    raw = next(r.head + r.raw for r in records)
    [read] = Parquet().open_batch([raw])(raw, replace(CONTEXT, alone=True))
    assert isinstance(read, Detection)
    assert read.confidence_permille == 5


def test_a_file_without_the_columns_that_are_needed_is_refused_as_a_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(["plate", "camera"], lambda _: [])
    assert caught.value.reason == "BAD_HEADER"


def test_what_is_no_parquet_is_refused_as_a_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        Parquet().open(io.BytesIO(b"PAR1 and no more"))
    assert caught.value.reason == "BAD_HEADER"


def test_without_its_library_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotYet) as caught:
        Parquet().open(io.BytesIO(b"PAR1"))
    assert caught.value.reason == "NO_PARQUET"
