"""Read formats fed with what no camera sends: no exception, no plate outside the grammar, only reads and reasons."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import InvalidInput, NotYet
from node.formats import multipart
from node.formats.fields import BadField
from node.formats.interface import BadRecord, Pictured, Read, RecordFormat
from node.formats.known import FORMATS
from node.formats.parquet import opened
from tests.unit.node.samples import CONTEXT, JPEG, NOW_MS, alert, group, observed, result
from tests.unit.node.samples import multipart as body_of

PICTURES = replace(CONTEXT, pictures=True)
PLATE = re.compile(r"[A-Z0-9]{1,10}\Z")
REASON = re.compile(r"[A-Z0-9_]{3,32}\Z")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
SAMPLES: Sequence[tuple[RecordFormat, bytes]] = (
    (RecordFormat.OPENALPR, orjson.dumps(group())),
    (RecordFormat.OPENALPR, orjson.dumps(result())),
    (RecordFormat.FIWARE, orjson.dumps(observed())),
    (RecordFormat.FIWARE, orjson.dumps({"subscriptionId": "s", "data": [observed()]})),
    (RecordFormat.HIKVISION, alert()),
    (RecordFormat.HIKVISION, body_of(("a.xml", "text/xml", alert()), ("vehicle.jpg", "image/jpeg", JPEG))),
    (RecordFormat.CSV, b"plate,state,time,camera,conf\n7ABC123,CA,%d,c1,0.9" % NOW_MS),
    (RecordFormat.PARQUET, b"plate,state,time,camera,conf\n7ABC123,CA,%d,c1,0.9" % NOW_MS),
)


def decoded(format_: RecordFormat, raw: bytes) -> list[Read]:
    return FORMATS[format_].open_batch([raw])(raw, PICTURES)


def check(reads: Sequence[Read]) -> None:
    for read in reads:
        if isinstance(read, BadRecord):
            assert REASON.match(read.reason)
            continue
        d = read.detection if isinstance(read, Pictured) else read
        assert PLATE.match(d.plate.number)
        assert d.plate.state == "" or re.fullmatch("[A-Z]{2}", d.plate.state)
        assert d.confidence_permille is None or 0 <= d.confidence_permille <= 1000
        assert 0 < len(d.camera) <= 64
        assert d.camera.isprintable()
        if isinstance(read, Pictured):
            assert read.jpeg.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("format_", list(RecordFormat))
@given(raw=st.binary(max_size=400))
def test_bytes_of_any_kind_are_a_read_or_a_reason(format_: RecordFormat, raw: bytes) -> None:
    check(decoded(format_, raw))


@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_a_good_record_with_bytes_changed_cut_or_put_in_is_a_read_or_a_reason(
    sample: tuple[RecordFormat, bytes], data: st.DataObject
) -> None:
    format_, raw = sample
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(begin, min(len(raw), begin + 12)))
        raw = raw[:begin] + data.draw(st.binary(max_size=6)) + raw[end:]
    check(decoded(format_, raw))


@given(base=st.sampled_from([group(), result(), observed()]), data=st.data())
def test_any_value_in_any_field_of_a_json_record_is_a_read_or_a_reason(
    base: dict[str, Any], data: st.DataObject
) -> None:
    record: Any = orjson.loads(orjson.dumps(base))
    inner, field = record, data.draw(st.sampled_from(sorted(record)))
    while isinstance(inner[field], dict) and inner[field] and data.draw(st.booleans()):
        inner = inner[field]
        field = data.draw(st.sampled_from(sorted(inner)))
    inner[field] = data.draw(JSON)
    try:
        raw = orjson.dumps(record)
    except (TypeError, orjson.JSONEncodeError):  # a number or a text that JSON does not have
        return
    for format_ in (RecordFormat.OPENALPR, RecordFormat.FIWARE):
        check(decoded(format_, raw))


@given(number=st.text(max_size=40), confidence=st.text(max_size=8))
def test_any_text_for_a_plate_is_a_plate_of_the_grammar_or_a_reason(number: str, confidence: str) -> None:
    check(decoded(RecordFormat.FIWARE, orjson.dumps(observed(observedVehicle={"licensePlate": str_of(number)}))))
    check(decoded(RecordFormat.OPENALPR, orjson.dumps(group(best_plate_number=str_of(number)))))
    escaped = str_of(number).replace("&", "&amp;").replace("<", "&lt;")
    check(decoded(RecordFormat.HIKVISION, alert(plate=escaped, confidence=str_of(confidence).replace("<", "")).strip()))


def str_of(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {}, optional={n: JSON | st.datetimes() for n in ("plate", "time", "camera", "conf", "state")}
        ),
        max_size=4,
    )
)
def test_any_row_of_a_parquet_file_is_a_read_or_a_reason(rows: list[dict[str, Any]]) -> None:
    decode, records = opened(["plate", "state", "time", "camera", "conf"], lambda _: rows)
    seen = 0
    for record in records:
        seen += 1
        assert b"\n" not in record.raw
        check(decode(record.raw, PICTURES))
    assert seen == len(rows)


@pytest.mark.parametrize("format_", list(RecordFormat))
@given(data=st.binary(max_size=600))
def test_a_file_of_any_bytes_ends_in_records_or_a_refusal(format_: RecordFormat, data: bytes) -> None:
    reads: list[Read] = []
    try:
        decode, records = FORMATS[format_].open(io.BytesIO(data))
        for record in records:
            reads += [BadRecord(reason=record.fault)] if record.fault else decode(record.raw, PICTURES)
    except (InvalidInput, NotYet) as refused:
        reads.append(BadRecord(reason=refused.reason))
    check(reads)


@given(
    contents=st.lists(st.binary(max_size=60), min_size=1, max_size=16),
    boundary=st.text("abcXYZ019'()+_,-./:=?", min_size=1, max_size=70),
)
def test_a_multipart_body_gives_back_the_parts_it_was_made_of(contents: list[bytes], boundary: str) -> None:
    clean = [c.replace(b"--", b"") for c in contents]
    body = body_of(*[(f"p{i}", "image/jpeg", c) for i, c in enumerate(clean)], boundary=boundary)
    assert [(p.name, p.content) for p in multipart.parts(body)] == [(f"p{i}", c) for i, c in enumerate(clean)]


@given(data=st.binary(max_size=300))
def test_what_is_no_multipart_body_is_refused_and_raises_nothing_else(data: bytes) -> None:
    reason, count = "BAD_MULTIPART", 1
    try:
        count = len(multipart.parts(b"--b\r\n" + data))
    except BadField as e:
        reason = e.reason
    assert reason == "BAD_MULTIPART"
    assert 1 <= count <= multipart.MAX_PARTS
