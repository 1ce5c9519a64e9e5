"""`comity node ingest` and `comity node replay`: what brings camera records in by hand."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from comity.errors import InvalidInput
from node.formats.interface import RecordFormat
from node.ingest import Ingester, Tally
from node.reasons import in_words
from node.store.bulk import Load
from node.store.interface import Added
from node.store.sqlite import SqliteStore

FOLDER = click.Path(path_type=Path, file_okay=False)
PARTLY = 3


@click.command()
@click.argument("state", type=FOLDER)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "format_", type=click.Choice([f.value for f in RecordFormat]), help="Default: by the name.")
@click.option("--bulk", is_flag=True, help="Straight into sealed parts: years of reads, several times as fast.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
def ingest(state: Path, files: tuple[Path, ...], format_: str | None, bulk: bool, as_json: bool) -> None:
    """Read camera FILES in: OpenALPR and Rekor JSON (.json, .jsonl), FIWARE (.fiware.json), Hikvision (.xml, .mime),
    CSV (.csv) and Parquet (.parquet). Reading one again adds nothing.

    Bad records are set aside in STATE/set-aside with line and reason. The node may be serving meanwhile.

    With --bulk nothing is acknowledged before the last file is in; what was known already is told at the end. If it is
    cut short, some days or months may be in: doing it again is safe.

    Example: comity node ingest ./node /srv/cameras/2026-01-31.jsonl

    Exit codes: 0 all read in; 3 some records were set aside; 1 a file could not be read; 2 wrong usage.
    """
    from node.parts import Parts

    parts = Parts.open(state)
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(_loading(parts.store)) if bulk else None
        ingester = parts.ingester.into(load) if load else parts.ingester
        bad = _each(ingester, files, RecordFormat(format_) if format_ else None, as_json)
        if load:
            _say_bulk(load.finish(), as_json)
    parts.counters.flush()
    parts.store.close()
    sys.exit(PARTLY if bad else 0)


def _each(ingester: Ingester, files: tuple[Path, ...], format_: RecordFormat | None, as_json: bool) -> bool:
    """True if records were set aside."""
    bad = False
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        for path in files:
            task = progress.add_task(path.name, total=None)

            def show(tally: Tally, task: object = task) -> None:
                progress.update(task, completed=tally.read_bytes, total=tally.total_bytes)  # type: ignore[arg-type]

            try:
                tally = ingester.ingest_file(path, show, format_=format_)
            except InvalidInput as e:
                raise InvalidInput(f"{path}: {e}", reason=e.reason) from None
            progress.remove_task(task)
            bad = bad or tally.rejected > 0
            _say(path, tally, as_json)
    return bad


def _loading(store: object) -> AbstractContextManager[Load]:
    if not isinstance(store, SqliteStore):
        raise InvalidInput("only the embedded store takes a bulk load", reason="NO_BULK")
    return store.loading()


def _say_bulk(added: Added, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({"bulk": True, **asdict(added)}))
    else:
        click.echo(f"sealed: {added.accepted} new, {added.duplicates} known")


@click.command()
@click.argument("state", type=FOLDER)
@click.option("--since", type=click.DateTime(), help="UTC; only what was set aside at or after it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def replay(state: Path, since: dt.datetime | None, as_json: bool) -> None:
    """Read the records set aside in STATE again, after what was wrong with them was put right.

    Those that are good now are detections and set aside no more; the rest stays. The node may be serving meanwhile.

    Example: comity node replay ./node --since 2026-01-31

    Exit codes: 0 none is left; 3 some still are; 1 failed; 2 wrong usage.
    """
    from node.parts import Parts

    parts = Parts.open(state)
    done = parts.ingester.replay(since.replace(tzinfo=dt.UTC) if since else None)
    parts.counters.flush()
    parts.store.close()
    if as_json:
        click.echo(orjson.dumps(asdict(done)))
    else:
        click.echo(f"{done.accepted} new, {done.duplicates} known, {done.left} still set aside")
        if done.left:
            click.echo(f"  {in_words(done.reasons)}")
    sys.exit(PARTLY if done.left else 0)


def _say(path: Path, tally: Tally, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({"file": str(path), **asdict(tally)}))
        return
    click.echo(
        f"{path.name}: {tally.accepted} new, {tally.duplicates} known, {tally.rejected} set aside, "
        f"{tally.expired} past retention" + (f" ({in_words(tally.reasons)})" if tally.reasons else "")
    )
