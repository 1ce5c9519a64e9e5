"""The same policy in Cedar: an engine of other makers, to check against and to measure against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import cedarpy

from policies.conditions import FACTS, Condition, Facts
from policies.load import ANY_ACT, COLUMNS, Rule
from policies.vocabulary import Dimension, Vocabulary, node_word

_WORDS = {"allow": "permit", "deny": "forbid"}
Asked = tuple[str, str, str, str, Facts, str]  # who, role, purpose, act, facts, node


class Cedar:
    """One policy for `cedarpy`, parsed once. `limit` rules neither allow nor deny, so they have no counterpart."""

    def __init__(self, rules: Iterable[Rule], vocabulary: Vocabulary) -> None:
        self._rules = [r for r in rules if r.effect in _WORDS]
        self._policies = cedarpy.PolicySet.from_str("\n".join(map(_policy, self._rules)))
        self._entities = _entities_of(vocabulary)

    def decide(self, asked: Sequence[Asked]) -> list[tuple[bool, frozenset[str]]]:
        """Of each request whether it is allowed, and the rows that settled it: every deny, or else every allow.

        Raises:
            ValueError: Cedar reports an error.
        """
        out = []
        for answer in cedarpy.is_authorized_batch([_request(*a) for a in asked], self._policies, self._entities):
            if answer.diagnostics.errors:
                raise ValueError(str(answer.diagnostics.errors[0]))
            rows = frozenset(self._rules[int(p.removeprefix("policy"))].row for p in answer.diagnostics.reasons)
            out.append((answer.allowed, rows))
        return out


@lru_cache(maxsize=4)
def _entities_of(vocabulary: Vocabulary) -> Any:
    """Shared by the policies of one vocabulary, as this engine shares its words."""
    trees = [("Who", vocabulary.who), ("Node", vocabulary.node)]
    trees += [("Purpose", vocabulary.purpose), ("Role", vocabulary.role)]
    return cedarpy.Entities.from_json_str(json.dumps([e for kind, tree in trees for e in _entities(kind, tree)]))


def _policy(rule: Rule) -> str:
    cell = dict(zip(COLUMNS, rule.cells, strict=True))
    action = "action" if cell["act"] == ANY_ACT else f'action == Action::"{cell["act"]}"'
    terms = [f'context.purpose in Purpose::"{cell["purpose"]}"', f'context.role in Role::"{cell["role"]}"']
    terms += _condition(rule.condition)
    return (
        f'{_WORDS[rule.effect]}(principal in Who::"{cell["who"]}", {action}, resource in Node::"{cell["node"]}")'
        f" when {{ {' && '.join(terms)} }};"
    )


def _condition(c: Condition) -> list[str]:
    out = [f'context["{f}"]' for f in sorted(c.needs)] + [f'!context["{f}"]' for f in sorted(c.bars)]
    out += [] if c.most is None else [f"context.lookback <= {c.most}"]
    return out + ([] if c.over is None else [f"context.lookback > {c.over}"])


def _entities(kind: str, tree: Dimension) -> list[dict[str, Any]]:
    parents: dict[str, list[str]] = {word: [] for word in tree.above}
    for child, parent in tree.links:
        parents[child].append(parent)
    return [
        {"uid": {"type": kind, "id": w}, "attrs": {}, "parents": [{"type": kind, "id": p} for p in above]}
        for w, above in parents.items()
    ]


def _request(who: str, role: str, purpose: str, act: str, facts: Facts, node: str) -> dict[str, Any]:
    context: dict[str, Any] = {f: f in facts.true for f in FACTS}
    context["lookback"] = facts.lookback_days
    context["purpose"] = {"__entity": {"type": "Purpose", "id": purpose}}
    context["role"] = {"__entity": {"type": "Role", "id": role}}
    return {
        "principal": f'Who::"{who}"',
        "action": f'Action::"{act}"',
        "resource": f'Node::"{node_word(node)}"',
        "context": context,
    }
