"""The node's steps on fakes: nothing is read before it is recorded, nothing sent before its outcome is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from comity.envelope import Envelope
from comity.errors import ComityError, Exhausted, InvalidInput, LogBroken, Unavailable
from comity.outcome import OutcomeKind
from comity.v1 import decision_pb2
from comity.v1 import node_link_service_pb2 as pb2
from identity.signing import Signer
from node.kept import Kept
from node.store.interface import StoreError
from tests.fakes import FailingKept
from tests.unit.broker.scene import APPROVAL, DENY
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import BRAZOS, World, name
from tests.unit.node.scene import BROKER, NodeStage, nobody, seen


async def test_the_order_is_record_look_up_record_keep(stage: NodeStage) -> None:
    stage.store.add([seen()])
    out, outcome = await stage.answer(await stage.work())
    assert stage.journal == ["log inquiry decision receipt", "store searched", "log outcome", "kept"]
    assert (outcome.kind, out.count) == (OutcomeKind.MATCH, 1)
    assert outcome.coverage == scene.COVERAGE
    assert out.receipt is not None
    assert out.receipt.index == 1


async def test_what_was_not_seen_is_no_match_over_the_whole_window(stage: NodeStage) -> None:
    stage.store.add([seen(number="8XYZ789")])
    _, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, outcome.coverage, outcome.detections) == (OutcomeKind.NO_MATCH, scene.COVERAGE, ())


async def test_the_log_holds_counts_and_no_plate(stage: NodeStage) -> None:
    stage.store.add([seen(), seen(60)])
    await stage.answer(await stage.work())
    assert stage.log.bodies("outcome")[0]["count"] == 2
    assert not any("7ABC123" in str(d) for d in stage.log.drafts)


NOT_RECORDED = pytest.mark.parametrize(
    "error",
    [
        Unavailable("x", reason="LOG_TIMEOUT"),
        Exhausted("x", retry_after_s=1, reason="LOG_QUEUE_FULL"),
        InvalidInput("x", reason="ENTRY_TOO_LARGE"),
    ],
    ids=lambda e: e.reason,
)


@NOT_RECORDED
async def test_nothing_is_looked_up_when_it_cannot_be_recorded(error: ComityError, stage: NodeStage) -> None:
    stage.store.add([seen()])
    work = await stage.work()
    stage.log.failing = [error]
    _, outcome = await stage.answer(work)
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, error.reason)
    assert stage.store.searches == 0


async def test_nothing_at_all_is_answered_when_the_log_is_broken(stage: NodeStage) -> None:
    work = await stage.work()
    for failing in ([LogBroken("x")], [None, LogBroken("x")]):
        stage.log.failing = list(failing)
        stage.log._inquiries.clear()
        with pytest.raises(LogBroken):
            await stage.search.run(work, BROKER)
    assert stage.kept.get(scene.INQUIRY_ID, NOW) is None


async def test_a_rejection_is_not_answered_either_when_the_log_is_broken(stage: NodeStage) -> None:
    work = await stage.work(inquiry=b"\xff")
    stage.log.failing = [LogBroken("x")]
    with pytest.raises(LogBroken):
        await stage.search.run(work, BROKER)


@NOT_RECORDED
async def test_an_outcome_that_cannot_be_recorded_is_not_released_now_or_on_a_second_delivery(
    error: ComityError, stage: NodeStage
) -> None:
    stage.store.add([seen()])
    work = await stage.work()
    stage.log.failing = [None, error]
    _, outcome = await stage.answer(work)
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, error.reason)
    _, again = await stage.answer(work)
    assert (again.kind, again.reason_code) == (OutcomeKind.ERROR, "ALREADY_RECEIVED")
    assert stage.store.searches == 1


async def test_an_answer_that_cannot_be_kept_is_not_released(stage: NodeStage, tmp_path: Path) -> None:
    stage.store.add([seen()])
    (tmp_path / "k").mkdir()
    stage.search = stage.searching(kept=FailingKept(tmp_path / "k"))
    _, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, "KEPT_UNAVAILABLE")


async def test_nothing_is_looked_up_when_nobody_knows_whether_it_was_answered_before(
    stage: NodeStage, tmp_path: Path
) -> None:
    (tmp_path / "k").mkdir()
    closed = Kept(tmp_path / "k")
    closed.close()
    stage.search = stage.searching(kept=closed)
    _, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, "KEPT_UNAVAILABLE")
    assert stage.journal == []


async def test_a_second_delivery_gets_the_recorded_answer_byte_for_byte(stage: NodeStage) -> None:
    stage.store.add([seen()])
    work = await stage.work()
    first, _ = await stage.answer(work)
    stage.store.add([seen(30)])
    second, _ = await stage.answer(await stage.work())
    assert second.envelope == first.envelope
    assert stage.store.searches == 1
    assert len(stage.log.bodies("inquiry")) == len(stage.log.bodies("outcome")) == 1


async def test_two_deliveries_at_once_are_looked_up_once(stage: NodeStage) -> None:
    stage.store.add([seen()])
    work = await stage.work()
    both = await asyncio.gather(stage.answer(work), stage.answer(work))
    assert stage.store.searches == 1
    assert {o.kind for _, o in both} <= {OutcomeKind.MATCH, OutcomeKind.ERROR}


async def test_an_inquiry_whose_answer_is_no_longer_kept_is_not_looked_up_again(stage: NodeStage) -> None:
    work = await stage.work()
    await stage.answer(work)
    stage.kept.purge(NOW + DAY)
    _, outcome = await stage.answer(work)
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, "ALREADY_RECEIVED")
    assert stage.store.searches == 1


async def test_the_same_id_on_another_inquiry_is_refused(stage: NodeStage) -> None:
    await stage.answer(await stage.work())
    other = stage.envelope(begin=NOW - 2 * DAY)
    out, outcome = await stage.answer(await stage.work(other))
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, "INQUIRY_ID_REUSED")
    assert stage.log.bodies("rejected")[0]["payload_hash"] == other.payload_hash.hex()


async def test_nothing_is_looked_up_when_nobody_waits_and_it_is_recorded_that_nothing_was(stage: NodeStage) -> None:
    stage.store.add([seen()])
    out, outcome = await stage.answer(await stage.work(nobody_waits=nobody))
    assert (outcome.kind, out.reason_code) == (OutcomeKind.ERROR, "NOBODY_WAITS")
    assert stage.store.searches == 0
    assert stage.log.bodies("outcome")[0]["outcome"] == "error"


async def test_a_store_that_fails_is_an_error_and_never_nothing_found(stage: NodeStage) -> None:
    stage.store.failing = StoreError("disk", reason="STORE_CORRUPT")
    with capture_logs() as said:
        out, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, "STORE_CORRUPT")
    assert out.receipt is not None
    assert [(s["event"], s["reason"]) for s in said] == [("search failed", "STORE_CORRUPT")]


async def test_a_node_s_own_refusal_is_signed_with_its_rule_and_nothing_is_read(world: World, tmp_path: Path) -> None:
    stage = NodeStage(world, tmp_path, rows=DENY)
    out, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, "DENIED_BY_RULE")
    assert outcome.decision is not None
    assert outcome.decision.pep == decision_pb2.PEP_NODE
    assert "another test rule" in outcome.decision.reason
    assert stage.store.searches == 0


async def test_a_node_that_needs_an_approval_waits_for_one_though_the_broker_permitted(
    world: World, tmp_path: Path
) -> None:
    stage = NodeStage(world, tmp_path, rows=APPROVAL)
    out, outcome = await stage.answer(await stage.work())
    assert (outcome.kind, out.reason_code, outcome.role) == (OutcomeKind.PENDING, "APPROVAL_AWAITED", "supervisor")
    assert stage.store.searches == 0


def _moved(at: NodeStage) -> Envelope:
    """The supervisor's true signature, put under another inquiry of the same person."""
    true = at.envelope(at.at_broker.supervisor)
    return replace(true, payload=scene.inquiry(beneficiary="us-tx-brazos-pd").encode())


