"""One version of the policies at a node, and what its directory says of each agency there."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from comity.decision import Layer
from comity.federation import Federation
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS, Condition
from policies.engine import Policy
from policies.load import Rule
from policies.offences import LIMITATIONS
from policies.parties import Party
from policies.request import Question
from policies.setting import Setting
from policies.vocabulary import Dimension, Vocabulary

AUTHORITY_FACTS = {
    Authority.NONE: frozenset[str](),
    Authority.ADMINISTRATIVE_WARRANT: frozenset({"administrative-warrant"}),
    Authority.COURT_ORDER: frozenset({"court-order"}),
    Authority.JUDICIAL_WARRANT: frozenset({"court-order", "judicial-warrant"}),
}
BASIS_FACT = {basis: f"basis-{basis.value}" for basis in LegalBasis}
UNPOSTED = "unposted-purpose"
# What both parties share; every other fact is one party's own.
SHARED_FACTS = (
    frozenset({"case", "searching-role", UNPOSTED, *BASIS_FACT.values(), *LIMITATIONS}).union(*AUTHORITY_FACTS.values())
    | NODE_FACTS
)
Bearing = frozenset[str]


class Registry:
    """A directory as the space needs it: leaves below each word, and each agency's facts towards an owner."""

    def __init__(self, federation: Federation, day: dt.date) -> None:
        self.federation = federation
        self.words = Vocabulary.of(federation)
        self._states = {a.id: a.state for a in federation.agencies.values()}
        self._day = day
        self._below: dict[tuple[str, str], frozenset[str]] = {}
        self._parties: dict[tuple[str, str], Party] = {}

    def below(self, dimension: Dimension, word: str) -> frozenset[str]:
        """The leaves at or under `word`; none if it is not registered."""
        key = (dimension.name, word)
        if key not in self._below:
            above = dimension.above
            self._below[key] = frozenset(leaf for leaf in dimension.leaves if word in above[leaf])
        return self._below[key]

    def searching(self, role: str) -> bool:
        """Whether the role is one that searches."""
        party = self._party(min(self.words.who.leaves), role, "")
        return "searching-role" in party.facts(next(iter(self.federation.agencies))).true

    def persons(self, agency: str) -> frozenset[str]:
        """The agency's persons of whom the directory vouches for something, and '' for any other."""
        return frozenset({"", *(t.person for t in self.federation.training if t.agency == agency)})

    def bearing(self, agency: str, person: str, node: str) -> Bearing:
        """What is true of the party itself towards the node's owner, papers on file at the day included."""
        if agency not in self.federation.agencies or node not in self.federation.nodes:
            return frozenset()
        party = self._parties.get((agency, person))
        if party is None:
            party = self._parties[agency, person] = self._party(agency, min(self.words.role.leaves), person)
        return party.facts(self.federation.nodes[node].agency).true - SHARED_FACTS

    def _party(self, agency: str, role: str, person: str) -> Party:
        nothing = Question(
            requester_agency=agency,
            role=role,
            beneficiary=agency,
            purpose=min(self.words.purpose.leaves),
            legal_basis=LegalBasis.CRIMINAL,
            authority=Authority.NONE,
            act=Act.EXACT,
            has_case=False,
            lookback_days=0,
            approved=False,
            day=self._day,
            node_facts=frozenset(),
            person=person,
        )
        at = self.federation.agencies[agency]
        return Party(nothing, at, self.federation, self._states, on_behalf=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One layer's policy. `rules`: None where none was published, which is a deny; `posted`: the purposes that the
    usage policy beside it lists, None where there is none.
    """

    layer: Layer
    rules: tuple[Rule, ...] | None
    posted: frozenset[str] | None = None

    @classmethod
    def of(cls, layer: Layer, policy: Policy | None) -> Stated:
        """What a compiled policy states."""
        if policy is None:
            return cls(layer=layer, rules=None)
        return cls(layer=layer, rules=policy.rules, posted=policy.posted)

    def unposted(self, purpose: object) -> bool:
        """Whether the usage policy leaves the purpose out."""
        return self.posted is not None and purpose not in self.posted


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One version of the policies at a node."""

    registry: Registry
    node: str
    layers: tuple[Stated, ...]

    @property
    def registered(self) -> bool:
        """Whether the node is one of the directory's."""
        return self.node in self.registry.federation.nodes


def sides_of(setting: Setting, day: dt.date) -> dict[str, Side]:
    """Each node of the setting with both layers' rules."""
    registry = Registry(setting.federation, day)
    shared = Stated.of(Layer.FEDERATION, setting.federation_policy)
    return {
        node: Side(registry=registry, node=node, layers=(shared, Stated.of(Layer.NODE, policy)))
        for node, policy in setting.node_policies.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which requests a question is about: None is any. `beneficiary`: of a search for another; `alone` or `joint`
    leave out the other kind. `party` is either of the two. `condition` speaks of the requester where it is a
    party's own fact.
    """

    who: frozenset[str] | None = None
    beneficiary: frozenset[str] | None = None
    party: frozenset[str] | None = None
    alone: bool = True
    joint: bool = True
    roles: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    acts: frozenset[str] | None = None
    condition: Condition = field(default_factory=Condition)
