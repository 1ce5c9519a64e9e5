"""`comity policy`: what those who write policy work with."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click
import orjson

from comity import instants
from comity.envelope import BUNDLE_TYPE
from comity.errors import InvalidInput, NotYet
from identity import files, keys
from identity.dsse import sign_with_key
from policies.bundle import compile_bundle, make_bundle, parse_bundle
from policies.packs import load_packs
from policies.seal import seal_file
from policies.setting import SAMPLE, Setting
from policies.table import Result, read_table, run_table

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

# command -> what a later version does
LATER = {
    "lint": "Find dead, shadowed and contradicting rules.",
    "explain": "Show every rule that bears on a request, and what would permit it.",
    "diff": "Show every class of request that two policies judge differently.",
    "matrix": "Show who can see whose data, for which purpose, under which conditions.",
    "prove": "Prove a property of a policy, or show a counterexample.",
    "replay": "Decide past searches again under another policy.",
    "reach": "Show which nodes may be searched.",
    "manifest": "Write the signed statement of what an agency gives and gets.",
    "publish": "Hand a bundle to the federation; until then a node takes up policy.bundle.json in its state folder.",
}


@click.group()
def policy() -> None:
    """Test and bundle policies."""


@policy.command()
@click.argument("table", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--federation",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=SAMPLE,
    show_default="the sample that the package carries",
    help="Folder with directory.toml and, if it has its own, packs/*.csv.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
@click.pass_context
def test(ctx: click.Context, table: Path, folder: Path, as_json: bool) -> None:
    """Decide every row of the decision table TABLE and compare.

    Exit codes: 0 every row holds, 1 a row does not (each is shown with the reason), 2 the table itself is wrong.

    Example: comity policy test decisions.csv --federation my-federation
    """
    try:
        rows = read_table(table.read_bytes().decode("utf-8", errors="replace"))
    except InvalidInput as e:
        click.echo(f"{table.name}: {e} [{e.reason}]", err=True)
        ctx.exit(2)
    failed = 0
    for result in run_table(rows, Setting.load(folder), dt.datetime.now(dt.UTC).date()):
        failed += bool(result.failures)
        if as_json:
            click.echo(orjson.dumps(result.as_json()))
        elif result.failures:
            click.echo(_failure(result))
    if not as_json:
        click.echo(f"{table.name}: {len(rows) - failed} of {len(rows)} rows hold")
    ctx.exit(1 if failed else 0)


@policy.command()
@click.argument("node")
@click.option("--federation", "folder", type=FOLDER, default=SAMPLE, help="As in test. Default: the sample.")
@click.option("--key", type=FILE, required=True, help="The agency's policy key (PEM), which the directory pins.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle; a file there is replaced.")
@click.option("--version", type=click.IntRange(1, 2**53 - 1), required=True, help="Higher than the one in force.")
@click.option("--pack", "packs", multiple=True, help="Pack of rules; may be repeated. Default: the directory's.")
@click.option("--rules", type=FILE, help="The node's own rules, sealed (comity policy seal).")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
def bundle(
    node: str,
    folder: Path,
    key: Path,
    out: Path,
    version: int,
    packs: tuple[str, ...],
    rules: Path | None,
    days: int,
) -> None:
    """Sign the policy of NODE, made of packs and its own rules, so that the node and every broker take it up.

    Exit codes: 0 written, 1 refused: a rule, the key or the node is wrong, 2 wrong usage.

    Example: comity policy bundle port-alder-1 --key policy.pem --version 2 --out node/policy.bundle.json
    """
    setting = Setting.load(folder)
    if node not in setting.federation.nodes:
        raise click.UsageError(f"no node {node!r} in the directory")
    chosen = packs or setting.federation.nodes[node].presets
    own = rules.read_bytes().decode("utf-8", errors="replace") if rules else ""
    text = load_packs(chosen, own_rules=own, beside=folder / "packs")
    now = instants.now()
    payload = make_bundle(
        federation=setting.federation,
        node=node,
        version=version,
        valid_from=now - dt.timedelta(minutes=1),
        valid_to=now + dt.timedelta(days=days),
        packs=chosen,
        policy=text,
    )
    compiled = compile_bundle(parse_bundle(payload, setting.federation, now), setting.federation)
    files.replace(out, sign_with_key(BUNDLE_TYPE, payload, keys.load_signing_key(key)), mode=files.PUBLIC)
    click.echo(f"{out}: version {version}, {len(compiled.rules)} rules, digest {compiled.digest}")


def _failure(result: Result) -> str:
    return "\n".join([f"FAILED line {result.row.line}: {result.row.case}", *(f"  {f}" for f in result.failures)])


@policy.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def seal(files: tuple[Path, ...]) -> None:
    """Write the seal of packs or rules after an edit, in place.

    Example: comity policy seal my-federation/packs/port-alder.csv
    """
    for path in files:
        click.echo(f"{path}: sealed, {seal_file(path)} rows")


def _later(name: str, line: str) -> click.Command:
    def refuse() -> None:
        raise NotYet(f"`comity policy {name}` is not in this version yet; it will: {line}")

    return click.Command(
        name,
        callback=refuse,
        help=f"{line} Not in this version yet.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


for _name, _line in LATER.items():
    policy.add_command(_later(_name, _line))
