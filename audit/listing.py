"""The log as an auditor reads it: one row for each decision, joined with what was asked and what came of it.

Nothing is verified here beyond each entry's form; `audit.verify` does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from audit import form
from audit.read import LogReader
from comity.errors import LogFault

UNDECIDED = "no decision recorded"
_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What rows are wanted; an empty field wants all. `since` and `until` are entry times, [since, until).

    `decision` is permit, deny or pending; `rule` an id with or without its layer.
    """

    agency: str = ""
    person: str = ""
    beneficiary: str = ""
    purpose: str = ""
    node: str = ""
    decision: str = ""
    rule: str = ""
    since: str = ""
    until: str = ""

    @property
    def of_searches(self) -> bool:
        """True if only rows of searches can be wanted."""
        return any((self.agency, self.person, self.beneficiary, self.purpose, self.node, self.decision, self.rule))

    def wants(self, row: Row) -> bool:
        """True if the row is wanted; the time is looked at too."""
        pairs = (
            (self.agency, row.agency),
            (self.person, row.person),
            (self.beneficiary, row.beneficiary),
            (self.purpose, row.purpose),
            (self.node, row.node),
            (self.decision, row.decision),
        )
        if any(wanted and wanted != is_there for wanted, is_there in pairs):
            return False
        if self.rule and not any(self.rule in (rule, rule.partition(":")[2]) for rule in row.rules):
            return False
        return (row.at >= self.since) and (not self.until or row.at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One decision of a search (`type` search), or one entry of another type, with what it says in `note`.

    `outcome` is empty while none is recorded, which says nothing about what was found.
    """

    index: int
    at: str
    type: str
    inquiry_id: str = ""
    agency: str = ""
    person: str = ""
    role: str = ""
    beneficiary: str = ""
    purpose: str = ""
    act: str = ""
    preview: bool = False
    node: str = ""
    decision: str = ""
    rules: tuple[str, ...] = ()
    reason_code: str = ""
    outcome: str = ""
    count: int = 0
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "rules": list(self.rules)}


def decode(index: int, entry: bytes) -> dict[str, Any]:
    """The entry's value, in its type's form.

    Raises:
        LogFault: it is not (BAD_FORM).
    """
    try:
        value = orjson.loads(entry)
    except (ValueError, TypeError):
        value = None
    if form.entry_fault(value) is not None or not isinstance(value, dict):
        raise LogFault(f"entry {index} is not in the form of its type: verify the log", index=index, reason="BAD_FORM")
    return value


def newest(reader: LogReader, wanted: Filter, limit: int, *, before: int = 2**62) -> list[Row]:
    """The newest `limit` rows that are wanted, of entries below `before`, oldest of them first.

    Reads no further back than it must, and from the log's end on, since outcomes come after their decisions.

    Raises:
        LogFault: an entry is malformed, or the file damaged.
    """
    found: list[Row] = []
    with reader.snapshot():
        for row in _rows(reader, wanted.since):
            if row.index < before and not (wanted.of_searches and row.type != "search") and wanted.wants(row):
                found.append(row)
                if len(found) >= limit:
                    break
    return found[::-1]


def of_inquiry(reader: LogReader, inquiry_id: str) -> Iterator[tuple[int, bytes]]:
    """Every (index, entry) that speaks of the inquiry, oldest first; none if it was not recorded.

    Raises:
        LogFault: an entry is malformed, or the file damaged.
    """
    first, needle = reader.find_inquiry(inquiry_id), inquiry_id.encode()
    if first is None:
        return
    for index, entry in reader.forwards(first):
        if needle in entry and decode(index, entry).get("inquiry_id") == inquiry_id:
            yield index, entry


def row_of(reader: LogReader, index: int, inquiry: int | None, outcome: int | None) -> Row:
    """The row of entry `index`, read from the log: its inquiry's and its outcome's entries stand at those indexes.

    Raises:
        LogFault: an entry there is malformed, or not what was said to stand there (BAD_INDEX).
    """
    value = decode(index, reader.entry(index))
    if value["type"] == "inquiry":
        return Row(index=index, at=value["at"], type="search", **_asked(value), note=UNDECIDED)
    if value["type"] != "decision":
        return _other(index, value)
    asked = {} if inquiry is None else decode(inquiry, reader.entry(inquiry))
    came = None if outcome is None else decode(outcome, reader.entry(outcome))
    of_it = (value["inquiry_id"], value["node"])
    fits = not asked or (asked["type"], asked.get("inquiry_id")) == ("inquiry", value["inquiry_id"])
    if not fits or (came and (came["type"], came.get("inquiry_id"), came.get("node")) != ("outcome", *of_it)):
        raise LogFault(f"what belongs to entry {index} is not where it was", index=index, reason="BAD_INDEX")
    return _decided(index, value, asked, came)


def is_pending(decision: Mapping[str, Any]) -> bool:
    """True if a permit waits for a supervisor's approval."""
    return decision["effect"] == "permit" and "approval" in decision["obligations"] and not decision["approved"]


def _rows(reader: LogReader, since: str) -> Iterator[Row]:
    """Every row, newest first, as far back as `since`. An outcome is met before its decision."""
    outcomes: dict[tuple[str, str], Mapping[str, Any]] = {}
    undecided_after: set[str] = set()
    inquiries: dict[str, Mapping[str, Any]] = {}
    for index, entry in reader.backwards():
        value = decode(index, entry)
        if value["at"] < since:
            return
        match value["type"]:
            case "outcome":
                outcomes[value["inquiry_id"], value["node"]] = value
            case "decision":
                inquiry_id = value["inquiry_id"]
                undecided_after.add(inquiry_id)
                if inquiry_id not in inquiries:
                    if len(inquiries) >= _REMEMBERED:
                        inquiries.clear()
                    inquiries[inquiry_id] = _inquiry(reader, inquiry_id)
                outcome = outcomes.pop((inquiry_id, value["node"]), None)
                yield _decided(index, value, inquiries[inquiry_id], outcome)
            case "inquiry":
                if value["inquiry_id"] not in undecided_after:
                    yield Row(index=index, at=value["at"], type="search", **_asked(value), note=UNDECIDED)
                undecided_after.discard(value["inquiry_id"])
            case "receipt":
                pass
            case _:
                yield _other(index, value)


def _inquiry(reader: LogReader, inquiry_id: str) -> Mapping[str, Any]:
    index = reader.find_inquiry(inquiry_id)
    if index is None:
        return {}
    value = decode(index, reader.entry(index))
    return value if value["type"] == "inquiry" and value["inquiry_id"] == inquiry_id else {}


def _asked(value: Mapping[str, Any]) -> dict[str, Any]:
    if not value:
        return {}
    return {
        "inquiry_id": value["inquiry_id"],
        **value["requester"],
        "beneficiary": value["beneficiary"],
        "purpose": value["purpose"]["code"],
        "act": value["act"],
        "preview": value["preview"],
    }


def _decided(
    index: int, value: Mapping[str, Any], inquiry: Mapping[str, Any], outcome: Mapping[str, Any] | None
) -> Row:
    asked = _asked(inquiry) or {
        "inquiry_id": value["inquiry_id"],
        "note": "its inquiry is not recorded: verify the log",
    }
    return Row(
        index=index,
        at=value["at"],
        type="search",
        **asked,
        node=value["node"],
        decision="pending" if is_pending(value) else value["effect"],
        rules=tuple(value["rules"]),
        reason_code=value["reason_code"],
        outcome=outcome["outcome"] if outcome else "",
        count=outcome["count"] if outcome else 0,
    )


def _other(index: int, value: Mapping[str, Any]) -> Row:
    return Row(index=index, at=value["at"], type=value["type"], node=value.get("node", ""), note=_note(value))


def _note(value: Mapping[str, Any]) -> str:
    match value["type"]:
        case "start" | "stop":
            return f"{value['program']} {value['id']} {value['software_version']} {value['reason']}".strip()
        case "policy":
            taken = "taken up" if value["taken_up"] else "refused"
            return f"policy version {value['version']} {taken} {value['reason']}".strip()
        case "purge":
            return f"{value['rows']} detections gone under {value['rule']}"
        case "erasure":
            return f"keys of {value['scope']} {value['epoch']} deleted under {value['rule']}"
        case "rejected":
            return f"no inquiry of its sender's, refused: {value['reason_code']}, from {value['received_from']}"
        case "review":
            return f"{len(value['sampled'])} entries reviewed, {len(value['flagged'])} flagged, by {value['reviewer']}"
        case kind:
            return f"{kind}: comity audit show has all of it"
