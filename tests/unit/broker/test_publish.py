"""Policies that an agency publishes, and nodes that stand under another: who decides by what, and what is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.links import Link, Links
from broker.model import End, ShowPolicy
from broker.policies import pull, stands_under_older
from broker.publish import Publishing
from broker.rpc.outbox import Outbox
from broker.state.inprocess import InProcessBundles
from comity.errors import ComityError, InvalidInput, NotAllowed, PolicyError
from comity.v1 import node_link_service_pb2 as pb2
from identity.verify import Identity
from policies.published import Published, open_published
from tests.fakes import FakeLog, FakeWire, FixedClock
from tests.unit.broker.scene import ALLOW, DENY, Stage
from tests.unit.broker.test_attach import IDS, chunk, stream, work
from tests.unit.broker.test_policies import NODE, bundle, directory
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, World, name


@dataclass
class Exchange:
    """A broker's policies, with one node attached that shows version 2."""

    world: World
    wire: FakeWire = field(default_factory=FakeWire)

    def __post_init__(self) -> None:
        self.at = directory(self.world)
        self.bundles, self.links = InProcessBundles(), Links()
        self.log = FakeLog("broker.example/log", FixedClock(NOW))
        self.publishing = Publishing(
            directory=self.at, bundles=self.bundles, links=self.links, log=self.log, clock=lambda: NOW
        )
        self.links.attach(Link(NODE, self.opened(2), self.wire))

    def opened(self, version: int, rows: str = ALLOW) -> Published:
        return open_published(bundle(self.at, version, rows), self.at, NODE, NOW)

    def by(self, role: str = "supervisor", agency: str = ALDER) -> Identity:
        return Identity(
            spiffe=name(agency, "person", "s-okafor"),
            agency=agency,
            role=role,
            not_before=NOW - DAY,
            not_after=NOW + DAY,
            fingerprint="f",
        )

    async def publish(self, version: int, rows: str = DENY, **changes: Any) -> Any:
        content: dict[str, Any] = {"by": self.by(), "revoke_older": False} | changes
        return await self.publishing.publish(NODE, bundle(self.at, version, rows), **content)

    @property
    def decides(self) -> int:
        published = self.links.published(NODE)
        assert published is not None
        return published.version

    @property
    def entries(self) -> list[tuple[object, ...]]:
        keys = ("version", "taken_up", "reason")
        return [tuple(b[k] for k in keys) for b in self.log.bodies("policy")]


@pytest.fixture
def exchange(world: World) -> Exchange:
    return Exchange(world)


async def test_what_is_published_is_decided_by_from_then_on_and_the_node_is_asked_for_it(exchange: Exchange) -> None:
    known = await exchange.publish(3)
    assert (exchange.decides, known.shown.version, exchange.wire.sent) == (3, 2, [ShowPolicy()])
    (body,) = exchange.log.bodies("policy")
    assert (body["published_by"], body["taken_up"], "revoked_below" in body) == (str(exchange.by().spiffe), True, False)
    assert (await exchange.bundles.held([NODE]))[NODE].version == 3


async def test_the_same_again_changes_nothing_and_is_not_recorded_again(exchange: Exchange) -> None:
    for _ in range(3):
        await exchange.publish(3)
    assert exchange.entries == [(3, True, "")]


async def test_an_older_one_and_another_of_the_same_version_are_refused_and_recorded(exchange: Exchange) -> None:
    await exchange.publish(3)
    for version, rows in ((1, DENY), (3, ALLOW)):
        with pytest.raises(PolicyError) as e:
            await exchange.publish(version, rows)
        assert e.value.reason == "POLICY_OLDER"
    assert exchange.decides == 3
    assert exchange.entries[1:] == [(0, False, "POLICY_OLDER")] * 2


async def test_revoking_lets_a_node_go_that_stands_under_an_older_one(exchange: Exchange) -> None:
    known = await exchange.publish(3, revoke_older=True)
    assert (known.minimum, exchange.wire.sent[0]) == (3, End("POLICY_REVOKED"))
    (body,) = exchange.log.bodies("policy")
    assert body["revoked_below"] == 3
    with pytest.raises(PolicyError) as e:
        await exchange.publish(2, ALLOW)
    assert e.value.reason == "POLICY_OLDER"


async def test_a_minimum_can_be_raised_for_what_is_published_already_and_never_lowered(exchange: Exchange) -> None:
    await exchange.publish(3)
    assert (await exchange.publish(3, revoke_older=True)).minimum == 3
    assert (await exchange.publish(4)).minimum == 3
    assert [b.get("revoked_below") for b in exchange.log.bodies("policy")] == [None, 3, None]


@pytest.mark.parametrize(
    ("role", "agency", "reason"),
    [
        pytest.param("investigator", ALDER, "WRONG_ROLE", id="an investigator is bound by it"),
        pytest.param("auditor", ALDER, "WRONG_ROLE", id="an auditor watches"),
        pytest.param("", ALDER, "WRONG_ROLE", id="no role at all"),
        pytest.param("supervisor", "us-tx-brazos-bend-pd", "OTHER_AGENCY", id="another agency's supervisor"),
    ],
)
async def test_who_may_not_publish_may_not_even_have_a_refusal_recorded(
    exchange: Exchange, role: str, agency: str, reason: str
) -> None:
    with pytest.raises(NotAllowed) as e:
        await exchange.publish(3, by=exchange.by(role, agency))
    assert (e.value.reason, exchange.decides, exchange.entries) == (reason, 2, [])


