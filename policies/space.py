"""The finite space of requests at one node, by classes: a few sets stand for every request that can be made.

Vocabulary and facts are closed, so a rule is a product of sets: of agencies, roles, purposes, kinds of search, facts
and look-backs. What no rule tells apart is one class. Parties are kept as lists of classes, everything that both
parties share as the bits of a `Grid`, so that both layers' word on a pair of parties is a few operations on numbers.
Every fact is known here, as it is to a node at its final word; with `node_facts=False` as it is to the broker.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from comity.decision import NO_OBLIGATIONS, Layer, Obligations
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS, Condition
from policies.instance import PAPERS, Request
from policies.load import Rule
from policies.shared import HORIZON_DAYS, Shared, TooLarge
from policies.sides import SHARED_FACTS, Bearing, Scope, Side
from policies.vocabulary import node_word

__all__ = ["HORIZON_DAYS", "Judged", "Member", "Parties", "Space", "TooLarge", "Word"]

USUAL_DAYS = 30
MAX_PAIRS = 1 << 17
FED_5 = (Layer.FEDERATION, "FED-5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One party: an agency, a person of it whom the directory names (or ''), the papers taken to be on file."""

    agency: str
    person: str
    papers: Bearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """A class of parties. `rules`: of each side, bit 0 registered, bit i + 1 that rule i can reach them; `inside`:
    whether the scope takes them as who they are, and as either party; `holds`: the party's own part of the scope's
    condition and of the further ones.
    """

    members: tuple[Member, ...]
    rules: tuple[int, ...]
    inside: tuple[bool, bool]
    holds: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Both layers' word on a pair of parties. `outcomes`: duties, or None for a refusal -> where; they are disjoint
    and cover everything. `rules`: where each rule applies, a rule's parts together.
    """

    outcomes: Mapping[Obligations | None, int]
    rules: Mapping[tuple[Layer, str], int]

    @property
    def permit(self) -> int:
        """Where the answer is a permit, once its duties are met."""
        return sum(bits for duties, bits in self.outcomes.items() if duties is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One layer's word on one party: where it allows, where it denies, and which of its rules apply where."""

    allow: int
    deny: int
    rules: tuple[tuple[Rule, int], ...]


