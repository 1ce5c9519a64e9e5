"""Requester x node x purpose: the conditions of every cell, exact, since every word and every fact is closed.

rules           --> a bit mask for each word of a column, as the engine has them
circumstances   =   legal basis x authority x case number x what only the node knows x look-back, cut where a rule cuts
ways            =   the circumstances that both layers permit, joined where they differ in one thing, the least kept
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations, product
from typing import NamedTuple, TypeVar

from comity.decision import NO_OBLIGATIONS, Obligations
from comity.errors import PolicyError
from comity.federation import Federation
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS, Condition, Facts, Truth
from policies.engine import UNPOSTED, Policy
from policies.load import ANY_ACT, COLUMNS
from policies.offences import LIMITATIONS, known_offences, limitation_of
from policies.parties import Party
from policies.request import Question
from policies.setting import Setting
from policies.vocabulary import node_word

_T = TypeVar("_T")
_BASES, _AUTHORITIES, _CASES = tuple(LegalBasis), tuple(Authority), (False, True)
# What each authority contains: who shows a judicial warrant meets a demand for a court order.
CONTAINS = {a: {Authority.NONE, a} for a in Authority}
CONTAINS[Authority.JUDICIAL_WARRANT] |= {Authority.COURT_ORDER}
_VARIES = ("days", "found", "staff", "limits", "authorities", "cases", "bases")
_LISTED = ("roles", "acts", "bases", "authorities", "cases", "limits", "staff", "found")
_SWEEP = (*_VARIES, "acts", "roles")  # what is joined first
MAX_CIRCUMSTANCES = 100_000
_STAFF = {"training": "trained", "partial-plates": "selected-staff"}  # kind of registration -> fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One set of conditions under which a search is permitted. Of each field any one value will do; empty: any at all.

    `roles`: empty for every searching one. `found`: what must be true of a detection, each a set of facts that only
    the node has. `limits`: of the offence named, facts such as `limitation-5y`, or "" for none. `staff`: what the
    person must be registered for, each a set of facts. `lookback_days`: from, to, both included; None for no end.
    """

    roles: tuple[str, ...]
    acts: tuple[Act, ...]
    bases: tuple[LegalBasis, ...]
    authorities: tuple[Authority, ...]
    cases: tuple[bool, ...]
    limits: tuple[str, ...]
    staff: tuple[frozenset[str], ...]
    found: tuple[frozenset[str], ...]
    lookback_days: tuple[int, int | None]
    obligations: Obligations

    def suffices(self, authority: Authority) -> bool:
        """True if who holds `authority` holds what is asked."""
        return not self.authorities or not CONTAINS[authority].isdisjoint(self.authorities)

    def covers(self, other: Way) -> bool:
        """True if whoever meets `other` meets this one too, or more than it asks, for no stricter duties."""
        begin, end = self.lookback_days
        last = other.lookback_days[1]
        alike = ((getattr(self, f), getattr(other, f)) for f in _LISTED if f not in ("authorities", "cases"))
        return (
            self.obligations.join(other.obligations) == other.obligations
            and all(not mine or (theirs and set(theirs) <= set(mine)) for mine, theirs in alike)
            and begin <= other.lookback_days[0]
            and (end is None or (last is not None and last <= end))
            and all(map(self.suffices, other.authorities or Authority))
            and (self.cases != (True,) or other.cases == (True,))
        )

    def as_json(self) -> dict[str, object]:
        """For `--json` and manifests."""
        plain = {f: [sorted(v) if type(v) is frozenset else v for v in getattr(self, f)] for f in _LISTED}
        listed = {f: [str(v) if isinstance(v, str) else v for v in values] for f, values in plain.items()}
        return {**listed, "lookback_days": list(self.lookback_days), "obligations": self.obligations.as_json()}


_Cube = tuple[tuple[int, ...], Obligations]  # a set of values, as bits, for each name of _SWEEP
_Staff = tuple[frozenset[str], ...]
_Masks = Sequence[tuple[int, int]]  # rules that match: of the federation's layer, of the node's
_Judge = tuple[str, bool, str, frozenset[str]]  # a party, whether it is the beneficiary, the owner, their relation


