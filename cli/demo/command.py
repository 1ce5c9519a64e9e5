"""`comity demo`: the sample federation as real processes on loopback, with mutual TLS."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.rule import Rule

from cli.demo.build import Builder, Layout
from cli.demo.play import Play
from cli.demo.processes import Program, start_all, stop_all
from cli.demo.story import EXCLUDED, STEPS, planted
from cli.shown import console
from comity import instants
from comity.errors import ComityError, ConfigError

DEFAULT_DIR = Path(".demo")
DIR = click.option("--dir", "root", type=click.Path(path_type=Path, file_okay=False), help="The federation's folder.")
READS = click.option(
    "--reads", type=click.IntRange(1, 10_000_000), default=10_000, show_default=True, help="Detections a node."
)


@click.group()
def demo() -> None:
    """The sample federation: one broker and eight nodes as real processes on this machine, with mutual TLS.

    Example: comity demo up; comity demo status; comity demo down

    Exit codes: 0 done, and every step as it should be; 1 a step was not, or something failed; 2 wrong usage.
    """


@demo.command()
@DIR
@READS
def run(root: Path | None, reads: int) -> None:
    """Build the federation, play the story of searches, verify every log, and stop.

    Example: comity demo run --reads 2000

    Exit codes: 0 every step came out as it should; 1 one did not; 2 wrong usage.
    """
    out = console()
    folder = root or Path(tempfile.mkdtemp(prefix="comity-demo-"))
    try:
        layout, play = _up(folder, reads, out), None
        try:
            play = Play(layout, out)
            for number, step in enumerate(STEPS, 1):
                play.step(number, step)
            out.print(Rule("The decision logs", align="left"))
            play.verify_logs()
            play.show_decision()
            play.alter_a_copy()
        finally:
            stop_all(*_programs(layout))
    finally:
        if root is None:
            shutil.rmtree(folder, ignore_errors=True)
    if play.failures:
        for failure in play.failures:
            out.print(f"not as it should be: {failure}", style="bold red", markup=False)
        sys.exit(1)
    out.print("Every step came out as it should.", style="bold green")


@demo.command()
@DIR
@READS
def up(root: Path | None, reads: int) -> None:
    """Build the federation if it is not there, start it, and leave it running.

    Example: comity demo up --dir ./demo

    Exit codes: 0 it runs; 1 it could not be built or started; 2 wrong usage.
    """
    folder = root or DEFAULT_DIR
    _up(folder, reads, console())
    me = folder / "identities" / "us-ca-port-alder-pd" / "investigator"
    click.echo(f"It runs. Try: comity search 7STL042 --state CA --purpose stolen-vehicle --case PA-1 --identity {me}")
    click.echo(f"Stop it with: comity demo down --dir {folder}")


@demo.command()
@DIR
@click.option("--json", "as_json", is_flag=True, help="One JSON object a program.")
def status(root: Path | None, as_json: bool) -> None:
    """Which programs run.

    Example: comity demo status --dir ./demo

    Exit codes: 0 all run; 1 one does not, or there is no federation; 2 wrong usage.
    """
    broker, nodes = _programs(_existing(root))
    for program in (broker, *nodes):
        pid = program.pid
        if as_json:
            click.echo(orjson.dumps({"program": program.kind, "id": program.state.name, "pid": pid}))
        else:
            click.echo(f"{program.kind:<7} {program.state.name:<15} {f'runs as {pid}' if pid else 'does not run'}")
    sys.exit(0 if all(p.pid for p in (broker, *nodes)) else 1)


@demo.command()
@DIR
def down(root: Path | None) -> None:
    """Stop it; the folder stays, and `up` starts it again.

    Example: comity demo down --dir ./demo

    Exit codes: 0 nothing runs any more; 1 there is no federation; 2 wrong usage.
    """
    layout = _existing(root)
    broker, nodes = _programs(layout)
    running = sum(p.pid is not None for p in (broker, *nodes))
    stop_all(broker, nodes)
    click.echo(f"{running} programs stopped; {layout.root} stays: comity demo up --dir {layout.root} starts it again")


def _up(root: Path, reads: int, out: Console) -> Layout:
    layout = Layout.of(root)
    began = time.monotonic()

    def say(text: str) -> None:
        out.print(f"{time.monotonic() - began:5.1f} s  {text}", style="dim")

    if not (layout.broker / "log.db").exists():
        if root.exists() and any(root.iterdir()):
            raise ConfigError(f"{root} is not empty and holds no sample federation: name another --dir")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            Builder(layout, reads=reads, planted=planted(instants.now()), excluded=EXCLUDED, say=say).build()
        except ComityError:
            shutil.rmtree(root, ignore_errors=True)
            raise
    broker, nodes = _programs(layout)
    if any(p.pid for p in (broker, *nodes)):
        raise ConfigError(
            f"the federation in {root} runs already: use it, or stop it with comity demo down --dir {root}"
        )
    say("starting one broker and eight nodes, each a process of its own")
    try:
        start_all(broker, nodes)
    except ComityError:
        stop_all(broker, nodes)
        raise
    say("every node has dialled out and is attached")
    return layout


def _programs(layout: Layout) -> tuple[Program, list[Program]]:
    nodes = [Program("node", layout.node(n)) for n in sorted(layout.federation.nodes)]
    return Program("broker", layout.broker), nodes


def _existing(root: Path | None) -> Layout:
    layout = Layout.of(root or DEFAULT_DIR)
    if not (layout.broker / "log.db").exists():
        raise ConfigError(f"there is no sample federation in {layout.root}: comity demo up --dir {layout.root}")
    return layout
