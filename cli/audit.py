"""`comity audit`: what a decision log says, and whether it is what it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import orjson
from rich.table import Table
from rich.text import Text

from audit import form, listing
from audit.read import LogReader
from audit.seen import seen_heads
from audit.tree import leaf_hash
from audit.verify import Report, verify
from cli.audit_day import DAY
from cli.audit_options import instant
from cli.audit_pages import INDEX, Page, more, rows_of
from cli.audit_proofs import COMMANDS, WITNESSED, known_directory
from cli.audit_sealed import COMMANDS as SEALED
from cli.audit_sealed import Opener, print_told
from cli.progress import Bar
from cli.shown import console as wide_console
from comity.errors import InvalidInput
from identity import files
from identity.folder import FEDERATION_FILE

LOG = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
COLOURS = {"permit": "green", "deny": "red", "pending": "yellow"}

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")

OTHER_KEY = (
    "The key it is held against is another than the one that signed it. A log that was made anew has a new key: the "
    "federation's operator pins its log.vkey (comity identity directory --log). Was it not, somebody replaced it."
)


@click.group()
def audit() -> None:
    """Read and verify decision logs. LOG is a program's state folder, or the log file in it.

    Example: comity audit list ./broker --agency us-ca-port-alder-pd --since 2026-01-01

    Exit codes: 0 done, 1 failure or fault, 2 wrong usage.
    """


@audit.command("list")
@click.argument("log", type=LOG)
@click.option("--agency", default="", help="The requester's agency.")
@click.option("--person", default="", help="The requester.")
@click.option("--beneficiary", default="", help="The agency it was asked for.")
@click.option("--purpose", default="", help="The code of the purpose of use.")
@click.option("--node", default="", help="The node that was to be asked.")
@click.option("--decision", type=click.Choice(["permit", "deny", "pending"]), help="What was decided.")
@click.option("--rule", default="", help="A rule that applied: SC-2 or node:SC-2.")
@click.option("--since", type=instant, metavar="TIME", help="Recorded at that time or later.")
@click.option("--until", type=instant, metavar="TIME", help="Recorded before that time.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="A page: so many.")
@click.option("--before", type=INDEX, help="The page of the newest before that entry.")
@click.option("--after", type=INDEX, help="The page of the oldest after that entry.")
@click.option("--index", "place", type=FILE, help="Keep the index in this file, not in the user's cache.")
@click.option("--no-index", is_flag=True, help="Read the log itself: slower, and nothing else is believed.")
@JSON
def list_(log: Path, limit: int, as_json: bool, **options: Any) -> None:
    """List decisions, newest last, each with what was asked and what came of it.

    In a log of 10,000 entries or more what filters ask for is found by an index, made at the first time and kept.

    Example: comity audit list ./broker --decision deny --rule SC-2 --since 2026-01-31

    Exit codes: 0 listed, 1 the log cannot be read, 2 wrong usage.
    """
    page = Page(limit=limit, **{name: options.pop(name) for name in ("before", "after", "place", "no_index")})
    rows = rows_of(log, listing.Filter(**{name: value or "" for name, value in options.items()}), page)
    if as_json:
        for row in rows:
            click.echo(orjson.dumps(row.as_json()))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("entry", "time (UTC)", "requester", "for", "purpose", "node", "decision", "rules", "outcome"):
        table.add_column(name, justify="right" if name == "entry" else "left", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    console = wide_console()
    console.print(table)
    if not rows:
        console.print("No entry of this log fits.")
    elif len(rows) == limit:
        console.print(more(rows, page))


@audit.command()
@click.argument("log", type=LOG)
@click.argument("target", metavar="INDEX|INQUIRY_ID")
@click.option("--unseal", is_flag=True, help="Show what is sealed too, checked against what was committed to.")
@click.option("--key", type=FILE, help="With --unseal: the auditor's key.")
@JSON
def show(log: Path, target: str, unseal: bool, key: Path | None, as_json: bool) -> None:
    """Show one entry by its index, or everything recorded of one inquiry. What is sealed is marked as sealed.

    Example: comity audit show ./broker 1042 --unseal --key ./sealing.key

    Exit codes: 0 shown; 1 not recorded, the log cannot be read, or what is sealed is not what was recorded; 2 wrong
    usage.
    """
    if unseal != (key is not None):
        raise click.UsageError("--unseal and --key go together")
    with LogReader.open(log) as reader:
        if form.inquiry_id(target):
            found = list(listing.of_inquiry(reader, target))
            if not found:
                raise InvalidInput("this log has not recorded that inquiry", reason="NO_ENTRY")
        elif target.isascii() and target.isdigit() and len(target) < 16:
            found = [(int(target), reader.entry(int(target)))]
        else:
            raise click.BadParameter("must be an entry's index or an inquiry's id", param_hint="INDEX|INQUIRY_ID")
        opener = Opener(reader, key)
        for index, entry in found:
            value = listing.decode(index, entry)
            told = opener.tell(index, value)
            if as_json:
                shown = {"index": index, "leaf_hash": leaf_hash(entry).hex(), "entry": value}
                click.echo(orjson.dumps(shown | ({"sealed_part": told.as_json()} if told else {})))
            else:
                _show(index, entry)
                print_told(told)
    if opener.faults:
        sys.exit(1)


@audit.command("verify")
@click.argument("log", type=LOG)
@click.option("--vkey", type=FILE, help="The log's verifier key, from elsewhere than the log's own folder.")
@click.option("--directory", type=FILE, help="The federation's directory: pins the log's key, proves inquiries.")
@click.option(
    "--anchor", type=FILE, help=f"The federation's certificate; {FEDERATION_FILE} beside the directory if left out."
)
@WITNESSED
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify_(
    log: Path,
    vkey: Path | None,
    directory: Path | None,
    anchor: Path | None,
    witnessed: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Verify every entry, hash, citation and signature of a log, and name the first fault.

    One log alone cannot show that it was cut back to an older head of its own: its witnesses can, with --witnessed.

    Example: comity audit verify ./broker --directory ./me/directory.json

    Exit codes: 0 nothing is wrong, 1 a fault or failure, 2 wrong usage.
    """
    known = known_directory(directory, anchor)
    pinned = files.read(vkey, max_bytes=1024).decode("ascii", errors="replace") if vkey else None
    seen = [note for path in witnessed for note in seen_heads(path)]
    with Bar("verifying") as bar:
        report = verify(log, vkey=pinned, directory=known, progress=bar, seen=seen)
    if as_json:
        click.echo(orjson.dumps(_report_json(log, report)))
    else:
        _print_report(report)
    if report.fault:
        sys.exit(1)


