"""The `comity` command: one group for each reader's work, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click
import setproctitle

from comity.errors import ComityError

# name -> (module, attribute, the line that `comity --help` shows)
COMMANDS = {
    "demo": ("cli.demo.command", "demo", "The sample federation as real processes on this machine."),
    "search": ("cli.search", "search", "Search a plate at every agency that may answer."),
    "approve": ("cli.approve", "approve", "Add a supervisor's signature to a drafted inquiry."),
    "identity": ("cli.directory", "identity", "Certificates for persons, nodes, cameras and brokers."),
    "broker": ("cli.programs", "broker", "Set up and run a broker."),
    "node": ("cli.programs", "node", "Set up and run a node, and read detections in."),
    "policy": ("cli.policy", "policy", "Test and bundle policies."),
    "audit": ("cli.audit", "audit", "Read and verify decision logs."),
}


class LazyGroup(click.Group):
    """Imports a subcommand when it is called, so that `--help` is quick and a part that fails harms no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every subcommand, in the order of a reader's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The subcommand, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="comity")
def cli() -> None:
    """Ask many agencies' plate detections in one search, under every agency's own policy.

    Example: comity search 7ABC123 --state CA --purpose stolen-vehicle --case PA-26-0101

    Exit codes: 0 done, 1 failure, 2 wrong usage; a command's own --help names any further ones.
    """


def main() -> None:
    """Run the command; an error that Comity foresaw is one line on standard error and exit code 1."""
    # The arguments may name a plate: other users of the machine shall not read them in the process list.
    setproctitle.setproctitle(" ".join(["comity", *sys.argv[1:2]]))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines are for its makers
    try:
        cli(prog_name="comity")
    except ComityError as e:
        # A file's name may be somebody else's choice: no control character of it reaches the terminal.
        told = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(e))
        click.echo(f"comity: {told} [{e.reason}]", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
