"""`comity broker`, or `python -m broker`: make a broker's state folder, and serve from it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import uvloop

from audit.cosignature import witness_name
from audit.log import DecisionLog
from audit.witness import VKEY_NAME, Witness
from broker.state import folder as kept
from comity import config, instants
from comity.errors import ComityError, ConfigError
from identity import files
from identity.folder import IdentityFolder
from identity.state_folder import make_config

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def broker() -> None:
    """Set up and run a broker.

    Example: comity broker serve ./broker

    Exit codes: 0 done, 1 failure, 2 wrong usage.
    """


@broker.command()
@click.argument("state", type=FOLDER)
@click.option("--identity", type=FOLDER, required=True, help="The broker's identity folder.")
@click.option("--investigators", default="127.0.0.1:7443", show_default=True, help="HOST:PORT for investigators.")
@click.option("--nodes", default="127.0.0.1:7444", show_default=True, help="HOST:PORT for nodes.")
@click.option("--admin", default="127.0.0.1:7445", show_default=True, help="Loopback HOST:PORT for health.")
def init(state: Path, identity: Path, investigators: str, nodes: str, admin: str) -> None:
    """Make the folder STATE: broker.toml, an empty decision log with its key, and a witness's key and memory.

    Also a folder for the policies that agencies publish.

    Example: comity broker init ./broker --identity ./broker-identity

    Exit codes: 0 made, 1 refused (something is there already), 2 wrong usage.
    """
    folder = IdentityFolder.load(identity)
    if folder.spiffe.kind != "broker":  # else it is said by serve, after the log's key has been pinned
        raise ConfigError(f"{identity} is the identity of a {folder.spiffe.kind}, not of a broker", reason="WRONG_KIND")
    for option, given in (("--investigators", investigators), ("--nodes", nodes), ("--admin", admin)):
        config.address(given, key=option)
    make_config(
        state,
        "broker.toml",
        {
            "identity": str(identity.resolve()),
            "listen_investigators": investigators,
            "listen_nodes": nodes,
            "admin": admin,
        },
    )
    origin = f"{folder.spiffe.trust_domain}/broker/{folder.spiffe.id}"
    DecisionLog.create(state, origin=origin, clock=instants.now).close()
    Witness.create(state, witness_name(folder.spiffe.trust_domain, folder.spiffe.id))
    files.make_folder(state / kept.FOLDER)
    click.echo(
        f"Made {state}. Give {state / 'log.vkey'} and {state / VKEY_NAME} to the federation's operator, who pins them "
        "in the directory."
    )


@broker.command()
@click.argument("state", type=FOLDER)
def serve(state: Path) -> None:
    """Serve from STATE until told to stop; the log goes to standard error, one JSON object a line.

    Example: comity broker serve ./broker

    Exit codes: 0 stopped in order, 1 failed or the decision log broke, 2 wrong usage.
    """
    from broker.app import run  # gRPC starts threads of its own: only when it serves

    sys.exit(uvloop.run(run(state)))


def main() -> None:
    """Run the command; an error that Comity foresaw is one line and exit code 1."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines are for its makers
    try:
        broker(prog_name="comity broker")
    except ComityError as error:
        click.echo(f"comity broker: {error} [{error.reason}]", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
