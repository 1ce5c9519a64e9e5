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
from comity.purpose import Act, Authority
from policies.breadth import within_breadth
from policies.conditions import Facts
from policies.engine import Asked, Place, Policy, Verdict, Wanted
from policies.parties import Party
from policies.request import Question, has_case
from policies.retention import DAY_S, retention_s
from policies.shadow import Shadow
from policies.vocabulary import vocabulary_of

__all__ = ["Decider", "Question", "has_case", "searchable_days"]

MAX_RULINGS = 65_536
MAX_WANTED = 1_024
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
    quotas: tuple[tuple[str, int], ...] = ()


_Verdicts = tuple[Verdict | None, ...]
_Same = tuple[object, ...]  # what a ruling depends on beside verdicts
_Who = tuple[str, str, str, Act, Facts]


class _Cohort:
    """Nodes that no rule of either layer tells apart, and whose owners are of one state. Compared by identity."""

    __slots__ = ("fits", "of_federation", "of_node", "policy", "state")

    def __init__(self, policy: Policy | None, fits: bool, of_federation: Place, of_node: Place, state: str) -> None:
        self.policy, self.fits, self.of_federation, self.of_node, self.state = (
            policy,
            fits,
            of_federation,
            of_node,
            state,
        )


class Decider:
    """Decides for one enforcement point under one version of the federation's policy; safe under threads.

    `shadow`: hears of remembered answers that were used.
    """

    def __init__(
        self,
        federation: Federation,
        federation_policy: Policy,
        pep: Pep,
        new_id: Callable[[], str],
        shadow: Shadow | None = None,
    ) -> None:
        self.federation = federation
        self.federation_policy = federation_policy
        self.pep = pep
        self.shadow = shadow
        self.vocabulary = vocabulary_of(federation)
        self.states = {a.id: a.state for a in federation.agencies.values()}
        self.owners = {n.id: n.agency for n in federation.nodes.values()}
        self._new_id = new_id
        self._rulings: dict[_Same, dict[_Verdicts, _Ruling]] = {}
        self._remembered = 0
        self._wanted: dict[_Who, Wanted] = {}
        self._cohort_of: dict[str, _Cohort] = {}
        self._cohorts: dict[tuple[Policy | None, Place, Place, str], _Cohort] = {}
        if federation_policy.vocabulary != self.vocabulary:
            raise PolicyError("was compiled for another directory", file="federation policy")

    def decide(self, question: Question, targets: Sequence[tuple[str, Policy | None]]) -> tuple[Decision, ...]:
        """One decision a target, in order. None in place of a node's policy is a deny: it was never shown."""
        unnamed = self._unnamed(question)
        session = None if unnamed else _Session(self, question)
        trusted = self.federation_policy.canonical
        out = []
        for node_id, policy in targets:
            # Step 1
            cohort = self._cohort_of.get(node_id)
            if cohort is None or cohort.policy is not policy or not (trusted and (policy is None or policy.canonical)):
                # also where masks are trusted no more: by them nodes were put together
                cohort = self._find_cohort(node_id, policy)
            if session is None or cohort is None:
                ruling = _not_registered(unnamed or ["the node"])
            else:
                ruling = session.ruling(node_id, cohort)
            out.append(self._decision(node_id, policy, question, ruling))
        if self.pep is Pep.BROKER:
            return within_breadth(question.requester_agency, out, self.owners, self.states)
        return tuple(out)

    def wanted(self, agency: str, q: Question, act: Act, facts: Facts) -> Wanted:
        """The request as policies match it, one object for equal ones while it is remembered."""
        key = (agency, q.role, q.purpose, act, facts)
        found = self._wanted.get(key)
        if found is None:
            if len(self._wanted) >= MAX_WANTED:
                self._wanted = {}
            found = self._wanted[key] = Wanted(*key)
        return found

    def rulings(self, same: _Same) -> dict[_Verdicts, _Ruling]:
        """Rulings that were worked out for questions with this in common."""
        return self._rulings.setdefault(same, {})

    def remember(self, known: dict[_Verdicts, _Ruling], verdicts: _Verdicts, ruling: _Ruling) -> None:
        """Keep a ruling. A verdict is one object of one version, so no version answers another's.

        A fault is not kept: it is looked into again each time.
        """
        if any(v is not None and v.fault for v in verdicts):
            return
        if self._remembered >= MAX_RULINGS:
            self._rulings, self._remembered = {}, 0
        self._remembered += 1
        known[verdicts] = ruling

    def _find_cohort(self, node_id: str, policy: Policy | None) -> _Cohort | None:
        of_federation = self.federation_policy.place(node_id)
        if of_federation is None:
            return None
        fits = policy is None or policy.vocabulary == self.vocabulary
        of_node = policy.place(node_id) if policy is not None and fits else 0
        if of_node is None:
            return None
        state = self.states[self.owners[node_id]]
        if len(self._cohorts) > 4 * len(self.owners):
            # versions that were replaced go with them
            self._cohorts, self._cohort_of = {}, {}
        key = (policy, of_federation, of_node, state)
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = _Cohort(policy, fits, of_federation, of_node, state)
        self._cohort_of[node_id] = cohort
        return cohort

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
            quotas=ruling.quotas,
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
        # towards these the parties stand in a relation of their own, towards all others in that of their state
        self._special = set(ids).union(*(p.known_to for p in self.parties))
        self._asked: dict[tuple[Policy, str], tuple[Asked, ...] | Verdict] = {}
        self._known: dict[_Cohort, _Ruling] = {}
        self._doubts = question.doubts
        self._rulings = decider.rulings((question.authority, question.approved, self._doubts, tuple(ids)))
        self._offer = decider.shadow.offer if decider.shadow else None
        self._doubted = decider.shadow.doubted if decider.shadow else None

    def ruling(self, node_id: str, cohort: _Cohort) -> _Ruling:
        """What both layers say of all parties at the node."""
        if self.decider.owners[node_id] in self._special:
            return self._worked_out(node_id, cohort, self.decider.owners[node_id])
        known = self._known.get(cohort)
        if known is None:
            known = self._known[cohort] = self._worked_out(node_id, cohort, cohort.state)
        return known

    def _worked_out(self, node_id: str, cohort: _Cohort, relation: str) -> _Ruling:
        if not cohort.fits:
            return _undecided("the node's policy was made for another version of the directory")
        # Step 3
        verdicts = self._verdicts(self.decider.federation_policy, cohort.of_federation, node_id, relation)
        if cohort.policy is None:
            verdicts += [None] * len(self.parties)
        else:
            verdicts += self._verdicts(cohort.policy, cohort.of_node, node_id, relation)
        key = tuple(verdicts)
        ruling = self._rulings.get(key)
        if ruling is None:
            ruling = self._strictest(key)
            self.decider.remember(self._rulings, key, ruling)
        return ruling

    def _verdicts(self, policy: Policy, place: Place, node_id: str, relation: str) -> list[Verdict | None]:
        # owners in the same relation have the same facts, and no agency is called as a state is
        asked = self._asked.get((policy, relation))
        if asked is None:
            asked = self._asked[policy, relation] = self._ask(policy, node_id)
        if isinstance(asked, Verdict):
            return [asked] * len(self.parties)
        out: list[Verdict | None] = []
        for one in asked:
            known = one.known.get(place)
            if known is None:
                known = policy.verdict_at(one, place, node_id, self._doubted)
            elif self._offer is not None:
                self._offer(policy, one, node_id)
            out.append(known)
        return out

    def _ask(self, policy: Policy, node_id: str) -> tuple[Asked, ...] | Verdict:
        """What the policy makes of every party towards the node's owner, or the fault."""
        q, owner = self.question, self.decider.owners[node_id]
        if q.act is None:
            return Verdict(allowed=False, fault="the kind of search was not understood")
        try:
            return tuple(policy.asked(self.decider.wanted(p.agency.id, q, q.act, p.facts(owner))) for p in self.parties)
        except PolicyError:
            return Verdict(allowed=False, fault="the request names what is not registered")

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
        quotas = {(r.id, r.duties.quota_per_day) for v in verdicts if v for r in v.rules}
        counted = tuple(sorted((rule, most) for rule, most in quotas if most is not None))
        return self._permit(rules, duties, counted, left)

    def _permit(
        self, rules: tuple[MatchedRule, ...], duties: Obligations, quotas: tuple[tuple[str, int], ...], left: list[str]
    ) -> _Ruling:
        if duties.warrant and self.question.authority is not Authority.JUDICIAL_WARRANT:
            reason = "refused: a judicial warrant is required"
            return _Ruling(effect=Effect.DENY, code="WARRANT_REQUIRED", rules=rules, reason=reason)
        reason = f"permitted under {_listed([r.rule for r in rules if r.effect == 'allow'])}"
        if duties.approval and not self.question.approved:
            reason += ", once a supervisor of the requester's agency has signed too"
        if left:
            reason += f"; {_listed(left)} is left to the node, which alone knows its facts"
        return _Ruling(
            effect=Effect.PERMIT, code="PERMITTED", rules=rules, obligations=duties, reason=reason, quotas=quotas
        )

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
