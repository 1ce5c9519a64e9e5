"""One immutable version of a policy, decided by Casbin, remembered by class.

request --> a bit mask per column: which rules match it there --> class = those masks together
unseen class: Casbin's own `enforce` decides it; what it matched must be what the masks say
seen class:   the answer is taken from this version's memory
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from comity import jcs
from comity.decision import NO_OBLIGATIONS, Layer, MatchedRule, Obligations
from comity.errors import PolicyError
from comity.purpose import Act
from policies.conditions import Condition, Facts, Truth
from policies.enforcer import MODEL_SHA256, StockEnforcer
from policies.load import ANY_ACT, COLUMNS, Rule, load
from policies.vocabulary import Dimension, Vocabulary, node_word

MAX_CLASSES = 65_536
Alarm = Callable[[str], None]
_Key = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What one policy says of one party at one node. `rules`: every one that applied, in a fixed order.

    `shown`: the same as readers see them, parts of one rule once, by the layer that the policy may be used in.
    `left`: rules that depend on what only the node knows. `fault`: why nothing could be decided, else empty; then
    nothing is allowed. Two verdicts are equal only if they are one object, so that they are cheap as keys.
    """

    allowed: bool
    rules: tuple[Rule, ...] = ()
    shown: Mapping[Layer, tuple[MatchedRule, ...]] = field(default_factory=dict)
    left: tuple[Rule, ...] = ()
    obligations: Obligations = NO_OBLIGATIONS
    fault: str = ""

    @property
    def denied(self) -> bool:
        """True if a rule refuses."""
        return any(r.effect == "deny" for r in self.rules)


class Asked:
    """A request without its node, so that the rest is matched once for all nodes. Made by `Policy.ask`."""

    __slots__ = ("act", "facts", "key", "known", "left", "matched", "purpose", "role", "who")

    def __init__(self, who: str, role: str, purpose: str, act: str, facts: Facts) -> None:
        self.who, self.role, self.purpose, self.act, self.facts = who, role, purpose, act, facts
        self.key: _Key = ()
        self.matched = self.left = 0
        self.known: dict[int, Verdict] = {}


