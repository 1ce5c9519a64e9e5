"""`comity policy lint | explain | diff | prove` and `test --mutate`: exact answers about what rules mean."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import orjson

from cli.policy_versions import versions
from comity.errors import InvalidInput
from comity.purpose import Act, Authority, LegalBasis
from policies.claims import replaced
from policies.differ import Change, changes
from policies.explain import Applied, Explanation, explain
from policies.instance import Request
from policies.lint import Finding, lint_node, lint_pack, lint_text
from policies.mutate import Score, mutate, needed_header, packs_of
from policies.properties import Property
from policies.prove import prove
from policies.setting import SAMPLE, Setting
from policies.table import Row
from policies.wording import listed, outcome

SHOW_PROGRESS_AFTER_S = 2.0
MAX_SHOWN = 60
DAY = click.DateTime(formats=["%Y-%m-%d"])
_federation = click.option(
    "--federation",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=SAMPLE,
    show_default="the sample that the package carries",
    help="Folder with directory.toml and, if it has its own, packs/*.csv.",
)
_at = click.option("--at", type=DAY, help="The day whose rules and papers count. Default: today.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON in place of text.")


class Bar:
    """Progress on standard error, a line at most every two seconds, once the work has lasted that long."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock, self._last = what, clock, clock()

    def __call__(self, done: int, total: int) -> None:
        """Say how far the work is."""
        if self._clock() - self._last >= SHOW_PROGRESS_AFTER_S:
            self._last = self._clock()
            click.echo(f"{self._what}: {done} of {total}", err=True)


@click.command()
@click.argument("what", required=False, metavar="[FILE|PACK]")
@click.option("--node", help="The whole policy of this node in place of a pack.")
@_federation
@_at
@_json
@click.pass_context
def lint(
    ctx: click.Context, what: str | None, node: str | None, folder: Path, at: dt.datetime | None, as_json: bool
) -> None:
    """Find rules that do nothing: dead, shadowed, contradicting, redundant, limits that never bind, unknown words; and
    rules that go by the name of a shipped pack's and say something else, or that a pack of that name leaves out.

    FILE is a text of rules, sealed or not; PACK one of the folder's or the package's. Without either, every pack that
    the federation follows. --node also says which denies refuse only what nothing allows.

    Exit codes: 0 nothing found but notes, 1 findings, 2 wrong usage.

    Example: comity policy lint us-ca --federation my-federation
    """
    if what and node:
        raise click.UsageError("name a file, a pack or --node, not both")
    day = _day(at)
    setting = _setting(folder, day)
    found = 0
    for finding in _linted(what, node, setting, day):
        found += not finding.is_note
        if as_json:
            click.echo(orjson.dumps(finding.as_json()))
        else:
            click.echo(f"{finding.place}: {finding.kind}: {finding.message}")
    if not as_json:
        click.echo(f"{found} {'finding' if found == 1 else 'findings'}")
    ctx.exit(1 if found else 0)


def _linted(what: str | None, node: str | None, setting: Setting, day: dt.date) -> Iterable[Finding]:
    progress = Bar("nodes gone through")
    if node is not None:
        yield from lint_node(_known(node, setting), setting, day)
    elif what is not None and Path(what).is_file():
        text = Path(what).read_bytes().decode("utf-8", errors="replace")
        yield from lint_text(text, Path(what).name, setting, day, progress)
    else:
        nodes = setting.federation.nodes.values()
        followed = sorted({p for n in nodes for p in n.presets} | set(setting.federation.presets))
        for pack in [what] if what is not None else followed:
            yield from lint_pack(pack, setting, day, progress)