for _command in (*COMMANDS, *SEALED, *DAY):
    audit.add_command(_command)


def _cells(row: listing.Row) -> tuple[Text, ...]:
    when = row.at[:19].replace("T", " ")
    if row.type != "search":
        cells = (str(row.index), when, row.type, "", "", row.node, "", "", row.note)
        return tuple(Text(c, style="dim") for c in cells)
    requester = f"{row.agency}/{row.person} ({row.role})" if row.agency else ""
    outcome = row.outcome.replace("_", " ") or row.note or ("preview" if row.preview else "none recorded")
    if row.outcome in ("match", "partial_coverage"):
        outcome += f", {row.count} released"
    decision = Text(f"{row.decision} {row.reason_code}".strip(), style=COLOURS.get(row.decision, ""))
    texts = (str(row.index), when, requester, row.beneficiary, row.purpose, row.node)
    return (*map(Text, texts), decision, Text(" ".join(row.rules)), Text(outcome))


def _show(index: int, entry: bytes) -> None:
    value = listing.decode(index, entry)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("field", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, text in _flat("", value):
        table.add_row(name, Text(text))
    console = wide_console()
    console.print(Text(f"entry {index}: {value['type']}", style="bold underline"))
    console.print(table)
    console.print(Text(f"leaf hash {leaf_hash(entry).hex()}\n", style="dim"))


def _flat(prefix: str, value: dict[str, Any]) -> list[tuple[str, str]]:
    """Dotted names and readable values; an envelope in one line, since --json has all of it."""
    out: list[tuple[str, str]] = []
    for name, item in value.items():
        if name == "envelope":
            out.append(
                (prefix + name, f"{item['payload_type']}, {len(item['signatures'])} signature(s); --json shows all")
            )
        elif name == "commitments":
            out.append((prefix + name, ", ".join(item) + " (values are not in the log)"))
        elif name == "peers" and item:
            heads = (f"{p['origin']} {p['size']} {p['root']}{', with its note' if 'note' in p else ''}" for p in item)
            out.append((prefix + name, "\n".join(heads)))
        elif isinstance(item, dict) and item:
            out += _flat(f"{prefix}{name}.", item)
        else:
            out.append((prefix + name, _plain(item)))
    return out


def _plain(item: Any) -> str:
    if item is None or item in ({}, [], ""):
        return "-"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return ", ".join(map(str, item)) if isinstance(item, list) else str(item)


def _report_json(log: Path, report: Report) -> dict[str, Any]:
    fault, head = report.fault, report.head
    return {
        "log": str(log),
        "ok": fault is None,
        "entries": report.entries,
        "origin": head.origin if head else None,
        "size": head.size if head else None,
        "root": head.root.hex() if head else None,
        "seen": report.seen,
        "fault": {"index": fault.index, "sentence": fault.sentence, "reason": fault.reason} if fault else None,
        "warnings": list(report.warnings),
    }


def _print_report(report: Report) -> None:
    console = wide_console()
    head = report.head
    if head:
        console.print(Text(f"log   {head.origin}\nsize  {head.size}\nroot  {head.root.hex()}"))
    for warning in report.warnings:
        console.print(Text(f"note: {warning}", style="yellow"))
    if report.fault:
        where = f"entry {report.fault.index}" if report.fault.index >= 0 else "the log"
        console.print(Text(f"FAULT in {where}: {report.fault.sentence} [{report.fault.reason}]", style="bold red"))
        console.print(
            Text(f"{report.entries} entries before it were checked. This log is not what it was.", style="red")
        )
        if report.fault.index < 0 and report.fault.reason == "NOT_SIGNED":
            console.print(Text(OTHER_KEY))
    else:
        console.print(Text(f"Verified: each of {report.entries} entries is what was signed.", style="green"))
