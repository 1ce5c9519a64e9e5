"""Conditions under which a search is permitted, worked out of sets of circumstances.

A circumstance is one value of everything that may vary; a set of them is the bits of one number, look-backs fastest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from comity.decision import Obligations
from comity.purpose import Act, Authority, LegalBasis

_T = TypeVar("_T")
BASES, AUTHORITIES, CASES = tuple(LegalBasis), tuple(Authority), (False, True)
# What each authority contains: who shows a judicial warrant meets a demand for a court order.
CONTAINS = {a: {Authority.NONE, a} for a in Authority}
CONTAINS[Authority.JUDICIAL_WARRANT] |= {Authority.COURT_ORDER}
_LISTED = ("roles", "acts", "bases", "authorities", "cases", "limits", "staff", "found")
SWEEP = ("days", "found", "staff", "limits", "authorities", "cases", "bases", "acts", "roles")  # joined in this order
_Cube = tuple[int, ...]  # a set of values, as bits, for each name of SWEEP


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Varies:
    """What may vary. `cuts`: the days back at which look-backs are told apart; `roles`, `acts`: classes of them."""

    cuts: tuple[int, ...]
    found: tuple[frozenset[str], ...]
    staff: tuple[frozenset[str], ...]
    limits: tuple[str, ...]
    acts: tuple[tuple[Act, ...], ...]
    roles: tuple[tuple[str, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each name of SWEEP has."""
        fixed = len(AUTHORITIES), len(CASES), len(BASES)
        return (*map(len, (self.cuts, self.found, self.staff, self.limits)), *fixed, len(self.acts), len(self.roles))


class Frame:
    """All circumstances of what may vary. `searching`: the roles that a way need not name."""

    def __init__(self, varies: Varies, searching: tuple[str, ...]) -> None:
        self.varies, self._searching = varies, searching
        self._sizes = varies.sizes
        self._strides = [1]
        for size in self._sizes:
            self._strides.append(self._strides[-1] * size)
        self.full = (1 << self._strides[-1]) - 1
        self.judicial = self.where("authorities", 1 << AUTHORITIES.index(Authority.JUDICIAL_WARRANT))
        self._cubes: dict[tuple[int, int], tuple[_Cube, ...]] = {}
        self._known: dict[frozenset[tuple[Obligations, int]], tuple[Way, ...]] = {}

    def where(self, name: str, values: int) -> int:
        """The circumstances in which `name` has one of the values, given as bits."""
        at = SWEEP.index(name)
        stride, period = self._strides[at], self._strides[at + 1]
        block, bits = 0, (1 << stride) - 1
        for i in range(self._sizes[at]):
            if values >> i & 1:
                block |= bits << i * stride
        # the same block once in every period of this name
        return block * (self.full // ((1 << period) - 1))

    def ways(self, permitted: Mapping[Obligations, int]) -> tuple[Way, ...]:
        """The ways that are `permitted`, duties -> circumstances that are disjoint; the least demanding first."""
        key = frozenset(permitted.items())
        known = self._known.get(key)
        if known is None:
            cubes = ((cube, d) for d, bits in permitted.items() for cube in self._joined(len(SWEEP) - 1, bits))
            found = [self._way((run, *cube[1:]), d) for cube, d in cubes for run in _runs(cube[0])]
            shown = {id(w): (len(str(w.obligations.as_json())), str(w)) for w in found}
            # in this order too, so that of two that cover each other always the same one stays
            found.sort(key=lambda w: shown[id(w)])
            known = self._known[key] = tuple(_least(found))
        return known

    def _joined(self, level: int, bits: int) -> tuple[_Cube, ...]:
        """The set in few cubes: those that differ in one thing alone are one, in the order of SWEEP."""
        if not bits or not level:
            return ((bits,),) if bits else ()
        known = self._cubes.get((level, bits))
        if known is None:
            stride = self._strides[level]
            mask, slices, joined = (1 << stride) - 1, dict[int, int](), dict[_Cube, int]()
            for i in range(self._sizes[level]):
                part = bits >> i * stride & mask
                slices[part] = slices.get(part, 0) | 1 << i
            for part, where in slices.items():
                for cube in self._joined(level - 1, part):
                    joined[cube] = joined.get(cube, 0) | where
            known = self._cubes[level, bits] = tuple((*cube, where) for cube, where in joined.items())
        return known

    def _way(self, cube: _Cube, duties: Obligations) -> Way:
        bits, v = dict(zip(SWEEP, cube, strict=True)), self.varies
        days = _of(bits["days"], v.cuts)
        after = next((cut for cut in v.cuts if cut > days[-1]), None)
        roles = tuple(sorted(r for c in _of(bits["roles"], v.roles) for r in c))
        acts = tuple(a for c in _of(bits["acts"], v.acts) for a in c)
        return Way(
            roles=() if roles == self._searching else roles,
            acts=() if len(acts) == len(Act) else acts,
            bases=_some(bits["bases"], BASES),
            authorities=_some(bits["authorities"], AUTHORITIES),
            cases=_some(bits["cases"], CASES),
            limits=_some(bits["limits"], v.limits),
            staff=_some(bits["staff"], v.staff),
            found=_some(bits["found"], v.found),
            lookback_days=(days[0], after - 1 if after is not None else None),
            obligations=duties,
        )


def _least(ways: Sequence[Way]) -> Iterator[Way]:
    """Without those that another covers; of two that cover each other, the first stays."""
    for i, way in enumerate(ways):
        others = (o for j, o in enumerate(ways) if j != i and o.covers(way) and (j < i or not way.covers(o)))
        if next(others, None) is None:
            yield way


def _of(bits: int, values: Sequence[_T]) -> tuple[_T, ...]:
    return tuple(v for i, v in enumerate(values) if bits >> i & 1)


def _some(bits: int, values: Sequence[_T]) -> tuple[_T, ...]:
    return () if bits == (1 << len(values)) - 1 else _of(bits, values)


def _runs(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        run = (bits ^ (bits + low)) & bits
        yield run
        bits &= ~run
