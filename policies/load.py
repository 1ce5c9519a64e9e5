"""The strict loader: every line of a policy text is understood in full, or the text is refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from comity.decision import Obligations
from comity.errors import PolicyError
from comity.purpose import Act
from policies.conditions import NODE_FACTS, Condition
from policies.duties import ADVICE, parse_duties
from policies.seal import HEADER, unseal
from policies.vocabulary import Dimension, Vocabulary

COLUMNS = tuple(HEADER.split(","))
EFFECTS = ("allow", "deny", "limit")
ANY_ACT = "any-act"
ACTS = (ANY_ACT, *(act.value for act in Act))
MAX_ROWS = 10_000
MAX_LINE = 600
RULE_ID = re.compile(r"[A-Z][A-Z0-9]{0,15}(-[A-Z0-9]{1,8}){1,4}\Z")
# What is written where nothing is meant.
_LEAST = {
    "rule": "an id such as SC-1",
    "node": "any-node, or which",
    "who": "any-agency, or who",
    "role": "any-role, or which",
    "purpose": "any-purpose, or which",
    "act": "any-act, or which",
    "eft": f"one of {', '.join(EFFECTS)}",
    "when": "always, or when",
    "duty": "- for none",
    "basis": "the law or decision that the rule rests on",
}
_PART = re.compile(r"[a-z0-9]{1,16}\Z")
RESERVED = frozenset({"FED-5"})  # the engine's own: whatever is named must be registered


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row, parsed. `cells` are its columns as text, `id` the rule without its part: FED-7 of FED-7.a."""

    cells: tuple[str, ...]
    id: str
    effect: str
    condition: Condition
    duties: Obligations
    basis: str

    @property
    def row(self) -> str:
        """The row's own name, part included."""
        return self.cells[0]

    @property
    def is_advice(self) -> bool:
        """Whether it binds nothing, and is there to be shown."""
        return self.cells[COLUMNS.index("duty")] == ADVICE


@dataclass(frozen=True, slots=True)
class _Line:
    """A row with its place, for messages."""

    file: str
    number: int
    cells: tuple[str, ...]

    def refused(self, message: str, column: str | None = None) -> PolicyError:
        """The error, pointing at the first character of `column`."""
        at = 0
        if column is not None:
            at = 1 + sum(len(c) + 1 for c in self.cells[: COLUMNS.index(column)])
        return PolicyError(f"{column}: {message}" if column else message, file=self.file, line=self.number, column=at)

    def cell(self, column: str) -> str:
        """The text under `column`."""
        return self.cells[COLUMNS.index(column)]


def load(text: str, vocabulary: Vocabulary, file: str = "") -> tuple[Rule, ...]:
    """The rules of a sealed text, sorted by their rows' names, so that the order of rows means nothing.

    Raises:
        PolicyError: with file, line, column and what would be right, for the first fault: not sealed, a character
            or line that is not of the format, a word that is not registered, an unknown condition or duty, a row
            that stands twice, `unless` on an allow, a duty on a deny, or no rule at all.
    """
    body = unseal(text, file)
    rules: dict[str, Rule] = {}
    for line in _lines(body, file):
        rule = _rule(line, vocabulary)
        if rule.row in rules:
            raise line.refused(f"{rule.row} stands twice; right is FED-7.a, FED-7.b for parts of one rule", "rule")
        rules[rule.row] = rule
        if len(rules) > MAX_ROWS:
            raise line.refused(f"more than {MAX_ROWS} rules")
    if not rules:
        raise PolicyError("holds no rule; a policy that says nothing is refused", file=file)
    _check_parts(rules.values(), file)
    return tuple(rules[row] for row in sorted(rules))


