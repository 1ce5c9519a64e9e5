"""Links and the broker's own outcomes: who is attached, under which policy, and what is said of those who are not."""

from __future__ import annotations

import pytest

from broker.links import Link, Links
from broker.model import Answer, Lost, Work, is_permit
from comity.envelope import OUTCOME_TYPE, Envelope
from comity.outcome import Outcome, OutcomeKind
from tests.fakes import FakeWire
from tests.unit.broker import scene as at_broker
from tests.unit.broker.scene import Awaiting, Deny, Permit, answer, own, published, receipt
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW

MS_BEFORE = DAY - DAY / 86_400_000


def work(node: str = "alder-1") -> Work:
    permit = receipt(node)
    assert is_permit(permit)
    return Work(inquiry_id=scene.INQUIRY_ID, inquiry_hash=b"h" * 32, inquiry=b"w", receipt=permit, deadline_ms=1000)


def link(wire: FakeWire | None = None) -> Link:
    return Link("alder-1", published("alder-1"), wire or FakeWire())


def test_an_answer_is_handed_on_once_and_never_again() -> None:
    at, heard = link(), list[Answer | Lost]()
    at.ask(work(), heard.append)
    assert at.answered(scene.INQUIRY_ID, answer("alder-1"))
    assert not at.answered(scene.INQUIRY_ID, answer("alder-1"))
    at.lost("gone")
    assert heard == [answer("alder-1")]


def test_an_answer_to_what_was_never_asked_is_nobody_s() -> None:
    assert not link().answered(scene.INQUIRY_ID, answer("alder-1"))


def test_whoever_waits_on_a_link_that_ends_is_told_that_it_was_lost() -> None:
    at, heard = link(), list[Answer | Lost]()
    at.ask(work(), heard.append)
    at.lost("cable cut")
    assert heard == [Lost("alder-1", "LINK_LOST", "cable cut")]
    assert not at.waits_for(scene.INQUIRY_ID)


def test_a_cancelled_work_tells_the_node_once_and_takes_no_answer() -> None:
    wire, heard = FakeWire(), list[Answer | Lost]()
    at = link(wire)
    at.ask(work(), heard.append)
    at.cancel(scene.INQUIRY_ID)
    at.cancel(scene.INQUIRY_ID)
    assert wire.cancelled == [scene.INQUIRY_ID]
    assert not at.answered(scene.INQUIRY_ID, answer("alder-1"))
    assert heard == []


def test_a_node_attached_anew_replaces_its_old_link_which_then_detaches_nothing() -> None:
    links, old, new = Links(), link(), link()
    assert links.attach(old) is None
    assert links.attach(new) is old
    assert not links.detach(old)
    assert links.get("alder-1") is new
    assert links.detach(new)
    assert links.get("alder-1") is None
    assert len(links) == 0


def test_a_node_that_left_is_still_decided_on_under_its_last_policy() -> None:
    links, at = Links(), link()
    links.attach(at)
    links.detach(at)
    assert links.with_policies(["alder-1", "brazos-1"], NOW) == [
        ("alder-1", at.published.policy),
        ("brazos-1", None),
    ]


def test_an_expired_policy_is_none_from_its_very_end_on() -> None:
    links = Links()
    links.attach(link())
    assert links.with_policies(["alder-1"], NOW + MS_BEFORE)[0][1] is not None
    assert links.with_policies(["alder-1"], NOW + DAY) == [("alder-1", None)]


def test_a_new_policy_of_a_link_that_was_replaced_changes_nothing() -> None:
    links, old, new = Links(), link(), link()
    links.attach(old)
    links.attach(new)
    denying = published("alder-1", at_broker.DENY)
    links.take_up(old, denying)
    assert links.with_policies(["alder-1"], NOW)[0][1] is new.published.policy
    links.take_up(new, denying)
    assert links.with_policies(["alder-1"], NOW)[0][1] is denying.policy


def test_links_may_come_and_go_while_they_are_gone_through() -> None:
    links = Links()
    links.attach(link())
    for each in links:
        links.detach(each)
    assert len(links) == 0


# The broker's own outcomes


def outcome_of(made: Answer) -> Outcome:
    envelope = Envelope.parse(made.envelope, payload_type=OUTCOME_TYPE)
    assert envelope.payload_hash == made.payload_hash
    read = Outcome.parse(envelope.payload)
    assert (read.node, read.kind, read.inquiry_id) == (made.node, made.kind, scene.INQUIRY_ID)
    return read


NOT_ASKED = {
    "a refusal stays a refusal though the node is away": (Deny, {}, False, OutcomeKind.REFUSED, "DENIED_BY_RULE"),
    "a refusal of an attached node": (Deny, {}, True, OutcomeKind.REFUSED, "DENIED_BY_RULE"),
    "a node that never showed a policy and is away": (
        Deny,
        {"reason_code": "NO_POLICY"},
        False,
        OutcomeKind.UNREACHABLE,
        "NOT_ATTACHED",
    ),
    "an attached node whose policy has expired": (
        Deny,
        {"reason_code": "NO_POLICY"},
        True,
        OutcomeKind.REFUSED,
        "NO_POLICY",
    ),
    "a permitted node that is away": (Permit, {}, False, OutcomeKind.UNREACHABLE, "NOT_ATTACHED"),
    "a node that waits for an approval": (Awaiting, {}, True, OutcomeKind.PENDING, "APPROVAL_AWAITED"),
    "a node that waits for an approval and is away": (Awaiting, {}, False, OutcomeKind.PENDING, "APPROVAL_AWAITED"),
}


@pytest.mark.parametrize(("ruling", "changes", "attached", "kind", "code"), NOT_ASKED.values(), ids=NOT_ASKED.keys())
def test_what_the_broker_says_of_a_node_it_does_not_ask(
    ruling: type[Permit] | type[Deny] | type[Awaiting],
    changes: dict[str, str],
    attached: bool,
    kind: OutcomeKind,
    code: str,
) -> None:
    made = own().not_asked(receipt("alder-1", ruling, **changes), attached, {"alder-1": NOW - DAY})
    read = outcome_of(made)
    assert (made.kind, made.reason_code, made.count, made.coverage) == (kind, code, 0, None)
    assert read.last_attached_at == (NOW - DAY if kind is OutcomeKind.UNREACHABLE else None)
    assert (read.role, bool(read.agency)) == (("supervisor", True) if kind is OutcomeKind.PENDING else ("", False))
    if kind is OutcomeKind.REFUSED:
        assert read.decision is not None
        assert read.decision.rules[0].basis == "an ordinance"


def test_a_node_that_did_not_answer_is_said_to_have_perhaps_searched() -> None:
    asked = receipt("alder-1")
    assert is_permit(asked)
    late, lost = own().timed_out(asked), own().lost(asked, Lost("alder-1", "LINK_LOST", "cable cut"))
    assert (outcome_of(late).kind, late.reason_code) == (OutcomeKind.TIMED_OUT, "DEADLINE")
    assert "may have searched" in outcome_of(late).reason
    assert (outcome_of(lost).kind, outcome_of(lost).reason_code) == (OutcomeKind.ERROR, "LINK_LOST")
