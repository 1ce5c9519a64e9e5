"""What is known about the rules of a pack: where each comes from, whether it is law now, and from when to when.

It stands beside `<pack>.csv` as `<pack>.meta.toml`, under a seal of its own. A sidecar and not further columns: the
columns are the engine's model, whose rows are digested, signed in bundles and pointed at by line and column, while
this describes whole rules, parts included, and rows of law that no decision rests on.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from comity.errors import PolicyError
from policies.load import RULE_ID
from policies.seal import unseal

# passed: enacted, but its signature or commencement was not found. own-policy: no law, the adopting agency's choice.
STATUSES = ("in-force", "contested", "passed", "proposed", "vetoed", "own-policy")
NOT_LAW = frozenset({"proposed", "vetoed"})
# how far somebody has checked: the text itself was read, only a report of it, or neither
CHECKED = ("text", "report", "memory", "derived", "own-policy")
PROPOSED = "-proposed"
MAX_TEXT = 400
_RULE_KEYS = {"citation", "status", "checked"}
_RULE_OPTIONAL = {"from", "until", "note"}
_ELSEWHERE_KEYS = {"citation", "status", "checked", "met"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleMeta:
    """One rule, its parts included: in force from `from_date` up to, not at, `until`; None is without end."""

    citation: str
    status: str
    checked: str
    from_date: dt.date | None = None
    until: dt.date | None = None
    note: str = ""

    def in_force(self, on: dt.date) -> bool:
        """Whether its dates take in that day."""
        return (self.from_date is None or self.from_date <= on) and (self.until is None or on < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A row of law that no decision rests on, and what meets it instead."""

    citation: str
    status: str
    checked: str
    met: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """All about one pack. `retention_s`: seconds after which a detection must be gone, None without such a rule.

    `usage_policy`: a node that follows the pack must post a usage policy before it is active.
    """

    title: str
    rules: Mapping[str, RuleMeta]
    elsewhere: Mapping[str, Elsewhere]
    retention_s: int | None = None
    usage_policy: bool = False

    @classmethod
    def parse(cls, text: str, pack: str, bases: Mapping[str, str]) -> Metadata:
        """The metadata in a sealed text for the pack whose rules (ids, without their parts) have these `bases`.

        Raises:
            PolicyError: not sealed or no TOML, a key missing or unknown, a rule without metadata or metadata without
                a rule, a citation that the rule's basis does not begin with, dates that never meet, or a rule that is
                not law in a pack whose name does not say so.
        """
        return _Reader(text, pack).metadata(bases)

    def changes(self) -> frozenset[dt.date]:
        """Every day on which a rule begins or ceases to hold."""
        return frozenset(d for r in self.rules.values() for d in (r.from_date, r.until) if d is not None)

    def not_law(self) -> Mapping[str, str]:
        """Each rule that is proposed or vetoed, with that word."""
        return {rule: m.status for rule, m in self.rules.items() if m.status in NOT_LAW}


