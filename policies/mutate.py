"""How well a decision table guards a pack: which small faults in its rules no row of the table would notice.

A mutant is killed if a row of the table fails under it. One that no row could tell from the pack, whatever it asks, is
equivalent and does not count; the classes of requests decide that exactly. For every other survivor a row is made that
holds today and kills it.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from comity.decision import Obligations
from comity.errors import InvalidInput
from comity.purpose import Authority
from policies.conditions import NODE_FACTS
from policies.instance import Request
from policies.load import load
from policies.mutants import Mutant, mutants_of
from policies.packs import pack_metadata, pack_text
from policies.retention import DAY_S, retention_s
from policies.setting import Setting
from policies.sides import Side, sides_of
from policies.space import Judged, Parties, Space
from policies.table import HEADER, Row, asked
from policies.trial import Trial

LEAST = 0.95
Progress = Callable[[int, int], None]
_FEDERATION, _NODE = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A mutant that the table does not notice, and the cells of a row that would."""

    mutant: Mutant
    cells: Mapping[str, str]

    def line(self, header: Sequence[str]) -> str:
        """The row as CSV under `header`, which must have every column that it needs."""
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow([self.cells.get(column, "") for column in header])
        return out.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What became of a pack's mutants. `value` is 1 where there are none that count."""

    pack: str
    killed: int
    equivalent: int
    survivors: tuple[Survivor, ...]

    @property
    def value(self) -> float:
        """Killed mutants of those that are not equivalent, 0 to 1."""
        counted = self.killed + len(self.survivors)
        return self.killed / counted if counted else 1.0

    def as_json(self, header: Sequence[str]) -> dict[str, object]:
        """One object for `--json`."""
        return {
            "pack": self.pack,
            "mutants": self.killed + self.equivalent + len(self.survivors),
            "killed": self.killed,
            "equivalent": self.equivalent,
            "survived": len(self.survivors),
            "score": round(self.value, 4),
            "survivors": [
                {"rule": s.mutant.row, "what": s.mutant.what, "row": s.line(header), "cells": dict(s.cells)}
                for s in self.survivors
            ],
        }


def silent(done: int, total: int) -> None:
    """No progress."""


def packs_of(rows: Sequence[Row], setting: Setting) -> tuple[str, ...]:
    """The packs that the rows' nodes and the federation follow, by name."""
    nodes = setting.federation.nodes
    named = {pack for row in rows if row.cells["node"] in nodes for pack in nodes[row.cells["node"]].presets}
    return tuple(sorted(named | set(setting.federation.presets)))


def needed_header(rows: Sequence[Row], scores: Sequence[Score]) -> tuple[str, ...]:
    """The table's columns, and after them those that a survivor's row needs as well."""
    header = tuple(rows[0].cells) if rows else HEADER
    extra = {c for score in scores for s in score.survivors for c, value in s.cells.items() if value} - set(header)
    return (*header, *sorted(extra))


