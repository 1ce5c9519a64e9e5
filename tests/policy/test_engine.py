"""The engine: Casbin decides, classes remember, and every doubt is a deny."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from comity.decision import Redaction
from comity.errors import InvalidInput, PolicyError
from comity.purpose import Act
from policies.conditions import FACTS, NODE_FACTS, Condition, Facts, Truth
from policies.duties import parse_duties
from policies.engine import Asked, Policy, Verdict, compiled
from policies.packs import PACKS, load_packs
from policies.seal import HEADER, seal
from tests.policy.requests import AGENCIES, NODES, WORDS, any_facts, compile_rows, facts

PACK_NAMES = sorted(p.stem for p in PACKS.glob("*.csv"))
MIXED = """
X-1.a,tag:sanctuary,police-of:us/ca,supervisor,criminal,partial,allow,case&lookback<=30,window_days<=9,own
X-1.b,us/tx,any-agency,searcher,any-purpose,any-act,allow,lookback>30,window_days<=9,own
X-2,source:police,federal,any-role,immigration,any-act,deny,unless court-order&lookback>7,-,own
X-3,node:llano-1,us-fbi,investigator,protest,exact,deny,always,-,own
X-4,us,any-agency,any-role,any-purpose,alert,limit,unless hot-list-match,redact=hit-only,own
X-5,us/ca,any-agency,any-role,any-purpose,any-act,deny,mobile-camera,-,own
"""


def asked(policy: Policy, who: str = "us-ca-chp", purpose: str = "stolen-vehicle", **true: bool) -> Asked:
    return policy.ask(who, "investigator", purpose, Act.EXACT, facts(case=True, basis_criminal=True, **true))


def policies() -> list[Policy]:
    texts = [load_packs([name]) for name in PACK_NAMES]
    texts += [load_packs(PACK_NAMES), load_packs(["us-ca", "sanctuary-city"])]
    return [Policy.compile(t, WORDS) for t in texts] + [compile_rows(MIXED), compile_rows(MIXED, "us-tx-open", "us-il")]


def test_every_remembered_answer_is_casbins_own() -> None:
    chance = random.Random(7)
    versions = policies()
    allowed = seen = 0
    for _ in range(4_000):
        policy = chance.choice(versions)
        ask = policy.ask(
            chance.choice(AGENCIES),
            chance.choice(sorted(WORDS.role.leaves)),
            chance.choice(sorted(WORDS.purpose.leaves)),
            chance.choice(list(Act)),
            any_facts(chance),
        )
        node = chance.choice(NODES)
        policy.verdict(ask, node)
        remembered, stock = policy.verdict(ask, node), policy.by_casbin(ask, node)
        assert remembered.fault == stock.fault == ""
        assert (remembered.allowed, remembered.rules) == (stock.allowed, stock.rules)
        assert remembered.obligations == stock.obligations
        allowed += stock.allowed
        seen += 1
    assert 100 < allowed < seen


def test_a_known_class_is_not_decided_again() -> None:
    policy = compile_rows("", "us-ca")
    first = policy.verdict(asked(policy), "sequoia-1")
    assert policy.verdict(asked(policy), "sequoia-1") is first
    # CHP and the sheriff stand in the same groups towards every rule of this pack: one class
    assert policy.verdict(asked(policy, who="us-ca-sequoia-so"), "sequoia-1") is first


def test_the_order_of_rows_means_nothing() -> None:
    lines = [x for x in load_packs(PACK_NAMES).splitlines() if x != HEADER and not x.startswith("#")]
    base = compiled(load_packs(PACK_NAMES), WORDS)
    for seed in range(10):
        random.Random(seed).shuffle(lines)
        assert Policy.compile(seal("\n".join([HEADER, *lines])), WORDS).digest == base.digest


def test_the_digest_names_rules_and_words_and_not_comments() -> None:
    one, other = compile_rows("", "us-ca"), compile_rows("", "us-il")
    commented = Policy.compile(seal("# reviewed\n" + load_packs(["us-ca"])), WORDS)
    assert commented.digest == one.digest != other.digest


def test_nodes_with_the_same_packs_share_one_version() -> None:
    assert compiled(load_packs(["us-ca"]), WORDS) is compiled(load_packs(["us-ca"]), WORDS)


def test_default_is_deny() -> None:
    policy = compile_rows("", "ice-guidance")
    verdict = policy.verdict(asked(policy), "sequoia-1")
    assert (verdict.allowed, verdict.rules, verdict.fault) == (False, (), "")


class Evil(str):
    """Equal to every text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"who": ""}, id="an empty agency"),
        pytest.param({"who": None}, id="no agency"),
        pytest.param({"who": "police-of:us/ca"}, id="a group of agencies"),
        pytest.param({"who": "any-agency"}, id="all agencies"),
        pytest.param({"who": "us-ca-ch\u0440"}, id="a homoglyph"),
        pytest.param({"who": "US-CA-CHP"}, id="capitals"),
        pytest.param({"who": "us-ca-chp "}, id="a trailing blank"),
        pytest.param({"who": Evil("us-ca-chp")}, id="a text that equals everything"),
        pytest.param({"purpose": "criminal"}, id="a parent purpose"),
        pytest.param({"purpose": ["stolen-vehicle"]}, id="a list of purposes"),
        pytest.param({"role": "searcher"}, id="a group of roles"),
        pytest.param({"act": "any-act"}, id="any act"),
        pytest.param({"act": "exact"}, id="an act as text"),
        pytest.param({"facts": None}, id="no facts"),
        pytest.param({"facts": {"case": True}}, id="facts as a mapping"),
    ],
)
def test_a_request_names_registered_leaves_or_is_refused(change: dict[str, Any]) -> None:
    policy = compile_rows("", "us-ca")
    fields: dict[str, Any] = {
        "who": "us-ca-chp",
        "role": "investigator",
        "purpose": "stolen-vehicle",
        "act": Act.EXACT,
        "facts": facts(),
    }
    with pytest.raises(PolicyError) as e:
        policy.ask(**(fields | change))
    assert e.value.reason == "NOT_REGISTERED"


