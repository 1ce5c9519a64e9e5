"""One inquiry at the node, from the work to the signed outcome: steps 5 to 9 of the twelve, on one screen.

0 recall     an inquiry id is held once: a second delivery gets the recorded answer, never a new look-up
5 trust      the investigator's signature and the broker's receipt
6 decide     again, under this node's own current policy
7 record     inquiry and decision, durable, before a detection is read
8 look up    the permitted window, clipped and redacted by the obligations
9 answer     one signed outcome, recorded before it is sent
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from audit.log import AlreadyRecorded, DecisionLog
from comity.decision import Decision
from comity.errors import ComityError, InvalidInput, LogBroken, NotAuthentic, Unavailable
from comity.inquiry import CLOCK_SKEW
from identity.directory import Directory
from node.answer import Answers, OutcomeSigner
from node.kept import Kept
from node.look_up import Withheld, look_up
from node.model import OwnReceipt, Signed, Trusted, Work
from node.own_facts import decide_here
from node.policy import POLICY_CHANGED, OwnPolicy, held_against
from node.quota import Quotas, spent
from node.record import record, record_outcome, record_rejection
from node.store.interface import DetectionStore
from node.trust import open_inquiry, trust
from policies.decide import Decider
from policies.published import with_expiry
from policies.question import question_of

logger = structlog.get_logger("search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that an answer needs; one for the life of the process.

    `say_hello`: tells every broker the policy in force, when one has decided under another. `mobile_cameras`: None
    where it is not stated which ones are.
    """

    node: str
    agency: str
    retention_s: int
    directory: Directory
    decider: Decider
    policy: OwnPolicy
    log: DecisionLog
    store: DetectionStore
    kept: Kept
    quotas: Quotas
    signer: OutcomeSigner
    clock: Callable[[], dt.datetime]
    new_id: Callable[[], str]
    say_hello: Callable[[], None] = lambda: None
    mobile_cameras: frozenset[str] | None = None

    async def run(self, work: Work, broker: str) -> Signed:
        """This node's one signed outcome of `work`, which `broker` (a SPIFFE ID) sent. Whatever is wrong becomes
        an outcome that says so.

        Raises:
            LogBroken: nothing may be sent, and the node stops.
        """
        now = self.clock()
        try:
            envelope, _ = open_inquiry(work)
        except ComityError as error:
            answers = Answers(self.node, self.signer, work.inquiry_id, bytes(32), now)
            return await self._reject(answers, bytes(32), broker, error)
        answers = Answers(self.node, self.signer, work.inquiry_id, envelope.payload_hash, now)
        try:
            if kept := await self._recall(work, envelope.payload_hash, now):  # 0
                return kept
            trusted = trust(work, self.directory, self.node, now)  # 5
        except (NotAuthentic, InvalidInput) as error:
            return await self._reject(answers, envelope.payload_hash, broker, error)
        except Unavailable as error:
            return answers.failed(error.reason, str(error))
        try:
            receipt = await self._decide_and_record(trusted, broker, now)  # 6, 7
        except AlreadyRecorded:
            return answers.failed("ALREADY_RECEIVED", "this inquiry was received before, and its answer is not kept")
        except LogBroken:
            raise
        except ComityError as error:
            return answers.failed(error.reason, "the node cannot record: nothing was searched")
        signed = await self._answer(work, answers, receipt, now)  # 8, 9
        return await self._keep(signed, trusted, answers, now)

    @property
    def _retention_s(self) -> int:
        return min(self.retention_s, self.policy.published.retention_s)

    async def _recall(self, work: Work, inquiry_hash: bytes, now: dt.datetime) -> Signed | None:
        kept = await asyncio.to_thread(self.kept.get, work.inquiry_id, now)
        if kept is not None and kept.inquiry_hash != inquiry_hash:
            raise NotAuthentic("another inquiry had this id", reason="INQUIRY_ID_REUSED")
        return kept

    async def _decide_and_record(self, trusted: Trusted, broker: str, now: dt.datetime) -> OwnReceipt:
        question, policy = question_of(trusted.verified, now), self.policy.in_force(now)
        decided, cameras = decide_here(self.decider, question, self.node, policy, self.mobile_cameras)
        decision = held_against(with_expiry(decided, self.policy.published), trusted)
        if decision.reason_code == POLICY_CHANGED:
            self.say_hello()
        if decision.permitted and decision.quotas:
            decision = await self._within_quotas(decision, trusted, now)
        version = self.directory.version
        receipt = await record(self.log, trusted, decision, broker=broker, directory_version=version)
        return replace(receipt, cameras=cameras)

    async def _within_quotas(self, decision: Decision, trusted: Trusted, now: dt.datetime) -> Decision:
        agency = trusted.verified.requester.agency
        over = await asyncio.to_thread(self.quotas.take, agency, decision.quotas, now.date())
        return decision if over is None else spent(decision, *over)

    async def _answer(self, work: Work, answers: Answers, receipt: OwnReceipt, now: dt.datetime) -> Signed:
        if not receipt.decision.permitted:
            return answers.not_permitted(receipt)
        if work.nobody_waits():
            return answers.failed("NOBODY_WAITS", "nobody waited for this any more: nothing was searched", receipt)
        verified = receipt.trusted.verified
        try:
            found = await asyncio.to_thread(
                look_up,
                self.store,
                verified.inquiry,
                verified.disclosed,
                receipt.decision.obligations,
                retention_s=self._retention_s,
                agency=self.agency,
                now=now,
                cameras=receipt.cameras,
            )
        except Withheld as error:
            return answers.withheld(receipt, error.reason, str(error))
        except ComityError as error:
            logger.warning("search failed", reason=error.reason)
            return answers.failed(error.reason, "the node's detections cannot be read", receipt)
        signed = answers.found(receipt, found)
        if found.oldest_at is None:
            return signed
        return replace(signed, keep_until=found.oldest_at + dt.timedelta(seconds=self._retention_s))

    async def _keep(self, signed: Signed, trusted: Trusted, answers: Answers, now: dt.datetime) -> Signed:
        """Recorded and kept for a second delivery; only then may it be sent."""
        until = min(trusted.verified.inquiry.expires_at + CLOCK_SKEW, now + dt.timedelta(seconds=self._retention_s))
        if signed.keep_until is not None:  # its detections may be no older in here than in the store
            until = min(until, signed.keep_until)
        try:
            # In this order: what is kept may be sent again, so it is never there before its entry is.
            await record_outcome(self.log, self.node, signed)
            await asyncio.to_thread(self.kept.put, signed, until)
        except LogBroken:
            raise
        except ComityError as error:
            failed = answers.failed(error.reason, "the node cannot record its answer: nothing is released")
            return replace(failed, receipt=signed.receipt)
        return signed

    async def _reject(self, answers: Answers, payload_hash: bytes, broker: str, error: ComityError) -> Signed:
        try:
            await record_rejection(self.log, payload_hash, broker, error.reason)
        except LogBroken:
            raise
        except ComityError as unrecorded:
            return answers.failed(unrecorded.reason, "the node cannot record: nothing was searched")
        return answers.not_trusted(self.new_id(), error.reason, str(error))