def _carried_over(at: NodeStage) -> Envelope:
    """A fresh inquiry, signed by its author, with the supervisor's signature of an earlier one."""
    earlier = at.envelope(at.at_broker.supervisor)
    fresh = at.envelope(inquiry_id="0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a99")
    return replace(fresh, signatures=(*fresh.signatures, earlier.signatures[1]))


def _supervisor(stage: NodeStage, id_: str = "s-okafor", **certificate: Any) -> Signer:
    return stage.world.person(id_, role="supervisor", **certificate)


# The broker believed each of them: it has been taken over, or its clock is wrong.
WRONGLY_APPROVED: dict[str, tuple[Callable[[NodeStage], Envelope], str]] = {
    "by a supervisor of another agency": (
        lambda at: at.envelope(at.world.signer(at.world.brazos, name(BRAZOS, "person", "b-hale"), role="supervisor")),
        "WRONG_APPROVER",
    ),
    "by an investigator of the same agency": (lambda at: at.envelope(at.world.person("a-lind")), "WRONG_APPROVER"),
    "by an auditor of the same agency": (
        lambda at: at.envelope(at.world.person("a-lind", role="auditor")),
        "WRONG_ROLE",
    ),
    "by the requester with a supervisor's certificate": (
        lambda at: at.envelope(_supervisor(at, "t-reyes")),
        "DUPLICATE_SIGNER",
    ),
    "with a certificate that has expired": (
        lambda at: at.envelope(_supervisor(at, at=NOW - DAY, ttl=DAY)),
        "CERTIFICATE_EXPIRED",
    ),
    "with a certificate that is not valid yet": (
        lambda at: at.envelope(_supervisor(at, at=NOW + DAY)),
        "CERTIFICATE_NOT_YET_VALID",
    ),
    "by the node itself": (lambda at: at.envelope(at.signer), "WRONG_KIND"),
    "by the broker": (lambda at: at.envelope(at.at_broker.broker), "WRONG_KIND"),
    "once truly and once by another agency": (
        lambda at: at.envelope(
            at.at_broker.supervisor,
            at.world.signer(at.world.brazos, name(BRAZOS, "person", "b-hale"), role="supervisor"),
        ),
        "WRONG_APPROVER",
    ),
    "with a signature moved to another purpose": (_moved, "BAD_SIGNATURE"),
    "with the signature of an earlier inquiry": (_carried_over, "BAD_SIGNATURE"),
}


