"""Casbin's own enforcer over the shipped model, with every matching rule collected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import casbin
from casbin.effect import Effector
from casbin.model import Model
from casbin.rbac.default_role_manager import RoleManager
from casbin.util import SimpleEval

from comity.errors import PolicyError
from policies.conditions import Condition, Facts, Truth
from policies.load import Rule
from policies.vocabulary import Dimension, Vocabulary

MODEL = Path(__file__).parent / "model.conf"
# The model decides what a rule means, so a changed one is another engine: this names the only one that is trusted.
MODEL_SHA256 = "9ed314d11683c25ddbf997b9bf8f8a046aa5f0320d474063f592dd6088659a94"
MAX_SAID = 1 << 20  # pairs of words
_PARSING = Lock()  # Python 3.11's parser can fail with SystemError when threads meet in it


class CollectingEffector(Effector):  # type: ignore[misc]
    """Casbin's allow-and-deny effect, without stopping at the first deny, so that every rule is seen."""

    def intermediate_effect(self, effects: set[int]) -> int:  # noqa: ARG002
        """Never final before the last rule."""
        return int(Effector.INDETERMINATE)

    def final_effect(self, effects: set[int]) -> int:
        """Allow if a rule allows and none denies."""
        allow = Effector.ALLOW in effects and Effector.DENY not in effects
        return int(Effector.ALLOW if allow else Effector.DENY)


class _Enforcer(casbin.Enforcer):  # type: ignore[misc]
    """Stock, but for a matcher that is parsed and made once and not at every call."""

    _matcher: SimpleEval | None = None

    def _get_expression(self, expr: str, functions: dict[str, Callable[..., object]] | None = None) -> SimpleEval:
        if self._matcher is None:
            self._matcher = SimpleEval("", functions)
            self._matcher.ast_parsed_value = _parsed(expr)
        self._matcher.functions = functions
        return self._matcher

    def let_go(self) -> None:
        """Drop what Casbin made for the last request: it is made anew for the next."""
        functions = self.fm.get_functions()
        for name in self.model["g"]:
            functions.pop(name, None)


class _RoleManager(RoleManager):  # type: ignore[misc]
    """Casbin's own, which remembers what it said: its graph never changes once it is built."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self._said: dict[tuple[str, str], bool] = {}

    def has_link(self, name1: str, name2: str, *domain: str) -> bool:
        """As Casbin says."""
        said = self._said.get((name1, name2))
        if said is None:
            if len(self._said) >= MAX_SAID:
                self._said = {}
            said = self._said[name1, name2] = super().has_link(name1, name2, *domain)
        return said


class StockEnforcer:
    """Casbin over one policy's rules. Not for two threads at once: the caller holds a lock.

    `own_model`: the text of another model than the shipped one.
    """

    def __init__(self, rules: Iterable[Rule], vocabulary: Vocabulary, own_model: str = "") -> None:
        model = Model()
        model.load_model_from_text(own_model or model_text())
        rules = tuple(rules)
        self._rows = model.model["p"]["p"].policy = [list(r.cells) for r in rules]
        self._stated = model.model["p"]["p"]
        enforcer = _Enforcer(model)
        for name, manager in _role_managers(vocabulary).items():
            enforcer.set_named_role_manager(name, manager)
            model.model["g"][name].rm = manager
        enforcer.set_effector(CollectingEffector())
        self._conditions: dict[str, Condition] = {r.cells[7]: r.condition for r in rules}
        enforcer.add_function("holds", self._holds)
        enforcer.add_function("hit", self._hit)
        self._enforcer = enforcer

    def decide(
        self, node: str, who: str, role: str, purpose: str, act: str, facts: Facts, among: Iterable[int] | None = None
    ) -> tuple[bool, set[str]]:
        """Whether Casbin allows it, and the row of every rule that matched.

        `among`: the numbers of the only rules that it is shown, for an answer that is checked against all of them
        afterwards.

        Raises:
            Exception: whatever the evaluator meets; the caller refuses.
        """
        hits = self._hits = set[str]()
        if among is not None:
            # of no rule at all Casbin would judge an empty one, and enter its empty names: then it is shown the first
            self._stated.policy = [self._rows[i] for i in among] or self._rows[:1]
        try:
            return bool(self._enforcer.enforce(node, who, role, purpose, act, facts)), hits
        finally:
            self._stated.policy = self._rows
            # a thousand policies would hold a dozen objects each, always young to Python's collector
            self._enforcer.let_go()
            del self._hits

    def _holds(self, facts: Facts, when: str) -> bool:
        return self._conditions[when].holds(facts) is Truth.TRUE

    def _hit(self, row: str) -> bool:
        self._hits.add(row)
        return True


def model_text(path: Path = MODEL) -> str:
    """The model, once it is proven to be the shipped one.

    Raises:
        PolicyError: it cannot be read, or was changed.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PolicyError(f"cannot be read: {type(e).__name__}", file=path.name) from e
    if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
        raise PolicyError("is not the model that this version was made with", file=path.name)
    return data.decode("ascii")


@lru_cache(maxsize=8)
def _parsed(expression: str) -> Any:
    with _PARSING:
        return casbin.Enforcer._get_expression(expression, {}).ast_parsed_value


@lru_cache(maxsize=8)
def _role_managers(words: Vocabulary) -> dict[str, RoleManager]:
    """Casbin's role graphs, shared by all policies of one vocabulary and never written again."""
    out: dict[str, RoleManager] = {}
    for name, dimension in (("g", words.who), ("g2", words.node), ("g3", words.purpose), ("g4", words.role)):
        manager = out[name] = _RoleManager(10)
        for child, parent in dimension.links:
            manager.add_link(child, parent)
        for word in dimension.above:
            manager.has_link(word, word)  # Casbin adds a name when it is first asked for: now, not under threads
        _check_words(manager, dimension)
    return out


def _check_words(manager: RoleManager, dimension: Dimension) -> None:
    """Return if Casbin's graph puts every word under the same words as the vocabulary does.

    The masks of rules are made of these: a rule that they leave out is then one that Casbin would pass over too.
    """
    for word, above in dimension.above.items():
        reached, level = {word}, {word}
        while level:
            level = {role for name in level for role in manager.get_roles(name)} - reached
            reached |= level
        if reached != above or not all(manager.has_link(word, name) for name in above):
            raise PolicyError(f"Casbin puts the {dimension.name} {word!r} under other words", file="directory")