@click.command("explain")
@click.option("--requester", required=True, help="Agency that asks.")
@click.option("--role", default="investigator", show_default=True)
@click.option("--purpose", required=True)
@click.option("--node", required=True)
@click.option("--for", "beneficiary", help="Agency on whose behalf. Default: the requester.")
@click.option(
    "--basis", type=click.Choice([b.value for b in LegalBasis]), help="Default: by the purpose, else criminal."
)
@click.option("--authority", type=click.Choice([a.value for a in Authority]), default="none", show_default=True)
@click.option("--case", type=click.Choice(["yes", "no"]), default="yes", show_default=True, help="A case number.")
@click.option("--offence", default="", help="Category of offence.")
@click.option("--person", default="", help="SPIFFE ID of who asks.")
@click.option("--days", type=click.IntRange(0, 700_000), default=30, show_default=True, help="Look-back.")
@click.option("--match", "act", type=click.Choice([a.value for a in Act]), default="exact", show_default=True)
@click.option("--approved", is_flag=True, help="A supervisor has signed.")
@click.option(
    "--suppose",
    multiple=True,
    metavar="PAPER",
    help="On file in place of the directory's: declaration,"
    " mou, trained, selected-staff; for:PAPER for the beneficiary; none. May be repeated.",
)
@click.option(
    "--node-fact",
    "node_facts",
    multiple=True,
    metavar="FACT",
    help="What only the node knows, or none; the answer is then the node's. May be repeated.",
)
@_federation
@_at
@_json
@click.pass_context
def explain_command(
    ctx: click.Context, /, folder: Path, at: dt.datetime | None, as_json: bool, **given: object
) -> None:
    """Show what is decided of one request, by which rules of whom, what nearly applied, and what would permit it.

    Exit codes: 0 permitted, 1 refused or waiting for a signature, 2 wrong usage.

    Example: comity policy explain --requester us-fbi --purpose criminal-felony --node port-alder-1
    """
    day = _day(at)
    try:
        explanation = explain(_setting(folder, day), _request(given), day)
    except InvalidInput as e:
        if e.reason == "BAD_REQUEST":
            raise click.UsageError(str(e)) from e
        raise
    if as_json:
        click.echo(orjson.dumps(explanation.as_json(), option=orjson.OPT_INDENT_2))
    else:
        _show_explanation(explanation)
    ctx.exit(0 if explanation.decision.permitted else 1)


def _request(given: dict[str, object]) -> Request:
    purpose = str(given["purpose"])
    basis = given["basis"] or ("civil" if purpose.endswith("-civil") else LegalBasis.CRIMINAL)
    suppose, facts = _texts(given["suppose"]), _texts(given["node_facts"])
    theirs = [p.removeprefix("for:") for p in suppose if p.startswith("for:")]
    mine = [p for p in suppose if not p.startswith("for:")]
    return Request(
        requester=str(given["requester"]),
        role=str(given["role"]),
        beneficiary=str(given["beneficiary"] or given["requester"]),
        purpose=purpose,
        legal_basis=LegalBasis(str(basis)),
        authority=Authority(str(given["authority"])),
        act=Act(str(given["act"])),
        has_case=given["case"] == "yes",
        lookback_days=int(str(given["days"])),
        node=str(given["node"]),
        approved=given["approved"] is True,
        papers=_set(mine),
        beneficiary_papers=_set(theirs),
        node_facts=_set(facts),
        offence=str(given["offence"]),
        person=str(given["person"]),
    )


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, tuple) else []


def _set(words: Sequence[str]) -> frozenset[str] | None:
    return frozenset(words) - {"none"} if words else None


def _show_explanation(e: Explanation) -> None:
    d = e.decision
    verdict = "PERMITTED" if d.permitted else "PENDING" if d.pending else "REFUSED"
    click.echo(f"{verdict} at {e.request.node}: {d.reason}")
    if d.permitted or d.pending:
        click.echo(f"  {outcome(d.obligations)}")
    for title, rules in (("Rules that apply", e.applied), ("Rules that one condition keeps from applying", e.near)):
        click.echo(f"{title}:" if rules else f"{title}: none")
        for rule in rules:
            click.echo(f"  {_rule(rule)}")
    if e.remedies:
        click.echo("What would permit it:")
        for remedy in e.remedies:
            click.echo(f"  permitted {listed(remedy)}")
    elif not d.permitted:
        click.echo("No warrant, paper, signature, case number or shorter look-back would permit it.")


def _rule(a: Applied) -> str:
    whose = f"{a.layer.value}, for {a.party}{' (beneficiary)' if a.on_behalf else ''}"
    duty = "" if a.duty in ("-", "advice") else f", {a.duty}"
    return f"{a.rule} {a.effect}{duty} [{whose}] {a.basis}" + (f" -- {a.missing}" if a.missing else "")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--node", help="Only this node; with texts, the node whose whole policy they are.")
@click.option("--rules", "with_rules", is_flag=True, help="Also each class judged alike by other rules.")
@click.option("--all", "everything", is_flag=True, help=f"Every line, not only the first {MAX_SHOWN}.")
@_federation
@_at
@_json
@click.pass_context
def diff(
    ctx: click.Context,
    a: str,
    b: str,
    node: str | None,
    with_rules: bool,
    everything: bool,
    folder: Path,
    at: dt.datetime | None,
    as_json: bool,
) -> None:
    """Show every class of request that A and B judge differently: its decision, its duties or the rules behind it.

    A and B are two federations' folders, two packs, or two sealed texts or bundles of a node. A pack is compared where
    the federation follows it, with B in its place. A bundle's signature is not verified here.

    Exit codes: 0 no request is judged differently, 1 changes, 2 wrong usage.

    Example: comity policy diff us-ca ca-sb274-proposed
    """
    before, after, said = versions(a, b, folder, node, _day(at))
    found = changes(before, after, merged=not as_json, progress=Bar("nodes gone through"))
    if as_json:
        differ = False
        for change in found:
            differ = True
            click.echo(orjson.dumps(change.as_json()))
    else:
        most = sys.maxsize if everything else MAX_SHOWN
        differ = _show_changes(list(found), said, with_rules=with_rules, most=most)
    ctx.exit(1 if differ else 0)


