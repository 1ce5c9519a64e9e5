"""A request without its node, so that what nodes and policies have in common is worked out once."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from comity.errors import PolicyError
from comity.purpose import Act
from policies.conditions import Condition, Facts, Truth
from policies.vocabulary import Vocabulary

UNPOSTED = "unposted-purpose"


class Term:
    """One condition, compared by identity, so that its truth is looked up without comparing sets of words."""

    __slots__ = ("condition",)

    def __init__(self, condition: Condition) -> None:
        self.condition = condition


@lru_cache(maxsize=8192)
def term_of(condition: Condition) -> Term:
    """The term for `condition`; policies that state the same condition share it while it is remembered."""
    return Term(condition)


class Wanted:
    """Who wants what, and what is true of them. Compared by identity: equal ones may be two objects, never the
    other way round.
    """

    __slots__ = ("_truths", "_unposted", "act", "facts", "purpose", "role", "who")

    def __init__(self, who: str, role: str, purpose: str, act: Act, facts: Facts) -> None:
        self.who, self.role, self.purpose, self.act, self.facts = who, role, purpose, act, facts
        # a term is held here, so its identity cannot become another's
        self._truths: dict[Term, Truth] = {}
        self._unposted: Wanted | None = None

    def truth(self, term: Term) -> Truth:
        """Whether the condition holds; worked out once."""
        known = self._truths.get(term)
        if known is None:
            known = self._truths[term] = term.condition.holds(self.facts)
        return known

    def unposted(self) -> Wanted:
        """The same towards a node whose usage policy does not list the purpose."""
        if self._unposted is None:
            facts = replace(self.facts, true=self.facts.true | {UNPOSTED})
            self._unposted = Wanted(self.who, self.role, self.purpose, self.act, facts)
        return self._unposted

    def check(self, words: Vocabulary) -> None:
        """Return if every word is a registered leaf and the facts are facts.

        Raises:
            PolicyError: with reason NOT_REGISTERED.
        """
        if not (words.who.names(self.who) and words.role.names(self.role) and words.purpose.names(self.purpose)):
            raise PolicyError("agency, role or purpose is not registered", reason="NOT_REGISTERED")
        if type(self.facts) is not Facts or type(self.act) is not Act:
            raise PolicyError("the kind of search is not registered, or facts are missing", reason="NOT_REGISTERED")
