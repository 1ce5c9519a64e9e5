"""One question at every target: the steps of a decision between the names in it and the strictest word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from comity.decision import Layer, Pep
from comity.errors import PolicyError
from comity.federation import Federation
from comity.purpose import Act, Authority
from policies.conditions import Facts
from policies.engine import Place, Policy
from policies.parties import Party
from policies.request import Question
from policies.roster import Alike, Group, Plan
from policies.ruling import ABSENT, Ruling, Said, Standing, not_registered, strictest, undecided
from policies.seat import Seat
from policies.shadow import Shadow
from policies.sheet import Row, Sheet
from policies.verdict import Verdict
from policies.wanted import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The enforcement point that decides. `owners`: of nodes; `states`: of agencies; `wanted`: the request as policies
    match it, one object for equal ones while it is remembered.
    """

    federation: Federation
    federation_policy: Policy
    pep: Pep
    owners: Mapping[str, str]
    states: Mapping[str, str]
    shadow: Shadow | None
    wanted: Callable[[str, Question, Act, Facts], Wanted]


class _Relation:
    """How the parties stand to the owners of some nodes: what each wants there, and its row."""

    __slots__ = ("rows", "wanted")

    def __init__(self, wanted: tuple[Wanted, ...], sheet: Sheet) -> None:
        self.wanted = wanted
        self.rows = tuple(map(sheet.row, wanted))


class _Answered:
    """What seats said of one party. `fresh`: the places of the answers that will be checked anyway."""

    __slots__ = ("fresh", "said", "seats", "wanted")

    def __init__(self, wanted: Wanted, seats: Sequence[Seat], said: list[Said]) -> None:
        self.wanted, self.seats, self.said = wanted, seats, said
        self.fresh: set[int] = set()


