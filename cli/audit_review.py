"""`comity audit review queue | sign | weeks`: the weekly check, drawn by the log and signed by who made it."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from audit.entry import Draft
from audit.hashes import HashReader, reading
from audit.listing import decode
from audit.log import DecisionLog
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.oversight import overseer
from audit.review import DUE_DAYS, MOST, REVIEW_TYPE, Queue, Reviewed, Week, draw, reviews_of, sign, weeks_of
from audit.store import LogFiles
from audit.watch import Watched, watch
from cli.audit_proofs import ANCHOR, DIRECTORY, FILE, FOLDER, JSON, LOG, known_directory
from cli.audit_watched import finding_json, not_looked_json, open_with, print_findings, refuse_foreign_key, zone_of
from cli.progress import Bar
from cli.shown import console
from cli.words import plain
from comity import instants
from comity.errors import ConfigError, InvalidInput
from identity import files
from identity.directory import Directory
from identity.folder import IdentityFolder

SAMPLE = click.option("--sample", type=click.IntRange(1, MOST), default=20, show_default=True, help="Searches drawn.")
WEEK = click.option("--week", required=True, help="The week, such as 2026-W05: Monday to Sunday, UTC.")
KEY = click.option("--key", type=FILE, help="An auditor's key, for what comity audit watch finds with it.")
ZONE = click.option("--zone", default="UTC", show_default=True, help="The time zone of days and nights, for watch.")
REVIEWS = click.option("--reviews", type=FOLDER, required=True, help="The folder of the reviewer's own log.")


class ReviewGroup(click.Group):
    """`review LOG` is `review queue LOG`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `queue` in front of what is no subcommand and no request for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["queue", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ReviewGroup)
def review() -> None:
    """The weekly check of a log: what to look at, who looked, and which weeks are overdue.

    Example: comity audit review queue ./broker --week 2026-W05 --sample 20

    Exit codes: 0 done, 1 failure, 2 wrong usage, 3 weeks are overdue.
    """


@review.command("queue")
@click.argument("log", type=LOG)
@click.option("--week", help="The week, such as 2026-W05. Default: the newest that is over in the log, if one is.")
@SAMPLE
@KEY
@ZONE
@DIRECTORY
@ANCHOR
@JSON
def queue_(log: Path, week: str | None, sample: int, as_json: bool, **options: Any) -> None:
    """Show what to look at of one week: a sample that the log's own root draws, and what watch finds.

    Everybody draws the same. A week that is not over in this log can be looked at, and not signed.

    Example: comity audit review queue ./broker --week 2026-W05 --sample 20

    Exit codes: 0 shown, 1 failure, 2 wrong usage.
    """
    with reading(log) as reader:
        queue, seen = _queue(reader, Week.parse(week) if week else _newest(reader), sample, **options)
        rows = [(index, decode(index, reader.entry(index))) for index in queue.sampled]
    if as_json:
        head = {"origin": queue.head.origin, "size": queue.head.size, "root": queue.head.root.hex()}
        for index, value in rows:
            click.echo(orjson.dumps({"event": "sampled", "index": index, **_asked(value)}))
        for f in seen.findings:
            click.echo(orjson.dumps({"event": "finding", **finding_json(f)}))
        said = {"week": str(queue.week), "closed": queue.closed, "searches": queue.searches, "head": head}
        click.echo(orjson.dumps({"event": "summary", **said, "sampled": list(queue.sampled), **not_looked_json(seen)}))
        return
    out = console()
    for index, value in rows:
        asked = _asked(value)
        out.print(f"entry {index}: {plain(' '.join(asked.values()))}")
    print_findings(seen)
    state = "closed" if queue.closed else "NOT OVER in this log: the sample may change, and cannot be signed"
    out.print(
        f"{queue.week}: {len(queue.sampled)} of {queue.searches} searches, {len(seen.findings)} findings; {state}. "
        f"Drawn by root {queue.head.root.hex()} of {queue.head.size} entries."
    )


