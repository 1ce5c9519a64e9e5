"""Step 1: every way in which an inquiry is not its caller's own, fresh and first has its own reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.authenticate import authenticate
from comity.envelope import Envelope
from comity.errors import ComityError, Unavailable
from comity.inquiry import CLOCK_SKEW
from identity.inquiry import verify_inquiry
from identity.signing import Signer
from policies.question import question_of
from tests.fakes import OpenReplayGuard
from tests.unit.broker.scene import Stage
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import BRAZOS, name

MS = dt.timedelta(milliseconds=1)
MINUTE = dt.timedelta(minutes=1)
Make = Callable[[Stage], Envelope]


def supervisor_of_brazos(s: Stage) -> Signer:
    return s.world.signer(s.world.brazos, name(BRAZOS, "person", "b-hale"), role="supervisor")


def reyes_as_supervisor(s: Stage) -> Signer:
    return s.world.person(role="supervisor")


REFUSED: dict[str, tuple[Make, str]] = {
    "meant for another federation": (lambda s: s.signed(federation="other-exchange"), "WRONG_FEDERATION"),
    "in another person's name": (
        lambda s: s.signed(requester=f"{scene.REQUESTER}-2"),
        "WRONG_REQUESTER",
    ),
    "in the name of the same person of another agency": (
        lambda s: s.signed(requester=f"spiffe://{BRAZOS}/person/t-reyes"),
        "WRONG_REQUESTER",
    ),
    "approved by a supervisor of another agency": (lambda s: s.signed(supervisor_of_brazos(s)), "WRONG_APPROVER"),
    "approved by one who is no supervisor": (lambda s: s.signed(s.world.person("a-lind")), "WRONG_APPROVER"),
    "approved by the requester herself": (lambda s: s.signed(reyes_as_supervisor(s)), "DUPLICATE_SIGNER"),
    "approved twice by one supervisor": (
        lambda s: s.signed(s.supervisor, s.world.person("s-okafor", role="supervisor")),
        "DUPLICATE_SIGNER",
    ),
    "approved by two, of whom one may not": (
        lambda s: s.signed(s.supervisor, s.world.person("a-lind")),
        "WRONG_APPROVER",
    ),
    "signed by a broker": (lambda s: s.signed(author=s.broker), "WRONG_KIND"),
    "expired this millisecond": (
        lambda s: s.signed(issued_at=NOW - MINUTE, end=NOW - MINUTE, expires_at=NOW),
        "EXPIRED",
    ),
    "issued a minute and a millisecond ahead": (
        lambda s: s.signed(issued_at=NOW + CLOCK_SKEW + MS),
        "ISSUED_IN_FUTURE",
    ),
    "issued before its certificate was": (
        lambda s: s.signed(issued_at=NOW - 3 * MINUTE, end=NOW - DAY),
        "CERTIFICATE_EXPIRED",
    ),
    "altered after it was signed": (
        lambda s: replace(s.signed(), payload=scene.inquiry(beneficiary=BRAZOS).encode()),
        "BAD_SIGNATURE",
    ),
    "no inquiry at all": (lambda s: s.person.sign(s.signed().payload_type, b"\xff"), "BAD_INQUIRY"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_an_inquiry_is_refused_with_its_own_reason(make: Make, reason: str, stage: Stage) -> None:
    with pytest.raises(ComityError) as e:
        verify_inquiry(make(stage), scene.disclosures(), stage.directory, NOW)
    assert e.value.reason == reason


def test_disclosures_that_do_not_match_are_refused(stage: Stage) -> None:
    with pytest.raises(ComityError) as e:
        verify_inquiry(stage.signed(), scene.disclosures(scene.QUERY), stage.directory, NOW)
    assert e.value.reason == "DISCLOSURE_MISMATCH"


def test_an_inquiry_approved_by_a_supervisor_of_the_same_agency_is_taken_with_both_names(stage: Stage) -> None:
    verified = verify_inquiry(stage.signed(stage.supervisor), scene.disclosures(), stage.directory, NOW)
    assert str(verified.requester.spiffe) == scene.REQUESTER
    assert [a.id for a in verified.approvers] == ["s-okafor"]
    assert verified.received_at == NOW
    assert "7ABC123" not in repr(verified)


@pytest.mark.parametrize("skew", [-CLOCK_SKEW, CLOCK_SKEW], ids=["a minute slow", "a minute fast"])
def test_a_minute_of_clock_difference_is_allowed(skew: dt.timedelta, stage: Stage) -> None:
    made = stage.signed(issued_at=NOW + min(skew, dt.timedelta()), end=NOW + min(skew, dt.timedelta()))
    ahead = stage.signed(issued_at=NOW + skew) if skew > dt.timedelta() else made
    assert verify_inquiry(ahead, scene.disclosures(), stage.directory, NOW).inquiry.federation


def test_the_question_for_policy_counts_begun_days_and_names_the_certificate_s_role(stage: Stage) -> None:
    verified = verify_inquiry(stage.signed(begin=NOW - 2 * DAY - MS), scene.disclosures(), stage.directory, NOW)
    asked = question_of(verified, NOW)
    assert (asked.lookback_days, asked.role, asked.approved, asked.has_case) == (3, "investigator", False, True)
    assert question_of(verified, NOW - 3 * DAY).lookback_days == 0


def test_a_blank_case_number_is_no_case(stage: Stage) -> None:
    blank = scene.disclosure("case_number", b"  ")
    envelope = stage.signed(case_number_commitment=blank.commitment)
    verified = verify_inquiry(envelope, scene.disclosures(scene.QUERY, blank), stage.directory, NOW)
    assert not question_of(verified, NOW).has_case


async def test_an_inquiry_sent_by_somebody_else_than_its_author_is_refused(stage: Stage) -> None:
    guard = OpenReplayGuard()
    with pytest.raises(ComityError) as e:
        await authenticate(stage.call(caller=stage.supervisor), stage.directory, guard, NOW)
    assert e.value.reason == "WRONG_CALLER"
    assert not guard.until, "nothing was claimed: the true author may still send it"


async def test_an_inquiry_seen_before_is_refused(stage: Stage) -> None:
    with pytest.raises(ComityError) as e:
        await authenticate(stage.call(), stage.directory, OpenReplayGuard(seen=True), NOW)
    assert e.value.reason == "REPLAYED"


async def test_an_inquiry_is_refused_when_nobody_knows_whether_it_was_seen(stage: Stage) -> None:
    guard = OpenReplayGuard(failing=Unavailable("no redis", reason="SHARED_STATE_UNAVAILABLE"))
    with pytest.raises(Unavailable):
        await authenticate(stage.call(), stage.directory, guard, NOW)


async def test_a_claim_outlasts_the_expiry_by_the_allowed_clock_difference(stage: Stage) -> None:
    guard = OpenReplayGuard()
    found = await authenticate(stage.call(), stage.directory, guard, NOW)
    assert guard.until == [found.verified.inquiry.expires_at + CLOCK_SKEW]
    assert found.inquiry_id == scene.INQUIRY_ID
