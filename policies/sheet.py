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
                    self._posting = self._posting or policy.posted is not None
                seat = self._seats[policy, place] = Seat(policy, place, node, len(self._seats), self._sets[policy])
        return seat

    def _facts(self, wanted: Wanted) -> tuple[object, ...]:
        true = left = 0
        for i, term in enumerate(self._terms):
            truth = wanted.truth(term)
            if truth is Truth.TRUE:
                true |= 1 << i
            elif truth is Truth.LEFT:
                left |= 1 << i
        # a usage policy that leaves the purpose out makes one more fact true
        return ("facts", true, left, wanted.purpose if self._posting else "")

    def _lane(self, key: tuple[object, ...], wanted: Wanted) -> int:
        with self._lock:
            found = self._lanes.get(key)
            if found is None:
                if self._lane_bytes >= MAX_LANE_BYTES:
                    self._lanes, self._lane_bytes = {}, 0
                found = self._lanes[key] = self._laid(str(key[0]), str(key[1]), wanted)
                self._lane_bytes += len(self._seats) * SEAT_BYTES
        return found

    def _laid(self, lane: str, word: str, wanted: Wanted) -> int:
        at, of_policy = LANES.index(lane), dict[Policy, bytes]()
        for policy, numbers in self._numbers.items():
            rules = policy.judged(wanted) if lane == "facts" else policy.column(lane, word)
            number = numbers[at].get(rules)
            if number is None:
                self._sets[policy][at].append(rules)
                number = numbers[at][rules] = len(numbers[at])
                self._most = max(self._most, number)
            of_policy[policy] = number.to_bytes(LANE_BYTES, "little")
        out = bytearray(len(self._seats) * SEAT_BYTES)
        for seat in self._seats.values():
            begin = seat.begin + at * LANE_BYTES
            out[begin : begin + LANE_BYTES] = of_policy[seat.policy]
        return int.from_bytes(out, "little")
