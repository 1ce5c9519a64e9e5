"""A version takes another's place under load, remembered answers are checked, and doubt falls back to Casbin."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from comity.decision import Pep
from comity.errors import PolicyError
from comity.purpose import Act
from policies.decide import Decider
from policies.enforcer import CollectingEffector, model_text
from policies.engine import Asked, Policy
from policies.packs import load_packs
from policies.seal import HEADER, seal
from policies.shadow import Shadow
from tests.policy.requests import AGENCIES, NODES, SETTING, WORDS, any_facts, compile_rows, facts, question

ALLOW = "X-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,own"
DENY = ALLOW + "\nX-2,any-node,police,any-role,any-purpose,any-act,deny,always,-,own"


def ask(policy: Policy, who: str = "us-ca-chp", purpose: str = "stolen-vehicle") -> Asked:
    return policy.ask(who, "investigator", purpose, Act.EXACT, facts(case=True))


def test_a_denied_request_is_never_allowed_while_versions_change_under_eight_threads() -> None:
    """Raw Casbin allowed 8 of 13,598 denied requests while its policy was read anew."""
    current = [compile_rows(DENY)]
    stop = threading.Event()
    decide = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d").decide

    def work(seed: int) -> int:
        chance, done = random.Random(seed), 0
        while not stop.is_set() or not done:
            q = question(requester_agency=chance.choice(["us-ca-chp", "us-fbi", "us-tx-llano-pd"]))
            decisions = decide(q, [(n, current[0]) for n in NODES])
            assert not any(d.permitted for d in decisions)
            assert all(d.reason_code == "DENIED_BY_RULE" for d in decisions)
            done += len(decisions)
        return done

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(work, seed) for seed in range(8)]
        for i in range(40):
            new = compile_rows(DENY + f"\nX-4,any-node,us-fbi,any-role,protest,any-act,deny,lookback>{i},-,own")
            new.warm(current[0])
            current[0] = new
        stop.set()
        assert sum(r.result() for r in running) > 8 * len(NODES)


def test_the_busiest_classes_of_the_old_version_are_known_to_the_new_one_before_it_is_asked() -> None:
    old, new = compile_rows("", "us-ca"), compile_rows("", "us-ca", "sanctuary-city")
    wanted = [ask(old, purpose=p).wanted for p in ("stolen-vehicle", "immigration-civil")]
    for w in wanted:
        for node in NODES:
            old.verdict(old.asked(w), node)
    assert new.warm(old) >= 2

    def decided_again(*_: object) -> bool:
        raise AssertionError("the class was not known")

    # whatever Casbin is asked now becomes a fault
    new._stock._enforcer.add_function("holds", decided_again)
    assert all(not new.verdict(new.asked(w), n).fault for w in wanted for n in NODES)


def test_warming_stops_at_its_limit_and_passes_over_words_that_are_gone() -> None:
    old, new = compile_rows("", "us-ca"), compile_rows("", "us-ca")
    for who in AGENCIES:
        old.verdict(ask(old, who), "sequoia-1")
    assert new.warm(old, most=2) == 2
    ask(old).seen.wanted.who = "no-such-agency"
    assert compile_rows("", "us-ca").warm(old) < len(AGENCIES)


def test_of_remembered_answers_the_share_that_was_asked_for_is_drawn_and_checked() -> None:
    shadow = Shadow(random.Random(5), share=0.01, most=10_000)
    policy = compile_rows(ALLOW)
    one = ask(policy)
    verdict = policy.verdict(one, "sequoia-1")
    for _ in range(200):
        drawn = shadow.drawn(100)
        assert drawn == sorted(set(drawn) & set(range(100)))
        for _ in drawn:
            shadow.doubted(policy, one.wanted, "sequoia-1", verdict)
    assert 150 < shadow.waiting < 250
    assert shadow.check(50) == 0
    assert shadow.checked == 50


@pytest.mark.parametrize(("share", "drawn"), [(0.0, []), (1.0, [0, 1, 2])], ids=["none", "every one"])
def test_the_least_and_the_greatest_share(share: float, drawn: list[int]) -> None:
    assert Shadow(random.Random(5), share=share).drawn(3) == drawn


def test_a_decider_has_new_answers_checked_once_and_draws_of_what_it_remembers() -> None:
    shadow = Shadow(random.Random(5), share=0.0)
    policy = compile_rows(ALLOW + "\n" + ALLOW.replace("X-1", "X-9"))
    decider = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d", shadow)
    for waiting in (2, 2):  # of each layer one, at first
        decider.decide(question(), [("sequoia-1", policy)])
        assert shadow.waiting == waiting
    assert shadow.check() == 0
    every = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d", Shadow(random.Random(5), 1.0))
    assert every.shadow is not None
    for waiting in (2, 4):  # what was new is not drawn as well
        every.decide(question(), [("sequoia-1", policy)])
        assert every.shadow.waiting == waiting


def test_too_many_answers_drawn_are_counted_as_dropped() -> None:
    shadow = Shadow(random.Random(5), share=1.0, most=1)
    policy = compile_rows(ALLOW)
    verdict = policy.verdict(ask(policy), "sequoia-1")
    kept = [shadow.doubted(policy, ask(policy).wanted, "sequoia-1", verdict) for _ in range(3)]
    assert kept == [True, False, False]
    assert (shadow.waiting, shadow.dropped) == (1, 2)


def test_a_remembered_answer_that_casbin_contradicts_ends_all_remembering() -> None:
    heard: list[str] = []
    policy = compile_rows("", "us-ca", alarm=heard.append)
    one = policy.ask("us-ca-chp", "investigator", "stolen-vehicle", Act.EXACT, facts(case=True, same_state=True))
    before = policy.verdict(one, "sequoia-1")
    assert before.allowed
    shadow = Shadow(random.Random(1), share=1.0)
    shadow.doubted(
        policy, one.wanted, "sequoia-1", policy.verdict(ask(policy, purpose="immigration-civil"), "sequoia-1")
    )
    assert shadow.check() == 1
    assert "differ" in heard[0]
    assert not policy.canonical
    after = policy.verdict(one, "sequoia-1")
    assert (after.allowed, after.rules) == (before.allowed, before.rules)
    assert policy.verdict(one, "sequoia-1") is not after


def test_a_rule_that_the_masks_leave_out_is_found_by_the_check_of_the_answer() -> None:
    """Shown the class alone, Casbin cannot miss a rule that is kept from it: the check afterwards shows it all."""
    heard: list[str] = []
    shadow = Shadow(random.Random(1), share=0.0)
    policy = Policy.compile(seal(f"{HEADER}\n{DENY}\n"), WORDS, alarm=heard.append)
    policy._terms["who"]["police"] = 1  # the mask of the allow alone
    decider = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d", shadow)
    targets = [("sequoia-1", policy)]
    assert decider.decide(question(), targets)[0].permitted
    assert shadow.check() == 1
    assert "differ" in heard[0]
    assert decider.decide(question(), targets)[0].reason_code == "DENIED_BY_RULE"


def test_a_class_known_by_other_columns_is_answered_at_once_and_checked_afterwards() -> None:
    policy = compile_rows(ALLOW + "\nX-5,any-node,us-fbi,any-role,protest,any-act,deny,always,-,own")
    policy.verdict(ask(policy), "sequoia-1")
    doubted: list[str] = []
    other = ask(policy, who="us-fbi")

    def will_check(_policy: Policy, _wanted: object, node: str, _said: object) -> bool:
        doubted.append(node)
        return True

    policy._stock = _Failing()  # type: ignore[assignment]  # not needed for this answer
    assert policy.verdict_at(other, policy.place("sequoia-1") or 0, "sequoia-1", will_check).allowed
    assert doubted == ["sequoia-1"]


def test_an_unseen_class_is_decided_by_casbin_among_its_own_rules_where_the_answer_will_be_checked() -> None:
    policy = compile_rows(ALLOW + "\nX-5,any-node,us-fbi,any-role,protest,any-act,deny,always,-,own")
    shown: list[list[str]] = []

    class Watched(CollectingEffector):
        def final_effect(self, effects: set[int]) -> int:
            shown.append([row[0] for row in policy._stock._stated.policy])
            return super().final_effect(effects)

    policy._stock._enforcer.set_effector(Watched())
    place = policy.place("sequoia-1") or 0
    assert policy.verdict_at(ask(policy), place, "sequoia-1", lambda *_: True).allowed
    assert policy.verdict_at(ask(policy, who="us-fbi", purpose="protest"), place, "sequoia-1").denied
    assert shown == [["X-1"], ["X-1", "X-5"]]


@pytest.mark.parametrize("checker", [None, lambda *_: False], ids=["nobody checks", "the queue is full"])
def test_where_nobody_checks_afterwards_casbin_decides_new_columns_first(checker: Callable[..., bool] | None) -> None:
    policy = compile_rows(ALLOW + "\nX-5,any-node,us-fbi,any-role,protest,any-act,deny,always,-,own")
    policy.verdict(ask(policy), "sequoia-1")
    other = ask(policy, who="us-fbi")
    policy._stock = _Failing()  # type: ignore[assignment]
    verdict = policy.verdict_at(other, policy.place("sequoia-1") or 0, "sequoia-1", checker)
    assert verdict.fault
    assert not verdict.allowed


def test_nodes_that_were_put_together_by_masks_are_asked_apart_once_the_masks_are_in_doubt() -> None:
    heard: list[str] = []
    policy = Policy.compile(seal(f"{HEADER}\n{ALLOW}\n"), WORDS, alarm=heard.append)
    decider = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d")
    q, targets = question(requester_agency="us-fbi"), [(n, policy) for n in NODES]
    decider.decide(q, targets)
    decider.decide(q, targets)
    policy.canonical = False  # as `check_again` leaves it
    policy._stock = _Failing()  # type: ignore[assignment]
    decisions = decider.decide(q, targets)
    assert {d.reason_code for d in decisions} == {"INDETERMINATE"}
    assert len(heard) == len(NODES)


class _Failing:
    def decide(self, *_: object) -> tuple[bool, frozenset[str]]:
        raise RuntimeError


def test_another_model_is_decided_by_casbin_at_every_node_and_has_another_digest() -> None:
    allow_wins = model_text().replace("e = some(where (p.eft == allow)) && !some(where (p.eft == deny))", EFFECT)
    text = load_packs(["us-ca"])
    own, shipped = Policy.compile(text, WORDS, model=allow_wins), Policy.compile(text, WORDS)
    assert own.digest != shipped.digest
    assert (own.canonical, shipped.canonical) == (False, True)
    chance = random.Random(3)
    for _ in range(100):
        who, known, node = chance.choice(AGENCIES), any_facts(chance), chance.choice(NODES)
        one = own.ask(who, "investigator", "stolen-vehicle", Act.EXACT, known)
        other = shipped.ask(who, "investigator", "stolen-vehicle", Act.EXACT, known)
        a, b = own.verdict(one, node), shipped.verdict(other, node)
        assert (a.allowed, a.rules) == (b.allowed, b.rules)
        assert set(b.left) <= set(a.left)
        assert own.verdict(one, node) is not a


EFFECT = "e = some(where (p.eft == allow)) && !some(where (p.eft == deny))\n# an agency's own copy"


@pytest.mark.parametrize("cut", range(20, 400, 60))
def test_a_half_written_text_never_takes_a_version_s_place(cut: int) -> None:
    whole = seal(f"{HEADER}\n{DENY}\n")
    with pytest.raises(PolicyError):
        Policy.compile(whole[: min(cut, len(whole) - 1)], WORDS)