class Session:
    """One question; what nodes have in common is worked out once."""

    def __init__(self, point: Point, question: Question, sheet: Sheet) -> None:
        self._point = point
        self._question = question
        self._sheet = sheet
        # Step 2
        agencies = tuple(dict.fromkeys((question.requester_agency, question.beneficiary)))
        self._parties = [
            Party(question, point.federation.agencies[a], point.federation, point.states, on_behalf=i > 0)
            for i, a in enumerate(agencies)
        ]
        # towards these the parties stand in a relation of their own, towards all others in that of their state
        self._special = set(agencies).union(*(p.known_to for p in self._parties))
        self._relations: dict[tuple[Wanted, ...], _Relation] = {}
        self._answered: list[_Answered] = []
        self._standing = Standing(
            doubts=question.doubts,
            judicial=question.authority is Authority.JUDICIAL_WARRANT,
            approved=question.approved is True,
            at_node=point.pep is Pep.NODE,
            agencies=agencies,
        )
        self._doubted: Callable[[Policy, Wanted, str, Verdict], bool] | None = None
        if point.shadow:
            self._doubted = point.shadow.doubted

    def rulings(self, plan: Plan) -> list[Ruling]:
        """What both layers say of all parties at every node of the plan."""
        out = [_NO_NODE] * len(plan.nodes)
        apart = {i for owner in self._special for i in plan.owned.get(owner, ())}
        alike_to: dict[_Relation, list[int]] = {}
        for n, group in enumerate(plan.groups):
            at = next((i for one in group.alike for i in one.at if i not in apart), None)
            if at is not None:
                alike_to.setdefault(self._relation(self._point.owners[plan.nodes[at]]), []).append(n)
        for relation, numbers in alike_to.items():
            self._rule(relation, plan.merged(tuple(numbers)), plan.nodes, out)
        # those apart were ruled at as if they were not: their own rulings stand
        special: dict[_Relation, list[Alike]] = {}
        for i in apart:
            one = plan.of[i]
            if one is not None:
                relation = self._relation(self._point.owners[plan.nodes[i]])
                special.setdefault(relation, []).append(one.at_only([i]))
        for relation, sorts in special.items():
            self._rule(relation, Group(sorts, plan.nodes), plan.nodes, out)
        self._offer()
        return out

    def _rule(self, relation: _Relation, group: Group, nodes: Sequence[str], out: list[Ruling]) -> None:
        """Rule at nodes to whose owners the parties stand in one relation."""
        said = self._ask(relation, group) if group.seats else []
        standing = self._standing
        for top, own, at in group.seated:
            ruling = strictest(said[top], said[own], standing)
            for i in at:
                out[i] = ruling
        if group.others:
            by_seat = dict(zip(group.seats, said, strict=True))
            for alike in group.others:
                ruling = self._unseated(alike, nodes[alike.at[0]], relation, by_seat)
                for i in alike.at:
                    out[i] = ruling

    def _relation(self, owner: str) -> _Relation:
        q, act = self._question, self._question.act or Act.EXACT  # a kind that was not understood decides nothing
        wanted = tuple(self._point.wanted(p.agency.id, q, act, p.facts(owner)) for p in self._parties)
        found = self._relations.get(wanted)
        if found is None:
            found = self._relations[wanted] = _Relation(wanted, self._sheet)
        return found

    def _ask(self, relation: _Relation, group: Group) -> list[Said]:
        """Step 3: what each seat says of all parties."""
        if self._question.act is None:
            return [_NO_ACT] * len(group.seats)
        said = [self._said_of(wanted, row, group) for wanted, row in zip(relation.wanted, relation.rows, strict=True)]
        if len(said) == 1:
            return said[0]
        return [one if one is other else one.and_of(other) for one, other in zip(*said, strict=True)]

    def _said_of(self, wanted: Wanted, row: Row, group: Group) -> list[Said]:
        """What each seat says of one party."""
        columns = row.columns
        found = [s.known.get(columns[s.begin : s.end]) for s in group.seats]
        said = cast(list[Said], found)  # what is missing is filled in now
        answered = _Answered(wanted, group.seats, said)
        self._answered.append(answered)
        if not all(found):
            self._fill(answered, row, group.at)
        return said

    def _fill(self, answered: _Answered, row: Row, nodes: Sequence[str]) -> None:
        """Find what was not said of these columns before: of the class, by other columns, or else by Casbin."""
        shadow = self._point.shadow
        # an answer to columns that Casbin was never asked about is used at once only where it will be checked
        room = shadow.room if shadow else 0
        columns, classes, new = row.columns, row.classes, list[int]()
        for i, (seat, found) in enumerate(zip(answered.seats, answered.said, strict=True)):
            if found:
                continue
            key = columns[seat.begin : seat.end]
            said = seat.older(key)
            if said is None and len(new) < room:
                said = seat.of_class.get(classes[seat.class_begin : seat.class_end])
                if said:
                    new.append(i)
            if said is None:
                # before the queue is asked for room, it is to count these
                self._have_checked(answered, new, nodes)
                said = self._by_rules(seat, key, classes, answered.wanted, nodes[i])
                answered.fresh.add(i)
                new, room = [], shadow.room if shadow else 0
            answered.said[i] = said
            if not said.fault:
                self._sheet.remember(seat, key, said)
        self._have_checked(answered, new, nodes)

    def _have_checked(self, answered: _Answered, new: Sequence[int], nodes: Sequence[str]) -> None:
        if self._point.shadow is None or not new:
            return
        answered.fresh.update(new)
        policies = [answered.seats[i].policy for i in new]
        said = [answered.said[i].verdict for i in new]
        self._point.shadow.all_doubted(answered.wanted, policies, [nodes[i] for i in new], said)

    def _by_rules(self, seat: Seat, key: bytes, classes: bytes, wanted: Wanted, node: str) -> Said:
        known = seat.policy.of_class(*seat.rules(key))
        if known is None or self._doubted is None or not self._doubted(seat.policy, wanted, node, known):
            known = self._by_casbin(seat.policy, seat.place, node, wanted)
        return seat.said(known, classes[seat.class_begin : seat.class_end])

    def _unseated(self, alike: Alike, node: str, relation: _Relation, said: Mapping[Seat, Said]) -> Ruling:
        if not alike.fits:
            return _UNFIT
        policy = self._point.federation_policy
        top = said[alike.top] if alike.top else self._alone(Layer.FEDERATION, policy, node, relation)
        own = said[alike.own] if alike.own else self._alone(Layer.NODE, alike.policy, node, relation)
        return strictest(top, own, self._standing)

    def _alone(self, layer: Layer, policy: Policy | None, node: str, relation: _Relation) -> Said:
        if policy is None:
            return ABSENT
        if self._question.act is None:
            return _NO_ACT
        said = [Said.of(self._by_casbin(policy, node, node, wanted), layer) for wanted in relation.wanted]
        return said[0] if len(said) == 1 else said[0].and_of(said[1])

    def _by_casbin(self, policy: Policy, place: Place, node: str, wanted: Wanted) -> Verdict:
        try:
            return policy.verdict_at(policy.asked(wanted), place, node, self._doubted)
        except PolicyError:
            return _NO_WORD

    def _offer(self) -> None:
        """Have some of the remembered answers that were used checked by Casbin."""
        shadow = self._point.shadow
        if shadow is None:
            return
        begin, drawn = 0, shadow.drawn(sum(len(a.said) for a in self._answered))
        for answered in self._answered if drawn else ():
            end = begin + len(answered.said)
            for i in (n - begin for n in drawn if begin <= n < end):
                said, seat = answered.said[i], answered.seats[i]
                if not said.fault and i not in answered.fresh:
                    shadow.doubted(seat.policy, answered.wanted, seat.node, said.verdict)
            begin = end


_NO_NODE = not_registered(["the node"])
_UNFIT = undecided("the node's policy was made for another version of the directory")
_NO_ACT = Said.of(Verdict(allowed=False, fault="the kind of search was not understood"), Layer.NODE)
_NO_WORD = Verdict(allowed=False, fault="the request names what is not registered")
