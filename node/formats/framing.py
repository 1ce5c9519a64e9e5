"""Files cut into records: one a line, or the objects of one JSON document. A torn end costs its record alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

import orjson

from comity.errors import InvalidInput
from node.formats.interface import MAX_DOCUMENT_BYTES, MAX_RAW_BYTES, Record

KEPT_OF_TOO_LARGE = 4096
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def lines(stream: BinaryIO, most: int) -> Iterator[tuple[Record, bool]]:
    """Each line that is not blank, without its ends, and whether a line end was there; numbered from 1.

    One of more than `most` bytes has the fault TOO_LARGE and only its first bytes; it is never held whole.
    """
    number = 0
    while raw := stream.readline(most + 2):
        number += 1
        whole = raw.endswith(b"\n")
        text = raw.strip(b" \t\r\n")
        if len(text) > most or (not whole and len(raw) > most):
            while not whole and (rest := stream.readline(1 << 16)):
                whole = rest.endswith(b"\n")
            yield Record(line=number, raw=text[:KEPT_OF_TOO_LARGE], fault="TOO_LARGE"), whole
        elif text:
            yield Record(line=number, raw=text), whole


def json_records(stream: BinaryIO) -> Iterator[Record]:
    """The records of a JSON file from its start: one a line, or the values of a document over several lines.

    A file is a document if it begins with `[`, or its first line is `{` alone.

    Raises:
        InvalidInput: FILE_TOO_LARGE: a document of more than MAX_DOCUMENT_BYTES.
    """
    start = stream.readline(256).strip(b" \t\r\n\xef\xbb\xbf")
    stream.seek(0)
    if start.startswith(b"[") or start == b"{":
        yield from _document(stream)
        return
    for record, whole in lines(stream, MAX_RAW_BYTES):
        # Only a last line can lack its end, so this second decoding happens once a file.
        if not whole and not record.fault and not _is_json(record.raw):
            record = Record(line=record.line, raw=record.raw, fault="TORN")
        yield record


def _document(stream: BinaryIO) -> Iterator[Record]:
    data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidInput("the file is too large: write one record a line", reason="FILE_TOO_LARGE")
    # Every byte is a character, so that positions in the text are positions in the bytes.
    text = data.decode("latin-1")
    opened = _between(text, 3 if data.startswith(b"\xef\xbb\xbf") else 0)
    is_list = text.startswith("[", opened)
    at, line = opened + is_list, 1 + text.count("\n", 0, opened)
    scanner = json.JSONDecoder()
    while True:
        start = _between(text, at)
        line += text.count("\n", at, start)
        if is_list and text.startswith("]", start):
            at, is_list = start + 1, False
            continue
        if start == len(text):
            if is_list:
                yield Record(line=line, raw=b"", fault="TORN")
            return
        try:
            _, end = scanner.raw_decode(text, start)
        except (ValueError, RecursionError):
            # What follows a break cannot be told from the inside of what broke.
            yield Record(line=line, raw=data[start : start + MAX_RAW_BYTES], fault="TORN")
            return
        yield Record(line=line, raw=data[start:end])
        line += text.count("\n", start, end)
        at = end


def _between(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True
