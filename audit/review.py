"""The weekly check: which searches are looked at is drawn by the log itself, and who looked at them signs.

The draw of a week is fixed by the tree's root over all entries up to the week's end. Nobody knows it before the week
is over, and everybody who has the log draws the same afterwards: a broker cannot hide a search from a sample that it
does not know, nor a reviewer choose an easy one, nor be the only one to look at an own search. (A broker that writes a
week's last entries itself could try some until a draw suits it; it must do so before its witnesses cosign a later
head.)

The signature is an entry of the reviewer's own log, which cites head and indexes of the log that was reviewed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from audit.entry import Draft, review_entry
from audit.evidence import envelope_of
from audit.hashes import HashReader, Progress
from audit.listing import decode
from audit.note import Checkpoint
from audit.oversight import overseer
from audit.tree import Tree
from comity import jcs
from comity.errors import ComityError, InvalidInput, LogFault, NotAuthentic
from comity.instants import to_text
from identity.directory import Directory
from identity.signing import Signer

REVIEW_TYPE = "application/vnd.comity.review.v1+json"
FORMAT = "comity-review-1"
MOST = 500  # of sampled and of watched entries; an entry holds 1,000
DUE_DAYS = 7
_STRETCH = 2_048
_WEEK = re.compile(r"(20\d\d)-W(\d\d)\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """A calendar week, Monday to Sunday in UTC. Source: ISO 8601, week dates."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Week:
        """The week in `2026-W05`.

        Raises:
            InvalidInput: no such week (BAD_WEEK).
        """
        match = _WEEK.match(text)
        try:
            if match is None:
                raise ValueError
            dt.date.fromisocalendar(int(match[1]), int(match[2]), 1)
        except ValueError:
            raise InvalidInput("must be a week such as 2026-W05", reason="BAD_WEEK") from None
        return cls(year=int(match[1]), number=int(match[2]))

    @classmethod
    def of(cls, at: dt.datetime) -> Week:
        """The week in which `at` lies."""
        year, number, _ = at.astimezone(dt.UTC).isocalendar()
        return cls(year=year, number=number)

    @property
    def begin(self) -> dt.datetime:
        """Its Monday, 00:00 UTC."""
        day = dt.date.fromisocalendar(self.year, self.number, 1)
        return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)

    @property
    def end(self) -> dt.datetime:
        """The Monday after, 00:00 UTC."""
        return self.begin + dt.timedelta(days=7)

    def __str__(self) -> str:
        return f"{self.year}-W{self.number:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What is to be looked at of a week. `closed`: a later entry is there, so that neither draw nor week changes.

    `head` is the log as of the week's end; `searches` is how many the week had; `sampled` are indexes of inquiries,
    and `requesters` who asked each of them.
    """

    week: Week
    head: Checkpoint
    closed: bool
    searches: int
    sampled: tuple[int, ...]
    requesters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One signed review, verified against the log that it is about; `fault` says what is wrong with it, if anything.

    `own` are the entries drawn that the reviewer asked for: somebody else must look at those.
    """

    index: int
    week: str
    reviewer: str
    at: str
    looked_at: int
    flagged: tuple[int, ...]
    own: frozenset[int]
    fault: str


def draw(reader: HashReader, week: Week, sample: int, progress: Progress | None = None) -> Queue:
    """The week's queue of at most `sample` searches; those of previews are none.

    Raises:
        InvalidInput: `sample` is not 1 to MOST (BAD_SAMPLE).
        LogFault: the stored hashes are not those under the log's head (WRONG_ROOT), or an entry is malformed.
    """
    if not 1 <= sample <= MOST:
        raise InvalidInput(f"a sample is of 1 to {MOST} searches", reason="BAD_SAMPLE")
    size, note = reader.head()
    signed = Checkpoint.parse(note)
    first, last = _first_at(reader, size, to_text(week.begin)), _first_at(reader, size, to_text(week.end))
    tree, then = Tree(), Tree()
    for leaf in reader.all_hashes(size, progress):
        if tree.size == last:
            then = tree.copy()
        tree.append(leaf)
    if last == size:
        then = tree
    if tree.root() != signed.root:
        raise LogFault("the hashes of all entries are not the root in the log's head", reason="WRONG_ROOT")
    head = Checkpoint(origin=signed.origin, size=last, root=then.root())
    asked = list(_searches(reader, first, last))
    drawn = sorted(sorted(asked, key=lambda index: _lot(head, week, index))[:sample])
    return Queue(
        week=week,
        head=head,
        closed=last < size,
        searches=len(asked),
        sampled=tuple(drawn),
        requesters=tuple(_requester(decode(index, reader.entry(index))) for index in drawn),
    )


def sign(
    queue: Queue, signer: Signer, reviewer: str, *, watched: Sequence[int], flagged: Sequence[int], remark: str
) -> Draft:
    """The entry that says: these were looked at. `watched` came on top of the draw; `flagged` of both need action.

    Raises:
        InvalidInput: the week is not over (WEEK_OPEN); all that was drawn are the reviewer's own searches
            (OWN_SEARCHES); a flagged entry was not looked at, or too many were watched, or
            a remark that is no printable line of 500 characters (BAD_REVIEW).
    """
    if not queue.closed:
        raise InvalidInput(f"{queue.week} is not over in this log: its draw may still change", reason="WEEK_OPEN")
    if queue.sampled and set(queue.requesters) == {reviewer}:
        raise InvalidInput("these are your own searches: somebody else must look at them", reason="OWN_SEARCHES")
    looked_at = sorted({*queue.sampled, *watched})
    if not set(flagged) <= set(looked_at) or len(watched) > MOST:
        raise InvalidInput("only entries of the queue can be flagged", reason="BAD_REVIEW")
    if len(remark) > 500 or not remark.isprintable():
        raise InvalidInput("a remark is one line of at most 500 characters", reason="BAD_REVIEW")
    statement = {
        "format": FORMAT,
        "log": queue.head.origin,
        "head": {"size": queue.head.size, "root": queue.head.root.hex()},
        "week": str(queue.week),
        "searches": queue.searches,
        "sampled": list(queue.sampled),
        "watched": sorted(set(watched)),
        "flagged": sorted(set(flagged)),
        "remark": remark,
    }
    return review_entry(
        reviewer=reviewer,
        begin=queue.week.begin,
        end=queue.week.end,
        sampled=looked_at,
        flagged=sorted(set(flagged)),
        envelope=signer.sign(REVIEW_TYPE, jcs.encode(statement)),
    )


