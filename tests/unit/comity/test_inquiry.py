"""What an inquiry may be: every bad field is named, and what is not understood is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from comity import commitment, instants
from comity.errors import InvalidInput
from comity.inquiry import (
    MAX_DISCLOSED_BYTES,
    MAX_PAYLOAD_BYTES,
    Disclosed,
    Inquiry,
    new_inquiry_id,
)
from comity.purpose import Act, Authority
from comity.query import PlateQuery
from comity.v1 import inquiry_pb2
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW

MS = dt.timedelta(milliseconds=1)
MINUTE = dt.timedelta(minutes=1)


def refused(payload: bytes) -> set[str]:
    with pytest.raises(InvalidInput) as e:
        Inquiry.parse(payload)
    assert e.value.reason == "BAD_INQUIRY"
    return {v.field for v in e.value.violations}


def wire(**days: float) -> inquiry_pb2.Window:
    begin, end = (instants.to_wire(NOW + dt.timedelta(days=days[n])) for n in ("begin", "end"))
    return inquiry_pb2.Window(begin=begin, end=end)


def purpose(**changes: Any) -> inquiry_pb2.PurposeOfUse:
    content: dict[str, Any] = {"code": "stolen-vehicle", "legal_basis": 1}
    return inquiry_pb2.PurposeOfUse(**(content | changes))


BAD_FIELDS = {
    "an id that is no UUID": ({"inquiry_id": "7"}, "inquiry_id"),
    "an id of version 4": ({"inquiry_id": "0190b5a4-7a1a-4c3a-9d52-0f4b1f7f3a10"}, "inquiry_id"),
    "an id in capital letters": ({"inquiry_id": scene.INQUIRY_ID.upper()}, "inquiry_id"),
    "an id with a line end": ({"inquiry_id": scene.INQUIRY_ID + "\n"}, "inquiry_id"),
    "no federation": ({"federation": ""}, "federation"),
    "no requester": ({"requester": ""}, "requester"),
    "a node as requester": ({"requester": "spiffe://us-ca-alder-pd/node/alder-1"}, "requester"),
    "a requester's name with a line end": ({"requester": scene.REQUESTER + "\n"}, "requester"),
    "no beneficiary": ({"beneficiary": ""}, "beneficiary"),
    "a beneficiary with a blank": ({"beneficiary": "us ca"}, "beneficiary"),
    "no purpose": ({"purpose_of_use": purpose(code="")}, "purpose_of_use.code"),
    "an unset legal basis": ({"purpose_of_use": purpose(legal_basis=0)}, "purpose_of_use.legal_basis"),
    "an unknown legal basis": ({"purpose_of_use": purpose(legal_basis=9)}, "purpose_of_use.legal_basis"),
    "an offence with a bracket left open": ({"purpose_of_use": purpose(offence="<b>")}, "purpose_of_use.offence"),
    "an offence of 65 characters": ({"purpose_of_use": purpose(offence="a" * 65)}, "purpose_of_use.offence"),
    "an unset authority": ({"authority": 0}, "authority"),
    "an unknown authority": ({"authority": 5}, "authority"),
    "an unset act": ({"act": 0}, "act"),
    "an unknown act": ({"act": 7}, "act"),
    "an unset window": ({"window": inquiry_pb2.Window()}, "window.begin"),
    "a window without an end": (
        {"window": inquiry_pb2.Window(begin=instants.to_wire(NOW - DAY))},
        "window.end",
    ),
    "a window of no length": ({"window": wire(begin=-1, end=-1)}, "window"),
    "a window that ends before it begins": ({"window": wire(begin=-1, end=-2)}, "window"),
    "a window that ends tomorrow": ({"window": wire(begin=-1, end=1)}, "window"),
    "a window before 2000": ({"window": wire(begin=-365 * 31, end=0)}, "window.begin"),
    "an unset time of issue": ({"issued_at": Timestamp()}, "issued_at"),
    "a time of issue with impossible nanoseconds": (
        {"issued_at": Timestamp(seconds=instants.to_wire(NOW).seconds, nanos=1_000_000_000)},
        "issued_at",
    ),
    "an unset expiry": ({"expires_at": Timestamp()}, "expires_at"),
    "an expiry at the time of issue": ({"expires_at": instants.to_wire(NOW)}, "expires_at"),
    "an expiry a millisecond after 24 hours": ({"expires_at": instants.to_wire(NOW + DAY + MS)}, "expires_at"),
    "1,001 targets": ({"targets": [f"n{i}" for i in range(1_001)]}, "targets"),
    "a target twice": ({"targets": ["alder-1", "brazos-1", "alder-1"]}, "targets"),
    "a target that is no node id": ({"targets": ["Alder 1"]}, "targets"),
    "an empty target": ({"targets": [""]}, "targets"),
    "a nonce of 15 bytes": ({"nonce": b"n" * 15}, "nonce"),
    "a nonce of 17 bytes": ({"nonce": b"n" * 17}, "nonce"),
    "a query commitment of 31 bytes": ({"query_commitment": b"c" * 31}, "query_commitment"),
    "no case number commitment": ({"case_number_commitment": b""}, "case_number_commitment"),
    "a reference without an authority": (
        {"authority_reference_commitment": b"c" * 32},
        "authority_reference_commitment",
    ),
    "an authority without its reference": (
        {"authority": inquiry_pb2.AUTHORITY_COURT_ORDER},
        "authority_reference_commitment",
    ),
}


@pytest.mark.parametrize(("changes", "field"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    assert field in refused(scene.message(**changes).SerializeToString())


GOOD = {
    "a window that ends a minute after the issue": {"end": NOW + MINUTE},
    "an expiry after exactly 24 hours": {"expires_at": NOW + DAY},
    "1,000 targets": {"targets": tuple(f"n{i}" for i in range(1_000))},
    "an authority with its reference": {
        "authority": Authority.JUDICIAL_WARRANT,
        "authority_reference_commitment": scene.REFERENCE.commitment,
    },
    "each kind of search, supported or not": {"act": Act.CONVOY},
}


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD.keys())
def test_a_good_inquiry_is_read_back_as_it_was_written(changes: dict[str, Any]) -> None:
    made = scene.inquiry(**changes)
    assert Inquiry.parse(made.encode()) == made


def test_every_bad_field_of_an_empty_inquiry_is_named_at_once() -> None:
    assert refused(b"") >= {
        *("inquiry_id", "federation", "requester", "beneficiary", "purpose_of_use.code", "purpose_of_use.legal_basis"),
        *("authority", "act", "window.begin", "window.end", "issued_at", "expires_at", "nonce", "query_commitment"),
    }


def in_purpose(m: inquiry_pb2.Inquiry) -> None:
    m.purpose_of_use.MergeFromString(scene.unknown_field())


def in_window_begin(m: inquiry_pb2.Inquiry) -> None:
    m.window.begin.MergeFromString(scene.unknown_field())


def in_itself(m: inquiry_pb2.Inquiry) -> None:
    m.MergeFromString(scene.unknown_field())


@pytest.mark.parametrize("add", [in_itself, in_purpose, in_window_begin])
def test_a_field_that_this_version_does_not_know_is_refused_however_deep(
    add: Callable[[inquiry_pb2.Inquiry], None],
) -> None:
    m = scene.message()
    add(m)
    assert refused(m.SerializeToString()) == {"inquiry"}


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff", scene.inquiry().encode()[:-1], b"\0" * (MAX_PAYLOAD_BYTES + 1)],
    ids=["no protobuf", "cut off by one byte", "larger than an entry can keep"],
)
def test_bytes_that_are_no_inquiry_are_refused_without_being_repeated(payload: bytes) -> None:
    assert refused(payload) == set()


def test_times_are_cut_to_the_millisecond() -> None:
    m = scene.message()
    m.issued_at.nanos = 999_999
    assert Inquiry.parse(m.SerializeToString()).issued_at == NOW


def test_an_inquiry_id_is_a_version_7_that_begins_with_its_time() -> None:
    made = new_inquiry_id(NOW)
    assert Inquiry.parse(scene.inquiry(inquiry_id=made).encode()).inquiry_id == made
    assert int(made.replace("-", "")[:12], 16) == instants.to_ms(NOW)
    assert made != new_inquiry_id(NOW)


# What is disclosed beside an inquiry

OTHER_SALT = inquiry_pb2.Disclosure(label="query", salt=b"x" * 32, value=scene.QUERY.value)
OTHER_VALUE = inquiry_pb2.Disclosure(label="query", salt=scene.SALT, value=b"another")
SHORT_SALT = inquiry_pb2.Disclosure(label="query", salt=b"x", value=scene.QUERY.value)
OTHER_LABEL = inquiry_pb2.Disclosure(label="case_number", salt=scene.SALT, value=scene.QUERY.value)
WITH_MORE = scene.QUERY.to_message()
WITH_MORE.MergeFromString(scene.unknown_field())
Q, C, R = (d.to_message() for d in (scene.QUERY, scene.CASE_NUMBER, scene.REFERENCE))

MISMATCHES = {
    "none at all": [],
    "no query": [C],
    "no case number": [Q],
    "the query twice": [Q, Q, C],
    "a reference that is not asked for": [Q, C, R],
    "a label of nothing": [Q, C, inquiry_pb2.Disclosure(label="plate", salt=scene.SALT, value=b"7ABC123")],
    "another salt": [OTHER_SALT, C],
    "a salt that is too short": [SHORT_SALT, C],
    "another value": [OTHER_VALUE, C],
    "the query under the case number's label": [OTHER_LABEL, Q],
    "a disclosure with a field this version does not know": [WITH_MORE, C],
}


@pytest.mark.parametrize("given", MISMATCHES.values(), ids=MISMATCHES.keys())
def test_disclosures_that_do_not_fit_their_commitments_are_refused(given: list[inquiry_pb2.Disclosure]) -> None:
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(scene.inquiry(), given)
    assert e.value.reason == "DISCLOSURE_MISMATCH"
    assert "7ABC123" not in str(e.value)


def test_a_value_that_is_too_long_is_refused_though_it_fits_its_commitment() -> None:
    long = scene.disclosure(commitment.QUERY, scene.QUERY.value * (MAX_DISCLOSED_BYTES // len(scene.QUERY.value) + 1))
    made = scene.inquiry(query_commitment=long.commitment)
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(made, scene.disclosures(long, scene.CASE_NUMBER))
    assert e.value.reason == "DISCLOSURE_MISMATCH"


def query(**kind: Any) -> bytes:
    return inquiry_pb2.Query(**kind).SerializeToString()


def plate(number: str, state: str = "CA") -> bytes:
    return query(plate=inquiry_pb2.PlateQuery(plate=number, state=state))


BAD_QUERIES = {
    "bytes that are no query": (b"\xff", Act.EXACT, "BAD_QUERY"),
    "an empty query": (b"", Act.EXACT, "BAD_QUERY"),
    "a pattern in an exact search": (query(pattern=inquiry_pb2.PatternQuery(pattern="7A*")), Act.EXACT, "BAD_QUERY"),
    "a query with an unknown field": (scene.QUERY.value + scene.unknown_field(), Act.EXACT, "BAD_QUERY"),
    "a whole plate in a partial search": (scene.QUERY.value, Act.PARTIAL, "BAD_QUERY"),
    "a whole plate in an area search": (scene.QUERY.value, Act.AREA, "BAD_QUERY"),
    "a whole plate in a convoy search": (scene.QUERY.value, Act.CONVOY, "BAD_QUERY"),
    "an alert": (scene.QUERY.value, Act.ALERT, "NOT_YET"),
    "a plate of 11 characters": (plate("A" * 11), Act.EXACT, "BAD_PLATE"),
    "an empty plate": (plate(""), Act.EXACT, "BAD_PLATE"),
    "a plate in Cyrillic that looks Latin": (plate("7АВС123"), Act.EXACT, "BAD_PLATE"),
    "a plate with a control character": (plate("7ABC\x00123"), Act.CONFUSABLE, "BAD_PLATE"),
    "a plate without its state": (plate("7ABC123", ""), Act.EXACT, "BAD_PLATE"),
    "a state of three letters": (plate("7ABC123", "CAL"), Act.EXACT, "BAD_PLATE"),
}


@pytest.mark.parametrize(("value", "act", "reason"), BAD_QUERIES.values(), ids=BAD_QUERIES.keys())
def test_a_query_that_is_no_plate_search_is_refused_with_its_own_reason(value: bytes, act: Act, reason: str) -> None:
    given = scene.disclosure(commitment.QUERY, value)
    made = scene.inquiry(query_commitment=given.commitment, act=act)
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(made, scene.disclosures(given, scene.CASE_NUMBER))
    assert e.value.reason == reason
    assert "7A" not in str(e.value)


BAD_REFERENCES = {
    "a case number of 65 characters": b"x" * 65,
    "a case number that is not UTF-8": b"\xff\xfe",
    "a case number with an escape": b"PA\x1b[2J",
}


@pytest.mark.parametrize("value", BAD_REFERENCES.values(), ids=BAD_REFERENCES.keys())
def test_a_case_number_that_no_screen_should_show_is_refused(value: bytes) -> None:
    given = scene.disclosure(commitment.CASE_NUMBER, value)
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(scene.inquiry(case_number_commitment=given.commitment), scene.disclosures(scene.QUERY, given))
    assert (e.value.reason, [v.field for v in e.value.violations]) == ("BAD_DISCLOSURE", ["case_number"])


@pytest.mark.parametrize(
    "value",
    [b"", b"  \t", "\u2800".encode(), "\u3164 \uffa0".encode()],
    ids=["empty", "blank", "of a sign without ink", "of letters without ink"],
)
def test_a_warrant_without_a_reference_is_refused(value: bytes) -> None:
    given = scene.disclosure(commitment.AUTHORITY_REFERENCE, value)
    made = scene.inquiry(authority=Authority.JUDICIAL_WARRANT, authority_reference_commitment=given.commitment)
    with pytest.raises(InvalidInput) as e:
        Disclosed.parse(made, scene.disclosures(scene.QUERY, scene.CASE_NUMBER, given))
    assert e.value.reason == "BAD_DISCLOSURE"


def test_values_that_fit_are_taken_in_any_order_and_never_shown_by_repr() -> None:
    made = scene.inquiry(authority=Authority.COURT_ORDER, authority_reference_commitment=scene.REFERENCE.commitment)
    found = Disclosed.parse(made, [R, C, Q])
    wanted = (PlateQuery(plate=scene.PLATE), scene.CASE, "W-17")
    assert (found.query, found.case_number, found.authority_reference) == wanted
    assert "7ABC123" not in repr(found)
