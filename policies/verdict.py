"""What one policy says of one party at one node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from comity.decision import NO_OBLIGATIONS, Layer, MatchedRule, Obligations
from policies.load import Rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What one policy says of one party at one node. `rules`: every one that applied, in a fixed order.

    `shown`: the same as readers see them, parts of one rule once, by the layer that the policy may be used in.
    `left`: rules that depend on what only the node knows. `fault`: why nothing could be decided, else empty; then
    nothing is allowed. `denied`: a rule refuses. Two verdicts are equal only if they are one object, so that they are
    cheap as keys.
    """

    allowed: bool
    rules: tuple[Rule, ...] = ()
    shown: Mapping[Layer, tuple[MatchedRule, ...]] = field(default_factory=dict)
    left: tuple[Rule, ...] = ()
    obligations: Obligations = NO_OBLIGATIONS
    fault: str = ""
    denied: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denied", any(r.effect == "deny" for r in self.rules))


def matched_rule(rule: Rule, layer: Layer) -> MatchedRule:
    """The rule as readers see it, in a policy that is used in that layer."""
    return MatchedRule(rule=rule.id, effect=rule.effect, basis=rule.basis, layer=layer, advice=rule.is_advice)


def joined_duties(rules: Iterable[Rule]) -> Obligations:
    """The duties of all the rules together."""
    out = NO_OBLIGATIONS
    for rule in rules:
        out = out.join(rule.duties)
    return out
