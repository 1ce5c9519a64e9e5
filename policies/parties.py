"""What is true of a party towards the agency that owns a node."""

from __future__ import annotations

from collections.abc import Mapping

from comity.federation import Agency, Federation
from comity.purpose import Authority, LegalBasis
from policies.conditions import NODE_FACTS, Facts
from policies.offences import LIMITATIONS, limitation_of
from policies.request import Question

_NOTHING: frozenset[str] = frozenset()


class Party:
    """The requester or the beneficiary of one question. `states`: agency id -> its state, or empty."""

    def __init__(
        self,
        question: Question,
        agency: Agency,
        federation: Federation,
        states: Mapping[str, str],
        *,
        on_behalf: bool,
    ) -> None:
        self.agency = agency
        self._states = states
        self._lookback_days = question.lookback_days or 0
        self._common = _common_facts(question, federation) | {"on-behalf": on_behalf}
        self._common |= _registered(question, agency, federation)
        self._on_file: dict[str, frozenset[str]] = {}
        for a in federation.agreements:
            if a.from_agency == agency.id and question.day is not None and question.day < a.expires:
                self._on_file[a.to_agency] = self._on_file.get(a.to_agency, _NOTHING) | {a.kind}
        self._known: dict[tuple[bool, bool, frozenset[str]], Facts] = {}

    @property
    def own(self) -> frozenset[tuple[str, bool | None]]:
        """What is true of it whoever owns the node."""
        return frozenset(self._common.items())

    @property
    def known_to(self) -> frozenset[str]:
        """The owners that hold a paper of this party's."""
        return frozenset(self._on_file)

    def facts(self, owner_id: str) -> Facts:
        """Every fact towards the owner; the same object for owners that stand in the same relation."""
        state = self._states[self.agency.id]
        # a federal agency is of no state, wherever its office is
        same_state = self.agency.kind != "federal" and state != "" and state == self._states[owner_id]
        relation = (same_state, owner_id == self.agency.id, self._on_file.get(owner_id, _NOTHING))
        known = self._known.get(relation)
        if known is None:
            known = self._known[relation] = Facts.parse(self._common | self._towards(*relation), self._lookback_days)
        return known

    def _towards(self, same_state: bool, own_node: bool, on_file: frozenset[str]) -> dict[str, bool]:
        return {
            "same-state": same_state,
            "other-state": self.agency.kind != "federal" and not same_state,
            "own-node": own_node,
            "declaration": "declaration" in on_file,
            "mou": "mou" in on_file,
        }


def _common_facts(q: Question, federation: Federation) -> dict[str, bool | None]:
    """What is true whoever owns the node; what was not understood (None) proves nothing."""
    facts: dict[str, bool | None] = {
        "case": q.has_case,
        "searching-role": "searcher" in _upward(q.role, federation.roles),
        "basis-criminal": q.legal_basis is LegalBasis.CRIMINAL,
        "basis-civil": q.legal_basis is LegalBasis.CIVIL,
        "basis-administrative": q.legal_basis is LegalBasis.ADMINISTRATIVE,
        "administrative-warrant": q.authority is Authority.ADMINISTRATIVE_WARRANT,
        "court-order": q.authority in (Authority.COURT_ORDER, Authority.JUDICIAL_WARRANT),
        "judicial-warrant": q.authority is Authority.JUDICIAL_WARRANT,
        # the node's own policy says so where it is true
        "unposted-purpose": False,
    }
    limitation = limitation_of(q.offence)
    facts |= {f: f == limitation for f in LIMITATIONS}
    return facts | {f: None if q.node_facts is None else f in q.node_facts for f in NODE_FACTS}


def _registered(q: Question, agency: Agency, federation: Federation) -> dict[str, bool]:
    """What the directory vouches for: of the person who asks, if that is one of this agency's, or of all of it."""
    # the certificate names the person, and its agency is the requester's: nobody else's training counts
    person = q.person if agency.id == q.requester_agency else ""
    kinds = {
        t.kind
        for t in federation.training
        if t.agency == agency.id and q.day is not None and q.day < t.until and t.person in ("", person)
    }
    return {"trained": "training" in kinds, "selected-staff": "partial-plates" in kinds}


def _upward(role: str, parents: Mapping[str, str]) -> list[str]:
    out = []
    while role:
        out.append(role)
        role = parents.get(role, "")
    return out
