"""`comity policy matrix | reach | manifest | replay`: who sees whose data, and what another policy would change."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit import listing
from audit.read import LogReader
from cli.progress import Bar
from comity.errors import ConfigError
from comity.purpose import Authority
from identity import files, keys
from identity.directory import Directory
from identity.dsse import MAX_FILE_BYTES
from identity.folder import DIRECTORY_FILE, FEDERATION_FILE
from policies.bundle import Bundle
from policies.claims import node_claims, replaced
from policies.engine import Policy
from policies.manifest import (
    COLUMNS,
    csv_rows,
    differences,
    in_ways,
    in_words,
    make_statement,
    names,
    open_manifest,
    page_of,
    registry_digest,
    said,
    sign_statement,
)
from policies.matrix import Matrix
from policies.packs import not_law
from policies.published import MAX_BUNDLE_BYTES
from policies.reach import Reach, Target, targets
from policies.replay import Replay, Report, read_bundle, replay
from policies.setting import SAMPLE, Setting

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)
MAX_PAGE_CELLS = 200_000
_federation = click.option(
    "--federation",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=SAMPLE,
    show_default="the sample that the package carries",
    help="Folder with directory.toml and, if it has its own, packs/*.csv.",
)
_bundles = click.option(
    "--bundle", "bundles", multiple=True, metavar="NODE=FILE", help="The node's policy in place of its packs; repeated."
)
_at = click.option("--at", type=click.DateTime(formats=["%Y-%m-%d"]), help="The day that counts. Default: today.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line, in place of text.")


@click.command()
@_federation
@_bundles
@click.option("--node", "nodes", multiple=True, help="Only this node; may be repeated.")
@click.option("--agency", "agencies", multiple=True, help="Only this requester; may be repeated.")
@click.option("--purpose", "purposes", multiple=True, help="Only this purpose; may be repeated.")
@click.option("--csv", "table", type=OUT, help="Write every cell, refusals too, to this file.")
@click.option("--html", "page", type=OUT, help="Write a page to print to this file.")
@_at
@_json
def matrix(
    folder: Path,
    bundles: tuple[str, ...],
    nodes: tuple[str, ...],
    agencies: tuple[str, ...],
    purposes: tuple[str, ...],
    table: Path | None,
    page: Path | None,
    at: dt.datetime | None,
    as_json: bool,
) -> None:
    """Show who can see whose data, for which purpose and under which conditions, re-sharing counted.

    Who can get data through someone else is shown with the way it takes: a search on behalf of another, and
    agreements of kind `reshare`, over any number of agencies.

    Exit codes: 0 shown, 1 a name, policy or file is wrong, 2 wrong usage.

    Example: comity policy matrix --federation my-federation --node port-alder-1 --html port-alder.html
    """
    setting, day = _setting(folder, bundles, at)
    reach = Reach(Matrix(setting, day), agencies=agencies, nodes=nodes, purposes=purposes)
    if table is not None:
        _write_csv(table, reach)
    if page is not None:
        if len(reach.agencies) * len(reach.nodes) * len(reach.purposes) > MAX_PAGE_CELLS:
            raise click.UsageError(f"a page holds {MAX_PAGE_CELLS} cells at most: choose with --node or --agency")
        files.replace(page, "".join(page_of(reach, _notes(reach, folder))).encode(), mode=files.PUBLIC)
    if as_json:
        for g in reach.groups():
            who = {"requesters": g.agencies, "nodes": g.nodes, "purposes": g.purposes}
            click.echo(orjson.dumps({**who, "paths": [p.as_json() for p in g.paths]}))
    elif table is None and page is None:
        rows = ((g.agencies, g.nodes, g.purposes, g.paths) for g in reach.groups() if g.paths)
        _print(("requester", "node", "purpose", "conditions"), ((*map(names, r[:3]), said(r[3])) for r in rows))
        click.echo(f"Everything else is refused. {day}, federation policy {setting.federation_policy.digest[:12]}.")
    for path in filter(None, (table, page)):
        click.echo(f"{path}: written", err=as_json)


@click.command()
@click.option("--agency", required=True, help="Who searches.")
@click.option("--role", default="investigator", show_default=True)
@click.option("--purpose", "purposes", multiple=True, help="May be repeated. Default: every purpose.")
@click.option("--authority", type=click.Choice([a.value for a in Authority]), default="none", show_default=True)
@click.option("--for", "asked_for", default="", help="On whose behalf, if another agency's.")
@_federation
@_bundles
@_at
@_json
def reach(
    agency: str,
    role: str,
    purposes: tuple[str, ...],
    authority: str,
    asked_for: str,
    folder: Path,
    bundles: tuple[str, ...],
    at: dt.datetime | None,
    as_json: bool,
) -> None:
    """Show which nodes an agency may search, under which conditions, and why not the others.

    Exit codes: 0 shown, 1 a name, policy or file is wrong, 2 wrong usage.

    Example: comity policy reach --agency us-fbi --purpose criminal-felony --authority judicial-warrant
    """
    setting, day = _setting(folder, bundles, at)
    held = Authority(authority)
    found = targets(Matrix(setting, day), agency, role, authority=held, purposes=purposes, asked_for=asked_for)
    if as_json:
        for t in found:
            click.echo(orjson.dumps(t.as_json()))
        return
    rows: dict[tuple[str, ...], list[str]] = {}
    for t in found:
        rows.setdefault((t.node, t.status.replace("-", " "), _why(t)), []).append(t.purpose)
    _print(
        ("node", "purpose", "search", "conditions, or why not"), ((n, names(p), s, w) for (n, s, w), p in rows.items())
    )
    opened = {t.node for t in found if t.status == "open"}
    click.echo(f"{len(opened)} of {len(setting.federation.nodes)} nodes are open for one of these purposes.")


@click.command()
@click.option("--agency", help="Whose statement to write.")
@click.option("--key", type=FILE, help="The agency's policy key (PEM), which the directory pins.")
@click.option("--out", type=OUT, help="The manifest; a file there is replaced. Without a key it is not signed.")
@click.option("--verify", "manifest_file", type=FILE, help="Verify this manifest against the directory and policies.")
@click.option(
    "--policy-key", type=FILE, help="With --verify: the public key of --agency, trusted in place of directory.json."
)
@_federation
@_bundles
@_at
@_json
@click.pass_context
def manifest(
    ctx: click.Context,
    agency: str | None,
    key: Path | None,
    out: Path | None,
    manifest_file: Path | None,
    policy_key: Path | None,
    folder: Path,
    bundles: tuple[str, ...],
    at: dt.datetime | None,
    as_json: bool,
) -> None:
    """Write or verify the signed statement of what an agency contributes, may query, receives, re-shares and hosts.

    To verify, the directory's keys come from directory.json and federation-ca.pem in the federation's folder.

    Exit codes: 0 written or true, 1 not authentic or not true: what differs is named, 2 wrong usage.

    Example: comity policy manifest --agency us-ca-port-alder-pd --key policy.pem --out port-alder.manifest.json
    """
    if manifest_file is None:
        if not agency:
            raise click.UsageError("give --agency, or a manifest to --verify")
        setting, day = _setting(folder, bundles, at)
        statement = make_statement(setting, agency, day)
        if out is not None:
            signed = sign_statement(statement, keys.load_signing_key(key)) if key else orjson.dumps(statement)
            files.replace(out, signed, mode=files.PUBLIC)
        wrong, last = (
            [],
            f"{out}: {'signed' if key else 'NOT signed: give --key'}" if out else "Not written: give --out.",
        )
    else:
        data = files.read(manifest_file, max_bytes=MAX_FILE_BYTES)
        statement = open_manifest(data, _policy_keys(folder, agency, policy_key))
        setting, _ = _setting(folder, bundles, dt.datetime.fromisoformat(statement["day"]))
        wrong = differences(statement, setting)
        last = "NOT TRUE" if wrong else "Signed by the agency, and true to the last word."
    if as_json:
        click.echo(orjson.dumps({"statement": statement, "differences": wrong}))
    else:
        click.echo("\n".join([*in_words(statement), *(f"DIFFERS: {w}" for w in wrong), last]))
    ctx.exit(1 if wrong else 0)


@click.command("replay")
@click.argument("log", type=click.Path(path_type=Path))
@_federation
@_bundles
@_at
@_json
@click.pass_context
def replay_command(
    ctx: click.Context, log: Path, folder: Path, bundles: tuple[str, ...], at: dt.datetime | None, as_json: bool
) -> None:
    """Decide the searches in LOG again: each under the policies it names, and all under those given now.

    A policy that a decision names by its digest is known if it is one of the folder, of the package or of --bundle.
    Verify the log first (comity audit verify): here its entries are believed.

    Exit codes: 0 every decision reproduced, 1 one is not what its policies give, 2 wrong usage, 3 none differs, yet
    for some the policy or the inquiry is not at hand.

    Example: comity policy replay ./broker --federation my-federation --bundle port-alder-1=new.bundle.json
    """
    setting, _ = _setting(folder, bundles, at)
    to = Replay(setting, _at_hand(folder, bundles, setting))
    with LogReader.open(log) as reader, reader.snapshot(), Bar("replaying") as bar:
        size = reader.head()[0]

        def entries() -> Iterator[tuple[int, Mapping[str, Any]]]:
            for index, entry in reader.forwards(0):
                bar(index, size)
                yield index, listing.decode(index, entry)

        def recall(inquiry_id: str) -> Mapping[str, Any] | None:
            index = reader.find_inquiry(inquiry_id)
            value = None if index is None else listing.decode(index, reader.entry(index))
            return value if value is not None and value["type"] == "inquiry" else None

        report = replay(entries(), recall, to)
    if as_json:
        click.echo(orjson.dumps(_report_json(report)))
    else:
        _show_report(report)
    ctx.exit(1 if report.different else 3 if report.reproduced < report.decisions else 0)


def _setting(folder: Path, bundles: Iterable[str], at: dt.datetime | None) -> tuple[Setting, dt.date]:
    """The policies of the folder on the day; the bundle with the highest version in place of a node's packs."""
    day = at.date() if at is not None else dt.datetime.now(dt.UTC).date()
    setting = Setting.load(folder, on=day)
    newest: dict[str, tuple[Bundle, Policy]] = {}
    for bundle, policy in _read_bundles(bundles, setting):
        if bundle.node not in newest or newest[bundle.node][0].version < bundle.version:
            newest[bundle.node] = (bundle, policy)
    policies = {**setting.node_policies, **{n: p for n, (_, p) in newest.items()}}
    out = replace(setting, node_policies=policies, packs={n: b.packs for n, (b, _) in newest.items()})
    for told in (*replaced(out), *(f"{n}: {c}" for n in policies for c in node_claims(out, n, day))):
        click.echo(f"note: {told}", err=True)
    return out, day


