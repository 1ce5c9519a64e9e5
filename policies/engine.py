"""One immutable version of a policy, decided by Casbin, remembered by class.

request --> a bit mask per column: which rules match it there --> class = the rules that all of them share
unseen class:         Casbin's own `enforce` decides it; what it matched must be what the masks say. Where somebody
                      checks afterwards, it is shown the rules of the class alone, and all of them then
seen class:           the answer is taken from this version's memory, and one in a hundred is decided by Casbin again
seen, by other masks: the same, and Casbin decides it once more afterwards
a difference:         from then on Casbin alone decides, at every node
new version:          decides the classes that the old one was asked about most, before it takes its place
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from comity import jcs
from comity.decision import NO_OBLIGATIONS, Layer, MatchedRule
from comity.errors import PolicyError
from comity.purpose import Act
from policies.conditions import Facts, Truth
from policies.enforcer import MODEL_SHA256, StockEnforcer
from policies.load import ANY_ACT, COLUMNS, Rule, load
from policies.verdict import Verdict, joined_duties, matched_rule
from policies.vocabulary import Dimension, Vocabulary, node_word
from policies.wanted import UNPOSTED, Term, Wanted, term_of

__all__ = ["UNPOSTED", "Alarm", "Asked", "Place", "Policy", "Verdict", "Wanted", "compiled", "numbers"]

MAX_CLASSES = 65_536
Alarm = Callable[[str], None]
MAX_ASKED = 512  # requests that one version keeps matched
MAX_WARMED = 512
# Of this version, a request, a node and the answer: whether it will be checked.
Doubted = Callable[["Policy", Wanted, str, Verdict], bool]
# A node as one policy sees it: the mask of the rules that name it; its id where masks are not to be trusted.
Place = int | str
_Key = tuple[int, ...]


class Asked:
    """What one policy makes of a wanted request, before any node. Made by `Policy.ask`."""

    __slots__ = ("key", "known", "left", "matched", "seen", "wanted")

    def __init__(self, wanted: Wanted, key: _Key, matched: int, left: int) -> None:
        self.wanted, self.key, self.matched, self.left = wanted, key, matched, left
        self.known: dict[Place, Verdict] = {}
        self.seen = _Seen(wanted)


class _Seen:
    """How often a class was asked about, with one request and one node of it: what warming decides anew."""

    __slots__ = ("hits", "nodes", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.hits = 0
        self.nodes: dict[Place, str] = {}


class Policy:
    """A compiled version: `digest` names model, words and rules; it never changes, a new version replaces it.

    `posted`: the purposes (leaves) that the node's usage policy lists, or None where there is no usage policy.
    `canonical`: the masks and the model are known to mean the same, and never differed. A version that is not is
    decided by Casbin at every node, and nothing of it is remembered.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        vocabulary: Vocabulary,
        alarm: Alarm,
        posted: frozenset[str] | None = None,
        model: str = "",
    ) -> None:
        self.rules = rules
        self.vocabulary = vocabulary
        self.posted = posted
        model_sha256 = hashlib.sha256(model.encode()).hexdigest() if model else MODEL_SHA256
        self.canonical = model_sha256 == MODEL_SHA256
        self.digest = _digest(rules, vocabulary, posted, model_sha256)
        self._alarm = alarm
        self._stock = StockEnforcer(rules, vocabulary, model)
        # A lock, since Casbin's evaluator keeps the request it is at in itself; few requests come this far.
        self._lock = threading.Lock()
        self._shown = {(r.id, layer): matched_rule(r, layer) for r in rules for layer in Layer}
        self._rule = {rule.row: rule for rule in rules}
        self._bit = {rule.row: 1 << i for i, rule in enumerate(rules)}
        self._terms = {name: self._by_cell(name) for name in ("node", "who", "role", "purpose", "act")}
        self._conditions = self._by_condition()
        self._allow = self._having("allow")
        self._deny = self._having("deny")
        self._asked: dict[Wanted, Asked] = {}
        self._memory: dict[_Key, dict[Place, Verdict]] = {}
        self._seen: dict[_Key, _Seen] = {}
        self._classes: dict[tuple[int, int], Verdict] = {}
        self._remembered = 0

    @classmethod
    def compile(
        cls,
        text: str,
        vocabulary: Vocabulary,
        *,
        file: str = "",
        alarm: Alarm | None = None,
        posted: frozenset[str] | None = None,
        model: str = "",
    ) -> Policy:
        """The version that the sealed `text` states. `alarm` hears of every class that Casbin and the masks judge
        differently. `model`: the text of a Casbin model in place of the shipped one.

        Raises:
            PolicyError: the text is refused by the loader, or the shipped model was changed.
        """
        return cls(load(text, vocabulary, file), vocabulary, alarm or _log_alarm, posted, model)

    def ask(self, who: str, role: str, purpose: str, act: Act, facts: Facts) -> Asked:
        """The request, matched in every column but the node's.

        Raises:
            PolicyError: with reason NOT_REGISTERED, if a word is not a registered leaf.
        """
        return self.asked(Wanted(who, role, purpose, act, facts))

    def asked(self, wanted: Wanted) -> Asked:
        """As `ask`; the same object is matched once.

        Raises:
            PolicyError: as `ask`.
        """
        asked = self._asked.get(wanted)
        if asked is None:
            wanted.check(self.vocabulary)
            if len(self._asked) >= MAX_ASKED:
                self._asked = {}
            asked = self._asked[wanted] = self._match(wanted)
        asked.seen.hits += 1
        return asked

    def place(self, node_id: str) -> Place | None:
        """The node as this policy sees it: where two nodes have the same, it answers the same. None: no such node."""
        word = node_word(node_id)
        if not self.vocabulary.node.names(word):
            return None
        return self._mask("node", word, self.vocabulary.node) if self.canonical else node_id

    def verdict(self, asked: Asked, node_id: str) -> Verdict:
        """What this policy says of `asked` at the node; a fault if the node is not registered."""
        place = self.place(node_id)
        if place is None:
            return Verdict(allowed=False, fault="the node is not registered")
        return self.verdict_at(asked, place, node_id)

    def verdict_at(self, asked: Asked, place: Place, node_id: str, doubted: Doubted | None = None) -> Verdict:
        """As `verdict`, where the node's place is known already.

        `doubted` hears of an answer to columns that Casbin was never asked about with all rules in view: of a class
        that it decided for other columns, or decided now among the rules of the class alone. True says that it will be
        checked. Otherwise Casbin decides these columns among all rules before they are answered.
        """
        found = asked.known.get(place)
        if found is not None:
            return found
        if not (self.canonical and isinstance(place, int)):
            return self._by_casbin_only(asked, node_id)
        matched, left = asked.matched & place, asked.left & place
        verdict = self._classes.get((matched, left))
        if verdict is None and doubted is not None:
            verdict = self._unseen(asked, node_id, matched, left, narrowed=True)
            if verdict.fault:
                return verdict
        if verdict is None or doubted is None or not doubted(self, asked.wanted, node_id, verdict):
            verdict = self._unseen(asked, node_id, matched, left)
            if verdict.fault:
                return verdict
        if self._remembered >= MAX_CLASSES:
            self._forget()
        self._remembered += 1
        asked.seen.nodes[place] = node_id
        asked.known[place] = verdict
        return verdict

    def by_casbin(self, asked: Asked, node_id: str, among: int = -1) -> Verdict:
        """The same from Casbin alone, without masks or memory; a fault if it fails. `among`: the rules shown to it."""
        return self._stock_verdict(asked.wanted, node_id, among)

    def _stock_verdict(self, w: Wanted, node_id: str, among: int = -1) -> Verdict:
        request = (node_word(node_id), w.who, w.role, w.purpose, str(w.act), w.facts)
        try:
            with self._lock:
                allowed, rows = self._stock.decide(*request, among=None if among < 0 else numbers(among))
        except Exception as e:
            # Whatever goes wrong in an evaluator, the answer is a refusal; the type says enough for a log.
            self._alarm(f"policy {self.digest[:12]}: the engine failed with {type(e).__name__}")
            return Verdict(allowed=False, fault="the policy engine failed")
        rules = tuple(self._rule[row] for row in sorted(rows, key=self._bit.__getitem__))
        duties = joined_duties(rules) if allowed else NO_OBLIGATIONS
        return Verdict(allowed=allowed, rules=rules, shown=self._as_shown(rules), obligations=duties)

    def of_class(self, matched: int, left: int) -> Verdict | None:
        """What Casbin decided for these rules together, whatever the request; None if it was not asked yet."""
        return self._classes.get((matched, left)) if self.canonical else None

    def decide_class(self, wanted: Wanted, node_id: str) -> bool:
        """Have Casbin, with all rules in view, decide the class of this request of registered words at the node.

        False if it was known already, or nothing is remembered of this version.
        """
        place = self.place(node_id)
        if not self.canonical or not isinstance(place, int):
            return False
        asked = self._alone(wanted)
        matched, left = asked.matched & place, asked.left & place
        if (matched, left) in self._classes:
            return False
        self._unseen(asked, node_id, matched, left)
        return True

    def check_again(self, wanted: Wanted, node_id: str, said: Verdict) -> bool:
        """Whether Casbin, shown all rules, says what was `said`. If not, an alarm, and masks and memory are trusted no
        more: Casbin decides at every node for as long as this version lasts.
        """
        if not self.canonical:
            return True  # nothing is remembered of it any more, and the alarm was raised
        stock = self._stock_verdict(wanted.unposted() if self.leaves_out(wanted.purpose) else wanted, node_id)
        if (stock.fault, stock.allowed, stock.rules) == ("", said.allowed, said.rules):
            return True
        self._alarm(f"policy {self.digest[:12]}: Casbin and what is remembered of a request at {node_id} differ")
        self.canonical = False
        for remembered in tuple(self._memory.values()):
            remembered.clear()
        self._forget()
        return False

    def warm(self, old: Policy, most: int = MAX_WARMED) -> int:
        """Decide the classes that `old` was asked about most, before this version takes its place.

        Returns how many. Off the hot path: each takes as long as Casbin does.
        """
        done = 0
        for seen in sorted(old._seen.values(), key=lambda s: -s.hits):
            try:
                asked = self.asked(seen.wanted)
            except PolicyError:  # a word that is not registered any more
                continue
            for node_id in tuple(seen.nodes.values()):
                if done >= most:
                    return done
                self.verdict(asked, node_id)
                done += 1
        return done

    def column(self, name: str, word: str) -> int:
        """The mask of the rules that match the registered word in the column: who, role, purpose or act."""
        if name == "act":
            acts = self._terms["act"]
            return acts.get(word, 0) | acts.get(ANY_ACT, 0)
        return self._mask(name, word, getattr(self.vocabulary, name))

    def judged(self, wanted: Wanted) -> tuple[int, int]:
        """The masks of the rules whose condition holds, and of those whose condition is left to the node."""
        return self._judge(wanted.unposted() if self.leaves_out(wanted.purpose) else wanted)

    def judged_alone(self, facts: Facts, *, unposted: bool) -> tuple[int, int]:
        """As `judged`, of facts alone; `unposted`: the usage policy leaves the purpose out."""
        wanted = Wanted("", "", "", Act.EXACT, facts)
        return self._judge(wanted.unposted() if unposted else wanted)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions that its rules rest on, each once."""
        return tuple(term for term, _ in self._conditions)

    def leaves_out(self, purpose: str) -> bool:
        """True if there is a usage policy and it does not list the purpose."""
        return self.posted is not None and purpose not in self.posted

    def _match(self, wanted: Wanted) -> Asked:
        asked = self._alone(wanted)
        if self.canonical:
            asked.known = self._memory.setdefault(asked.key, asked.known)
            asked.seen = self._seen.setdefault(asked.key, asked.seen)
        return asked

    def _alone(self, wanted: Wanted) -> Asked:
        if self.leaves_out(wanted.purpose):
            wanted = wanted.unposted()
        who, role = self.column("who", wanted.who), self.column("role", wanted.role)
        purpose, act = self.column("purpose", wanted.purpose), self.column("act", wanted.act)
        true, left = self._judge(wanted)
        anywhere = who & role & purpose & act
        return Asked(wanted, (who, role, purpose, act, true, left), anywhere & true, anywhere & left)

    def _by_casbin_only(self, asked: Asked, node_id: str) -> Verdict:
        stock = self.by_casbin(asked, node_id)
        # what only the node knows may bear on any rule that mentions it: too many are left, never too few
        unsure = {term.condition for term, _ in self._conditions if asked.wanted.truth(term) is Truth.LEFT}
        return replace(stock, left=tuple(r for r in self.rules if r.condition in unsure))

    def _unseen(self, asked: Asked, node_id: str, matched: int, left: int, *, narrowed: bool = False) -> Verdict:
        stock = self.by_casbin(asked, node_id, matched | left if narrowed else -1)
        if stock.fault:
            return stock
        allowed = bool(matched & self._allow) and not matched & self._deny
        if stock.allowed != allowed or stock.rules != self._of(matched):
            self._alarm(f"policy {self.digest[:12]}: Casbin and the class of a request at {node_id} differ")
            return Verdict(allowed=False, fault="the policy engine contradicts itself")
        verdict = self._classes[matched, left] = replace(stock, left=self._of(left))
        return verdict

    def _forget(self) -> None:
        self._memory, self._seen, self._asked, self._classes, self._remembered = {}, {}, {}, {}, 0

    def _mask(self, column: str, word: str, dimension: Dimension) -> int:
        # not remembered: of many agencies and nodes in many versions that would be most of the memory
        terms, out = self._terms[column], 0
        for name in dimension.above[word]:
            out |= terms.get(name, 0)
        return out

    def _judge(self, wanted: Wanted) -> tuple[int, int]:
        true = left = 0
        for term, mask in self._conditions:
            truth = wanted.truth(term)
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

    def _by_condition(self) -> tuple[tuple[Term, int], ...]:
        out: dict[Term, int] = {}
        for rule in self.rules:
            term = term_of(rule.condition)
            out[term] = out.get(term, 0) | self._bit[rule.row]
        return tuple(out.items())

    def _having(self, effect: str) -> int:
        return sum(self._bit[r.row] for r in self.rules if r.effect == effect)

    def _as_shown(self, rules: tuple[Rule, ...]) -> Mapping[Layer, tuple[MatchedRule, ...]]:
        ids = dict.fromkeys(r.id for r in rules)
        return {layer: tuple(self._shown[i, layer] for i in ids) for layer in Layer}

    def _of(self, mask: int) -> tuple[Rule, ...]:
        return tuple(self.rules[i] for i in numbers(mask))


@lru_cache(maxsize=2048)
def compiled(text: str, vocabulary: Vocabulary, posted: frozenset[str] | None = None) -> Policy:
    """The version that `text` states, compiled once: nodes with the same rules share it and its memory.

    `posted`: see `Policy`.

    Raises:
        PolicyError: the text is refused.
    """
    return Policy.compile(text, vocabulary, posted=posted)


def numbers(mask: int) -> Iterator[int]:
    """The numbers of the rules in a mask, from the least."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _digest(rules: tuple[Rule, ...], vocabulary: Vocabulary, posted: frozenset[str] | None, model_sha256: str) -> str:
    said: dict[str, object] = {
        "model": model_sha256,
        "vocabulary": vocabulary.digest,
        "rules": [list(r.cells) for r in rules],
    }
    if posted is not None:
        said["posted"] = sorted(posted)
    return hashlib.sha256(jcs.encode(said)).hexdigest()


def _log_alarm(message: str) -> None:
    logging.getLogger("comity.policies").critical(message)
