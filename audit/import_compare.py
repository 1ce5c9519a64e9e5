"""Another product's account of who searched, held against our own log: by agency and day, and by id."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from audit import form
from audit.importing import Search
from audit.listing import decode
from audit.read import LogReader
from comity.errors import InvalidInput
from comity.federation import Federation


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One agency's searches on one day (UTC), in the log and in the exports."""

    agency: str
    day: dt.date
    ours: int
    theirs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The days from `first` to `last`. `differing` are those on which the counts are not the same, of `days` in all.

    `not_ours` and `not_theirs` are ids missing from the log and from the exports; both are empty, and `by_id` False,
    where the exports' ids are not those of inquiries, which says nothing about either.
    """

    first: dt.date
    last: dt.date
    days: int
    differing: tuple[Day, ...]
    unknown_orgs: tuple[str, ...]
    by_id: bool
    not_ours: tuple[str, ...]
    not_theirs: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """True if nothing differs that could be compared."""
        return not (self.differing or self.not_ours or self.not_theirs)


def compare(searches: Iterable[Search], reader: LogReader, registry: Federation | None) -> Compared:
    """What the exports and the log say of the days that the exports cover.

    An organisation is the agency whose id or, by the registry, whose name it is.

    Raises:
        InvalidInput: no search was read (NOTHING_READ).
        LogFault: an entry is malformed.
    """
    rows = list(searches)
    if not rows:
        raise InvalidInput("no search could be read: there is nothing to compare", reason="NOTHING_READ")
    first, last = min(s.at for s in rows).date(), max(s.at for s in rows).date()
    names = {a.name.casefold(): a.id for a in registry.agencies.values()} if registry else {}
    theirs, unknown = Counter[tuple[str, dt.date]](), Counter[str]()
    for s in rows:
        agency = names.get(s.org.casefold(), s.org)
        theirs[agency, s.at.date()] += 1
        if registry is not None and agency not in registry.agencies:
            unknown[s.org] += 1
    ids = {s.id.lower() for s in rows if form.inquiry_id(s.id.lower())}
    ours, inquiries = _ours(reader, first, last)
    keys = sorted({*ours, *theirs})
    differing = [
        Day(agency=a, day=d, ours=ours[a, d], theirs=theirs[a, d]) for a, d in keys if ours[a, d] != theirs[a, d]
    ]
    return Compared(
        first=first,
        last=last,
        days=len(keys),
        differing=tuple(differing),
        unknown_orgs=tuple(sorted(unknown)),
        by_id=bool(ids),
        not_ours=tuple(sorted(ids - inquiries)) if ids else (),
        not_theirs=tuple(sorted(inquiries - ids)) if ids else (),
    )


def _ours(reader: LogReader, first: dt.date, last: dt.date) -> tuple[Counter[tuple[str, dt.date]], set[str]]:
    """The log's searches of those days by agency and day, previews left out, and their ids."""
    counts, ids = Counter[tuple[str, dt.date]](), set[str]()
    for index, entry in reader.forwards(0):
        if b'"type":"inquiry"' not in entry:  # canonical JSON spells it so; others need no reading
            continue
        value = decode(index, entry)
        day = dt.date.fromisoformat(value["at"][:10])
        if value["type"] == "inquiry" and not value["preview"] and first <= day <= last:
            counts[value["requester"]["agency"], day] += 1
            ids.add(value["inquiry_id"])
    return counts, ids
