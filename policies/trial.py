"""Rows of a decision table decided by rules alone, so quickly that every mutant of a policy can be tried on them.

Says what `run_table` says, row for row: tests hold the two together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from comity.decision import NO_OBLIGATIONS, Layer, Pep
from comity.purpose import Authority
from policies.conditions import Facts, Truth
from policies.load import ANY_ACT, Rule
from policies.mutants import Mutant
from policies.parties import Party
from policies.request import Question
from policies.retention import DAY_S, retention_s
from policies.setting import Setting
from policies.sides import UNPOSTED, Stated
from policies.table import Row, asked
from policies.vocabulary import Vocabulary, node_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a row can see of a decision. `days`: searchable, 0 for a refusal."""

    outcome: str
    rules: frozenset[str]
    days: int
    redaction: str

    def meets(self, row: Row) -> bool:
        """Whether the row holds."""
        window = row.window_days
        return (
            self.outcome == row.cells["expect"]
            and all((rule in self.rules) is wanted for rule, wanted in row.rules)
            and (window is None or (self.days == window if row.exact else self.days <= window))
            and row.redact in (None, self.redaction)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """One party before one layer: what of the row its rules are matched with."""

    layer: int
    words: Vocabulary
    columns: tuple[str, str, str, str, str]  # node, who, role, purpose, act
    facts: Facts
    matched: tuple[Rule, ...]

    def applies(self, rule: Rule) -> bool:
        """Whether the rule matches; as at the broker, not if that rests on what only the node knows."""
        node, who, role, purpose, act = self.columns
        _, at, named, position, reason, kind = rule.cells[:6]
        return (
            named in self.words.who.above[who]
            and reason in self.words.purpose.above[purpose]
            and at in self.words.node.above[node]
            and position in self.words.role.above[role]
            and kind in (ANY_ACT, act)
            and rule.condition.holds(self.facts) is Truth.TRUE
        )


class Trial:
    """One row under its setting, with the rules that match it as they stand."""

    def __init__(self, row: Row, setting: Setting, today: dt.date) -> None:
        self.row = row
        self.question: Question = asked(row, today)
        then = setting.at(self.question.day or today)
        node = row.cells["node"]
        registered = self._registered(setting, node)
        self.node = node
        self.layers = (
            Stated.of(Layer.FEDERATION, then.federation_policy),
            Stated.of(Layer.NODE, then.node_policies.get(node)),
        )
        self._asking = self._all(setting) if registered and self.question.act is not None else ()
        at = setting.federation.nodes.get(node)
        self._kept = retention_s(at.retention_s, at.presets) // DAY_S if at else 0
        self._void = not registered

    @property
    def pep(self) -> Pep:
        """Which enforcement point the row speaks of."""
        return Pep.BROKER if self.question.node_facts is None else Pep.NODE

    def seen(self, mutant: Mutant | None = None, layers: Sequence[int] = ()) -> Seen:
        """What comes out, with the mutant in place of its row in these layers."""
        if self._void:
            return Seen(outcome="deny", rules=frozenset({"FED-5"}), days=0, redaction="full")
        rules: set[str] = set()
        denied, allowed = bool(self.question.doubts) or not self._asking, True
        duties = NO_OBLIGATIONS
        for asking in self._asking:
            matched = asking.matched
            if mutant is not None and asking.layer in layers:
                stands = any(r.row == mutant.row for r in self.layers[asking.layer].rules or ())
                matched = tuple(r for r in matched if r.row != mutant.row)
                if stands and mutant.rule is not None and asking.applies(mutant.rule):
                    matched = (*matched, mutant.rule)
            rules |= {r.id for r in matched}
            denied = denied or any(r.effect == "deny" for r in matched)
            allowed = allowed and any(r.effect == "allow" for r in matched)
            for rule in matched:
                duties = duties.join(rule.duties)
        published = all(stated.rules is not None for stated in self.layers)
        if duties.warrant and self.question.authority is not Authority.JUDICIAL_WARRANT:
            denied = True
        if denied or not allowed or not published:
            return Seen(outcome="deny", rules=frozenset(rules), days=0, redaction="full")
        window = self._kept if duties.window_days is None else duties.window_days
        return Seen(
            outcome="permit" if self.question.approved or not duties.approval else "pending",
            rules=frozenset(rules),
            days=min(self.question.lookback_days or 0, self._kept, window),
            redaction=duties.redaction.word,
        )

    def _registered(self, setting: Setting, node: str) -> bool:
        q, words = self.question, setting.vocabulary
        return (
            words.who.names(q.requester_agency)
            and words.who.names(q.beneficiary)
            and words.role.names(q.role)
            and words.purpose.names(q.purpose)
            and words.node.names(node_word(node))
        )

    def _all(self, setting: Setting) -> tuple[_Asking, ...]:
        q, federation = self.question, setting.federation
        states: Mapping[str, str] = {a.id: a.state for a in federation.agencies.values()}
        owner = federation.nodes[self.node].agency
        out = []
        for number, agency in enumerate(dict.fromkeys((q.requester_agency, q.beneficiary))):
            party = Party(q, federation.agencies[agency], federation, states, on_behalf=number > 0)
            for layer, stated in enumerate(self.layers):
                facts = party.facts(owner)
                if stated.unposted(q.purpose):
                    facts = replace(facts, true=facts.true | {UNPOSTED})
                columns = (node_word(self.node), agency, q.role, q.purpose, str(q.act))
                asking = _Asking(layer=layer, words=setting.vocabulary, columns=columns, facts=facts, matched=())
                if stated.rules is not None:
                    out.append(replace(asking, matched=tuple(r for r in stated.rules if asking.applies(r))))
        return tuple(out)
