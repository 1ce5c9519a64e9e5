"""Whether a property holds of every request there is: a proof over all classes, or a request that breaks it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from comity.decision import Obligations
from comity.errors import InvalidInput
from policies.conditions import Condition
from policies.instance import Request
from policies.properties import Clause, Property
from policies.setting import Setting
from policies.sides import Side, sides_of
from policies.space import Judged, Parties, Space

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """`requests` in `classes` were gone through, all of them where `counterexample` is None. `permitted`: what came
    of the counterexample.
    """

    text: str
    requests: int
    classes: int
    counterexample: Request | None
    permitted: bool = False

    @property
    def proved(self) -> bool:
        """Whether the property holds."""
        return self.counterexample is None

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        out: dict[str, object] = {
            "property": self.text,
            "proved": self.proved,
            "requests": self.requests,
            "classes": self.classes,
        }
        if self.counterexample is not None:
            out["counterexample"] = self.counterexample.as_json()
            out["got"] = "permit" if self.permitted else "no permit"
            out["explain"] = self.counterexample.command()
        return out


def prove(stated: Property, setting: Setting, day: dt.date, progress: Progress = silent) -> Proof:
    """The proof, or the first counterexample in the order of the nodes' names. `day`: on which the directory's
    trainings are judged; agreements may be on file or not.

    Raises:
        InvalidInput: reason BAD_PROPERTY, it speaks of no request at all.
        TooLarge: there are more classes than can be gone through.
    """
    sides = sides_of(setting, day)
    nodes = sorted(stated.nodes & sides.keys())
    requests = classes = 0
    for number, node in enumerate(nodes):
        progress(number, len(nodes))
        proof = _at(stated, sides[node])
        requests, classes = requests + proof.requests, classes + proof.classes
        if proof.counterexample is not None:
            return Proof(
                text=stated.text,
                requests=requests,
                classes=classes,
                counterexample=proof.counterexample,
                permitted=proof.permitted,
            )
    if not requests:
        raise InvalidInput("property: it speaks of no request that anybody could make", reason="BAD_PROPERTY")
    return Proof(text=stated.text, requests=requests, classes=classes, counterexample=None)


def _at(stated: Property, side: Side) -> Proof:
    only = stated.only
    further = (_without_bound(only.condition),) if only else ()
    cuts = [only.condition.most + 1] if only and only.condition.most is not None else []
    space = Space([side], scope=stated.scope, further=further, cuts=cuts)
    signed = [stated.when.approved] if stated.when.approved is not None else [False, True]
    requests = classes = 0
    for requester, beneficiary in space.pairs():
        judged = space.judged(0, requester, beneficiary)
        for approved in signed:
            permit = _now(judged, approved)
            requests += space.count(requester, beneficiary, space.inside)
            classes += space.inside.bit_count()
            bad = space.inside & (~permit if stated.kind == "always" else permit)
            if only is not None:
                bad &= ~_meets(only, space, judged, requester, approved)
            if bad:
                request = space.request(requester, beneficiary, bad, approved=approved)
                allowed = stated.kind != "always"
                return Proof(text="", requests=requests, classes=classes, counterexample=request, permitted=allowed)
    return Proof(text="", requests=requests, classes=classes, counterexample=None)


def _without_bound(condition: Condition) -> Condition:
    return Condition(needs=condition.needs, bars=condition.bars, over=condition.over)


def _now(judged: Judged, approved: bool) -> int:
    """Where the answer is a permit that waits for nothing."""
    return judged.permit & ~(0 if approved else _where(judged, lambda duties: duties.approval))


def _where(judged: Judged, holds: Callable[[Obligations], bool]) -> int:
    return sum(bits for duties, bits in judged.outcomes.items() if duties is not None and holds(duties))


def _meets(only: Clause, space: Space, judged: Judged, requester: Parties, approved: bool) -> int:
    if only.approved is not None and only.approved is not approved:
        return 0
    bits = space.where(0, requester)
    most = only.condition.most
    if most is None:
        return bits
    near = space.grid.where("lookback", lambda v: int(str(v)) <= most)
    clipped = _where(judged, lambda duties: duties.window_days is not None and duties.window_days <= most)
    return bits & (near | clipped)
