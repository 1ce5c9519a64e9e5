"""Broker and node under different policies: nothing is searched, and the broker hears of the new one at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from audit.tree import leaf_hash
from comity.decision import KNOWN_OBLIGATIONS, Obligations, Redaction
from comity.outcome import OutcomeKind
from tests.unit.broker.scene import DENY
from tests.unit.identity.world import World
from tests.unit.node.scene import NodeStage, seen


async def test_a_permit_under_another_version_is_refused_recorded_and_told_to_the_brokers(stage: NodeStage) -> None:
    stage.store.add([seen()])
    hellos: list[str] = []
    stage.search = stage.searching(say_hello=lambda: hellos.append("hello"))
    envelope = stage.envelope()
    work = await stage.work(envelope, receipt=await stage.receipt(envelope, policy_digest="cd" * 32))
    signed, outcome = await stage.answer(work)
    assert (signed.kind, signed.reason_code, hellos) == (OutcomeKind.REFUSED, "POLICY_CHANGED", ["hello"])
    assert outcome.decision is not None
    assert "another version" in outcome.decision.reason
    (recorded,) = stage.log.bodies("decision")
    assert (recorded["effect"], recorded["reason_code"]) == ("deny", "POLICY_CHANGED")
    assert stage.store.searches == 0


async def test_a_node_says_hello_only_when_the_versions_differ(stage: NodeStage) -> None:
    hellos: list[str] = []
    stage.search = stage.searching(say_hello=lambda: hellos.append("hello"))
    signed, _ = await stage.answer(await stage.work())
    assert (signed.kind, hellos) == (OutcomeKind.NO_MATCH, [])


async def test_a_rule_that_refuses_is_named_though_the_versions_differ(world: World, tmp_path: Path) -> None:
    stage = NodeStage(world, tmp_path, rows=DENY)
    envelope = stage.envelope()
    work = await stage.work(envelope, receipt=await stage.receipt(envelope, policy_digest="cd" * 32))
    signed, _ = await stage.answer(work)
    assert signed.reason_code == "DENIED_BY_RULE"


@pytest.mark.parametrize("obligation", ["retain_hours", "Window_days", ""])
async def test_an_obligation_that_the_node_does_not_know_is_a_refusal(obligation: str, stage: NodeStage) -> None:
    envelope = stage.envelope()
    true = await stage.receipt(envelope)
    entry = orjson.dumps(orjson.loads(true.entry) | {"obligations": {obligation: 1}})
    receipt = replace(true, entry=entry, leaf_hash=leaf_hash(entry))
    signed, _ = await stage.answer(await stage.work(envelope, receipt=receipt))
    assert (signed.kind, signed.reason_code) == (OutcomeKind.REFUSED, "OBLIGATION_UNKNOWN")


def test_every_obligation_that_can_be_recorded_is_known() -> None:
    every = Obligations(
        window_days=1, redaction=Redaction.HIT_ONLY, approval=True, warrant=True, quota_per_day=1, breadth=1
    )
    assert every.as_json().keys() == KNOWN_OBLIGATIONS
