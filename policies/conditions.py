"""When a rule applies: a closed grammar over a total, immutable set of facts."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from comity.errors import InvalidInput


class Holder(enum.StrEnum):
    """Who can establish a fact. The broker leaves rules with a fact of the node's to the node."""

    BROKER = "broker"
    NODE = "node"


# fact -> who has it
FACTS: Mapping[str, Holder] = MappingProxyType(
    {
        "case": Holder.BROKER,  # a case number that is more than blanks
        "searching-role": Holder.BROKER,  # the role lies under `searcher`
        "basis-criminal": Holder.BROKER,
        "basis-civil": Holder.BROKER,
        "basis-administrative": Holder.BROKER,
        "administrative-warrant": Holder.BROKER,
        "court-order": Holder.BROKER,  # true of a judicial warrant too
        "judicial-warrant": Holder.BROKER,
        "on-behalf": Holder.BROKER,  # this party is the beneficiary of another's search
        "same-state": Holder.BROKER,  # never true of a federal agency, wherever its office is
        "other-state": Holder.BROKER,  # neither federal nor of the node's state
        "own-node": Holder.BROKER,
        "declaration": Holder.BROKER,  # given by this party to the node's agency, and valid
        "mou": Holder.BROKER,
        "trained": Holder.BROKER,  # the training that this person, or the whole agency, is registered with is current
        "selected-staff": Holder.BROKER,  # registered as selected for searches by part of a plate
        "limitation-5y": Holder.BROKER,  # the offence named is barred after five years, or is not a known one
        "limitation-8y": Holder.BROKER,
        "limitation-10y": Holder.BROKER,
        "unposted-purpose": Holder.BROKER,  # the node's posted usage policy does not list the purpose
        "hot-list-match": Holder.NODE,
        "mobile-camera": Holder.NODE,
    }
)
NODE_FACTS = frozenset(name for name, holder in FACTS.items() if holder is Holder.NODE)
_LOOKBACK = re.compile(r"lookback(<=|>)(0|[1-9][0-9]{0,5})\Z")


def _meant(term: str, name: str) -> str:
    near = difflib.get_close_matches(name.strip().lower(), FACTS, n=1)
    return f"did you mean {'unless ' if name != term else ''}{near[0]}? " if near else ""


class Truth(enum.Enum):
    """Whether a condition holds; LEFT: that depends on a fact which only the node has."""

    TRUE = enum.auto()
    FALSE = enum.auto()
    LEFT = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Every fact of FACTS: in `true`, in `left` (not known here), or false. `lookback_days` from 0."""

    true: frozenset[str]
    left: frozenset[str]
    lookback_days: int

    @classmethod
    def parse(cls, values: Mapping[str, bool | None], lookback_days: int) -> Facts:
        """The facts in `values`, which must name every one; None only for what the node has.

        Raises:
            InvalidInput: a fact missing, unknown or not a truth value; a look-back that is no whole number from 0.
        """
        if values.keys() != FACTS.keys():
            odd = sorted(values.keys() ^ FACTS.keys())
            raise InvalidInput(f"facts must be total: {', '.join(odd)} missing or unknown", reason="BAD_FACTS")
        for name, value in values.items():
            if type(value) is not bool and not (value is None and name in NODE_FACTS):
                raise InvalidInput(f"fact {name} must be true or false", reason="BAD_FACTS")
        if type(lookback_days) is not int or lookback_days < 0:
            raise InvalidInput("look-back must be a whole number of days from 0", reason="BAD_FACTS")
        return cls(
            true=frozenset(n for n, v in values.items() if v),
            left=frozenset(n for n, v in values.items() if v is None),
            lookback_days=lookback_days,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """All of `needs`, none of `bars`, and a look-back of at most `most` and more than `over` days."""

    needs: frozenset[str] = frozenset()
    bars: frozenset[str] = frozenset()
    most: int | None = None
    over: int | None = None

    @classmethod
    def parse(cls, text: str) -> Condition:
        """`always`, or terms joined by `&`: `FACT`, `unless FACT`, `lookback<=N`, `lookback>N`; no other blanks.

        Raises:
            ValueError: saying what would be right.
        """
        if text == "always":
            return cls()
        needs: set[str] = set()
        bars: set[str] = set()
        bounds: dict[str, int] = {}
        for term in text.split("&"):
            bound = _LOOKBACK.match(term)
            if bound:
                if bound[1] in bounds:
                    raise ValueError(f"lookback{bound[1]} stands twice; right is once")
                bounds[bound[1]] = int(bound[2])
                continue
            name = term.removeprefix("unless ")
            if name not in FACTS:
                raise ValueError(
                    f"{term!r} is no condition; {_meant(term, name)}right is always, FACT, unless FACT, lookback<=N or"
                    f" lookback>N joined by & with a FACT of {', '.join(FACTS)}"
                )
            if name in needs | bars:
                raise ValueError(f"{name} stands twice; right is once, with unless or without")
            (needs if name == term else bars).add(name)
        return cls(needs=frozenset(needs), bars=frozenset(bars), most=bounds.get("<="), over=bounds.get(">"))

    def holds(self, facts: Facts) -> Truth:
        """Whether it holds under `facts`; FALSE as soon as any term known here is false."""
        if not self.needs <= facts.true | facts.left or self.bars & facts.true:
            return Truth.FALSE
        if self.most is not None and facts.lookback_days > self.most:
            return Truth.FALSE
        if self.over is not None and facts.lookback_days <= self.over:
            return Truth.FALSE
        return Truth.LEFT if (self.needs | self.bars) & facts.left else Truth.TRUE
