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
from policies.vocabulary import Vocabulary

MODEL = Path(__file__).parent / "model.conf"
# The model decides what a rule means, so a changed one is another engine: this names the only one that is trusted.
MODEL_SHA256 = "9ed314d11683c25ddbf997b9bf8f8a046aa5f0320d474063f592dd6088659a94"
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
    """Stock, but for a matcher that is parsed once and not at every call."""

    def _get_expression(self, expr: str, functions: dict[str, Callable[..., object]] | None = None) -> SimpleEval:
        matcher = SimpleEval("", functions)
        matcher.ast_parsed_value = _parsed(expr)
        return matcher


class StockEnforcer:
    """Casbin over one policy's rules. Not for two threads at once: the caller holds a lock.

    `own_model`: the text of another model than the shipped one.
    """

    def __init__(self, rules: Iterable[Rule], vocabulary: Vocabulary, own_model: str = "") -> None:
        model = Model()
        model.load_model_from_text(own_model or model_text())
        rules = tuple(rules)
        model.model["p"]["p"].policy = [list(r.cells) for r in rules]
        enforcer = _Enforcer(model)
        for name, manager in _role_managers(vocabulary).items():
            enforcer.set_named_role_manager(name, manager)
            model.model["g"][name].rm = manager
        enforcer.set_effector(CollectingEffector())
        self._conditions: dict[str, Condition] = {r.cells[7]: r.condition for r in rules}
        self._hits: set[str] = set()
        enforcer.add_function("holds", self._holds)
        enforcer.add_function("hit", self._hit)
        self._enforcer = enforcer

    def decide(self, node: str, who: str, role: str, purpose: str, act: str, facts: Facts) -> tuple[bool, set[str]]:
        """Whether Casbin allows it, and the row of every rule that matched.

        Raises:
            Exception: whatever the evaluator meets; the caller refuses.
        """
        self._hits = set()
        allowed = self._enforcer.enforce(node, who, role, purpose, act, facts)
        return bool(allowed), self._hits

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
        manager = out[name] = RoleManager(10)
        for child, parent in dimension.links:
            manager.add_link(child, parent)
        for word in dimension.above:
            manager.has_link(word, word)  # Casbin adds a name when it is first asked for: now, not under threads
    return out