class Policy:
    """A compiled version: `digest` names model, words and rules; it never changes, a new version replaces it."""

    def __init__(self, rules: tuple[Rule, ...], vocabulary: Vocabulary, alarm: Alarm) -> None:
        self.rules = rules
        self.vocabulary = vocabulary
        self.digest = _digest(rules, vocabulary)
        self._alarm = alarm
        self._stock = StockEnforcer(rules, vocabulary)
        # A lock, since Casbin's evaluator keeps the request it is at in itself; few requests come this far.
        self._lock = threading.Lock()
        self._shown = {(r.id, layer): _matched(r, layer) for r in rules for layer in Layer}
        self._bit = {rule.row: 1 << i for i, rule in enumerate(rules)}
        self._terms = {name: self._by_cell(name) for name in ("node", "who", "role", "purpose", "act")}
        self._conditions = self._by_condition()
        self._allow = self._having("allow")
        self._deny = self._having("deny")
        self._nodes: dict[str, int] = {}
        self._roles: dict[str, int] = {}
        self._purposes: dict[str, int] = {}
        self._memory: dict[_Key, dict[int, Verdict]] = {}
        self._classes = 0

    @classmethod
    def compile(cls, text: str, vocabulary: Vocabulary, *, file: str = "", alarm: Alarm | None = None) -> Policy:
        """The version that the sealed `text` states. `alarm` hears of every class that Casbin and the masks judge
        differently.

        Raises:
            PolicyError: the text is refused by the loader, or the model is not the one shipped.
        """
        return cls(load(text, vocabulary, file), vocabulary, alarm or _log_alarm)

    def ask(self, who: str, role: str, purpose: str, act: Act, facts: Facts) -> Asked:
        """The request, matched in every column but the node's.

        Raises:
            PolicyError: with reason NOT_REGISTERED, if a word is not a registered leaf.
        """
        words = self.vocabulary
        if not (words.who.names(who) and words.role.names(role) and words.purpose.names(purpose)):
            raise PolicyError("agency, role or purpose is not registered", reason="NOT_REGISTERED")
        if type(facts) is not Facts or type(act) is not Act:
            raise PolicyError("the kind of search is not registered, or facts are missing", reason="NOT_REGISTERED")
        acts = self._terms["act"]
        columns = (
            self._mask("who", who, words.who),
            self._remembered(self._roles, "role", role, words.role),
            self._remembered(self._purposes, "purpose", purpose, words.purpose),
            acts.get(act, 0) | acts.get(ANY_ACT, 0),
        )
        true, left = self._judge(facts)
        anywhere = columns[0] & columns[1] & columns[2] & columns[3]
        asked = Asked(who, role, purpose, str(act), facts)
        asked.key = (*columns, true, left)
        asked.matched, asked.left = anywhere & true, anywhere & left
        asked.known = self._memory.setdefault(asked.key, {})
        return asked

    def verdict(self, asked: Asked, node_id: str) -> Verdict:
        """What this policy says of `asked` at the node; a fault if the node is not registered."""
        mask = self._nodes.get(node_id)
        if mask is None:
            word = node_word(node_id)
            if not self.vocabulary.node.names(word):
                return Verdict(allowed=False, fault="the node is not registered")
            mask = self._nodes[node_id] = self._mask("node", word, self.vocabulary.node)
        found = asked.known.get(mask)
        return found if found is not None else self._unseen(asked, node_id, mask)

    def by_casbin(self, asked: Asked, node_id: str) -> Verdict:
        """The same from Casbin alone, without masks or memory; a fault if it fails."""
        try:
            with self._lock:
                allowed, rows = self._stock.decide(
                    node_word(node_id), asked.who, asked.role, asked.purpose, asked.act, asked.facts
                )
        except Exception as e:
            # Whatever goes wrong in an evaluator, the answer is a refusal; the type says enough for a log.
            self._alarm(f"policy {self.digest[:12]}: the engine failed with {type(e).__name__}")
            return Verdict(allowed=False, fault="the policy engine failed")
        rules = tuple(r for r in self.rules if r.row in rows)
        duties = _join(rules) if allowed else NO_OBLIGATIONS
        return Verdict(allowed=allowed, rules=rules, shown=self._as_shown(rules), obligations=duties)

    def _unseen(self, asked: Asked, node_id: str, mask: int) -> Verdict:
        stock = self.by_casbin(asked, node_id)
        if stock.fault:
            return stock
        matched = asked.matched & mask
        allowed = bool(matched & self._allow) and not matched & self._deny
        if stock.allowed != allowed or stock.rules != self._of(matched):
            self._alarm(f"policy {self.digest[:12]}: Casbin and the class of a request at {node_id} differ")
            return Verdict(allowed=False, fault="the policy engine contradicts itself")
        verdict = replace(stock, left=self._of(asked.left & mask))
        if self._classes >= MAX_CLASSES:
            self._memory, self._classes = {}, 0
        self._classes += 1
        asked.known[mask] = verdict
        return verdict

    def _mask(self, column: str, word: str, dimension: Dimension) -> int:
        terms, mask = self._terms[column], 0
        for name in dimension.above[word]:
            mask |= terms.get(name, 0)
        return mask

    def _remembered(self, known: dict[str, int], column: str, word: str, dimension: Dimension) -> int:
        mask = known.get(word)
        if mask is None:
            mask = known[word] = self._mask(column, word, dimension)
        return mask

    def _judge(self, facts: Facts) -> tuple[int, int]:
        true = left = 0
        for condition, mask in self._conditions:
            truth = condition.holds(facts)
            if truth is Truth.TRUE:
                true |= mask
            elif truth is Truth.LEFT:
                left |= mask
        return true, left

    def _by_cell(self, column: str) -> dict[str, int]:
        at, out = COLUMNS.index(column), dict[str, int]()
        for rule in self.rules:
            out[rule.cells[at]] = out.get(rule.cells[at], 0) | self._bit[rule.row]
        return out

    def _by_condition(self) -> tuple[tuple[Condition, int], ...]:
        out: dict[Condition, int] = {}
        for rule in self.rules:
            out[rule.condition] = out.get(rule.condition, 0) | self._bit[rule.row]
        return tuple(out.items())

    def _having(self, effect: str) -> int:
        return sum(self._bit[r.row] for r in self.rules if r.effect == effect)

    def _as_shown(self, rules: tuple[Rule, ...]) -> Mapping[Layer, tuple[MatchedRule, ...]]:
        ids = dict.fromkeys(r.id for r in rules)
        return {layer: tuple(self._shown[i, layer] for i in ids) for layer in Layer}

    def _of(self, mask: int) -> tuple[Rule, ...]:
        return tuple(r for i, r in enumerate(self.rules) if mask >> i & 1)


@lru_cache(maxsize=2048)
def compiled(text: str, vocabulary: Vocabulary) -> Policy:
    """The version that `text` states, compiled once: nodes with the same rules share it and its memory.

    Raises:
        PolicyError: the text is refused.
    """
    return Policy.compile(text, vocabulary)


def _matched(rule: Rule, layer: Layer) -> MatchedRule:
    return MatchedRule(rule=rule.id, effect=rule.effect, basis=rule.basis, layer=layer)


def _join(rules: Iterable[Rule]) -> Obligations:
    out = NO_OBLIGATIONS
    for rule in rules:
        out = out.join(rule.duties)
    return out


def _digest(rules: tuple[Rule, ...], vocabulary: Vocabulary) -> str:
    said = {"model": MODEL_SHA256, "vocabulary": vocabulary.digest, "rules": [list(r.cells) for r in rules]}
    return hashlib.sha256(jcs.encode(said)).hexdigest()


def _log_alarm(message: str) -> None:
    logging.getLogger("comity.policies").critical(message)
