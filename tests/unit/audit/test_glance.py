"""What is taken at a glance passes every check that the slow way makes, and says the same."""

from __future__ import annotations

import json
import random
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import form
from audit.block import decode
from audit.entry import MAX_ENTRY_BYTES, receipt_fits
from audit.glance import LOOKS, UNTOLD, Seen
from comity.errors import LogFault
from tests.golden.audit import samples

GOLDEN = {p.stem: p.read_bytes() for p in sorted(Path(samples.__file__).parent.glob("*.json"))}
JOINED = ("decision", "inquiry", "outcome", "outcome-unreachable", "receipt")


def glance(entry: bytes) -> tuple[str, Seen] | None:
    """As a block looks at one."""
    kind, match, other = LOOKS.get(entry[-12:-7], UNTOLD)
    found: Any = match(entry) if match else other(entry)
    return (kind, found.groups() if match else found) if found else None


def slow(entry: bytes) -> dict[str, Any] | None:
    try:
        value = decode(0, entry)
    except LogFault:
        return None
    if value["type"] == "receipt" and not receipt_fits(value["origin"], value["index"], value["checkpoint"].encode()):
        return None
    return value


@pytest.mark.parametrize("name", JOINED)
def test_an_entry_as_programs_write_it_is_known_at_a_glance(name: str) -> None:
    entry = GOLDEN[name]
    seen = glance(entry)
    assert seen is not None
    value = json.loads(entry)
    kind, (at, behind, head, inquiry_hash, inquiry_id, node, peers) = seen
    assert (kind, at.decode(), behind) == (value["type"], value["at"], None)
    assert (json.loads(head), json.loads(peers)) == (value["head"], value["peers"])
    if kind in ("decision", "outcome"):
        assert (inquiry_hash.decode(), inquiry_id.decode(), node.decode()) == (
            value["inquiry_hash"],
            value["inquiry_id"],
            value["node"],
        )


MUTATIONS = [
    b'"',
    b"\\",
    b"\\u0041",
    b"\n",
    b"\x7f",
    b"\xc3\xa9",
    b",",
    b"{",
    b"}",
    b"0",
    b"a",
    b"-",
    b" ",
    b"=",
    b":",
    b"A",
]


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(JOINED), seed=st.integers(0, 2**32))
def test_no_bytes_are_taken_at_a_glance_that_the_slow_way_refuses(name: str, seed: int) -> None:
    chosen, entry = random.Random(seed), GOLDEN[name]
    for _ in range(20):
        at = chosen.randrange(len(entry))
        end = at + chosen.choice((0, 1, 1, chosen.randrange(40)))
        piece = chosen.choice((*MUTATIONS, entry[end : end + chosen.randrange(1, 60)]))
        changed = entry[:at] + piece + entry[end:]
        if glance(changed) is not None and len(changed) <= MAX_ENTRY_BYTES:
            assert slow(changed) is not None, changed


def _characters(parsed: Any) -> Iterator[int]:
    """Every character that a parsed pattern can take, by construction of the standard library's own parser."""
    for operation, argument in parsed:
        name = str(operation)
        if name == "LITERAL":
            yield argument
        elif name == "IN":
            for kind, what in argument:
                assert str(kind) in ("LITERAL", "RANGE"), kind
                yield from range(what[0], what[1] + 1) if str(kind) == "RANGE" else [what]
        elif name in ("MAX_REPEAT", "POSSESSIVE_REPEAT"):
            yield from _characters(argument[2])
        elif name == "SUBPATTERN":
            yield from _characters(argument[3])
        elif name == "BRANCH":
            for branch in argument[1]:
                yield from _characters(branch)
        else:
            assert name in ("ASSERT", "ASSERT_NOT", "FAILURE", "GROUPREF"), name


def test_no_string_of_a_shape_can_hold_what_ends_or_escapes_it() -> None:
    strings = {shape for shape in form.SHAPES.values() if shape.startswith('"')}
    assert len(strings) > 20
    for shape in strings:
        within = set(map(chr, _characters(parser.parse(shape[1:-1]))))
        if shape == form.SHAPES[form.checkpoint]:
            within -= set("\\\xe2\x80\x94")  # a line's end and a dash, each only as its own whole sequence
        assert within <= set(map(chr, range(32, 127))) - set('"\\'), shape
