"""What `comity audit watch` and `comity audit review` share: the span, the key, and findings in words."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import orjson

from audit.listing import decode
from audit.pseudonym import pseudonym, pseudonym_key
from audit.read import LogReader
from audit.sealing import Clear, Unsealer, open_auditor_key
from audit.watch import Finding, Name, Open, Watched
from cli.shown import console
from cli.words import plain
from comity.errors import NotAllowed
from comity.instants import to_text
from identity.directory import Directory

LEAST_ONE = click.IntRange(1)
_SHOWN = 12
_WEEK = dt.timedelta(days=7)


def hours(text: str | tuple[int, int]) -> tuple[int, int]:
    """The hours in `22-5`, [from, to).

    Raises:
        click.BadParameter: anything else.
    """
    if isinstance(text, tuple):
        return text
    begin, _, end = text.partition("-")
    if not all(n.isascii() and n.isdigit() and len(n) <= 2 and int(n) <= 24 for n in (begin, end)) or begin == end:
        raise click.BadParameter("must be two hours such as 22-5")
    return int(begin), int(end)


def zone_of(name: str) -> dt.tzinfo:
    """The time zone of that name.

    Raises:
        click.BadParameter: this machine knows none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise click.BadParameter("no such time zone; such as America/Los_Angeles", param_hint="--zone") from None


def week_up_to_head(reader: LogReader, begin: str | None, end: str | None) -> tuple[dt.datetime, dt.datetime]:
    """[begin, end) as given; else up to just after the newest entry, and from seven days before that.

    Raises:
        LogFault: the newest entry is malformed.
    """
    if end is not None:
        last = dt.datetime.fromisoformat(end)
    else:
        size = reader.head()[0]
        newest = decode(size - 1, reader.entry(size - 1))["at"] if size else "2000-01-01T00:00:00.000Z"
        last = dt.datetime.fromisoformat(newest) + dt.timedelta(milliseconds=1)
    return (dt.datetime.fromisoformat(begin) if begin is not None else last - _WEEK), last


def open_with(reader: LogReader, key: Path, directory: Directory) -> tuple[Open, Name]:
    """How sealed parts are opened with an auditor's key, and how what was searched is called.

    Raises:
        ConfigError, NotAllowed, LogFault: the key is none, or not one of this federation's auditors.
    """
    auditor = open_auditor_key(key)
    names, unsealer = pseudonym_key(directory, auditor), Unsealer(reader, auditor)

    def name(clear: Clear) -> str:
        return pseudonym(names, clear.plate, clear.state) if clear.plate else ""

    return unsealer.clear, name


def show_watched(seen: Watched, begin: dt.datetime, end: dt.datetime, as_json: bool) -> None:
    """Every finding, what was not looked for, and how much was looked at."""
    if as_json:
        for f in seen.findings:
            click.echo(orjson.dumps({"event": "finding", **finding_json(f)}))
        said = {"searches": seen.searches, "begin": to_text(begin), "end": to_text(end), "findings": len(seen.findings)}
        not_looked_for = {kind.value: why for kind, why in seen.not_looked_for.items()}
        click.echo(
            orjson.dumps(
                {"event": "summary", **said, "not_looked_for": not_looked_for, "unopened": dict(seen.unopened)}
            )
        )
        return
    print_findings(seen)
    span, rest = f"from {to_text(begin)} up to {to_text(end)}", seen.not_looked_for or seen.unopened
    where = " in what was looked at" if rest else ""
    console().print(f"{seen.searches} searches {span}: {len(seen.findings) or 'no'} findings{where}.")


def print_findings(seen: Watched) -> None:
    """Every finding for a person, and what was not looked for."""
    out = console()
    for f in seen.findings:
        out.print(sentence(f), style="yellow")
    for kind, why in seen.not_looked_for.items():
        out.print(f"not looked for: {kind.value}: {why}")
    for reason, count in seen.unopened.items():
        out.print(f"not looked into: {count} searches, {reason}")


def not_looked_json(seen: Watched) -> dict[str, object]:
    """For `--json`: what was not looked for and why, and sealed parts that did not open, by reason."""
    not_looked_for = {kind.value: why for kind, why in seen.not_looked_for.items()}
    return {"not_looked_for": not_looked_for, "unopened": dict(seen.unopened)}


def refuse_foreign_key(seen: Watched) -> None:
    """Return if the key opened anything, or there was nothing to open.

    Raises:
        NotAllowed: nothing of the log's span is sealed to it (NOT_FOR_KEY).
    """
    if seen.searches and seen.unopened.get("NOT_FOR_KEY") == seen.searches:
        message = "nothing of this log is sealed to this key: the directory says which auditors read it"
        raise NotAllowed(message, reason="NOT_FOR_KEY")


def finding_json(f: Finding) -> dict[str, object]:
    """For `--json`."""
    return {
        "kind": f.kind.value,
        "agency": f.agency,
        "person": f.person,
        "sentence": f.sentence,
        "indexes": list(f.indexes),
    }


def sentence(f: Finding) -> str:
    """The finding in one line."""
    shown = ", ".join(map(str, f.indexes[:_SHOWN]))
    more = f" and {len(f.indexes) - _SHOWN} more" if len(f.indexes) > _SHOWN else ""
    return f"{f.kind.value} {plain(f.agency)}/{plain(f.person)}: {plain(f.sentence)} [entries {shown}{more}]"
