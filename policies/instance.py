"""One concrete request, as `explain` takes it and as tools show a counterexample."""

from __future__ import annotations

import datetime as dt
import shlex
from dataclasses import dataclass, fields, replace

from comity.errors import InvalidInput
from comity.federation import Agreement, Federation, Training
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS
from policies.request import Question

# Facts that the directory vouches for: agreements with the node's agency, and what an agency says of its staff.
AGREEMENTS = ("declaration", "mou")
VOUCHED = {"trained": "training", "selected-staff": "partial-plates"}
PAPERS = (*AGREEMENTS, *VOUCHED)
_FOREVER = dt.date.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A search of one node. `papers`: the kinds taken to be on file with the node's agency, in place of the
    directory's; None leaves those. `node_facts`: those of the node's facts that are true; None is not known.
    """

    requester: str
    role: str
    beneficiary: str
    purpose: str
    legal_basis: LegalBasis
    authority: Authority = Authority.NONE
    act: Act = Act.EXACT
    has_case: bool = True
    lookback_days: int = 30
    node: str
    approved: bool = False
    papers: frozenset[str] | None = None
    beneficiary_papers: frozenset[str] | None = None
    node_facts: frozenset[str] | None = None
    offence: str = ""
    person: str = ""

    def __post_init__(self) -> None:
        """Refuse papers and node facts of no such name.

        Raises:
            InvalidInput: reason BAD_REQUEST, naming what would be right.
        """
        for given, known, what in (
            (self.papers, PAPERS, "paper on file"),
            (self.beneficiary_papers, PAPERS, "paper on file"),
            (self.node_facts, tuple(sorted(NODE_FACTS)), "fact of the node"),
        ):
            odd = sorted((given or frozenset()) - frozenset(known))
            if odd:
                raise InvalidInput(f"{odd[0]!r} is no {what}; right is {', '.join(known)}", reason="BAD_REQUEST")

    def question(self, day: dt.date) -> Question:
        """What is asked of policy on `day`."""
        return Question(
            requester_agency=self.requester,
            role=self.role,
            beneficiary=self.beneficiary,
            purpose=self.purpose,
            legal_basis=self.legal_basis,
            authority=self.authority,
            act=self.act,
            has_case=self.has_case,
            lookback_days=self.lookback_days,
            approved=self.approved,
            day=day,
            node_facts=self.node_facts,
            offence=self.offence,
            person=self.person,
        )

    def supposed(self, federation: Federation) -> Federation:
        """The federation in which exactly the papers supposed are on file, towards the node's agency."""
        node = federation.nodes.get(self.node)
        if node is None:
            return federation
        given = {self.requester: self.papers}
        if self.beneficiary != self.requester:
            given[self.beneficiary] = self.beneficiary_papers
        given = {agency: papers for agency, papers in given.items() if papers is not None}
        if not given:
            return federation
        kept = [a for a in federation.agreements if a.to_agency != node.agency or a.from_agency not in given]
        kept += [
            Agreement(kind=kind, from_agency=agency, to_agency=node.agency, expires=_FOREVER)
            for agency, papers in given.items()
            for kind in AGREEMENTS
            if kind in (papers or ())
        ]
        staff = [t for t in federation.training if t.agency not in given]
        staff += [
            Training(kind=kind, agency=agency, person="", until=_FOREVER)
            for agency, papers in given.items()
            for fact, kind in VOUCHED.items()
            if fact in (papers or ())
        ]
        return replace(federation, agreements=tuple(kept), training=tuple(staff))

    def arguments(self) -> tuple[str, ...]:
        """The options of `comity policy explain` that ask exactly this."""
        out = ["--requester", self.requester, "--role", self.role, "--purpose", self.purpose, "--node", self.node]
        if self.beneficiary != self.requester:
            out += ["--for", self.beneficiary]
        out += ["--basis", self.legal_basis.value, "--case", "yes" if self.has_case else "no"]
        if self.authority is not Authority.NONE:
            out += ["--authority", self.authority.value]
        out += ["--offence", self.offence] if self.offence else []
        out += ["--person", self.person] if self.person else []
        out += ["--days", str(self.lookback_days)]
        if self.act is not Act.EXACT:
            out += ["--match", self.act.value]
        out += ["--approved"] if self.approved else []
        for prefix, papers in (("", self.papers), ("for:", self.beneficiary_papers)):
            if papers is not None and (not prefix or self.beneficiary != self.requester):
                out += [word for kind in sorted(papers) or ["none"] for word in ("--suppose", prefix + kind)]
        if self.node_facts is not None:
            out += [word for fact in sorted(self.node_facts) or ["none"] for word in ("--node-fact", fact)]
        return tuple(out)

    def command(self) -> str:
        """The command that explains this request."""
        return shlex.join(("comity", "policy", "explain", *self.arguments()))

    def as_json(self) -> dict[str, object]:
        """Every field by its name; sets sorted."""
        out: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            out[field.name] = sorted(value) if isinstance(value, frozenset) else value
        return out
