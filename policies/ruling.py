"""What verdicts of both layers on all parties come to, without a node: shared by every node of the same verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from comity.decision import NO_OBLIGATIONS, Effect, Layer, MatchedRule, Obligations
from policies.verdict import Verdict

REGISTERED = MatchedRule(
    rule="FED-5",
    effect="deny",
    basis="Federation rules: whoever and whatever is named must be registered; own policy",
    layer=Layer.FEDERATION,
)
# One verdict a party; None in place of a policy that was never published.
Verdicts = tuple[Verdict | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What one layer says of all parties, put together once, so that two layers come to a ruling by few operations.

    `absent`: the policy was never published. `fault`: the first, or empty. `left`: the ids of the rules left to the
    node. `refuses`: the first party that no rule allows, or -1. `denied_first`: the requester itself is denied.
    `denies`, `allows`: the rules by these effects, in words. Compared by identity, as verdicts are.
    """

    verdicts: Verdicts
    shown: tuple[MatchedRule, ...]
    absent: bool
    fault: str
    left: frozenset[str]
    denied: bool
    denied_first: bool
    refuses: int
    duties: Obligations
    quotas: frozenset[tuple[str, int]]
    denies: tuple[str, ...]
    allows: tuple[str, ...]

    @classmethod
    def of(cls, verdicts: Verdicts, layer: Layer) -> Said:
        """What these verdicts of that layer's policy come to; the requester's is the first."""
        known = [v for v in verdicts if v is not None]
        shown = _shown(known, layer)
        duties = NO_OBLIGATIONS
        for v in known:
            duties = _joined(duties, v.obligations)
        quotas = {(r.id, r.duties.quota_per_day) for v in known for r in v.rules if r.duties is not NO_OBLIGATIONS}
        return cls(
            verdicts=verdicts,
            shown=shown,
            absent=None in verdicts,
            fault=next((v.fault for v in known if v.fault), ""),
            left=frozenset(r.id for v in known for r in v.left),
            denied=any(v.denied for v in known),
            denied_first=verdicts[0] is not None and verdicts[0].denied,
            refuses=next((i for i, v in enumerate(verdicts) if v is not None and not v.allowed), -1),
            duties=duties,
            quotas=frozenset((rule, most) for rule, most in quotas if most is not None),
            denies=tuple(f"{r.rule} ({r.basis})" for r in shown if r.effect == "deny"),
            allows=tuple(r.rule for r in shown if r.effect == "allow"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ruling:
    """A decision without its node, compared by identity.

    `party`: whose agency the reason names, between `reason` and `tail`; -1: nobody's.

    Parties are left out until a question is at hand, so that one ruling serves every agency of the same verdicts.
    """

    effect: Effect
    code: str
    reason: str
    rules: tuple[MatchedRule, ...] = ()
    obligations: Obligations = NO_OBLIGATIONS
    quotas: tuple[tuple[str, int], ...] = ()
    party: int = -1
    tail: str = ""

    def naming(self, agencies: Sequence[str]) -> Ruling:
        """The same with its party named."""
        if self.party < 0:
            return self
        return Ruling(
            effect=self.effect,
            code=self.code,
            reason=f"{self.reason}{agencies[self.party]}{self.tail}",
            rules=self.rules,
            obligations=self.obligations,
            quotas=self.quotas,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a question brings beside its verdicts. `doubts`: what was not understood, in words; `at_node`: the node
    decides, which leaves nothing to anybody.
    """

    doubts: tuple[str, ...]
    judicial: bool
    approved: bool
    at_node: bool


def strictest(top: Said, own: Said, standing: Standing) -> Ruling:
    """The first of these that is true: doubt, a deny, no policy, no allow, no warrant; else a permit.

    `top` is the federation's layer, `own` the node's; the same parties in both.
    """
    rules = top.shown + own.shown
    left = top.left | own.left
    if standing.doubts:
        return undecided(f"{listed(standing.doubts)} was not understood", rules)
    if top.fault or own.fault:
        return undecided(top.fault or own.fault, rules)
    if left and standing.at_node:
        return undecided(f"{listed(sorted(left))} depends on facts that were not given", rules)
    if top.denied or own.denied:
        reason = f"refused under {listed(top.denies + own.denies)}"
        if top.denied_first or own.denied_first:
            return Ruling(effect=Effect.DENY, code="DENIED_BY_RULE", rules=rules, reason=reason)
        reason, last = f"{reason}, asked on behalf of ", len(top.verdicts) - 1
        return Ruling(effect=Effect.DENY, code="DENIED_BY_RULE", rules=rules, reason=reason, party=last)
    if own.absent:
        reason = "refused: the node has published no policy"
        return Ruling(effect=Effect.DENY, code="NO_POLICY", rules=rules, reason=reason)
    for said, whose in ((top, "the federation's policy"), (own, "the node's policy")):
        if said.refuses >= 0:
            reason, tail = f"refused: no rule of {whose} allows ", " this purpose here"
            return Ruling(
                effect=Effect.DENY, code="NO_RULE_ALLOWS", rules=rules, reason=reason, party=said.refuses, tail=tail
            )
    return _permit(top, own, rules, left, standing)


def not_registered(what: Sequence[str]) -> Ruling:
    """The refusal of what the directory does not know."""
    reason = f"refused under FED-5 ({REGISTERED.basis}): {listed(what)} is not registered"
    return Ruling(effect=Effect.DENY, code="NOT_REGISTERED", reason=reason, rules=(REGISTERED,))


def undecided(why: str, rules: tuple[MatchedRule, ...] = ()) -> Ruling:
    """The refusal of what cannot be decided."""
    return Ruling(effect=Effect.DENY, code="INDETERMINATE", reason=f"refused: {why}", rules=rules)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shown(known: Sequence[Verdict], layer: Layer) -> tuple[MatchedRule, ...]:
    shown = [v.shown[layer] for v in known if v.shown]
    if len(shown) == 1:
        return shown[0]
    # both parties are judged by the same version, whose rules have one object each
    return tuple({m.rule: m for rules in shown for m in rules}.values())


def _joined(one: Obligations, other: Obligations) -> Obligations:
    if other is NO_OBLIGATIONS or one is other:
        return one
    return other if one is NO_OBLIGATIONS else _join(one, other)


@lru_cache(maxsize=4096)
def _join(one: Obligations, other: Obligations) -> Obligations:
    return one.join(other)


def _permit(top: Said, own: Said, rules: tuple[MatchedRule, ...], left: frozenset[str], standing: Standing) -> Ruling:
    duties = _joined(top.duties, own.duties)
    if duties.warrant and not standing.judicial:
        reason = "refused: a judicial warrant is required"
        return Ruling(effect=Effect.DENY, code="WARRANT_REQUIRED", rules=rules, reason=reason)
    reason = f"permitted under {listed(top.allows + own.allows)}"
    if duties.approval and not standing.approved:
        reason += ", once a supervisor of the requester's agency has signed too"
    if left:
        reason += f"; {listed(sorted(left))} is left to the node, which alone knows its facts"
    quotas = tuple(sorted(top.quotas | own.quotas)) if top.quotas or own.quotas else ()
    return Ruling(effect=Effect.PERMIT, code="PERMITTED", rules=rules, obligations=duties, reason=reason, quotas=quotas)
