"""The language in which a city states what must hold, read into sets of its directory's words.

    property   = "never" "permit" scope [ condition ]
               | "always" "permit" scope [ condition ]
               | "permit" scope [ condition ] "only" condition
    scope      = { column | beneficiary | place }
    column     = [ "not-" ] ( "who:" | "party:" | "role:" | "purpose:" | "act:" ) words
    beneficiary= "for" ( words | "itself" | "another" )
    place      = "at" words
    condition  = clause { clause }
    clause     = ( "with" | "without" ) fact { "and" fact } | "within" N "days" | "beyond" N "days"
    words      = word { "," word }

A word is a registered name or group of its column: `who:federal`, `purpose:immigration`, `at us/ca`,
`at tag:sanctuary`, `at node:port-alder-1`. `party` is requester or beneficiary. A fact is one that rules may use, or
`approval`, a supervisor's signature. What is not named may be anything; only `always` without `for` speaks of searches
for oneself. "Permit" is a permit that holds now: one that still waits for a signature is none. In the condition of
`only`, `within N days` also holds where a duty clips the search to N days.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from comity.errors import InvalidInput
from comity.purpose import Act
from policies.conditions import FACTS, Condition
from policies.sides import Scope
from policies.vocabulary import Dimension, Vocabulary, node_word

APPROVAL = "approval"
FORMS = "right is 'never permit ...', 'always permit ...' or 'permit ... only with FACT'"
MAX_LENGTH = 2_000
_COLUMN = re.compile(r"(not-)?(who|party|role|purpose|act):(.+)")
_DAYS = re.compile(r"0|[1-9][0-9]{0,5}")
_WORDS_THAT_START = ("for", "at", "only", "with", "without", "within", "beyond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """A condition, and whether a supervisor's signature is there: None where that may be either."""

    condition: Condition
    approved: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """`kind`: never, always, or only. `nodes`: ids. `when`: part of what the property speaks of; `only`: of kind
    only, what every permit in it must meet.
    """

    text: str
    kind: str
    nodes: frozenset[str]
    scope: Scope
    when: Clause
    only: Clause | None

    @classmethod
    def parse(cls, text: str, words: Vocabulary) -> Property:
        """The property that `text` states in the words of a directory.

        Raises:
            InvalidInput: reason BAD_PROPERTY, with the place, the column and what would be right.
        """
        return _Reader(text, words).property()


