"""Laws of the core: obligations, tallies, plates, canonical bytes, and one answer a node whatever happens."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.dispatch import Dispatch
from broker.links import Link, Links
from broker.model import Answer, Lost, Receipt, is_permit
from comity import instants, jcs
from comity.decision import Obligations, Redaction
from comity.errors import InvalidInput
from comity.inquiry import Inquiry
from comity.outcome import Coverage, Outcome, OutcomeKind, Tally
from comity.plate import MAX_PLATE_CHARACTERS, Plate, skeleton
from tests.fakes import FakeWire
from tests.unit.broker import scene as at_broker
from tests.unit.comity import scene

DAYS = st.none() | st.integers(0, 5)
DUTIES = st.builds(
    Obligations,
    window_days=DAYS,
    redaction=st.sampled_from(Redaction),
    approval=st.booleans(),
    warrant=st.booleans(),
    quota_per_day=DAYS,
)
COUNTED = st.lists(st.tuples(st.sampled_from(OutcomeKind), st.integers(0, 3)), max_size=12)


def looser(a: int | None, b: int | None) -> bool:
    return b is not None and (a is None or a > b)


@given(DUTIES, DUTIES, DUTIES)
def test_joining_obligations_is_a_semilattice_with_no_obligation_at_its_bottom(
    a: Obligations, b: Obligations, c: Obligations
) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a
    assert a.join(Obligations()) == a


@given(DUTIES, DUTIES)
def test_a_join_is_never_looser_than_either(a: Obligations, b: Obligations) -> None:
    joined = a.join(b)
    for part in (a, b):
        assert not looser(joined.window_days, part.window_days)
        assert not looser(joined.quota_per_day, part.quota_per_day)
        assert joined.redaction >= part.redaction
        assert (joined.approval, joined.warrant) >= (part.approval, joined.warrant and part.warrant)


@given(COUNTED)
def test_the_counts_of_a_tally_add_up_and_completeness_is_never_claimed_too_early(
    outcomes: list[tuple[OutcomeKind, int]],
) -> None:
    tally = Tally.of(len(outcomes), outcomes)
    kinds = {kind for kind, _ in outcomes}
    assert sum(tally.counts.values()) == tally.targets == len(outcomes)
    assert tally.complete == (bool(outcomes) and kinds <= {OutcomeKind.MATCH, OutcomeKind.NO_MATCH})
    assert tally.no_record == (tally.complete and not any(n for _, n in outcomes))


@given(COUNTED, st.integers(-2, 14))
def test_a_tally_of_another_number_of_outcomes_is_refused(
    outcomes: list[tuple[OutcomeKind, int]], targets: int
) -> None:
    if targets != len(outcomes):
        with pytest.raises(InvalidInput):
            Tally.of(targets, outcomes)
    else:
        assert Tally.of(targets, outcomes).targets == targets


@given(st.text(max_size=40), st.text(max_size=10))
def test_a_plate_is_canonical_or_refused(number: str, state: str) -> None:
    try:
        read = Plate.parse(number, state)
    except InvalidInput:
        return
    assert 1 <= len(read.number) <= MAX_PLATE_CHARACTERS
    assert read.number.isascii()
    assert Plate.parse(read.number, read.state) == read
    assert skeleton(read.skeleton) == read.skeleton


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_is_byte_for_byte_that_of_another_implementation(value: object) -> None:
    assert jcs.encode(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_random_bytes_are_no_inquiry_and_no_outcome_and_are_refused_as_such(data: bytes) -> None:
    read: list[Inquiry | Outcome] = []
    for parse in (Inquiry.parse, Outcome.parse):
        with suppress(InvalidInput):  # anything else fails the test
            read.append(parse(data))
    assert read == []


@given(st.integers(0, 400), st.sampled_from(OutcomeKind))
def test_one_flipped_bit_of_an_outcome_is_refused_or_seen(bit: int, kind: OutcomeKind) -> None:
    made = scene.outcome(kind)
    data = bytearray(made.encode())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    try:
        read = Outcome.parse(bytes(data))
    except InvalidInput:
        return
    assert read != made


@given(st.integers(946_684_800_000, 4_102_444_799_999))
def test_an_instant_comes_back_from_the_wire_as_it_went(ms: int) -> None:
    at = instants.from_ms(ms)
    assert instants.from_wire(instants.to_wire(at)) == at
    assert instants.to_ms(dt.datetime.fromisoformat(instants.to_text(at))) == ms


# Dispatch: one answer a receipt, whatever arrives in whatever order

NODES = ("alder-1", "brazos-1", "cedar-1", "delta-1")
EVENTS = st.lists(
    st.tuples(st.sampled_from(["answer", "lost", "leave", "turn", "nonsense"]), st.sampled_from(NODES)), max_size=16
)


def answer(node: str) -> Answer:
    return Answer(
        node=node,
        kind=OutcomeKind.NO_MATCH,
        count=0,
        coverage=Coverage(begin=scene.NOW - scene.DAY, end=scene.NOW),
        policy_digest="",
        payload_hash=b"p" * 32,
        envelope=b"e",
    )


async def play(events: list[tuple[str, str]], absent: set[str], expires: bool) -> tuple[list[Answer], list[FakeWire]]:
    """A dispatch to every node, with these events between the turns of the loop."""
    links, wires = Links(), {n: FakeWire() for n in NODES}
    for n in NODES:
        if n not in absent:
            links.attach(Link(n, at_broker.published(n), wires[n]))
    receipts = [r for n in NODES if is_permit(r := at_broker.receipt(n))]
    dispatch = Dispatch(scene.INQUIRY_ID, links, at_broker.own())
    loop = asyncio.get_running_loop()
    known = {link.node: link for link in links}
    released: list[Answer] = []

    async def others() -> tuple[Answer, ...]:
        return ()

    async def collect() -> None:
        async for ready in dispatch.run(receipts, b"work", loop.time() + (0 if expires else 3600), others):
            assert ready
            released.extend(ready)

    happen: dict[str, Callable[[Link], object]] = {
        "answer": lambda link: link.answered(scene.INQUIRY_ID, answer(link.node)),
        "nonsense": lambda link: link.answered(scene.INQUIRY_ID, Lost(link.node, "BAD_ANSWER", "nonsense")),
        "lost": lambda link: link.lost("gone"),
        "leave": links.detach,
    }
    collecting = asyncio.ensure_future(collect())
    for what, node in events:
        if what == "turn":
            await asyncio.sleep(0)
        elif node in known:
            happen[what](known[node])
    await asyncio.sleep(0)
    if not expires:  # whoever is still out is lost in the end: with the real program at the latest when it stops
        for _ in range(3):
            for link in known.values():
                link.lost("the end")
            await asyncio.sleep(0)
    await asyncio.wait_for(collecting, 120)
    assert not dispatch.outstanding
    assert not any(link.waits_for(scene.INQUIRY_ID) for link in links)
    return released, list(wires.values())


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.sets(st.sampled_from(NODES)), st.booleans())
def test_every_node_has_exactly_one_answer_whatever_arrives_when(
    events: list[tuple[str, str]], absent: set[str], expires: bool
) -> None:
    released, wires = asyncio.run(play(events, absent, expires))
    assert Counter(a.node for a in released) == Counter(NODES)
    assert all(a.kind is OutcomeKind.ERROR for a in released if a.node in absent)
    assert all(len(w.work) <= 1 and len(w.cancelled) <= 1 for w in wires)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(NODES)))
def test_a_search_given_up_tells_every_node_that_has_not_answered_and_no_other(answered: set[str]) -> None:
    async def run() -> None:
        links, wires = Links(), {n: FakeWire() for n in NODES}
        for n in NODES:
            links.attach(Link(n, at_broker.published(n), wires[n]))
        receipts: list[Receipt[at_broker.Permit]] = [r for n in NODES if is_permit(r := at_broker.receipt(n))]
        dispatch = Dispatch(scene.INQUIRY_ID, links, at_broker.own())
        loop = asyncio.get_running_loop()

        async def others() -> tuple[Answer, ...]:
            return (answer("echo-1"),)

        run = dispatch.run(receipts, b"work", loop.time() + 3600, others)
        assert [a.node for a in await anext(run)] == ["echo-1"]
        for n in answered:
            link = links.get(n)
            assert link is not None
            link.answered(scene.INQUIRY_ID, answer(n))
        if answered:
            assert {a.node for a in await anext(run)} == answered
        await run.aclose()
        dispatch.cancel()
        assert {n for n, w in wires.items() if w.cancelled == [scene.INQUIRY_ID]} == set(NODES) - answered
        assert not dispatch.outstanding

    asyncio.run(run())


def test_a_permit_is_the_only_ruling_that_may_be_dispatched() -> None:
    assert not is_permit(at_broker.receipt("alder-1", at_broker.Deny))
    assert not is_permit(at_broker.receipt("alder-1", at_broker.Awaiting))
