"""One question at many policies: what is remembered is used at once only where Casbin will check it, and then is."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from bench.policy_world import Scene
from comity.decision import NO_OBLIGATIONS, Decision, Layer, Pep
from comity.purpose import Act
from policies import seat as seat_module
from policies.ahead import Ahead
from policies.decide import Decider
from policies.engine import Policy
from policies.roster import Target
from policies.ruling import Said, listed
from policies.shadow import Shadow
from policies.sheet import LEAST_KNOWN, Sheet
from policies.verdict import Verdict
from tests.policy.requests import AGENCIES, NODES, SETTING, WORDS, any_facts, compile_rows, question

ALLOW = "X-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,own"
OTHER = "X-5,any-node,us-fbi,any-role,protest,any-act,deny,always,-,own"


class Failing:
    """An engine that cannot be asked."""

    def decide(self, *_: object, **__: object) -> tuple[bool, set[str]]:
        raise RuntimeError


def prepared(most: int) -> tuple[Decider, Shadow, list[Target], list[Policy]]:
    """A decider that worked everything out in advance, and from now on cannot ask Casbin. `most` answers may wait."""
    shadow = Shadow(random.Random(5), share=0.0, most=most)
    top = compile_rows(ALLOW)
    own = [compile_rows(f"{ALLOW}\n{OTHER}".replace("X-5", f"X-{i + 5}")) for i in range(len(NODES))]
    decider = Decider(SETTING.federation, top, Pep.BROKER, lambda: "d", shadow)
    targets: list[Target] = list(zip(NODES, own, strict=True))
    Ahead(decider).work(targets, 1e9)
    for policy in (top, *own):
        policy._stock = Failing()  # type: ignore[assignment]
    return decider, shadow, targets, own


def test_known_classes_reached_by_new_columns_are_answered_at_once_and_every_one_is_checked() -> None:
    decider, shadow, targets, _ = prepared(most=1_000)
    for who, waiting in (("us-ca-chp", len(NODES) + 1), ("us-fbi", 2 * len(NODES) + 1)):
        decisions = decider.decide(question(requester_agency=who), targets)
        assert {d.reason_code for d in decisions} == {"PERMITTED"}
        # to the federation's policy, of one rule, both agencies are the same column
        assert shadow.waiting == waiting
    assert shadow.dropped == 0


def test_where_the_queue_is_full_casbin_is_asked_about_new_columns_before_they_are_answered() -> None:
    decider, shadow, targets, _ = prepared(most=3)
    decisions = decider.decide(question(), targets)
    assert sum(d.reason_code == "INDETERMINATE" for d in decisions) >= len(NODES) - 3
    assert shadow.waiting == 3
    assert shadow.dropped > 0


def test_no_version_is_answered_by_what_casbin_said_of_another() -> None:
    decider, _, targets, own = prepared(most=1_000)
    before = decider.decide(question(), targets)
    open_door = compile_rows(ALLOW.replace("X-1", "X-2"))
    open_door._stock = Failing()  # type: ignore[assignment]
    # the same bytes in every column, and the same class, of another version
    after = decider.decide(question(), [(targets[0][0], open_door), *targets[1:]])
    assert before[0].reason_code == "PERMITTED"
    assert after[0].reason_code == "INDETERMINATE"
    assert [d.reason for d in after[1:]] == [d.reason for d in before[1:]]
    assert after[0].policy_digest == open_door.digest != own[0].digest


def test_a_policy_of_both_layers_names_its_rules_in_each() -> None:
    policy = compile_rows(ALLOW)
    decider = Decider(SETTING.federation, policy, Pep.BROKER, lambda: "d")
    decisions = decider.decide(question(), [(n, policy) for n in NODES])
    for decision in decisions:
        assert [r.layer for r in decision.rules] == [Layer.FEDERATION, Layer.NODE]


def answers(questions: int) -> list[list[Decision]]:
    scene = Scene.make(60, seed=4)
    top, own = scene.policy(12), [scene.policy(9) for _ in range(20)]
    decider = scene.decider(top)
    targets = [(n, own[i % len(own)]) for i, n in enumerate(scene.federation.nodes)]
    drawn = [scene.question() for _ in range(questions)]
    return [[replace(d, decision_id="") for d in decider.decide(q, targets)] for q in drawn]


def test_policies_of_too_many_rules_for_the_bytes_of_a_class_get_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = answers(12)
    monkeypatch.setattr(seat_module, "MAX_CLASS_RULES", 9)  # the federation's has more
    assert answers(12) == expected
    monkeypatch.setattr(seat_module, "MAX_CLASS_RULES", 0)
    assert answers(12) == expected


def test_a_seat_forgets_the_older_half_and_never_holds_more_than_its_share() -> None:
    sheet, policy = Sheet(), compile_rows(ALLOW)
    place = policy.place(NODES[0])
    assert isinstance(place, int)
    seat = sheet.seat(policy, place, NODES[0])
    said = Said.of(policy.verdict(policy.ask(*_words(), any_facts(random.Random(1))), NODES[0]), Layer.NODE)
    sheet._room = LEAST_KNOWN
    for n in range(5 * LEAST_KNOWN):
        key = n.to_bytes(10, "little")
        sheet.remember(seat, key, said)
        assert seat.known[key] is said
        assert len(seat.known) + len(seat._older) <= 2 * LEAST_KNOWN
        if n > 0:
            before = (n - 1).to_bytes(10, "little")
            assert seat.known.get(before) is said or seat.older(before) is said
    assert seat.older((0).to_bytes(10, "little")) is None


def _words() -> tuple[str, str, str, Act]:
    return "us-fbi", "investigator", "protest", Act.EXACT


def test_two_parties_together_are_what_their_rules_together_say() -> None:
    chance, policy = random.Random(6), compile_rows("", "us-ca", "sanctuary-city", "ice-guidance")
    drawn = []
    for who, node in itertools.product(AGENCIES, NODES):
        asked = policy.ask(
            who, "investigator", chance.choice(sorted(WORDS.purpose.leaves)), Act.EXACT, any_facts(chance)
        )
        drawn.append(policy.verdict(asked, node))
    differing = 0
    for one, other in zip(drawn, chance.sample(drawn, len(drawn)), strict=True):
        said = Said.of(one, Layer.NODE).and_of(Said.of(other, Layer.NODE))
        rules = list(dict.fromkeys((*one.rules, *other.rules)))
        ids = list(dict.fromkeys(r.id for r in rules))
        assert [m.rule for m in said.shown] == ids
        assert said.denied is any(r.effect == "deny" for r in rules)
        assert said.denied_first is one.denied
        assert said.refuses == (0 if not one.allowed else 1 if not other.allowed else -1)
        assert said.duties == one.obligations.join(other.obligations)
        assert said.left == {r.id for v in (one, other) for r in v.left}
        assert said.cited == _cited(said, said.denied)
        differing += one is not other
    assert differing > 20


def _cited(said: Said, denied: bool) -> str:
    words = [
        f"{m.rule} ({m.basis})" if denied else m.rule for m in said.shown if m.effect == ("deny" if denied else "allow")
    ]
    return listed(words) if words else ""


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        pytest.param(["A"], ["B"], "A and B", id="one and one"),
        pytest.param(["A", "B"], ["C"], "A, B and C", id="two and one"),
        pytest.param(["A"], ["B", "C"], "A, B and C", id="one and two"),
        pytest.param(["A", "B"], [], "A and B", id="nothing in the second"),
        pytest.param([], ["A", "B"], "A and B", id="nothing in the first"),
    ],
)
def test_rules_of_two_layers_are_cited_as_one_list(first: list[str], second: list[str], both: str) -> None:
    def said(ids: list[str]) -> Said:
        rows = "\n".join(ALLOW.replace("X-1", f"X-{i}") for i in ids)
        policy = compile_rows(rows or OTHER)
        asked = policy.ask("us-ca-chp", "investigator", "stolen-vehicle", Act.EXACT, any_facts(random.Random(1)))
        return Said.of(policy.verdict(asked, NODES[0]), Layer.NODE)

    assert said(first).cited_with(said(second)).replace("X-", "") == both


def test_answers_to_one_request_wait_together_and_are_checked_one_by_one() -> None:
    shadow, policy = Shadow(random.Random(5), share=0.0, most=10), compile_rows(ALLOW)
    asked = policy.ask(*_words(), any_facts(random.Random(1)))
    true = policy.verdict(asked, NODES[0])
    wrong = Verdict(allowed=False, obligations=NO_OBLIGATIONS)
    shadow.all_doubted(asked.wanted, [policy] * 3, list(NODES[:3]), [true] * 3)
    shadow.all_doubted(asked.wanted, [], [], [])
    assert (shadow.waiting, shadow.room) == (3, 7)
    assert shadow.check(2) == 0
    assert (shadow.waiting, shadow.checked) == (1, 2)
    other = compile_rows(ALLOW, alarm=lambda _: None)
    shadow.all_doubted(asked.wanted, [other], [NODES[0]], [wrong])
    assert shadow.check() == 1
    assert (shadow.waiting, shadow.checked, shadow.differed) == (0, 4, 1)
    assert policy.canonical
    assert not other.canonical
