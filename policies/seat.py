"""One policy beside others on a sheet: where its bytes stand in a row, and what was said of requests of such bytes.

bytes of the columns   name the set of the policy's rules that match in each column; another set is another key
bytes of the class     the rules that all columns share, a bit each, and those left to the node: far fewer
"""

from __future__ import annotations

import struct
from typing import Any

from comity.decision import Layer
from policies.engine import Policy
from policies.ruling import Said
from policies.verdict import Verdict

LANES = ("who", "role", "purpose", "act", "facts")
LANE_BYTES = 2
SEAT_BYTES = LANE_BYTES * len(LANES)
MAX_CLASS_RULES = 256  # of a policy of more, the bytes of a class would be longer than they are worth
MAX_SAID = 1 << 14  # classes of one policy in one layer

_NUMBERS = struct.Struct("<5H")


class OfPolicy:
    """What the seats of one policy share. `sets`: by lane and number; `numbers`: the way back; `width`: bytes of half
    a class, 0 where the policy has too many rules for that; `terms`: those of the sheet that its rules rest on, a bit
    each; `by_truths`: its part of a lane of facts; `said`, `of_class`: by layer.
    """

    __slots__ = ("by_truths", "numbers", "of_class", "said", "sets", "terms", "width")

    def __init__(self, rules: int, terms: int) -> None:
        self.numbers: tuple[dict[object, int], ...] = tuple({} for _ in LANES)
        self.sets: tuple[list[Any], ...] = tuple([] for _ in LANES)
        self.width = (rules + 7) // 8 if rules <= MAX_CLASS_RULES else 0
        self.terms = terms
        self.by_truths: dict[tuple[int, int], bytes] = {}
        self.said: dict[Layer, dict[Verdict, Said]] = {layer: {} for layer in Layer}
        self.of_class: dict[Layer, dict[bytes, Said]] = {layer: {} for layer in Layer}

    def class_bytes(self, matched: int, left: int) -> bytes:
        """A set of rules as it stands in a row of classes: those that match, then those that are left to the node."""
        return matched.to_bytes(self.width, "little") + left.to_bytes(self.width, "little") if self.width else b""


class Seat:
    """One policy in one layer and the nodes that it sees alike, `node` being one of them.

    `begin`, `end`: its bytes of the columns in a row; `class_begin`, `class_end`: those of the class, none for a policy
    of too many rules. `known`: what the layer says of one party, by the former; `of_class`: by the latter, whatever the
    columns.
    """

    __slots__ = (
        "_older",
        "_said",
        "_sets",
        "begin",
        "class_begin",
        "class_end",
        "end",
        "known",
        "layer",
        "node",
        "of_class",
        "place",
        "policy",
    )

    def __init__(self, policy: Policy, place: int, node: str, layer: Layer, mine: OfPolicy) -> None:
        self.policy, self.place, self.node, self.layer = policy, place, node, layer
        self.begin = self.end = self.class_begin = self.class_end = 0
        self._sets, self._said, self.of_class = mine.sets, mine.said[layer], mine.of_class[layer]
        self.known: dict[bytes, Said] = {}
        self._older: dict[bytes, Said] = {}

    def rules(self, key: bytes) -> tuple[int, int]:
        """The masks of the rules that match a request of these bytes, and of those that are left to the node."""
        who, role, purpose, act, facts = _NUMBERS.unpack(key)
        sets = self._sets
        true, left = sets[4][facts]
        anywhere = sets[0][who] & sets[1][role] & sets[2][purpose] & sets[3][act] & self.place
        return anywhere & true, anywhere & left

    def older(self, key: bytes) -> Said | None:
        """What was known before the last time that memory was full."""
        return self._older.get(key)

    def said(self, verdict: Verdict, of_class: bytes) -> Said:
        """What the verdict on a class comes to in this layer; one object for the same verdict while it is remembered.

        A verdict is one object of one version, so no version answers another's. A fault is looked into again each time.
        """
        found = self._said.get(verdict)
        if found is None:
            found = Said.of(verdict, self.layer)
            if not found.fault and self.policy.canonical:
                if len(self._said) >= MAX_SAID:
                    self._said.clear()
                    self.of_class.clear()
                self._said[verdict] = found
                if of_class:
                    self.of_class[of_class] = found
        return found

    def remember(self, key: bytes, said: Said, room: int) -> None:
        """Keep it for requests of the same bytes, beside at most so many others twice over."""
        known = self.known
        if len(known) >= room:
            self._older = known
            known = self.known = {}
        known[key] = said