@pytest.mark.parametrize("node", ["", "us/ca", "any-node", "node:sequoia-1", "sequoia-9", "tag:sanctuary"])
def test_a_node_that_is_none_is_a_fault_and_no_permit(node: str) -> None:
    policy = compile_rows("", "us-ca")
    verdict = policy.verdict(asked(policy), node)
    assert not verdict.allowed
    assert verdict.fault == "the node is not registered"


@pytest.mark.parametrize(
    ("values", "lookback"),
    [
        pytest.param({"case": True}, 1, id="facts that are missing"),
        pytest.param(dict.fromkeys(FACTS, False) | {"sunny": True}, 1, id="a fact that is unknown"),
        pytest.param(dict.fromkeys(FACTS, False) | {"case": None}, 1, id="a fact of the broker's left open"),
        pytest.param(dict.fromkeys(FACTS, False) | {"case": "true"}, 1, id="a fact as text"),
        pytest.param(dict.fromkeys(FACTS, False), -1, id="a negative look-back"),
        pytest.param(dict.fromkeys(FACTS, False), True, id="a look-back that is a truth value"),
    ],
)
def test_facts_are_total(values: dict[str, Any], lookback: int) -> None:
    with pytest.raises(InvalidInput):
        Facts.parse(values, lookback)


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        facts().lookback_days = 1  # type: ignore[misc]


def test_an_exception_in_the_matcher_is_a_fault_with_an_alarm_and_not_remembered() -> None:
    heard: list[str] = []
    policy = compile_rows("", "us-ca", alarm=heard.append)
    enforcer = policy._stock._enforcer
    enforcer.add_function("holds", lambda *_: 1 / 0)
    broken = policy.verdict(asked(policy, same_state=True), "sequoia-1")
    assert (broken.allowed, broken.fault) == (False, "the policy engine failed")
    assert "ZeroDivisionError" in heard[0]
    enforcer.add_function("holds", policy._stock._holds)
    mended = policy.verdict(asked(policy, same_state=True), "sequoia-1")
    assert (mended.allowed, mended.fault) == (True, "")


