"""Both layers' word on one question at every target.

1 registered    requester, beneficiary, role, purpose and node are leaves of the directory           FED-5
2 parties       the requester, and the beneficiary where it is another; each with its own facts
3 layers        the federation's policy and the node's own; every rule that applies is collected
4 strictest     any deny refuses; every layer must allow every party; all duties join
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from comity.decision import NO_OBLIGATIONS, Decision, Effect, Layer, MatchedRule, Obligations, Pep
from comity.errors import PolicyError
from comity.federation import Federation, Node
from comity.purpose import Authority
from policies.engine import Asked, Policy, Verdict
from policies.parties import Party
from policies.request import Question, has_case
from policies.retention import DAY_S, retention_s
from policies.vocabulary import node_word, vocabulary_of

__all__ = ["Decider", "Question", "has_case", "searchable_days"]

MAX_RULINGS = 65_536
REGISTERED = MatchedRule(
    rule="FED-5",
    effect="deny",
    basis="Federation rules: whoever and whatever is named must be registered; own policy",
    layer=Layer.FEDERATION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruling:
    """A decision without its node, shared by all nodes of the same class."""

    effect: Effect
    code: str
    reason: str
    rules: tuple[MatchedRule, ...] = ()
    obligations: Obligations = NO_OBLIGATIONS


_Verdicts = tuple[Verdict | None, ...]
_Class = tuple[tuple[object, ...], _Verdicts]


class Decider:
    """Decides for one enforcement point under one version of the federation's policy; safe under threads."""

    def __init__(self, federation: Federation, federation_policy: Policy, pep: Pep, new_id: Callable[[], str]) -> None:
        self.federation = federation
        self.federation_policy = federation_policy
        self.pep = pep
        self.vocabulary = vocabulary_of(federation)
        self.states = {a.id: a.state for a in federation.agencies.values()}
        self.owners = {n.id: n.agency for n in federation.nodes.values()}
        self._new_id = new_id
        self._rulings: dict[_Class, _Ruling] = {}
        if federation_policy.vocabulary != self.vocabulary:
            raise PolicyError("was compiled for another directory", file="federation policy")

    def decide(self, question: Question, targets: Sequence[tuple[str, Policy | None]]) -> tuple[Decision, ...]:
        """One decision a target, in order. None in place of a node's policy is a deny: it was never shown."""
        fits = {id(p): p.vocabulary == self.vocabulary for _, p in targets if p is not None}
        unnamed = self._unnamed(question)
        session = None if unnamed else _Session(self, question)
        out = []
        for node_id, policy in targets:
            # Step 1
            if session is None or not self.vocabulary.node.names(node_word(node_id)):
                ruling = _not_registered(unnamed or ["the node"])
            elif policy is not None and not fits[id(policy)]:
                ruling = _undecided("the node's policy was made for another version of the directory")
            else:
                ruling = session.ruling(node_id, policy)
            out.append(self._decision(node_id, policy, question, ruling))
        return tuple(out)

    def remembered(self, key: _Class, work_out: Callable[[_Verdicts], _Ruling]) -> _Ruling:
        """The ruling on a class of requests. A verdict is one object of one version, so no version answers another's.

        A fault is not remembered: it is looked into again each time.
        """
        known = self._rulings.get(key)
        if known is None:
            known = work_out(key[1])
            if any(v is not None and v.fault for v in key[1]):
                return known
            if len(self._rulings) >= MAX_RULINGS:
                self._rulings = {}
            self._rulings[key] = known
        return known

    def _unnamed(self, q: Question) -> list[str]:
        words = self.vocabulary
        named = (
            ("the requester", q.requester_agency, words.who),
            ("the beneficiary", q.beneficiary, words.who),
            ("the role", q.role, words.role),
            ("the purpose", q.purpose, words.purpose),
        )
        return [what for what, value, dimension in named if not dimension.names(value)]

    def _decision(self, node_id: str, policy: Policy | None, question: Question, ruling: _Ruling) -> Decision:
        return Decision(
            decision_id=self._new_id(),
            node=node_id,
            effect=ruling.effect,
            pep=self.pep,
            policy_digest=policy.digest if policy else "",
            federation_digest=self.federation_policy.digest,
            rules=ruling.rules,
            obligations=ruling.obligations,
            approved=question.approved is True,
            reason_code=ruling.code,
            reason=ruling.reason,
        )


