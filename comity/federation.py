"""Who belongs to a federation, where its nodes are and which words its policies may use."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from comity.errors import InvalidInput, Violation

KINDS = ("federal", "state", "county", "municipal", "tribal", "private")
SOURCES = ("police", "toll", "commercial")
TRAINING = ("training", "partial-plates")
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
JURISDICTION = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*){0,6}\Z")
PERSON = re.compile(r"spiffe://([a-z0-9][a-z0-9-]{0,62})/person/[a-z0-9][a-z0-9-]{0,62}\Z")
MAX_WITNESSES = 16  # a note with more than 100 signatures is refused by other implementations
MAX_DEPTH = 8  # Casbin stops following roles, silently, after ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Agency:
    """`kind` is one of KINDS; `does` says what it is for policy groups; `jurisdiction` is empty for federal ones.

    `policy_signatures`: how many of the agency's policy keys must have signed a bundle, 1 or 2.
    """

    id: str
    name: str
    kind: str
    jurisdiction: str
    does: frozenset[str]
    tags: frozenset[str]
    policy_signatures: int = 1

    @property
    def state(self) -> str:
        """`us/ca` of `us/ca/alder/port-alder`; empty for an agency of no state."""
        return state_of(self.jurisdiction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where an agency's detections live. `retention_s`: older ones are never returned. `presets`: policy packs.

    `policy_minimum`: bundles of a lower version are revoked.
    """

    id: str
    agency: str
    source: str
    retention_s: int
    cameras: int
    presets: tuple[str, ...]
    policy_minimum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A signed paper on file, such as a declaration `from_agency` gave `to_agency`; void on and after `expires`."""

    kind: str
    from_agency: str
    to_agency: str
    expires: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What `agency` vouches for of one `person` (a SPIFFE ID), or, where that is empty, of all its staff.

    `kind`: `training` is the course that licence-plate searches ask for, `partial-plates` that they were selected
    for searches by part of a plate. Void on and after `until`.
    """

    kind: str
    agency: str
    person: str
    until: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The registry. `purposes`, `roles` and `jurisdictions` map each name to its parent, the top one to ''."""

    id: str
    presets: tuple[str, ...]
    witnesses: tuple[str, ...]
    quorum: int
    purposes: Mapping[str, str]
    roles: Mapping[str, str]
    jurisdictions: Mapping[str, str]
    agencies: Mapping[str, Agency]
    nodes: Mapping[str, Node]
    agreements: tuple[Agreement, ...]
    training: tuple[Training, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Federation:
        """The registry in `data`, shaped as the tables of `directory.toml`.

        Raises:
            InvalidInput: naming every bad field: an unknown key or kind, a bad identifier, a name used without
                being registered, a cycle or a tree deeper than 8.
        """
        return _Reader(data).federation()

    def agency_of(self, node_id: str) -> Agency:
        """The agency that hosts the node.

        Raises:
            KeyError: no such node.
        """
        return self.agencies[self.nodes[node_id].agency]


def state_of(jurisdiction: str) -> str:
    """The first two parts of a jurisdiction's path, or '' if it has fewer."""
    parts = jurisdiction.split("/")
    return "/".join(parts[:2]) if len(parts) >= 2 else ""


