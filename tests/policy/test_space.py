"""The classes of requests, against every request asked one at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.decision import Decision, Effect, Obligations
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import FACTS
from policies.grid import Grid
from policies.instance import PAPERS, Request
from policies.sides import SHARED_FACTS, sides_of
from policies.space import Member, Parties, Space, TooLarge
from tests.policy.requests import DAY as SAMPLE_DAY
from tests.policy.requests import SETTING
from tests.policy.small import DAY, Oracle, every_request, setting


def bit(space: Space, request: Request) -> int:
    """The class of the grid that the request lies in."""
    at = {
        "purpose": request.purpose,
        "role": request.role,
        "act": request.act,
        "legal_basis": request.legal_basis,
        "authority": request.authority,
        "case": request.has_case,
        "lookback": request.lookback_days,
        "offence": request.offence,
    }
    bits = space.grid.full
    for name, classes in space.grid.columns.items():
        value: Any = at.get(name, name in (request.node_facts or ()))
        (held,) = [c for c in classes if value in c]
        bits &= space.grid.where(name, lambda first, held=held: first == held[0])  # type: ignore[misc]
    assert bits.bit_count() == 1
    return bits


def parties(space: Space, request: Request) -> tuple[Parties, Parties | None]:
    """The classes that requester and beneficiary lie in."""

    def held(of: tuple[Parties, ...], agency: str, papers: frozenset[str] | None) -> Parties:
        used = {kind for p in of for m in p.members for kind in m.papers}
        member = Member(agency=agency, person="", papers=(papers or frozenset()) & used)
        (found,) = [p for p in of if member in p.members]
        return found

    r = held(space.requesters, request.requester, request.papers)
    if request.beneficiary == request.requester:
        return r, None
    return r, held(space.beneficiaries, request.beneficiary, request.beneficiary_papers)


def agrees(space: Space, decision: Decision, request: Request) -> bool:
    """Whether the space says of the request's class what was decided."""
    judged = space.judged(0, *parties(space, request))
    here = bit(space, request)
    (outcome,) = [duties for duties, bits in judged.outcomes.items() if bits & here]
    said: Obligations | None = decision.obligations if decision.effect is Effect.PERMIT else None
    rules = {(r.layer, r.rule) for r in decision.rules}
    return outcome == said and {k for k, bits in judged.rules.items() if bits & here} == rules


def test_every_class_says_what_each_of_its_requests_is_told() -> None:
    at = setting()
    space, oracle = Space([sides_of(at, DAY)["a-1"]]), Oracle(at)
    requests = list(every_request(at))
    assert len(requests) == 28_800
    assert [r for r in requests if not agrees(space, oracle.decide(r), r)] == []


@pytest.mark.parametrize("node_rules", [pytest.param(None, id="a node without a policy refuses everything")])
def test_what_was_never_published_refuses(node_rules: None) -> None:
    at = setting(node_rules=node_rules)
    space = Space([sides_of(at, DAY)["a-1"]])
    assert all(space.judged(0, *pair).permit == 0 for pair in space.pairs())


questions = st.builds(
    dict[str, Any],
    requester=st.sampled_from(sorted(SETTING.federation.agencies)),
    beneficiary=st.sampled_from(sorted(SETTING.federation.agencies)),
    role=st.sampled_from(sorted(SETTING.vocabulary.role.leaves)),
    purpose=st.sampled_from(sorted(SETTING.vocabulary.purpose.leaves)),
)
papers = st.frozensets(st.sampled_from(PAPERS))
SPACES = {node: Space([side]) for node, side in sides_of(SETTING, SAMPLE_DAY).items()}


@settings(max_examples=300, deadline=None)
@given(questions, st.sampled_from(sorted(SPACES)), st.data())
def test_the_sample_federation_agrees_on_requests_at_random(
    named: dict[str, Any], node: str, data: st.DataObject
) -> None:
    drawn = data.draw(
        st.builds(
            Request,
            requester=st.just(named["requester"]),
            beneficiary=st.sampled_from([named["requester"], named["beneficiary"]]),
            role=st.just(named["role"]),
            purpose=st.just(named["purpose"]),
            node=st.just(node),
            has_case=st.booleans(),
            lookback_days=st.sampled_from([0, 7, 30, 60, 61, 1825, 1826, 36_500]),
            papers=papers,
            beneficiary_papers=papers,
            node_facts=st.just(frozenset[str]()),
            offence=st.sampled_from(["", "terrorism", "arson", "murder"]),
            act=st.sampled_from(Act),
            legal_basis=st.sampled_from(LegalBasis),
            authority=st.sampled_from(Authority),
        )
    )
    assert agrees(SPACES[node], ORACLE.decide(drawn), drawn)


ORACLE = Oracle(SETTING)


def test_a_fact_is_either_shared_by_both_parties_or_known_to_be_one_partys_own() -> None:
    """A fact added to the grammar must be placed here first: a wrong place would make wrong proofs."""
    own = {"same-state", "other-state", "own-node", "on-behalf", *PAPERS}
    assert own | SHARED_FACTS == FACTS.keys()
    assert own & SHARED_FACTS == set()


def test_a_space_that_is_too_large_says_so() -> None:
    rows = "\n".join(
        f"B-{n},any-node,any-agency,any-role,any-purpose,any-act,deny,lookback>{n},-,b" for n in range(9000)
    )
    side = sides_of(setting(node_rules=rows), DAY)["a-1"]
    with pytest.raises(TooLarge, match=r"a-1: .* classes .* too many"):
        Space([side])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_boxes_are_disjoint_and_together_the_set(sizes: list[int], data: st.DataObject) -> None:
    grid = Grid({str(i): [(n,) for n in range(size)] for i, size in enumerate(sizes)})
    bits = data.draw(st.integers(0, grid.full))
    seen = 0
    for box in grid.boxes(bits):
        part = grid.full
        for name, held in box.items():
            part &= grid.where(name, lambda v, held=held: any(v in values for values in held))  # type: ignore[misc]
        assert part & seen == 0
        seen |= part
    assert seen == bits
    assert grid.count(bits) == bits.bit_count()
