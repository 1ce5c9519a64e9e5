"""Files cut into records: lines, documents, torn ends, and lines without end."""

from __future__ import annotations

import io

import orjson
import pytest

from comity.errors import InvalidInput
from node.formats import framing
from node.formats.framing import json_records, lines

A, B = b'{"a":1}', b'{"b":"]}{["}'


def framed(data: bytes) -> list[tuple[int, bytes, str]]:
    return [(r.line, r.raw, r.fault) for r in json_records(io.BytesIO(data))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(A + b"\n\n" + B + b"\n", [(1, A, ""), (3, B, "")], id="an object a line, a blank one between"),
        pytest.param(A + b"\r\n" + B, [(1, A, ""), (2, B, "")], id="the last line without end, but whole"),
        pytest.param(A + b"\n" + B[:6], [(1, A, ""), (2, B[:6], "TORN")], id="the last line torn"),
        pytest.param(b"junk\n" + A + b"\n", [(1, b"junk", ""), (2, A, "")], id="a bad first line"),
        pytest.param(b"[" + A + b",\n" + B + b"]", [(1, A, ""), (2, B, "")], id="an array"),
        pytest.param(b"[" + A + b",\n" + B[:6], [(1, A, ""), (2, B[:6], "TORN")], id="an array torn in an object"),
        pytest.param(b"[" + A + b",\n", [(1, A, ""), (2, b"", "TORN")], id="an array torn between objects"),
        pytest.param(b"[]", [], id="an empty array"),
        pytest.param(b"{\n" + A[1:], [(1, b"{\n" + A[1:], "")], id="one object over several lines"),
        pytest.param(b"", [], id="an empty file"),
        pytest.param(b"[" * 100_000, [(1, b"[" * 99_999, "TORN")], id="nested without end"),
    ],
)
def test_complete_records_come_whole_and_a_torn_one_is_named(
    data: bytes, expected: list[tuple[int, bytes, str]]
) -> None:
    assert framed(data) == expected


def test_an_array_may_begin_with_a_byte_order_mark() -> None:
    assert framed(b"\xef\xbb\xbf[" + A + b"]") == [(1, A, "")]


def test_a_document_cut_anywhere_gives_only_records_that_were_in_it() -> None:
    objects = [{"n": i, "text": 'é]}\\"'} for i in range(5)]
    data = orjson.dumps(objects)
    whole = {orjson.dumps(o) for o in objects}
    for cut in range(1, len(data)):
        found = framed(data[:cut])
        assert {raw for _, raw, fault in found if not fault} <= whole
        assert found[-1][2] == "TORN"


def test_a_line_without_end_is_never_held_whole() -> None:
    data = b"x" * 5000 + b"\n" + A + b"\n"
    found = list(lines(io.BytesIO(data), 100))
    assert [(r.line, r.fault, len(r.raw)) for r, _ in found] == [(1, "TOO_LARGE", 102), (2, "", len(A))]


def test_a_document_over_the_limit_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(InvalidInput, match="one record a line"):
        framed(b"[" + A + b"," + B + b"]")
