"""The policies of many nodes side by side, so that one request is matched against all of them at once.

seat   one policy, and the nodes that it sees alike
lane   a column of the request (who, role, purpose, kind of search, facts), twice: the policies' numbers for the sets
       of their rules that match there, and these sets themselves
row    one request at every seat. Laid over each other, the numbers of its lanes are at each seat a few bytes that name
       the sets of all its columns; what the sets have in common is the class
known  what Casbin decided, by the bytes of the columns; another set in any column is another key. Of a full memory the
       older half is forgotten, seat by seat
class  what Casbin decided for the same rules, reached by other columns

A row costs a few operations on long numbers, however many rules the policies have.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from comity.decision import Layer
from comity.purpose import Act
from policies.conditions import Condition, Facts, Truth
from policies.engine import Policy
from policies.ruling import Said
from policies.seat import LANE_BYTES, LANES, SEAT_BYTES, OfPolicy, Seat
from policies.wanted import Term, Wanted

__all__ = ["SEAT_BYTES", "Row", "Seat", "Sheet"]

MAX_NUMBER = 60_000  # of 65,536 that a lane can hold: threads may each add one more
MAX_KNOWN = 1 << 18  # of all seats; each has its share of them
LEAST_KNOWN = 16  # however many seats there are
MAX_TRUTHS = 1 << 12  # of one policy: what its conditions come to
MAX_LANE_BYTES = 3 << 24


@dataclass(frozen=True, slots=True)
class _Lane:
    """One word, or the facts, at every seat: numbers of sets, and the sets."""

    numbers: int
    sets: int


class Row:
    """One request at every seat. `columns`: the bytes that name the sets of its columns."""

    __slots__ = ("_class_bytes", "_classes", "_sets", "columns")

    def __init__(self, columns: bytes, sets: Sequence[int], class_bytes: int) -> None:
        self.columns, self._sets, self._class_bytes = columns, sets, class_bytes
        self._classes = b""

    @property
    def classes(self) -> bytes:
        """The rules that all columns share; put together only where it is asked for."""
        if not self._classes:
            shared = self._sets[0]
            for of_lane in self._sets[1:]:
                shared &= of_lane
            self._classes = shared.to_bytes(self._class_bytes, "little")
        return self._classes


class Sheet:
    """Seats, in the order they were taken, and the lanes of the words asked about. It only ever grows; one that is
    `crowded` is to be replaced by an empty one. Safe under threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[tuple[Policy, int, Layer], Seat] = {}
        self._policies: dict[Policy, OfPolicy] = {}
        self._terms: tuple[Term, ...] = ()
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._lane_bytes = 0
        self._posting = False
        self._most = 0
        self._room = MAX_KNOWN // 2
        self._class_bytes = 0
        self._places = 0  # which rules name the nodes of each seat, as a lane's sets

    @property
    def crowded(self) -> bool:
        """True once a lane's numbers run out."""
        return self._most >= MAX_NUMBER

    def __len__(self) -> int:
        """How many seats are taken."""
        return len(self._seats)

    def seat(self, policy: Policy, place: int, node: str, layer: Layer = Layer.NODE) -> Seat:
        """The seat of a policy in its layer for the nodes of that place, of which `node` is one."""
        seat = self._seats.get((policy, place, layer))
        return self._take(policy, place, node, layer) if seat is None else seat

    def row(self, wanted: Wanted) -> Row:
        """The request at every seat taken so far. Its words must be registered leaves."""
        numbers, sets = 0, [self._places]
        for key in (
            ("who", wanted.who),
            ("role", wanted.role),
            ("purpose", wanted.purpose),
            ("act", wanted.act),
            self._facts(wanted),
        ):
            lane = self._lanes.get(key) or self._lane(key, wanted)
            numbers |= lane.numbers
            sets.append(lane.sets)
        # seats taken meanwhile may be zeros here; who asked for this row does not sit there
        return Row(numbers.to_bytes(len(self._seats) * SEAT_BYTES, "little"), sets, self._class_bytes)

    def lay(self, lane: str, word: str) -> bool:
        """Lay the lane of a registered word before it is asked for. False, and nothing is laid, where that would fill
        half of the room.
        """
        with self._lock:
            if self._lane_bytes >= MAX_LANE_BYTES // 2:
                return False
            if (lane, word) not in self._lanes:
                self._keep((lane, word), self._laid((lane, word)))
        return True

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those that the rules of all policies rest on, each once."""
        return tuple(term.condition for term in self._terms)

    def lay_facts(self, facts: Facts) -> bool:
        """As `lay`, of facts. Not where usage policies are posted: there each purpose makes other facts true."""
        wanted = Wanted("", "", "", Act.EXACT, facts)
        with self._lock:
            if self._posting or self._lane_bytes >= MAX_LANE_BYTES // 2:
                return False
            key = self._facts(wanted)
            if key not in self._lanes:
                self._keep(key, self._laid(key, wanted))
        return True

    def remember(self, seat: Seat, key: bytes, said: Said) -> None:
        """Keep what was said for requests of the same bytes at the seat."""
        seat.remember(key, said, self._room)

    def _take(self, policy: Policy, place: int, node: str, layer: Layer) -> Seat:
        with self._lock:
            seat = self._seats.get((policy, place, layer))
            if seat is None:
                # before the seat can be seen: lanes without it would name wrong sets there
                self._lanes, self._lane_bytes = {}, 0
                mine = self._policies.get(policy)
                if mine is None:
                    self._terms = tuple(dict.fromkeys((*self._terms, *policy.terms)))
                    at = {term: 1 << i for i, term in enumerate(self._terms)}
                    mine = OfPolicy(len(policy.rules), sum(at[term] for term in policy.terms))
                    self._policies[policy] = mine
                    self._posting = self._posting or policy.posted is not None
                seat = Seat(policy, place, node, layer, mine)
                self._stand(seat, mine)
                self._seats[policy, place, layer] = seat
                self._room = max(LEAST_KNOWN, MAX_KNOWN // 2 // len(self._seats))
        return seat

    def _stand(self, seat: Seat, mine: OfPolicy) -> None:
        """Give the seat its bytes in a row, behind those of all others."""
        seat.begin = len(self._seats) * SEAT_BYTES
        seat.end = seat.begin + SEAT_BYTES
        seat.class_begin = self._class_bytes
        seat.class_end = self._class_bytes = seat.class_begin + 2 * mine.width
        self._places |= int.from_bytes(mine.class_bytes(seat.place, seat.place), "little") << 8 * seat.class_begin

    def _facts(self, wanted: Wanted) -> tuple[object, ...]:
        terms = self._terms
        if not self._posting:
            return ("facts", *_truths(terms, wanted))
        # a usage policy that leaves the purpose out makes one more fact true
        return ("facts", *_truths(terms, wanted), *_truths(terms, wanted.unposted()), wanted.purpose)

    def _lane(self, key: tuple[object, ...], wanted: Wanted) -> _Lane:
        with self._lock:
            if key[0] == "facts":
                key = self._facts(wanted)  # there may be more terms now than when it was looked for
            found = self._lanes.get(key)
            if found is None:
                if self._lane_bytes >= MAX_LANE_BYTES:
                    self._lanes, self._lane_bytes = {}, 0
                found = self._laid(key, wanted)
                self._keep(key, found)
        return found

    def _keep(self, key: tuple[object, ...], lane: _Lane) -> None:
        self._lanes[key] = lane
        self._lane_bytes += len(self._seats) * SEAT_BYTES + self._class_bytes

    def _laid(self, key: tuple[object, ...], wanted: Wanted | None = None) -> _Lane:
        name = str(key[0])
        if wanted is not None and name == "facts":
            of_policy = {policy: self._judged(policy, key, wanted) for policy in self._policies}
        else:
            of_policy = {policy: self._named(policy, name, str(key[1])) for policy in self._policies}
        parts = [of_policy[seat.policy] for seat in self._seats.values()]
        numbers = int.from_bytes(b"".join([part[:SEAT_BYTES] for part in parts]), "little")
        return _Lane(numbers, int.from_bytes(b"".join([part[SEAT_BYTES:] for part in parts]), "little"))

    def _named(self, policy: Policy, lane: str, word: str) -> bytes:
        """The policy's number for the rules that match the word, and these rules."""
        rules = policy.column(lane, word)
        return self._number(policy, LANES.index(lane), rules) + self._policies[policy].class_bytes(rules, rules)

    def _judged(self, policy: Policy, key: tuple[object, ...], wanted: Wanted) -> bytes:
        """The same of the rules whose conditions hold; the truths of the policy's own terms say which these are."""
        mine = self._policies[policy]
        true, left = key[3:5] if policy.leaves_out(wanted.purpose) else key[1:3]
        assert isinstance(true, int)
        assert isinstance(left, int)
        truths = (true & mine.terms, left & mine.terms)
        known = mine.by_truths.get(truths)
        if known is None:
            if len(mine.by_truths) >= MAX_TRUTHS:
                mine.by_truths = {}
            rules = policy.judged(wanted)
            known = self._number(policy, LANES.index("facts"), rules) + mine.class_bytes(*rules)
            mine.by_truths[truths] = known
        return known

    def _number(self, policy: Policy, at: int, rules: object) -> bytes:
        """The policy's number for a set of its rules in a column, in that column's place of a seat's bytes."""
        mine = self._policies[policy]
        numbers = mine.numbers[at]
        number = numbers.get(rules)
        if number is None:
            mine.sets[at].append(rules)
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