class _Reader:
    def __init__(self, text: str, words: Vocabulary) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidInput(f"a property of more than {MAX_LENGTH} characters", reason="BAD_PROPERTY")
        self.text, self.words = text, words
        self.tokens: list[str] = text.split()
        self.at = 0
        self.nodes = words.node.leaves
        self.scope = Scope()
        self.given: set[str] = set()

    def property(self) -> Property:
        kind = self.kind()
        self.scope_terms()
        empty = Clause(condition=Condition(), approved=None)
        when, only = empty, None
        if self.at < len(self.tokens) and self.tokens[self.at] != "only":
            when = self.clause(until_only=kind == "only")
        if kind == "only":
            if self.next() != "only":
                raise self.wrong("right is `only` and a condition after what it speaks of")
            only = self.clause()
        if self.at < len(self.tokens):
            raise self.wrong("nothing may follow the condition")
        if kind == "always" and "for" not in self.given:
            self.scope = replace(self.scope, joint=False)
        scope = replace(self.scope, condition=when.condition)
        nodes = frozenset(word.removeprefix(node_word("")) for word in self.nodes)
        return Property(text=" ".join(self.tokens), kind=kind, nodes=nodes, scope=scope, when=when, only=only)

    def kind(self) -> str:
        first = self.next()
        if first == "permit":
            return "only"
        if first not in ("never", "always") or self.next() != "permit":
            raise self.wrong(FORMS, back=True)
        return first

    def scope_terms(self) -> None:
        while self.at < len(self.tokens):
            word = self.tokens[self.at]
            column = _COLUMN.fullmatch(word)
            if column:
                self.at += 1
                self.column(column[2], column[3], negated=bool(column[1]))
            elif word == "at":
                self.at += 1
                self.once("at")
                self.nodes = self.leaves("at", self.words.node, self.next())
            elif word == "for":
                self.at += 1
                self.beneficiary(self.next())
            elif word in _WORDS_THAT_START:
                return
            else:
                self.at += 1
                raise self.wrong(
                    f"{self.near(word)}; right is COLUMN:WORD with who, party, role, purpose or act,"
                    " `for`, `at`, or a condition"
                )

    def column(self, name: str, value: str, *, negated: bool) -> None:
        self.once(name)
        if name == "act":
            acts = {str(a) for a in Act}
            chosen = frozenset(value.split(","))
            for word in sorted(chosen - acts):
                raise self.wrong(f"act: {word!r} is no kind of search; right is one of {', '.join(sorted(acts))}")
            everything = frozenset(acts)
        else:
            dimension = {"role": self.words.role, "purpose": self.words.purpose}.get(name, self.words.who)
            chosen, everything = self.leaves(name, dimension, value), dimension.leaves
        chosen = everything - chosen if negated else chosen
        match name:
            case "who":
                self.scope = replace(self.scope, who=chosen)
            case "party":
                self.scope = replace(self.scope, party=chosen)
            case "role":
                self.scope = replace(self.scope, roles=chosen)
            case "purpose":
                self.scope = replace(self.scope, purposes=chosen)
            case _:
                self.scope = replace(self.scope, acts=chosen)

    def beneficiary(self, value: str) -> None:
        self.once("for")
        if value == "itself":
            self.scope = replace(self.scope, joint=False)
        elif value == "another":
            self.scope = replace(self.scope, alone=False)
        else:
            self.scope = replace(self.scope, alone=False, beneficiary=self.leaves("for", self.words.who, value))

    def leaves(self, column: str, dimension: Dimension, value: str) -> frozenset[str]:
        out: set[str] = set()
        for word in value.split(","):
            if word not in dimension.above:
                close = difflib.get_close_matches(word, dimension.above, n=1)
                hint = f"did you mean {close[0]}?" if close else f"right is a registered {dimension.name} or group"
                raise self.wrong(f"{column}: {word!r} is not registered; {hint}")
            out |= {leaf for leaf in dimension.leaves if word in dimension.above[leaf]}
        return frozenset(out)

    def clause(self, *, until_only: bool = False) -> Clause:
        needs: set[str] = set()
        bars: set[str] = set()
        days: dict[str, int] = {}
        if self.at >= len(self.tokens):
            raise self.wrong("right is `with FACT`, `without FACT`, `within N days` or `beyond N days`")
        while self.at < len(self.tokens) and not (until_only and self.tokens[self.at] == "only"):
            word = self.next()
            if word in ("with", "without"):
                self.facts(needs if word == "with" else bars)
            elif word in ("within", "beyond") and word not in days:
                days[word] = self.days()
            else:
                raise self.wrong("right is `with FACT`, `without FACT`, `within N days` or `beyond N days`, once each")
        if needs & bars:
            raise self.wrong(f"{min(needs & bars)} is asked for and ruled out")
        approved = True if APPROVAL in needs else False if APPROVAL in bars else None
        condition = Condition(
            needs=frozenset(needs - {APPROVAL}),
            bars=frozenset(bars - {APPROVAL}),
            most=days.get("within"),
            over=days.get("beyond"),
        )
        return Clause(condition=condition, approved=approved)

    def facts(self, into: set[str]) -> None:
        while True:
            fact = self.next()
            if fact not in FACTS and fact != APPROVAL:
                raise self.wrong(f"{self.near(fact)}; right is a fact of {', '.join((*FACTS, APPROVAL))}")
            into.add(fact)
            if self.at >= len(self.tokens) or self.tokens[self.at] != "and":
                return
            self.at += 1

    def days(self) -> int:
        number = self.next()
        if not _DAYS.fullmatch(number) or self.next() not in ("days", "day"):
            raise self.wrong("right is a whole number and `days`")
        return int(number)

    def once(self, name: str) -> None:
        if name in self.given:
            raise self.wrong(f"{name} stands twice; several words are joined by commas")
        self.given.add(name)

    def near(self, found: str) -> str:
        known: Sequence[str] = (*_WORDS_THAT_START, "who:", "party:", "role:", "purpose:", "act:", *FACTS, APPROVAL)
        close = difflib.get_close_matches(found.split(":")[0] + (":" if ":" in found else ""), known, n=1)
        return f"{found!r} is not understood" + (f", did you mean {close[0]}?" if close else "")

    def next(self) -> str:
        if self.at >= len(self.tokens):
            raise self.wrong(f"ends too early; {FORMS}" if self.at == 0 else "ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def wrong(self, message: str, *, back: bool = False) -> InvalidInput:
        at = 1 if back else max(self.at, 1)
        return InvalidInput(f"property, word {at}: {message}", reason="BAD_PROPERTY")
