"""Plates, envelopes, commitments, instants, canonical JSON and decisions: what is taken and what is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from comity import commitment, instants, jcs
from comity.decision import Effect, Obligations, Redaction
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope, Signature, pae
from comity.errors import InvalidInput
from comity.plate import Plate
from comity.v1 import decision_pb2
from tests.unit.comity import scene

PLATES = {
    "as printed": ("7ABC123", "CA", "7ABC123"),
    "in small letters": ("7abc123", "ca", "7ABC123"),
    "with a blank, a hyphen and a dot": (" 7-ABC.123 ", " CA ", "7ABC123"),
    "of one character": ("7", "NV", "7"),
    "of ten": ("ABCDEFGHIJ", "NV", "ABCDEFGHIJ"),
}


@pytest.mark.parametrize(("number", "state", "read"), PLATES.values(), ids=PLATES.keys())
def test_a_plate_is_read_as_people_write_it(number: str, state: str, read: str) -> None:
    assert Plate.parse(number, state) == Plate(number=read, state=state.strip().upper())


NO_PLATES = {
    "nothing": ("", "CA", {"plate"}),
    "punctuation alone": ("-. ", "CA", {"plate"}),
    "eleven characters": ("A" * 11, "CA", {"plate"}),
    "10,000 characters": ("A" * 10_000, "CA", {"plate"}),
    "a line end": ("7ABC123\n", "CA", {"plate"}),
    "a null": ("7ABC\x00123", "CA", {"plate"}),
    "a Cyrillic A": ("7\u0410BC123", "CA", {"plate"}),
    "a full-width digit": ("\uff17ABC123", "CA", {"plate"}),
    "a wildcard": ("7ABC*", "CA", {"plate"}),
    "no state": ("7ABC123", "", {"state"}),
    "a state with a digit": ("7ABC123", "C4", {"state"}),
    "a state that only upper-cases to one": ("7ABC123", "\ufb01", {"state"}),
    "both wrong": ("", "California", {"plate", "state"}),
}


@pytest.mark.parametrize(("number", "state", "fields"), NO_PLATES.values(), ids=NO_PLATES.keys())
def test_what_is_no_plate_is_refused_by_field_and_not_repeated(number: str, state: str, fields: set[str]) -> None:
    with pytest.raises(InvalidInput) as e:
        Plate.parse(number, state)
    assert {v.field for v in e.value.violations} == fields
    assert "ABC" not in str(e.value)


def test_a_state_may_be_missing_only_where_it_may() -> None:
    assert Plate.parse("7ABC123", "", state_required=False).state == ""
    with pytest.raises(InvalidInput):
        Plate.parse("7ABC123", "?", state_required=False)


# Envelopes

GOOD = Signature(signature=b"s", chain=(b"leaf",))


def envelope(**changes: object) -> bytes:
    content: dict[str, object] = {"payload_type": INQUIRY_TYPE, "payload": b"p", "signatures": (GOOD,)}
    return Envelope(**(content | changes)).encode()  # type: ignore[arg-type]


BAD_ENVELOPES = {
    "no envelope": (b"\xff", set()),
    "another type": (envelope(payload_type=OUTCOME_TYPE), {"payload_type"}),
    "no payload": (envelope(payload=b""), {"payload"}),
    "a payload larger than allowed": (envelope(payload=b"p" * 11), {"payload"}),
    "no signature": (envelope(signatures=()), {"signatures"}),
    "five signatures": (envelope(signatures=(GOOD,) * 5), {"signatures"}),
    "an empty signature": (
        envelope(signatures=(Signature(signature=b"", chain=(b"l",)),)),
        {"signatures[0].signature"},
    ),
    "a signature of 257 bytes": (
        envelope(signatures=(GOOD, Signature(signature=b"s" * 257, chain=(b"l",)))),
        {"signatures[1].signature"},
    ),
    "no certificate": (envelope(signatures=(Signature(signature=b"s", chain=()),)), {"signatures[0].chain"}),
    "four certificates": (
        envelope(signatures=(Signature(signature=b"s", chain=(b"l",) * 4),)),
        {"signatures[0].chain"},
    ),
    "a certificate of more than 8 KiB": (
        envelope(signatures=(Signature(signature=b"s", chain=(b"l" * 8193,)),)),
        {"signatures[0].chain"},
    ),
}


@pytest.mark.parametrize(("data", "fields"), BAD_ENVELOPES.values(), ids=BAD_ENVELOPES.keys())
def test_an_envelope_out_of_bounds_is_refused(data: bytes, fields: set[str]) -> None:
    with pytest.raises(InvalidInput) as e:
        Envelope.parse(data, payload_type=INQUIRY_TYPE, max_payload_bytes=10)
    assert e.value.reason == "BAD_ENVELOPE"
    assert {v.field for v in e.value.violations} == fields


def test_an_envelope_is_read_back_and_hashed_over_its_payload_alone() -> None:
    read = Envelope.parse(envelope(), payload_type=INQUIRY_TYPE)
    assert read.encode() == envelope()
    assert read.payload_hash == hashlib.sha256(b"p").digest()


def test_what_is_signed_is_the_specification_s_own_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


# Commitments


def test_a_commitment_is_a_keyed_hash_of_label_and_value() -> None:
    made = commitment.commit(commitment.QUERY, scene.SALT, b"v")
    assert made == hmac.digest(scene.SALT, b"query\0v", hashlib.sha256)
    assert commitment.matches(made, commitment.QUERY, scene.SALT, b"v")


@pytest.mark.parametrize(
    ("label", "salt", "value"),
    [
        ("case_number", scene.SALT, b"v"),
        ("query", b"x" * 32, b"v"),
        ("query", scene.SALT, b"w"),
        ("query", b"", b"v"),
        ("plate", scene.SALT, b"v"),
    ],
    ids=["another label", "another salt", "another value", "no salt", "a label of nothing"],
)
def test_a_commitment_fits_nothing_but_what_it_was_made_of(label: str, salt: bytes, value: bytes) -> None:
    assert not commitment.matches(commitment.commit("query", scene.SALT, b"v"), label, salt, value)


@pytest.mark.parametrize(("label", "salt"), [("query", b"short"), ("plate", scene.SALT)])
def test_no_commitment_is_made_with_a_bad_salt_or_label(label: str, salt: bytes) -> None:
    with pytest.raises(ValueError, match="known label"):
        commitment.commit(label, salt, b"v")


# Instants

OUT_OF_RANGE = {
    "unset": Timestamp(),
    "the last second of 1999": Timestamp(seconds=946_684_799),
    "the first second of 2100": Timestamp(seconds=4_102_444_800),
    "negative nanoseconds": Timestamp(seconds=946_684_800, nanos=-1),
    "a whole second of nanoseconds": Timestamp(seconds=946_684_800, nanos=1_000_000_000),
}


@pytest.mark.parametrize("value", OUT_OF_RANGE.values(), ids=OUT_OF_RANGE.keys())
def test_an_instant_outside_2000_to_2100_is_none(value: Timestamp) -> None:
    assert instants.from_wire(value) is None


def test_instants_are_written_in_utc_with_three_decimals() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    assert instants.to_text(dt.datetime(2026, 1, 31, 14, 0, 0, 7_999, east)) == "2026-01-31T12:00:00.007Z"


# Canonical JSON


@pytest.mark.parametrize(
    "value",
    [1.5, 2**53, -(2**53), {"é": 1}, {1: 2}, {"a": {3}}, [b"x"], {"a": [float("nan")]}],
    ids=["a fraction", "2^53", "-2^53", "a key not ASCII", "a key no text", "a set", "bytes", "not a number"],
)
def test_what_is_outside_the_profile_of_canonical_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        jcs.encode(value)


def test_canonical_json_is_sorted_and_has_no_white_space() -> None:
    assert jcs.encode({"b": [1, None, True], "a": {"d": "ü", "c": -(2**53) + 1}}) == (
        '{"a":{"c":-9007199254740991,"d":"ü"},"b":[1,null,true]}'.encode()
    )


# Decisions

PERMITS = {
    "a permit": (Effect.PERMIT, Obligations(), False, (True, False)),
    "a permit that needs an approval": (Effect.PERMIT, Obligations(approval=True), False, (False, True)),
    "a permit with its approval": (Effect.PERMIT, Obligations(approval=True), True, (True, False)),
    "a deny": (Effect.DENY, Obligations(), False, (False, False)),
    "a deny that somebody approved": (Effect.DENY, Obligations(approval=True), True, (False, False)),
}


@pytest.mark.parametrize(("effect", "duties", "approved", "expected"), PERMITS.values(), ids=PERMITS.keys())
def test_a_node_may_be_asked_only_on_a_permit_with_the_approval_it_needs(
    effect: Effect, duties: Obligations, approved: bool, expected: tuple[bool, bool]
) -> None:
    made = scene.decision(effect=effect, obligations=duties, approved=approved)
    assert (made.permitted, made.pending) == expected


def test_a_decision_on_the_wire_says_what_binds_and_leaves_out_what_does_not() -> None:
    duties = (
        scene.decision(obligations=Obligations(redaction=Redaction.HIT_ONLY, warrant=True)).to_message().obligations
    )
    assert (duties.redaction, duties.warrant) == (decision_pb2.REDACTION_HIT_ONLY, True)
    assert not duties.HasField("window_days")
    assert not duties.HasField("quota_per_day")


def test_obligations_in_json_name_only_what_limits() -> None:
    assert Obligations().as_json() == {}
    assert Obligations(window_days=0, redaction=Redaction.NO_IMAGE, approval=True).as_json() == {
        "window_days": 0,
        "redact": "no-image",
        "approval": "supervisor",
    }