@review.command("sign")
@click.argument("log", type=LOG)
@WEEK
@SAMPLE
@REVIEWS
@click.option("--identity", type=FOLDER, envvar="COMITY_IDENTITY", required=True, help="Your identity folder.")
@click.option(
    "--flag", "flagged", type=click.IntRange(0), multiple=True, help="An entry of the queue that needs action."
)
@click.option("--remark", default="", help="One line; it stays for good: no names, no plates.")
@KEY
@ZONE
@DIRECTORY
@ANCHOR
@JSON
def sign_(
    log: Path,
    week: str,
    sample: int,
    reviews: Path,
    identity: Path,
    flagged: tuple[int, ...],
    remark: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Sign that you looked at the whole queue of a week, into a log of your own, which is made if it is not there.

    You must be an auditor or a supervisor. Whoever asked a search is not the one who reviews it: of what was drawn,
    your own are left to somebody else, and a queue of your own searches alone is refused.

    Example: comity audit review sign ./broker --week 2026-W05 --reviews ./reviews --identity ./me --flag 1042

    Exit codes: 0 signed, 1 failure, 2 wrong usage.
    """
    folder = IdentityFolder.load(identity)
    # Who may not sign is told now, and not by those who verify it weeks later.
    own = folder.directory()
    overseer(folder.signer.sign(REVIEW_TYPE, b""), own, instants.now())
    with reading(log) as reader:
        _held(reader, own)
        queue, seen = _queue(reader, Week.parse(week), sample, **options)
    watched = sorted({i for f in seen.findings for i in f.indexes})
    if len(watched) > MOST:
        raise InvalidInput(
            f"{len(watched)} entries were found by watch; at most {MOST} are signed", reason="BAD_REVIEW"
        )
    draft = sign(queue, folder.signer, str(folder.spiffe), watched=watched, flagged=flagged, remark=remark)
    index = asyncio.run(_append(reviews, f"{folder.spiffe.trust_domain}/{folder.spiffe.id}/reviews", draft))
    looked_at = len(draft.body["sampled"])
    if as_json:
        said = {"index": index, "week": week, "looked_at": looked_at, "flagged": draft.body["flagged"]}
        click.echo(orjson.dumps({**said, "reviews": str(reviews)}))
    else:
        click.echo(f"Signed: {queue.week}, {looked_at} entries, {len(flagged)} flagged: entry {index} of {reviews}.")


@review.command("weeks")
@click.argument("log", type=LOG)
@click.option(
    "--reviews", type=FOLDER, multiple=True, required=True, help="The folder of a reviewer's own log; may be repeated."
)
@DIRECTORY
@ANCHOR
@JSON
def weeks_(log: Path, reviews: tuple[Path, ...], directory: Path | None, anchor: Path | None, as_json: bool) -> None:
    """Show each week of a log: reviewed by whom, due, or overdue a week after its end. Each signature is verified.

    Example: comity audit review weeks ./broker --reviews ./reviews --directory directory.json

    Exit codes: 0 nothing is overdue, 1 failure, 2 wrong usage, 3 a week is overdue or a review is at fault.
    """
    known = known_directory(directory, anchor)
    if known is None:
        raise click.UsageError("reviews are verified with --directory")
    done: list[Reviewed] = []
    with reading(log) as reader, Bar("drawing again") as bar:
        _held(reader, known)
        weeks, newest = weeks_of(reader), reader.head()[0]
        for folder in reviews:
            with reading(folder) as signed:
                done += reviews_of(reader, signed, known, bar)
    late = any(r.fault for r in done)
    for week in weeks:
        mine = [r for r in done if r.week == str(week)]
        good = [r for r in mine if not r.fault]
        left = frozenset.intersection(*(r.own for r in good)) if good else frozenset[int]()
        state = "reviewed" if good and not left else _due(week, instants.now())
        late = late or state == "overdue"
        if as_json:
            each = [{"reviewer": r.reviewer, "at": r.at, "index": r.index, "fault": r.fault} for r in mine]
            flagged = sorted({i for r in good for i in r.flagged})
            shown = {"week": str(week), "state": state, "flagged": flagged, "own": sorted(left), "reviews": each}
            click.echo(orjson.dumps(shown))
            continue
        click.echo(f"{week} {state}")
        for r in mine:
            said = f"FAULT: {r.fault}" if r.fault else f"{r.looked_at} entries, {len(r.flagged)} flagged"
            click.echo(f"    {r.at} {plain(r.reviewer)}: {said}")
        if left:
            click.echo(
                f"    entries {', '.join(map(str, sorted(left)))}: own searches, somebody else must look at them"
            )
    if not as_json and not weeks:
        click.echo(f"The log has {newest} entries: nothing to review.")
    if late:
        sys.exit(3)


def _newest(reader: HashReader) -> Week:
    weeks = weeks_of(reader)
    if not weeks:
        raise InvalidInput("the log has no entry: there is no week to review", reason="NO_ENTRY")
    return weeks[-2] if len(weeks) > 1 else weeks[-1]


def _queue(
    reader: HashReader,
    week: Week,
    sample: int,
    *,
    key: Path | None,
    zone: str,
    directory: Path | None,
    anchor: Path | None,
) -> tuple[Queue, Watched]:
    known: Directory | None = known_directory(directory, anchor)
    if key is not None and known is None:
        raise click.UsageError("--key takes --directory: the key of pseudonyms is in it")
    if known is not None:
        _held(reader, known)
    with Bar("drawing") as bar:
        queue = draw(reader, week, sample, bar)
    with Bar("watching") as bar:
        opened = open_with(reader, key, known) if key and known else None
        seen = watch(reader, begin=week.begin, end=week.end, zone=zone_of(zone), opened=opened, progress=bar)
    refuse_foreign_key(seen)
    return queue, seen


def _held(reader: HashReader, known: Directory) -> None:
    """Return if the log's head is signed by the key that the directory has for a log of that name, if it names one.

    A review of a log that it does not name is counted for no log that it does: the review says which it is of.

    Raises:
        LogFault: as `verify_checkpoint`.
    """
    note = reader.head()[1]
    pinned = known.logs.get(origin := Checkpoint.parse(note).origin)
    if pinned is not None:
        verify_checkpoint(note, VerifierKey.of(origin, pinned.key))


def _due(week: Week, now: dt.datetime) -> str:
    if now < week.end:
        return "open"
    return "overdue" if now >= week.end + dt.timedelta(days=DUE_DAYS) else "due"


def _asked(value: dict[str, Any]) -> dict[str, str]:
    requester = value["requester"]
    return {
        "at": value["at"],
        "requester": f"{requester['agency']}/{requester['person']}",
        "beneficiary": value["beneficiary"],
        "purpose": value["purpose"]["code"],
        "act": value["act"],
        "inquiry_id": value["inquiry_id"],
    }


async def _append(folder: Path, origin: str, draft: Draft) -> int:
    """The index of the entry in the reviewer's own log.

    Raises:
        ConfigError: the folder holds another log (OTHER_LOG), or as `DecisionLog`.
    """
    files.make_folder(folder)
    there = LogFiles.locate(folder).db.exists()
    with (
        DecisionLog.open(folder, clock=instants.now)
        if there
        else DecisionLog.create(folder, origin=origin, clock=instants.now)
    ) as log:
        if Checkpoint.parse(log.head.checkpoint).origin != origin:
            raise ConfigError(f"{folder} holds another log than the reviewer's own", reason="OTHER_LOG")
        appended = await log.append([draft])
    return appended.first_index
