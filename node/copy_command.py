"""`comity node copy`, and the making and migrating of a node's store."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from audit.log import DecisionLog
from comity import instants
from comity.errors import ConfigError
from identity.folder import IdentityFolder
from node.config import NodeConfig
from node.copying import CHECK, COPY, Copying
from node.store.choose import StoreAt

FOLDER = click.Path(path_type=Path, file_okay=False)
KEPT_S = 100 * 365 * 86_400  # all rows are copied, whatever their retention


@click.command()
@click.argument("state", metavar="FROM", type=FOLDER)
@click.argument("url", metavar="TO")
@click.option("--password-file", default="", help="The password of TO's database, mode 0600. Default: as FROM's.")
@click.option("--check", is_flag=True, help="Copy nothing; only compare counts and digests.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def copy(state: Path, url: str, password_file: str, check: bool, as_json: bool) -> None:
    """Copy all detections of the node FROM, a state folder, into the store TO: sqlite:FOLDER (under FROM) or
    postgresql://USER@HOST/DB. Then compare count and digest of every month.

    Stop the node first, and whatever reads in. Killed, it goes on where it was when run again. Nothing is deleted.
    What is held for a court, pictures and set-aside records are in FROM itself, whichever store it has.

    Example: comity node copy ./node postgresql://comity@127.0.0.1/comity

    Exit codes: 0 both are alike, 1 they are not or it failed, 2 wrong usage.
    """
    config = NodeConfig.load(state)
    source = StoreAt.parse(config.store, state, password_file=config.store_password_file)
    secret = str(Path(password_file).resolve()) if password_file else config.store_password_file
    target = StoreAt.parse(url, state, password_file=secret)
    if source.words == target.words:
        raise ConfigError("FROM and TO are the same store", reason="SAME_STORE")
    name = IdentityFolder.load(state / config.identity).spiffe
    who = {"agency": name.trust_domain, "node": name.id}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # The log's lock, which one process has: a serving node would purge what is being copied.
    with (
        DecisionLog.open(state, clock=instants.now),
        closing(source.moving(**who, retention_s=KEPT_S, clock=instants.now)) as one,
        Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress,
    ):
        if not check:
            target.create(**who, now=instants.now())
        with closing(target.moving(**who, retention_s=KEPT_S, clock=instants.now)) as other:
            rows = one.count()
            tasks: dict[str, TaskID] = {}
            totals = {COPY: rows, CHECK: 2 * rows}

            def say(what: str, more: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=totals[what])
                progress.update(tasks[what], advance=more)

            copying = Copying(state, source.words, target.words, say)
            report = copying.check(one, other) if check else copying.run(one, other)
    if as_json:
        months = [{"month": month, **asdict(total)} for month, total in report.months]
        found = {"from": source.words, "to": target.words, "rows": report.rows, "resumed": report.resumed}
        click.echo(orjson.dumps(found | {"months": months}))
        return
    click.echo(f"{report.rows} detections are alike in {source.words} and {target.words}.")
    if not check:
        lines = f'store = "{url}"' + (f' and store_password_file = "{secret}"' if password_file else "")
        click.echo(f"Next: {lines} in {state / 'node.toml'}, start the node, and delete the old store.")


def make_store(state: Path) -> int:
    """How many versions the store of `state` was brought forward; it is made if it is not there.

    Raises:
        ConfigError, StoreError: it was not.
    """
    config = NodeConfig.load(state)
    name = IdentityFolder.load(state / config.identity).spiffe
    at = StoreAt.parse(config.store, state, password_file=config.store_password_file)
    return at.create(agency=name.trust_domain, node=name.id, now=instants.now())