def _read_bundles(bundles: Iterable[str], setting: Setting) -> Iterator[tuple[Bundle, Policy]]:
    for text in bundles:
        node, equals, path = text.partition("=")
        if not equals or node not in setting.federation.nodes:
            raise click.UsageError("--bundle must be NODE=FILE with a node of the directory")
        bundle, policy = read_bundle(files.read(Path(path), max_bytes=MAX_BUNDLE_BYTES), setting)
        if bundle.node != node:
            raise click.UsageError(f"{path} is the bundle of {bundle.node}, not of {node}")
        yield bundle, policy


def _at_hand(folder: Path, bundles: Iterable[str], setting: Setting) -> Iterator[Policy | None]:
    """Every other policy at hand: of all the bundles, and of the folder's packs as they are today and without a day."""
    yield from (policy for _, policy in _read_bundles(bundles, setting))
    for other in (Setting.load(folder), Setting.load(folder, on=dt.datetime.now(dt.UTC).date())):
        yield other.federation_policy
        yield from other.node_policies.values()


def _policy_keys(
    folder: Path, agency: str | None, public: Path | None
) -> Mapping[str, tuple[ec.EllipticCurvePublicKey, ...]]:
    if public is not None:
        if not agency:
            raise click.UsageError("--policy-key needs --agency, whose key it is")
        key = load_pem_public_key(files.read(public, max_bytes=keys.MAX_KEY_BYTES))
        if not keys.is_p256(key):
            raise ConfigError(f"{public} is not a public ECDSA key on P-256 in PEM", reason="BAD_KEY")
        return {agency: (key,)}
    directory = Directory.load(folder / DIRECTORY_FILE, folder / FEDERATION_FILE)
    if registry_digest(directory.federation) != registry_digest(Setting.load(folder).federation):
        raise ConfigError("directory.json and directory.toml are not the same registry", reason="DIRECTORY_DIFFERS")
    return directory.policy_keys


