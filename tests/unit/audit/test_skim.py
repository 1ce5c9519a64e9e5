"""A run of entries known by its bytes is told of exactly as if each had been looked at field by field."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import asked, block, skim
from audit.block import BLOCK, STRIDE, Block, Commit, Said, look
from audit.entry import MAX_ENTRY_BYTES, Stamp, clear_fields, seal
from audit.form import ENTRIES
from audit.tree import Rows, leaf_hash
from comity import jcs
from comity.commitment import AUTHORITY_REFERENCE, commit
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.inquiry import Inquiry
from comity.purpose import Act, Authority
from tests.golden.audit import samples
from tests.unit.audit.sample import MINUTE, inquiry, inquiry_draft
from tests.unit.identity.world import NOW

GOLDEN = {path.stem: path.read_bytes() for path in sorted(samples.HERE.glob("*.json"))}
del GOLDEN["commitments"], GOLDEN["sealed-part"]
PEERS: tuple[dict[str, Any], ...] = (
    {"origin": "node.example/log", "size": 12, "root": "ab" * 32},
    {"origin": "broker.example/log", "size": 12, "root": "cd" * 32, "note": samples.CHECKPOINT.decode()},
)
CITING = Stamp(at="2030-05-01T12:00:00.124Z", clock_behind_ms=0, size=12, root="ab" * 32, peers=PEERS)


def signed_once(made: Inquiry, stamp: Stamp = samples.STAMP) -> bytes:
    """The entry of an inquiry that its author alone signed, with a signature that is none."""
    signatures = samples.ENVELOPE.signatures[:1]
    envelope = Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=signatures)
    return seal(inquiry_draft(made, envelope), stamp)


REFERENCE = commit(AUTHORITY_REFERENCE, b"s" * 32, b"an order")
ASKED = {
    "of every node": signed_once(inquiry()),
    "of some": signed_once(inquiry(targets=("alder-1", "brazos-1"))),
    "with a warrant": signed_once(
        inquiry(authority=Authority.JUDICIAL_WARRANT, authority_reference_commitment=REFERENCE, act=Act.CONVOY)
    ),
    "citing": signed_once(inquiry(), CITING),
    "of a second": signed_once(inquiry(NOW.replace(microsecond=0))),
}
ENTRIES_KNOWN = (
    GOLDEN
    | {f"{n}, citing": seal(samples.DRAFTS[n], CITING) for n in ("decision", "outcome", "receipt", "inquiry")}
    | {f"inquiry {n}": entry for n, entry in ASKED.items()}
)
AT_ONCE = [n for n in ENTRIES_KNOWN if n.partition("-")[0].partition(",")[0] in ("decision", "outcome", "receipt")]
MUTATIONS = (
    *(b'"', b"\\", b"\\u0041", b"\n", b"\x7f", b"\xc3\xa9", b",", b"{", b"}", b"[", b"]", b"0", b"1", b"9", b"00"),
    *(b"a", b"-", b" ", b"=", b"+", b":", b"A", b"g", b"null", b"\xff", b"\0"),
)


def found(entries: Sequence[bytes]) -> Block:
    """What is found in a run of those, each with the hash that is its own."""
    rows = [(i, leaf_hash(entry), entry) for i, entry in enumerate(entries)]
    return look(lambda first, stop: rows[first:stop], 0, len(rows))


@contextmanager
def field_by_field() -> Iterator[None]:
    """Within it no entry is known by its bytes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(block, "skim", lambda *_: False)
        patched.setattr(asked, "inquiry", lambda _: None)
        patched.setattr(block, "LOOKS", {})
        patched.setattr(block, "UNTOLD", ("", None, lambda _: None))
        yield


def same(entries: Sequence[bytes]) -> Block:
    quick = found(entries)
    with field_by_field():
        assert found(entries) == quick
    return quick


