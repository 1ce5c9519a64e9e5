"""A rule's searches a day: counted at the broker for each agency, node and rule, and never in a preview."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from broker.model import Decided
from broker.state.inprocess import InProcessQuota
from comity.decision import Decision
from comity.errors import Unavailable
from tests.fakes import FixedClock
from tests.unit.broker.scene import ALLOW, Stage
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import World

LIMITED = ALLOW + "\nT-9,any-node,any-agency,any-role,any-purpose,any-act,limit,always,quota_per_day<=2,a test rule"


class FailingQuota:
    """Counts persons and agencies, and cannot count duties."""

    def __init__(self) -> None:
        self._works = InProcessQuota(FixedClock(NOW))

    async def take(self, key: str, day: object, limit: int) -> bool:
        if key.startswith("duty "):
            raise Unavailable("the shared state cannot be reached")
        return True


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


def number(n: int) -> dict[str, Any]:
    """What makes an inquiry another one."""
    return {"inquiry_id": f"0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a{n:02}", "nonce": bytes([n]) * 16}


async def decisions(stage: Stage, n: int) -> dict[str, Decision]:
    async with aclosing(stage.search.run(stage.call(stage.signed(**number(n))))) as released:
        async for release in released:
            if isinstance(release, Decided):
                return {d.node: d for d in release.decisions}
    return {}


async def test_the_third_search_of_a_day_is_refused_at_that_node_alone_and_says_which_rule(stage: Stage) -> None:
    stage.attach("alder-1", LIMITED)
    stage.attach("brazos-1", ALLOW)
    seen = [await decisions(stage, n) for n in range(1, 4)]
    assert [d["alder-1"].reason_code for d in seen] == ["PERMITTED", "PERMITTED", "QUOTA_SPENT"]
    assert [d["brazos-1"].reason_code for d in seen] == ["PERMITTED"] * 3
    assert "T-9 allows 2 searches a day" in seen[2]["alder-1"].reason
    recorded = [b for b in stage.log.bodies("decision") if b["node"] == "alder-1"]
    assert [b["effect"] for b in recorded] == ["permit", "permit", "deny"]


async def test_a_preview_counts_nothing(stage: Stage) -> None:
    stage.attach("alder-1", LIMITED)
    for n in range(1, 4):
        await stage.search.preview(stage.call(stage.signed(**number(n))))
    assert (await decisions(stage, 4))["alder-1"].permitted


async def test_nobody_is_asked_when_it_cannot_be_counted(world: World, tmp_path: Path) -> None:
    stage = Stage(world, quota=FailingQuota())
    wire = stage.attach("alder-1", LIMITED)
    with pytest.raises(Unavailable):
        await decisions(stage, 1)
    assert wire.sent == []