async def test_a_node_that_is_not_registered_is_named_as_the_fault(exchange: Exchange) -> None:
    with pytest.raises(InvalidInput) as e:
        await exchange.publishing.publish("x" * 9_000, b"", exchange.by(), revoke_older=False)
    assert (e.value.reason, "xxx" in str(e.value)) == ("NOT_REGISTERED", False)


async def test_what_cannot_be_recorded_decides_nothing_yet(exchange: Exchange) -> None:
    exchange.log.failing = [ComityError("x", reason="LOG_TIMEOUT")]
    with pytest.raises(ComityError):
        await exchange.publish(3)
    assert exchange.decides == 2


async def test_a_policy_pulled_from_another_process_is_recorded_before_it_decides(exchange: Exchange) -> None:
    other = Publishing(
        directory=exchange.at, bundles=exchange.bundles, links=Links(), log=exchange.log, clock=lambda: NOW
    )
    await other.publish(NODE, bundle(exchange.at, 5, DENY), exchange.by(), revoke_older=True)
    at = (exchange.at.federation.nodes, exchange.at, exchange.bundles, exchange.links, NOW)
    seen: list[int] = []

    async def record(drafts: list[Any]) -> None:
        seen.append(exchange.decides)

    assert await pull(*at, record) == (NODE,)
    assert (seen, exchange.decides) == ([2], 5)
    assert exchange.wire.sent == [End("POLICY_REVOKED")], "the minimum came with it"
    assert await pull(*at, record) == ()


async def test_of_two_ways_at_once_a_policy_is_recorded_once(exchange: Exchange) -> None:
    at = (exchange.at.federation.nodes, exchange.at, exchange.bundles, exchange.links, NOW, exchange.log.append)
    await asyncio.gather(exchange.publish(3), *(pull(*at) for _ in range(3)))
    await pull(*at)
    assert exchange.entries == [(3, True, "")]


async def test_an_answer_under_another_policy_makes_the_broker_ask_at_once_and_once_a_second(stage: Stage) -> None:
    box = Outbox()
    at = stream(stage, box)
    stage.links.attach(at._link)
    for n, inquiry_id in enumerate(IDS):
        asked = work(inquiry_id)
        at._link.ask(asked, lambda _: None)
        item = chunk(inquiry_id, b"", total=1)
        item.outcome.header.policy_digest = "cd" * 32 if n else asked.receipt.ruling.decision.policy_digest
        await at._item(item)
    sent = [i for i in await box.take() if i.WhichOneof("item") == "show_policy"]
    assert len(sent) == 1


async def test_what_a_node_shows_again_because_it_was_asked_fills_no_log(stage: Stage) -> None:
    box = Outbox()
    at = stream(stage, box)
    at._published = at._link.published = replace(at._published, data=b"the same")
    stage.links.attach(at._link)
    asked = work(IDS[0])
    at._link.ask(asked, lambda _: None)
    item = chunk(IDS[0], b"", total=1)
    item.outcome.header.policy_digest = "cd" * 32
    await at._item(item)
    await at._item(pb2.NodeItem(hello=pb2.Hello(node=NODE, bundle=b"the same")))
    assert stage.log.bodies("policy") == []
    await at._item(pb2.NodeItem(hello=pb2.Hello(node=NODE, bundle=b"another")))
    assert [b["taken_up"] for b in stage.log.bodies("policy")] == [False]


def test_a_node_under_an_older_policy_is_attached_and_decided_on_under_the_newer(exchange: Exchange) -> None:
    exchange.links.learn(exchange.opened(7, DENY))
    link = Link(NODE, exchange.opened(2), FakeWire(), stale=True)
    exchange.links.attach(link)
    assert exchange.decides == 7
    assert exchange.links.get(NODE) is link
    exchange.links.take_up(link, exchange.opened(8))
    assert (exchange.decides, link.stale) == (8, False)


async def test_a_process_that_hears_of_a_newer_policy_from_an_older_hello_records_it(exchange: Exchange) -> None:
    elsewhere = Publishing(
        directory=exchange.at, bundles=exchange.bundles, links=Links(), log=exchange.log, clock=lambda: NOW
    )
    await elsewhere.publish(NODE, bundle(exchange.at, 6, DENY), exchange.by(), revoke_older=False)
    here, fresh = FakeLog("broker.other/log", FixedClock(NOW)), Links()
    at = (exchange.at, exchange.bundles, fresh, NODE, NOW, here.append)
    shown = await stands_under_older(bundle(exchange.at, 2), *at)
    assert shown is not None
    assert (shown.version, [b["version"] for b in here.bodies("policy")]) == (2, [6])
    newest = fresh.published(NODE)
    assert newest is not None
    assert newest.version == 6
    assert await stands_under_older(bundle(exchange.at, 9), *at) is None, "what is not older does not stand under one"