@pytest.mark.parametrize("name", AT_ONCE)
def test_decisions_outcomes_and_receipts_as_programs_write_them_are_known_without_a_look_at_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = same([ENTRIES_KNOWN[name]] * 3)
    assert (quick.count, quick.fault) == (3, None)
    assert [type(e) for e in quick.events] == [Commit] + [Said] * ("receipt" not in name)
    monkeypatch.setattr(block._Looking, "single", None)
    assert found([ENTRIES_KNOWN[name]] * 3) == quick


@pytest.mark.parametrize("entry", ASKED.values(), ids=ASKED)
def test_an_inquiry_that_its_author_alone_signed_is_known_by_its_bytes(entry: bytes) -> None:
    seen, value = asked.inquiry(entry), json.loads(entry)
    assert seen is not None
    at, head, inquiry_hash, inquiry_id, peers, version = (
        json.loads(b'"%b"' % s if s[0] not in b"{[" else s) for s in seen
    )
    assert (at, head, peers) == (value["at"], value["head"], value["peers"])
    assert (inquiry_hash, inquiry_id) == (value["inquiry_hash"], value["inquiry_id"])
    assert int(version) == value["directory_version"]


def test_a_run_of_all_types_is_told_of_as_field_by_field() -> None:
    every = list(ENTRIES_KNOWN.values())
    assert same([*every, *every]).fault is None


def _edited(chosen: random.Random, entry: bytes) -> bytes:
    at = chosen.randrange(len(entry))
    end = at + chosen.choice((0, 1, 1, 1, chosen.randrange(80)))
    other = chosen.choice(list(ENTRIES_KNOWN.values()))
    begin = chosen.randrange(len(other))
    piece = chosen.choice((*MUTATIONS, other[begin : begin + chosen.randrange(1, 80)], bytes([chosen.randrange(256)])))
    return entry[:at] + piece + entry[end:]


def _hold_edits(seed: int, times: int) -> None:
    chosen, names = random.Random(seed), list(ENTRIES_KNOWN)
    for _ in range(times):
        before, name, after = chosen.choice(names), chosen.choice(names), chosen.choice(names)
        edited = _edited(chosen, ENTRIES_KNOWN[name])
        same([ENTRIES_KNOWN[before], ENTRIES_KNOWN[name], edited, ENTRIES_KNOWN[after]])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_an_edited_entry_of_any_type_is_judged_at_once_as_field_by_field(seed: int) -> None:
    _hold_edits(seed, 8)


@pytest.mark.soak
def test_very_many_edited_entries_are_judged_at_once_as_field_by_field() -> None:
    _hold_edits(seed=20_330, times=60_000)


@pytest.mark.soak
@pytest.mark.parametrize("name", ENTRIES_KNOWN)
def test_every_byte_of_an_entry_replaced_is_judged_at_once_as_field_by_field(name: str) -> None:
    entry, chosen = ENTRIES_KNOWN[name], random.Random(name)
    for at in range(len(entry)):
        for piece in (b"", *chosen.sample(MUTATIONS, 4), bytes([entry[at] ^ 1]), bytes([entry[at] ^ 32])):
            same([entry, entry[:at] + piece + entry[at + 1 :]])


def _with_payload(entry: bytes, payload: bytes) -> bytes:
    value = orjson.loads(entry)
    value["envelope"]["payload"] = base64.b64encode(payload).decode()
    value["inquiry_hash"] = hashlib.sha256(payload).hexdigest()
    return jcs.encode(value)


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(list(ASKED)), seed=st.integers(0, 2**32))
def test_an_edited_payload_is_judged_at_once_as_field_by_field(name: str, seed: int) -> None:
    chosen, entry = random.Random(seed), ASKED[name]
    payload = base64.b64decode(orjson.loads(entry)["envelope"]["payload"])
    for _ in range(8):
        at = chosen.randrange(len(payload))
        begin = chosen.randrange(len(payload))
        some = payload[begin : begin + chosen.randrange(1, 50)]
        piece = chosen.choice((b"", some, bytes([chosen.randrange(256)]), b"\x82\x01\x00", bytes([payload[at] ^ 1])))
        same([_with_payload(entry, payload[:at] + piece + payload[at + chosen.randrange(2) :])])