class _Reader:
    """Reads one sidecar and stops at the first fault."""

    def __init__(self, text: str, pack: str) -> None:
        self.pack = pack
        self.file = f"{pack}.meta.toml"
        try:
            self.data = tomllib.loads(unseal(text, self.file))
        except tomllib.TOMLDecodeError as e:
            raise self.refused(f"is not TOML: {e}") from e

    def metadata(self, bases: Mapping[str, str]) -> Metadata:
        self.keys("the file", self.data, {"title", "rules"}, {"elsewhere", "retention", "usage_policy"})
        rules = {rule: self.rule(rule, raw) for rule, raw in self.table("rules").items()}
        elsewhere = {row: self.other(row, raw) for row, raw in self.table("elsewhere").items()}
        self.cover(rules, bases)
        for row in elsewhere.keys() & rules.keys():
            raise self.refused(f"{row} is a rule, so it is not met elsewhere")
        usage = self.data.get("usage_policy", False)
        if type(usage) is not bool:
            raise self.refused("usage_policy must be true or false")
        return Metadata(
            title=self.text("title", self.data["title"]),
            rules=MappingProxyType(rules),
            elsewhere=MappingProxyType(elsewhere),
            retention_s=self.retention({*rules, *elsewhere}),
            usage_policy=usage,
        )

    def rule(self, rule: str, raw: Any) -> RuleMeta:
        self.keys(rule, raw, _RULE_KEYS, _RULE_OPTIONAL)
        out = RuleMeta(
            citation=self.text(f"{rule}.citation", raw["citation"]),
            status=self.one_of(f"{rule}.status", raw["status"], STATUSES),
            checked=self.one_of(f"{rule}.checked", raw["checked"], CHECKED),
            from_date=self.date(f"{rule}.from", raw.get("from")),
            until=self.date(f"{rule}.until", raw.get("until")),
            note=self.text(f"{rule}.note", raw["note"]) if "note" in raw else "",
        )
        if out.from_date is not None and out.until is not None and out.from_date >= out.until:
            raise self.refused(f"{rule}: until must be later than from")
        if (out.status in NOT_LAW) != self.pack.endswith(PROPOSED):
            raise self.refused(
                f"{rule} is {out.status}; rules that are proposed or vetoed, and they alone, are in packs named"
                f" ...{PROPOSED}, so that nobody follows one unawares"
            )
        return out

    def other(self, row: str, raw: Any) -> Elsewhere:
        self.keys(row, raw, _ELSEWHERE_KEYS, set())
        if not RULE_ID.match(row):
            raise self.refused(f"{row!r} must be an id such as CA-3")
        return Elsewhere(
            citation=self.text(f"{row}.citation", raw["citation"]),
            status=self.one_of(f"{row}.status", raw["status"], STATUSES),
            checked=self.one_of(f"{row}.checked", raw["checked"], CHECKED),
            met=self.text(f"{row}.met", raw["met"]),
        )

    def retention(self, rows: Iterable[str]) -> int | None:
        if "retention" not in self.data:
            return None
        raw = self.data["retention"]
        self.keys("retention", raw, {"seconds", "row"}, set())
        if type(raw["seconds"]) is not int or not 1 <= raw["seconds"] <= 100 * 366 * 86_400:
            raise self.refused("retention.seconds must be a whole number from 1")
        if raw["row"] not in rows:
            raise self.refused("retention.row must be a rule, or a row met elsewhere, of this file")
        return int(raw["seconds"])

    def cover(self, rules: Mapping[str, RuleMeta], bases: Mapping[str, str]) -> None:
        for rule in bases.keys() - rules.keys():
            raise self.refused(f"says nothing about {rule}")
        for rule in rules.keys() - bases.keys():
            raise self.refused(f"describes {rule}, which {self.pack}.csv does not have")
        for rule, meta in rules.items():
            if not bases[rule].startswith(meta.citation):
                raise self.refused(f"{rule}: its basis in {self.pack}.csv does not begin with this citation")

    def table(self, name: str) -> Mapping[str, Any]:
        value = self.data.get(name, {})
        if not isinstance(value, Mapping):
            raise self.refused(f"{name} must be a table")
        return value

    def keys(self, what: str, raw: Any, needed: set[str], optional: set[str]) -> None:
        if not isinstance(raw, Mapping):
            raise self.refused(f"{what} must be a table")
        odd = sorted(needed - raw.keys()) or sorted(raw.keys() - needed - optional)
        if odd:
            raise self.refused(f"{what}: {odd[0]!r} is {'missing' if odd[0] in needed else 'unknown'}")

    def text(self, what: str, value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
            raise self.refused(f"{what} must be 1 to {MAX_TEXT} printable characters")
        return value

    def one_of(self, what: str, value: Any, words: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in words:
            raise self.refused(f"{what} must be one of {', '.join(words)}")
        return value

    def date(self, what: str, value: Any) -> dt.date | None:
        if value is not None and type(value) is not dt.date:
            raise self.refused(f"{what} must be a date such as 2026-01-31")
        return value

    def refused(self, message: str) -> PolicyError:
        return PolicyError(message, file=self.file)
