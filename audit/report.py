"""The public report on a log: how often it was searched, for whom and why, and how often that was refused.

Whoever holds the log can make it again, byte for byte; whoever does not can check that its counts are of all entries
between two heads of the log, and that those heads are what the signed one grew from.

What the counts are: a search is an inquiry that was not only a preview; a refusal is a node that it was refused for; an
answer a node that searched, whatever it found; a match a node that released detections.
"""

from __future__ import annotations

import base64
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.hashes import HashReader, Progress, hashes_of_log, reading
from audit.listing import decode
from audit.note import verify_checkpoint
from audit.proof import consistency_proof
from audit.stretch import entries_of
from audit.suppression import LEAST, suppress
from audit.tree import Tree
from comity import jcs
from comity.errors import InvalidInput, LogFault
from comity.federation import Federation
from comity.outcome import OutcomeKind

FORMAT = "comity-report-1"
COLUMNS = ("searches", "refusals", "answers", "matches")
RULE_COLUMNS = ("decisions", *COLUMNS[1:])  # a search meets a rule once for each node that it asks
NOT_REGISTERED = "not in the directory"
BY_KIND, BY_PURPOSE, BY_BENEFICIARY, BY_RULE = "agency_kind", "purpose", "beneficiary", "rule"
TABLES = (BY_KIND, BY_PURPOSE, BY_BENEFICIARY, BY_RULE)
_ANSWERS = (OutcomeKind.MATCH, OutcomeKind.NO_MATCH, OutcomeKind.PARTIAL_COVERAGE, OutcomeKind.WITHHELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[begin, end) by the time of entries, as entries write it; empty: from the first on, up to the head."""

    begin: str = ""
    end: str = ""

    def has(self, at: str) -> bool:
        """True if `at` lies in it."""
        return at >= self.begin and (not self.end or at < self.end)


@dataclass(slots=True)
class _Count:
    """Everything that one pass counts."""

    federation: Federation
    span: Span
    entries: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    tables: dict[str, defaultdict[str, list[int]]] = field(
        default_factory=lambda: {t: defaultdict(lambda: [0] * len(COLUMNS)) for t in TABLES}
    )
    asked: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    rules: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    begin: tuple[int, bytes] | None = None
    end: tuple[int, bytes] | None = None

    def entry(self, index: int, value: Mapping[str, Any], tree: Tree) -> None:
        """Take in entry `index`; `tree` holds those before it."""
        at = value["at"]
        if self.begin is None and at >= self.span.begin:
            self.begin = (index, tree.root())
        if self.end is None and self.span.end and at >= self.span.end:
            self.end = (index, tree.root())
        counted = self.span.has(at)
        if counted:
            self.entries[value["type"]] += 1
        match value["type"]:
            case "inquiry":
                self.inquiry(value, counted)
            case "decision" if value["inquiry_id"] in self.asked:
                self.decision(value, counted)
            case "outcome" if counted and value["inquiry_id"] in self.asked:
                self.outcome(value)

    def inquiry(self, value: Mapping[str, Any], counted: bool) -> None:
        if value["preview"]:
            self.totals["previews"] += counted
            return
        registry = self.federation
        agency, purpose = registry.agencies.get(value["requester"]["agency"]), value["purpose"]["code"]
        rows = (
            agency.kind if agency else NOT_REGISTERED,
            purpose if purpose in registry.purposes else NOT_REGISTERED,
            value["beneficiary"] if value["beneficiary"] in registry.agencies else NOT_REGISTERED,
        )
        self.asked[value["inquiry_id"]] = rows
        if counted:
            self.add("searches", rows, ())

    def decision(self, value: Mapping[str, Any], counted: bool) -> None:
        rules = tuple(dict.fromkeys(value["rules"]))
        self.rules[value["inquiry_id"], value["node"]] = rules
        if counted:
            for rule in rules:
                self.tables[BY_RULE][rule][0] += 1
            if value["effect"] == "deny":
                self.add("refusals", self.asked[value["inquiry_id"]], rules)

    def outcome(self, value: Mapping[str, Any]) -> None:
        rows = self.asked[value["inquiry_id"]]
        rules = self.rules.pop((value["inquiry_id"], value["node"]), ())
        if value["outcome"] in _ANSWERS:
            self.add("answers", rows, rules)
        if value["count"]:
            self.add("matches", rows, rules)

    def add(self, column: str, rows: tuple[str, str, str], rules: tuple[str, ...]) -> None:
        at = COLUMNS.index(column)
        self.totals[column] += 1
        for table, row in zip(TABLES, rows, strict=False):
            self.tables[table][row][at] += 1
        for rule in rules:
            self.tables[BY_RULE][rule][at] += 1


def make_report(
    log: Path,
    federation: Federation,
    *,
    span: Span,
    least: int = LEAST,
    vkey: str | None = None,
    checkpoint: bytes | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report on the entries of `span`, under `checkpoint`, else under the log's newest head.

    Raises:
        InvalidInput: `least` is below 5 (BAD_LEAST), or the span is empty (BAD_SPAN).
        LogFault: the log is not what the checkpoint signs, or an entry is malformed.
        ConfigError, Unavailable: as `audit.hashes.reading`; NO_KEY.
    """
    if least < LEAST:
        raise InvalidInput(f"counts below {LEAST} are never published", reason="BAD_LEAST")
    if span.end and span.begin >= span.end:
        raise InvalidInput("the report's end is not after its beginning", reason="BAD_SPAN")
    with reading(log) as reader:
        note = checkpoint if checkpoint is not None else reader.head()[1]
        head = verify_checkpoint(note, reader.key(vkey))
        count = _Count(federation, span)
        tree = Tree()
        for index, entry, leaf in entries_of(reader, 0, head.size, progress):
            count.entry(index, decode(index, entry), tree)
            tree.append(leaf)
        if (tree.size, tree.root()) != (head.size, head.root):
            raise LogFault("the hashes of all entries are not the root that was signed", reason="WRONG_ROOT")
        first = count.begin or (tree.size, tree.root())
        last = count.end or (tree.size, tree.root())
        proofs = _proofs(reader, head.size, (first[0], last[0]), progress)
    return {
        "format": FORMAT,
        "origin": head.origin,
        "span": dataclasses.asdict(span),
        "first": {"size": first[0], "root": first[1].hex()},
        "last": {"size": last[0], "root": last[1].hex()},
        "checkpoint": note.decode(),
        "consistency": proofs,
        "entries": dict(sorted(count.entries.items())),
        "least": least,
        "federation": federation.id,
        "totals": {name: count.totals[name] for name in (*COLUMNS, "previews")},
        "tables": {table: _published(count, table, least) for table in TABLES},
    }


def encode(report: Mapping[str, Any]) -> bytes:
    """The report's one spelling: canonical JSON, and a newline."""
    return jcs.encode(report) + b"\n"


def _published(count: _Count, table: str, least: int) -> dict[str, Any]:
    registry = count.federation
    known = {
        BY_KIND: sorted({a.kind for a in registry.agencies.values()}),
        BY_PURPOSE: sorted(set(registry.purposes) - set(registry.purposes.values())),
        BY_BENEFICIARY: sorted(registry.agencies),
        BY_RULE: [],
    }[table]
    names = dict.fromkeys([*known, *([] if table == BY_RULE else [NOT_REGISTERED]), *sorted(count.tables[table])])
    rows = {name: tuple(count.tables[table][name]) for name in names}
    shown = suppress(rows, least, totals=table != BY_RULE)
    columns = RULE_COLUMNS if table == BY_RULE else COLUMNS
    return {
        "withheld": shown.withheld,
        "rows": {name: None if c is None else dict(zip(columns, c, strict=True)) for name, c in shown.rows.items()},
    }


def _proofs(reader: HashReader, size: int, olds: tuple[int, int], progress: Progress | None) -> list[list[str]]:
    """Of each old size, that the signed tree began with it; empty where there is nothing to prove."""
    if not any(0 < old < size for old in olds):
        return [[], []]
    hashes = hashes_of_log(reader, size, progress)
    proofs = [consistency_proof(old, size, hashes.subtree) if 0 < old < size else () for old in olds]
    return [[base64.b64encode(h).decode() for h in proof] for proof in proofs]