def mutate(rows: Sequence[Row], pack: str, setting: Setting, today: dt.date, progress: Progress = silent) -> Score:
    """The score of the rows, which must hold, for one pack.

    Raises:
        InvalidInput: reason BAD_PACK, nobody in the federation follows it.
        PolicyError: there is no such pack, or it is refused.
        TooLarge: there are more classes than can be gone through.
    """
    federation = setting.federation
    if pack not in federation.presets and not any(pack in n.presets for n in federation.nodes.values()):
        raise InvalidInput(f"no node of {federation.id} follows pack {pack}", reason="BAD_PACK")
    beside = setting.folder / "packs" if setting.folder else None
    rules = load(pack_text(pack, beside), setting.vocabulary, f"{pack}.csv")
    mutants = [m for rule in rules for m in mutants_of(rule, setting.vocabulary)]
    trials = [(Trial(row, setting, today), _layers(pack, setting, row.cells["node"])) for row in rows]
    places = list(_places(pack, setting, _days(pack, setting, rows, today)))
    killed = equivalent = 0
    survivors: list[Survivor] = []
    for number, mutant in enumerate(mutants):
        progress(number, len(mutants))
        if any(layers and not t.seen(mutant, layers).meets(t.row) for t, layers in trials):
            killed += 1
            continue
        cells = _telling_row(mutant, places)
        if cells is None:
            equivalent += 1
        else:
            survivors.append(Survivor(mutant=mutant, cells=cells))
    return Score(pack=pack, killed=killed, equivalent=equivalent, survivors=tuple(survivors))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A node on a day: the layers that hold the pack, and days of detections kept."""

    side: Side
    day: dt.date
    layers: tuple[int, ...]
    kept: int
    today: bool


def _layers(pack: str, setting: Setting, node: str) -> tuple[int, ...]:
    at = setting.federation.nodes.get(node)
    out = (_FEDERATION,) if pack in setting.federation.presets else ()
    return (*out, _NODE) if at is not None and pack in at.presets else out


def _days(pack: str, setting: Setting, rows: Sequence[Row], today: dt.date) -> list[dt.date]:
    """Today first, then the days on both sides of every change: of the pack's rules, of papers, of staff's training."""
    beside = setting.folder / "packs" if setting.folder else None
    known = pack_metadata(pack, beside)
    changes = set(known.changes()) if known is not None else set()
    changes |= {a.expires for a in setting.federation.agreements} | {t.until for t in setting.federation.training}
    days = changes | {d - dt.timedelta(days=1) for d in changes if d > dt.date.min}
    days |= {day for row in rows if (day := asked(row, today).day) is not None}
    return [today, *sorted(days - {today})]


def _places(pack: str, setting: Setting, days: Sequence[dt.date]) -> Iterator[_Place]:
    seen: set[object] = set()
    for day in days:
        for node, side in sides_of(setting.at(day), day).items():
            layers = _layers(pack, setting, node)
            known = (node, tuple(s.rules for s in side.layers), _bearings(side))
            if not layers or known in seen:
                continue
            seen.add(known)
            at = setting.federation.nodes[node]
            kept = retention_s(at.retention_s, at.presets) // DAY_S
            yield _Place(side=side, day=day, layers=layers, kept=kept, today=day == days[0])


def _bearings(side: Side) -> tuple[object, ...]:
    registry = side.registry
    return tuple(
        registry.bearing(agency, person, side.node)
        for agency in sorted(registry.federation.agencies)
        for person in sorted(registry.persons(agency))
    )


def _telling_row(mutant: Mutant, places: Sequence[_Place]) -> dict[str, str] | None:
    for place in places:
        mutated = _mutated(place, mutant)
        if mutated is None:
            continue
        windows = [d.window_days for s in (place.side, mutated) for d in _duties(s) if d.window_days is not None]
        space = Space([place.side, mutated], papers=False, cuts=sorted({w + 1 for w in (*windows, place.kept)}))
        for pair in space.pairs():
            old, new = space.judged(0, *pair), space.judged(1, *pair)
            found = _told_apart(space, old, new, place.kept)
            if found is not None:
                return _cells(space, pair, found, old, new, place, mutant)
    return None


def _mutated(place: _Place, mutant: Mutant) -> Side | None:
    """The side with the mutant in it; None where its row is not in force."""
    changed, layers = False, []
    for number, stated in enumerate(place.side.layers):
        rules = stated.rules
        if number in place.layers and rules is not None and any(r.row == mutant.row for r in rules):
            kept = tuple(r for r in rules if r.row != mutant.row)
            rules = kept if mutant.rule is None else (*kept, mutant.rule)
            changed = True
        layers.append(replace(stated, rules=rules))
    return replace(place.side, layers=tuple(layers)) if changed else None


def _duties(side: Side) -> Iterator[Obligations]:
    for stated in side.layers:
        for rule in stated.rules or ():
            yield rule.duties


def _told_apart(space: Space, old: Judged, new: Judged, kept: int) -> int | None:
    """Where a row of a table sees a difference, decisions before duties before rules; None if nowhere."""
    differ = old.permit ^ new.permit
    if differ:
        return differ
    for a, where in old.outcomes.items():
        for b, there in new.outcomes.items():
            bits = where & there
            if not bits or a is None or b is None or a == b:
                continue
            if a.approval != b.approval or a.redaction != b.redaction:
                return bits
            days = [kept if d.window_days is None else min(d.window_days, kept) for d in (a, b)]
            if days[0] != days[1]:
                nearer = min(days)
                bits &= space.grid.where("lookback", lambda v, nearer=nearer: int(str(v)) > nearer)  # type: ignore[misc]
                if bits:
                    return bits
    for rule in sorted(old.rules.keys() | new.rules.keys()):
        differ = old.rules.get(rule, 0) ^ new.rules.get(rule, 0)
        if differ:
            return differ
    return None


def _cells(
    space: Space,
    pair: tuple[Parties, Parties | None],
    bits: int,
    old: Judged,
    new: Judged,
    place: _Place,
    mutant: Mutant,
) -> dict[str, str]:
    one = bits & -bits
    (before,) = [duties for duties, where in old.outcomes.items() if where & one]
    # only the one class is known to differ
    request = space.request(*pair, one, deep=True)
    cells = _asked(request)
    if space.used & NODE_FACTS:
        cells["node_facts"] = ";".join(sorted(request.node_facts or ())) or "none"
    cells["case"] = f"{mutant.row} is noticed when {mutant.what}"
    cells["expect"] = "deny" if before is None else "pending" if before.approval else "permit"
    lost = {r for (_, r), where in old.rules.items() if where & one}
    gained = {r for (_, r), where in new.rules.items() if where & one}
    told = sorted(lost - gained) + [f"!{r}" for r in sorted(gained - lost)]
    cells["rule"] = ";".join(told)
    if before is not None:
        window = place.kept if before.window_days is None else min(before.window_days, place.kept)
        days = min(request.lookback_days, window)
        cells["obligations"] = f"window_days={days};redact={before.redaction.word}"
    cells["at"] = "" if place.today else place.day.isoformat()
    return cells


def _asked(request: Request) -> dict[str, str]:
    return {
        "requester": request.requester,
        "role": request.role,
        "beneficiary": "self" if request.beneficiary == request.requester else request.beneficiary,
        "purpose": request.purpose,
        "legal_basis": request.legal_basis.value,
        "case_number": "C-1" if request.has_case else "",
        "authority": "" if request.authority is Authority.NONE else request.authority.value,
        "approval": "supervisor" if request.approved else "",
        "query": request.act.value,
        "node": request.node,
        "lookback_days": str(request.lookback_days),
        "offence": request.offence,
        "person": request.person,
    }
