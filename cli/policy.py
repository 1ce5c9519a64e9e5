"""`comity policy`: what those who write policy work with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from cli.known import directory_beside, require_node, require_policy_key
from cli.policy_analysis import COMMANDS as ANALYSIS
from cli.policy_analysis import mutation
from cli.policy_asked import COMMANDS as ASKED
from cli.policy_publish import publish
from cli.policy_reports import COMMANDS as REPORTS
from comity import instants
from comity.envelope import BUNDLE_TYPE
from comity.errors import InvalidInput
from identity import files, keys
from identity.dsse import countersign_with_key, dsse_json_decode, sign_with_key
from policies.bundle import check_posted, compile_bundle, make_bundle, parse_bundle
from policies.claims import claims
from policies.mutate import LEAST
from policies.packs import load_packs, not_law
from policies.published import MAX_BUNDLE_BYTES
from policies.seal import seal_file
from policies.setting import SAMPLE, Setting
from policies.table import Result, read_table, run_table
from policies.usage import UsagePolicy

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def policy() -> None:
    """Test and bundle policies, and ask what they mean.

    Example: comity policy test decisions.csv

    Exit codes: 0 done, 1 failure or a row does not hold, 2 wrong usage.
    """


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
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row; with --mutate, then one a pack.")
@click.option("--mutate", "mutated", is_flag=True, help="Also count the small faults in rules that no row notices.")
@click.option("--pack", "packs", multiple=True, help="With --mutate: only this pack. Default: all that rows meet.")
@click.option("--least", type=click.FloatRange(0, 1), default=LEAST, show_default=True, help="Mutation score to reach.")
@click.pass_context
def test(
    ctx: click.Context,
    table: Path,
    folder: Path,
    as_json: bool,
    mutated: bool,
    packs: tuple[str, ...],
    least: float,
) -> None:
    """Decide every row of the decision table TABLE and compare.

    Exit codes: 0 every row holds, 1 a row does not (each is shown with the reason) or a pack's mutation score is less
    than --least, 2 the table itself is wrong.

    Example: comity policy test decisions.csv --federation my-federation
    """
    try:
        rows = read_table(table.read_bytes().decode("utf-8", errors="replace"))
    except InvalidInput as e:
        click.echo(f"{table.name}: {e} [{e.reason}]", err=True)
        ctx.exit(2)
    failed = 0
    setting = Setting.load(folder)
    followed = {p for n in setting.federation.nodes.values() for p in n.presets} | set(setting.federation.presets)
    _say_what_is_not_law(sorted(followed), folder)
    for result in run_table(rows, setting, dt.datetime.now(dt.UTC).date()):
        failed += bool(result.failures)
        if as_json:
            click.echo(orjson.dumps(result.as_json()))
        elif result.failures:
            click.echo(_failure(result))
    if not as_json:
        click.echo(f"{table.name}: {len(rows) - failed} of {len(rows)} rows hold")
    if mutated and not failed:
        today = dt.datetime.now(dt.UTC).date()
        ctx.exit(0 if mutation(rows, packs, setting, today, least=least, as_json=as_json) else 1)
    ctx.exit(1 if failed else 0)


@policy.command()
@click.argument("node")
@click.option("--federation", "folder", type=FOLDER, default=SAMPLE, help="As in test. Default: the sample.")
@click.option("--key", type=FILE, required=True, help="The agency's policy key (PEM), which the directory pins.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle; a file there is replaced.")
@click.option("--version", type=click.IntRange(1, 2**53 - 1), required=True, help="Higher than the one in force.")
@click.option("--pack", "packs", multiple=True, help="Pack of rules; may be repeated. Default: the directory's.")
@click.option("--rules", type=FILE, help="The node's own rules, sealed (comity policy seal).")
@click.option("--usage-policy", "usage", type=FILE, help="What the node posts (TOML). Default: usage/NODE.toml.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
def bundle(
    node: str,
    folder: Path,
    key: Path,
    out: Path,
    version: int,
    packs: tuple[str, ...],
    rules: Path | None,
    usage: Path | None,
    days: int,
) -> None:
    """Sign the policy of NODE, made of packs and its own rules, so that the node and every broker take it up.

    The key is held against the directory.json in the federation's folder or, if --out is in a node's state folder, the
    node's own.

    Exit codes: 0 written, 1 refused: a rule, the key or the node is wrong, 2 wrong usage.

    Example: comity policy bundle port-alder-1 --key policy.pem --version 2 --out node/policy.bundle.json
    """
    setting = Setting.load(folder)
    where = "the sample federation, as --federation names no other" if folder == SAMPLE else f"{folder}/directory.toml"
    require_node(node, setting.federation.nodes, where=where)
    signer = keys.load_signing_key(key)
    if (directory := directory_beside(folder, out)) is not None:
        require_policy_key(signer.public_key(), setting.federation.nodes[node].agency, directory, file=key)
    chosen = packs or setting.federation.nodes[node].presets
    own = rules.read_bytes().decode("utf-8", errors="replace") if rules else ""
    now = instants.now()
    text = load_packs(chosen, own_rules=own, beside=folder / "packs", on=now.date())
    _say_what_is_not_law(chosen, folder)
    payload = make_bundle(
        federation=setting.federation,
        node=node,
        version=version,
        valid_from=now - dt.timedelta(minutes=1),
        valid_to=now + dt.timedelta(days=days),
        packs=chosen,
        policy=text,
        usage_policy=UsagePolicy.read(usage) if usage else setting.usage_policies.get(node),
        beside=folder / "packs",
    )
    made = parse_bundle(payload, setting.federation, now)
    compiled = compile_bundle(made, setting.federation)
    check_posted(made, compiled)
    files.replace(out, sign_with_key(BUNDLE_TYPE, payload, signer), mode=files.PUBLIC)
    click.echo(f"{out}: version {version}, {len(compiled.rules)} rules, digest {compiled.digest}")
    _say_what_is_claimed(chosen, text, now.date())
    if made.next_change is not None:
        click.echo(f"valid to {made.valid_to:%Y-%m-%d %H:%M} UTC: the rules of its packs change on {made.next_change}")


def _say_what_is_not_law(packs: Sequence[str], folder: Path) -> None:
    for sentence in not_law(packs, folder / "packs"):
        click.echo(f"note: {sentence}", err=True)


def _say_what_is_claimed(packs: Sequence[str], text: str, day: dt.date) -> None:
    for claim in claims(packs, text, day):
        click.echo(f"note: {claim}", err=True)


def _failure(result: Result) -> str:
    return "\n".join([f"FAILED line {result.row.line}: {result.row.case}", *(f"  {f}" for f in result.failures)])


@policy.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def seal(files: tuple[Path, ...]) -> None:
    """Write the seal of packs or rules after an edit, in place.

    Example: comity policy seal my-federation/packs/port-alder.csv

    Exit codes: 0 sealed, 1 a file is refused, 2 wrong usage.
    """
    for path in files:
        click.echo(f"{path}: sealed, {seal_file(path)} rows")


@policy.command()
@click.argument("file", type=FILE)
@click.option("--key", type=FILE, required=True, help="Another of the agency's policy keys (PEM) in the directory.")
def countersign(file: Path, key: Path) -> None:
    """Add a second signature to the bundle FILE, in place, where the directory asks for two on an agency's policies.

    The text of the rules is shown first, and where it is not what the packs say that it names: look at what you sign.

    Example: comity policy countersign policy.bundle.json --key second.pem

    Exit codes: 0 signed, 1 refused: no bundle, or this key has signed it already, 2 wrong usage.
    """
    data = files.read(file, max_bytes=MAX_BUNDLE_BYTES)
    signed = countersign_with_key(data, keys.load_signing_key(key), payload_type=BUNDLE_TYPE)
    said = orjson.loads(dsse_json_decode(data, payload_type=BUNDLE_TYPE).payload)
    click.echo(said["policy"], nl=False)
    _say_what_is_claimed(said["packs"], said["policy"], dt.date.fromisoformat(said["valid_from"][:10]))
    files.replace(file, signed, mode=files.PUBLIC)
    click.echo(f"{file}: one more signature")


for _command in (publish, *ASKED, *ANALYSIS, *REPORTS):
    policy.add_command(_command)
