"""What verdicts of both layers on all parties come to, without a node: cheap enough to be put together at every search.

Nothing of it is remembered but what one layer says of one party, beside that layer's verdict: a thousand policies
would leave a thousand rulings for each new combination of rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from comity.decision import NO_OBLIGATIONS, Effect, Layer, MatchedRule, Obligations
from policies.verdict import Verdict

REGISTERED = MatchedRule(
    rule="FED-5",
    effect="deny",
    basis="Federation rules: whoever and whatever is named must be registered; own policy",
    layer=Layer.FEDERATION,
)
_NOTHING = frozenset[str]()
_NO_QUOTAS = frozenset[tuple[str, int]]()


class Said:
    """What one layer says of all parties, so that two layers come to a ruling by few operations. Compared by identity.

    `verdict`: on a single party. `absent`: the policy was never published. `fault`: the first, or empty. `left`: the
    ids of the rules left to the node. `refuses`: the first party that no rule allows, or -1. `denied_first`: the
    requester itself is denied. `cited`: the denies if there are any, else the allows, in words; `before`: the same
    before further ones.
    """

    __slots__ = (
        "absent",
        "before",
        "cited",
        "denied",
        "denied_first",
        "duties",
        "fault",
        "left",
        "quotas",
        "refuses",
        "several",
        "shown",
        "verdict",
    )

    def __init__(self, verdict: Verdict, shown: tuple[MatchedRule, ...], duties: Obligations) -> None:
        """Of a party that is allowed; whoever makes it says what else is true."""
        self.verdict, self.shown, self.duties = verdict, shown, duties
        self.absent = self.denied = self.denied_first = False
        self.fault, self.left, self.quotas, self.refuses = "", _NOTHING, _NO_QUOTAS, -1
        self.cited = self.before = ""
        self.several = False

    @classmethod
    def of(cls, verdict: Verdict, layer: Layer) -> Said:
        """What the verdict on one party comes to."""
        said = cls(verdict, verdict.shown.get(layer, ()), _one_of(verdict.obligations))
        said.fault = verdict.fault
        said.denied = said.denied_first = verdict.denied
        said.refuses = -1 if verdict.allowed else 0
        if verdict.left:
            said.left = frozenset(r.id for r in verdict.left)
        bound = [(r.id, r.duties.quota_per_day) for r in verdict.rules if r.duties is not NO_OBLIGATIONS]
        if bound:
            said.quotas = frozenset((rule, most) for rule, most in bound if most is not None)
        said._cite()
        return said

    def and_of(self, other: Said) -> Said:
        """What the same layer says of this one's party, the requester, and of the `other`'s too."""
        shown = self.shown
        if other.shown is not shown:
            # both are judged by the same version, whose rules have one object each
            here = {m.rule for m in shown}
            further = [m for m in other.shown if m.rule not in here]
            if further:
                shown += tuple(further)
        said = Said(_OF_TWO, shown, joined(self.duties, other.duties))
        said.fault = self.fault or other.fault
        said.denied, said.denied_first = self.denied or other.denied, self.denied
        said.refuses = self.refuses if self.refuses >= 0 or other.refuses < 0 else 1
        if self.left or other.left:
            said.left = self.left | other.left
        if self.quotas or other.quotas:
            said.quotas = self.quotas | other.quotas
        if shown is self.shown and self.denied == said.denied:
            said.cited, said.before, said.several = self.cited, self.before, self.several
        else:
            said._cite()
        return said

    def cited_with(self, other: Said) -> str:
        """What this layer and the `other` cite, as one list; where one is denied and the other is not, its denies."""
        if not other.cited or (self.denied and not other.denied):
            return self.cited
        if not self.cited or (other.denied and not self.denied):
            return other.cited
        return f"{self.before}, {other.cited}" if other.several else f"{self.before} and {other.cited}"

    def _cite(self) -> None:
        if self.denied:
            words = [f"{r.rule} ({r.basis})" for r in self.shown if r.effect == "deny"]
        else:
            words = [r.rule for r in self.shown if r.effect == "allow"]
        self.several = len(words) > 1
        self.cited = self.before = words[0] if words else ""
        if self.several:
            self.cited, self.before = listed(words), ", ".join(words)


_JOINED: dict[tuple[int, int], tuple[Obligations, Obligations, Obligations]] = {}
MAX_JOINED = 4_096
_OF_TWO = Verdict(allowed=False, fault="a verdict is on one party")
ABSENT = Said(_OF_TWO, (), NO_OBLIGATIONS)
ABSENT.absent = True


class Ruling(NamedTuple):
    """A decision without its node."""

    effect: Effect
    code: str
    reason: str
    rules: tuple[MatchedRule, ...] = ()
    obligations: Obligations = NO_OBLIGATIONS
    quotas: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a question brings beside its verdicts. `doubts`: what was not understood, in words; `at_node`: the node
    decides, which leaves nothing to anybody. `agencies`: of the parties, the requester's first.
    """

    doubts: tuple[str, ...]
    judicial: bool
    approved: bool
    at_node: bool
    agencies: tuple[str, ...]