class Space:
    """All requests at one node, as classes that neither the sides' rules nor the scope tell apart.

    `further`: conditions that will be asked about with `where`; `cuts`: days at which look-backs are told apart as
    well; `papers`: any papers may be on file, otherwise those of the directory are.

    Raises:
        TooLarge: more classes of requests or pairs of parties than can be gone through.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        *,
        scope: Scope | None = None,
        further: Sequence[Condition] = (),
        cuts: Sequence[int] = (),
        papers: bool = True,
        node_facts: bool = True,
    ) -> None:
        self.sides, self.node, self.scope = tuple(sides), sides[0].node, scope or Scope()
        self._known, self._further = node_facts, (self.scope.condition, *further)
        self._rules = [_here(side, node_facts) for side in self.sides]
        self._shared = Shared(self.sides, self._rules, self._further, self.scope, cuts, node_facts)
        self.grid, self.inside, self.used = self._shared.grid, self._shared.scope, self._shared.used
        self._named = [self._shared.named(n) for n in range(len(self.sides))]
        self._groups = [frozenset(r.cells[2] for _, r in rules) for rules in self._rules]
        self._reached: dict[tuple[int, frozenset[str], Bearing], int] = {}
        self._members = self._all_members(papers)
        self.requesters = self._classed(on_behalf=False)
        self.beneficiaries = self._classed(on_behalf=True) if self.scope.joint else ()
        if len(self.requesters) * len(self.beneficiaries) > MAX_PAIRS:
            pairs = f"{len(self.requesters)} classes of requesters and {len(self.beneficiaries)} of beneficiaries"
            raise TooLarge(f"{self.node}: {pairs} are too many to go through; ask about fewer rules")
        self._base: dict[tuple[int, int], int] = {}
        self._words: dict[tuple[int, int, int], Word] = {}

    def pairs(self) -> Iterator[tuple[Parties, Parties | None]]:
        """Every class of requester in scope, alone (None) and with every class of beneficiary that is another's."""
        for r in self.requesters:
            if not (self.inside and r.inside[0] and r.holds[0]):
                continue
            if self.scope.alone and r.inside[1]:
                yield r, None
            for b in self.beneficiaries:
                if b.inside[0] and (r.inside[1] or b.inside[1]) and _pairs(r, b):
                    yield r, b

    def judged(self, side: int, requester: Parties, beneficiary: Parties | None) -> Judged:
        """What the side's layers together say of the pair."""
        parties = [requester] if beneficiary is None else [requester, beneficiary]
        named = self._named[side] if all(p.rules[side] & 1 for p in parties) else 0
        permit = named
        duties: list[tuple[Obligations, int]] = []
        rules: dict[tuple[Layer, str], int] = {FED_5: self.grid.full & ~named}
        for number, stated in enumerate(self.sides[side].layers):
            for party in parties:
                word = self.word(side, number, party)
                permit &= word.allow & ~word.deny
                for rule, bits in word.rules:
                    rules[stated.layer, rule.id] = rules.get((stated.layer, rule.id), 0) | bits & named
                    duties.append((rule.duties, bits))
            permit = permit if stated.rules is not None else 0
        outcomes = self._outcomes(permit, duties)
        return Judged(outcomes=outcomes, rules={k: v for k, v in rules.items() if v})

    def word(self, side: int, layer: int, party: Parties) -> Word:
        """One layer's word on one party, by the number of the layer."""
        key = (side, layer, party.rules[side])
        known = self._words.get(key)
        if known is None:
            allow = deny = 0
            matched = []
            for i, (number, rule) in enumerate(self._rules[side]):
                if number != layer or not party.rules[side] >> (i + 1) & 1:
                    continue
                bits = self._rule(side, i)
                if not bits:
                    continue
                matched.append((rule, bits))
                allow |= bits if rule.effect == "allow" else 0
                deny |= bits if rule.effect == "deny" else 0
            known = self._words[key] = Word(allow=allow, deny=deny, rules=tuple(matched))
        return known

    def where(self, number: int, requester: Parties) -> int:
        """Where the further condition of that number holds for the requester."""
        if not requester.holds[number + 1]:
            return 0
        return self._shared.condition(0, self._further[number + 1])

    def count(self, requester: Parties, beneficiary: Parties | None, bits: int) -> int:
        """How many concrete requests it is: parties, roles, purposes, kinds, facts and whole days back."""
        pairs = len(requester.members) if beneficiary is None else _pairs(requester, beneficiary)
        return pairs * self.grid.count(bits)

    def request(
        self, requester: Parties, beneficiary: Parties | None, bits: int, *, approved: bool = False, deep: bool = False
    ) -> Request:
        """One request of the class; with the longest look-back of its class if `deep`, else a usual one."""
        at = self.grid.first(bits)
        asks, gets = _distinct(requester, beneficiary)
        held = next(c for c in self.grid.columns["lookback"] if at["lookback"] in c)
        days = held[-1] if deep else USUAL_DAYS if USUAL_DAYS in held else held[0]
        supposed = bool(set(PAPERS) & self.used)
        return Request(
            requester=asks.agency,
            role=str(at["role"]),
            beneficiary=gets.agency,
            purpose=str(at["purpose"]),
            legal_basis=LegalBasis(str(at["legal_basis"])),
            authority=Authority(str(at["authority"])),
            act=Act(str(at["act"])),
            has_case=at["case"] is True,
            lookback_days=int(str(days)),
            node=self.node,
            approved=approved,
            papers=asks.papers if supposed else None,
            beneficiary_papers=gets.papers if supposed and beneficiary else None,
            node_facts=frozenset(f for f in NODE_FACTS if at.get(f) is True) if self._known else None,
            offence=str(at["offence"]),
            person=asks.person,
        )

    def _rule(self, side: int, number: int) -> int:
        key = (side, number)
        if key not in self._base:
            self._base[key] = self._shared.rule(side, *self._rules[side][number])
        return self._base[key]

    def _all_members(self, any_papers: bool) -> tuple[tuple[Member, tuple[Bearing, ...]], ...]:
        agencies = sorted(frozenset[str]().union(*(s.registry.words.who.leaves for s in self.sides)))
        free = sorted(self.used & set(PAPERS))
        choices = [frozenset(c) for n in range(len(free) + 1) for c in itertools.combinations(free, n)]
        out = []
        for agency in agencies:
            # any papers at all leave nothing that a person's own could add
            persons = {""} if any_papers else {p for s in self.sides for p in s.registry.persons(agency)}
            for person in sorted(persons):
                bearings = [s.registry.bearing(agency, person, self.node) for s in self.sides]
                for papers in choices if any_papers else [bearings[0] & set(free)]:
                    member = Member(agency=agency, person=person, papers=papers)
                    out.append((member, tuple(b - set(PAPERS) | papers for b in bearings)))
        return tuple(out)

    def _classed(self, *, on_behalf: bool) -> tuple[Parties, ...]:
        found: dict[tuple[tuple[int, ...], tuple[bool, bool], tuple[bool, ...]], list[Member]] = {}
        chosen = self.scope.beneficiary if on_behalf else self.scope.who
        for member, bearings in self._members:
            if on_behalf and member.person:
                continue  # who asks is a person of the requester's, never of the beneficiary's
            own = [b | {"on-behalf"} for b in bearings] if on_behalf else bearings
            masks = tuple(self._reach(n, member.agency, own[n]) for n in range(len(self.sides)))
            inside = (_in(member.agency, chosen), _in(member.agency, self.scope.party))
            holds = () if on_behalf else tuple(_own(c, bearings[0]) for c in self._further)
            found.setdefault((masks, inside, holds), []).append(member)
        return tuple(
            Parties(members=tuple(members), rules=masks, inside=inside, holds=holds)
            for (masks, inside, holds), members in found.items()
        )

    def _reach(self, side: int, agency: str, bearing: Bearing) -> int:
        words = self.sides[side].registry.words.who
        if agency not in words.leaves:
            return 0
        above = words.above[agency] & self._groups[side]
        key = (side, above, bearing)
        mask = self._reached.get(key)
        if mask is None:
            mask = 1
            for i, (_, rule) in enumerate(self._rules[side]):
                if rule.cells[2] in above and _own(rule.condition, bearing):
                    mask |= 1 << (i + 1)
            self._reached[key] = mask
        return mask

    def _outcomes(self, permit: int, duties: Sequence[tuple[Obligations, int]]) -> dict[Obligations | None, int]:
        parts = {NO_OBLIGATIONS: permit} if permit else {}
        for duty, bits in duties:
            if duty == NO_OBLIGATIONS or not bits & permit:
                continue
            split: dict[Obligations, int] = {}
            for have, where in parts.items():
                joined = have.join(duty)
                split[joined] = split.get(joined, 0) | where & bits
                split[have] = split.get(have, 0) | where & ~bits
            parts = {have: where for have, where in split.items() if where}
        # a warrant that is a duty refuses who has none
        kept = {have: where & self._shared.judicial if have.warrant else where for have, where in parts.items()}
        out: dict[Obligations | None, int] = {have: where for have, where in kept.items() if where}
        refused = self.grid.full & ~sum(out.values())
        return out | ({None: refused} if refused else {})


def _here(side: Side, node_facts: bool) -> tuple[tuple[int, Rule], ...]:
    """The rules that can apply at the node. The broker never applies one that rests on what only the node knows."""
    registry, word = side.registry, node_word(side.node)
    return tuple(
        (number, rule)
        for number, stated in enumerate(side.layers)
        for rule in stated.rules or ()
        if word in registry.below(registry.words.node, rule.cells[1])
        and (node_facts or not (rule.condition.needs | rule.condition.bars) & NODE_FACTS)
    )


def _own(condition: Condition, bearing: Bearing) -> bool:
    return condition.needs - SHARED_FACTS <= bearing and not (condition.bars - SHARED_FACTS) & bearing


def _in(value: object, chosen: frozenset[str] | None) -> bool:
    return chosen is None or value in chosen


def _pairs(requester: Parties, beneficiary: Parties) -> int:
    theirs = Counter(m.agency for m in beneficiary.members)
    return sum(len(beneficiary.members) - theirs[m.agency] for m in requester.members)


def _distinct(requester: Parties, beneficiary: Parties | None) -> tuple[Member, Member]:
    if beneficiary is None:
        return requester.members[0], requester.members[0]
    return next((r, b) for r in requester.members for b in beneficiary.members if r.agency != b.agency)