@pytest.mark.parametrize(("make", "reason"), WRONGLY_APPROVED.values(), ids=WRONGLY_APPROVED.keys())
async def test_what_is_wrongly_approved_is_refused_by_the_node_though_the_broker_permitted(
    make: Callable[[NodeStage], Envelope], reason: str, world: World, tmp_path: Path
) -> None:
    stage = NodeStage(world, tmp_path, rows=APPROVAL)
    stage.store.add([seen()])
    out, outcome = await stage.answer(await stage.work(make(stage)))
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, reason)
    assert [b["reason_code"] for b in stage.log.bodies("rejected")] == [reason]
    assert stage.store.searches == 0


async def test_a_node_whose_policy_has_expired_refuses_everybody(stage: NodeStage) -> None:
    work = await stage.work()
    stage.policy.published = replace(stage.policy.published, valid_to=NOW)
    out, outcome = await stage.answer(work)
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, "POLICY_EXPIRED")


UNTRUSTED = {
    "bytes that are no work": ({"inquiry": b"\xff"}, "BAD_WORK"),
    "a work without an envelope": ({"inquiry": b""}, "BAD_ENVELOPE"),
    "a work labelled as another inquiry": ({"inquiry_id": "0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a11"}, "WRONG_INQUIRY"),
}


@pytest.mark.parametrize(("changes", "reason"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_what_is_no_inquiry_of_a_person_is_refused_and_recorded(
    changes: dict[str, Any], reason: str, stage: NodeStage
) -> None:
    out, outcome = await stage.answer(await stage.work(**changes))
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, reason)
    assert [b["reason_code"] for b in stage.log.bodies("rejected")] == [reason]
    assert stage.log.bodies("rejected")[0]["received_from"] == BROKER
    assert stage.store.searches == 0


async def test_a_broker_that_alters_the_purpose_is_caught(stage: NodeStage) -> None:
    envelope = replace(stage.envelope(), payload=scene.inquiry(beneficiary="us-tx-brazos-pd").encode())
    out, outcome = await stage.answer(await stage.work(envelope))
    assert (outcome.kind, out.reason_code) == (OutcomeKind.REFUSED, "BAD_SIGNATURE")


async def test_a_broker_that_adds_a_target_is_caught(stage: NodeStage) -> None:
    out, _ = await stage.answer(await stage.work(stage.envelope(targets=("brazos-1",))))
    assert (out.kind, out.reason_code) == (OutcomeKind.REFUSED, "NOT_A_TARGET")


async def test_a_broker_that_has_a_preview_searched_is_caught(stage: NodeStage) -> None:
    stage.store.add([seen()])
    out, _ = await stage.answer(await stage.work(stage.envelope(preview=True)))
    assert (out.kind, out.reason_code) == (OutcomeKind.REFUSED, "PREVIEW_ONLY")
    assert stage.store.searches == 0


async def test_a_broker_that_withholds_the_plate_is_caught(stage: NodeStage) -> None:
    envelope = stage.envelope()
    inquiry = pb2.WorkInquiry(envelope=envelope.encode()).SerializeToString()
    out, _ = await stage.answer(await stage.work(envelope, inquiry=inquiry))
    assert (out.kind, out.reason_code) == (OutcomeKind.REFUSED, "DISCLOSURE_MISMATCH")


async def test_a_rejection_that_cannot_be_recorded_is_an_error(stage: NodeStage) -> None:
    work = await stage.work(inquiry=b"\xff")
    stage.log.failing = [Unavailable("x", reason="LOG_TIMEOUT")]
    _, outcome = await stage.answer(work)
    assert (outcome.kind, outcome.reason_code) == (OutcomeKind.ERROR, "LOG_TIMEOUT")


async def test_an_answer_is_kept_no_longer_than_the_inquiry_lives_or_detections_may(
    world: World, tmp_path: Path
) -> None:
    stage = NodeStage(world, tmp_path, retention_s=180)
    await stage.answer(await stage.work())
    assert stage.kept.get(scene.INQUIRY_ID, NOW + DAY / 86_400 * 179) is not None
    assert stage.kept.get(scene.INQUIRY_ID, NOW + DAY / 86_400 * 180) is None


async def test_a_detection_is_kept_in_an_answer_no_longer_than_in_the_store(world: World, tmp_path: Path) -> None:
    stage = NodeStage(world, tmp_path, retention_s=180)
    stage.store.add([seen(170), seen(20)])
    _, outcome = await stage.answer(await stage.work())
    assert len(outcome.detections) == 2
    assert stage.kept.get(scene.INQUIRY_ID, NOW + DAY / 86_400 * 9) is not None
    assert stage.kept.get(scene.INQUIRY_ID, NOW + DAY / 86_400 * 10) is None