SHOWN: dict[str, dict[str, Any]] = {
    "another purpose": {"purpose": {"code": "x", "legal_basis": "criminal", "offence": ""}},
    "a purpose that is none": {"purpose": {"code": "stolen-vehicle", "legal_basis": "criminal", "offence": "Theft!"}},
    "another person": {"requester": {"agency": "us-ca-alder-pd", "person": "x", "role": "investigator"}},
    "another count of targets": {"targets": 3},
    "a later window": {"window": {"begin": "2030-04-01T12:00:00.000Z", "end": "2030-05-01T12:00:00.001Z"}},
    "another act": {"act": "alert"},
    "another authority": {"authority": "court-order"},
    "an approver": {"approvers": ["spiffe://us-ca-alder-pd/person/s-okafor"]},
    "another id": {"inquiry_id": "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a99"},
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_an_inquiry_that_shows_other_than_was_signed_is_refused_at_once_too(shown: dict[str, Any]) -> None:
    fault = same([jcs.encode(orjson.loads(ASKED["of every node"]) | shown)]).fault
    assert fault is not None
    assert fault[2] in ("FIELD_DIFFERS", "BAD_FORM")


INVALID: dict[str, dict[str, Any]] = {
    "a window that is empty": {"begin": NOW, "end": NOW},
    "a window that ends too late": {"end": NOW + 2 * MINUTE},
    "a life that is too long": {"expires_at": NOW + 1441 * MINUTE},
    "a life that is over": {"expires_at": NOW},
    "a nonce that is too short": {"nonce": b"n" * 15},
    "a target twice": {"targets": ("alder-1", "alder-1")},
    "a target that is no id": {"targets": ("Alder",)},
    "a warrant without its reference": {"authority": Authority.COURT_ORDER},
    "a reference without a warrant": {"authority_reference_commitment": REFERENCE},
    "an id that is no UUID of version 7": {"inquiry_id": "01bb4754-0200-4800-aa0e-1b509ca7a0ac"},
    "an agency that begins with a hyphen": {"requester": "spiffe://-alder/person/x"},
}


@pytest.mark.parametrize("changes", INVALID.values(), ids=INVALID)
def test_a_signed_payload_that_is_no_valid_inquiry_is_refused_at_once_too(changes: dict[str, Any]) -> None:
    made = inquiry(**changes)
    good = orjson.loads(ASKED["of every node"])
    shown = {**clear_fields(made), "targets": len(made.targets)}
    shown["requester"] = shown["requester"] | {"role": "investigator"}
    fault = same([_with_payload(jcs.encode(good | shown), made.encode())]).fault
    assert fault is not None
    assert fault[2] in ("BAD_INQUIRY", "BAD_FORM")


@pytest.mark.parametrize("ends", [59_999, 60_000, 60_001])
@pytest.mark.parametrize("lives", [1, 86_400_000, 86_400_001])
def test_the_limits_of_window_and_life_are_the_same_to_the_millisecond(ends: int, lives: int) -> None:
    ms = MINUTE / 60_000
    same([signed_any(end=NOW + ends * ms, expires_at=NOW + lives * ms)])


def signed_any(**changes: Any) -> bytes:
    made = inquiry(**changes)
    value = orjson.loads(ASKED["of every node"]) | clear_fields(made)
    value["requester"]["role"] = "investigator"
    return _with_payload(jcs.encode(value), made.encode())


@pytest.mark.parametrize("kind", ["decision", "outcome", "receipt"])
def test_an_entry_without_one_of_its_fields_or_with_one_more_is_not_known_at_once(kind: str) -> None:
    value = json.loads(GOLDEN[kind])
    assert set(value) == set(ENTRIES[kind].required)
    for name in value:
        less = jcs.encode({k: v for k, v in value.items() if k != name})
        more = jcs.encode(value | {name + "x": value[name]})
        for entry in (less, more):
            fault = same([GOLDEN[kind], entry]).fault
            assert fault is not None, name
            assert fault[0] == 1


@pytest.mark.parametrize("kind", ["decision", "outcome", "receipt"])
def test_two_entries_in_the_place_of_one_are_refused(kind: str) -> None:
    entry = GOLDEN[kind]
    assert skim.lines([entry + b"\n" + entry]) is None
    fault = same([entry, entry + b"\n" + entry, entry]).fault
    assert fault is not None
    assert (fault[0], fault[2]) == (1, "NOT_CANONICAL")
    half = len(entry) // 2
    fault = same([entry[:half] + b"\n" + entry[half:], entry]).fault
    assert fault is not None
    assert (fault[0], fault[2]) == (0, "NOT_CANONICAL")


def test_what_is_passed_over_cannot_hide_other_entries() -> None:
    """Three lines in one entry, two entries that are rubbish, and a sound one that the pattern could take with them."""
    sound, begun = GOLDEN["decision"], GOLDEN["decision"].partition(b'"obligations"')[0]
    entries = [sound + b"\n" + sound + b"\n" + sound, begun, b"rubbish", GOLDEN["outcome"]]
    assert len(skim._LINES(b"\n".join((*entries, b"")))) == len(entries)
    fault = same(entries).fault
    assert fault is not None
    assert (fault[0], fault[2]) == (0, "NOT_CANONICAL")


VALUE = re.compile(rb':"?([^",{}\[\]]*)"?[,}\]]')


@pytest.mark.parametrize("name", ["decision, citing", "outcome", "receipt", "inquiry citing"])
def test_a_stray_byte_in_any_value_is_judged_at_once_as_field_by_field(name: str) -> None:
    entry = ENTRIES_KNOWN[name]
    values = list(VALUE.finditer(entry))
    assert len(values) > 10
    for value in values:
        middle = sum(value.span(1)) // 2
        for piece in MUTATIONS:
            same([entry, entry[:middle] + piece + entry[middle:]])
            same([entry, entry[:middle] + piece + entry[middle + len(piece) :]])


def test_an_entry_that_is_too_large_is_refused_at_once_too() -> None:
    value = json.loads(GOLDEN["decision"])
    note = "n" * 20_000
    value["peers"] = [{"origin": "o", "size": 1, "root": "ab" * 32, "note": note}] * 4
    fault = same([jcs.encode(value)]).fault
    assert len(jcs.encode(value)) > MAX_ENTRY_BYTES
    assert fault is not None
    assert fault[2] == "TOO_LARGE"


def test_a_receipt_whose_checkpoint_does_not_cover_it_is_refused_at_once_too() -> None:
    value = json.loads(GOLDEN["receipt"])
    for changed in ({"index": 12}, {"origin": "another.example/log"}):
        fault = same([GOLDEN["receipt"], jcs.encode(value | changed)]).fault
        assert fault is not None
        assert (fault[0], fault[2]) == (1, "BAD_RECEIPT")


CUT_IN_MANY_WAYS = {
    "digits without an end": GOLDEN["decision"].partition(b'"size":')[0] + b'"size":' + b"1" * 59_000,
    "digits before what is passed over": re.sub(rb'"size":[0-9]+', b'"size":' + b"1" * 59_000, GOLDEN["outcome"]),
    "a count without an end": GOLDEN["outcome"].partition(b'"count":')[0] + b'"count":' + b"1" * 59_000,
    "a note without an end": GOLDEN["receipt"].partition(b"\\n")[0] + b"1" * 59_000,
    "a list without an end": GOLDEN["decision"].partition(b'"peers":')[0] + b'"peers":[' + b"1" * 59_000,
}


@pytest.mark.parametrize("entry", CUT_IN_MANY_WAYS.values(), ids=CUT_IN_MANY_WAYS)
def test_entries_made_to_be_cut_in_very_many_ways_are_refused_and_not_all_ways_tried(entry: bytes) -> None:
    fault = same([entry] * STRIDE).fault
    assert fault is not None
    assert (fault[0], fault[2]) == (0, "NOT_CANONICAL")


@pytest.mark.parametrize("length", [1, 60_000])
def test_of_pieces_however_long_no_more_is_kept_than_a_few_megabytes(length: int) -> None:
    pieces = skim.Known(bytes)
    for piece in (b"%d".rjust(length) % i for i in range(20_000 if length == 1 else 300)):
        assert pieces[piece] == piece
    assert 1 <= len(pieces) <= 16_000
    assert sum(map(len, pieces)) <= 8_000_000


def test_an_odd_entry_does_not_hide_a_change_of_time_before_or_after_it() -> None:
    decision = GOLDEN["decision"]
    later = decision.replace(b"00.123Z", b"00.124Z")
    same([decision, GOLDEN["start"], decision, later, GOLDEN["start"], decision, later, decision])


def test_a_fault_behind_many_strides_tells_what_stood_before_it() -> None:
    entry = GOLDEN["decision"]
    rows: list[tuple[int, object, object]] = [(i, leaf_hash(entry), entry) for i in range(2 * STRIDE + 9)]
    at = 2 * STRIDE + 3
    rows[at] = (at, leaf_hash(entry), entry.replace(b"alder-1", b"alder-2"))
    there = look(lambda first, stop: rows[first:stop], 0, len(rows))
    assert (there.count, there.fault and (there.fault[0], there.fault[2])) == (at, (at, "WRONG_HASH"))
    assert there.edge == list(Rows([leaf_hash(entry)] * at).edge(at))
    assert BLOCK.bit_count() == 1
    assert BLOCK % STRIDE == 0


@pytest.mark.parametrize("at", [0, STRIDE - 1, STRIDE, 2 * STRIDE + 3, 3 * STRIDE])
def test_no_more_than_a_stride_is_read_at_once_wherever_a_fault_is_and_what_stood_before_it_is_told(at: int) -> None:
    entry, widths = GOLDEN["start"], list[int]()
    rows: list[tuple[int, object, object]] = [(i, leaf_hash(entry), entry) for i in range(3 * STRIDE + 9)]
    del rows[at]

    def read(first: int, stop: int) -> list[tuple[int, object, object]]:
        widths.append(stop - first)
        return [row for row in rows if first <= row[0] < stop]

    there = look(read, 0, 3 * STRIDE + 9)
    assert (there.count, there.fault and (there.fault[0], there.fault[2])) == (at, (at, "MISSING"))
    assert max(widths) == STRIDE


ODD: dict[str, tuple[object, object]] = {
    "a hash that is text": ("x" * 32, GOLDEN["decision"]),
    "an entry that is text": (leaf_hash(GOLDEN["decision"]), GOLDEN["decision"].decode()),
    "no entry": (leaf_hash(b""), None),
    "an empty entry": (leaf_hash(b""), b""),
}


@pytest.mark.parametrize(("stored", "entry"), ODD.values(), ids=ODD)
def test_a_row_that_the_log_never_wrote_is_refused(stored: object, entry: object) -> None:
    rows: list[tuple[int, object, object]] = [(0, leaf_hash(GOLDEN["start"]), GOLDEN["start"]), (1, stored, entry)]
    quick = look(lambda first, stop: rows[first:stop], 0, 2)
    with field_by_field():
        assert look(lambda first, stop: rows[first:stop], 0, 2) == quick
    assert quick.fault is not None
    assert quick.fault[0] == 1


@pytest.mark.parametrize("indexes", [(0, 2), (1, 2), (0, 0)], ids=["a gap", "a later beginning", "one twice"])
def test_rows_that_are_not_in_their_places_are_refused(indexes: tuple[int, int]) -> None:
    rows: list[tuple[int, object, object]] = [(i, leaf_hash(GOLDEN["start"]), GOLDEN["start"]) for i in indexes]
    fault = look(lambda first, stop: rows[first:stop], 0, 2).fault
    assert fault is not None
    assert fault[2] == "MISSING"
