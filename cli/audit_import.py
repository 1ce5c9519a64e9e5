"""`comity audit import`: other products' audit exports, read, told what is odd about them, and compared with a log."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from audit.import_compare import Compared, compare
from audit.importing import Imported, read_export
from audit.read import LogReader
from cli.audit_proofs import ANCHOR, DIRECTORY, FILE, JSON, LOG, known_directory
from cli.progress import Bar
from cli.words import plain
from comity.instants import to_text
from identity import files

_SHOWN = 20


@click.command("import")
@click.argument("exports", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option("--compare", "log", type=LOG, help="Hold counts by agency and day, and ids, against this log.")
@click.option(
    "--rejects", type=FILE, help="Keep the rows that were not understood here, as they are: plates may be there."
)
@click.option("--rows", is_flag=True, help="Show every search that was read, without plate, case number and reason.")
@DIRECTORY
@ANCHOR
@JSON
def import_(
    exports: tuple[Path, ...],
    log: Path | None,
    rejects: Path | None,
    rows: bool,
    directory: Path | None,
    anchor: Path | None,
    as_json: bool,
) -> None:
    """Read audit exports of today's products, CSV in any of their forms, and say what is odd about them.

    What was not understood is told line by line. No plate, case number or reason is shown.

    Example: comity audit import searches-2026-01.csv --compare ./broker --directory directory.json

    Exit codes: 0 all read, and no difference; 1 failure; 2 wrong usage; 3 rows not understood, or differences.
    """
    known = known_directory(directory, anchor)
    with Bar("reading") as bar:
        done = [read_export(path, bar) for path in exports]
    searches = [s for one in done for s in one.searches]
    compared = None
    if log is not None:
        with LogReader.open(log) as reader, reader.snapshot():
            compared = compare(searches, reader, known.federation if known else None)
    if rejects is not None:
        files.write_new(rejects, _kept(done), mode=files.PRIVATE)
    if as_json:
        _write_json(done, compared, rows)
    else:
        _write_words(done, compared, rows)
    if any(one.unread for one in done) or (compared is not None and not compared.agree):
        sys.exit(3)


def _kept(done: Sequence[Imported]) -> bytes:
    lines = (
        orjson.dumps({"file": one.file.name, "line": u.line, "why": u.why, "cells": list(u.cells)}) + b"\n"
        for one in done
        for u in one.unread
    )
    return b"".join(lines)


def _write_json(done: Sequence[Imported], compared: Compared | None, rows: bool) -> None:
    for one in done:
        for s in one.searches if rows else ():
            span = {"begin": to_text(s.begin) if s.begin else None, "end": to_text(s.end) if s.end else None}
            said = {"org": s.org, "at": to_text(s.at), "networks": s.networks, "devices": s.devices, **span}
            states = {"person": s.person, "plate": s.plate, "case": s.case}
            click.echo(
                orjson.dumps({"event": "search", "file": one.file.name, "line": s.line, "id": s.id, **said, **states})
            )
        for u in one.unread:
            click.echo(orjson.dumps({"event": "unread", "file": one.file.name, "line": u.line, "why": u.why}))
        odd = {o.value: {"rows": n, "lines": one.examples[o]} for o, n in sorted(one.odd.items())}
        counts = {"read": len(one.searches), "unread": len(one.unread), "odd": odd}
        click.echo(orjson.dumps({"event": "file", "file": one.file.name, **counts}))
    if compared is not None:
        click.echo(orjson.dumps({"event": "compared", **_compared_json(compared)}))


def _compared_json(c: Compared) -> dict[str, Any]:
    days = [{"agency": d.agency, "day": d.day.isoformat(), "log": d.ours, "exports": d.theirs} for d in c.differing]
    span = {"first": c.first.isoformat(), "last": c.last.isoformat(), "days": c.days, "agree": c.agree}
    ids = {"by_id": c.by_id, "not_in_log": list(c.not_ours), "not_in_exports": list(c.not_theirs)}
    return {**span, "differing": days, "unknown_organisations": list(c.unknown_orgs), **ids}


def _write_words(done: Sequence[Imported], compared: Compared | None, rows: bool) -> None:
    for one in done:
        name = plain(one.file.name)
        for s in one.searches if rows else ():
            said = f"{to_text(s.at)} {plain(s.org)} {s.networks if s.networks is not None else '-'} networks"
            click.echo(f"{name}:{s.line}: {said}, plate {s.plate}, case number {s.case}")
        for u in one.unread:
            click.echo(f"{name}:{u.line}: not read: {u.why}")
        for oddity, count in sorted(one.odd.items()):
            lines = ", ".join(str(n) for n in one.examples[oddity] if n)
            click.echo(f"{name}: {oddity.value}: {count} rows{f' (lines {lines}, ...)' if lines else ''}")
        orgs = Counter(s.org for s in one.searches)
        click.echo(
            f"{name}: {len(one.searches)} searches of {len(orgs)} organisations read, {len(one.unread)} rows not."
        )
    if compared is not None:
        _write_compared(compared)


def _write_compared(c: Compared) -> None:
    for org in c.unknown_orgs[:_SHOWN]:
        click.echo(f"no agency of the directory: {plain(org)}")
    for d in c.differing[:_SHOWN]:
        click.echo(f"{d.day} {plain(d.agency)}: {d.ours} in the log, {d.theirs} in the exports")
    for what, ids in (("the log", c.not_ours), ("the exports", c.not_theirs)):
        if ids:
            click.echo(
                f"{len(ids)} ids are not in {what}: {', '.join(ids[:_SHOWN])}{' ...' if len(ids) > _SHOWN else ''}"
            )
    if not c.by_id:
        click.echo("ids were not compared: the exports' are no ids of inquiries")
    more = f"; {len(c.differing) - _SHOWN} more are in --json" if len(c.differing) > _SHOWN else ""
    click.echo(f"{c.first} to {c.last}: {len(c.differing)} of {c.days} agency-days differ{more}.")
