"""Decision tables: one request a row, and what must come out.

Only the header and the cells `expect`, `rule` and `obligations` are the table's own; every other cell is request
input, and one that is unknown, empty or ill-formed makes a request that must be denied.
"""

from __future__ import annotations

import csv
import datetime as dt
import enum
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from comity.decision import Decision, Pep
from comity.errors import InvalidInput, Violation
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS
from policies.decide import Decider, searchable_days
from policies.duties import REDACTIONS
from policies.load import RULE_ID
from policies.request import Question, has_case
from policies.setting import Setting

HEADER = (
    *("case", "requester", "role", "beneficiary", "purpose", "legal_basis", "case_number", "authority", "approval"),
    *("query", "node", "lookback_days", "expect", "rule", "obligations"),
)
EXPECT = ("permit", "deny", "pending")
MAX_ROWS = 100_000
_DAYS = re.compile(r"0|[1-9][0-9]{0,6}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WINDOW = re.compile(r"window_days(<=|=)(0|[1-9][0-9]{0,6})")
# Columns that a table may have beyond those of HEADER. `node_facts`: `none`, or those that are true joined by `;`:
# the row is then decided as the node does, which alone has them.
OPTIONAL = ("at", "offence", "person", "node_facts")
_Word = TypeVar("_Word", bound=enum.StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its request as written, and what it expects. `line`: from 1, where the row ends in the file.

    `rules`: each with True if it must be among those matched, False if it must not. `exact`: the window is to be
    `window_days`, not at most that.
    """

    line: int
    cells: Mapping[str, str]
    window_days: int | None
    redact: str | None
    rules: tuple[tuple[str, bool], ...] = ()
    exact: bool = False

    @property
    def case(self) -> str:
        """The sentence that names the row, fit for a terminal."""
        return "".join(c if c.isprintable() else "?" for c in self.cells["case"])[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out of one row; it holds if `failures` is empty."""

    row: Row
    decision: Decision
    window_days: int
    failures: tuple[str, ...]

    @property
    def got(self) -> str:
        """`permit`, `deny` or `pending`."""
        return _outcome(self.decision)

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        d = self.decision
        return {
            "line": self.row.line,
            "case": self.row.case,
            "ok": not self.failures,
            "expect": self.row.cells["expect"],
            "got": self.got,
            "rules": [r.rule for r in d.rules],
            "obligations": d.obligations.as_json(),
            "window_days": self.window_days,
            "reason_code": d.reason_code,
            "reason": d.reason,
            "failures": list(self.failures),
        }


def read_table(text: str) -> tuple[Row, ...]:
    """The rows of a CSV table.

    Raises:
        InvalidInput: reason BAD_TABLE, naming every fault of the table itself: its header, the number of a row's
            cells, or a malformed `expect`, `rule` or `obligations`.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[Row] = []
    bad: list[Violation] = []
    try:
        header = next(reader, [])
        _check_header(header)
        for cells in reader:
            if not cells:
                continue
            if len(rows) >= MAX_ROWS:
                raise InvalidInput(f"more than {MAX_ROWS} rows", reason="BAD_TABLE")
            try:
                rows.append(_row(reader.line_num, header, cells))
            except ValueError as e:
                bad.append(Violation(f"line {reader.line_num}", str(e)))
    except csv.Error as e:
        raise InvalidInput(f"line {reader.line_num} is not CSV: {e}", reason="BAD_TABLE") from e
    if bad:
        raise InvalidInput("the table itself is wrong", violations=bad[:20], reason="BAD_TABLE")
    return tuple(rows)


def run_table(rows: tuple[Row, ...], setting: Setting, today: dt.date) -> Iterator[Result]:
    """Each row's result under both layers, in order. `today` counts where a row names no day.

    A row is decided under the rules in force on its day.
    """
    deciders: dict[tuple[int, Pep], Decider] = {}
    days_known: dict[dt.date, Setting] = {}
    for row in rows:
        question = _question(row.cells, today)
        day = question.day or today
        then = days_known.get(day) or days_known.setdefault(day, setting.at(day))
        pep = Pep.BROKER if question.node_facts is None else Pep.NODE
        decider = deciders.get((id(then.federation_policy), pep))
        if decider is None:
            decider = Decider(setting.federation, then.federation_policy, pep, new_id=lambda: "")
            deciders[id(then.federation_policy), pep] = decider
        node_id = row.cells["node"]
        (decision,) = decider.decide(question, [(node_id, then.node_policies.get(node_id))])
        node = setting.federation.nodes.get(node_id)
        days = searchable_days(question, decision, node) if node else 0
        yield Result(row=row, decision=decision, window_days=days, failures=tuple(_failures(row, decision, days)))


def asked(row: Row, today: dt.date) -> Question:
    """What the row asks of policy. `today` counts where it names no day."""
    return _question(row.cells, today)


def _check_header(header: list[str]) -> None:
    known = {*HEADER, *OPTIONAL}
    wrong = [Violation(h or "(empty)", "unknown column") for h in header if h not in known]
    wrong += [Violation(h, "stands twice") for h in sorted(set(header)) if header.count(h) > 1]
    wrong += [Violation(h, "is missing") for h in HEADER if h not in header]
    if wrong:
        raise InvalidInput("not the header of a decision table", violations=wrong[:20], reason="BAD_TABLE")


def _row(line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} cells, the header {len(header)}")
    row = dict(zip(header, cells, strict=True))
    if row["expect"] not in EXPECT:
        raise ValueError(f"expect is one of {', '.join(EXPECT)}")
    rules = tuple((term.removeprefix("!"), not term.startswith("!")) for term in row["rule"].split(";") if row["rule"])
    if not all(RULE_ID.match(rule) for rule, _ in rules):
        raise ValueError("rule is empty or an id such as SC-1, or several joined by ;, with ! before one not to match")
    window, redact, exact = _obligations(row["obligations"])
    return Row(line=line, cells=row, window_days=window, redact=redact, rules=rules, exact=exact)


def _obligations(text: str) -> tuple[int | None, str | None, bool]:
    window: int | None = None
    redact: str | None = None
    exact = False
    for term in text.split(";") if text else ():
        bound = _WINDOW.fullmatch(term.strip())
        level = term.strip().removeprefix("redact=")
        if bound:
            window = min(int(bound[2]), window) if window is not None else int(bound[2])
            exact = exact or bound[1] == "="
        elif level != term.strip() and level in REDACTIONS and redact in (None, level):
            redact = level
        else:
            raise ValueError(
                "obligations are window_days<=N or window_days=N, and redact=LEVEL, joined by ;"
                f" with a LEVEL of {', '.join(REDACTIONS)}"
            )
    return window, redact, exact


def _question(cells: Mapping[str, str], today: dt.date) -> Question:
    day = _day(cells.get("at", ""), today)
    return Question(
        requester_agency=cells["requester"],
        role=cells["role"],
        beneficiary=cells["requester"] if cells["beneficiary"] == "self" else cells["beneficiary"],
        purpose=cells["purpose"],
        legal_basis=_word(LegalBasis, cells["legal_basis"]),
        authority=_authority(cells["authority"]),
        act=_word(Act, cells["query"]),
        has_case=has_case(cells["case_number"]),
        lookback_days=_lookback(cells["lookback_days"], day or today),
        approved={"": False, "supervisor": True}.get(cells["approval"]),
        day=day,
        offence=cells.get("offence", ""),
        person=cells.get("person", ""),
        node_facts=_node_facts(cells.get("node_facts", "")),
    )


def _node_facts(text: str) -> frozenset[str] | None:
    if not text:
        return None
    # what is not a fact of the node's proves nothing, so it is left out
    return NODE_FACTS & frozenset(text.split(";"))


def _authority(text: str) -> Authority | None:
    # an empty cell says that there is none; the word itself is not one that a request may write
    if not text:
        return Authority.NONE
    return _word(Authority, text) if text != Authority.NONE.value else None


def _word(kind: type[_Word], text: str) -> _Word | None:
    return kind(text) if text in set(kind) else None


def _lookback(text: str, day: dt.date) -> int | None:
    # a window cannot begin before there are dates
    return int(text) if _DAYS.fullmatch(text) and int(text) < day.toordinal() else None


def _day(text: str, today: dt.date) -> dt.date | None:
    if not text:
        return today
    try:
        return dt.date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _outcome(decision: Decision) -> str:
    return "pending" if decision.pending else "permit" if decision.permitted else "deny"


def _failures(row: Row, decision: Decision, days: int) -> Iterator[str]:
    expect, got = row.cells["expect"], _outcome(decision)
    if got != expect:
        yield f"expected {expect}, got {got}: {decision.reason}"
    matched = [r.rule for r in decision.rules]
    for rule, wanted in row.rules:
        if (rule in matched) is not wanted:
            among = "among" if wanted else "not to be among"
            yield f"expected {rule} {among} the rules matched, got {', '.join(matched) or 'none'}"
    if row.window_days is not None and (days > row.window_days or (row.exact and days < row.window_days)):
        yield f"expected {'exactly' if row.exact else 'at most'} {row.window_days} days searchable, got {days}"
    if row.redact is not None and decision.obligations.redaction.word != row.redact:
        yield f"expected redaction {row.redact}, got {decision.obligations.redaction.word}"
