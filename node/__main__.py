"""`comity node`, or `python -m node`: make a node's state folder, serve from it, and read detections in."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click
import orjson
import uvloop
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from audit.log import DecisionLog
from comity import instants
from comity.errors import ComityError, NotYet
from identity.folder import IdentityFolder
from identity.state_folder import make_config
from node.ingest import Tally
from node.store.sqlite import SqliteStore

FOLDER = click.Path(path_type=Path, file_okay=False)
PARTLY = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def node() -> None:
    """Set up and run a node, and read detections in.

    Example: comity node ingest ./node reads.jsonl

    Exit codes: 0 done, 1 failure, 2 wrong usage; ingest: 3 some records were set aside.
    """


@node.command()
@click.argument("state", type=FOLDER)
@click.option("--identity", type=FOLDER, required=True, help="The node's identity folder.")
@click.option("--broker", "brokers", multiple=True, required=True, help="HOST:PORT to attach to; may be repeated.")
@click.option("--ingest", default="", help="HOST:PORT for this agency's cameras. Default: files only.")
@click.option("--admin", default="", help="Loopback HOST:PORT for health. Default: none.")
def init(state: Path, identity: Path, brokers: tuple[str, ...], ingest: str, admin: str) -> None:
    """Make the folder STATE: node.toml, an empty detection store, and an empty decision log with its key.

    Example: comity node init ./node --identity ./node-identity --broker broker.example:7444

    Exit codes: 0 made, 1 refused (something is there already), 2 wrong usage.
    """
    folder = IdentityFolder.load(identity)
    values: dict[str, str | list[str]] = {"identity": str(identity.resolve()), "brokers": list(brokers)}
    values |= {k: v for k, v in (("ingest", ingest), ("admin", admin)) if v}
    make_config(state, "node.toml", values)
    SqliteStore.create(state / "store")
    origin = f"{folder.spiffe.trust_domain}/node/{folder.spiffe.id}"
    DecisionLog.create(state, origin=origin, clock=instants.now).close()
    click.echo(f"Made {state}. Give {state / 'log.vkey'} to the federation's operator, who pins it in the directory.")


@node.command()
@click.argument("state", type=FOLDER)
def serve(state: Path) -> None:
    """Serve from STATE until told to stop; the log goes to standard error, one JSON object a line.

    Example: comity node serve ./node

    Exit codes: 0 stopped in order, 1 failed or the decision log broke, 2 wrong usage.
    """
    from node.app import run  # gRPC starts threads of its own: only when it serves

    sys.exit(uvloop.run(run(state)))


@node.command()
@click.argument("state", type=FOLDER)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
def ingest(state: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Read camera FILES in: OpenALPR and Rekor JSON (.json, .jsonl) and CSV (.csv). Reading one again adds nothing.

    Bad records are set aside in STATE/set-aside with line and reason. The node may be serving meanwhile.

    Example: comity node ingest ./node /srv/cameras/2026-01-31.jsonl

    Exit codes: 0 all read in; 3 some records were set aside; 1 a file could not be read; 2 wrong usage.
    """
    from node.app import Parts

    parts = Parts.open(state)
    bad = False
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        for path in files:
            task = progress.add_task(path.name, total=None)

            def show(tally: Tally, task: object = task) -> None:
                progress.update(task, completed=tally.read_bytes, total=tally.total_bytes)  # type: ignore[arg-type]

            tally = parts.ingester.ingest_file(path, show)
            progress.remove_task(task)
            bad = bad or tally.rejected > 0
            _say(path, tally, as_json)
    parts.store.close()
    sys.exit(PARTLY if bad else 0)


@node.command()
@click.argument("state", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(state: Path, as_json: bool) -> None:
    """What STATE holds: detections, the oldest and newest, retention, and the decision log's size.

    Example: comity node status ./node

    Exit codes: 0 read, 1 it cannot be read, 2 wrong usage.
    """
    from audit.read import LogReader
    from node.app import Parts

    parts = Parts.open(state)
    oldest, newest = parts.store.oldest(), parts.store.newest()
    with LogReader.open(state) as log:
        values = {
            "node": parts.node,
            "agency": parts.agency,
            "retention_s": parts.retention_s,
            "detections": parts.store.count(),
            "oldest": instants.to_text(oldest) if oldest else None,
            "newest": instants.to_text(newest) if newest else None,
            "log_entries": log.head()[0],
        }
    parts.store.close()
    if as_json:
        click.echo(orjson.dumps(values))
    else:
        for key, value in values.items():
            click.echo(f"{key:<12} {value}")


def _not_yet(name: str, what: str) -> None:
    @node.command(name=name, context_settings={"ignore_unknown_options": True}, help=f"Not yet: {what}.")
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def refuse(args: tuple[str, ...]) -> None:  # noqa: ARG001
        raise NotYet(f"comity node {name} is not there yet: {what}")


_not_yet("purge", "a node that serves purges by age itself")
_not_yet("hold", "legal holds")
_not_yet("copy", "moving to another store")


def _say(path: Path, tally: Tally, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({"file": str(path), **asdict(tally)}))
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(tally.reasons.items()))
    click.echo(
        f"{path.name}: {tally.accepted} new, {tally.duplicates} known, {tally.rejected} set aside, "
        f"{tally.expired} past retention" + (f" ({reasons})" if reasons else "")
    )


def main() -> None:
    """Run the command; an error that Comity foresaw is one line and exit code 1."""
    try:
        node(prog_name="comity node")
    except ComityError as error:
        click.echo(f"comity node: {error} [{error.reason}]", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