class Layer:
    """One policy's rules as masks, bit i for rule i; what follows takes in the layer `above`. `mentions`: facts that
    rules rest on; `cuts`: days where look-backs change; `favours_proxies`: whom others ask for may get more."""

    def __init__(self, policy: Policy, above: Layer | None = None) -> None:
        self.rules, self._posted = policy.rules, policy.posted
        self.allow = self.deny = 0
        self.terms: dict[str, dict[str, int]] = {name: {} for name in COLUMNS[1:6]}
        self._conditions: dict[Condition, int] = {}
        self.favours_proxies: bool = above is not None and above.favours_proxies
        mentions: set[str] = set()
        cuts: set[int] = set()
        for i, rule in enumerate(policy.rules):
            self.allow |= (rule.effect == "allow") << i
            self.deny |= (rule.effect == "deny") << i
            for name, terms in self.terms.items():
                word = rule.cells[COLUMNS.index(name)]
                terms[word] = terms.get(word, 0) | 1 << i
            c = rule.condition
            self._conditions[c] = self._conditions.get(c, 0) | 1 << i
            mentions |= c.needs | c.bars
            self.favours_proxies |= "on-behalf" in (c.needs if rule.effect == "allow" else c.bars)
            cuts |= {bound + 1 for bound in (c.most, c.over) if bound is not None}
        self.mentions: frozenset[str] = frozenset(mentions) | (above.mentions if above else frozenset())
        self.cuts: frozenset[int] = frozenset(cuts) | (above.cuts if above else frozenset())
        self._duties: dict[int, Obligations] = {}

    def rules_for(self, column: str, above: Iterable[str]) -> int:
        """The rules that match a request whose word lies under all of `above`."""
        return sum(self.terms[column].get(word, 0) for word in above)

    def posts(self, purpose: str) -> bool:
        """False if the usage policy posted with these rules leaves the purpose out."""
        return self._posted is None or purpose in self._posted

    def true(self, facts: Facts, posts: bool) -> int:
        """The rules whose condition holds for a purpose that is posted, or is not."""
        if not posts:
            facts = replace(facts, true=facts.true | {UNPOSTED})
        return sum(mask for c, mask in self._conditions.items() if c.holds(facts) is Truth.TRUE)

    def permits(self, matched: int) -> bool:
        """A rule allows and none denies."""
        return bool(matched & self.allow) and not matched & self.deny

    def duties(self, matched: int) -> Obligations:
        """What all those rules ask in return."""
        known = self._duties.get(matched)
        if known is None:
            asked = (rule.duties for i, rule in enumerate(self.rules) if matched >> i & 1)
            known = self._duties[matched] = reduce(Obligations.join, asked, NO_OBLIGATIONS)
        return known


class _Universe(NamedTuple):
    """What may vary in a search at one pair of layers. `all`: indexes of it in the order of _VARIES."""

    layer: Layer
    posts: tuple[bool, bool]
    limits: tuple[str, ...]
    staff: _Staff
    people: tuple[str, ...]
    found: tuple[frozenset[str], ...]
    cuts: tuple[int, ...]
    all: tuple[tuple[int, ...], ...]


