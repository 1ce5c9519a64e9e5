"""One search, from the call to the summary: the broker's part of the twelve steps, on one screen.

1 authenticate   certificate -> Requester; signature, freshness, replay
2 decide         federation policy AND each node's own -> Permit | Deny | Awaiting, one a target
3 record         inquiry and every decision, durable, before anything leaves -> Receipt
4 dispatch       on each permitted node's attached stream         (5 to 9 happen at the node)
10 collect       answers as they arrive
11 record        outcomes, durable, before they are released
12 release       decisions, outcomes, and that it is finished
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from audit.log import DecisionLog
from broker.admission import Admission
from broker.authenticate import authenticate
from broker.decide import decide, within_quotas
from broker.dispatch import SLICE, Dispatch
from broker.links import Links
from broker.model import (
    Answer,
    Call,
    Decided,
    Finished,
    Permit,
    Receipt,
    Release,
    Released,
    Requester,
    Ruling,
    is_permit,
)
from broker.own import OwnOutcomes
from broker.ports import Clock, OutcomeSigner, Presence, Quota, ReleaseGate, ReplayGuard
from broker.record import record, record_outcomes, record_rejection
from comity.decision import Decision
from comity.errors import Exhausted, InvalidInput, NotAuthentic, Unavailable
from comity.outcome import OutcomeKind, Tally
from identity.directory import Directory
from policies.decide import Decider

RELEASE_MARGIN_S = 0.2  # what is left of the caller's deadline to record and release the last outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Searches a day, by person and by agency."""

    person_per_day: int
    agency_per_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that a search needs; one for the life of the process."""

    directory: Directory
    decider: Decider
    links: Links
    log: DecisionLog
    signer: OutcomeSigner
    replay: ReplayGuard
    presence: Presence
    quota: Quota
    admission: Admission
    gate: ReleaseGate
    limits: Limits
    clock: Clock
    background: Callable[[asyncio.Task[None]], None]
    finished: Callable[[Tally], None] = lambda _: None

    async def run(self, call: Call) -> AsyncGenerator[Release, None]:
        """Decisions, then every target's one outcome as it arrives, then that it is finished.

        Raises:
            NotAuthentic, InvalidInput: step 1; recorded as a rejection.
            Exhausted, Unavailable, LogBroken: nothing was asked, or nothing more is released; Unavailable also while
                too few witnesses have seen the log.
        """
        loop = asyncio.get_running_loop()
        async with self.admission.enter(call.peer.agency):
            await self.gate.opened(call.deadline - loop.time())
            await self._within_quota(call)
            requester = await self._authenticate(call, preview=False)  # 1
            receipts = await self._decide_and_record(call, requester, preview=False)  # 2, 3
            yield Decided(decisions=tuple(r.ruling.decision for r in receipts))
            own = OwnOutcomes(requester, self.signer, self.clock())
            ask = [r for r in receipts if is_permit(r) and self.links.get(r.node)]
            asked = {r.node for r in ask}
            others = partial(self._not_asked, [r for r in receipts if r.node not in asked], own)
            outcomes: list[tuple[OutcomeKind, int]] = []
            dispatch = Dispatch(requester.inquiry_id, self.links, own)
            deadline = max(loop.time(), call.deadline - RELEASE_MARGIN_S)
            try:
                async with aclosing(dispatch.run(ask, call.work, deadline, others)) as answers:  # 4, 10
                    async for ready in answers:
                        # Shielded: what a node answered is recorded even if the caller leaves at this moment.
                        await asyncio.shield(record_outcomes(self.log, requester, ready, deadline_s=None))  # 11
                        outcomes += [(a.kind, a.count) for a in ready]
                        self.gate.check()
                        yield Released(answers=ready)  # 12
            finally:
                self._abandon(dispatch, requester, own)
            tally = Tally.of(len(receipts), outcomes)
            self.finished(tally)
            yield Finished(inquiry_id=requester.inquiry_id, tally=tally)

    async def preview(self, call: Call) -> tuple[Decision, ...]:
        """Decisions only, recorded as any others; no node is asked.

        Raises:
            NotAuthentic, InvalidInput, Exhausted, Unavailable, LogBroken: as `run`.
        """
        async with self.admission.enter(call.peer.agency):
            await self.gate.opened(call.deadline - asyncio.get_running_loop().time())
            await self._within_quota(call)
            requester = await self._authenticate(call, preview=True)
            receipts = await self._decide_and_record(call, requester, preview=True)
            return tuple(r.ruling.decision for r in receipts)

    async def _authenticate(self, call: Call, *, preview: bool) -> Requester:
        try:
            requester = await authenticate(call, self.directory, self.replay, self.clock())
            if requester.verified.inquiry.preview and not preview:
                raise NotAuthentic("it was signed to be previewed, not to be searched", reason="PREVIEW_ONLY")
            return requester
        except (NotAuthentic, InvalidInput) as error:
            await record_rejection(self.log, call, error)
            raise

    async def _within_quota(self, call: Call) -> None:
        # Before the inquiry is looked at, and so of rejections too: else one person's would fill the log, and the
        # replay guard, which turns everybody away when it is full.
        who, day = call.peer, self.clock().date()
        for key, limit in (
            (str(who.spiffe), self.limits.person_per_day),
            (who.agency, self.limits.agency_per_day),
        ):
            if not await self.quota.take(key, day, limit):
                raise Exhausted(
                    f"{limit} searches a day are allowed", retry_after_s=3600, quota=key, reason="QUOTA_EXHAUSTED"
                )

    async def _decide_and_record(
        self, call: Call, requester: Requester, *, preview: bool
    ) -> tuple[Receipt[Ruling], ...]:
        rulings = decide(requester, self.directory.federation, self.decider, self.links, self.clock())
        if not preview:
            rulings = await within_quotas(requester, rulings, self.quota, self.clock().date())
        left_s = call.deadline - asyncio.get_running_loop().time()
        return await record(
            self.log,
            requester,
            rulings,
            directory_version=self.directory.version,
            preview=preview,
            deadline_s=max(0.001, left_s),
        )

    async def _not_asked(self, receipts: Sequence[Receipt[Ruling]], own: OwnOutcomes) -> tuple[Answer, ...]:
        missing = [r.node for r in receipts if self.links.get(r.node) is None]
        try:
            last = await self.presence.last_attached_at(missing) if missing else {}
        except Unavailable:  # since when they are gone is a courtesy; that they are gone is known here
            last = {}
        return tuple(own.not_asked(r, self.links.get(r.node) is not None, last) for r in receipts)

    def _abandon(self, dispatch: Dispatch, requester: Requester, own: OwnOutcomes) -> None:
        """The caller has gone, or nothing more may be released: nodes are told, and the log says so."""
        if not dispatch.outstanding:
            return
        left = tuple(dispatch.outstanding.values())
        dispatch.cancel()
        self.background(asyncio.ensure_future(self._record_left(left, requester, own)))

    async def _record_left(self, receipts: Sequence[Receipt[Permit]], requester: Requester, own: OwnOutcomes) -> None:
        for at in range(0, len(receipts), SLICE):
            # A signature each: the nodes are told first, and nobody else's search stands still meanwhile.
            left = tuple(own.timed_out(r, "CALLER_LEFT") for r in receipts[at : at + SLICE])
            await record_outcomes(self.log, requester, left, deadline_s=None)