def reviews_of(
    reader: HashReader, reviews: HashReader, directory: Directory, progress: Progress | None = None
) -> list[Reviewed]:
    """Every review in the log `reviews` that is about the log of `reader`, each drawn again.

    Raises:
        LogFault: an entry of either is malformed, or the reviewed log's hashes are not those under its head.
    """
    origin = Checkpoint.parse(reader.head()[1]).origin
    out = []
    for index, data in reviews.forwards(0):
        value = decode(index, data)
        if value["type"] != "review":
            continue
        statement = _statement(value)
        if statement is None or statement.get("log") == origin:
            fault, own = _fault(reader, value, statement, directory, progress)
            out.append(
                Reviewed(
                    index=index,
                    week=str(Week.of(dt.datetime.fromisoformat(value["period"]["begin"]))),
                    reviewer=value["reviewer"],
                    at=value["at"],
                    looked_at=len(value["sampled"]),
                    flagged=tuple(value["flagged"]),
                    own=own,
                    fault=fault,
                )
            )
    return out


def weeks_of(reader: HashReader) -> list[Week]:
    """Every week from the log's first entry to its newest, oldest first.

    Raises:
        LogFault: an entry is malformed, or the newest is dated before the first.
    """
    size = reader.head()[0]
    if not size:
        return []
    first, last = (Week.of(dt.datetime.fromisoformat(_at(reader, i))) for i in (0, size - 1))
    if last.begin < first.begin:  # it was not verified: the weeks between would have no end
        raise LogFault("the log's last entry is dated before its first: verify the log", reason="TIME_ORDER")
    out = [first]
    while out[-1] != last:
        out.append(Week.of(out[-1].end))
    return out


def _fault(
    reader: HashReader,
    value: dict[str, Any],
    statement: dict[str, Any] | None,
    directory: Directory,
    progress: Progress | None,
) -> tuple[str, frozenset[int]]:
    """What is wrong with a review, empty if an auditor or supervisor signed it in their own name and it is of the
    week's own draw; and the entries drawn that are the reviewer's own searches."""
    if statement is None:
        return "what was signed is no review", frozenset()
    try:
        signer = overseer(envelope_of(value), directory, dt.datetime.fromisoformat(value["at"]))
    except (NotAuthentic, InvalidInput) as e:
        return f"its signature does not hold: {e}", frozenset()
    try:
        again = draw(reader, Week.parse(statement["week"]), len(statement["sampled"]) or 1, progress)
        looked_at = sorted({*statement["sampled"], *statement["watched"]})
    except (ComityError, KeyError, TypeError) as e:
        return f"its week cannot be drawn again: {e}", frozenset()
    own = frozenset(i for i, who in zip(again.sampled, again.requesters, strict=True) if who == value["reviewer"])
    expected = {
        "head": {"size": again.head.size, "root": again.head.root.hex()},
        "searches": again.searches,
        "sampled": list(again.sampled),
        "flagged": value["flagged"],
    }
    if str(signer.spiffe) != value["reviewer"]:
        return "it is signed by another person than it names", own
    if own and own.issuperset(again.sampled):
        return "every search drawn is the reviewer's own", own
    for name, there in expected.items():
        if statement.get(name) != there:
            return f"{name} is not what the log gives", own
    fits = value["sampled"] == looked_at and value["period"]["begin"] == to_text(again.week.begin)
    return "" if fits else "the entry says other than what was signed", own


def _requester(value: dict[str, Any]) -> str:
    return f"spiffe://{value['requester']['agency']}/person/{value['requester']['person']}"


def _statement(value: dict[str, Any]) -> dict[str, Any] | None:
    envelope = envelope_of(value)
    try:
        found = orjson.loads(envelope.payload) if envelope.payload_type == REVIEW_TYPE else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _lot(head: Checkpoint, week: Week, index: int) -> bytes:
    return sha256(b"\0".join((FORMAT.encode(), head.root, str(week).encode(), b"%d" % index))).digest()


def _searches(reader: HashReader, first: int, last: int) -> Iterator[int]:
    for start in range(first, last, _STRETCH):
        for index, entry in enumerate(reader.entries(start, min(last, start + _STRETCH)), start):
            if b'"type":"inquiry"' in entry:  # canonical JSON spells it so; others need no reading
                value = decode(index, entry)
                if value["type"] == "inquiry" and not value["preview"]:
                    yield index


def _first_at(reader: HashReader, size: int, at: str) -> int:
    """The first entry written at `at` or later, by halving: the times of a log never go back."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if _at(reader, middle) < at:
            low = middle + 1
        else:
            high = middle
    return low


def _at(reader: HashReader, index: int) -> str:
    return str(decode(index, reader.entry(index))["at"])
