"""What searches may meet, worked out while nothing else is to do, so that they meet little for the first time.

1 seats    the policies that stand now take their seats
2 classes  Casbin, with all rules in view, decides every class of rules that requests can reach: the newest policy first
3 lanes    what each agency, role, purpose and kind of search matches at every seat, and the likeliest facts

A class holds the rules that match together, so there are few: a policy of 20 rules has some 140,
though requests reach them by thousands of combinations of columns. Each answer lives inside its version.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakSet

from comity.purpose import Act
from policies.conditions import FACTS, NODE_FACTS, Condition, Facts
from policies.decide import Decider
from policies.engine import Policy
from policies.offences import LIMITATIONS
from policies.roster import Target
from policies.sides import AUTHORITY_FACTS, BASIS_FACT
from policies.wanted import UNPOSTED, Wanted

MAX_SHOWN = 1 << 15  # rules shown to Casbin for one policy in advance: a class costs as much as the policy has rules
MAX_RULES = 1 << 11  # a policy of more has so many classes that those few which could be decided help nobody
MAX_FACTS = 1 << 11  # assignments of facts gone through for one policy
MAX_MET = 1 << 20  # requests gone through for one policy
PAUSE_EVERY = 512
_NONE = frozenset[str]()
# What is true together, the likeliest first; facts that stand nowhere here are true or not by themselves.
_TOGETHER = (
    (_NONE, *(frozenset({name}) for name in LIMITATIONS)),
    tuple(frozenset({fact}) for fact in BASIS_FACT.values()),
    tuple(AUTHORITY_FACTS.values()),
    (frozenset({"same-state"}), frozenset({"other-state"}), _NONE),
)
_LIKELY = frozenset({"case", "searching-role"})
_Words = tuple[str, str, str, Act]
_Request = tuple[Wanted, str]


class Ahead:
    """Work in advance for one decider, in steps of some milliseconds. One thread calls it; others may decide meanwhile.

    `decided`: classes that Casbin decided for it. `clock`: this thread's processor time in seconds.
    """

    def __init__(self, decider: Decider, clock: Callable[[], float] = time.thread_time) -> None:
        self._decider = decider
        self._clock = clock
        self._met: WeakSet[Policy] = WeakSet()
        self._waiting: list[Policy] = []
        self._targets: tuple[Target, ...] = ()
        self._steps: Iterator[None] | None = None
        self._size = -1
        self.decided = 0

    def done(self, targets: Sequence[Target]) -> bool:
        """True if everything is worked out for these nodes under these policies."""
        return self._steps is None and self._size == self._decider.seats and self._targets == tuple(targets)

    def work(self, targets: Sequence[Target], seconds: float) -> None:
        """Go on for about so many seconds of processor time, or until all is done."""
        if self._targets != tuple(targets) or self._size not in (-1, self._decider.seats):
            self._targets, self._size = tuple(targets), -1
            self._steps = self._all(self._targets)
        until = self._clock() + seconds
        for _ in self._steps or ():
            if self._clock() >= until:
                return
        self._steps, self._size = None, self._decider.seats

    def _all(self, targets: tuple[Target, ...]) -> Iterator[None]:
        words = self._decider.vocabulary
        standing = dict.fromkeys(p for _, p in targets if p is not None and p.vocabulary == words)
        standing[self._decider.federation_policy] = None
        self._waiting = [p for p in self._waiting if p in standing]
        self._waiting += [p for p in standing if p not in self._met]
        self._met.update(standing)
        self._decider.take_seats(targets)
        yield
        while self._waiting:
            # it waits until it is through: a new policy may come between
            yield from self._classes(self._waiting[-1])
            self._waiting.pop()
        yield from self._decider.lay_lanes(_assignments)

    def _classes(self, policy: Policy) -> Iterator[None]:
        shown = 0
        for request in requests(policy):
            if shown + len(policy.rules) > MAX_SHOWN:
                return
            if request is not None and policy.decide_class(*request):
                shown += len(policy.rules)
                self.decided += 1
            yield


def requests(policy: Policy) -> Iterator[_Request | None]:
    """One request and node for each class of the policy's rules, the likeliest facts first; None now and then, where
    others may go before. Not every class where there are more requests than are gone through.
    """
    seen: set[tuple[int, int]] = set()
    for n, reached in enumerate(itertools.islice(_reached(policy), MAX_MET)):
        if reached is None or reached[0] in seen:
            if reached is None or n % PAUSE_EVERY == 0:
                yield None
            continue
        met, words, facts, node = reached
        seen.add(met)
        yield Wanted(*words, facts), node


def _reached(policy: Policy) -> Iterator[tuple[tuple[int, int], _Words, Facts, str] | None]:
    """The class of every request that the policy's columns and conditions tell apart, with the request; None before
    each assignment of facts.
    """
    if not policy.canonical or len(policy.rules) > MAX_RULES:
        return
    words, nodes = _columns(policy), _places(policy)
    judged: set[tuple[int, int, bool]] = set()
    for facts in itertools.islice(_assignments([t.condition for t in policy.terms]), MAX_FACTS):
        yield None
        holds = {out: policy.judged_alone(facts, unposted=out) for out in (False, True)}
        fresh = {out for out, (true, left) in holds.items() if (true, left, out) not in judged}
        judged |= {(*holds[out], out) for out in fresh}
        for (anywhere, out), named in words.items() if fresh else ():
            if out in fresh:
                true, left = holds[out]
                for place, node in nodes.items():
                    yield (anywhere & place & true, anywhere & place & left), named, facts, node


def _columns(policy: Policy) -> dict[tuple[int, bool], _Words]:
    """One choice of words for each set of rules that the four columns of words share, and whether it is posted."""
    vocabulary = policy.vocabulary

    def by_mask(name: str, leaves: Sequence[str]) -> list[tuple[int, str]]:
        return list({policy.column(name, word): word for word in leaves}.items())

    found: dict[tuple[int, bool], _Words] = {}
    purposes = {(policy.column("purpose", p), policy.leaves_out(p)): p for p in sorted(vocabulary.purpose.leaves)}
    for (of_who, who), (of_role, role), (of_act, act) in itertools.product(
        by_mask("who", sorted(vocabulary.who.leaves)),
        by_mask("role", sorted(vocabulary.role.leaves)),
        by_mask("act", tuple(Act)),
    ):
        for (of_purpose, out), purpose in purposes.items():
            found.setdefault((of_who & of_role & of_purpose & of_act, out), (who, role, purpose, Act(act)))
    return found


def _places(policy: Policy) -> dict[int, str]:
    out: dict[int, str] = {}
    for word in policy.vocabulary.node.leaves:
        node = word.removeprefix("node:")
        place = policy.place(node)
        if isinstance(place, int):
            out.setdefault(place, node)
    return out


def _assignments(conditions: Sequence[Condition]) -> Iterator[Facts]:
    """Facts that the conditions tell apart, what a broker does not know left; the likeliest first."""
    used = _NONE.union(*(c.needs | c.bars for c in conditions)) - NODE_FACTS - {UNPOSTED}
    together = [tuple(dict.fromkeys(held & used for held in choices)) for choices in _TOGETHER]
    alone = sorted(used - _NONE.union(*(held for choices in _TOGETHER for held in choices)))
    single = [((frozenset({f}), _NONE) if f in _LIKELY else (_NONE, frozenset({f}))) for f in alone]
    bounds = sorted({0, *(d + 1 for c in conditions for d in (c.most, c.over) if d is not None)})
    for held in itertools.product(*single, *together):
        true = _NONE.union(*held)
        for days in bounds:
            yield Facts.parse({f: None if f in NODE_FACTS else f in true for f in FACTS}, days)
