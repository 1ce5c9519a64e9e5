"""What an investigator asks and signs, and the values disclosed beside it."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from comity import commitment, instants
from comity.errors import InvalidInput, Violation
from comity.federation import IDENTIFIER
from comity.plate import Plate
from comity.purpose import (
    ACT_FROM_WIRE,
    ACT_TO_WIRE,
    AUTHORITY_FROM_WIRE,
    AUTHORITY_TO_WIRE,
    LEGAL_BASIS_FROM_WIRE,
    LEGAL_BASIS_TO_WIRE,
    Act,
    Authority,
    PurposeOfUse,
)
from comity.query import PlateQuery, Query, check_window, query_of
from comity.v1 import inquiry_pb2

T = TypeVar("T")

MAX_TARGETS = 1_000
MAX_PAYLOAD_BYTES = 40_000  # base64 of it fits one log entry
MAX_LIFETIME = dt.timedelta(hours=24)
DEFAULT_LIFETIME = dt.timedelta(minutes=5)
CLOCK_SKEW = dt.timedelta(seconds=60)
NONCE_BYTES = 16
MAX_REFERENCE_CHARACTERS = 64
MAX_DISCLOSED_BYTES = 1_024  # of one value; it is sent on to every node asked
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_SPIFFE = re.compile(r"spiffe://[a-z0-9-]{1,63}/person/[a-z0-9][a-z0-9._-]{0,62}\Z")
# Letters and symbols by their category, yet nothing on paper or screen.
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffd")
_OFFENCE = re.compile(r"[a-z0-9][a-z0-9 ()/-]{0,63}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """The signed question. Holds no plate: the commitments stand for the query, case number and reference.

    `targets` empty means every node. Times are UTC to the millisecond; detections in [begin, end) are asked for.
    `preview`: nothing but what would be decided is asked.
    """

    inquiry_id: str
    federation: str
    requester: str
    beneficiary: str
    purpose: PurposeOfUse
    authority: Authority
    act: Act
    begin: dt.datetime
    end: dt.datetime
    targets: tuple[str, ...]
    issued_at: dt.datetime
    expires_at: dt.datetime
    nonce: bytes
    query_commitment: bytes
    case_number_commitment: bytes
    authority_reference_commitment: bytes
    preview: bool = False

    @classmethod
    def parse(cls, payload: bytes) -> Inquiry:
        """The inquiry in the signed bytes. Well-formed only: who signed and whether it is fresh is checked elsewhere.

        Raises:
            InvalidInput: naming every bad field; an unset or unknown enum and an unknown field are bad.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidInput(f"an inquiry has at most {MAX_PAYLOAD_BYTES} bytes", reason="BAD_INQUIRY")
        try:
            message = inquiry_pb2.Inquiry.FromString(payload)
        except DecodeError:
            raise InvalidInput("not an inquiry", reason="BAD_INQUIRY") from None
        return _Reader(message).inquiry()

    def encode(self) -> bytes:
        """The bytes to sign. Made once, by the author; everyone else keeps the bytes they were given."""
        return inquiry_pb2.Inquiry(
            inquiry_id=self.inquiry_id,
            federation=self.federation,
            requester=self.requester,
            beneficiary=self.beneficiary,
            purpose_of_use=inquiry_pb2.PurposeOfUse(
                code=self.purpose.code,
                legal_basis=LEGAL_BASIS_TO_WIRE[self.purpose.legal_basis],
                offence=self.purpose.offence,
            ),
            authority=AUTHORITY_TO_WIRE[self.authority],
            act=ACT_TO_WIRE[self.act],
            window=inquiry_pb2.Window(begin=instants.to_wire(self.begin), end=instants.to_wire(self.end)),
            targets=self.targets,
            issued_at=instants.to_wire(self.issued_at),
            expires_at=instants.to_wire(self.expires_at),
            nonce=self.nonce,
            query_commitment=self.query_commitment,
            case_number_commitment=self.case_number_commitment,
            authority_reference_commitment=self.authority_reference_commitment,
            preview=self.preview,
        ).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """One salt and value, to be checked against the commitment of that label."""

    label: str
    salt: bytes = field(repr=False)
    value: bytes = field(repr=False)

    @classmethod
    def fresh(cls, label: str, value: bytes) -> Disclosure:
        """A disclosure of `value` under a new random salt."""
        return cls(label=label, salt=secrets.token_bytes(commitment.SALT_BYTES), value=value)

    @property
    def commitment(self) -> bytes:
        """What stands for it in the inquiry."""
        return commitment.commit(self.label, self.salt, self.value)

    @classmethod
    def of(cls, message: inquiry_pb2.Disclosure) -> Disclosure:
        """What the wire form says; nothing is checked."""
        return cls(label=message.label, salt=message.salt, value=message.value)

    def to_message(self) -> inquiry_pb2.Disclosure:
        """The wire form."""
        return inquiry_pb2.Disclosure(label=self.label, salt=self.salt, value=self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """The values behind an inquiry's commitments, each checked against its commitment."""

    query: Query
    case_number: str
    authority_reference: str

    def __repr__(self) -> str:
        return "Disclosed(...)"  # a traceback shows no plate

    @classmethod
    def parse(cls, inquiry: Inquiry, messages: Iterable[inquiry_pb2.Disclosure]) -> Disclosed:
        """The disclosed values of `inquiry`.

        Raises:
            InvalidInput: one is missing, stands twice, is not asked for, or does not match its commitment
                (reason DISCLOSURE_MISMATCH); or the value is malformed; or the query is too wide (QUERY_TOO_WIDE), not
                one of this kind of search (BAD_QUERY), or of a kind that is not supported yet (NOT_YET).
        """
        wanted = {
            commitment.QUERY: inquiry.query_commitment,
            commitment.CASE_NUMBER: inquiry.case_number_commitment,
        }
        if inquiry.authority_reference_commitment:
            wanted[commitment.AUTHORITY_REFERENCE] = inquiry.authority_reference_commitment
        values: dict[str, bytes] = {}
        bad: list[Violation] = []
        for m in messages:
            if m.label not in wanted or m.label in values:
                bad.append(Violation("disclosures", "a label that is not asked for, or twice"))
            elif len(m.value) > MAX_DISCLOSED_BYTES or has_unknown_fields(m):
                what = f"must be a value of at most {MAX_DISCLOSED_BYTES} bytes and nothing more"
                bad.append(Violation(f"disclosures.{m.label}", what))
            elif not commitment.matches(wanted[m.label], m.label, m.salt, m.value):
                bad.append(Violation(f"disclosures.{m.label}", "does not match its commitment"))
            else:
                values[m.label] = m.value
        bad += [Violation(f"disclosures.{k}", "is missing") for k in wanted if k not in values and not bad]
        if bad:
            raise InvalidInput("disclosures do not fit", violations=bad, reason="DISCLOSURE_MISMATCH")
        return cls(
            query=_query(inquiry, values[commitment.QUERY]),
            case_number=_reference("case_number", values[commitment.CASE_NUMBER]),
            authority_reference=_reference(
                "authority_reference", values.get(commitment.AUTHORITY_REFERENCE, b""), inquiry.authority
            ),
        )


def plate_query(plate: Plate) -> bytes:
    """The query to commit to when a whole plate is searched."""
    return PlateQuery(plate=plate).encode()


def new_inquiry_id(now: dt.datetime) -> str:
    """A UUID version 7 as text. Source: RFC 9562 section 5.7."""
    value = instants.to_ms(now) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def _query(inquiry: Inquiry, value: bytes) -> Query:
    try:
        message = inquiry_pb2.Query.FromString(value)
    except DecodeError:
        raise InvalidInput("the disclosed query cannot be read", reason="BAD_QUERY") from None
    if has_unknown_fields(message):
        raise InvalidInput("the disclosed query has unknown fields", reason="BAD_QUERY")
    query = query_of(inquiry.act, message)
    check_window(inquiry.act, inquiry.begin, inquiry.end)
    return query


def _reference(field: str, value: bytes, authority: Authority = Authority.NONE) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if len(text) > MAX_REFERENCE_CHARACTERS or not all(c.isprintable() or c.isspace() for c in text):
        what = Violation(field, f"must be at most {MAX_REFERENCE_CHARACTERS} printable characters")
        raise InvalidInput("not a valid disclosure", violations=[what], reason="BAD_DISCLOSURE")
    if authority is not Authority.NONE and not shows(text):
        what = Violation(field, "a warrant or order needs its reference")
        raise InvalidInput("not a valid disclosure", violations=[what], reason="BAD_DISCLOSURE")
    return text


def shows(text: str) -> bool:
    """True if the text shows anything: not only blanks, controls, or characters without ink."""
    return any(c not in _UNSEEN and unicodedata.category(c)[0] in "LNPS" for c in text)


def has_unknown_fields(message: Message) -> bool:
    """True if the message or one inside it holds a field that this version does not know.

    What it cannot read could be a condition on what it can: whoever decides refuses it.
    """
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()  # of all messages inside too
    return known.ByteSize() != message.ByteSize()


class _Reader:
    """Reads a message once and collects every violation."""

    def __init__(self, message: inquiry_pb2.Inquiry) -> None:
        self.m = message
        self.bad: list[Violation] = []

    def inquiry(self) -> Inquiry:
        m = self.m
        if has_unknown_fields(m):
            self.no("inquiry", "holds a field that this version does not know")
        self.match("inquiry_id", m.inquiry_id, _UUID7, "must be a UUID version 7 in small letters")
        self.match("federation", m.federation, IDENTIFIER, "must be a federation's id")
        self.match("requester", m.requester, _SPIFFE, "must be a person's SPIFFE ID")
        self.match("beneficiary", m.beneficiary, IDENTIFIER, "must be set to an agency's id")
        purpose = m.purpose_of_use
        self.match("purpose_of_use.code", purpose.code, IDENTIFIER, "must be a purpose's code")
        if purpose.offence:
            self.match("purpose_of_use.offence", purpose.offence, _OFFENCE, "must be an offence category")
        legal_basis = self.known("purpose_of_use.legal_basis", LEGAL_BASIS_FROM_WIRE.get(purpose.legal_basis))
        authority = self.known("authority", AUTHORITY_FROM_WIRE.get(m.authority))
        act = self.known("act", ACT_FROM_WIRE.get(m.act))
        begin, end = (self.instant(f"window.{n}", getattr(m.window, n)) for n in ("begin", "end"))
        issued_at = self.instant("issued_at", m.issued_at)
        expires_at = self.instant("expires_at", m.expires_at)
        if not begin < end <= issued_at + CLOCK_SKEW:
            self.no("window", "must begin before it ends, and end no later than it was issued")
        if not issued_at < expires_at <= issued_at + MAX_LIFETIME:
            self.no("expires_at", "must be after issued_at, by at most 24 hours")
        if len(m.targets) > MAX_TARGETS or len(set(m.targets)) != len(m.targets):
            self.no("targets", f"must be at most {MAX_TARGETS}, none twice")
        elif not all(IDENTIFIER.match(t) for t in m.targets):
            self.no("targets", "must be node ids")
        self.size("nonce", m.nonce, NONCE_BYTES)
        self.size("query_commitment", m.query_commitment, commitment.COMMITMENT_BYTES)
        self.size("case_number_commitment", m.case_number_commitment, commitment.COMMITMENT_BYTES)
        wanted = 0 if authority is Authority.NONE else commitment.COMMITMENT_BYTES
        self.size("authority_reference_commitment", m.authority_reference_commitment, wanted)
        if self.bad:
            raise InvalidInput("not a valid inquiry", violations=self.bad, reason="BAD_INQUIRY")
        assert legal_basis is not None
        assert authority is not None
        assert act is not None
        return Inquiry(
            inquiry_id=m.inquiry_id,
            federation=m.federation,
            requester=m.requester,
            beneficiary=m.beneficiary,
            purpose=PurposeOfUse(code=purpose.code, legal_basis=legal_basis, offence=purpose.offence),
            authority=authority,
            act=act,
            begin=begin,
            end=end,
            targets=tuple(m.targets),
            issued_at=issued_at,
            expires_at=expires_at,
            nonce=m.nonce,
            query_commitment=m.query_commitment,
            case_number_commitment=m.case_number_commitment,
            authority_reference_commitment=m.authority_reference_commitment,
            preview=m.preview,
        )

    def no(self, field: str, description: str) -> None:
        self.bad.append(Violation(field, description))

    def known(self, field: str, value: T | None) -> T | None:
        if value is None:
            self.no(field, "must be set to a known value")
        return value

    def match(self, field: str, value: str, pattern: re.Pattern[str], description: str) -> None:
        if not pattern.match(value):
            self.no(field, description)

    def size(self, field: str, value: bytes, wanted: int) -> None:
        if len(value) != wanted:
            self.no(field, f"must have {wanted} bytes")

    def instant(self, field: str, value: Timestamp) -> dt.datetime:
        at = instants.from_wire(value)
        if at is None:
            self.no(field, "must be a time between 2000 and 2100")
            return dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
        return at
