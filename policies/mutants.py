"""Small faults that an author could make in a rule: each is one other rule, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from comity.decision import NO_OBLIGATIONS, Obligations, Redaction
from comity.purpose import Act
from policies.conditions import Condition
from policies.load import ANY_ACT, COLUMNS, Rule
from policies.vocabulary import Dimension, Vocabulary

_TREES = ("node", "who", "role", "purpose")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """What stands in place of the row `row`, None for nothing; `what` was done to it, in words."""

    row: str
    what: str
    rule: Rule | None


def mutants_of(rule: Rule, words: Vocabulary) -> Iterator[Mutant]:
    """Every mutant of the rule: the row dropped, its effect flipped, each cell widened to its parent and to anything
    or put beside itself, each condition dropped, `unless` negated, each look-back and duty one step looser or tighter.
    """
    seen = {_meaning(rule)}
    yield Mutant(row=rule.row, what="dropped", rule=None)
    for what, other in _others(rule, words):
        if _meaning(other) not in seen:
            seen.add(_meaning(other))
            yield Mutant(row=rule.row, what=what, rule=other)


def _meaning(rule: Rule) -> tuple[object, ...]:
    return rule.cells[:6], rule.effect, rule.condition, rule.duties


def _others(rule: Rule, words: Vocabulary) -> Iterator[tuple[str, Rule]]:
    flipped = {"allow": "deny", "deny": "allow"}.get(rule.effect)
    if flipped:
        yield f"{rule.effect} made {flipped}", replace(rule, effect=flipped, duties=NO_OBLIGATIONS)
    for column in _TREES:
        at = COLUMNS.index(column)
        for word in _near(getattr(words, column), rule.cells[at]):
            yield f"{column} {rule.cells[at]} made {word}", _with_cell(rule, at, word)
    at = COLUMNS.index("act")
    for act in _acts(rule.cells[at]):
        yield f"act {rule.cells[at]} made {act}", _with_cell(rule, at, act)
    for what, condition in _conditions(rule.condition):
        yield what, replace(rule, condition=condition)
    if rule.effect != "deny":
        for what, duties in _duties(rule.duties):
            yield what, replace(rule, duties=duties)


def _with_cell(rule: Rule, at: int, word: str) -> Rule:
    return replace(rule, cells=(*rule.cells[:at], word, *rule.cells[at + 1 :]))


def _near(dimension: Dimension, word: str) -> Iterator[str]:
    """The word's parents, the top, and the first word beside it that has something below or is a leaf."""
    parents = sorted(parent for child, parent in dimension.links if child == word)
    yield from parents
    if not parents:
        return
    (top,) = [w for w, above in dimension.above.items() if above == {w}]
    yield top
    for parent in parents:
        for sibling in sorted(child for child, over in dimension.links if over == parent and child != word):
            if sibling in dimension.leaves or any(sibling in dimension.above[leaf] for leaf in dimension.leaves):
                yield sibling
                break


def _acts(act: str) -> Iterator[str]:
    if act != ANY_ACT:
        yield ANY_ACT
        acts = [a.value for a in Act]
        yield acts[(acts.index(act) + 1) % len(acts)]


def _conditions(c: Condition) -> Iterator[tuple[str, Condition]]:
    for fact in sorted(c.needs):
        yield f"condition {fact} dropped", replace(c, needs=c.needs - {fact})
    for fact in sorted(c.bars):
        yield f"condition unless {fact} dropped", replace(c, bars=c.bars - {fact})
        yield f"unless {fact} made {fact}", replace(c, bars=c.bars - {fact}, needs=c.needs | {fact})
    if c.most is not None:
        yield f"lookback<={c.most} dropped", replace(c, most=None)
        for days in (c.most - 1, c.most + 1):
            yield f"lookback<={c.most} made <={days}", replace(c, most=days)
    if c.over is not None:
        yield f"lookback>{c.over} dropped", replace(c, over=None)
        for days in (c.over - 1, c.over + 1):
            yield f"lookback>{c.over} made >{days}", replace(c, over=days)


def _duties(d: Obligations) -> Iterator[tuple[str, Obligations]]:
    if d.window_days is not None:
        yield "window_days dropped", replace(d, window_days=None)
        for days in (d.window_days - 1, d.window_days + 1):
            if days >= 0:
                yield f"window_days<={d.window_days} made <={days}", replace(d, window_days=days)
    if d.quota_per_day is not None:
        yield "quota_per_day dropped", replace(d, quota_per_day=None)
        for quota in (d.quota_per_day - 1, d.quota_per_day + 1):
            if quota >= 0:
                yield f"quota_per_day<={d.quota_per_day} made <={quota}", replace(d, quota_per_day=quota)
    if d.breadth is not None:
        yield "breadth dropped", replace(d, breadth=None)
        for breadth in (d.breadth - 1, d.breadth + 1):
            if breadth >= 0:
                yield f"breadth<={d.breadth} made <={breadth}", replace(d, breadth=breadth)
    if d.redaction is not Redaction.FULL:
        for level in (d.redaction - 1, d.redaction + 1):
            if level in set(Redaction):
                other = Redaction(level)
                yield f"redact={d.redaction.word} made {other.word}", replace(d, redaction=other)
    if d.approval:
        yield "approval dropped", replace(d, approval=False)
    if d.warrant:
        yield "warrant dropped", replace(d, warrant=False)