class Matrix:
    """Every way to search every node of a setting, loaded for the day; classes of requests are worked out once."""

    def __init__(self, setting: Setting, day: dt.date) -> None:
        self.setting, self.day = setting, day
        self.federation = setting.federation
        self._words = setting.vocabulary
        self._top = Layer(setting.federation_policy)
        # one compiled policy is one object, which the setting keeps
        self._layers = {id(p): Layer(p, self._top) for p in setting.node_policies.values() if p is not None}
        every = (self._top, *self._layers.values())
        self._used = {c: frozenset[str]().union(*(x.terms[c] for x in every)) for c in COLUMNS[1:6]}
        roles = sorted(self._words.role.leaves)
        self.searching = tuple(r for r in roles if "searcher" in self._words.role.above[r])
        self._roles = grouped(roles, lambda r: (self.alike("role", r), r in self.searching))
        self._acts = grouped(Act, lambda a: self.alike("act", a))
        self._states = {a.id: a.state for a in self.federation.agencies.values()}
        self._offences = {limitation_of(o): o for o in ("", *sorted(known_offences(), reverse=True))}
        self._people = {a: _people(a, self.federation, day) for a in self.federation.agencies}
        self._bases: dict[tuple[str, bool], Party] = {}
        self._universes: dict[tuple[object, ...], _Universe] = {}
        self._judged: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        self._known: dict[tuple[object, ...], tuple[Way, ...]] = {}
        self._same: dict[tuple[Way, ...], tuple[Way, ...]] = {}
        self._columns: dict[tuple[int, str, str], tuple[int, int]] = {}

    def ways(self, agency: str, node: str, purpose: str, *, asked_by: str = "") -> tuple[Way, ...]:
        """The ways for `agency`, the least demanding first; none if no search is ever permitted. All names must be
        registered leaves. With `asked_by` another agency searches on its behalf, and both must be permitted.

        Raises:
            KeyError: a name that is not registered.
        """
        policy = self.setting.node_policies[node]
        if policy is None:
            return ()
        layer = self._layers[id(policy)]
        parties = [(asked_by, False), (agency, True)] if asked_by and asked_by != agency else [(agency, False)]
        why = self._masks(layer, {"purpose": purpose})
        posts = (self._top.posts(purpose), layer.posts(purpose))
        pairs = [self.pair(name, node, on_behalf=on_behalf) for name, on_behalf in parties]
        masks = [(top & why[0], own & why[1]) for _, _, top, own in pairs]
        key = (id(policy), posts, tuple(masks), tuple(relation for relation, *_ in pairs), pairs[0][1])
        known = self._known.get(key)
        if known is None:
            universe = self._universe(layer, posts, parties[0][0], pairs[0][1])
            owner = self.federation.nodes[node].agency
            judges = [(n, b, owner, pair[0]) for (n, b), pair in zip(parties, pairs, strict=True)]
            worked_out = self._work_out(universe, masks, judges)
            known = self._known[key] = self._same.setdefault(worked_out, worked_out)
        return known

    def pair(self, agency: str, node: str, *, on_behalf: bool = False) -> tuple[frozenset[str], _Staff, int, int]:
        """What is true of the agency towards the node's owner, and what its people are registered for, as far as a
        rule rests on it; and each layer's rules that match both. Pairs equal in this, under the same policy, have
        the same ways.
        """
        party = self._bases.get((agency, on_behalf))
        if party is None:
            party = self._bases[agency, on_behalf] = self._party(agency, on_behalf, self._question(agency))
        layer = self.layer(node)
        relation = party.facts(self.federation.nodes[node].agency).true & layer.mentions
        staff = tuple(dict.fromkeys(facts & layer.mentions for facts in self._people[agency]))
        return (relation, staff, *self._masks(layer, {"who": agency, "node": node_word(node)}))

    def alike(self, column: str, word: str) -> object:
        """Equal for words of a column (who, role, purpose, act, or node as rules write it) that no rule tells apart."""
        posted = tuple(x.posts(word) for x in self._layers.values()) if column == "purpose" else ()
        return self._above(column, word) & self._used[column], posted

    def layer(self, node: str) -> Layer:
        """The rules that the node is under: its own, or the federation's alone if it has none."""
        return self._layers.get(id(self.setting.node_policies[node]), self._top)

    def _masks(self, layer: Layer, words: Mapping[str, str]) -> tuple[int, int]:
        """The rules of the federation's layer, and of this one, that match in all these columns."""
        top, own = -1, -1
        for column, word in words.items():
            key = (id(layer), column, word)
            known = self._columns.get(key)
            if known is None:
                above = self._above(column, word)
                known = self._columns[key] = (self._top.rules_for(column, above), layer.rules_for(column, above))
            top, own = top & known[0], own & known[1]
        return top, own

    def _above(self, column: str, word: str) -> frozenset[str]:
        above: Mapping[str, frozenset[str]] = {} if column == "act" else getattr(self._words, column).above
        return above[word] if above else frozenset((word, ANY_ACT))

    def _party(self, agency: str, on_behalf: bool, question: Question) -> Party:
        return Party(question, self.federation.agencies[agency], self.federation, self._states, on_behalf=on_behalf)

    def _question(self, agency: str, role: str = "", universe: _Universe | None = None, *at: int) -> Question:
        days, found, staff, limit, authority, case, basis = at or (0, 0, 0, 0, 0, 0, 0)
        return Question(
            requester_agency=agency,
            role=role,
            beneficiary=agency,
            purpose="",
            legal_basis=_BASES[basis],
            authority=_AUTHORITIES[authority],
            act=Act.EXACT,
            has_case=_CASES[case],
            lookback_days=universe.cuts[days] if universe else 0,
            approved=False,
            day=self.day,
            node_facts=universe.found[found] if universe else frozenset(),
            offence=self._offences[universe.limits[limit]] if universe else "",
            person=universe.people[staff] if universe else "",
        )

    def _universe(self, layer: Layer, posts: tuple[bool, bool], agency: str, staff: _Staff) -> _Universe:
        known = self._universes.get((id(layer), posts, staff))
        if known is None:
            facts = sorted(layer.mentions & NODE_FACTS)
            found = tuple(frozenset(c) for n in range(len(facts) + 1) for c in combinations(facts, n))
            limits = tuple(self._offences) if layer.mentions & LIMITATIONS.keys() else (limitation_of(""),)
            people = {f & layer.mentions: person for f, person in reversed(self._people[agency].items())}
            cuts = tuple(sorted({0} | layer.cuts))
            sizes = map(len, (cuts, found, staff, limits, _AUTHORITIES, _CASES, _BASES))
            every = tuple(product(*map(range, sizes)))
            if len(every) > MAX_CIRCUMSTANCES:
                raise PolicyError(
                    "its rules name too many look-backs and facts to go through", reason="MATRIX_TOO_LARGE"
                )
            known = _Universe(layer, posts, limits, staff, tuple(people[f] for f in staff), found, cuts, every)
            self._universes[id(layer), posts, staff] = known
        return known

    def _hold(self, universe: _Universe, judge: _Judge, role: str) -> list[tuple[int, int]]:
        """For every circumstance the rules of both layers whose condition holds."""
        agency, on_behalf, owner, relation = judge
        key = (id(universe), on_behalf, relation, role)
        known = self._judged.get(key)
        if known is None:
            known = self._judged[key] = []
            for c in universe.all:
                facts = self._party(agency, on_behalf, self._question(agency, role, universe, *c)).facts(owner)
                known.append((self._top.true(facts, universe.posts[0]), universe.layer.true(facts, universe.posts[1])))
        return known

    def _work_out(self, universe: _Universe, masks: _Masks, judges: Sequence[_Judge]) -> tuple[Way, ...]:
        layer, cubes = universe.layer, list[_Cube]()
        for (r, roles), (a, acts) in product(enumerate(self._roles), enumerate(self._acts)):
            top, own = self._masks(layer, {"role": roles[0], "act": acts[0]})
            asked = [(of_party[0] & top, of_party[1] & own) for of_party in masks]
            if all(top & self._top.allow and own & layer.allow for top, own in asked):
                hold = [self._hold(universe, judge, roles[0]) for judge in judges]
                for i, duties in self._permitted(universe, asked, hold):
                    cubes.append(((*(1 << n for n in universe.all[i]), 1 << a, 1 << r), duties))
        ways = [self._way(universe, cube) for cube in _joined(cubes)]
        return tuple(sorted(_least(ways), key=lambda w: (len(str(w.obligations.as_json())), str(w))))

    def _permitted(self, u: _Universe, asked: _Masks, hold: Sequence[_Masks]) -> Iterator[tuple[int, Obligations]]:
        judicial, at = _AUTHORITIES.index(Authority.JUDICIAL_WARRANT), _VARIES.index("authorities")
        for i, circumstance in enumerate(u.all):
            duties = NO_OBLIGATIONS
            for (top, own), of_party in zip(asked, hold, strict=True):
                top, own = top & of_party[i][0], own & of_party[i][1]
                if not (self._top.permits(top) and u.layer.permits(own)):
                    break
                duties = duties.join(self._top.duties(top)).join(u.layer.duties(own))
            else:
                if not duties.warrant or circumstance[at] == judicial:
                    yield i, duties

    def _way(self, universe: _Universe, cube: _Cube) -> Way:
        bits, duties = dict(zip(_SWEEP, cube[0], strict=True)), cube[1]
        days = _of(bits["days"], universe.cuts)
        after = next((cut for cut in universe.cuts if cut > days[-1]), None)
        roles = tuple(sorted(r for c in _of(bits["roles"], self._roles) for r in c))
        acts = tuple(a for c in _of(bits["acts"], self._acts) for a in c)
        return Way(
            roles=() if roles == self.searching else roles,
            acts=() if len(acts) == len(Act) else acts,
            bases=_some(bits["bases"], _BASES),
            authorities=_some(bits["authorities"], _AUTHORITIES),
            cases=_some(bits["cases"], _CASES),
            limits=_some(bits["limits"], universe.limits),
            staff=_some(bits["staff"], universe.staff),
            found=_some(bits["found"], universe.found),
            lookback_days=(days[0], after - 1 if after is not None else None),
            obligations=duties,
        )


