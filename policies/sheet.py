"""The policies of many nodes side by side, so that one request is matched against all of them at once.

seat   one policy, and the nodes that it sees alike
lane   a column of the request (who, role, purpose, kind of search, facts): in it the policy's number for the set of
       its rules that match there
row    one request at every seat: the lanes of its words laid over each other, and at each seat a few bytes that name
       the sets of all its columns
known  what Casbin decided, by those bytes; another set in any column is another key

A row costs a few operations on long numbers, however many rules the policies have.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any

from policies.conditions import Truth
from policies.engine import Policy
from policies.verdict import Verdict
from policies.wanted import Term, Wanted

LANES = ("who", "role", "purpose", "act", "facts")
LANE_BYTES = 2
SEAT_BYTES = LANE_BYTES * len(LANES)
MAX_NUMBER = 60_000  # of 65,536 that a lane can hold: threads may each add one more
MAX_KNOWN = 1 << 18
MAX_LANE_BYTES = 1 << 25

_NUMBERS = struct.Struct("<5H")


class Seat:
    """One policy and the nodes that it sees alike, `node` being one of them. `begin`, `end`: its bytes in a row.
    `known`: verdicts by these.
    """

    __slots__ = ("_sets", "begin", "end", "known", "node", "place", "policy")

    def __init__(self, policy: Policy, place: int, node: str, number: int, sets: Sequence[list[Any]]) -> None:
        self.policy, self.place, self.node, self._sets = policy, place, node, sets
        self.begin = number * SEAT_BYTES
        self.end = self.begin + SEAT_BYTES
        self.known: dict[bytes, Verdict] = {}

    def rules(self, key: bytes) -> tuple[int, int]:
        """The masks of the rules that match a request of these bytes, and of those that are left to the node."""
        who, role, purpose, act, facts = _NUMBERS.unpack(key)
        sets = self._sets
        true, left = sets[4][facts]
        anywhere = sets[0][who] & sets[1][role] & sets[2][purpose] & sets[3][act] & self.place
        return anywhere & true, anywhere & left


class Sheet:
    """Seats, in the order they were taken, and the lanes of the words asked about. It only ever grows; one that is
    `crowded` is to be replaced by an empty one. Safe under threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[tuple[Policy, int], Seat] = {}
        self._numbers: dict[Policy, tuple[dict[object, int], ...]] = {}
        self._sets: dict[Policy, tuple[list[Any], ...]] = {}
        self._terms: tuple[Term, ...] = ()
        self._of_terms: dict[Policy, int] = {}  # which of these its rules rest on
        self._by_terms: dict[Policy, dict[tuple[int, int], bytes]] = {}
        self._lanes: dict[tuple[object, ...], int] = {}
        self._lane_bytes = 0
        self._posting = False
        self._most = 0
        self._remembered = 0

    @property
    def crowded(self) -> bool:
        """True once it remembers too much, or a lane's numbers run out."""
        return self._remembered >= MAX_KNOWN or self._most >= MAX_NUMBER

    def __len__(self) -> int:
        """How many seats are taken."""
        return len(self._seats)

    def seat(self, policy: Policy, place: int, node: str) -> Seat:
        """The seat of a policy for the nodes of that place, of which `node` is one."""
        seat = self._seats.get((policy, place))
        return self._take(policy, place, node) if seat is None else seat

    def row(self, wanted: Wanted) -> bytes:
        """The request at every seat taken so far. Its words must be registered leaves."""
        bits = 0
        for lane in (
            ("who", wanted.who),
            ("role", wanted.role),
            ("purpose", wanted.purpose),
            ("act", wanted.act),
            self._facts(wanted),
        ):
            found = self._lanes.get(lane)
            bits |= self._lane(lane, wanted) if found is None else found
        # seats taken meanwhile may be zeros here; who asked for this row does not sit there
        return bits.to_bytes(len(self._seats) * SEAT_BYTES, "little")

    def lay(self, lane: str, word: str) -> bool:
        """Lay the lane of a registered word before it is asked for. False, and nothing is laid, where that would fill
        half of the room.
        """
        with self._lock:
            if self._lane_bytes >= MAX_LANE_BYTES // 2:
                return False
            if (lane, word) not in self._lanes:
                self._lanes[lane, word] = self._laid((lane, word))
                self._lane_bytes += len(self._seats) * SEAT_BYTES
        return True

    def remember(self, seat: Seat, key: bytes, verdict: Verdict) -> None:
        """Keep the verdict for requests of the same bytes at the seat."""
        seat.known[key] = verdict
        self._remembered += 1

    def _take(self, policy: Policy, place: int, node: str) -> Seat:
        with self._lock:
            seat = self._seats.get((policy, place))
            if seat is None:
                # before the seat can be seen: lanes without it would name wrong sets there
                self._lanes, self._lane_bytes = {}, 0
                if policy not in self._numbers:
                    self._numbers[policy] = tuple({} for _ in LANES)
                    self._sets[policy] = tuple([] for _ in LANES)
                    self._terms = tuple(dict.fromkeys((*self._terms, *policy.terms)))
                    at = {term: 1 << i for i, term in enumerate(self._terms)}
                    self._of_terms[policy] = sum(at[term] for term in policy.terms)
                    self._by_terms[policy] = {}
                    self._posting = self._posting or policy.posted is not None
                seat = self._seats[policy, place] = Seat(policy, place, node, len(self._seats), self._sets[policy])
        return seat

    def _facts(self, wanted: Wanted) -> tuple[object, ...]:
        terms = self._terms
        if not self._posting:
            return ("facts", *_truths(terms, wanted))
        # a usage policy that leaves the purpose out makes one more fact true
        return ("facts", *_truths(terms, wanted), *_truths(terms, wanted.unposted()), wanted.purpose)

    def _lane(self, key: tuple[object, ...], wanted: Wanted) -> int:
        with self._lock:
            if key[0] == "facts":
                key = self._facts(wanted)  # there may be more terms now than when it was looked for
            found = self._lanes.get(key)
            if found is None:
                if self._lane_bytes >= MAX_LANE_BYTES:
                    self._lanes, self._lane_bytes = {}, 0
                found = self._lanes[key] = self._laid(key, wanted)
                self._lane_bytes += len(self._seats) * SEAT_BYTES
        return found

    def _laid(self, key: tuple[object, ...], wanted: Wanted | None = None) -> int:
        lane = str(key[0])
        if wanted is not None and lane == "facts":
            of_policy = {policy: self._judged(policy, key, wanted) for policy in self._numbers}
        else:
            at, word = LANES.index(lane), str(key[1])
            of_policy = {policy: self._number(policy, at, policy.column(lane, word)) for policy in self._numbers}
        return int.from_bytes(b"".join([of_policy[seat.policy] for seat in self._seats.values()]), "little")

    def _judged(self, policy: Policy, key: tuple[object, ...], wanted: Wanted) -> bytes:
        """The policy's number for the rules whose conditions hold; its own terms' truths say which these are."""
        mine = self._of_terms[policy]
        true, left = key[3:5] if policy.leaves_out(wanted.purpose) else key[1:3]
        assert isinstance(true, int)
        assert isinstance(left, int)
        truths = (true & mine, left & mine)
        known = self._by_terms[policy].get(truths)
        if known is None:
            known = self._by_terms[policy][truths] = self._number(policy, LANES.index("facts"), policy.judged(wanted))
        return known

    def _number(self, policy: Policy, at: int, rules: object) -> bytes:
        """The policy's number for a set of its rules in a column, in that column's place of a seat's bytes."""
        numbers = self._numbers[policy][at]
        number = numbers.get(rules)
        if number is None:
            self._sets[policy][at].append(rules)
            number = numbers[rules] = len(numbers)
            self._most = max(self._most, number)
        return (number << 8 * LANE_BYTES * at).to_bytes(SEAT_BYTES, "little")


def _truths(terms: Sequence[Term], wanted: Wanted) -> tuple[int, int]:
    """Which of the terms hold, and which are left to the node, a bit each."""
    true = left = 0
    for i, term in enumerate(terms):
        truth = wanted.truth(term)
        if truth is Truth.TRUE:
            true |= 1 << i
        elif truth is Truth.LEFT:
            left |= 1 << i
    return true, left
