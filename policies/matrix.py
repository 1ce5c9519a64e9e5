"""Requester x node x purpose: the conditions of every cell, exact, since every word and every fact is closed.

rules           --> a bit mask for each word of a column, as the engine has them
circumstances   =   legal basis x authority x case number x what only the node knows x look-back, cut where a rule cuts
ways            =   the circumstances that both layers permit, joined where they differ in one thing, the least kept
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import prod
from typing import NamedTuple, TypeVar

from comity.decision import NO_OBLIGATIONS, Obligations
from comity.errors import PolicyError
from comity.federation import Federation
from comity.purpose import Act
from policies.conditions import NODE_FACTS, Condition
from policies.engine import UNPOSTED, Policy, numbers
from policies.load import ANY_ACT, COLUMNS, Rule
from policies.offences import LIMITATIONS, known_offences, limitation_of
from policies.parties import Party
from policies.request import Question
from policies.setting import Setting
from policies.vocabulary import node_word
from policies.ways import AUTHORITIES, BASES, CASES, CONTAINS, Frame, Varies, Way

__all__ = ["CONTAINS", "Layer", "Matrix", "Way", "grouped"]

_T = TypeVar("_T")
MAX_CIRCUMSTANCES = 100_000
_STAFF = {"training": "trained", "partial-plates": "selected-staff"}  # kind of registration -> fact
_Staff = tuple[frozenset[str], ...]
_Masks = Sequence[tuple[int, int]]  # rules that match: of the federation's layer, of the node's


class Layer:
    """One policy's rules as masks, bit i for rule i; what follows takes in the layer `above`. `mentions`: facts that
    rules rest on; `cuts`: days where look-backs change; `favours_proxies`: whom others ask for may get more."""

    def __init__(self, policy: Policy, above: Layer | None = None) -> None:
        self.rules, self._posted = policy.rules, policy.posted
        self.allow = self.deny = 0
        self.terms: dict[str, dict[str, int]] = {name: {} for name in COLUMNS[1:6]}
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
            mentions |= c.needs | c.bars
            self.favours_proxies |= "on-behalf" in (c.needs if rule.effect == "allow" else c.bars)
            cuts |= {bound + 1 for bound in (c.most, c.over) if bound is not None}
        self.mentions: frozenset[str] = frozenset(mentions) | (above.mentions if above else frozenset())
        self.cuts: frozenset[int] = frozenset(cuts) | (above.cuts if above else frozenset())

    def rules_for(self, column: str, above: Iterable[str]) -> int:
        """The rules that match a request whose word lies under all of `above`."""
        return sum(self.terms[column].get(word, 0) for word in above)

    def posts(self, purpose: str) -> bool:
        """False if the usage policy posted with these rules leaves the purpose out."""
        return self._posted is None or purpose in self._posted


class _Judge(NamedTuple):
    """One party at a node. `relation`: what is true of it towards the owner, as far as a rule rests on it."""

    agency: str
    on_behalf: bool
    owner: str
    relation: frozenset[str]


class _Universe:
    """What may vary in a search at one pair of layers. `posts`: whether each layer's usage policy lists the purpose."""

    def __init__(self, layer: Layer, posts: tuple[bool, bool], frame: Frame) -> None:
        self.layer, self.posts, self.frame = layer, posts, frame
        self.where: dict[tuple[int, int, bool, frozenset[str]], int] = {}


