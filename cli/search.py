"""`comity search`: one search, every agency that may answer, and the truth about those that did not."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import click

from cli.asking import DEFAULT_AREA_DAYS, DEFAULT_DAYS, asked_for, default_days, needs
from cli.calling import Caller, broker_address
from cli.checked import Reading, exit_code
from cli.compose import Asked, SignedInquiry, compose, legal_basis_of, read_draft, write_draft
from cli.known import require_agency, require_node, require_person, require_purpose
from cli.shown import JsonLines, Shown, Tables, console, decision_json, write_json
from cli.words import plain
from comity import instants
from comity.errors import ComityError
from comity.outcome import Tally
from comity.purpose import Authority, LegalBasis, PurposeOfUse
from comity.v1 import search_service_pb2 as pb2
from identity.directory import Directory
from identity.folder import IdentityFolder

DEFAULT_DEADLINE_S = 15.0
ANSWER_MARGIN_S = 0.3  # the broker keeps as much back of the deadline that it is given


@click.command()
@click.argument("plate", required=False)
@click.option("--state", help="Issuing state, two letters.")
@click.option("--purpose", help="Purpose of use: a code of the directory, such as stolen-vehicle.")
@click.option("--case", "case_number", help="Case number.")
@click.option("--offence", default="", help="Offence category.")
@click.option("--legal-basis", type=click.Choice([b.value for b in LegalBasis]), help="Default: the purpose's.")
@click.option("--for", "beneficiary", metavar="AGENCY", default="", help="Agency it is for. Default: your own.")
@click.option("--authority", metavar="KIND:REF", help="administrative-warrant, court-order or judicial-warrant.")
@click.option(
    "--days",
    type=click.IntRange(1, 36500),
    help=f"Window: so many days back. Default: {DEFAULT_DAYS}; of an area {DEFAULT_AREA_DAYS}.",
)
@click.option("--from", "from_", metavar="TIME", help="Window: its begin, ISO 8601, UTC if it names no zone.")
@click.option("--to", "to", metavar="TIME", help="Window: its end, exclusive.")
@click.option("--match", "act", type=click.Choice(["exact", "confusable", "partial"]), default="exact")
@click.option("--near", metavar="LAT,LON,KM", help="Every plate in a circle of 5 km at most, in 24 hours at most.")
@click.option("--camera", metavar="ID", help="Every plate at one camera, in 24 hours at most.")
@click.option("--convoy", metavar="SECONDS,CAMERAS", help="Plates within so many s of PLATE at so many cameras.")
@click.option("--node", "nodes", multiple=True, help="Ask this node only; may be repeated. Default: every node.")
@click.option("--preview", is_flag=True, help="Show the decisions; ask no node. Recorded like any search.")
@click.option("--draft", type=click.Path(path_type=Path), help="Write the signed inquiry to a file to be approved.")
@click.option("--send", type=click.Path(path_type=Path, exists=True), help="Send a drafted inquiry.")
@click.option("--deadline", type=click.FloatRange(0.5, 120), default=DEFAULT_DEADLINE_S, show_default=True, help="s")
@click.option("--identity", type=click.Path(path_type=Path), envvar="COMITY_IDENTITY", help="Your identity folder.")
@click.option("--broker", metavar="HOST:PORT", help="Default: broker.addr in the identity folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def search(
    plate: str | None,
    identity: Path | None,
    broker: str | None,
    send: Path | None,
    draft: Path | None,
    preview: bool,
    deadline: float,
    as_json: bool,
    **options: object,
) -> None:
    """Search PLATE at every agency that may answer. With - it is read from standard input.

    With --match partial, ? in PLATE is one character and * any number; three must be known, and --state may be left
    out. With --near and --camera there is no PLATE.

    Example: comity search 7ABC123 --state CA --purpose stolen-vehicle --case PA-26-0101 --days 30

    With a supervisor: comity search 7ABC123 ... --draft q.json; comity approve q.json; comity search --send q.json

    Exit codes: 0 every node answered in full; 3 some answered, not all or not in full; 4 none answered and at least
    one refused; 5 none answered and none refused; 6 none answered and an approval is awaited; 2 wrong usage; 1 failure.
    """
    if identity is None:
        raise click.UsageError("name your identity folder with --identity or in COMITY_IDENTITY")
    folder = IdentityFolder.load(identity)
    require_person(folder)
    directory = folder.directory()
    if send is not None:
        if plate is not None:
            raise click.UsageError("a drafted inquiry already says what it asks for")
        signed = read_draft(send)
    else:
        asked, drafted = _asked(plate, options, directory), draft is not None
        signed = compose(asked, folder, instants.now(), draft=drafted, preview=preview and not drafted)
    if draft is not None:
        write_draft(draft, signed)
        click.echo(f"Drafted {signed.inquiry.inquiry_id} in {draft}. Next: a supervisor runs comity approve {draft}")
        return
    caller = Caller(folder, broker_address(folder, broker))
    try:
        if preview:
            for d in caller.preview(signed, deadline).decisions:
                _show_decision(decision_json(d), as_json)
            return
        reading = reading_of(signed, directory)
        shown: Shown = JsonLines(reading.inquiry)
        if not as_json:
            shown = Tables(reading.inquiry, directory.federation, len(reading.targets), console())
        sys.exit(exit_code(run(reading, signed, caller, deadline, shown)))
    finally:
        caller.close()


def run(reading: Reading, signed: SignedInquiry, caller: Caller, deadline_s: float, shown: Shown) -> Tally:
    """Send the inquiry and show what comes of it. Returns what it adds up to, every target with its outcome.

    Raises:
        ComityError: the broker did not take the call at all.
    """
    why = "the broker ended early"
    try:
        for event in caller.search(signed, deadline_s + ANSWER_MARGIN_S):
            _take(event, reading, shown)
    except ComityError as error:
        if not reading.outcomes:
            shown.stop()
            raise
        why = str(error)
    for missing in reading.finish(why):
        shown.outcome(missing)
    tally = reading.tally()
    shown.summary(reading.outcomes, tally)
    return tally


def reading_of(signed: SignedInquiry, directory: Directory) -> Reading:
    """A reading of what will come of `signed`."""
    return Reading(signed.inquiry, signed.envelope.payload_hash, signed.disclosed.query, directory, instants.now())


def _take(event: pb2.SearchEvent, reading: Reading, shown: Shown) -> None:
    match event.WhichOneof("event"):
        case "decision":
            shown.decision(event.decision)
        case "outcome":
            checked = reading.take(event.outcome)
            if checked is not None:
                shown.outcome(checked)
        case _:
            pass  # the broker's summary: the client works out its own


def _asked(plate: str | None, options: dict[str, object], directory: Directory) -> Asked:
    given = {k: str(v) for k, v in options.items() if isinstance(v, str)}
    if plate == "-":
        plate = sys.stdin.readline(256).strip()
    have = {"PLATE": plate is not None, "--case": "case_number" in given}
    missing = [name for name in needs(given) if not have.get(name, name[2:] in given)]
    if missing:
        raise click.UsageError(f"a search needs {', '.join(missing)}")
    act, query = asked_for(plate, given)
    federation = directory.federation
    nodes = options["nodes"]
    assert isinstance(nodes, tuple)
    for node in nodes:
        require_node(node, federation.nodes)
    require_purpose(given["purpose"], federation)
    if given.get("beneficiary"):
        require_agency(given["beneficiary"], federation)
    begin, end = _window(options.get("days"), given.get("from_"), given.get("to"), default_days(act))
    authority, reference = _authority(given.get("authority"))
    basis = given.get("legal_basis")
    purpose = given["purpose"]
    return Asked(
        query=query,
        federation=federation.id,
        purpose=PurposeOfUse(
            code=purpose,
            legal_basis=LegalBasis(basis) if basis else legal_basis_of(purpose, federation.purposes),
            offence=given.get("offence", ""),
        ),
        case_number=given["case_number"],
        beneficiary=given.get("beneficiary", ""),
        authority=authority,
        authority_reference=reference,
        act=act,
        begin=begin,
        end=end,
        targets=tuple(dict.fromkeys(nodes)),
    )


def _window(days: object, from_: str | None, to: str | None, default_days: int) -> tuple[dt.datetime, dt.datetime]:
    now = instants.now()
    if days is not None and (from_ or to):
        raise click.UsageError("name either --days or --from and --to")
    end = _time("--to", to) if to else now
    if from_:
        begin = _time("--from", from_)
    else:
        begin = end - dt.timedelta(days=days if isinstance(days, int) else default_days)
    if end > now or begin >= end:
        raise click.UsageError("the window must begin before it ends, and end no later than now")
    return begin, end


def _time(option: str, text: str) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(text)
        at = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
        return instants.from_ms(instants.to_ms(at))
    except (ValueError, OverflowError):
        raise click.UsageError(f"{option} must be a time such as 2026-01-31T08:00:00Z") from None


def _authority(text: str | None) -> tuple[Authority, str]:
    if text is None:
        return Authority.NONE, ""
    kind, colon, reference = text.partition(":")
    try:
        authority = Authority(kind)
    except ValueError:
        authority = Authority.NONE
    if authority is Authority.NONE or not colon or not reference.strip():
        raise click.UsageError(
            "--authority must be administrative-warrant:REF, court-order:REF or judicial-warrant:REF"
        )
    return authority, reference


def _show_decision(decision: dict[str, object], as_json: bool) -> None:
    if as_json:
        write_json({"event": "decision", **decision})
    else:
        click.echo(f"{decision['node']:<20} {decision['effect']:<7} {plain(str(decision['reason']))}")
