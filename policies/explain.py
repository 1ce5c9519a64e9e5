"""Why one request is permitted or refused, what nearly applied, and what would permit it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from comity.decision import Decision, Layer, MatchedRule, Pep
from comity.errors import InvalidInput
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import Facts
from policies.decide import Decider
from policies.engine import Policy
from policies.instance import AGREEMENTS, PAPERS, Request
from policies.load import ANY_ACT, Rule
from policies.parties import Party
from policies.setting import Setting
from policies.sides import UNPOSTED
from policies.vocabulary import node_word

MAX_CHANGES = 4
_Change = tuple[str, dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One rule and one party: `missing` is empty where the rule applies, else the one thing it needs to."""

    layer: Layer
    party: str
    on_behalf: bool
    rule: str
    effect: str
    basis: str
    when: str
    duty: str
    missing: str = ""

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "missing" or self.missing}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`decision` is the enforcement point's own. `applied`: every rule that applies, by layer and party; `near`: those
    that one condition keeps from it; `remedies`: the least sets of changes under which the answer is a permit.
    """

    request: Request
    decision: Decision
    applied: tuple[Applied, ...]
    near: tuple[Applied, ...]
    remedies: tuple[tuple[str, ...], ...]

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        d = self.decision
        return {
            "request": self.request.as_json(),
            "effect": d.effect.value,
            "pending": d.pending,
            "reason_code": d.reason_code,
            "reason": d.reason,
            "obligations": d.obligations.as_json(),
            "rules": [_cited(r) for r in d.rules],
            "applied": [a.as_json() for a in self.applied],
            "near_misses": [a.as_json() for a in self.near],
            "remedies": [list(r) for r in self.remedies],
        }


def explain(setting: Setting, request: Request, day: dt.date) -> Explanation:
    """The explanation of the decision on `day`, by the node if its facts are given, else by the broker.

    Raises:
        InvalidInput: reason BAD_REQUEST, the node is not registered.
    """
    if request.node not in setting.federation.nodes:
        known = ", ".join(sorted(setting.federation.nodes))
        raise InvalidInput(f"there is no node {request.node!r}; right is one of {known}", reason="BAD_REQUEST")
    asked = _Asked(setting, day)
    decision = asked.decide(request)
    rules = tuple(asked.rules(request))
    return Explanation(
        request=request,
        decision=decision,
        applied=tuple(r for r, missing in rules if not missing),
        near=tuple(replace(r, missing=missing[0]) for r, missing in rules if len(missing) == 1),
        remedies=() if decision.permitted else tuple(_remedies(asked, request)),
    )


class _Asked:
    """The setting, asked about one request after the other."""

    def __init__(self, setting: Setting, day: dt.date) -> None:
        self.setting, self.day = setting, day
        self._deciders: dict[object, Decider] = {}

    def decide(self, request: Request) -> Decision:
        pep = Pep.BROKER if request.node_facts is None else Pep.NODE
        key = (request.papers, request.beneficiary_papers, pep)
        if key not in self._deciders:
            federation = request.supposed(self.setting.federation)
            self._deciders[key] = Decider(federation, self.setting.federation_policy, pep, new_id=str)
        target = (request.node, self.setting.node_policies[request.node])
        return self._deciders[key].decide(request.question(self.day), [target])[0]

    def policies(self, node: str) -> Iterator[tuple[Layer, Policy]]:
        yield Layer.FEDERATION, self.setting.federation_policy
        own = self.setting.node_policies[node]
        if own is not None:
            yield Layer.NODE, own

    def rules(self, request: Request) -> Iterator[tuple[Applied, list[str]]]:
        """Every rule and party, with what keeps the rule from applying."""
        federation = request.supposed(self.setting.federation)
        question = request.question(self.day)
        states = {a.id: a.state for a in federation.agencies.values()}
        owner = federation.nodes[request.node].agency
        for layer, policy in self.policies(request.node):
            for number, agency in enumerate(dict.fromkeys((request.requester, request.beneficiary))):
                if agency not in federation.agencies:
                    continue
                party = Party(question, federation.agencies[agency], federation, states, on_behalf=number > 0)
                facts = _with_posted(party.facts(owner), policy, request.purpose)
                for rule in policy.rules:
                    missing = _missing(rule, policy, request, agency, facts)
                    yield _applied(rule, layer, agency, number > 0), missing


def _with_posted(facts: Facts, policy: Policy, purpose: str) -> Facts:
    if policy.posted is None or purpose in policy.posted:
        return facts
    return replace(facts, true=facts.true | {UNPOSTED})


def _applied(rule: Rule, layer: Layer, party: str, on_behalf: bool) -> Applied:
    return Applied(
        layer=layer,
        party=party,
        on_behalf=on_behalf,
        rule=rule.row,
        effect=rule.effect,
        basis=rule.basis,
        when=rule.cells[7],
        duty=rule.cells[8],
    )


def _missing(rule: Rule, policy: Policy, request: Request, agency: str, facts: Facts) -> list[str]:
    """What the rule lacks, each in words; a rule for other nodes lacks its node."""
    words, out = policy.vocabulary, []
    _, node, who, role, purpose, act = rule.cells[:6]
    for column, cell, value, dimension in (
        ("node", node, node_word(request.node), words.node),
        ("who", who, agency, words.who),
        ("role", role, request.role, words.role),
        ("purpose", purpose, request.purpose, words.purpose),
    ):
        if cell not in dimension.above.get(value, ()):
            out.append(f"{column} is not {cell}")
    if act not in (ANY_ACT, request.act):
        out.append(f"kind of search is not {act}")
    c, days = rule.condition, request.lookback_days
    out += [f"depends on {f}, which only the node knows" for f in sorted((c.needs | c.bars) & facts.left)]
    out += [f"{f} is not true" for f in sorted(c.needs - facts.true - facts.left)]
    out += [f"{f} is true" for f in sorted(c.bars & facts.true)]
    if c.most is not None and days > c.most:
        out.append(f"look-back is more than {c.most:,} days")
    if c.over is not None and days <= c.over:
        out.append(f"look-back is not more than {c.over:,} days")
    return out


def _remedies(asked: _Asked, request: Request) -> Iterator[tuple[str, ...]]:
    """The least sets of changes that permit the request, fewest first; never another purpose, role or party."""
    axes = _axes(asked, request)
    found: list[frozenset[str]] = []
    for size in range(1, MAX_CHANGES + 1):
        for chosen in itertools.combinations(sorted(axes), size):
            if any(f <= set(chosen) for f in found):
                continue
            for changes in itertools.product(*(axes[name] for name in chosen)):
                fields = {k: v for _, change in changes for k, v in change.items()}
                if asked.decide(replace(request, **fields)).permitted:  # type: ignore[arg-type]
                    found.append(frozenset(chosen))
                    yield tuple(words for words, _ in changes)
                    break


def _axes(asked: _Asked, request: Request) -> Mapping[str, list[_Change]]:
    """What the requester could bring or ask differently, the mildest of each kind first."""
    conditions = [r.condition for _, p in asked.policies(request.node) for r in p.rules]
    used = frozenset[str]().union(*(c.needs | c.bars for c in conditions))
    acts = {r.cells[5] for _, p in asked.policies(request.node) for r in p.rules} - {ANY_ACT}
    bounds = {d for c in conditions for d in (c.most, c.over) if d is not None and d < request.lookback_days}
    articles = {Authority.ADMINISTRATIVE_WARRANT: "an", Authority.COURT_ORDER: "a", Authority.JUDICIAL_WARRANT: "a"}
    axes: dict[str, list[_Change]] = {
        "1 case": [("with a case number", {"has_case": True})] if not request.has_case else [],
        "2 authority": [
            (f"with {article} {a.value.replace('-', ' ')}", {"authority": a})
            for a, article in articles.items()
            if a is not request.authority
        ],
        "3 days": [(f"within {d:,} days", {"lookback_days": d}) for d in sorted(bounds, reverse=True)],
        "4 approval": [] if request.approved else [("with a supervisor's signature", {"approved": True})],
        "5 basis": [
            (f"with legal basis {b.value}", {"legal_basis": b}) for b in LegalBasis if b is not request.legal_basis
        ],
        "6 kind": [(f"as {_an(a)} search", {"act": a}) for a in Act if acts and a is not request.act],
    }
    for kind in PAPERS:
        if kind in used:
            axes |= _papers(asked, request, kind)
    return {name: changes for name, changes in axes.items() if changes}


def _papers(asked: _Asked, request: Request, kind: str) -> Mapping[str, list[_Change]]:
    """A paper of that kind from the requester, and from the beneficiary, where it is not on file."""
    out: dict[str, list[_Change]] = {}
    for field, agency in (("papers", request.requester), ("beneficiary_papers", request.beneficiary)):
        if field == "beneficiary_papers" and request.beneficiary == request.requester:
            continue
        held = getattr(request, field)
        held = _on_file(asked, request, agency) if held is None else held
        if kind not in held:
            words = (
                f"with a {kind} of {agency} on file" if kind in AGREEMENTS else f"with {agency} registered as {kind}"
            )
            out[f"7 {kind} {field}"] = [(words, {field: held | {kind}})]
    return out


def _on_file(asked: _Asked, request: Request, agency: str) -> frozenset[str]:
    federation = asked.setting.federation
    if agency not in federation.agencies:
        return frozenset()
    states = {a.id: a.state for a in federation.agencies.values()}
    party = Party(request.question(asked.day), federation.agencies[agency], federation, states, on_behalf=False)
    return party.facts(federation.nodes[request.node].agency).true & frozenset(PAPERS)


def _an(act: Act) -> str:
    return f"{'an' if act.value[0] in 'ae' else 'a'} {act.value}"


def _cited(rule: MatchedRule) -> dict[str, object]:
    return {"rule": rule.rule, "effect": rule.effect, "basis": rule.basis, "layer": rule.layer.value}