def _show_changes(found: Sequence[Change], said: str, *, with_rules: bool, most: int) -> bool:
    click.echo(f"compared: {said}")
    shown = [c for c in found if c.decided or with_rules]
    lines: dict[tuple[str, str], list[Change]] = {}
    for change in sorted(shown, key=lambda c: (bool(c.beneficiaries), c.transition)):
        lines.setdefault((change.words, change.transition), []).append(change)
    for number, ((words, transition), same) in enumerate(lines.items()):
        if number == most:
            click.echo(f"... and {len(lines) - most} more (--all)")
            break
        click.echo(f"{words}, at {listed([c.node for c in same])}: {transition}")
    changed = sum(c.requests for c in found if c.decided)
    silent = sum(c.requests for c in found if not c.decided)
    click.echo(
        f"{changed:,} requests are decided differently, in {len(lines)} lines" if changed else "no decision changes"
    )
    if silent and not with_rules:
        click.echo(f"{silent:,} are decided as before under other rules (--rules)")
    return bool(found)


@click.command("prove")
@click.argument("stated", metavar="PROPERTY")
@_federation
@_at
@_json
@click.pass_context
def prove_command(ctx: click.Context, stated: str, folder: Path, at: dt.datetime | None, as_json: bool) -> None:
    """Prove that PROPERTY holds of every request, or show one that breaks it.

    Forms: "never permit SCOPE", "always permit SCOPE with FACT", "permit SCOPE only with FACT"; a SCOPE names who:,
    party:, role:, purpose:, act:, `for` AGENCY and `at` PLACE, each as rules do.

    Exit codes: 0 proved, 1 a counterexample is shown, 2 PROPERTY is not one, or speaks of no request.

    Example: comity policy prove "never permit party:federal purpose:immigration-civil at node:port-alder-1"
    """
    day = _day(at)
    setting = _setting(folder, day)
    try:
        proof = prove(Property.parse(stated, setting.vocabulary), setting, day, Bar("nodes gone through"))
    except InvalidInput as e:
        if e.reason == "BAD_PROPERTY":
            raise click.UsageError(str(e)) from e
        raise
    where = "" if folder == SAMPLE else f" --federation {folder}"
    if as_json:
        click.echo(orjson.dumps(proof.as_json()))
    elif proof.counterexample is None:
        click.echo(f"proved: {proof.text}\n  over {proof.requests:,} requests in {proof.classes:,} classes")
    else:
        got = "this is permitted" if proof.permitted else "this is not permitted"
        click.echo(f"not so: {proof.text}\n  {got}: {proof.counterexample.command()}{where}")
    ctx.exit(0 if proof.proved else 1)


def mutation(
    rows: Sequence[Row], packs: Sequence[str], setting: Setting, today: dt.date, *, least: float, as_json: bool
) -> bool:
    """Show the mutation score of each pack; True if all are at least `least`.

    Raises:
        UsageError: nobody follows a pack.
    """
    try:
        scores = [mutate(rows, p, setting, today, Bar(f"{p}: mutants")) for p in packs or packs_of(rows, setting)]
    except InvalidInput as e:
        raise click.UsageError(str(e)) from e
    header = needed_header(rows, scores)
    for score in scores:
        if as_json:
            click.echo(orjson.dumps(score.as_json(header)))
        else:
            _show_score(score, header)
    return all(score.value >= least for score in scores)


def _show_score(score: Score, header: Sequence[str]) -> None:
    counted = score.killed + len(score.survivors)
    click.echo(
        f"{score.pack}: mutation score {score.value:.2f}, {score.killed} of {counted} killed,"
        f" {score.equivalent} equivalent"
    )
    if score.survivors:
        click.echo("  rows that would kill the survivors:")
        click.echo(",".join(header))
    for survivor in score.survivors:
        click.echo(survivor.line(header))


def _setting(folder: Path, day: dt.date) -> Setting:
    setting = Setting.load(folder, on=day)
    for told in replaced(setting):
        click.echo(f"note: {told}", err=True)
    return setting


def _known(node: str, setting: Setting) -> str:
    if node not in setting.federation.nodes:
        raise click.UsageError(f"no node {node!r}; right is one of {', '.join(sorted(setting.federation.nodes))}")
    return node


def _day(at: dt.datetime | None) -> dt.date:
    return at.date() if at is not None else dt.datetime.now(dt.UTC).date()


COMMANDS = (lint, explain_command, diff, prove_command)