def test_casbin_and_the_class_differing_is_a_fault_with_an_alarm() -> None:
    heard: list[str] = []
    policy = compile_rows("", "us-ca", alarm=heard.append)
    policy._stock._enforcer.add_function("holds", lambda *_: True)
    verdict = policy.verdict(asked(policy), "sequoia-1")
    assert (verdict.allowed, verdict.fault) == (False, "the policy engine contradicts itself")
    assert "differ" in heard[0]


def test_unknown_names_do_not_grow_casbins_role_graphs() -> None:
    policy = compile_rows("", "us-ca")
    policy.verdict(asked(policy), "sequoia-1")
    graphs = policy._stock._enforcer.rm_map.values()
    before = sum(len(g.all_roles) for g in graphs)
    for i in range(200):
        with pytest.raises(PolicyError):
            asked(policy, who=f"us-{i}")
        policy.verdict(asked(policy), f"n-{i}")
    assert sum(len(g.all_roles) for g in graphs) == before


def test_threads_get_the_answers_that_one_thread_gets() -> None:
    chance = random.Random(3)
    draws = [
        (chance.choice(AGENCIES), chance.choice(sorted(WORDS.purpose.leaves)), any_facts(chance), chance.choice(NODES))
        for _ in range(300)
    ]

    def answers(policy: Policy) -> list[tuple[bool, tuple[str, ...], str]]:
        out = []
        for who, purpose, known, node in draws:
            v: Verdict = policy.verdict(policy.ask(who, "investigator", purpose, Act.EXACT, known), node)
            out.append((v.allowed, tuple(r.row for r in v.rules), v.fault))
        return out

    expected = answers(compile_rows("", *PACK_NAMES))
    shared = compile_rows("", *PACK_NAMES)
    start = threading.Barrier(8)

    def work(_: int) -> list[tuple[bool, tuple[str, ...], str]]:
        start.wait()
        compile_rows("", "us-va")  # compiling parses, next to others deciding
        return answers(shared)

    with ThreadPoolExecutor(8) as pool:
        assert all(got == expected for got in pool.map(work, range(8)))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.engine.MAX_CLASSES", 4)
    policy = compile_rows("", *PACK_NAMES)
    for who in AGENCIES:
        for purpose in sorted(WORDS.purpose.leaves):
            policy.verdict(asked(policy, who=who, purpose=purpose), "sequoia-1")
    assert sum(len(known) for known in policy._memory.values()) <= 4


@pytest.mark.parametrize(
    ("when", "true", "lookback", "truth"),
    [
        ("always", (), 0, Truth.TRUE),
        ("case", ("case",), 0, Truth.TRUE),
        ("case", (), 0, Truth.FALSE),
        ("unless case", ("case",), 0, Truth.FALSE),
        ("unless case", (), 0, Truth.TRUE),
        ("lookback<=30", (), 30, Truth.TRUE),
        ("lookback<=30", (), 31, Truth.FALSE),
        ("lookback>30", (), 30, Truth.FALSE),
        ("lookback>30", (), 31, Truth.TRUE),
        ("case&unless mou&lookback>7", ("case",), 8, Truth.TRUE),
        ("case&unless mou&lookback>7", ("case", "mou"), 8, Truth.FALSE),
        ("hot-list-match", (), 0, Truth.LEFT),
        ("unless hot-list-match", (), 0, Truth.LEFT),
        ("case&hot-list-match", (), 0, Truth.FALSE),
        ("case&hot-list-match", ("case",), 0, Truth.LEFT),
    ],
)
def test_a_condition_holds_as_it_reads(when: str, true: tuple[str, ...], lookback: int, truth: Truth) -> None:
    known = Facts.parse({f: None if f in NODE_FACTS else f in true for f in FACTS}, lookback)
    assert Condition.parse(when).holds(known) is truth


def test_duties_read_as_written() -> None:
    duties = parse_duties("window_days<=7;redact=no-image;approval=supervisor;warrant=judicial;quota_per_day<=3")
    assert (duties.window_days, duties.redaction, duties.approval) == (7, Redaction.NO_IMAGE, True)
    assert (duties.warrant, duties.quota_per_day) == (True, 3)
    assert parse_duties("-").as_json() == parse_duties("advice").as_json() == {}
