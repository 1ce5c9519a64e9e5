"""Use of a log's searches that somebody should look at. Each finding is a question and none a verdict.

What is compared with what: a person's day with that person's days before and with the days of others at the same
agency, by the median and the median distance from it, which a few outliers cannot move.

Plates and case numbers are sealed. With an auditor's key they are opened one by one and leave this module as a
pseudonym or a word; without it what needs them is said not to have been looked for.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

from audit import case_number
from audit.listing import decode, is_pending
from audit.read import LogReader
from audit.sealing import Clear
from comity.errors import InvalidInput, NotAllowed
from comity.instants import to_text

T = TypeVar("T")
K = TypeVar("K")
Progress = Callable[[int, int], None]
Open = Callable[[int], Clear]
Name = Callable[[Clear], str]  # the pseudonym of what was searched; empty if it was no one plate

_TO_SIGMA = 0.6745  # of a normal distribution, the median distance from the median in standard deviations
_LEAST_DAYS = 5  # fewer days say nothing of what is usual
_PROGRESS_EVERY = 1_000


class Kind(enum.StrEnum):
    """What there is to look at."""

    VOLUME = "volume"
    NIGHT = "night"
    STEADY_PROXY = "steady-proxy"
    REFUSED_BENEFICIARY = "refused-beneficiary"
    REPEAT_TARGET = "repeat-target"
    MISSING_CASE = "missing-case"
    VAGUE_CASE = "vague-case"


NEED_KEY = (Kind.REPEAT_TARGET, Kind.MISSING_CASE, Kind.VAGUE_CASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to look at: whose, what, and the entries it is about."""

    kind: Kind
    agency: str
    person: str
    sentence: str
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From when on something is looked at. `score`: robust standard deviations; `night`: [from, to) local hours."""

    score: float = 3.5
    volume: int = 20
    at_night: int = 3
    night: tuple[int, int] = (22, 5)
    proxy: int = 5
    repeat_days: int = 3
    repeat_times: int = 10
    past_days: int = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """`searches` were looked at. `not_looked_for`: what was not, and why. `unopened`: sealed parts by reason."""

    searches: int
    findings: tuple[Finding, ...]
    not_looked_for: Mapping[Kind, str]
    unopened: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Search:
    index: int
    at: dt.datetime  # local
    agency: str
    person: str
    beneficiary: str
    purpose: str

    @property
    def who(self) -> tuple[str, str]:
        return self.agency, self.person


@dataclass(slots=True)
class _Read:
    """What one pass takes from the log: searches of the past and of the span, and who was refused or permitted what."""

    past: list[_Search] = field(default_factory=list)
    now: list[_Search] = field(default_factory=list)
    refused: dict[tuple[str, str, str], int] = field(default_factory=dict)  # agency for itself, node, purpose
    on_behalf: list[tuple[_Search, str, int]] = field(default_factory=list)  # permitted at node, by that entry


def watch(
    reader: LogReader,
    *,
    begin: dt.datetime,
    end: dt.datetime,
    zone: dt.tzinfo = dt.UTC,
    limits: Limits | None = None,
    opened: tuple[Open, Name] | None = None,
    progress: Progress | None = None,
) -> Watched:
    """What is to be looked at among the searches recorded in [begin, end). Hours and days are those of `zone`.

    `opened` opens an inquiry's sealed part, and names its plate by a pseudonym. Nothing is verified here.

    Raises:
        InvalidInput: the span is empty (BAD_SPAN).
        LogFault: an entry is malformed, or a sealed part is not the one that was written.
    """
    if begin >= end:
        raise InvalidInput("the end is not after the beginning", reason="BAD_SPAN")
    limits = limits or Limits()
    read = _read(reader, begin, end, zone, limits, progress)
    found = [*_unusual_days(read, limits), *_steady_proxies(read, limits), *_refused_beneficiaries(read)]
    unopened: Counter[str] = Counter()
    if opened:
        found += _sealed(read.now, opened, limits, unopened, progress)
    missing = dict.fromkeys(NEED_KEY, "it is sealed, and no auditor's key was given") if opened is None else {}
    if opened and read.now and unopened.total() == len(read.now):
        missing = dict.fromkeys(NEED_KEY, "no sealed part could be opened")
    order = sorted(found, key=lambda f: (list(Kind).index(f.kind), f.agency, f.person, f.indexes))
    return Watched(
        searches=len(read.now), findings=tuple(order), not_looked_for=missing, unopened=dict(sorted(unopened.items()))
    )


def _read(
    reader: LogReader,
    begin: dt.datetime,
    end: dt.datetime,
    zone: dt.tzinfo,
    limits: Limits,
    progress: Progress | None,
) -> _Read:
    out, asked = _Read(), dict[str, tuple[_Search, bool]]()
    past, now, until = to_text(begin - dt.timedelta(days=limits.past_days)), to_text(begin), to_text(end)
    size = reader.head()[0]
    for index, entry in reader.forwards(0):
        if progress and index % _PROGRESS_EVERY == 0:
            progress(index, size)
        value = decode(index, entry)
        if value["at"] >= until:
            break
        if value["type"] == "inquiry" and not value["preview"]:
            search = _search(index, value, zone)
            asked[value["inquiry_id"]] = search, value["at"] >= now
            if value["at"] >= past:
                (out.now if value["at"] >= now else out.past).append(search)
        elif value["type"] == "decision" and value["inquiry_id"] in asked:
            _decided(out, value, index, *asked[value["inquiry_id"]])
    return out


def _search(index: int, value: Mapping[str, Any], zone: dt.tzinfo) -> _Search:
    requester, at = value["requester"], dt.datetime.fromisoformat(value["at"]).astimezone(zone)
    return _Search(index, at, requester["agency"], requester["person"], value["beneficiary"], value["purpose"]["code"])


def _decided(out: _Read, value: Mapping[str, Any], index: int, search: _Search, current: bool) -> None:
    if search.agency == search.beneficiary and value["effect"] == "deny":
        out.refused.setdefault((search.agency, value["node"], search.purpose), index)
    elif search.agency != search.beneficiary and current and value["effect"] == "permit" and not is_pending(value):
        out.on_behalf.append((search, value["node"], index))


def _unusual_days(read: _Read, limits: Limits) -> Iterator[Finding]:
    """Days with more searches, or more at night, than is usual for the person or at the agency."""
    everywhere, first = [*read.past, *read.now], min((s.at.date() for s in read.now), default=dt.date.max)
    for kind, least, counts in (
        (Kind.VOLUME, limits.volume, _any_time),
        (Kind.NIGHT, limits.at_night, lambda s: _at_night(s.at.hour, limits.night)),
    ):
        days = _by_day(everywhere, counts)
        of_agency = _grouped(days, lambda who: who[0])
        for (who, day), same in sorted(_grouped(filter(counts, read.now), lambda s: (s.who, s.at.date())).items()):
            if days[who][day] < least:
                continue
            before = [n for past, n in days[who].items() if past < first]
            others = [n for other in of_agency[who[0]] if other != who for n in days[other].values()]
            said = [
                f"{whose} usual {median(sample):g}"
                for whose, sample in (("their own", before), ("their agency's", others))
                if len(sample) >= _LEAST_DAYS and _score(days[who][day], sample) > limits.score
            ]
            if said:
                what = "searches" if kind is Kind.VOLUME else "searches at night"
                sentence = f"{days[who][day]} {what} on {day.isoformat()}, against {' and '.join(said)} a day"
                indexes = tuple(s.index for s in same)
                yield Finding(kind=kind, agency=who[0], person=who[1], sentence=sentence, indexes=indexes)


def _any_time(_: _Search) -> bool:
    return True


def _by_day(
    searches: Iterable[_Search], counts: Callable[[_Search], bool]
) -> dict[tuple[str, str], dict[dt.date, int]]:
    """Of each person, how many on each day with any search at all."""
    out: defaultdict[tuple[str, str], defaultdict[dt.date, int]] = defaultdict(lambda: defaultdict(int))
    for s in searches:
        out[s.who][s.at.date()] += counts(s)
    return {who: dict(days) for who, days in out.items()}


def _score(count: int, sample: Sequence[int]) -> float:
    """How many robust standard deviations `count` lies above the middle of `sample`.

    A median distance below 1 is taken as 1: where every day is alike, one search more is no outlier.
    """
    middle = median(sample)
    return _TO_SIGMA * (count - middle) / max(1.0, median(abs(n - middle) for n in sample))


def _at_night(hour: int, night: tuple[int, int]) -> bool:
    begin, end = night
    return begin <= hour < end if begin <= end else hour >= begin or hour < end


def _steady_proxies(read: _Read, limits: Limits) -> Iterator[Finding]:
    """Persons who search for others, at least half of the time, and always for the same agency."""
    for who, searches in sorted(_grouped(read.now, lambda s: s.who).items()):
        others = [s for s in searches if s.beneficiary != s.agency]
        served = {s.beneficiary for s in others}
        if len(others) >= limits.proxy and len(served) == 1 and len(others) * 2 >= len(searches):
            sentence = (
                f"{len(others)} of {_many(len(searches), 'search')} were for {served.pop()}, and for no other agency"
            )
            indexes = tuple(s.index for s in others)
            yield Finding(kind=Kind.STEADY_PROXY, agency=who[0], person=who[1], sentence=sentence, indexes=indexes)


def _refused_beneficiaries(read: _Read) -> Iterator[Finding]:
    """Searches for an agency that were permitted where its own search for that purpose is on record as refused."""
    found = [
        (s, index, read.refused[s.beneficiary, node, s.purpose])
        for s, node, index in read.on_behalf
        if (s.beneficiary, node, s.purpose) in read.refused
    ]
    for (who, beneficiary, purpose), cases in sorted(
        _grouped(found, lambda f: (f[0].who, f[0].beneficiary, f[0].purpose)).items()
    ):
        refusals = sorted({refusal for _, _, refusal in cases})
        sentence = (
            f"searches for {beneficiary}, {purpose}, were permitted where its own are refused: entries "
            f"{', '.join(map(str, refusals[:5]))}"
        )
        indexes = tuple(sorted({index for _, index, _ in cases}))
        yield Finding(kind=Kind.REFUSED_BENEFICIARY, agency=who[0], person=who[1], sentence=sentence, indexes=indexes)


def _sealed(
    searches: Sequence[_Search],
    opened: tuple[Open, Name],
    limits: Limits,
    unopened: Counter[str],
    progress: Progress | None,
) -> list[Finding]:
    """Repeat targets, and case numbers that name no case."""
    targets: defaultdict[tuple[str, str, str], list[_Search]] = defaultdict(list)
    cases: defaultdict[tuple[str, str, Kind, str], list[int]] = defaultdict(list)
    for done, s in enumerate(searches):
        if progress and done % _PROGRESS_EVERY == 0:
            progress(done, len(searches))
        try:
            clear = opened[0](s.index)
        except (InvalidInput, NotAllowed) as e:  # nothing sealed, erased, or sealed to others
            unopened[e.reason] += 1
            continue
        if name := opened[1](clear):
            targets[(*s.who, name)].append(s)
        if fault := case_number.fault(clear.case_number):
            kind = Kind.MISSING_CASE if fault == "missing" else Kind.VAGUE_CASE
            cases[(*s.who, kind, fault)].append(s.index)
    found = []
    for (agency, person, name), same in targets.items():
        days = len({s.at.date() for s in same})
        if days >= limits.repeat_days or len(same) >= limits.repeat_times:
            sentence = f"one plate, {name}, searched {len(same)} times on {_many(days, 'day')}"
            indexes = tuple(s.index for s in same)
            found.append(
                Finding(kind=Kind.REPEAT_TARGET, agency=agency, person=person, sentence=sentence, indexes=indexes)
            )
    for (agency, person, kind, fault), entries in cases.items():
        what = "no case number" if kind is Kind.MISSING_CASE else f"a case number that names no case: {fault}"
        sentence = f"{_many(len(entries), 'search')} with {what}"
        found.append(Finding(kind=kind, agency=agency, person=person, sentence=sentence, indexes=tuple(entries)))
    return found


def _many(count: int, what: str) -> str:
    plural = "es" if what.endswith("h") else "s"
    return f"{count} {what}{'' if count == 1 else plural}"


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    out: dict[K, list[T]] = {}
    for item in items:
        out.setdefault(key(item), []).append(item)
    return out