def _notes(reach: Reach, folder: Path) -> list[str]:
    setting = reach.matrix.setting
    followed = {*reach.federation.presets, *(p for n in reach.nodes for p in setting.packs_of(n))}
    told = [*not_law(sorted(followed), folder / "packs"), *replaced(setting)]
    return told + [f"{n}: {claim}" for n in reach.nodes for claim in node_claims(setting, n, reach.matrix.day)]


def _why(t: Target) -> str:
    ways = in_ways(t.ways)
    return ways if t.status == "open" else f"{t.reason}; permitted with: {ways}" if t.ways else t.reason


def _print(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(show_lines=True)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _report_json(report: Report) -> dict[str, Any]:
    counts = {f: getattr(report, f) for f in ("decisions", "reproduced", "different", "orphans")}
    changes = [asdict(c) for c in report.changes]
    return {
        **counts,
        "unknown_policies": dict(report.unknown),
        "refused_afterwards": dict(report.besides),
        "differences": [asdict(d) for d in report.differences],
        "changed": sum(c["count"] for c in changes),
        "changes": changes,
    }


def _show_report(report: Report) -> None:
    click.echo(f"{report.reproduced} of {report.decisions} decisions are what the policies they name give.")
    for reason, count in report.besides.most_common():
        click.echo(f"{count} of these were refused for a reason beside the policies: {reason}.")
    for d in report.differences:
        click.echo(f"DIFFERS entry {d.index}, {d.node}: the log says {d.said}; its policies give {d.gives}")
    for digest, count in report.unknown.most_common():
        click.echo(
            f"{count} under a policy that is not at hand ({digest}): give its bundle, or the folder of that day."
        )
    if report.orphans:
        click.echo(f"{report.orphans} whose inquiry the log does not hold: verify the log.")
    changes = report.changes
    click.echo(f"Under the policies given now, {sum(c.count for c in changes)} would come out differently.")
    for c in changes:
        asked = c.requester if c.beneficiary == c.requester else f"{c.requester} for {c.beneficiary}"
        entries = ", ".join(map(str, c.examples))
        click.echo(
            f"  {c.count} by {asked}, {c.purpose}, at {c.node}: {c.was} -> {c.would_be} ({c.why}; entry {entries})"
        )


def _write_csv(path: Path, reach: Reach) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    total = len(reach.agencies) * len(reach.nodes) * len(reach.purposes)
    with Bar("writing") as bar:
        for i, (agency, node, purpose) in enumerate(product(reach.agencies, reach.nodes, reach.purposes)):
            bar(i, total)
            writer.writerows(csv_rows(reach, agency, node, purpose))
    files.replace(path, out.getvalue().encode(), mode=files.PUBLIC)


COMMANDS = (matrix, reach, manifest, replay_command)
