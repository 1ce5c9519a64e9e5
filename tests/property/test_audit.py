"""Laws of the log's tree, its canonical form, its notes and its order, over whatever hypothesis thinks of."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import tempfile
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import form
from audit.log import DecisionLog
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.tree import Tree
from audit.verify import verify
from comity import jcs
from comity.errors import LogFault
from tests.golden.audit.samples import KEY, entries
from tests.unit.audit.sample import ORIGIN, START, HandClock

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=70)
VKEY = VerifierKey.of(ORIGIN, KEY.public_key())
KEYS = st.text(st.characters(max_codepoint=127), max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-jcs.MAX_INTEGER, jcs.MAX_INTEGER) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@given(HASHES)
def test_the_root_is_that_of_the_recursive_definition(leaves: list[bytes]) -> None:
    tree = Tree()
    for i, leaf in enumerate(leaves):
        assert tree.root() == naive_root(leaves[:i])
        tree.append(leaf)
    assert (tree.size, tree.root()) == (len(leaves), naive_root(leaves))


@given(VALUES)
def test_canonical_bytes_are_those_of_the_reference_implementation(value: Any) -> None:
    data = jcs.encode(value)
    assert data == rfc8785.dumps(value)
    assert orjson.loads(data) == value


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_survives_its_note(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)
    assert verify_checkpoint(checkpoint.sign(KEY), VKEY) == checkpoint


@given(st.data())
def test_no_altered_note_verifies(data: st.DataObject) -> None:
    note = bytearray(Checkpoint(origin=ORIGIN, size=5, root=b"r" * 32).sign(KEY))
    position = data.draw(st.integers(0, len(note) - 1))
    note[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LogFault):
        verify_checkpoint(bytes(note), VKEY)


@given(st.binary(max_size=300))
def test_whatever_bytes_come_as_a_note_end_in_a_fault(note: bytes) -> None:
    with pytest.raises(LogFault):
        verify_checkpoint(note, VKEY)


@given(VALUES)
def test_whatever_value_comes_as_an_entry_has_its_first_fault_named(value: Any) -> None:
    fault = form.entry_fault(value)
    assert fault is not None
    assert fault.isprintable()


@given(st.sampled_from(sorted(entries())), st.data())
def test_an_entry_with_any_one_field_replaced_by_rubbish_is_out_of_form(name: str, data: st.DataObject) -> None:
    value = orjson.loads(entries()[name])
    field = data.draw(st.sampled_from(sorted(value)))
    value[field] = data.draw(st.sampled_from([1.5, -1, "\x1b[2J", [[]], {"a": None}, 2**60]))
    assert form.entry_fault(value) is not None


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-5_000, 5_000)), max_size=12), st.integers(0, 12))
def test_however_entries_come_and_the_clock_jumps_the_log_verifies_and_opens(
    calls: list[tuple[int, int]], restart: int
) -> None:
    clock = HandClock()

    async def write(log: DecisionLog, part: list[tuple[int, int]]) -> None:
        with log:
            for count, jump in part:
                clock.at += dt.timedelta(milliseconds=jump)
                await log.append([START] * count)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write(DecisionLog.create(folder, origin=ORIGIN, clock=clock), calls[:restart]))
        asyncio.run(write(DecisionLog.open(folder, clock=clock), calls[restart:]))
        report = verify(folder)
    assert (report.fault, report.entries) == (None, sum(count for count, _ in calls))
