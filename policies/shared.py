"""What requester and beneficiary share in a request at one node: the columns of its grid, and rules as sets of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from comity.errors import ComityError
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS, Condition
from policies.grid import Grid, Values, classes
from policies.load import ANY_ACT, Rule
from policies.offences import LIMITATIONS, known_offences, limitation_of
from policies.sides import AUTHORITY_FACTS, BASIS_FACT, SHARED_FACTS, UNPOSTED, Scope, Side, Stated
from policies.vocabulary import Dimension

HORIZON_DAYS = 36_500  # look-backs counted: a hundred years, or as far as any rule names
MAX_CLASSES = 1 << 20
MAX_BITS = 1 << 28
Numbered = Sequence[tuple[int, Rule]]  # a layer's number and its rule


class TooLarge(ComityError):
    """The exact answer would take too long."""

    reason = "SPACE_TOO_LARGE"


class Shared:
    """The grid of purpose, role, kind, basis, authority, case, offence, look-back and the node's facts.

    `rules`: for each side, those that can apply at the node; `conditions`: what else tells requests apart.

    Raises:
        TooLarge: more classes, or classes times rules, than can be gone through.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        rules: Sequence[Numbered],
        conditions: Sequence[Condition],
        scope: Scope,
        cuts: Sequence[int],
        node_facts: bool,
    ) -> None:
        self._sides, self._rules, self._scope, self._known = sides, rules, scope, node_facts
        self._flat = [(n, r) for n, of_side in enumerate(rules) for _, r in of_side]
        self._conditions = [r.condition for _, r in self._flat] + list(conditions)
        self.used = frozenset[str]().union(*(c.needs | c.bars for c in self._conditions))
        columns = self._columns(cuts)
        size = 1
        for held in columns.values():
            size *= len(held)
        if size > MAX_CLASSES or size * len(self._flat) > MAX_BITS:
            raise TooLarge(
                f"{sides[0].node}: {size} classes of requests under {len(self._flat)} rules are too many to go through;"
                " ask about fewer rules, or rules with fewer different look-backs and facts"
            )
        self.grid = Grid(columns)
        self._facts = [self._fact_sets(side) for side in sides]
        self._seen: dict[tuple[object, ...], int] = {}
        self.judicial = self.grid.where("authority", lambda a: a is Authority.JUDICIAL_WARRANT)
        self.scope = self._scope_set()

    def rule(self, side: int, layer: int, rule: Rule) -> int:
        """Where the rule of that layer applies to a party that it can reach."""
        words = self._sides[side].registry.words
        role, purpose, act = rule.cells[3:6]
        bits = self._below(side, "role", words.role, role) & self._below(side, "purpose", words.purpose, purpose)
        if act != ANY_ACT:
            bits &= self.grid.where("act", lambda v: v == act)
        return bits & self.condition(side, rule.condition, self._sides[side].layers[layer])

    def condition(self, side: int, condition: Condition, stated: Stated | None = None) -> int:
        """Where the condition holds, as far as parties share what it speaks of; `stated`: in whose rules it stands."""
        key = (side, condition, stated and stated.posted)
        if key in self._seen:
            return self._seen[key]
        bits, facts = self.grid.full, self._facts[side]
        if UNPOSTED in condition.needs | condition.bars:
            unposted = self.grid.where("purpose", lambda v: stated is not None and stated.unposted(v))
            facts = facts | {UNPOSTED: unposted}
        for fact in condition.needs & SHARED_FACTS:
            bits &= facts[fact]
        for fact in condition.bars & SHARED_FACTS:
            bits &= ~facts[fact]
        most, over = condition.most, condition.over
        if most is not None:
            bits &= self.grid.where("lookback", lambda v: int(str(v)) <= most)
        if over is not None:
            bits &= self.grid.where("lookback", lambda v: int(str(v)) > over)
        self._seen[key] = bits
        return bits

    def named(self, side: int) -> int:
        """Where role and purpose are registered; nowhere if the node is not."""
        words = self._sides[side].registry.words
        if not self._sides[side].registered:
            return 0
        roles = self.grid.where("role", words.role.leaves.__contains__)
        return roles & self.grid.where("purpose", words.purpose.leaves.__contains__)

    def _below(self, side: int, column: str, dimension: Dimension, word: str) -> int:
        key = (side, column, word)
        if key not in self._seen:
            leaves = self._sides[side].registry.below(dimension, word)
            self._seen[key] = self.grid.where(column, leaves.__contains__)
        return self._seen[key]

    def _columns(self, cuts: Sequence[int]) -> dict[str, Sequence[Values]]:
        words = [side.registry.words for side in self._sides]
        used = self.used
        warrant = any(r.duties.warrant for _, r in self._flat)
        acts = {r.cells[5] for _, r in self._flat}

        def authority(value: object) -> object:
            held = Authority(str(value))
            return AUTHORITY_FACTS[held] & used, warrant and held is Authority.JUDICIAL_WARRANT

        roles = sorted(frozenset[str]().union(*(w.role.leaves for w in words)), key=lambda w: (w != "investigator", w))
        purposes = sorted(frozenset[str]().union(*(w.purpose.leaves for w in words)))
        offences = ("", *sorted(known_offences()))
        out: dict[str, Sequence[Values]] = {
            "purpose": classes(purposes, self._purpose_key),
            "role": classes(roles, self._role_key),
            "act": classes(tuple(Act), lambda v: (v in acts and v, _in(v, self._scope.acts))),
            "legal_basis": classes(tuple(LegalBasis), lambda v: BASIS_FACT[LegalBasis(str(v))] in used and v),
            "authority": classes(tuple(Authority), authority),
            "case": classes((True, False), lambda v: "case" in used and v),
            "offence": classes(offences, lambda v: frozenset({limitation_of(str(v))}) & used),
            "lookback": self._lookbacks(cuts),
        }
        for fact in sorted(NODE_FACTS) if self._known else ():
            out[fact] = classes((False, True), lambda v, fact=fact: fact in used and v)  # type: ignore[misc]
        return out

    def _role_key(self, value: object) -> object:
        sides = self._sides
        named = [r.cells[3] in sides[n].registry.words.role.above.get(str(value), ()) for n, r in self._flat]
        registered = [value in s.registry.words.role.leaves for s in sides]
        searching = [
            "searching-role" in self.used and ok and s.registry.searching(str(value))
            for s, ok in zip(sides, registered, strict=True)
        ]
        return (*named, *registered, *searching, _in(value, self._scope.roles))

    def _purpose_key(self, value: object) -> object:
        sides = self._sides
        named = [r.cells[4] in sides[n].registry.words.purpose.above.get(str(value), ()) for n, r in self._flat]
        registered = [value in s.registry.words.purpose.leaves for s in sides]
        unposted = [UNPOSTED in self.used and stated.unposted(value) for s in sides for stated in s.layers]
        return (*named, *registered, *unposted, _in(value, self._scope.purposes))

    def _lookbacks(self, cuts: Sequence[int]) -> tuple[range, ...]:
        named = {d + 1 for c in self._conditions for d in (c.most, c.over) if d is not None} | set(cuts)
        end = max(HORIZON_DAYS, *(named or {0})) + 1
        starts = sorted({0, *(d for d in named if d > 0)})
        return tuple(range(a, b) for a, b in itertools.pairwise((*starts, end)))

    def _fact_sets(self, side: Side) -> dict[str, int]:
        where = self.grid.where
        out = {"case": where("case", lambda v: v is True)}
        for basis, fact in BASIS_FACT.items():
            out[fact] = where("legal_basis", lambda v, basis=basis: v is basis)  # type: ignore[misc]
        for fact in frozenset[str]().union(*AUTHORITY_FACTS.values()):
            out[fact] = where("authority", lambda v, fact=fact: fact in AUTHORITY_FACTS[v])  # type: ignore[misc]
        for fact in LIMITATIONS:
            out[fact] = where("offence", lambda v, fact=fact: limitation_of(str(v)) == fact)  # type: ignore[misc]
        roles = side.registry.words.role.leaves
        out["searching-role"] = where("role", lambda v: v in roles and side.registry.searching(str(v)))
        for fact in NODE_FACTS if self._known else ():
            out[fact] = where(fact, lambda v: v is True)
        return out

    def _scope_set(self) -> int:
        scope, bits = self._scope, self.condition(0, self._scope.condition)
        for name, chosen in (("role", scope.roles), ("purpose", scope.purposes), ("act", scope.acts)):
            if chosen is not None:
                bits &= self.grid.where(name, chosen.__contains__)
        return bits


def _in(value: object, chosen: frozenset[str] | None) -> bool:
    return chosen is None or value in chosen
