"""The report as one page for everybody: no script, nothing loaded from elsewhere, readable by machine and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from audit.report import BY_BENEFICIARY, BY_KIND, BY_PURPOSE, BY_RULE, COLUMNS, RULE_COLUMNS, TABLES

_TITLES = {
    BY_KIND: ("By the kind of agency that searched", "Kind of agency"),
    BY_PURPOSE: ("By purpose", "Purpose"),
    BY_BENEFICIARY: ("By the agency searched for", "Agency"),
    BY_RULE: ("By rule that applied", "Rule"),
}
_WORDS = {
    "searches": ("Searches", "inquiries sent to nodes"),
    "refusals": ("Refusals", "nodes that a search was refused for"),
    "answers": ("Answers", "nodes that searched, whatever they found"),
    "matches": ("Matches", "nodes that released detections"),
    "previews": ("Previews", "asked what would be permitted; nothing left a node"),
    "decisions": ("Decisions", "nodes a rule was applied for"),
}
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}table{border-collapse:collapse;width:100%;margin:0 0 2rem}caption{text-align:left;"
    "font-weight:600;padding:.5rem 0}th,td{border-bottom:1px solid #767676;padding:.3rem .6rem;text-align:right}"
    "th:first-child{text-align:left}code{overflow-wrap:anywhere}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    "@media print{body{max-width:none;margin:0}table{page-break-inside:avoid}thead{display:table-header-group}}"
)


def page(report: Mapping[str, Any]) -> bytes:
    """The whole page, UTF-8; well-formed XML too, so that any parser reads the same."""
    origin = escape(report["origin"])
    period = escape(_period(report["span"]))
    body = [
        f"<h1>Searches recorded by {origin}</h1>",
        f"<p>{period}. Federation {escape(report['federation'])}.</p>",
        _totals(report["totals"]),
        _hidden_note(report),
        *(_table(name, report["tables"][name]) for name in TABLES),
        _complete(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>Searches recorded by {origin}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    ).encode()


def _period(span: Mapping[str, str]) -> str:
    begin, end = span["begin"] or "its first entry", span["end"]
    return f"From {begin} up to {end}" if end else f"From {begin} on, up to the head below"


def _totals(totals: Mapping[str, int]) -> str:
    rows = [
        f'<tr><th scope="row">{title}<br/><small>{what}</small></th><td>{totals[name]:,}</td></tr>'
        for name, (title, what) in _WORDS.items()
        if name in totals
    ]
    head = '<tr><th scope="col">What</th><th scope="col">How many</th></tr>'
    return f"<h2>In all</h2>\n{_framed('Totals of the period', head, rows)}"


def _hidden_note(report: Mapping[str, Any]) -> str:
    return (
        f"<h2>In parts</h2>\n<p>A count above 0 and below {report['least']} points at persons: the row that holds one "
        "is marked <q>hidden</q>, and so are further rows, so that it cannot be worked out from the totals. A refusal "
        "is never counted as an answer.</p>"
    )


def _table(name: str, table: Mapping[str, Any]) -> str:
    title, first = _TITLES[name]
    columns = RULE_COLUMNS if name == BY_RULE else COLUMNS
    if table["withheld"]:
        return f"<h3>{title}</h3>\n<p>Withheld: whatever part of it were shown would give small counts away.</p>"
    head = f'<tr><th scope="col">{first}</th>' + "".join(f'<th scope="col">{_WORDS[c][0]}</th>' for c in columns)
    rows = [
        f'<tr><th scope="row">{escape(row)}</th>' + "".join(_cells(counts, columns)) + "</tr>"
        for row, counts in table["rows"].items()
        if counts is None or any(counts.values()) or name in (BY_KIND, BY_PURPOSE)
    ]
    note = "" if name != BY_BENEFICIARY else "<p>Agencies that are not listed were searched for not once.</p>"
    if not rows:
        return f"<h3>{title}</h3>\n<p>None.</p>"
    return f"<h3>{title}</h3>\n{_framed(title, head + '</tr>', rows)}{note}"


def _cells(counts: Mapping[str, int] | None, columns: tuple[str, ...]) -> list[str]:
    return ["<td>hidden</td>" if counts is None else f"<td>{counts[c]:,}</td>" for c in columns]


def _framed(caption: str, head: str, rows: list[str]) -> str:
    return (
        f"<table>\n<caption>{caption}</caption>\n<thead>{head}</thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>"
    )


def _complete(report: Mapping[str, Any]) -> str:
    first, last = report["first"], report["last"]
    rows = [f'<tr><th scope="row">{escape(t)}</th><td>{n:,}</td></tr>' for t, n in report["entries"].items()]
    head = '<tr><th scope="col">Type of entry</th><th scope="col">How many</th></tr>'
    return (
        "<h2>Nothing is left out</h2>\n"
        f"<p>The log had {first['size']:,} entries when the period began, under the root <code>{first['root']}</code>, "
        f"and {last['size']:,} when it ended, under <code>{last['root']}</code>. The {last['size'] - first['size']:,} "
        "between them are:</p>\n"
        f"{_framed('Entries of the period', head, rows)}\n"
        "<p>Both heads lead to this one, which the log signed and its witnesses know:</p>\n"
        f"<pre>{escape(report['checkpoint'])}</pre>\n"
        "<p>The JSON beside this page holds the proofs; <code>comity audit report --check</code> verifies them.</p>"
    )
