"""Every duty that a rule can ask, at the node: what it does, and what its reader is told under the node's signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.words import bounds
from comity.decision import KNOWN_OBLIGATIONS, Redaction
from comity.outcome import Outcome, OutcomeKind
from policies.duties import parse_duties
from tests.unit.broker.scene import ALLOW
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import World
from tests.unit.node.scene import NodeStage, seen

IMAGE = "ab" * 32
Held = Callable[[Outcome], bool]


def rows(duty: str) -> str:
    return f"{ALLOW}\nT-9,any-node,any-agency,any-role,any-purpose,any-act,limit,always,{duty},a test rule"


def clipped(o: Outcome) -> bool:
    return o.coverage is not None and o.coverage.begin == NOW - 3 * DAY


DUTIES: list[tuple[str, str, OutcomeKind, Held, str]] = [
    ("a window", "window_days<=3", OutcomeKind.PARTIAL_COVERAGE, clipped, "at most 3 days back"),
    ("no image", "redact=no-image", OutcomeKind.MATCH, lambda o: not o.detections[0].image, "no images"),
    (
        "a rounded place",
        "redact=coarse-location",
        OutcomeKind.MATCH,
        lambda o: not o.detections[0].camera,
        "no images or cameras, places rounded",
    ),
    (
        "a hit alone",
        "redact=hit-only",
        OutcomeKind.MATCH,
        lambda o: not o.detections[0].camera and o.detections[0].captured_at.seconds % 86_400 == 0,
        "no images, cameras, places or times of day",
    ),
    ("a quota", "quota_per_day<=5", OutcomeKind.MATCH, lambda o: True, "5 searches a day"),
    ("a breadth", "breadth<=4", OutcomeKind.MATCH, lambda o: True, "4 nodes a search"),
]


@pytest.mark.parametrize(("duty", "kind", "held", "told"), [d[1:] for d in DUTIES], ids=[d[0] for d in DUTIES])
async def test_what_bound_a_search_is_held_and_told_under_the_node_s_signature(
    world: World, tmp_path: Path, duty: str, kind: OutcomeKind, held: Held, told: str
) -> None:
    stage = NodeStage(world, tmp_path, rows=rows(duty))
    stage.store.add([seen(camera="pa-001", image=IMAGE)])
    _, outcome = await stage.answer(await stage.work())
    assert outcome.kind is kind
    assert held(outcome)
    assert outcome.obligations is not None
    assert bounds(outcome.obligations) == [told]


async def test_advice_is_told_under_the_node_s_signature_with_what_was_found_and_with_nothing_else(
    world: World, tmp_path: Path
) -> None:
    told = "X-9,any-node,any-agency,any-role,any-purpose,any-act,limit,always,advice,confirm before acting"
    stage = NodeStage(world, tmp_path, rows=f"{ALLOW}\n{told}")
    _, nothing = await stage.answer(await stage.work())
    assert (nothing.kind, nothing.advice) == (OutcomeKind.NO_MATCH, ())
    stage.store.add([seen()])
    again = stage.envelope(inquiry_id="0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a98")
    _, found = await stage.answer(await stage.work(again))
    assert [(r.rule, r.basis, r.layer) for r in found.advice] == [("X-9", "confirm before acting", "node")]
    assert found.obligations is None


async def test_an_approval_is_awaited_and_told_of_once_it_is_there(world: World, tmp_path: Path) -> None:
    stage = NodeStage(world, tmp_path, rows=rows("approval=supervisor"))
    signed, outcome = await stage.answer(await stage.work())
    assert (signed.kind, outcome.role) == (OutcomeKind.PENDING, "supervisor")
    approved = stage.envelope(stage.at_broker.supervisor, inquiry_id="0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a99")
    _, outcome = await stage.answer(await stage.work(approved))
    assert outcome.kind is OutcomeKind.NO_MATCH
    assert outcome.obligations is not None
    assert bounds(outcome.obligations) == ["a supervisor's signature"]


async def test_without_the_warrant_that_is_asked_for_nothing_is_searched(world: World, tmp_path: Path) -> None:
    stage = NodeStage(world, tmp_path, rows=rows("warrant=judicial"))
    signed, _ = await stage.answer(await stage.work())
    assert (signed.kind, signed.reason_code, stage.store.searches) == (OutcomeKind.REFUSED, "WARRANT_REQUIRED", 0)


async def test_a_search_that_nothing_bound_tells_of_nothing(stage: NodeStage) -> None:
    _, outcome = await stage.answer(await stage.work())
    assert outcome.obligations is None


async def test_an_expired_policy_refuses_and_says_that_it_has_expired(stage: NodeStage) -> None:
    stage.policy.published = replace(stage.policy.published, valid_to=NOW)
    signed, outcome = await stage.answer(await stage.work())
    assert (signed.kind, signed.reason_code) == (OutcomeKind.REFUSED, "POLICY_EXPIRED")
    assert outcome.decision is not None
    assert "was valid to" in outcome.decision.reason


def test_every_duty_has_a_test_here() -> None:
    tested = parse_duties(";".join(d[1] for d in DUTIES if "redact" not in d[1]) + ";redact=hit-only")
    assert {*tested.as_json(), "approval", "warrant"} == KNOWN_OBLIGATIONS
    assert {d[1] for d in DUTIES if "redact" in d[1]} == {f"redact={r.word}" for r in Redaction if r > Redaction.FULL}
