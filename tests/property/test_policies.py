"""What holds of every policy and every request."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from comity.decision import Decision, Effect, Obligations
from comity.errors import ComityError, PolicyError
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import FACTS
from policies.decide import Question
from policies.load import Rule, load
from policies.seal import HEADER, seal
from tests.policy.requests import AGENCIES, DAY, NODES, SETTING, WORDS, compile_rows, decider

PACKS = ("us-ca", "us-tx-open", "us-il", "us-va", "us-nh", "toll-operator")
who = st.sampled_from(sorted(WORDS.who.above))
where = st.sampled_from(sorted(WORDS.node.above))
why = st.sampled_from(sorted(WORDS.purpose.above))
role = st.sampled_from(sorted(WORDS.role.above))
act = st.sampled_from(["any-act", *(a.value for a in Act)])
term = st.sampled_from([*FACTS, "lookback<=30", "lookback>7"]) | st.sampled_from(list(FACTS)).map("unless {}".format)
when = st.just("always") | term | st.just("unless case&lookback>7")
duty = st.sampled_from(
    ["window_days<=7", "redact=no-image;quota_per_day<=2", "approval=supervisor", "warrant=judicial"]
)

questions = st.builds(
    Question,
    requester_agency=st.sampled_from(AGENCIES),
    role=st.sampled_from(sorted(WORDS.role.leaves)),
    beneficiary=st.sampled_from(AGENCIES),
    purpose=st.sampled_from(sorted(WORDS.purpose.leaves)),
    legal_basis=st.sampled_from(LegalBasis),
    authority=st.sampled_from(Authority),
    act=st.sampled_from(Act),
    has_case=st.booleans(),
    lookback_days=st.integers(0, 4000),
    approved=st.booleans(),
    day=st.just(DAY),
)


def _for_self(q: Question, agency: str) -> Question:
    return Question(
        requester_agency=agency,
        beneficiary=agency,
        role="investigator",
        purpose="criminal-felony",
        legal_basis=LegalBasis.CRIMINAL,
        authority=q.authority,
        act=q.act,
        has_case=True,
        lookback_days=q.lookback_days,
        approved=q.approved,
        day=DAY,
    )


selves = st.builds(_for_self, questions, st.sampled_from(AGENCIES))


@st.composite
def rows(draw: st.DrawFn, effects: tuple[str, ...] = ("allow", "deny", "limit")) -> str:
    out = []
    for number in range(draw(st.integers(1, 4))):
        effect = draw(st.sampled_from(effects))
        cells = [f"X-{number}", draw(where), draw(who), draw(role), draw(why), draw(act), effect]
        cells.append("always" if effect == "allow" else draw(when))
        cells.append({"deny": "-", "allow": "-"}.get(effect) or draw(duty))
        out.append(",".join([*cells, "an order"]))
    return "\n".join(out)


def strictness(d: Decision) -> int:
    return 2 if d.effect is Effect.DENY else 1 if d.pending else 0


def at_least(o: Obligations, than: Obligations) -> bool:
    return than.join(o) == o


@settings(max_examples=150, deadline=None)
@given(
    rows(effects=("deny", "limit")),
    st.one_of(questions, selves),
    st.sampled_from(NODES),
    st.sampled_from(PACKS),
)
def test_adding_a_deny_or_a_limit_never_loosens_anything(added: str, q: Question, node: str, pack: str) -> None:
    point = decider()
    before, after = (point.decide(q, [(node, compile_rows(extra, pack))])[0] for extra in ("", added))
    assert strictness(after) >= strictness(before)
    if after.effect is Effect.PERMIT:
        assert at_least(after.obligations, before.obligations)


@settings(max_examples=150, deadline=None)
@given(rows(), st.one_of(questions, selves), st.sampled_from(NODES), st.sampled_from(PACKS))
def test_adding_any_rule_never_loosens_a_duty(added: str, q: Question, node: str, pack: str) -> None:
    point = decider()
    before, after = (point.decide(q, [(node, compile_rows(extra, pack))])[0] for extra in ("", added))
    if before.effect is after.effect is Effect.PERMIT:
        assert at_least(after.obligations, before.obligations)


@settings(max_examples=150, deadline=None)
@given(questions, st.sampled_from(NODES))
def test_a_search_for_another_is_no_freer_than_either_partys_own(q: Question, node: str) -> None:
    point = decider()
    target = [(node, SETTING.node_policies[node])]
    (joint,) = point.decide(q, target)
    for agency in (q.requester_agency, q.beneficiary):
        fields = {f: getattr(q, f) for f in Question.__slots__} | {"requester_agency": agency, "beneficiary": agency}
        (own,) = point.decide(Question(**fields), target)
        assert strictness(joint) >= strictness(own)
        if joint.effect is Effect.PERMIT:
            assert at_least(joint.obligations, own.obligations)
        if own.reason_code != "NOT_REGISTERED":
            assert {r.rule for r in own.rules} - {r.rule for r in joint.rules} == set()


@settings(max_examples=150, deadline=None)
@given(rows(), st.one_of(questions, selves), st.sampled_from(NODES), st.sampled_from(NODES))
def test_the_same_question_gets_the_same_answer_alone_and_among_others(
    text: str, q: Question, one: str, other: str
) -> None:
    policy = compile_rows(text)
    crowd = decider().decide(q, [(n, SETTING.node_policies[n]) for n in NODES] + [(one, policy), (other, policy)])
    (alone,) = decider().decide(q, [(one, policy)])
    assert crowd[-2].reason == alone.reason
    assert (crowd[-2].effect, crowd[-2].rules, crowd[-2].obligations) == (alone.effect, alone.rules, alone.obligations)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_text_loads_but_rules(text: str) -> None:
    try:
        sealed = seal(f"{HEADER}\n{text}")
    except PolicyError:
        return
    loaded: tuple[Rule, ...] | None = None
    with contextlib.suppress(PolicyError):
        loaded = load(sealed, WORDS)
    assert loaded is None or all(r.cells[6] in ("allow", "deny", "limit") for r in loaded)
    assert loaded != ()


names = st.text(max_size=30) | st.sampled_from([*AGENCIES, *sorted(WORDS.who.above), *sorted(WORDS.purpose.above)])


@settings(max_examples=200, deadline=None)
@given(names, names, names, names, names)
def test_whatever_is_named_the_answer_is_a_decision(a: str, b: str, role_: str, purpose: str, node: str) -> None:
    try:
        q = Question(
            requester_agency=a,
            role=role_,
            beneficiary=b,
            purpose=purpose,
            legal_basis=LegalBasis.CRIMINAL,
            authority=Authority.NONE,
            act=Act.EXACT,
            has_case=True,
            lookback_days=1,
            approved=False,
            day=DAY,
        )
    except ComityError:
        return
    (decision,) = decider().decide(q, [(node, SETTING.node_policies["sequoia-1"])])
    assert decision.effect is Effect.DENY
    assert decision.reason