def _lines(body: str, file: str) -> Iterator[_Line]:
    headed = False
    for number, text in enumerate(body.split("\n")[:-1], 1):
        line = _Line(file, number, tuple(text.split(",")))
        if len(text) > MAX_LINE:
            raise line.refused(f"longer than {MAX_LINE} characters; right is a shorter basis")
        if text.startswith("#end"):
            raise line.refused("a seal in the middle; right is one, as the last line")
        if text.startswith("#"):
            continue
        if not headed:
            if text != HEADER:
                raise line.refused(f"is not the header; right is {HEADER}")
            headed = True
            continue
        _check_cells(line, text)
        yield line
    if not headed:
        raise PolicyError(f"has no header; right is {HEADER}", file=file, line=1)


def _check_cells(line: _Line, text: str) -> None:
    if not text:
        raise line.refused("an empty line; right is a rule or a line that begins with #")
    if "#" in text:
        raise PolicyError(
            "a comment inside a row; right is a line of its own that begins with #",
            file=line.file,
            line=line.number,
            column=text.index("#") + 1,
        )
    if len(line.cells) != len(COLUMNS):
        raise line.refused(f"has {len(line.cells)} cells; right is {len(COLUMNS)}: {HEADER}")
    for column, cell in zip(COLUMNS, line.cells, strict=True):
        if cell != cell.strip():
            raise line.refused("blanks around the value; right is none", column)
        if not cell:
            raise line.refused(f"is empty; right is {_LEAST[column]}", column)


def _rule(line: _Line, words: Vocabulary) -> Rule:
    rule, dot, part = line.cell("rule").partition(".")
    if not RULE_ID.match(rule) or (dot and not _PART.match(part)):
        raise line.refused("right is an id such as SC-1, or FED-7.a for a part of one", "rule")
    if rule in RESERVED:
        raise line.refused(f"{rule} is the engine's own rule and cannot be written; right is another id", "rule")
    for column, dimension in (("node", words.node), ("who", words.who), ("role", words.role)):
        _registered(line, column, dimension)
    _registered(line, "purpose", words.purpose)
    if line.cell("act") not in ACTS:
        raise line.refused(f"right is one of {', '.join(ACTS)}", "act")
    effect = line.cell("eft")
    if effect not in EFFECTS:
        raise line.refused(f"right is one of {', '.join(EFFECTS)}", "eft")
    try:
        condition = Condition.parse(line.cell("when"))
    except ValueError as e:
        raise line.refused(str(e), "when") from e
    try:
        duties = parse_duties(line.cell("duty"))
    except ValueError as e:
        raise line.refused(str(e), "duty") from e
    _check_effect(line, effect, condition)
    return Rule(cells=line.cells, id=rule, effect=effect, condition=condition, duties=duties, basis=line.cell("basis"))


def _check_effect(line: _Line, effect: str, condition: Condition) -> None:
    if effect == "allow" and condition.bars:
        raise line.refused("`unless` on an allow row; right is a deny row with it", "when")
    if effect == "allow" and condition.needs & NODE_FACTS:
        # the broker could neither dispatch on such a row nor leave it out without guessing
        raise line.refused(
            "an allow row cannot rest on a fact that only the node has; right is a deny row with `unless`", "when"
        )
    if effect == "deny" and line.cell("duty") != "-":
        raise line.refused("a duty on a deny row; right is -", "duty")
    if effect == "limit" and line.cell("duty") == "-":
        raise line.refused("a limit row without a duty; right is a duty, or advice", "duty")


def _registered(line: _Line, column: str, dimension: Dimension) -> None:
    word = line.cell(column)
    if word in dimension.above:
        return
    near = difflib.get_close_matches(word, dimension.above, n=1)
    hint = f"did you mean {near[0]}?" if near else f"right is a registered {dimension.name} or group"
    raise line.refused(f"{word!r} is not registered; {hint}", column)


def _check_parts(rules: Iterable[Rule], file: str) -> None:
    first: dict[str, Rule] = {}
    for rule in rules:
        other = first.setdefault(rule.id, rule)
        if (other.effect, other.basis) != (rule.effect, rule.basis):
            raise PolicyError(f"the parts of {rule.id} differ in effect or basis; right is one of each", file=file)
        if other.is_advice is not rule.is_advice:
            raise PolicyError(f"one part of {rule.id} is advice and another binds; right is a rule for each", file=file)
