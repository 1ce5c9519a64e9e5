"""`comity policy why | who`: what the policies that the broker decides by now mean, as it tells whoever may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
import orjson

from cli.calling import MAX_MESSAGE_BYTES, CallFailed, broker_address, call_failed
from cli.policy_analysis import Bar
from cli.shown import obligations_json
from cli.words import plain
from comity.purpose import ACT_TO_WIRE, AUTHORITY_TO_WIRE, LEGAL_BASIS_TO_WIRE, Act, Authority, LegalBasis
from comity.v1 import decision_pb2, inquiry_pb2
from comity.v1 import policy_service_pb2 as pb2
from comity.v1 import policy_service_pb2_grpc as pb2_grpc
from identity.folder import IdentityFolder
from identity.tls import client_credentials
from policies.wording import listed

DEADLINE_S = 20.0
PAGE = 2_000
_identity = click.option(
    "--identity", type=click.Path(path_type=Path), envvar="COMITY_IDENTITY", help="Your identity folder."
)
_broker = click.option("--broker", metavar="HOST:PORT", help="Default: broker.addr in the identity folder.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line, in place of text.")
_T = TypeVar("_T")


@click.command()
@click.option("--purpose", required=True)
@click.option("--node", "nodes", multiple=True, required=True, help="1 to 20; may be repeated.")
@click.option("--for", "beneficiary", default="", help="Agency on whose behalf. Default: your own.")
@click.option(
    "--basis", type=click.Choice([b.value for b in LegalBasis]), help="Default: by the purpose, else criminal."
)
@click.option("--authority", type=click.Choice([a.value for a in Authority]), default="none", show_default=True)
@click.option("--case", type=click.Choice(["yes", "no"]), default="yes", show_default=True, help="A case number.")
@click.option("--offence", default="", help="Category of offence.")
@click.option("--days", type=click.IntRange(0, 36_500), default=30, show_default=True, help="Look-back.")
@click.option("--match", "act", type=click.Choice([a.value for a in Act]), default="exact", show_default=True)
@click.option("--approved", is_flag=True, help="A supervisor would sign.")
@_identity
@_broker
@_json
@click.pass_context
def why(ctx: click.Context, /, identity: Path | None, broker: str | None, as_json: bool, **given: Any) -> None:
    """Ask the broker why a search of yours would be permitted or refused now, and what would permit it.

    Under the policies that it decides by at this moment, published ones too; `explain` asks those of a folder. Nothing
    is searched, no node is asked, and no quota of a search is spent.

    Exit codes: 0 permitted at each node, 1 refused or waiting for a signature at one, or the call failed,
    2 wrong usage.

    Example: comity policy why --purpose stolen-vehicle --node port-alder-1 --identity me
    """
    purpose = given["purpose"]
    basis = LegalBasis(given["basis"] or ("civil" if purpose.endswith("-civil") else "criminal"))
    request = pb2.ExplainRequest(
        nodes=given["nodes"],
        beneficiary=given["beneficiary"],
        purpose_of_use=inquiry_pb2.PurposeOfUse(
            code=purpose, legal_basis=LEGAL_BASIS_TO_WIRE[basis], offence=given["offence"]
        ),
        authority=AUTHORITY_TO_WIRE[Authority(given["authority"])],
        act=ACT_TO_WIRE[Act(given["act"])],
        has_case=given["case"] == "yes",
        approved=given["approved"],
        lookback_days=given["days"],
    )
    answer = _called(identity, broker, lambda stub: stub.Explain(request, timeout=DEADLINE_S))
    if [e.decision.node for e in answer.explanations] != list(request.nodes):
        raise CallFailed("the broker did not answer what it was asked", reason="BAD_ANSWER")
    verdicts = [_verdict(e, request.approved) for e in answer.explanations]
    for e, verdict in zip(answer.explanations, verdicts, strict=True):
        click.echo(orjson.dumps(_explained(e, verdict)) if as_json else "\n".join(_in_words(e, verdict)))
    ctx.exit(0 if set(verdicts) == {"permitted"} else 1)


@click.command()
@click.option("--node", "nodes", multiple=True, help="Only this node; may be repeated.")
@click.option("--agency", "agencies", multiple=True, help="Only this requester; may be repeated.")
@click.option("--purpose", "purposes", multiple=True, help="Only this purpose; may be repeated.")
@_identity
@_broker
@_json
def who(
    nodes: tuple[str, ...],
    agencies: tuple[str, ...],
    purposes: tuple[str, ...],
    identity: Path | None,
    broker: str | None,
    as_json: bool,
) -> None:
    """Ask the broker, as an auditor, who may search which node for what under the policies that it decides by now.

    Each line is one agency at one node and the ways in which a search is ever permitted; what has no line is refused.
    `matrix` shows a folder's policies in words, with what agencies share onward.

    Exit codes: 0 shown, 1 the call failed, policies changed meanwhile, or of a node no policy is known, 2 wrong usage.

    Example: comity policy who --node port-alder-1 --identity auditor
    """
    request = pb2.MatrixRequest(agencies=agencies, nodes=nodes, purposes=purposes, page_size=PAGE)
    unknown: set[str] = set()
    alike: dict[tuple[str, str, str], list[str]] = {}
    for page in _called(identity, broker, lambda stub: list(_pages(stub, request))):
        unknown.update(page.unknown_nodes)
        for cell in page.cells:
            ways = [_way(w) for w in cell.ways]
            if as_json:
                where = {"agency": cell.agency, "node": cell.node, "purpose": cell.purpose}
                click.echo(orjson.dumps({**where, "ways": ways}))
            else:
                alike.setdefault((cell.agency, cell.node, _said(ways)), []).append(cell.purpose)
    for (agency, node, said), names in alike.items():
        click.echo(f"{plain(agency)} at {plain(node)}, {plain(', '.join(names))}: {said}")
    for node in sorted(unknown):
        click.echo(f"{plain(node)}: no valid policy is known: nobody may search it now", err=True)
    if unknown:
        raise SystemExit(1)


def _pages(stub: pb2_grpc.PolicyServiceStub, request: pb2.MatrixRequest) -> Iterator[pb2.MatrixResponse]:
    bar, done = Bar("cells gone through"), 0
    while True:
        page: pb2.MatrixResponse = stub.Matrix(request, timeout=DEADLINE_S)
        yield page
        done += PAGE
        bar(min(done, page.total_cells), page.total_cells)
        # A broker that never ends would be asked for ever.
        if not page.next_page_token or done >= page.total_cells:
            return
        request.page_token = page.next_page_token


def _called(identity: Path | None, broker: str | None, ask: Callable[[pb2_grpc.PolicyServiceStub], _T]) -> _T:
    if identity is None:
        raise click.UsageError("name your identity folder with --identity or in COMITY_IDENTITY")
    folder = IdentityFolder.load(identity)
    address = broker_address(folder, broker)
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0)]
    with grpc.secure_channel(address, client_credentials(folder), options=options) as channel:
        try:
            return ask(pb2_grpc.PolicyServiceStub(channel))
        except grpc.RpcError as error:
            raise call_failed(error, address) from None


def _verdict(e: pb2.Explanation, approved: bool) -> str:
    if e.decision.effect != decision_pb2.EFFECT_PERMIT:
        return "refused"
    return "pending" if e.decision.obligations.approval and not approved else "permitted"


def _explained(e: pb2.Explanation, verdict: str) -> dict[str, Any]:
    d = e.decision
    return {
        "node": d.node,
        "verdict": verdict,
        "reason_code": d.reason_code,
        "reason": d.reason,
        "policy_digest": d.policy_digest,
        "obligations": obligations_json(d.obligations),
        "applied": [_rule(r) for r in e.applied],
        "near_misses": [_rule(r) for r in e.near_misses],
        "remedies": [list(r.changes) for r in e.remedies],
    }


def _rule(r: pb2.ExplainedRule) -> dict[str, Any]:
    names = ("layer", "party", "on_behalf", "rule", "effect", "basis", "when", "duty", "missing")
    return {name: getattr(r, name) for name in names}


def _in_words(e: pb2.Explanation, verdict: str) -> Iterator[str]:
    yield f"{verdict.upper()} at {plain(e.decision.node)}: {plain(e.decision.reason)}"
    for title, rules in (("Rules that apply", e.applied), ("Rules that one condition keeps from it", e.near_misses)):
        yield f"{title}:" if rules else f"{title}: none"
        for r in rules:
            lacks = f" -- {r.missing}" if r.missing else ""
            whose = f"{r.layer}, for {r.party}{' (beneficiary)' if r.on_behalf else ''}"
            yield "  " + plain(f"{r.rule} {r.effect} {r.duty} [{whose}] {r.basis}{lacks}")
    for remedy in e.remedies:
        yield f"  permitted {plain(listed(list(remedy.changes)))}"


def _way(w: pb2.MatrixWay) -> dict[str, Any]:
    fields = ("roles", "acts", "legal_bases", "authorities", "staff", "found", "limits")
    lists = {name: list(getattr(w, name)) for name in fields}
    days = [w.first_day, w.last_day if w.HasField("last_day") else None]
    return {**lists, "case": w.needs_case, "lookback_days": days, "obligations": obligations_json(w.obligations)}


def _said(ways: list[dict[str, Any]]) -> str:
    said = []
    for way in ways:
        lists = {k: v for k, v in way.items() if isinstance(v, list) and k != "lookback_days"}
        asked = [f"{k}={'|'.join(v)}" for k, v in lists.items() if v]
        if way["lookback_days"] != [0, None]:
            asked.append("lookback_days={}..{}".format(*way["lookback_days"]))
        asked += ["case"] if way["case"] else []
        asked += [f"{k}={v}" for k, v in way["obligations"].items()]
        said.append(" ".join(asked) or "always")
    return "; or ".join(map(plain, said))


COMMANDS = (why, who)