class _Session:
    """One question; what nodes have in common is worked out once."""

    def __init__(self, decider: Decider, question: Question) -> None:
        self.decider = decider
        self.question = question
        # Step 2
        ids = dict.fromkeys((question.requester_agency, question.beneficiary))
        self.parties = [
            Party(question, decider.federation.agencies[a], decider.federation, decider.states, on_behalf=i > 0)
            for i, a in enumerate(ids)
        ]
        self._asked: dict[tuple[int, int, int], Asked] = {}
        self._doubts = question.doubts
        self._same = (question.authority, question.approved, self._doubts, tuple(ids))

    def ruling(self, node_id: str, policy: Policy | None) -> _Ruling:
        """What both layers say of all parties at the node."""
        # Step 3
        verdicts = tuple(
            None if layer is None else self._verdict(layer, number, node_id)
            for layer in (self.decider.federation_policy, policy)
            for number in range(len(self.parties))
        )
        return self.decider.remembered((self._same, verdicts), self._strictest)

    def _verdict(self, policy: Policy, number: int, node_id: str) -> Verdict:
        party = self.parties[number]
        facts = party.facts(self.decider.owners[node_id])
        # the party holds its facts and the caller its policies, so these ids stay theirs
        key = (id(policy), number, id(facts))
        asked = self._asked.get(key)
        if asked is None:
            q = self.question
            if q.act is None:
                return Verdict(allowed=False, fault="the kind of search was not understood")
            try:
                asked = policy.ask(party.agency.id, q.role, q.purpose, q.act, facts)
            except PolicyError:
                return Verdict(allowed=False, fault="the request names what is not registered")
            self._asked[key] = asked
        return policy.verdict(asked, node_id)

    def _strictest(self, verdicts: _Verdicts) -> _Ruling:
        """Step 4: the first of these that is true: doubt, a deny, no policy, no allow, no warrant; else a permit."""
        n = len(self.parties)
        rules = _matched(verdicts, n)
        faults = [v.fault for v in verdicts if v and v.fault]
        left = sorted({r.id for v in verdicts if v for r in v.left})
        if self._doubts:
            return _undecided(f"{_listed(self._doubts)} was not understood", rules)
        if faults:
            return _undecided(faults[0], rules)
        if left and self.decider.pep is Pep.NODE:
            return _undecided(f"{_listed(left)} depends on facts that were not given", rules)
        if any(r.effect == "deny" for r in rules):
            reason = self._denied(verdicts, rules)
            return _Ruling(effect=Effect.DENY, code="DENIED_BY_RULE", rules=rules, reason=reason)
        if None in verdicts:
            return _Ruling(
                effect=Effect.DENY, code="NO_POLICY", rules=rules, reason="refused: the node has published no policy"
            )
        for i, v in enumerate(verdicts):
            if v is not None and not v.allowed:
                whose = "the federation's policy" if i < n else "the node's policy"
                reason = f"refused: no rule of {whose} allows {self.parties[i % n].agency.id} this purpose here"
                return _Ruling(effect=Effect.DENY, code="NO_RULE_ALLOWS", rules=rules, reason=reason)
        duties = NO_OBLIGATIONS
        for v in verdicts:
            duties = duties.join(v.obligations) if v else duties
        return self._permit(rules, duties, left)

    def _permit(self, rules: tuple[MatchedRule, ...], duties: Obligations, left: list[str]) -> _Ruling:
        if duties.warrant and self.question.authority is not Authority.JUDICIAL_WARRANT:
            reason = "refused: a judicial warrant is required"
            return _Ruling(effect=Effect.DENY, code="WARRANT_REQUIRED", rules=rules, reason=reason)
        reason = f"permitted under {_listed([r.rule for r in rules if r.effect == 'allow'])}"
        if duties.approval and not self.question.approved:
            reason += ", once a supervisor of the requester's agency has signed too"
        if left:
            reason += f"; {_listed(left)} is left to the node, which alone knows its facts"
        return _Ruling(effect=Effect.PERMIT, code="PERMITTED", rules=rules, obligations=duties, reason=reason)

    def _denied(self, verdicts: _Verdicts, rules: tuple[MatchedRule, ...]) -> str:
        n = len(self.parties)
        cited = [f"{r.rule} ({r.basis})" for r in rules if r.effect == "deny"]
        own = any(v.denied for i, v in enumerate(verdicts) if v and i % n == 0)
        return f"refused under {_listed(cited)}" + ("" if own else f", asked on behalf of {self.parties[-1].agency.id}")


def searchable_days(question: Question, decision: Decision, node: Node) -> int:
    """The whole days back that may really be searched, from 0: least of look-back, duties and retention.

    0 for a refusal, and at a node that keeps less than a day.
    """
    if decision.effect is not Effect.PERMIT:
        return 0
    kept = retention_s(node.retention_s, node.presets) // DAY_S
    duty = decision.obligations.window_days
    return min(question.lookback_days or 0, kept, kept if duty is None else duty)


def _matched(verdicts: _Verdicts, parties: int) -> tuple[MatchedRule, ...]:
    out: tuple[MatchedRule, ...] = ()
    for layer, of_layer in ((Layer.FEDERATION, verdicts[:parties]), (Layer.NODE, verdicts[parties:])):
        shown = [v.shown[layer] for v in of_layer if v is not None and v.shown]
        # both parties are judged by the same version, whose rules have one object each
        out += shown[0] if len(shown) == 1 else tuple({m.rule: m for rules in shown for m in rules}.values())
    return out


def _not_registered(what: list[str]) -> _Ruling:
    reason = f"refused under FED-5 ({REGISTERED.basis}): {_listed(what)} is not registered"
    return _Ruling(effect=Effect.DENY, code="NOT_REGISTERED", reason=reason, rules=(REGISTERED,))


def _undecided(why: str, rules: tuple[MatchedRule, ...] = ()) -> _Ruling:
    return _Ruling(effect=Effect.DENY, code="INDETERMINATE", reason=f"refused: {why}", rules=rules)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
