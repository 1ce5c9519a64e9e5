"""Both layers' word on one question at every target.

1 registered    requester, beneficiary, role, purpose and node are leaves of the directory           FED-5
2 parties       the requester, and the beneficiary where it is another; each with its own facts
3 layers        the federation's policy and the node's own; every rule that applies is collected
4 strictest     any deny refuses; every layer must allow every party; all duties join

Each sort of node is decided once (policies.roster), all of them by one look at each party (policies.sheet).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any

from comity.decision import Decision, Effect, Pep
from comity.errors import PolicyError
from comity.federation import Federation, Node
from comity.purpose import Act
from policies.breadth import within_breadth
from policies.conditions import Condition, Facts
from policies.engine import Policy, Wanted
from policies.request import Question, has_case
from policies.retention import DAY_S, retention_s
from policies.roster import Plan, Roster, Target
from policies.ruling import Ruling, not_registered
from policies.session import Point, Session
from policies.shadow import Shadow
from policies.vocabulary import vocabulary_of

__all__ = ["Decider", "Question", "has_case", "searchable_days"]

MAX_WANTED = 1_024
MAX_LANES_OF_FACTS = 256
_Who = tuple[str, str, str, Act, Facts]


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
        self._wanted: dict[_Who, Wanted] = {}
        if federation_policy.vocabulary != self.vocabulary:
            raise PolicyError("was compiled for another directory", file="federation policy")
        self._roster = self._empty()
        self._point = Point(
            federation=federation,
            federation_policy=federation_policy,
            pep=pep,
            owners=self.owners,
            states=self.states,
            shadow=shadow,
            wanted=self.wanted,
        )

    def decide(self, question: Question, targets: Sequence[Target]) -> tuple[Decision, ...]:
        """One decision a target, in order. None in place of a node's policy is a deny: it was never shown."""
        roster = self._roster
        if roster.crowded:
            roster = self._roster = self._empty()
        plan = roster.plan(tuple(targets))
        # Step 1
        unnamed = self._unnamed(question)
        if unnamed:
            rulings = [not_registered(unnamed)] * len(plan.nodes)
        else:
            rulings = Session(self._point, question, roster.sheet).rulings(plan)
        out = self._stamped(plan, question.approved is True, rulings)
        if self.pep is Pep.BROKER:
            return within_breadth(question.requester_agency, out, self.owners, self.states)
        return tuple(out)

    @property
    def seats(self) -> int:
        """How many seats are taken: another number says that there is something to work out in advance."""
        return len(self._roster.sheet)

    def take_seats(self, targets: Sequence[Target]) -> None:
        """Put these targets together before a search names them."""
        self._roster.plan(tuple(targets))

    def lay_lanes(self, assignments: Callable[[Sequence[Condition]], Iterator[Facts]]) -> Iterator[None]:
        """In steps: lay the lanes of all words, as far as there is room, before a search has them; then those of the
        likeliest facts that `assignments` finds the conditions to tell apart.
        """
        sheet, words = self._roster.sheet, self.vocabulary
        lanes: list[tuple[str, Iterable[str]]] = [("act", Act), ("role", sorted(words.role.leaves))]
        lanes += [("purpose", sorted(words.purpose.leaves)), ("who", sorted(words.who.leaves))]
        for lane, named in lanes:
            for word in named:
                if not sheet.lay(lane, word):
                    return
                yield
        for facts in itertools.islice(assignments(sheet.conditions), MAX_LANES_OF_FACTS):
            if not sheet.lay_facts(facts):
                return
            yield

    def wanted(self, agency: str, q: Question, act: Act, facts: Facts) -> Wanted:
        """The request as policies match it, one object for equal ones while it is remembered."""
        key = (agency, q.role, q.purpose, act, facts)
        found = self._wanted.get(key)
        if found is None:
            if len(self._wanted) >= MAX_WANTED:
                self._wanted = {}
            found = self._wanted[key] = Wanted(*key)
        return found

    def _empty(self) -> Roster:
        return Roster(self.federation_policy, self.vocabulary, self.owners, self.states)

    def _unnamed(self, q: Question) -> list[str]:
        words = self.vocabulary
        named = (
            ("the requester", q.requester_agency, words.who),
            ("the beneficiary", q.beneficiary, words.who),
            ("the role", q.role, words.role),
            ("the purpose", q.purpose, words.purpose),
        )
        return [what for what, value, dimension in named if not dimension.names(value)]

    def _stamped(self, plan: Plan, approved: bool, rulings: Sequence[Ruling]) -> list[Decision]:
        new_id, pep, digest, new = self._new_id, self.pep, self.federation_policy.digest, object.__new__

        def stamp(node: str, policy_digest: str, ruling: Ruling) -> Decision:
            out = new(Decision)
            _set_id(out, new_id())
            _set_node(out, node)
            _set_effect(out, ruling.effect)
            _set_pep(out, pep)
            _set_policy(out, policy_digest)
            _set_federation(out, digest)
            _set_rules(out, ruling.rules)
            _set_obligations(out, ruling.obligations)
            _set_approved(out, approved)
            _set_code(out, ruling.code)
            _set_reason(out, ruling.reason)
            _set_quotas(out, ruling.quotas)
            return out

        return list(starmap(stamp, zip(plan.nodes, plan.digests, rulings, strict=True)))


def searchable_days(question: Question, decision: Decision, node: Node) -> int:
    """The whole days back that may really be searched, from 0: least of look-back, duties and retention.

    0 for a refusal, and at a node that keeps less than a day.
    """
    if decision.effect is not Effect.PERMIT:
        return 0
    kept = retention_s(node.retention_s, node.presets) // DAY_S
    duty = decision.obligations.window_days
    return min(question.lookback_days or 0, kept, kept if duty is None else duty)


def _setter(field: str) -> Any:
    """A frozen object's own way to set a field takes twice as long, and a search makes a thousand decisions."""
    return vars(Decision)[field].__set__


_set_id, _set_node, _set_effect, _set_pep = map(_setter, ("decision_id", "node", "effect", "pep"))
_set_policy, _set_federation, _set_rules = map(_setter, ("policy_digest", "federation_digest", "rules"))
_set_obligations, _set_approved, _set_code = map(_setter, ("obligations", "approved", "reason_code"))
_set_reason, _set_quotas = map(_setter, ("reason", "quotas"))
