"""Targets put together where no rule of either layer tells their nodes apart, so that each sort is decided once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from comity.decision import Layer
from policies.engine import Policy
from policies.sheet import Seat, Sheet
from policies.vocabulary import Vocabulary

Target = tuple[str, Policy | None]
MAX_PLANS = 8  # lists of targets kept as they were put together
MAX_MERGED = 64  # of one list: a requester's own state, and all others, are two


class Alike:
    """Nodes of one plan that both layers see alike and whose owners are of one state; `at`: their places in it.

    `top`, `own`: where the federation's policy and the node's sit; None where a policy's masks are not to be trusted,
    and then the node is alone. `fits`: the node's policy was made for this directory.
    """

    __slots__ = ("at", "fits", "own", "policy", "state", "top")

    def __init__(self, policy: Policy | None, fits: bool, top: Seat | None, own: Seat | None, state: str) -> None:
        self.policy, self.fits, self.top, self.own, self.state = policy, fits, top, own, state
        self.at: list[int] = []

    def at_only(self, places: list[int]) -> Alike:
        """The same at some places of it."""
        out = Alike(self.policy, self.fits, self.top, self.own, self.state)
        out.at = places
        return out


class Group:
    """Sorts of nodes to whose owners a party stands in one relation, where it is not to one of them in particular.

    `seats`: all of theirs, and at each of `at` a node that sits there. `seated`: where in `seats` the federation's
    policy and the node's are, and the sort's places. `others`: sorts that have not both.
    """

    __slots__ = ("alike", "at", "others", "seated", "seats")

    def __init__(self, alike: list[Alike], nodes: Sequence[str]) -> None:
        self.alike = alike
        sits = {seat: nodes[one.at[0]] for one in alike for seat in (one.top, one.own) if seat and one.fits}
        number = {seat: i for i, seat in enumerate(sits)}
        self.seats, self.at = list(sits), list(sits.values())
        self.seated: list[tuple[int, int, list[int]]] = []
        self.others: list[Alike] = []
        for one in alike:
            if one.fits and one.top and one.own:
                self.seated.append((number[one.top], number[one.own], one.at))
            else:
                self.others.append(one)

    @classmethod
    def merged(cls, groups: Iterable[Group], nodes: Sequence[str]) -> Group:
        """All of these as one, where the parties stand in the same relation to the owners of each."""
        alike: list[Alike] = []
        known: dict[tuple[Seat, Seat], Alike] = {}
        for one in (one for group in groups for one in group.alike):
            # a node that is decided alone stays alone
            seats = (one.top, one.own) if one.fits and one.top and one.own else None
            same = known.get(seats) if seats else None
            if same is not None:
                same.at.extend(one.at)
                continue
            alike.append(one.at_only(list(one.at)))
            if seats:
                known[seats] = alike[-1]
        return cls(alike, nodes)


class Plan:
    """One list of targets. `groups`: by the owners' state, every registered node is in one of them; `of`: its sort, by
    the node's place in the list, or None; `owned`: places by owner.
    """

    __slots__ = ("_merged", "_policies", "digests", "groups", "nodes", "of", "owned", "targets")

    def __init__(self, targets: tuple[Target, ...], of: Sequence[Alike | None], owners: Mapping[str, str]) -> None:
        self.targets, self.of = targets, of
        self.nodes = [node for node, _ in targets]
        self.digests = [policy.digest if policy else "" for _, policy in targets]
        alike = dict.fromkeys(a for a in of if a is not None)
        by_state: dict[str, list[Alike]] = {}
        for one in alike:
            by_state.setdefault(one.state, []).append(one)
        self.groups = [Group(of_state, self.nodes) for of_state in by_state.values()]
        self._merged: dict[tuple[int, ...], Group] = {}
        self._policies = list({s.policy for a in alike for s in (a.top, a.own) if s is not None})
        self.owned: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            self.owned.setdefault(owners.get(node, ""), []).append(i)

    def merged(self, numbers: tuple[int, ...]) -> Group:
        """The groups of these numbers as one."""
        found = self._merged.get(numbers)
        if found is None:
            if len(self._merged) >= MAX_MERGED:
                self._merged = {}
            found = self._merged[numbers] = Group.merged((self.groups[n] for n in numbers), self.nodes)
        return found

    @property
    def trusted(self) -> bool:
        """False once Casbin contradicted the masks by which its nodes were put together."""
        return all(p.canonical for p in self._policies)


class Roster:
    """What one decider knows of its targets, with the sheet that their policies sit on."""

    def __init__(
        self, federation_policy: Policy, vocabulary: Vocabulary, owners: Mapping[str, str], states: Mapping[str, str]
    ) -> None:
        self.sheet = Sheet()
        self._top, self._vocabulary, self._owners, self._states = federation_policy, vocabulary, owners, states
        self._kinds: dict[str, tuple[Policy | None, tuple[object, ...]]] = {}
        self._plans: tuple[Plan, ...] = ()

    @property
    def crowded(self) -> bool:
        """True if another is to take its place: memory is full, or most seats are of policies that were replaced."""
        return self.sheet.crowded or len(self.sheet) > 4 * len(self._owners) + 8

    def plan(self, targets: tuple[Target, ...]) -> Plan:
        """The targets put together; the same plan for the same list while it is remembered."""
        for plan in self._plans:
            if plan.targets == targets and plan.trusted:
                return plan
        found: dict[tuple[object, ...], Alike] = {}
        of: list[Alike | None] = []
        for i, (node, policy) in enumerate(targets):
            kind = self._kind(node, policy)
            if kind is None:
                of.append(None)
                continue
            alike = found.get(kind)
            if alike is None:
                alike = found[kind] = Alike(*kind[:5])  # type: ignore[arg-type]  # as `_kind` made it
            alike.at.append(i)
            of.append(alike)
        plan = Plan(targets, of, self._owners)
        self._plans = (plan, *self._plans[: MAX_PLANS - 1])
        return plan

    def _kind(self, node: str, policy: Policy | None) -> tuple[object, ...] | None:
        known = self._kinds.get(node)
        if known is not None and known[0] is policy and self._top.canonical and (policy is None or policy.canonical):
            return known[1]
        at_top = self._top.place(node)
        if at_top is None:
            return None
        fits = policy is None or policy.vocabulary == self._vocabulary
        top = self.sheet.seat(self._top, at_top, node, Layer.FEDERATION) if isinstance(at_top, int) else None
        place = policy.place(node) if policy is not None and fits else None
        own = None
        if policy is not None and isinstance(place, int):
            own = self.sheet.seat(policy, place, node, Layer.NODE)
        # by the seats and not asked again: masks may have come into doubt meanwhile, and such a node stays alone
        seated = top is not None and (own is not None or policy is None or not fits)
        kind = (policy, fits, top, own, self._states[self._owners[node]], "" if seated else node)
        if seated:
            self._kinds[node] = (policy, kind)
        return kind
