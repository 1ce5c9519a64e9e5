"""A public report held against the log's signed head, and against the log itself where somebody has it.

1 form         canonical JSON with the fields of a report, and no others
2 checkpoint   signed by the log's key
3 heads        the first and the last are what the signed tree began with
4 counts       the entries of all types are as many as lie between those heads
5 tables       no column exceeds its total, and one with nothing hidden is the total
6 log          made again from the log, the report is the same to the byte
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from audit import form
from audit.hashes import Progress
from audit.note import Checkpoint, VerifierKey, unbase64, verify_checkpoint
from audit.proof import verify_consistency
from audit.report import BY_RULE, COLUMNS, FORMAT, RULE_COLUMNS, TABLES, Span, encode, make_report
from audit.suppression import LEAST
from audit.tree import EMPTY_ROOT
from comity.errors import LogFault
from comity.federation import Federation

MAX_REPORT_BYTES = 16 * 1024 * 1024
_count = form.whole()
_head = form.Form({"size": _count, "root": form.hash_hex})
_when: form.Check = lambda value: value == "" or form.time(value)  # noqa: E731
_proof = form.each(form.base64_of(32, 32), 64)
_REPORT = form.Form(
    {
        "format": form.one_of(FORMAT),
        "origin": form.origin,
        "span": form.Form({"begin": _when, "end": _when}),
        "first": _head,
        "last": _head,
        "checkpoint": form.checkpoint,
        "consistency": form.each(_proof, 2, 2),
        "entries": lambda v: type(v) is dict and all(map(form.identifier, v)) and all(map(_count, v.values())),
        "least": form.whole(LEAST),
        "federation": form.identifier,
        "totals": form.Form(dict.fromkeys((*COLUMNS, "previews"), _count)),
        "tables": form.Form(
            dict.fromkeys(TABLES, form.Form({"withheld": form.flag, "rows": lambda v: type(v) is dict}))
        ),
    }
)


def parse_report(data: bytes) -> dict[str, Any]:
    """Step 1: the report in `data`; nothing in it is verified.

    Raises:
        LogFault: BAD_REPORT.
    """
    try:
        value = orjson.loads(data)
        spelled = encode(value) == data
    except (ValueError, TypeError, RecursionError):
        raise LogFault("not a report: no canonical JSON", reason="BAD_REPORT") from None
    bad = _REPORT.fault(value)
    if bad is None and not spelled:
        bad = "(not canonical)"
    for table in TABLES if bad is None else ():
        row = form.Form(dict.fromkeys(RULE_COLUMNS if table == BY_RULE else COLUMNS, _count))
        if not all(form.words(200)(n) and (r is None or row(r)) for n, r in value["tables"][table]["rows"].items()):
            bad = f"tables.{table}"
    if bad is not None:
        raise LogFault(f"not a report: {bad}", reason="BAD_REPORT")
    return dict(value)


def check_report(
    data: bytes,
    key: VerifierKey,
    *,
    log: Path | None = None,
    federation: Federation | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report in `data`, once it was found to be one on the log of `key`; step 6 with a `log` and its registry.

    Raises:
        LogFault: BAD_REPORT; a head that is not signed or does not fit (as `verify_checkpoint`, `verify_consistency`);
            WRONG_COUNTS; OTHER_REPORT: the log says otherwise.
        ConfigError, Unavailable: as `make_report`.
    """
    report = parse_report(data)
    head = verify_checkpoint(report["checkpoint"].encode(), key)
    if head.origin != report["origin"]:
        raise LogFault("the report names another log than its checkpoint", reason="WRONG_ORIGIN")
    for name, proof in zip(("first", "last"), report["consistency"], strict=True):
        _check_head(report[name], proof, head)
    _check_counts(report)
    if log is not None and federation is not None:
        span, checkpoint = Span(**report["span"]), report["checkpoint"].encode()
        again = make_report(
            log, federation, span=span, least=report["least"], vkey=str(key), checkpoint=checkpoint, progress=progress
        )
        if encode(again) != data:
            parts = [name for name in again if again[name] != report[name]]
            raise LogFault(f"the log gives another report: {', '.join(parts)} differ", reason="OTHER_REPORT")
    return report


def _check_head(said: Mapping[str, Any], proof: list[str], head: Checkpoint) -> None:
    size, root = said["size"], bytes.fromhex(said["root"])
    if size == 0:
        if root != EMPTY_ROOT or proof:
            raise LogFault("the root of an empty log is another one", reason="WRONG_ROOT")
        return
    verify_consistency(size, head.size, root, head.root, [unbase64(h) for h in proof])


def _check_counts(report: Mapping[str, Any]) -> None:
    between = report["last"]["size"] - report["first"]["size"]
    if sum(report["entries"].values()) != between:
        raise LogFault(f"the counts by type are not those of {between} entries", reason="WRONG_COUNTS")
    asked = report["entries"].get("inquiry", 0)
    if report["totals"]["searches"] + report["totals"]["previews"] != asked:
        raise LogFault("searches and previews are not as many as inquiries", reason="WRONG_COUNTS")
    for table in TABLES:
        rows = report["tables"][table]["rows"]
        shown = [r for r in rows.values() if r is not None]
        whole = len(shown) == len(rows) and not report["tables"][table]["withheld"]
        for column in COLUMNS if table != BY_RULE else ():
            added, total = sum(r[column] for r in shown), report["totals"][column]
            if added > total or (whole and added != total):
                raise LogFault(f"{column} by {table} do not add up to the total", reason="WRONG_COUNTS")
