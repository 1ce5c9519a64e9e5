"""The node's own count of a day's searches: durable, all or nothing, and never more than the rule allows."""

from __future__ import annotations

import datetime as dt
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comity.errors import ConfigError, Unavailable
from comity.outcome import OutcomeKind
from comity.v1 import decision_pb2
from node.quota import FILE, Quotas
from tests.unit.broker.scene import ALLOW
from tests.unit.broker.test_quota import number
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import World
from tests.unit.node.scene import NodeStage, seen

TODAY = NOW.date()
TWICE = ALLOW + "\nT-9,any-node,any-agency,any-role,any-purpose,any-act,limit,always,quota_per_day<=2,a test rule"


@pytest.fixture
def twice(world: World, tmp_path: Path) -> NodeStage:
    return NodeStage(world, tmp_path, rows=TWICE)


async def test_the_third_search_of_a_day_is_refused_by_the_node_itself_and_recorded(twice: NodeStage) -> None:
    twice.store.add([seen()])
    kinds = []
    for n in range(1, 4):
        signed, outcome = await twice.answer(await twice.work(twice.envelope(**number(n))))
        kinds.append(signed.kind)
    assert kinds == [OutcomeKind.MATCH, OutcomeKind.MATCH, OutcomeKind.REFUSED]
    assert outcome.decision is not None
    assert (outcome.decision.reason_code, outcome.decision.pep) == ("QUOTA_SPENT", decision_pb2.PEP_NODE)
    assert "T-9 allows 2 searches a day" in outcome.decision.reason
    assert [b["effect"] for b in twice.log.bodies("decision")] == ["permit", "permit", "deny"]
    assert twice.store.searches == 2


async def test_an_answer_that_is_delivered_again_counts_once(twice: NodeStage) -> None:
    envelope = twice.envelope(**number(1))
    first, _ = await twice.answer(await twice.work(envelope))
    for _ in range(3):
        assert (await twice.answer(await twice.work(envelope)))[0].envelope == first.envelope
    assert (await twice.answer(await twice.work(twice.envelope(**number(2)))))[0].kind is OutcomeKind.NO_MATCH


async def test_a_restart_gives_nobody_further_searches(twice: NodeStage) -> None:
    for n in (1, 2):
        await twice.answer(await twice.work(twice.envelope(**number(n))))
    twice.quotas.close()
    twice.quotas = Quotas(twice.folder)
    twice.search = twice.searching()
    signed, _ = await twice.answer(await twice.work(twice.envelope(**number(3))))
    assert signed.reason_code == "QUOTA_SPENT"


async def test_what_cannot_be_counted_is_not_searched(twice: NodeStage) -> None:
    twice.quotas.close()
    signed, outcome = await twice.answer(await twice.work(twice.envelope(**number(1))))
    assert (signed.kind, outcome.reason_code) == (OutcomeKind.ERROR, "QUOTA_UNAVAILABLE")
    assert (twice.store.searches, twice.log.bodies("decision")) == (0, [])


def test_one_rule_that_is_spent_counts_nothing_under_another(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path)
    assert quotas.take("alder-pd", [("A", 1), ("B", 2)], TODAY) is None
    assert quotas.take("alder-pd", [("A", 1), ("B", 2)], TODAY) == ("A", 1)
    assert quotas.take("alder-pd", [("B", 2)], TODAY) is None
    assert quotas.take("alder-pd", [("B", 2)], TODAY) == ("B", 2)


def test_each_agency_and_each_day_has_its_own_count(tmp_path: Path) -> None:
    quotas, tomorrow = Quotas(tmp_path), TODAY + dt.timedelta(days=1)
    assert quotas.take("alder-pd", [("A", 1)], TODAY) is None
    assert quotas.take("brazos-pd", [("A", 1)], TODAY) is None
    assert quotas.take("alder-pd", [("A", 1)], tomorrow) is None
    assert quotas.take("alder-pd", [("A", 1)], TODAY) == ("A", 1), "a clock that is set back finds its count"


def test_a_limit_of_nought_allows_nothing(tmp_path: Path) -> None:
    assert Quotas(tmp_path).take("alder-pd", [("A", 0)], TODAY) == ("A", 0)


def test_old_days_do_not_stay(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path)
    for n in range(30):
        quotas.take("alder-pd", [("A", 1)], TODAY + dt.timedelta(days=n))
    assert quotas._db.execute("SELECT count(*) FROM taken").fetchone() == (3,)


def test_searches_at_once_are_never_granted_more_than_the_rule_allows(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: quotas.take("alder-pd", [("A", 7)], TODAY), range(40)))
    assert taken.count(None) == 7


def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    Quotas(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_file_that_is_no_count_stops_the_node_at_its_start(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError):
        Quotas(tmp_path)


def test_a_count_that_is_damaged_while_it_runs_is_no_permission(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path)
    quotas._db.execute("DROP TABLE taken")
    with pytest.raises(Unavailable):
        quotas.take("alder-pd", [("A", 1)], TODAY)
