"""What is asked of policy: one inquiry, reduced to what rules can speak of."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from comity.errors import InvalidInput, Violation
from comity.inquiry import shows
from comity.purpose import Act, Authority, LegalBasis


def has_case(case_number: str) -> bool:
    """True if the case number shows anything: see `shows`.

    >>> has_case("PA-26-0101"), has_case(" \\u200b\\u3000")
    (True, False)
    """
    return shows(case_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One inquiry as policy sees it. `beneficiary` is the requester's own agency in a search for itself.

    None stands for what was not understood: every decision on it is a deny, with whatever rules also apply.
    `lookback_days`: whole days from the window's begin to now, rounded up. `approved`: a valid signature of a
    supervisor is there. `node_facts`: those of the node's facts that are true; None where they are not known, as
    at the broker. `offence`: as the requester named it, or empty. `person`: the SPIFFE ID of who asks, or empty;
    whatever these two do not prove is not true.
    """

    requester_agency: str
    role: str
    beneficiary: str
    purpose: str
    legal_basis: LegalBasis | None
    authority: Authority | None
    act: Act | None
    has_case: bool
    lookback_days: int | None
    approved: bool | None
    day: dt.date | None
    node_facts: frozenset[str] | None = None
    offence: str = ""
    person: str = ""

    def __post_init__(self) -> None:
        """Refuse what a type checker would.

        Raises:
            InvalidInput: naming every field of another type, and a look-back before today.
        """
        wrong = [
            Violation(field, f"must be {kind.__name__}")
            for field, kind in _TYPES.items()
            if type(getattr(self, field)) is not kind and not (getattr(self, field) is None and field in _MAY_BE_NONE)
        ]
        if not wrong and self.lookback_days is not None and self.lookback_days < 0:
            wrong.append(Violation("lookback_days", "must be from 0"))
        if wrong:
            raise InvalidInput("not a question for policy", violations=wrong, reason="BAD_QUESTION")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What was not understood, in words."""
        return tuple(words for field, words in _MAY_BE_NONE.items() if getattr(self, field) is None)


_TYPES: dict[str, type] = {
    "requester_agency": str,
    "role": str,
    "beneficiary": str,
    "purpose": str,
    "legal_basis": LegalBasis,
    "authority": Authority,
    "act": Act,
    "has_case": bool,
    "lookback_days": int,
    "approved": bool,
    "day": dt.date,
    "offence": str,
    "person": str,
}
_MAY_BE_NONE = {
    "legal_basis": "the legal basis",
    "authority": "the authority",
    "act": "the kind of search",
    "lookback_days": "the look-back",
    "approved": "the approval",
    "day": "the day",
}