def strictest(top: Said, own: Said, standing: Standing) -> Ruling:
    """The first of these that is true: doubt, a deny, no policy, no allow, no warrant; else a permit.

    `top` is the federation's layer, `own` the node's; the same parties in both.
    """
    rules = top.shown + own.shown
    if standing.doubts:
        return undecided(f"{listed(standing.doubts)} was not understood", rules)
    if top.fault or own.fault:
        return undecided(top.fault or own.fault, rules)
    if standing.at_node and (top.left or own.left):
        return undecided(f"{listed(sorted(top.left | own.left))} depends on facts that were not given", rules)
    if top.denied or own.denied:
        return _denied(top, own, rules, standing)
    if own.absent:
        return Ruling(Effect.DENY, "NO_POLICY", "refused: the node has published no policy", rules)
    if top.refuses >= 0 or own.refuses >= 0:
        said, whose = (top, "the federation's policy") if top.refuses >= 0 else (own, "the node's policy")
        reason = f"refused: no rule of {whose} allows {standing.agencies[said.refuses]} this purpose here"
        return Ruling(Effect.DENY, "NO_RULE_ALLOWS", reason, rules)
    return _permit(top, own, rules, standing)


def not_registered(what: Sequence[str]) -> Ruling:
    """The refusal of what the directory does not know."""
    reason = f"refused under FED-5 ({REGISTERED.basis}): {listed(what)} is not registered"
    return Ruling(Effect.DENY, "NOT_REGISTERED", reason, (REGISTERED,))


def undecided(why: str, rules: tuple[MatchedRule, ...] = ()) -> Ruling:
    """The refusal of what cannot be decided."""
    return Ruling(Effect.DENY, "INDETERMINATE", f"refused: {why}", rules)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def joined(one: Obligations, other: Obligations) -> Obligations:
    """The strictest of both; worked out once for the same two objects."""
    if other is NO_OBLIGATIONS or one is other:
        return one
    if one is NO_OBLIGATIONS:
        return other
    known = _JOINED.get((id(one), id(other)))
    if known is None:
        if len(_JOINED) >= MAX_JOINED:
            _JOINED.clear()
        # both are held here, so that nothing else can have their ids
        known = _JOINED[id(one), id(other)] = (one, other, _one_of(one.join(other)))
    return known[2]


@lru_cache(maxsize=4_096)
def _one_of(duties: Obligations) -> Obligations:
    """The same object for equal duties, as long as it is remembered."""
    return duties


def _denied(top: Said, own: Said, rules: tuple[MatchedRule, ...], standing: Standing) -> Ruling:
    reason = f"refused under {top.cited_with(own)}"
    if not (top.denied_first or own.denied_first):
        reason = f"{reason}, asked on behalf of {standing.agencies[-1]}"
    return Ruling(Effect.DENY, "DENIED_BY_RULE", reason, rules)


def _permit(top: Said, own: Said, rules: tuple[MatchedRule, ...], standing: Standing) -> Ruling:
    duties = joined(top.duties, own.duties)
    if duties.warrant and not standing.judicial:
        return Ruling(Effect.DENY, "WARRANT_REQUIRED", "refused: a judicial warrant is required", rules)
    reason = f"permitted under {top.cited_with(own)}"
    if duties.approval and not standing.approved:
        reason += ", once a supervisor of the requester's agency has signed too"
    if top.left or own.left:
        left = listed(sorted(top.left | own.left))
        reason += f"; {left} is left to the node, which alone knows its facts"
    quotas = tuple(sorted(top.quotas | own.quotas)) if top.quotas or own.quotas else ()
    return Ruling(Effect.PERMIT, "PERMITTED", reason, rules, duties, quotas)
