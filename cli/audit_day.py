"""`comity audit report | watch | import`: the auditor's day, beyond single decisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import orjson

from audit.read import LogReader
from audit.report import COLUMNS, Span, encode, make_report
from audit.report_check import MAX_REPORT_BYTES, check_report, parse_report
from audit.report_html import page
from audit.suppression import LEAST
from audit.watch import Limits, watch
from cli.audit_import import import_
from cli.audit_options import instant, key_of_log, own_directory, vkey_of_log
from cli.audit_proofs import ANCHOR, DIRECTORY, FILE, FOLDER, JSON, LOG, VKEY, known_directory
from cli.audit_review import review
from cli.audit_watched import LEAST_ONE, hours, open_with, refuse_foreign_key, show_watched, week_up_to_head, zone_of
from cli.progress import Bar
from comity.errors import ConfigError
from identity import files

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"


@click.command()
@click.argument("log", type=LOG, required=False)
@click.option("--from", "begin", type=instant, metavar="TIME", help="Entries recorded at that time or later.")
@click.option("--to", "end", type=instant, metavar="TIME", help="Entries recorded before that time.")
@click.option("--out", type=FOLDER, help="The folder for report.json and report.html; it must not hold them yet.")
@click.option(
    "--least", type=click.IntRange(LEAST), default=LEAST, show_default=True, help="Smaller counts are hidden."
)
@click.option("--check", "checked", type=FILE, help="Verify this report.json instead; with LOG, made again from it.")
@VKEY
@DIRECTORY
@ANCHOR
@JSON
def report(
    log: Path | None,
    checked: Path | None,
    vkey: Path | None,
    directory: Path | None,
    anchor: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make the public report on a log: counts by agency kind, purpose, beneficiary and rule, small ones hidden.

    The directory says which agencies and purposes there are: being listed says nothing. Without --directory it is the
    program's own beside LOG, and a note says so.

    Example: comity audit report ./broker --directory directory.json --from 2026-01-01 --to 2026-02-01 --out ./january

    Example: comity audit report --check ./january/report.json --directory directory.json

    Exit codes: 0 made, or nothing is wrong with it; 1 failure or fault; 2 wrong usage.
    """
    known = known_directory(directory, anchor) or (own_directory(log) if log is not None else None)
    if checked is not None:
        if log is not None and known is None:
            raise click.UsageError("--check with a log takes --directory: none is beside the log")
        data = files.read(checked, max_bytes=MAX_REPORT_BYTES)
        key = key_of_log(parse_report(data)["checkpoint"].encode(), vkey, known)
        if key is None:
            raise click.UsageError("--check takes --vkey or --directory: the report is held against that key")
        with Bar("checking") as bar:
            made = check_report(data, key, log=log, federation=known.federation if known else None, progress=bar)
        _say(made, as_json, f"Verified{'' if log is None else ' against the log'}")
        return
    if log is None or known is None or options["out"] is None:
        raise click.UsageError("name the log and --out, and --directory where none is beside the log")
    span = Span(begin=options["begin"] or "", end=options["end"] or "")
    pinned, out = vkey_of_log(log, vkey, known), options["out"]
    for name in (REPORT_JSON, REPORT_PAGE):
        if (out / name).exists():
            raise ConfigError(f"{out / name} exists already: choose another place", reason="FILE_EXISTS")
    with Bar("counting") as bar:
        made = make_report(log, known.federation, span=span, least=options["least"], vkey=pinned, progress=bar)
    files.make_folder(out)
    files.write_new(out / REPORT_JSON, encode(made), mode=files.PUBLIC)
    files.write_new(out / REPORT_PAGE, page(made), mode=files.PUBLIC)
    _say(made, as_json, f"{REPORT_JSON} and {REPORT_PAGE} in {out}")


def _say(made: dict[str, Any], as_json: bool, done: str) -> None:
    first, last, totals = made["first"]["size"], made["last"]["size"], made["totals"]
    if as_json:
        shown = {name: made[name] for name in ("origin", "span", "first", "last", "entries", "totals")}
        click.echo(orjson.dumps({**shown, "ok": True}))
        return
    counts = ", ".join(f"{totals[name]} {name}" for name in (*COLUMNS, "previews"))
    click.echo(
        f"{done}: entries {first} to {last - 1} of {made['origin']}." if last > first else f"{done}: no entries."
    )
    click.echo(counts)


@click.command("watch")
@click.argument("log", type=LOG)
@click.option("--from", "begin", type=instant, metavar="TIME", help="Searches recorded at that time or later.")
@click.option("--to", "end", type=instant, metavar="TIME", help="Searches recorded before that time.")
@click.option("--key", type=FILE, help="An auditor's key: opens what is sealed, and shows pseudonyms and no plates.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of days and nights: America/Los_Angeles.")
@click.option(
    "--score",
    type=click.FloatRange(1),
    default=Limits().score,
    show_default=True,
    help="So many robust standard deviations are usual.",
)
@click.option(
    "--volume", type=LEAST_ONE, default=Limits().volume, show_default=True, help="Fewer a day are no finding."
)
@click.option(
    "--at-night", type=LEAST_ONE, default=Limits().at_night, show_default=True, help="Fewer a night are no finding."
)
@click.option(
    "--night", type=hours, default="22-5", show_default=True, metavar="FROM-TO", help="The hours of a night, local."
)
@click.option(
    "--proxy",
    type=LEAST_ONE,
    default=Limits().proxy,
    show_default=True,
    help="So many for one other agency are a finding.",
)
@click.option(
    "--repeat-days",
    type=LEAST_ONE,
    default=Limits().repeat_days,
    show_default=True,
    help="One plate on so many days is a finding.",
)
@click.option(
    "--repeat-times",
    type=LEAST_ONE,
    default=Limits().repeat_times,
    show_default=True,
    help="One plate so many times is a finding.",
)
@click.option(
    "--past-days",
    type=LEAST_ONE,
    default=Limits().past_days,
    show_default=True,
    help="So many days before tell what is usual.",
)
@DIRECTORY
@ANCHOR
@JSON
def watch_(
    log: Path,
    begin: str | None,
    end: str | None,
    key: Path | None,
    directory: Path | None,
    anchor: Path | None,
    zone: str,
    as_json: bool,
    **limits: Any,
) -> None:
    """Show use that somebody should look at: outliers by day and by night, searches for others, and, with a key,
    plates searched again and again and case numbers that name no case.

    Without --from and --to it is about the seven days up to the newest entry. Verify the log first.

    Example: comity audit watch ./broker --key auditor.key --directory directory.json --zone America/Los_Angeles

    Exit codes: 0 nothing found, 1 failure, 2 wrong usage, 3 findings.
    """
    known = known_directory(directory, anchor)
    if key is not None and known is None:
        raise click.UsageError("--key takes --directory: the key of pseudonyms is in it")
    with LogReader.open(log) as reader, reader.snapshot(), Bar("watching") as bar:
        first, last = week_up_to_head(reader, begin, end)
        opened = open_with(reader, key, known) if key and known else None
        seen = watch(
            reader, begin=first, end=last, zone=zone_of(zone), limits=Limits(**limits), opened=opened, progress=bar
        )
    refuse_foreign_key(seen)
    show_watched(seen, first, last, as_json)
    if seen.findings:
        sys.exit(3)


DAY = (report, review, watch_, import_)
