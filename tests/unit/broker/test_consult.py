"""What policies mean, for those who ask: about themselves, in pages, within limits, not in the way of searches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from broker.admission import Admission
from broker.consult import MOST_CELLS, Consulting, Doubt, Page
from broker.policies import follow
from broker.publish import Publishing
from broker.rpc.policy_service import Consultation, PolicyService
from broker.state.inprocess import InProcessBundles, InProcessQuota
from comity.errors import Exhausted, InvalidInput, NotAllowed, Unavailable
from comity.v1 import inquiry_pb2
from comity.v1 import policy_service_pb2 as pb2
from identity.signing import Signer
from tests.unit.broker.scene import ALLOW, DENY, Stage
from tests.unit.broker.test_attach import FakeContext, node
from tests.unit.comity import scene
from tests.unit.identity.world import ALDER


class Calling(FakeContext):
    """A call with a deadline."""

    def __init__(self, *signers: Signer, left_s: float | None = 20) -> None:
        super().__init__(*signers)
        self.left_s = left_s

    def time_remaining(self) -> float | None:
        return self.left_s


@dataclass
class Service:
    """A PolicyService on fakes; `per_day` calls of one person."""

    stage: Stage
    per_day: int = 100

    def __post_init__(self) -> None:
        s = self.stage
        s.attach("alder-1", ALLOW)
        self.consulting = Consulting(s.decider(), s.links, s.clock)
        self.service = PolicyService(
            Consultation(
                directory=s.directory,
                clock=s.clock,
                admission=Admission(total=2, per_agency=1, waiting=0),
                quota=InProcessQuota(s.clock),
                per_day=self.per_day,
                publishing=Publishing(
                    directory=s.directory, bundles=InProcessBundles(), links=s.links, log=s.log, clock=s.clock
                ),
                consulting=self.consulting,
            )
        )

    async def explain(self, signer: Signer | None = None, **changes: Any) -> pb2.ExplainResponse:
        context: Any = Calling(signer or self.stage.person)
        return await self.service.Explain(question(**changes), context)

    async def matrix(self, **fields: Any) -> Page:
        return await self.consulting.matrix(pb2.MatrixRequest(**fields), 20)


def question(**changes: Any) -> pb2.ExplainRequest:
    content: dict[str, Any] = {
        "nodes": ["alder-1"],
        "purpose_of_use": inquiry_pb2.PurposeOfUse(code="stolen-vehicle", legal_basis=inquiry_pb2.LEGAL_BASIS_CRIMINAL),
        "authority": inquiry_pb2.AUTHORITY_NONE,
        "act": inquiry_pb2.ACT_EXACT,
        "lookback_days": 7,
    }
    return pb2.ExplainRequest(**(content | changes))


@pytest.fixture
def at(stage: Stage) -> Service:
    return Service(stage)


async def test_whoever_asks_is_the_requester_whatever_they_write(at: Service) -> None:
    doubt = Doubt.parse(question(beneficiary="us-tx-brazos-bend-pd"), at.stage.identity(at.stage.person))
    (one,) = doubt.requests
    assert (one.requester, one.person, one.role) == (ALDER, scene.REQUESTER, "investigator")
    assert one.beneficiary == "us-tx-brazos-bend-pd"


async def test_an_explanation_costs_no_entry_and_no_node_is_asked(at: Service) -> None:
    (one,) = (await at.explain()).explanations
    assert [r.rule for r in one.applied if r.layer == "node"] == ["T-1"]
    assert (at.stage.log.calls, at.stage.wires["alder-1"].sent) == ([], [])


async def test_every_bad_field_is_named_at_once(at: Service) -> None:
    with pytest.raises(InvalidInput) as e:
        await at.explain(nodes=[], authority=0, act=0, lookback_days=10**6)
    assert {v.field for v in e.value.violations} == {"nodes", "authority", "act", "lookback_days"}


async def test_a_field_that_this_version_does_not_know_is_refused(at: Service) -> None:
    odd = question()
    odd.MergeFromString(scene.unknown_field())
    with pytest.raises(InvalidInput):
        Doubt.parse(odd, at.stage.identity(at.stage.person))


async def test_a_node_is_not_a_person(at: Service) -> None:
    with pytest.raises(NotAllowed) as e:
        await at.explain(node(at.stage))
    assert e.value.reason == "WRONG_KIND"


async def test_a_day_s_questions_are_counted(stage: Stage) -> None:
    at = Service(stage, per_day=2)
    for _ in range(2):
        await at.explain()
    with pytest.raises(Exhausted) as e:
        await at.explain()
    assert e.value.reason == "QUOTA_EXHAUSTED"


async def test_what_takes_longer_than_the_caller_has_is_given_up(at: Service) -> None:
    doubt = Doubt.parse(question(), at.stage.identity(at.stage.person))
    with pytest.raises(Unavailable) as e:
        await at.consulting.explain(doubt, within_s=0)
    assert e.value.reason == "TOO_SLOW"


async def test_pages_hold_every_cell_once_and_a_page_after_a_change_is_refused(at: Service) -> None:
    first = await at.matrix(page_size=2)
    cells, page = list(first.cells), first
    while page.next_token:
        page = await at.matrix(page_size=2, page_token=page.next_token)
        cells += page.cells
    whole = await at.matrix(page_size=MOST_CELLS)
    assert (whole.next_token, tuple(cells)) == ("", whole.cells)
    assert {c.node for c in whole.cells} == {"alder-1"}
    assert "brazos-1" in whole.unknown
    at.stage.attach("alder-1", DENY)
    with pytest.raises(InvalidInput) as e:
        await at.matrix(page_size=2, page_token=first.next_token)
    assert e.value.reason == "STALE_PAGE"


async def test_no_hint_makes_a_process_deaf_to_the_next() -> None:
    async def hints() -> AsyncIterator[str]:
        for hint in ("", "alder-1", "brazos-1"):
            yield hint

    looked: list[str] = []
    missed: list[tuple[str, str]] = []

    async def look(hint: str) -> None:
        looked.append(hint)
        if hint != "brazos-1":
            raise [ZeroDivisionError("a defect"), Unavailable("gone")][len(looked) - 1]

    await follow(hints(), look, lambda hint, error: missed.append((hint, type(error).__name__)))
    assert looked == ["", "alder-1", "brazos-1"]
    assert missed == [("", "ZeroDivisionError"), ("alder-1", "Unavailable")]
