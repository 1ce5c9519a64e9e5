"""What a verified inquiry asks of policy: broker and node put the same question."""

from __future__ import annotations

import datetime as dt
import math

from identity.inquiry import VerifiedInquiry
from policies.request import Question, has_case

_DAY = dt.timedelta(days=1)


def question_of(verified: VerifiedInquiry, now: dt.datetime) -> Question:
    """The question at `now`; the look-back counts whole days, begun ones included, back to the window's beginning."""
    inquiry = verified.inquiry
    return Question(
        requester_agency=verified.requester.agency,
        role=verified.requester.role,
        beneficiary=inquiry.beneficiary,
        purpose=inquiry.purpose.code,
        legal_basis=inquiry.purpose.legal_basis,
        authority=inquiry.authority,
        act=inquiry.act,
        has_case=has_case(verified.disclosed.case_number),
        lookback_days=max(0, math.ceil((now - inquiry.begin) / _DAY)),
        approved=bool(verified.approvers),
        day=now.date(),
        offence=inquiry.purpose.offence,
        person=inquiry.requester,
    )
