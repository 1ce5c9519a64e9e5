"""Many policies matched at once: the same sets of rules as each of them names alone, whoever sits beside it."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest

from bench.policy_world import Scene
from comity.decision import Decision
from comity.purpose import Act
from policies.engine import Policy
from policies.packs import load_packs
from policies.seal import HEADER, seal
from policies.sheet import SEAT_BYTES, Row, Seat, Sheet
from policies.wanted import Wanted
from tests.policy.requests import AGENCIES, NODES, SETTING, WORDS, any_facts, compile_rows, decider, facts, question

POLICIES = [p for p in SETTING.node_policies.values() if p is not None]


def any_wanted(chance: random.Random) -> Wanted:
    return Wanted(
        chance.choice(AGENCIES),
        chance.choice(sorted(WORDS.role.leaves)),
        chance.choice(sorted(WORDS.purpose.leaves)),
        chance.choice(list(Act)),
        any_facts(chance),
    )


def seats(sheet: Sheet, policies: list[Policy]) -> list[Seat]:
    out = []
    for policy in policies:
        for node in NODES:
            place = policy.place(node)
            assert isinstance(place, int)
            out.append(sheet.seat(policy, place, node))
    return list(dict.fromkeys(out))


def key(seat: Seat, row: Row) -> bytes:
    return row.columns[seat.begin : seat.end]


def class_of(seat: Seat, row: Row) -> tuple[int, int]:
    """The class as a row has it: which rules match, and which are left to the node."""
    found = row.classes[seat.class_begin : seat.class_end]
    half = len(found) // 2
    return int.from_bytes(found[:half], "little"), int.from_bytes(found[half:], "little")


def test_the_bytes_at_a_seat_name_the_rules_that_its_policy_alone_finds() -> None:
    chance, sheet = random.Random(3), Sheet()
    taken = seats(sheet, POLICIES)
    seen: dict[tuple[Seat, bytes], tuple[int, ...]] = {}
    for _ in range(400):
        wanted = any_wanted(chance)
        row = sheet.row(wanted)
        for seat in taken:
            asked = seat.policy.asked(wanted)
            alone = (asked.matched & seat.place, asked.left & seat.place)
            assert seat.rules(key(seat, row)) == class_of(seat, row) == alone
            # the same bytes are the same set in every column
            assert seen.setdefault((seat, key(seat, row)), asked.key) == asked.key
    assert len(seen) > 10 * len(taken)


def test_a_seat_taken_later_changes_no_other_seat() -> None:
    chance, sheet = random.Random(5), Sheet()
    first = seats(sheet, POLICIES[:2])
    drawn = [any_wanted(chance) for _ in range(50)]
    before = [[key(s, sheet.row(w)) for s in first] for w in drawn]
    later = seats(sheet, [*POLICIES, compile_rows("", "us-il")])
    assert [[key(s, sheet.row(w)) for s in first] for w in drawn] == before
    row = sheet.row(drawn[0])
    assert len(row.columns) == len(sheet) * SEAT_BYTES
    assert all(s.rules(key(s, row)) == class_of(s, row) == _alone(s, drawn[0]) for s in later)


def test_a_condition_of_two_facts_is_judged_as_the_usage_policy_makes_it() -> None:
    """Towards a node that lists no such purpose one more fact is true, so what else the condition asks tells."""
    rows = "X-1,any-node,any-agency,any-role,any-purpose,any-act,deny,unposted-purpose&case,-,own"
    policy = Policy.compile(seal(f"{HEADER}\n{rows}\n"), WORDS, posted=frozenset())
    sheet = Sheet()
    (seat, *_) = seats(sheet, [policy])
    for known in (facts(case=True), facts()):
        wanted = Wanted("us-fbi", "investigator", "protest", Act.EXACT, known)
        row = sheet.row(wanted)
        assert seat.rules(key(seat, row)) == class_of(seat, row) == _alone(seat, wanted)


def test_a_lane_that_was_laid_before_it_is_asked_for_is_the_same() -> None:
    chance, laid, asked = random.Random(11), Sheet(), Sheet()
    first, second = seats(laid, POLICIES), seats(asked, POLICIES)
    assert all(laid.lay("who", who) for who in AGENCIES)
    for wanted in [any_wanted(chance) for _ in range(100)]:
        here, there = laid.row(wanted), asked.row(wanted)
        assert [s.rules(key(s, here)) for s in first] == [s.rules(key(s, there)) for s in second]
        assert [class_of(s, here) for s in first] == [class_of(s, there) for s in second]


def test_facts_that_were_laid_before_they_are_asked_for_are_the_same_and_are_not_laid_again() -> None:
    chance, laid, asked = random.Random(13), Sheet(), Sheet()
    unposted = [p for p in POLICIES if p.posted is None]
    first, second = seats(laid, unposted), seats(asked, unposted)
    drawn = [any_wanted(chance) for _ in range(60)]
    assert all(laid.lay_facts(w.facts) for w in drawn)
    of_facts = {key for key in laid._lanes if key[0] == "facts"}
    assert len(of_facts) > 10
    for wanted in drawn:
        here, there = laid.row(wanted), asked.row(wanted)
        assert [class_of(s, here) for s in first] == [class_of(s, there) for s in second]
        assert [s.rules(key(s, here)) for s in first] == [s.rules(key(s, there)) for s in second]
    assert {key for key in laid._lanes if key[0] == "facts"} == of_facts


def test_no_facts_are_laid_where_a_usage_policy_is_posted() -> None:
    sheet = Sheet()
    seats(sheet, [Policy.compile(load_packs(["us-ca"]), WORDS, posted=frozenset())])
    assert not sheet.lay_facts(facts())


def test_lanes_are_laid_in_advance_only_into_half_of_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet()
    taken = seats(sheet, POLICIES[:1])
    (policy,) = {s.policy for s in taken}
    of_classes = 2 * ((len(policy.rules) + 7) // 8)
    monkeypatch.setattr("policies.sheet.MAX_LANE_BYTES", 6 * len(sheet) * (SEAT_BYTES + of_classes))
    assert [sheet.lay("who", who) for who in AGENCIES[:5]] == [True, True, True, False, False]


def _alone(seat: Seat, wanted: Wanted) -> tuple[int, int]:
    asked = seat.policy.asked(wanted)
    return asked.matched & seat.place, asked.left & seat.place


@pytest.mark.parametrize("limit", ["MAX_KNOWN", "MAX_NUMBER", "MAX_LANE_BYTES"])
def test_a_full_memory_is_given_up_and_the_answers_stay(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    asked = [
        question(
            requester_agency=chance.choice(AGENCIES),
            beneficiary=chance.choice(AGENCIES),
            purpose=chance.choice(sorted(WORDS.purpose.leaves)),
        )
        for _ in range(60)
    ]
    targets = list(SETTING.node_policies.items())

    def answers() -> list[list[Decision]]:
        point = decider()
        return [[replace(d, decision_id="") for d in point.decide(q, targets)] for q in asked]

    expected = answers()
    monkeypatch.setattr(f"policies.sheet.{limit}", 1)
    assert answers() == expected


def test_a_decision_that_is_stamped_has_every_field() -> None:
    (decision,) = decider().decide(question(), [("sequoia-1", SETTING.node_policies["sequoia-1"])])
    assert replace(decision) == decision
    assert all(hasattr(decision, f.name) for f in fields(Decision))


def test_targets_in_another_order_or_with_another_policy_get_their_own_answers() -> None:
    point, q = decider(), question(requester_agency="us-fbi")
    targets = list(SETTING.node_policies.items())
    once = {d.node: (d.reason, d.policy_digest) for d in point.decide(q, targets)}
    turned = {d.node: (d.reason, d.policy_digest) for d in point.decide(q, targets[::-1])}
    assert turned == once
    other = compile_rows("X-1,any-node,federal,any-role,any-purpose,any-act,deny,always,-,own")
    changed = point.decide(q, [(node, other) for node, _ in targets])
    assert {(d.reason_code, d.policy_digest) for d in changed} == {("DENIED_BY_RULE", other.digest)}
    assert {d.node: (d.reason, d.policy_digest) for d in point.decide(q, targets)} == once


def test_one_ruling_serves_every_agency_and_names_the_one_that_asked() -> None:
    scene = Scene.make(20, seed=3)
    top, own = scene.policy(1), scene.policy(1)
    point = scene.decider(top)
    targets = [(n, own) for n in scene.federation.nodes]
    words = set()
    for agency in tuple(scene.federation.agencies)[:5]:
        q = replace(scene.question(), requester_agency=agency, beneficiary=agency, role="auditor")
        for d in point.decide(q, targets):
            assert agency in d.reason
            words.add(d.reason.replace(agency, "?"))
    assert len(words) == 1