class Matrix:
    """Every way to search every node of a setting, loaded for the day; classes of requests are worked out once."""

    def __init__(self, setting: Setting, day: dt.date) -> None:
        self.setting, self.day = setting, day
        self.federation = setting.federation
        self._words = setting.vocabulary
        self._top = Layer(setting.federation_policy)
        # one compiled policy is one object, which the setting keeps
        self._layers = {id(p): Layer(p, self._top) for p in setting.node_policies.values() if p is not None}
        self._layer_of = {n: self._layers.get(id(p), self._top) for n, p in setting.node_policies.items()}
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
        self._frames: dict[Varies, Frame] = {}
        self._facts: dict[tuple[object, ...], Mapping[str, int]] = {}
        self._holds: dict[tuple[object, ...], int] = {}
        self._known: dict[tuple[object, ...], tuple[Way, ...]] = {}
        self._same: dict[tuple[Way, ...], tuple[Way, ...]] = {}
        self._columns: dict[tuple[Layer, str, str], tuple[int, int]] = {}
        self._staff: dict[tuple[str, frozenset[str]], _Staff] = {}
        kinds = grouped(self.federation.agencies, lambda a: self.alike("who", a))
        self._alike = {agency: kind[0] for kind in kinds for agency in kind}

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
        why = self._column(layer, "purpose", purpose)
        posts = (self._top.posts(purpose), layer.posts(purpose))
        pairs = [self.pair(name, node, on_behalf=on_behalf) for name, on_behalf in parties]
        masks = [(top & why[0], own & why[1]) for _, _, top, own in pairs]
        key = (id(policy), posts, tuple(masks), tuple(relation for relation, *_ in pairs), pairs[0][1])
        known = self._known.get(key)
        if known is None:
            universe = self._universe(layer, posts, pairs[0][1])
            owner = self.federation.nodes[node].agency
            judges = [_Judge(n, b, owner, pair[0]) for (n, b), pair in zip(parties, pairs, strict=True)]
            worked_out = self._work_out(universe, masks, judges)
            known = self._known[key] = self._same.setdefault(worked_out, worked_out)
        return known

    def pair(self, agency: str, node: str, *, on_behalf: bool = False) -> tuple[frozenset[str], _Staff, int, int]:
        """What is true of the agency towards the node's owner, and what its people are registered for, as far as a
        rule rests on it; and each layer's rules that match both. Pairs equal in this, under the same policy, have
        the same ways.
        """
        layer = self.layer(node)
        who, where = self._column(layer, "who", self._alike[agency]), self._column(layer, "node", node_word(node))
        return (*self.relation(agency, node, on_behalf=on_behalf), who[0] & where[0], who[1] & where[1])

    def relation(self, agency: str, node: str, *, on_behalf: bool = False) -> tuple[frozenset[str], _Staff]:
        """What of a `pair` is the agency's own: its facts towards the node's owner, and those of its people."""
        party, mentions = self._base(agency, on_behalf), self.layer(node).mentions
        staff = self._staff.get((agency, mentions))
        if staff is None:
            staff = self._staff[agency, mentions] = tuple(dict.fromkeys(f & mentions for f in self._people[agency]))
        return party.facts(self.federation.nodes[node].agency).true & mentions, staff

    def own(self, agency: str) -> object:
        """Equal for agencies of which the same is true whoever owns the node, of their people too."""
        return self._base(agency, False).own, tuple(self._people[agency])

    def alike(self, column: str, word: str) -> object:
        """Equal for words of a column (who, role, purpose, act, or node as rules write it) that no rule tells apart."""
        posted = tuple(x.posts(word) for x in self._layers.values()) if column == "purpose" else ()
        return self._above(column, word) & self._used[column], posted

    def layer(self, node: str) -> Layer:
        """The rules that the node is under: its own, or the federation's alone if it has none."""
        return self._layer_of[node]

    def _column(self, layer: Layer, column: str, word: str) -> tuple[int, int]:
        """The rules of the federation's layer, and of this one, that match the word."""
        known = self._columns.get((layer, column, word))
        if known is None:
            above = self._above(column, word)
            known = self._top.rules_for(column, above), layer.rules_for(column, above)
            self._columns[layer, column, word] = known
        return known

    def _above(self, column: str, word: str) -> frozenset[str]:
        above: Mapping[str, frozenset[str]] = {} if column == "act" else getattr(self._words, column).above
        return above[word] if above else frozenset((word, ANY_ACT))

    def _base(self, agency: str, on_behalf: bool) -> Party:
        party = self._bases.get((agency, on_behalf))
        if party is None:
            party = self._bases[agency, on_behalf] = self._party(agency, on_behalf, self._question(agency))
        return party

    def _party(self, agency: str, on_behalf: bool, question: Question) -> Party:
        return Party(question, self.federation.agencies[agency], self.federation, self._states, on_behalf=on_behalf)

    def _question(self, agency: str) -> Question:
        return Question(
            requester_agency=agency,
            role="",
            beneficiary=agency,
            purpose="",
            legal_basis=BASES[0],
            authority=AUTHORITIES[0],
            act=Act.EXACT,
            has_case=CASES[0],
            lookback_days=0,
            approved=False,
            day=self.day,
            node_facts=frozenset(),
        )

    def _universe(self, layer: Layer, posts: tuple[bool, bool], staff: _Staff) -> _Universe:
        known = self._universes.get((id(layer), posts, staff))
        if known is None:
            facts = sorted(layer.mentions & NODE_FACTS)
            varies = Varies(
                cuts=tuple(sorted({0} | layer.cuts)),
                found=tuple(frozenset(c) for n in range(len(facts) + 1) for c in combinations(facts, n)),
                staff=staff,
                limits=tuple(self._offences) if layer.mentions & LIMITATIONS.keys() else (limitation_of(""),),
                acts=tuple(self._acts),
                roles=tuple(self._roles),
            )
            if prod(varies.sizes[:-2]) > MAX_CIRCUMSTANCES:
                raise PolicyError(
                    "its rules name too many look-backs and facts to go through", reason="MATRIX_TOO_LARGE"
                )
            frame = self._frames.get(varies)
            if frame is None:
                frame = self._frames[varies] = Frame(varies, self.searching)
            known = self._universes[id(layer), posts, staff] = _Universe(layer, posts, frame)
        return known

    def _true(self, universe: _Universe, judge: _Judge) -> Mapping[str, int]:
        """Each fact that a rule mentions -> the circumstances in which it is true of the party."""
        frame, mentions = universe.frame, universe.layer.mentions
        key = (frame, mentions, judge.on_behalf, judge.relation)
        known = self._facts.get(key)
        if known is None:
            one = self._question(judge.agency)
            columns = [
                ("roles", [replace(one, role=roles[0]) for roles in frame.varies.roles]),
                ("authorities", [replace(one, authority=a) for a in AUTHORITIES]),
                ("cases", [replace(one, has_case=case) for case in CASES]),
                ("bases", [replace(one, legal_basis=basis) for basis in BASES]),
                ("limits", [replace(one, offence=self._offences[limit]) for limit in frame.varies.limits]),
                ("found", [replace(one, node_facts=found) for found in frame.varies.found]),
            ]
            known = self._facts[key] = self._by_column(frame, mentions, judge, columns)
        return known

    def _by_column(
        self, frame: Frame, mentions: frozenset[str], judge: _Judge, columns: Sequence[tuple[str, Sequence[Question]]]
    ) -> Mapping[str, int]:
        """A fact that a column changes is true where the column's value makes it so; any other is everywhere alike."""
        out = {f: frame.full if f in judge.relation else 0 for f in mentions}
        if not judge.on_behalf:
            for fact in mentions & set(_STAFF.values()):
                out[fact] = frame.where("staff", sum((fact in s) << i for i, s in enumerate(frame.varies.staff)))
        plain = self._facts_of(judge, self._question(judge.agency))
        for name, questions in columns:
            true = [self._facts_of(judge, q) for q in questions]
            for fact in mentions & frozenset[str]().union(*(t ^ plain for t in true)):
                out[fact] = frame.where(name, sum((fact in t) << i for i, t in enumerate(true)))
        return out

    def _facts_of(self, judge: _Judge, question: Question) -> frozenset[str]:
        return self._party(judge.agency, judge.on_behalf, question).facts(judge.owner).true

    def _held(self, universe: _Universe, judge: _Judge, condition: Condition, posts: bool) -> int:
        """The circumstances in which the condition holds for the party, for a purpose that is posted, or is not."""
        frame = universe.frame
        key = (frame, universe.layer.mentions, judge.on_behalf, judge.relation, condition, posts)
        known = self._holds.get(key)
        if known is None:
            true = {**self._true(universe, judge), UNPOSTED: 0 if posts else frame.full}
            most, over, cuts = condition.most, condition.over, frame.varies.cuts
            near = ((most is None or cut <= most) and (over is None or cut > over) for cut in cuts)
            known = frame.where("days", sum(ok << i for i, ok in enumerate(near)))
            for fact in condition.needs:
                known &= true[fact]
            for fact in condition.bars:
                known &= ~true[fact]
            self._holds[key] = known
        return known

    def _where(self, universe: _Universe, judge: _Judge, number: int, i: int) -> int:
        """The circumstances in which rule `i` of that layer applies to a party that it can reach."""
        key = (number, i, judge.on_behalf, judge.relation)
        known = universe.where.get(key)
        if known is None:
            rule: Rule = (self._top, universe.layer)[number].rules[i]
            known = self._held(universe, judge, rule.condition, universe.posts[number])
            for name, column in (("roles", "role"), ("acts", "act")):
                word = rule.cells[COLUMNS.index(column)]
                under = (word in self._above(column, str(c[0])) for c in getattr(universe.frame.varies, name))
                known &= universe.frame.where(name, sum(ok << n for n, ok in enumerate(under)))
            universe.where[key] = known
        return known

    def _work_out(self, universe: _Universe, masks: _Masks, judges: Sequence[_Judge]) -> tuple[Way, ...]:
        permit, duties = universe.frame.full, list[tuple[Obligations, int]]()
        for judge, of_party in zip(judges, masks, strict=True):
            for number, layer in enumerate((self._top, universe.layer)):
                allow = deny = 0
                for i in numbers(of_party[number] if of_party[number] & layer.allow else 0):
                    bits = self._where(universe, judge, number, i)
                    effect, asked = layer.rules[i].effect, layer.rules[i].duties
                    allow |= bits if effect == "allow" else 0
                    deny |= bits if effect == "deny" else 0
                    if asked is not NO_OBLIGATIONS:
                        duties.append((asked, bits))
                permit &= allow & ~deny
                if not permit:
                    return ()
        permitted = {NO_OBLIGATIONS: permit}
        for asked, bits in duties:
            before, permitted = permitted, {}
            for held, at in before.items():
                for outcome, part in ((held, at & ~bits), (held.join(asked), at & bits)):
                    if part:
                        permitted[outcome] = permitted.get(outcome, 0) | part
        met = {d: bits & universe.frame.judicial if d.warrant else bits for d, bits in permitted.items()}
        return universe.frame.ways({d: bits for d, bits in met.items() if bits})


def _people(agency: str, federation: Federation, day: dt.date) -> dict[frozenset[str], str]:
    """What its people are registered for, with the name of one of each sort; empty for whoever is named nowhere."""
    own = [t for t in federation.training if t.agency == agency and day < t.until]
    return {
        frozenset(_STAFF[t.kind] for t in own if t.person in ("", person)): person
        for person in sorted({"", *(t.person for t in own)}, reverse=True)
    }


def grouped(values: Iterable[_T], key: Callable[[_T], object]) -> list[tuple[_T, ...]]:
    """The values of equal keys together, all in their order."""
    out: dict[object, list[_T]] = {}
    for value in values:
        out.setdefault(key(value), []).append(value)
    return [tuple(group) for group in out.values()]