def _people(agency: str, federation: Federation, day: dt.date) -> dict[frozenset[str], str]:
    """What its people are registered for, with the name of one of each sort; empty for whoever is named nowhere."""
    own = [t for t in federation.training if t.agency == agency and day < t.until]
    return {
        frozenset(_STAFF[t.kind] for t in own if t.person in ("", person)): person
        for person in sorted({"", *(t.person for t in own)}, reverse=True)
    }


def _least(ways: Sequence[Way]) -> Iterator[Way]:
    """Without those that another covers; of two that cover each other, the first stays."""
    for i, way in enumerate(ways):
        others = (o for j, o in enumerate(ways) if j != i and o.covers(way) and (j < i or not way.covers(o)))
        if next(others, None) is None:
            yield way


def grouped(values: Iterable[_T], key: Callable[[_T], object]) -> list[tuple[_T, ...]]:
    """The values of equal keys together, all in their order."""
    out: dict[object, list[_T]] = {}
    for value in values:
        out.setdefault(key(value), []).append(value)
    return [tuple(group) for group in out.values()]


def _of(bits: int, values: Sequence[_T]) -> tuple[_T, ...]:
    return tuple(v for i, v in enumerate(values) if bits >> i & 1)


def _some(bits: int, values: Sequence[_T]) -> tuple[_T, ...]:
    return () if bits == (1 << len(values)) - 1 else _of(bits, values)


def _joined(cubes: Sequence[_Cube]) -> Iterator[_Cube]:
    """The same circumstances in fewer cubes: those that differ in one thing alone become one. Look-backs stay whole."""
    for i in range(len(_SWEEP)):
        joined: dict[tuple[object, ...], int] = {}
        for sets, duties in cubes:
            rest = (sets[:i], sets[i + 1 :], duties)
            joined[rest] = joined.get(rest, 0) | sets[i]
        cubes = [((*rest[0], bits, *rest[1]), rest[2]) for rest, bits in joined.items()]  # type: ignore[misc]
    for sets, duties in cubes:
        for run in _runs(sets[0]):
            yield (run, *sets[1:]), duties


def _runs(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        run = (bits ^ (bits + low)) & bits
        yield run
        bits &= ~run
