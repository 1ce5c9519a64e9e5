"""Both layers' word on one question at every target.

1 registered    requester, beneficiary, role, purpose and node are leaves of the directory           FED-5
2 parties       the requester, and the beneficiary where it is another; each with its own facts
3 layers        the federation's policy and the node's own; every rule that applies is collected
4 strictest     any deny refuses; every layer must allow every party; all duties join

Each sort of node is decided once (policies.roster), all of them by one look at each party (policies.sheet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any

from comity.decision import Decision, Effect, Layer, Pep
from comity.errors import PolicyError
from comity.federation import Federation, Node
from comity.purpose import Act, Authority
from policies.breadth import within_breadth
from policies.conditions import Facts
from policies.engine import Place, Policy, Wanted
from policies.parties import Party
from policies.request import Question, has_case
from policies.retention import DAY_S, retention_s
from policies.roster import Alike, Plan, Roster, Target
from policies.ruling import Ruling, Said, Standing, Verdicts, not_registered, strictest, undecided
from policies.shadow import Shadow
from policies.sheet import Seat, Sheet
from policies.verdict import Verdict
from policies.vocabulary import vocabulary_of

__all__ = ["Decider", "Question", "has_case", "searchable_days"]

MAX_RULINGS = 131_072
MAX_SAID = 131_072
MAX_WANTED = 1_024
_Who = tuple[str, str, str, Act, Facts]
_Rulings = dict[tuple[Said, Said], Ruling]


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
        self._rulings: dict[Standing, _Rulings] = {}
        self._remembered = 0
        self._said: dict[tuple[Layer, Verdicts], Said] = {}
        self._wanted: dict[_Who, Wanted] = {}
        if federation_policy.vocabulary != self.vocabulary:
            raise PolicyError("was compiled for another directory", file="federation policy")
        self._roster = self._empty()

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
            rulings = _Session(self, question, roster.sheet).rulings(plan)
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

    def lay_lanes(self) -> Iterator[None]:
        """In steps: lay the lanes of all words, as far as there is room, before a search has them."""
        sheet, words = self._roster.sheet, self.vocabulary
        lanes: list[tuple[str, Iterable[str]]] = [("act", Act), ("role", sorted(words.role.leaves))]
        lanes += [("purpose", sorted(words.purpose.leaves)), ("who", sorted(words.who.leaves))]
        for lane, named in lanes:
            for word in named:
                if not sheet.lay(lane, word):
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

    def rulings(self, standing: Standing) -> _Rulings:
        """Rulings that were worked out for questions with this in common."""
        return self._rulings.setdefault(standing, {})

    def said(self, layer: Layer, verdicts: Verdicts) -> Said:
        """What the verdicts come to; one object for the same ones while it is remembered.

        A verdict is one object of one version, so no version answers another's. A fault is not kept: it is looked
        into again each time.
        """
        found = self._said.get((layer, verdicts))
        if found is None:
            found = Said.of(verdicts, layer)
            if not found.fault:
                if len(self._said) >= MAX_SAID:
                    self._said = {}
                self._said[layer, verdicts] = found
        return found

    def remember(self, known: _Rulings, said: tuple[Said, Said], ruling: Ruling) -> None:
        """Keep a ruling, but not one of a fault."""
        if said[0].fault or said[1].fault:
            return
        if self._remembered >= MAX_RULINGS:
            self._rulings, self._remembered = {}, 0
        self._remembered += 1
        known[said] = ruling

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


class _Relation:
    """How the parties stand to the owners of some nodes: what each wants there, and its row. `said`: by seat."""

    __slots__ = ("rows", "said", "wanted")

    def __init__(self, wanted: tuple[Wanted, ...], sheet: Sheet) -> None:
        self.wanted = wanted
        self.rows = tuple(map(sheet.row, wanted))
        self.said: dict[Seat, Said] = {}


class _Session:
    """One question; what nodes have in common is worked out once."""

    def __init__(self, decider: Decider, question: Question, sheet: Sheet) -> None:
        self.decider = decider
        self.question = question
        self._sheet = sheet
        # Step 2
        self._agencies = tuple(dict.fromkeys((question.requester_agency, question.beneficiary)))
        self._parties = [
            Party(question, decider.federation.agencies[a], decider.federation, decider.states, on_behalf=i > 0)
            for i, a in enumerate(self._agencies)
        ]
        # towards these the parties stand in a relation of their own, towards all others in that of their state
        self._special = set(self._agencies).union(*(p.known_to for p in self._parties))
        self._relations: dict[tuple[Wanted, ...], _Relation] = {}
        self._of_state: dict[str, _Relation] = {}
        self._fresh: set[tuple[Seat, Wanted]] = set()
        self._standing = Standing(
            doubts=question.doubts,
            judicial=question.authority is Authority.JUDICIAL_WARRANT,
            approved=question.approved is True,
            at_node=decider.pep is Pep.NODE,
        )
        self._known = decider.rulings(self._standing)
        self._named: dict[Ruling, Ruling] = {}
        self._doubted = decider.shadow.doubted if decider.shadow else None

    def rulings(self, plan: Plan) -> list[Ruling]:
        """What both layers say of all parties at every node of the plan."""
        out = [_NO_NODE] * len(plan.nodes)
        apart = {i for owner in self._special for i in plan.owned.get(owner, ())}
        mixed = {plan.of[i] for i in apart}
        for alike in plan.alike:
            at = next((i for i in alike.at if i not in apart), None) if alike in mixed else alike.at[0]
            if at is None:
                continue
            node = plan.nodes[at]
            relation = self._of_state.get(alike.state)
            if relation is None:
                relation = self._of_state[alike.state] = self._relation(self.decider.owners[node])
            ruling = self._ruling(alike, node, relation)
            for i in alike.at:
                out[i] = ruling
        for i in apart:
            one = plan.of[i]
            if one is not None:
                node = plan.nodes[i]
                out[i] = self._ruling(one, node, self._relation(self.decider.owners[node]))
        self._offer()
        return out

    def _relation(self, owner: str) -> _Relation:
        q, act = self.question, self.question.act or Act.EXACT  # a kind that was not understood decides nothing
        wanted = tuple(self.decider.wanted(p.agency.id, q, act, p.facts(owner)) for p in self._parties)
        found = self._relations.get(wanted)
        if found is None:
            found = self._relations[wanted] = _Relation(wanted, self._sheet)
        return found

    def _ruling(self, alike: Alike, node: str, relation: _Relation) -> Ruling:
        if not alike.fits:
            return _UNFIT
        # Step 3
        top = relation.said.get(alike.top) if alike.top else None
        if top is None:
            top = self._said(Layer.FEDERATION, self.decider.federation_policy, alike.top, node, relation)
        own = relation.said.get(alike.own) if alike.own else None
        if own is None:
            own = self._said(Layer.NODE, alike.policy, alike.own, node, relation)
        # Step 4
        ruling = self._known.get((top, own))
        if ruling is None:
            ruling = strictest(top, own, self._standing)
            if alike.top and (alike.own or not alike.policy):
                self.decider.remember(self._known, (top, own), ruling)
        if ruling.party < 0:
            return ruling
        named = self._named.get(ruling)
        if named is None:
            named = self._named[ruling] = ruling.naming(self._agencies)
        return named

    def _said(self, layer: Layer, policy: Policy | None, seat: Seat | None, node: str, relation: _Relation) -> Said:
        if policy is None:
            return self.decider.said(layer, (None,) * len(relation.wanted))
        if self.question.act is None:
            return self.decider.said(layer, (_NO_ACT,) * len(relation.wanted))
        if seat is None:
            apart = tuple(self._by_casbin(policy, node, node, wanted) for wanted in relation.wanted)
            return Said.of(apart, layer)
        verdicts = []
        for wanted, row in zip(relation.wanted, relation.rows, strict=True):
            key = row[seat.begin : seat.end]
            verdict = seat.known.get(key)
            if verdict is None:
                verdict = self._decided(seat, key, wanted, node)
                if not verdict.fault and policy.canonical:
                    self._fresh.add((seat, wanted))
                    self._sheet.remember(seat, key, verdict)
            verdicts.append(verdict)
        said = relation.said[seat] = self.decider.said(layer, tuple(verdicts))
        return said

    def _decided(self, seat: Seat, key: bytes, wanted: Wanted, node: str) -> Verdict:
        known = seat.policy.of_class(*seat.rules(key))
        if known is not None and self._doubted is not None and self._doubted(seat.policy, wanted, node, known):
            return known
        return self._by_casbin(seat.policy, seat.place, node, wanted)

    def _by_casbin(self, policy: Policy, place: Place, node: str, wanted: Wanted) -> Verdict:
        try:
            return policy.verdict_at(policy.asked(wanted), place, node, self._doubted)
        except PolicyError:
            return _NO_WORD

    def _offer(self) -> None:
        shadow = self.decider.shadow
        if shadow is None:
            return
        drawn = shadow.drawn(sum(len(r.said) for r in self._relations.values()) * len(self._parties))
        if not drawn:
            return
        used = [(r, seat) for r in self._relations.values() for seat in r.said]
        for n in drawn:
            relation, seat = used[n // len(self._parties)]
            party = n % len(self._parties)
            wanted, verdict = relation.wanted[party], relation.said[seat].verdicts[party]
            if verdict is not None and not verdict.fault and (seat, wanted) not in self._fresh:
                shadow.doubted(seat.policy, wanted, seat.node, verdict)


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

_NO_NODE = not_registered(["the node"])
_UNFIT = undecided("the node's policy was made for another version of the directory")
_NO_ACT = Verdict(allowed=False, fault="the kind of search was not understood")
_NO_WORD = Verdict(allowed=False, fault="the request names what is not registered")
