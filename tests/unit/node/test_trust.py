"""A broker's receipt: of a pinned broker's log, over an entry that permits this inquiry at this node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from audit.note import Checkpoint
from audit.tree import leaf_hash
from comity.decision import Effect
from comity.errors import NotAuthentic
from identity.inquiry import verify_inquiry
from node.model import BrokerReceipt
from node.trust import check_receipt
from tests.unit.broker.scene import ORIGIN
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW
from tests.unit.node.scene import NODE, NodeStage

Spoil = Callable[[NodeStage, BrokerReceipt], BrokerReceipt]


def entry(changes: dict[str, Any]) -> Spoil:
    """The receipt with a changed entry whose own hash is right."""

    def spoil(_: NodeStage, r: BrokerReceipt) -> BrokerReceipt:
        changed = orjson.dumps(orjson.loads(r.entry) | changes)
        return replace(r, entry=changed, leaf_hash=leaf_hash(changed))

    return spoil


def raw(data: bytes) -> Spoil:
    return lambda _, r: replace(r, entry=data, leaf_hash=leaf_hash(data))


def of_a_node_s_log(s: NodeStage, r: BrokerReceipt) -> BrokerReceipt:
    note = Checkpoint(origin="node.other/log", size=9, root=b"r" * 32).sign(s.other_log.key)
    return replace(r, origin="node.other/log", checkpoint=note)


def signed_by_another(s: NodeStage, r: BrokerReceipt) -> BrokerReceipt:
    return replace(r, checkpoint=Checkpoint(origin=ORIGIN, size=9, root=b"r" * 32).sign(s.other_log.key))


def too_early(s: NodeStage, r: BrokerReceipt) -> BrokerReceipt:
    return replace(r, checkpoint=Checkpoint(origin=ORIGIN, size=1, root=b"r" * 32).sign(s.at_broker.log.key))


SPOILED: dict[str, Spoil] = {
    "of a log that is not pinned": lambda _, r: replace(r, origin="unknown/log"),
    "of a node's log": of_a_node_s_log,
    "with another log's signature": signed_by_another,
    "with no checkpoint": lambda _, r: replace(r, checkpoint=b""),
    "with a cut checkpoint": lambda _, r: replace(r, checkpoint=r.checkpoint[:-5]),
    "whose head does not cover it": too_early,
    "at the head's own size": lambda _, r: replace(r, index=2),
    "with another entry's hash": lambda _, r: replace(r, leaf_hash=b"l" * 32),
    "with no entry": raw(b""),
    "with an entry that is no JSON": raw(b"{"),
    "with an entry that is a list": raw(b"[]"),
    "with an entry that is deep": raw(b"[" * 3000 + b"]" * 3000),
    "with an entry of another type": entry({"type": "outcome"}),
    "of another inquiry": entry({"inquiry_id": "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a11"}),
    "of another payload": entry({"inquiry_hash": "00" * 32}),
    "of another node": entry({"node": "brazos-1"}),
    "of a deny": entry({"effect": "deny"}),
    "of an effect that is true": entry({"effect": True}),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
async def test_a_receipt_that_does_not_prove_the_permit_is_refused(spoil: Spoil, stage: NodeStage) -> None:
    envelope = stage.envelope()
    verified = verify_inquiry(envelope, scene.disclosures(), stage.directory, NOW)
    receipt = spoil(stage, await stage.receipt(envelope))
    with pytest.raises(NotAuthentic) as e:
        check_receipt(receipt, verified, stage.directory, NODE)
    assert e.value.reason == "BAD_RECEIPT"


async def test_a_recorded_deny_is_no_receipt(stage: NodeStage) -> None:
    envelope = stage.envelope()
    verified = verify_inquiry(envelope, scene.disclosures(), stage.directory, NOW)
    receipt = await stage.receipt(envelope, effect=Effect.DENY, reason_code="DENIED_BY_RULE")
    with pytest.raises(NotAuthentic):
        check_receipt(receipt, verified, stage.directory, NODE)


async def test_an_honest_receipt_is_taken(stage: NodeStage) -> None:
    envelope = stage.envelope()
    verified = verify_inquiry(envelope, scene.disclosures(), stage.directory, NOW)
    receipt = await stage.receipt(envelope)
    check_receipt(receipt, verified, stage.directory, NODE)
    assert receipt.index == 1


async def test_a_receipt_that_is_refused_reads_nothing(stage: NodeStage) -> None:
    envelope = stage.envelope()
    receipt = replace(await stage.receipt(envelope), origin="unknown/log")
    out, _ = await stage.answer(await stage.work(envelope, receipt=receipt))
    assert (out.kind.value, out.reason_code, stage.store.searches) == ("refused", "BAD_RECEIPT", 0)
