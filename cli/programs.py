"""`comity broker` and `comity node`: the programs' own commands, run as `python -m broker` and `python -m node`."""

from __future__ import annotations

import os
import sys

import click

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command(context_settings=_PASS_ON)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def broker(args: tuple[str, ...]) -> None:
    """Set up and run a broker."""
    _become("broker", args)


@click.command(context_settings=_PASS_ON)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def node(args: tuple[str, ...]) -> None:
    """Set up and run a node, and read detections in."""
    _become("node", args)


def _become(program: str, args: tuple[str, ...]) -> None:
    os.execv(sys.executable, [sys.executable, "-m", program, *args])  # noqa: S606
