"""`comity node`, or `python -m node`: make a node's state folder, serve from it, and read detections in."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
import orjson
import setproctitle
import uvloop

from audit.cosignature import witness_name
from audit.entry import Draft
from audit.log import DecisionLog
from audit.witness import VKEY_NAME, Witness
from comity import config, instants
from comity.errors import ComityError, ConfigError
from comity.plate import Plate
from identity.folder import IdentityFolder
from identity.state_folder import make_config
from node import counters
from node.config import NodeConfig
from node.copy_command import copy, make_store
from node.holds import FOLDER as HOLDS_FOLDER
from node.holds import HOLD, PRESERVATION, PRESERVATION_DAYS, Holds
from node.ingest_commands import ingest, replay
from node.reasons import surface_lines
from node.retention import known_ms
from node.store.choose import DEFAULT, StoreAt
from node.store.held import FILE as HELD_FILE
from node.store.held import Held, Scope
from node.store.status import SET_ASIDE

FOLDER = click.Path(path_type=Path, file_okay=False)
IDENTITY = click.option(
    "--identity", type=FOLDER, envvar="COMITY_IDENTITY", required=True, help="Your identity folder."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def node() -> None:
    """Set up and run a node, and read detections in.

    Example: comity node ingest ./node reads.jsonl

    Exit codes: 0 done, 1 failure, 2 wrong usage; ingest and replay: 3 some records are set aside.
    """


@node.command()
@click.argument("state", type=FOLDER)
@click.option("--identity", type=FOLDER, help="The node's identity folder.")
@click.option("--broker", "brokers", multiple=True, help="HOST:PORT to attach to; may be repeated.")
@click.option("--ingest", default="", help="HOST:PORT for this agency's cameras. Default: files only.")
@click.option("--admin", default="", help="Loopback HOST:PORT for health. Default: none.")
@click.option("--store", "url", default=DEFAULT, show_default=True, help="sqlite:FOLDER or postgresql://USER@HOST/DB.")
@click.option("--store-password-file", default="", help="The database's password, mode 0600. Default: PGPASSWORD.")
@click.option("--migrate", is_flag=True, help="STATE is there: bring its store to this version's form.")
def init(
    state: Path,
    identity: Path | None,
    brokers: tuple[str, ...],
    ingest: str,
    admin: str,
    url: str,
    store_password_file: str,
    migrate: bool,
) -> None:
    """Make the folder STATE: node.toml, an empty detection store, an empty decision log with its key, and a witness's
    key and memory.

    Example: comity node init ./node --identity ./node-identity --broker broker.example:7444

    Exit codes: 0 made, 1 refused (something is there already), 2 wrong usage.
    """
    if migrate:
        click.echo(f"The store is {make_store(state)} versions further.")
        return
    if identity is None or not brokers:
        raise click.UsageError("give --identity and --broker, or --migrate for a STATE that is there")
    folder = IdentityFolder.load(identity)
    if folder.spiffe.kind != "node":  # else it is said by serve, after the log's key has been pinned
        raise ConfigError(f"{identity} is the identity of a {folder.spiffe.kind}, not of a node", reason="WRONG_KIND")
    for option, given in (*(("--broker", b) for b in brokers), ("--ingest", ingest), ("--admin", admin)):
        if given or option == "--broker":
            config.address(given, key=option)
    values: dict[str, str | list[str]] = {"identity": str(identity.resolve()), "brokers": list(brokers)}
    if store_password_file:
        store_password_file = str(Path(store_password_file).resolve())
    some = (("ingest", ingest), ("admin", admin), ("store_password_file", store_password_file))
    values |= {k: v for k, v in some if v}
    values |= {} if url == DEFAULT else {"store": url}
    at = StoreAt.parse(url, state, password_file=store_password_file)
    name = folder.spiffe
    if at.folder is None:  # first: a server that refuses shall leave no half-made folder
        at.create(agency=name.trust_domain, node=name.id, now=instants.now())
    make_config(state, "node.toml", values)
    if at.folder is not None:
        at.create(agency=name.trust_domain, node=name.id, now=instants.now())
    origin = f"{folder.spiffe.trust_domain}/node/{folder.spiffe.id}"
    DecisionLog.create(state, origin=origin, clock=instants.now).close()
    Witness.create(state, witness_name(folder.spiffe.trust_domain, folder.spiffe.id))
    click.echo(
        f"Made {state}. Give {state / 'log.vkey'} and {state / VKEY_NAME} to the federation's operator, who pins them "
        "in the directory."
    )


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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(state: Path, as_json: bool) -> None:
    """What STATE holds: its parts with rows and sizes, the oldest and newest, how far ingest lags, parts that were
    set aside because they are damaged, rows held for a court, retention, and the decision log's size.

    Example: comity node status ./node

    Exit codes: 0 read, 1 it cannot be read, 2 wrong usage.
    """
    from audit.read import LogReader
    from node.parts import Parts

    parts = Parts.open(state)
    found = parts.store.status()
    with LogReader.open(state) as log:
        values: dict[str, object] = {
            "node": parts.node,
            "agency": parts.agency,
            "retention_s": parts.retention_s,
            "detections": found.rows,
            "bytes": found.size_bytes,
            "oldest": instants.to_text(found.oldest) if found.oldest else None,
            "newest": instants.to_text(found.newest) if found.newest else None,
            "ingest_lag_s": found.lag_s,
            "set_aside": sum(p.state == SET_ASIDE for p in found.parts),
            "held": sum(Held(state / HELD_FILE).counts().values()),
            "log_entries": log.head()[0],
        }
    parts.store.close()
    ingest = counters.read(state / counters.FILE)
    if as_json:
        click.echo(orjson.dumps(values | {"ingest": ingest} | {"parts": [p.as_json() for p in found.parts]}))
        return
    for key, value in values.items():
        click.echo(f"{key:<12} {value}")
    for surface, counts in ingest.items():
        click.echo("\n".join(surface_lines(surface, counts)))
    if any(counts.get("rejected") for counts in ingest.values()):
        click.echo(f"  rejected records are in {state / 'set-aside'}; once put right: comity node replay {state}")
    for part in found.parts:
        times = " to ".join(instants.to_text(t) for t in (part.oldest, part.newest) if t)
        click.echo(f"  {part.name:<16} {part.state:<9} {part.rows:>10} rows {part.size_bytes:>12} bytes  {times}")
        if part.reason:
            click.echo(f"    {part.reason}: searches of this span fail; put its backup in its place and restart")


@node.command()
@click.argument("state", type=FOLDER)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--clock-checked", is_flag=True, help="The clock is right, though the last purge was a day ago.")
@click.option("--without-hold", "lost", multiple=True, help="A hold whose file is lost or not believed; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def purge(state: Path, dry_run: bool, clock_checked: bool, lost: tuple[str, ...], as_json: bool) -> None:
    """Delete what is past its retention from STATE now, sealed parts included, and write the log's entry.

    A node that serves purges by itself, and has the log: stop it first, or use --dry-run, which always works.
    Backups made before are yours to purge.

    Example: comity node purge ./node --dry-run

    Exit codes: 0 done, 1 nothing or not all was purged, 2 wrong usage.
    """
    from node.parts import Parts

    parts, now = Parts.open(state), instants.now()
    before = now - dt.timedelta(seconds=parts.retention_s)
    if dry_run:
        report = parts.retention(state, _never).rehearse(before, slack=dt.timedelta())
    else:
        with DecisionLog.open(state, clock=instants.now) as log:
            known = 0 if clock_checked else known_ms(state, log)
            report = parts.retention(state, recorder(log), known).run(now, before, slack=dt.timedelta(), without=lost)
    parts.store.close()
    if as_json:
        gone = [
            {"file": g.name, "whole": g.whole, "rows": g.rows, "rules": list(g.rules), "digest": g.digest.hex()}
            for g in report.files
        ]
        click.echo(orjson.dumps({"dry_run": dry_run, "rows": report.rows, "held": report.held, "files": gone}))
        return
    for g in report.files:
        click.echo(f"{g.name}: {g.rows} rows{' and the file' if g.whole else ''}, {', '.join(g.rules)}")
    verb = "would go" if dry_run else "gone"
    click.echo(f"{report.rows} detections {verb}, {report.held} of them kept for a hold")


node.add_command(copy)
node.add_command(ingest)
node.add_command(replay)


@node.group()
def hold() -> None:
    """Keep detections past their retention for a court (hold) or a request to preserve them (14 days).

    It takes two persons of the agency, one a supervisor: one adds or ends, the other approves within a day.
    What is held is copied to hold.db when it expires; searches never return it.

    Example: comity node hold list ./node

    Exit codes: 0 done, 1 refused, 2 wrong usage.
    """


@hold.command(name="add")
@click.argument("state", type=FOLDER)
@click.option("--plate", default="", help="Number; look-alike readings are held too.")
@click.option("--state", "issuer", default="", help="Its issuing state; default: any.")
@click.option("--camera", default="", help="A camera's id.")
@click.option("--from", "begin", type=click.DateTime(), help="UTC; with --to the window of capture.")
@click.option("--to", "end", type=click.DateTime(), help="UTC.")
@click.option("--reason", required=True, help="Why; kept in the hold's file only.")
@click.option("--order", required=True, help="The court order's or request's reference.")
@click.option("--days", type=int, default=PRESERVATION_DAYS, show_default=True, help="How long it holds.")
@click.option("--preservation", is_flag=True, help="A request to preserve: at most 14 days.")
@IDENTITY
def hold_add(
    state: Path,
    plate: str,
    issuer: str,
    camera: str,
    begin: dt.datetime | None,
    end: dt.datetime | None,
    reason: str,
    order: str,
    days: int,
    preservation: bool,
    identity: Path,
) -> None:
    """Draft a hold in STATE; it holds nothing until another person approves it.

    Example: comity node hold add ./node --camera pa-001 --reason appeal --order CO-26-17 --days 90 --identity ./me

    Exit codes: 0 drafted, 1 refused, 2 wrong usage.
    """
    scope = Scope(
        plate=Plate.parse(plate, issuer, state_required=False) if plate else None,
        camera=camera,
        begin=begin.replace(tzinfo=dt.UTC) if begin else None,
        end=end.replace(tzinfo=dt.UTC) if end else None,
    )
    kind = PRESERVATION if preservation else HOLD
    signer = IdentityFolder.load(identity).signer
    made = _holds(state).add(scope, kind=kind, reason=reason, order=order, days=days, signer=signer)
    click.echo(f"Drafted {made.hold_id}. Next: another person runs comity node hold approve {state} {made.hold_id}")


@hold.command(name="approve")
@click.argument("state", type=FOLDER)
@click.argument("hold_id")
@IDENTITY
def hold_approve(state: Path, hold_id: str, identity: Path) -> None:
    """Sign the drafted hold, or its drafted end, as the second person.

    Example: comity node hold approve ./node HOLD-ID --identity ./me

    Exit codes: 0 signed, 1 refused, 2 wrong usage.
    """
    made = _holds(state).approve(hold_id, IdentityFolder.load(identity).signer)
    click.echo(f"{made.hold_id} is {made.state}")


@hold.command(name="end")
@click.argument("state", type=FOLDER)
@click.argument("hold_id")
@IDENTITY
def hold_end(state: Path, hold_id: str, identity: Path) -> None:
    """Draft the end of a hold; it goes on until another person approves that.

    Example: comity node hold end ./node HOLD-ID --identity ./me

    Exit codes: 0 drafted, 1 refused, 2 wrong usage.
    """
    made = _holds(state).end(hold_id, IdentityFolder.load(identity).signer)
    click.echo(
        f"{made.hold_id} is {made.state}. Next: another person runs comity node hold approve {state} {made.hold_id}"
    )


@hold.command(name="list")
@click.argument("state", type=FOLDER)
@click.option("--clear", is_flag=True, help="Show plate, camera, reason and order too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a hold.")
def hold_list(state: Path, clear: bool, as_json: bool) -> None:
    """The holds of STATE, the oldest first, with the rows that each has kept past their retention.

    Example: comity node hold list ./node

    Exit codes: 0 listed, 1 a hold cannot be believed, 2 wrong usage.
    """
    counts = Held(state / HELD_FILE).counts()
    for found in _holds(state).all():
        values: dict[str, object] = {
            "hold_id": found.hold_id,
            "kind": found.kind,
            "state": found.state,
            "issued_at": instants.to_text(found.issued_at),
            "ends_at": instants.to_text(found.ends_at),
            "signers": list(found.signers),
            "rows": counts.get(found.hold_id, 0),
        }
        if clear:
            plate = found.scope.plate
            values |= {
                "plate": f"{plate.number} {plate.state}".strip() if plate else None,
                "camera": found.scope.camera or None,
                "from": instants.to_text(found.scope.begin) if found.scope.begin else None,
                "to": instants.to_text(found.scope.end) if found.scope.end else None,
                "reason": found.reason,
                "order": found.order,
            }
        click.echo(orjson.dumps(values) if as_json else "  ".join(f"{k} {_plain(v)}" for k, v in values.items()))


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "-" if value is None else str(value)


def _holds(state: Path) -> Holds:
    """The holds of STATE. The store is not opened: a court's order does not wait for a database's server."""
    folder = IdentityFolder.load(state / NodeConfig.load(state).identity)
    whose = {"node": folder.spiffe.id, "agency": folder.spiffe.trust_domain}
    return Holds(state / HOLDS_FOLDER, directory=folder.directory(), **whose, clock=instants.now)


def _never(draft: object) -> None:  # noqa: ARG001
    raise AssertionError("a rehearsal records nothing")


def recorder(log: DecisionLog) -> Callable[[Draft], None]:
    """Appends to `log` and returns when the entry is durable; for commands, which have no event loop."""

    async def append(draft: Draft) -> None:
        await log.append([draft])

    return lambda draft: asyncio.run(append(draft))


def main() -> None:
    """Run the command; an error that Comity foresaw is one line and exit code 1."""
    # The arguments of a hold may name a plate: other users of the machine shall not read them.
    setproctitle.setproctitle(" ".join(["comity node", *sys.argv[1:2]]))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines are for its makers
    try:
        node(prog_name="comity node")
    except ComityError as error:
        click.echo(f"comity node: {error} [{error.reason}]", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
