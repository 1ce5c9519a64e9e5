"""Entries that are known by their bytes: canonical, in their type's form, and what they say of other entries.

Most entries of a log are decisions, outcomes and receipts in plain ASCII. A pattern made of the same forms that the
slow way checks (`audit.form.SHAPES`) tells at one glance that nothing is wrong with them; whatever it does not match
is looked at the slow way, and only there is anything found wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from audit import form
from audit.note import unbase64
from comity.envelope import INQUIRY_TYPE, MAX_CERTIFICATE_BYTES, MAX_CHAIN, MAX_SIGNATURES
from comity.inquiry import MAX_PAYLOAD_BYTES

_BASE64 = "[A-Za-z0-9+/]+={0,2}"
_KEPT = 4_096  # certificates seen, a few hundred bytes each


# at, clock_behind_ms (None where it was not), head, inquiry_hash, inquiry_id, node, peers: as their bytes stand there;
# empty where the type has none. A plain tuple: a log has millions.
Seen = tuple[bytes, bytes | None, bytes, bytes, bytes, bytes, bytes]
Look = Callable[[bytes], Seen | None]
Match = Callable[[bytes], re.Match[bytes] | None]


def _pattern(kind: str, **known: str) -> Match:
    """Groups: at, behind, head, inquiry_hash, inquiry_id, node, peers, as far as the type has them, and in `known`."""
    shapes = {name: _group(name, kind) for name in ("head", "at", "inquiry_hash", "inquiry_id", "node", "peers")}
    pattern = form.shape_of(
        form.ENTRIES[kind], **(shapes | {"clock_behind_ms": _group("clock_behind_ms", kind)} | known)
    )
    return re.compile(pattern.encode("latin-1")).fullmatch


def _group(name: str, kind: str) -> str:
    one = form.ENTRIES[kind]
    check = one.required.get(name) or one.optional.get(name)
    shape = form.shape_of(check) if check else ""
    return f'"({shape[1:-1]})"' if shape.startswith('"') else f"({shape})"


# A note of one origin that the receipt names too, its signatures of a log's or a witness's usual length.
_BY_LOG, _BY_WITNESS = (form.shape_of(form.base64_of(n, n))[1:-1] for n in (68, 76))
_LINE = rf"\xe2\x80\x94 [!#-*,-\[\]-~]{{1,200}} (?:{_BY_LOG}|{_BY_WITNESS})\\n"
_NOTE = (
    rf'"(?P<origin>[!#-*,-\[\]-~]{{1,200}})\\n(?P<size>0|[1-9][0-9]{{0,14}})\\n'
    rf'{form.shape_of(form.base64_of(32, 32))[1:-1]}\\n\\n(?:{_LINE}){{1,17}}"'
)
_receipt = _pattern("receipt", checkpoint=_NOTE, index=r"(?P<index>0|[1-9][0-9]{0,14})", origin='"(?P=origin)"')


def receipt(entry: bytes) -> Seen | None:
    """What a receipt says; also that the checkpoint in it is of the log it names and covers the entry it is for."""
    found = _receipt(entry)
    if found is None:
        return None
    at, _, size, behind, head, index, inquiry_id, node, peers = found.groups()
    return (at, behind, head, b"", inquiry_id, node, peers) if int(index) < int(size) else None


_CHAIN = rf'"{_BASE64}"(?:,"{_BASE64}"){{0,{MAX_CHAIN - 1}}}'
_SIGNED = rf'\{{"chain":\[{_CHAIN}\],"signature":"{_BASE64}"\}}'
_ENVELOPE = (
    rf'\{{"payload":"(?P<payload>{_BASE64})","payload_type":"{re.escape(INQUIRY_TYPE)}",'
    rf'"signatures":\[(?P<signed>{_SIGNED}(?:,{_SIGNED}){{0,{MAX_SIGNATURES - 1}}})\]\}}'
)
_inquiry = _pattern("inquiry", envelope=_ENVELOPE)
_quoted = re.compile(rb'"(signature|chain)":|"([^"]*)"').finditer


def inquiry(entry: bytes) -> Seen | None:
    """What an inquiry says, the base64 in it in its one form and of the sizes that it may have."""
    found = _inquiry(entry)
    if found is None:  # as all are that are none
        return None
    at, behind, payload, signed, head, inquiry_hash, inquiry_id, peers = found.groups()
    if not _fits(payload, MAX_PAYLOAD_BYTES):
        return None
    most = MAX_CERTIFICATE_BYTES
    for word in _quoted(signed):
        name, text = word.groups()
        if name is not None:
            most = 256 if name == b"signature" else MAX_CERTIFICATE_BYTES
        elif not (_fits(text, most) if most == 256 else _is_certificate(text)):
            return None
    return at, behind, head, inquiry_hash, inquiry_id, b"", peers


def _fits(text: bytes, most: int) -> bool:
    try:
        return 1 <= len(unbase64(text.decode())) <= most
    except ValueError:
        return False


@lru_cache(maxsize=_KEPT)
def _is_certificate(text: bytes) -> bool:
    return _fits(text, MAX_CERTIFICATE_BYTES)


UNTOLD: tuple[str, Match | None, Look] = ("inquiry", None, inquiry)
LOOKS: dict[bytes, tuple[str, Match | None, Look]] = {
    b'sion"': ("decision", _pattern("decision"), inquiry),
    b'come"': ("outcome", _pattern("outcome"), inquiry),
    b'eipt"': ("receipt", None, receipt),
}
"""By the last bytes before `,"v":1}`: a pattern whose groups are what is seen, or, where it is None, what looks.

An inquiry, which `window` ends, is not told so: UNTOLD is for all others.
"""
