"""The broker's twelve steps on fakes: nothing leaves before it is recorded, whatever fails and whoever leaves."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from broker.model import Decided, Finished, Release, Released, Work
from broker.search import Limits
from comity.decision import Effect
from comity.errors import ComityError, Exhausted, InvalidInput, LogBroken, NotAuthentic, Unavailable
from comity.inquiry import new_inquiry_id
from comity.outcome import OutcomeKind
from tests.fakes import OpenReplayGuard
from tests.unit.broker.scene import APPROVAL, DENY, Stage, answer
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import ALDER, World

FULL = answer("alder-1")
MATCH = answer("brazos-1", OutcomeKind.MATCH, count=2)


def outcomes(released: list[Release]) -> dict[str, OutcomeKind]:
    found = [a for r in released if isinstance(r, Released) for a in r.answers]
    assert len({a.node for a in found}) == len(found)
    return {a.node: a.kind for a in found}


async def test_every_step_is_recorded_before_the_next_one_and_before_anything_is_released(stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    stage.attach("brazos-1", DENY)
    released = await stage.run(stage.call())
    assert stage.journal == [
        "log inquiry decision decision",
        "released Decided",
        "work alder-1",
        *("log outcome", "released Released", "log outcome", "released Released"),
        "released Finished",
    ]
    assert outcomes(released) == {"alder-1": OutcomeKind.NO_MATCH, "brazos-1": OutcomeKind.REFUSED}
    decided, finished = released[0], released[-1]
    assert isinstance(decided, Decided)
    assert isinstance(finished, Finished)
    assert [d.node for d in decided.decisions] == ["alder-1", "brazos-1"]
    assert (finished.tally.targets, finished.tally.complete) == (2, False)


async def test_the_receipt_that_a_node_gets_is_of_its_own_durable_permit(stage: Stage) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    await stage.run(stage.call(stage.signed(targets=("alder-1",))))
    (work,) = wire.work
    assert work.receipt.index == 1
    assert work.receipt.ruling.decision.effect is Effect.PERMIT
    assert b'"type":"decision"' in work.receipt.entry
    assert stage.log.bodies("decision")[0]["node"] == "alder-1"


async def test_counts_are_recorded_and_plates_are_not(stage: Stage) -> None:
    stage.attach("brazos-1", answers=MATCH)
    await stage.run(stage.call())
    recorded = {b["node"]: (b["outcome"], b["count"]) for b in stage.log.bodies("outcome")}
    assert recorded == {"alder-1": ("unreachable", 0), "brazos-1": ("match", 2)}
    assert not any("7ABC123" in str(d) for d in stage.log.drafts)


FAILURES = pytest.mark.parametrize(
    "error",
    [LogBroken("x"), Unavailable("x", reason="LOG_TIMEOUT"), Exhausted("x", retry_after_s=1, reason="LOG_QUEUE_FULL")],
    ids=lambda e: e.reason,
)


@FAILURES
async def test_nothing_is_sent_to_any_node_when_the_decisions_cannot_be_recorded(
    error: ComityError, stage: Stage
) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    stage.log.failing = [error]
    with pytest.raises(type(error)):
        await stage.run(stage.call())
    assert wire.sent == []
    assert stage.journal == ["log failed"]


@FAILURES
async def test_nothing_is_released_when_the_outcomes_cannot_be_recorded(error: ComityError, stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    silent = stage.attach("brazos-1")
    stage.log.failing = [None, error]
    with pytest.raises(type(error)):
        await stage.run(stage.call())
    assert not [j for j in stage.journal if j == "released Released"]
    assert silent.cancelled == [scene.INQUIRY_ID]
    await stage.settle()


async def test_while_nothing_may_be_released_a_search_and_a_preview_are_not_even_begun(stage: Stage) -> None:
    stage.gate.closed = Unavailable("too few witnesses", reason="NOT_WITNESSED")
    for call in (stage.run(stage.call()), stage.search.preview(stage.call())):
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.reason == "NOT_WITNESSED"
    assert (stage.log.drafts, stage.journal) == ([], [])


async def test_what_was_asked_when_the_gate_closes_is_recorded_and_not_released(stage: Stage) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    reply = wire.on_work
    assert reply is not None

    def close_and_reply(work: Work) -> None:
        stage.gate.closed = Unavailable("too few witnesses", reason="NOT_WITNESSED")
        reply(work)

    wire.on_work = close_and_reply
    with pytest.raises(Unavailable) as refused:
        await stage.run(stage.call())
    assert refused.value.reason == "NOT_WITNESSED"
    assert "released Released" not in stage.journal
    assert {b["outcome"] for b in stage.log.bodies("outcome")} >= {"no_match"}


async def test_an_inquiry_that_is_not_the_caller_s_is_recorded_as_a_rejection_by_hash_alone(stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    call = stage.call(caller=stage.supervisor)
    with pytest.raises(NotAuthentic):
        await stage.run(call)
    assert stage.log.bodies("rejected") == [
        {
            "payload_hash": call.envelope.payload_hash.hex(),
            "received_from": f"spiffe://{ALDER}/person/s-okafor",
            "reason_code": "WRONG_CALLER",
        }
    ]
    assert stage.wires["alder-1"].sent == []


async def test_what_is_no_inquiry_is_recorded_as_a_rejection_too(stage: Stage) -> None:
    with pytest.raises(InvalidInput):
        await stage.run(stage.call(disclosures=[]))
    assert [b["reason_code"] for b in stage.log.bodies("rejected")] == ["DISCLOSURE_MISMATCH"]


async def test_a_rejection_that_cannot_be_recorded_is_a_failure_of_the_log(stage: Stage) -> None:
    stage.log.failing = [LogBroken("x")]
    with pytest.raises(LogBroken):
        await stage.run(stage.call(disclosures=[]))


async def test_the_same_inquiry_is_answered_once(stage: Stage) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    await stage.run(stage.call())
    with pytest.raises(NotAuthentic) as e:
        await stage.run(stage.call())
    assert e.value.reason == "REPLAYED"
    assert len(wire.work) == 1


async def test_an_inquiry_that_the_shared_state_forgot_is_known_to_the_log(world: World) -> None:
    stage = Stage(world, replay=OpenReplayGuard())
    wire = stage.attach("alder-1", answers=FULL)
    await stage.run(stage.call())
    with pytest.raises(NotAuthentic) as e:
        await stage.run(stage.call())
    assert e.value.reason == "REPLAYED"
    assert len(wire.work) == 1


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        (Limits(person_per_day=1, agency_per_day=9), scene.REQUESTER),
        (Limits(person_per_day=9, agency_per_day=1), ALDER),
    ],
    ids=["of the person", "of the agency"],
)
async def test_a_search_beyond_the_day_s_quota_is_refused_and_asks_nobody(
    limits: Limits, quota: str, world: World
) -> None:
    stage = Stage(world, limits=limits)
    wire = stage.attach("alder-1", answers=FULL)
    await stage.run(stage.call())
    again = stage.signed(inquiry_id=new_inquiry_id(NOW), nonce=b"m" * 16)
    with pytest.raises(Exhausted) as e:
        await stage.run(stage.call(again))
    assert (e.value.reason, e.value.quota) == ("QUOTA_EXHAUSTED", quota)
    assert len(wire.work) == 1


async def test_rejections_count_so_that_nobody_fills_the_log_or_the_replay_guard_with_them(world: World) -> None:
    stage = Stage(world, limits=Limits(person_per_day=2, agency_per_day=9))
    for reason in ("DISCLOSURE_MISMATCH", "DISCLOSURE_MISMATCH", "QUOTA_EXHAUSTED"):
        with pytest.raises(ComityError) as e:
            await stage.run(stage.call(disclosures=[]))
        assert e.value.reason == reason
    assert len(stage.log.bodies("rejected")) == 2
    assert await stage.replay_guard.claim(scene.INQUIRY_ID, b"n" * 16, NOW)


async def test_a_node_that_never_answers_is_timed_out_at_the_deadline_and_told(stage: Stage) -> None:
    wire = stage.attach("alder-1")
    released = await stage.run(stage.call(stage.signed(targets=("alder-1",)), seconds=0))
    assert outcomes(released) == {"alder-1": OutcomeKind.TIMED_OUT}
    assert wire.cancelled == [scene.INQUIRY_ID]
    assert stage.log.bodies("outcome")[0]["reason_code"] == "DEADLINE"


async def test_a_node_whose_link_breaks_is_an_error_and_no_other_node_suffers(stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    wire = stage.attach("brazos-1")
    link = stage.links.get("brazos-1")
    assert link is not None
    wire.on_work = lambda _: link.lost("cable cut")
    assert outcomes(await stage.run(stage.call())) == {
        "alder-1": OutcomeKind.NO_MATCH,
        "brazos-1": OutcomeKind.ERROR,
    }


async def test_a_node_that_needs_an_approval_is_asked_only_with_one(stage: Stage) -> None:
    wire = stage.attach("alder-1", APPROVAL, answers=FULL)
    targets = ("alder-1",)
    assert outcomes(await stage.run(stage.call(stage.signed(targets=targets)))) == {"alder-1": OutcomeKind.PENDING}
    assert wire.sent == []
    approved = stage.signed(stage.supervisor, targets=targets, inquiry_id=new_inquiry_id(NOW), nonce=b"m" * 16)
    assert outcomes(await stage.run(stage.call(approved))) == {"alder-1": OutcomeKind.NO_MATCH}
    assert len(wire.work) == 1


async def test_a_target_that_is_not_registered_is_refused_by_name_and_the_others_answer(stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    released = await stage.run(stage.call(stage.signed(targets=("alder-1", "nowhere-1"))))
    assert outcomes(released) == {"alder-1": OutcomeKind.NO_MATCH, "nowhere-1": OutcomeKind.REFUSED}
    assert {b["node"]: b["reason_code"] for b in stage.log.bodies("decision")}["nowhere-1"] == "NOT_REGISTERED"


async def test_a_caller_who_leaves_is_recorded_and_the_nodes_still_out_are_told(stage: Stage) -> None:
    wires = [stage.attach(n) for n in ("alder-1", "brazos-1")]
    link = stage.links.get("alder-1")
    assert link is not None
    async with aclosing(stage.search.run(stage.call())) as releases:
        assert isinstance(await anext(releases), Decided)
        waiting = asyncio.ensure_future(anext(releases))
        for wire in wires:
            await wire.reached.wait()
        link.answered(scene.INQUIRY_ID, FULL)
        assert isinstance(await waiting, Released)
    await stage.settle()
    assert [w.cancelled for w in wires] == [[], [scene.INQUIRY_ID]]
    assert [(b["node"], b["outcome"], b["reason_code"]) for b in stage.log.bodies("outcome")] == [
        ("alder-1", "no_match", ""),
        ("brazos-1", "timed_out", "CALLER_LEFT"),
    ]
    assert stage.search.admission.running == 0


async def test_a_caller_whose_call_is_cut_off_in_the_middle_is_as_one_who_leaves(stage: Stage) -> None:
    wire = stage.attach("alder-1")
    running = asyncio.ensure_future(stage.run(stage.call(stage.signed(targets=("alder-1",)))))
    await wire.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stage.settle()
    assert wire.cancelled == [scene.INQUIRY_ID]
    assert [b["reason_code"] for b in stage.log.bodies("outcome")] == ["CALLER_LEFT"]


async def test_a_preview_decides_and_records_and_asks_nobody(stage: Stage) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    decisions = await stage.search.preview(stage.call())
    assert {d.node: d.effect for d in decisions} == {"alder-1": Effect.PERMIT, "brazos-1": Effect.DENY}
    assert stage.journal == ["log inquiry decision decision"]
    assert stage.log.bodies("inquiry")[0]["preview"] is True
    assert wire.sent == []


async def test_what_was_signed_to_be_previewed_is_not_searched(stage: Stage) -> None:
    wire = stage.attach("alder-1", answers=FULL)
    with pytest.raises(NotAuthentic) as refused:
        await stage.run(stage.call(stage.signed(preview=True)))
    assert refused.value.reason == "PREVIEW_ONLY"
    assert [b["reason_code"] for b in stage.log.bodies("rejected")] == ["PREVIEW_ONLY"]
    assert wire.sent == []


async def test_a_preview_that_is_signed_as_one_is_decided(stage: Stage) -> None:
    stage.attach("alder-1", answers=FULL)
    decisions = await stage.search.preview(stage.call(stage.signed(preview=True)))
    assert {d.node: d.effect for d in decisions} == {"alder-1": Effect.PERMIT, "brazos-1": Effect.DENY}


async def test_a_preview_that_cannot_be_recorded_decides_nothing(stage: Stage) -> None:
    stage.log.failing = [Unavailable("x", reason="LOG_TIMEOUT")]
    with pytest.raises(Unavailable):
        await stage.search.preview(stage.call())