class _Reader:
    """Reads once and collects every violation."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.bad: list[Violation] = []

    def federation(self) -> Federation:
        data = self.data
        known = {"federation", "purposes", "roles", "jurisdictions", "agency", "node", "agreement", "training"}
        for key in sorted(set(data) - known):
            self.no(key, "unknown table")
        head = self.table("federation", data.get("federation"), {"id", "presets", "witnesses", "quorum"})
        jurisdictions = self.tree("jurisdictions", JURISDICTION)
        out = Federation(
            id=self.identifier("federation.id", head.get("id")),
            presets=self.strings("federation.presets", head.get("presets", ())),
            witnesses=self.strings("federation.witnesses", head.get("witnesses", ())),
            quorum=self.whole("federation.quorum", head.get("quorum", 0), 0, 16),
            purposes=self.tree("purposes", IDENTIFIER),
            roles=self.tree("roles", IDENTIFIER),
            jurisdictions=jurisdictions,
            agencies=MappingProxyType(
                {a.id: a for a in (self.agency(i, t, jurisdictions) for i, t in self.rows("agency"))}
            ),
            nodes=MappingProxyType({n.id: n for n in (self.node(i, t) for i, t in self.rows("node"))}),
            agreements=tuple(self.agreement(i, t) for i, t in self.rows("agreement")),
            training=tuple(self.training(i, t) for i, t in self.rows("training")),
        )
        self.cross_check(out)
        if self.bad:
            raise InvalidInput("not a valid directory", violations=self.bad, reason="BAD_DIRECTORY")
        return out

    def no(self, field: str, description: str) -> None:
        self.bad.append(Violation(field, description))

    def table(self, field: str, value: Any, keys: set[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.no(field, "must be a table")
            return {}
        for key in sorted(set(value) - keys):
            self.no(f"{field}.{key}", "unknown key")
        return value

    def rows(self, name: str) -> Sequence[tuple[str, Any]]:
        value = self.data.get(name, [])
        if not isinstance(value, list):
            self.no(name, "must be a list of tables")
            return ()
        return [(f"{name}[{i}]", t) for i, t in enumerate(value)]

    def identifier(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not IDENTIFIER.match(value):
            self.no(field, "must be small letters, digits and hyphens, at most 63")
            return ""
        return value

    def one_of(self, field: str, value: Any, words: Sequence[str]) -> str:
        if not isinstance(value, str) or value not in words:
            self.no(field, f"must be one of {', '.join(words)}")
            return ""
        return value

    def strings(self, field: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and IDENTIFIER.match(v) for v in value):
            self.no(field, "must be a list of identifiers")
            return ()
        return tuple(value)

    def whole(self, field: str, value: Any, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            self.no(field, f"must be a whole number from {least} to {most}")
            return least
        return value

    def tree(self, name: str, pattern: re.Pattern[str]) -> Mapping[str, str]:
        value = self.data.get(name)
        if not isinstance(value, Mapping) or not value:
            self.no(name, "must be a table of names and parents")
            return MappingProxyType({})
        out: dict[str, str] = {}
        for child, parent in value.items():
            if not pattern.match(child) or not isinstance(parent, str):
                self.no(f"{name}.{child}", "must be an identifier with its parent as text")
            elif parent and parent not in value:
                self.no(f"{name}.{child}", f"parent {parent!r} is not registered")
            else:
                out[child] = parent
        for start in out:
            steps, at = 0, start
            while at and steps <= MAX_DEPTH:
                at, steps = out.get(at, ""), steps + 1
            if steps > MAX_DEPTH:
                self.no(f"{name}.{start}", f"lies in a cycle or deeper than {MAX_DEPTH}")
        return MappingProxyType(out)

    def agency(self, field: str, raw: Any, jurisdictions: Mapping[str, str]) -> Agency:
        t = self.table(field, raw, {"id", "name", "kind", "jurisdiction", "does", "tags", "policy_signatures"})
        jurisdiction = t.get("jurisdiction", "")
        if not isinstance(jurisdiction, str) or (jurisdiction and jurisdiction not in jurisdictions):
            self.no(f"{field}.jurisdiction", "is not registered")
        name = t.get("name", "")
        if not isinstance(name, str) or not 0 < len(name) <= 120 or not name.isprintable():
            self.no(f"{field}.name", "must be 1 to 120 printable characters")
        return Agency(
            id=self.identifier(f"{field}.id", t.get("id")),
            name=str(name),
            kind=self.one_of(f"{field}.kind", t.get("kind"), KINDS),
            jurisdiction=str(jurisdiction),
            does=frozenset(self.strings(f"{field}.does", t.get("does", ()))),
            tags=frozenset(self.strings(f"{field}.tags", t.get("tags", ()))),
            policy_signatures=self.whole(f"{field}.policy_signatures", t.get("policy_signatures", 1), 1, 2),
        )

    def node(self, field: str, raw: Any) -> Node:
        keys = {"id", "agency", "source", "retention_s", "cameras", "presets", "policy_minimum"}
        t = self.table(field, raw, keys)
        return Node(
            id=self.identifier(f"{field}.id", t.get("id")),
            agency=self.identifier(f"{field}.agency", t.get("agency")),
            source=self.one_of(f"{field}.source", t.get("source"), SOURCES),
            retention_s=self.whole(f"{field}.retention_s", t.get("retention_s"), 1, 100 * 366 * 86400),
            cameras=self.whole(f"{field}.cameras", t.get("cameras", 0), 0, 1_000_000),
            presets=self.strings(f"{field}.presets", t.get("presets", ())),
            policy_minimum=self.whole(f"{field}.policy_minimum", t.get("policy_minimum", 0), 0, 2**53 - 1),
        )

    def agreement(self, field: str, raw: Any) -> Agreement:
        t = self.table(field, raw, {"kind", "from", "to", "expires"})
        return Agreement(
            kind=self.identifier(f"{field}.kind", t.get("kind")),
            from_agency=self.identifier(f"{field}.from", t.get("from")),
            to_agency=self.identifier(f"{field}.to", t.get("to")),
            expires=self.date(f"{field}.expires", t.get("expires")),
        )

    def training(self, field: str, raw: Any) -> Training:
        t = self.table(field, raw, {"kind", "person", "agency", "until"})
        person, agency = t.get("person", ""), t.get("agency", "")
        found = PERSON.match(person) if isinstance(person, str) else None
        if ("person" in t) == ("agency" in t):
            self.no(field, "must name a person or an agency, not both")
        elif "person" in t and found is None:
            self.no(f"{field}.person", "must be a person's SPIFFE ID")
        return Training(
            kind=self.one_of(f"{field}.kind", t.get("kind", "training"), TRAINING),
            agency=found[1] if found else str(agency),
            person=found[0] if found else "",
            until=self.date(f"{field}.until", t.get("until")),
        )

    def date(self, field: str, value: Any) -> dt.date:
        if isinstance(value, str):  # JSON has no dates
            try:
                value = dt.date.fromisoformat(value)
            except ValueError:
                value = None
        if type(value) is not dt.date:
            self.no(field, "must be a date")
            return dt.date.min
        return value

    def cross_check(self, f: Federation) -> None:
        for table, names in (("agency", f.agencies), ("node", f.nodes)):
            if len(names) != len(self.rows(table)):
                self.no(table, "an id stands twice")
        for node in f.nodes.values():
            if node.agency not in f.agencies:
                self.no(f"node {node.id}", "its agency is not registered")
        for w in f.witnesses:
            if w not in f.nodes:
                self.no("federation.witnesses", f"{w} is no node")
        if len(f.witnesses) > MAX_WITNESSES or len(set(f.witnesses)) != len(f.witnesses):
            self.no("federation.witnesses", f"must be at most {MAX_WITNESSES}, each once")
        if f.quorum > len(f.witnesses):
            self.no("federation.quorum", "must not be more than there are witnesses")
        for a in f.agreements:
            if a.from_agency not in f.agencies or a.to_agency not in f.agencies:
                self.no("agreement", "names an agency that is not registered")
        for t in f.training:
            if t.agency not in f.agencies:
                self.no("training", "names an agency that is not registered")
