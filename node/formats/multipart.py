"""A multipart body cut into its parts, strictly: what is not exactly one is refused, never guessed at.

Source: RFC 2046, section 5.1.1; RFC 7578.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from node.formats.fields import BadField

MAX_PARTS = 16
MAX_HEADER_BYTES = 4096
_FIRST = re.compile(rb"--([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])[ \t]*\r\n")
_NAME = re.compile(rb';[ \t]*name="?([^";\r\n]{1,128})"?', re.IGNORECASE)
_PLAIN_ENCODINGS = (b"", b"binary", b"8bit", b"7bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: its field's name, its media type in small letters without parameters, and its bytes."""

    name: str
    media_type: str
    content: bytes


def boundary_of(body: bytes) -> bytes:
    """The boundary that the body's first line names; a body is complete in itself, without its request's header.

    Raises:
        BadField: BAD_MULTIPART.
    """
    found = _FIRST.match(body[:128])
    if not found:
        raise BadField("BAD_MULTIPART")
    return found[1]


def parts(body: bytes) -> list[Part]:
    """The parts in order.

    Raises:
        BadField: BAD_MULTIPART: no boundary first, no end, over 16 parts, or a part that is not well-formed.
    """
    body = body.removeprefix(b"\r\n")
    boundary = boundary_of(body)
    before, *segments = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 2)
    if before or not 2 <= len(segments) <= MAX_PARTS + 1 or segments[-1].rstrip(b" \t\r\n") != b"--":
        raise BadField("BAD_MULTIPART")
    return [_part(segment) for segment in segments[:-1]]


def _part(segment: bytes) -> Part:
    line_end = segment.find(b"\r\n")
    if line_end < 0 or segment[:line_end].strip(b" \t"):
        raise BadField("BAD_MULTIPART")
    rest = segment[line_end:]
    end = rest.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        raise BadField("BAD_MULTIPART")
    headers: dict[bytes, bytes] = {}
    for line in rest[2:end].split(b"\r\n") if end > 0 else ():
        name, colon, value = line.partition(b":")
        key = name.lower()
        if not colon or not key or key in headers:
            raise BadField("BAD_MULTIPART")
        headers[key] = value.strip(b" \t")
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
        raise BadField("BAD_MULTIPART")
    named = _NAME.search(headers.get(b"content-disposition", b""))
    return Part(
        name=named[1].decode("latin-1") if named else "",
        media_type=headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1"),
        content=rest[end + 4 :],
    )
