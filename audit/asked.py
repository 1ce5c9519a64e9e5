"""An inquiry entry known by its bytes: canonical, in its form, and showing what was signed.

The payload is not read but made again out of what the entry shows, by the same encoder that its author used, and held
against the one that was signed: if both are the same bytes, every field is. An entry with approvals, or with anything
else that is not as programs write it, is left to the slow way.
"""

from __future__ import annotations

import binascii
import datetime as dt
import hashlib
import re
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from audit import form
from audit.entry import clear_fields
from audit.skim import HEAD, Known, are_peers, fields, known
from comity import instants
from comity.commitment import COMMITMENT_BYTES
from comity.envelope import INQUIRY_TYPE, MAX_CERTIFICATE_BYTES, MAX_CHAIN
from comity.errors import InvalidInput
from comity.inquiry import CLOCK_SKEW, MAX_LIFETIME, MAX_PAYLOAD_BYTES, NONCE_BYTES, Inquiry
from comity.purpose import (
    ACT_TO_WIRE,
    AUTHORITY_TO_WIRE,
    LEGAL_BASIS_TO_WIRE,
    Act,
    Authority,
    LegalBasis,
)
from comity.v1 import inquiry_pb2

_KEPT = 8_192
_MS = 1_000_000  # nanoseconds
_SKEW_MS, _LIFETIME_MS = (t // dt.timedelta(milliseconds=1) for t in (CLOCK_SKEW, MAX_LIFETIME))


# at, head, inquiry_hash, inquiry_id, peers, directory_version: as their bytes stand there
Seen = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


_TEXT, _WORD, _INSTANT, _COMMITTED = '"([^"]*+)"', '"([^"]{0,200}+)"', '"(.{24})"', '"(.{44})"'
_ENVELOPE = (
    rf'\{{"payload":{_TEXT},"payload_type":"{re.escape(INQUIRY_TYPE)}",'
    rf'"signatures":\[\{{"chain":\[([^\]]*)\],"signature":{_TEXT}\}}\]\}}'
)
_SEALED = form.shape_of(form.BODIES["inquiry"].optional["sealed"])
_ENTRY = re.compile(
    (
        rf'\{{"act":{_WORD},"approvers":\[\],"at":{_INSTANT},"authority":{_WORD},"beneficiary":{_WORD},'
        rf'"commitments":\{{(?:"authority_reference":{_COMMITTED},)?"case_number":{_COMMITTED},"query":{_COMMITTED}\}},'
        rf'"directory_version":({form.shape_of(form.index)}),"envelope":{_ENVELOPE},"expires_at":{_INSTANT},"federation":{_WORD},'
        rf'"head":({HEAD}\}}),"inquiry_hash":"(.{{64}})","inquiry_id":"(.{{36}})","issued_at":{_INSTANT},'
        rf'"peers":(\[[^\]]*\]),{fields("inquiry", "preview")},'
        rf'"purpose":\{{"code":{_WORD},"legal_basis":{_WORD},"offence":{_WORD}\}},"received_from":{_WORD},'
        rf'"requester":\{{"agency":{_WORD},"person":{_WORD},"role":{_WORD}\}},(?:"sealed":{_SEALED},)?'
        rf'"targets":({form.shape_of(form.BODIES["inquiry"].required["targets"])}),"type":"inquiry","v":1,'
        rf'"window":\{{"begin":{_INSTANT},"end":{_INSTANT}\}}\}}'
    ).encode("latin-1"),
    re.DOTALL,
).fullmatch
_is_id, _is_head = known(form.shape_of(form.inquiry_id)[1:-1]), known(form.shape_of(form.head))
_is_time = known(form.shape_of(form.time)[1:-1])
_is_role = Known(known(form.shape_of(form.identifier)[1:-1]))
_is_sender = Known(known(form.shape_of(form.spiffe)[1:-1]))


def inquiry(entry: bytes) -> Seen | None:
    """What it says, if nothing is wrong with it: not with its form, nor with the payload that was signed.

    The signature is not verified; who signed, and when they might, is for `audit.evidence`.
    """
    found = _ENTRY(entry)
    if found is None:
        return None
    (act, at, authority, beneficiary, reference, case, query, version, text, chain, signature, expires_at, federation,
     head, inquiry_hash, inquiry_id, issued_at, peers, code, basis, offence, sender, agency, person, role, targets,
     begin, end) = found.groups()  # fmt: skip
    if (
        _is_head(head) is None
        or _is_id(inquiry_id) is None
        or _is_time(at) is None
        or are_peers[peers] is None
        or _is_role[role] is None
        or _is_sender[sender] is None
        or _is_chain[chain] is None
        or _bytes(signature, _MAX_SIGNATURE_BYTES) is None
    ):
        return None
    payload = _bytes(text, MAX_PAYLOAD_BYTES)
    if payload is None or hashlib.sha256(payload).hexdigest().encode() != inquiry_hash:
        return None
    who = _who(act, authority, beneficiary, federation, code, basis, offence, agency, person)
    times = _times(begin, end, issued_at, expires_at)
    if who is None or times is None:
        return None
    window, lifetime = times
    opening = b"\n$%b%b%b" % (inquiry_id, who, window)
    closing = _committed(payload, reference, case, query)
    if closing is None or (reference is None) != (authority == b"none"):
        return None
    closing = lifetime + closing
    there = payload[len(opening) : -len(closing)]
    if payload != opening + there + closing or _targets[there] != targets:
        return None
    return at, head, inquiry_hash, inquiry_id, peers, version


_MAX_SIGNATURE_BYTES = 256


def _bytes(text: bytes, most: int) -> bytes | None:
    """The bytes of base64 in its one form, 1 to `most` of them."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    return data if 1 <= len(data) <= most and binascii.b2a_base64(data, newline=False) == text else None


def _chain(text: bytes) -> bool | None:
    """True of certificates in JSON, as many and as large as there may be."""
    texts = text.split(b",")
    certificates = [_bytes(t[1:-1], MAX_CERTIFICATE_BYTES) for t in texts if t[:1] == t[-1:] == b'"']
    return True if None not in certificates and len(texts) == len(certificates) <= MAX_CHAIN else None


_is_chain = Known(_chain)


def _minute(text: bytes) -> int | None:
    """The milliseconds since 1970 when a minute begins, as `2030-05-01T12:00:`."""
    whole = text + b"00.000Z"
    return None if _is_time(whole) is None else instants.to_ms(dt.datetime.fromisoformat(whole.decode()))


_minutes = Known(_minute)
_SECONDS = {b"%02d." % s: s * 1000 for s in range(60)}
_MILLISECONDS = {b"%03dZ" % ms: (ms, Timestamp(nanos=ms * _MS).SerializeToString()) for ms in range(1000)}


def _instant(text: bytes) -> tuple[int, bytes] | None:
    """The milliseconds since 1970 and the wire form with its length before it."""
    minute, second, fraction = _minutes[text[:17]], _SECONDS.get(text[17:20]), _MILLISECONDS.get(text[20:])
    if minute is None or second is None or fraction is None:
        return None
    at = minute + second
    s, (ms, nanos) = at // 1000, fraction
    # Five digits of base 128: all of the times that an entry can show.
    digits = (s & 127 | 128, s >> 7 & 127 | 128, s >> 14 & 127 | 128, s >> 21 & 127 | 128, s >> 28)
    return at + ms, bytes((6 + len(nanos), 8, *digits)) + nanos


def _times(begin: bytes, end: bytes, issued_at: bytes, expires_at: bytes) -> tuple[bytes, bytes] | None:
    """The payload's fields of the window, and of the lifetime; None if they do not go together."""
    begins, ends, issued, expires = _instant(begin), _instant(end), _instant(issued_at), _instant(expires_at)
    if begins is None or ends is None or issued is None or expires is None:
        return None
    if not begins[0] < ends[0] <= issued[0] + _SKEW_MS or not issued[0] < expires[0] <= issued[0] + _LIFETIME_MS:
        return None
    window = b"\n%b\x12%b" % (begins[1], ends[1])
    return b"B%c%b" % (len(window), window), b"R%bZ%b" % (issued[1], expires[1])


def _committed(payload: bytes, reference: bytes | None, case: bytes, query: bytes) -> bytes | None:
    """The payload's end from the nonce on, as the entry shows it: with the nonce that the payload has."""
    shown = (query, case) if reference is None else (query, case, reference)
    end = b""
    for tag, text in zip(b"jrz", shown, strict=False):
        data = _bytes(text, COMMITMENT_BYTES)
        if data is None or len(data) != COMMITMENT_BYTES:
            return None
        end += b"%c%c%b" % (tag, COMMITMENT_BYTES, data)
    nonce = payload[-len(end) - NONCE_BYTES : -len(end)]
    return b"b%c%b%b" % (NONCE_BYTES, nonce, end)


@lru_cache(maxsize=_KEPT)
def _who(*shown: bytes) -> bytes | None:
    """The payload's fields from `federation` to `act`, found to be valid by the one who reads inquiries."""
    act, authority, beneficiary, federation, code, basis, offence, agency, person = (s.decode("latin-1") for s in shown)
    try:
        made = inquiry_pb2.Inquiry(
            federation=federation,
            requester=f"spiffe://{agency}/person/{person}",
            beneficiary=beneficiary,
            purpose_of_use=inquiry_pb2.PurposeOfUse(
                code=code, legal_basis=LEGAL_BASIS_TO_WIRE[LegalBasis(basis)], offence=offence
            ),
            authority=AUTHORITY_TO_WIRE[Authority(authority)],
            act=ACT_TO_WIRE[Act(act)],
        )
        wire = made.SerializeToString()
        read = Inquiry.parse(wire + _EXAMPLE + (_REFERENCE if authority != Authority.NONE else b""))
    except (ValueError, InvalidInput):
        return None
    says = clear_fields(read)
    purpose = {"code": code, "legal_basis": basis, "offence": offence}
    asks = {"agency": agency, "person": person}
    same = (says["purpose"], says["requester"], says["act"], says["authority"]) == (purpose, asks, act, authority)
    return wire if same and form.identifier(agency) and form.reference(person) else None


_NOW = Timestamp(seconds=1_900_000_000)
_EXAMPLE = inquiry_pb2.Inquiry(
    inquiry_id="01bb4754-0200-7800-aa0e-1b509ca7a0ac",
    window=inquiry_pb2.Window(begin=Timestamp(seconds=_NOW.seconds - 60), end=_NOW),
    issued_at=_NOW,
    expires_at=Timestamp(seconds=_NOW.seconds + 60),
    nonce=bytes(NONCE_BYTES),
    query_commitment=bytes(COMMITMENT_BYTES),
    case_number_commitment=bytes(COMMITMENT_BYTES),
).SerializeToString()
_ANYBODY = inquiry_pb2.Inquiry(
    federation="any",
    requester="spiffe://any/person/any",
    beneficiary="any",
    purpose_of_use=inquiry_pb2.PurposeOfUse(code="any", legal_basis=inquiry_pb2.LEGAL_BASIS_CRIMINAL),
    authority=inquiry_pb2.AUTHORITY_NONE,
    act=inquiry_pb2.ACT_EXACT,
).SerializeToString()
_REFERENCE = inquiry_pb2.Inquiry(authority_reference_commitment=bytes(COMMITMENT_BYTES)).SerializeToString()


def _count(wire: bytes) -> bytes | None:
    """How many targets those fields of a payload name, in digits; None if an inquiry may not name them so."""
    try:
        targets = Inquiry.parse(_ANYBODY + _EXAMPLE + wire).targets
    except InvalidInput:
        return None
    return b"%d" % len(targets) if inquiry_pb2.Inquiry(targets=targets).SerializeToString() == wire else None


_targets = Known(_count)
