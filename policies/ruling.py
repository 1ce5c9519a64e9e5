"""What verdicts of both layers on all parties come to, without a node: shared by every node of the same verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        return replace(self, reason=f"{self.reason}{agencies[self.party]}{self.tail}", party=-1, tail="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a question brings beside its verdicts. `doubts`: what was not understood, in words; `at_node`: the node
    decides, which leaves nothing to anybody.
    """

    doubts: tuple[str, ...]
    judicial: bool
    approved: bool
    at_node: bool


def strictest(top: Verdicts, own: Verdicts, standing: Standing) -> Ruling:
    """The first of these that is true: doubt, a deny, no policy, no allow, no warrant; else a permit.

    `top` is the federation's layer, `own` the node's; the same parties in both.
    """
    rules = _shown(top, Layer.FEDERATION) + _shown(own, Layer.NODE)
    both = (*top, *own)
    faults = [v.fault for v in both if v and v.fault]
    left = sorted({r.id for v in both if v for r in v.left})
    if standing.doubts:
        return undecided(f"{listed(standing.doubts)} was not understood", rules)
    if faults:
        return undecided(faults[0], rules)
    if left and standing.at_node:
        return undecided(f"{listed(left)} depends on facts that were not given", rules)
    if any(v.denied for v in both if v):
        return _denied(top, own, rules)
    if None in own:
        reason = "refused: the node has published no policy"
        return Ruling(effect=Effect.DENY, code="NO_POLICY", rules=rules, reason=reason)
    for whose, layer in (("the federation's policy", top), ("the node's policy", own)):
        for party, v in enumerate(layer):
            if v is not None and not v.allowed:
                reason, tail = f"refused: no rule of {whose} allows ", " this purpose here"
                return Ruling(
                    effect=Effect.DENY, code="NO_RULE_ALLOWS", rules=rules, reason=reason, party=party, tail=tail
                )
    return _permit(tuple(v for v in both if v), rules, left, standing)


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


def _shown(of_layer: Verdicts, layer: Layer) -> tuple[MatchedRule, ...]:
    shown = [v.shown[layer] for v in of_layer if v is not None and v.shown]
    if len(shown) == 1:
        return shown[0]
    # both parties are judged by the same version, whose rules have one object each
    return tuple({m.rule: m for rules in shown for m in rules}.values())


def _denied(top: Verdicts, own: Verdicts, rules: tuple[MatchedRule, ...]) -> Ruling:
    reason = f"refused under {listed([f'{r.rule} ({r.basis})' for r in rules if r.effect == 'deny'])}"
    if any(v.denied for v in (top[0], own[0]) if v):
        return Ruling(effect=Effect.DENY, code="DENIED_BY_RULE", rules=rules, reason=reason)
    return Ruling(
        effect=Effect.DENY,
        code="DENIED_BY_RULE",
        rules=rules,
        reason=f"{reason}, asked on behalf of ",
        party=len(top) - 1,
    )


def _permit(
    verdicts: tuple[Verdict, ...], rules: tuple[MatchedRule, ...], left: list[str], standing: Standing
) -> Ruling:
    duties = NO_OBLIGATIONS
    for v in verdicts:
        duties = duties if v.obligations is NO_OBLIGATIONS else duties.join(v.obligations)
    if duties.warrant and not standing.judicial:
        reason = "refused: a judicial warrant is required"
        return Ruling(effect=Effect.DENY, code="WARRANT_REQUIRED", rules=rules, reason=reason)
    reason = f"permitted under {listed([r.rule for r in rules if r.effect == 'allow'])}"
    if duties.approval and not standing.approved:
        reason += ", once a supervisor of the requester's agency has signed too"
    if left:
        reason += f"; {listed(left)} is left to the node, which alone knows its facts"
    quotas = {(r.id, r.duties.quota_per_day) for v in verdicts for r in v.rules}
    counted = tuple(sorted((rule, most) for rule, most in quotas if most is not None))
    return Ruling(
        effect=Effect.PERMIT, code="PERMITTED", rules=rules, obligations=duties, reason=reason, quotas=counted
    )
