"""What is wrong with rules as they stand: rules that do nothing, and rules that undo one another.

A pack is judged at every node of the directory and whatever packs stand beside it, so a deny counts even where the
pack itself allows nothing. A node's whole policy is judged at that node alone. Neither the other layer nor the search
for another can make a rule live that is dead here: both only take permits away.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from comity.decision import Layer, Obligations
from comity.errors import PolicyError
from policies.claims import Claim, altered, left_out
from policies.load import Rule, load
from policies.packs import pack_metadata, pack_text, rows_of
from policies.retention import DAY_S
from policies.seal import HEADER, seal, unseal
from policies.setting import Setting
from policies.sides import UNPOSTED, Registry, Side, Stated
from policies.space import Space, Word
from policies.vocabulary import Vocabulary

Progress = Callable[[int, int], None]
Places = Mapping[str, tuple[str, int]]
NOTES = ("unsealed", "idle", "restates")
MAX_FAULTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `kind`: refused, dead, shadowed, contradicting, redundant, never-binds; borrowed, if it has the
    name of a shipped pack's rule and says something else; left-out, if it is a row of a shipped pack that is named. As
    notes, which are no fault: unsealed, idle, and restates, redundant by its pack's own word: it is there to be cited.
    `line` from 1, 0 where there is none.
    """

    kind: str
    rule: str
    file: str
    line: int
    message: str

    @property
    def is_note(self) -> bool:
        """Whether it is no fault."""
        return self.kind in NOTES

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        out: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        return out | {"level": "note" if self.is_note else "fault"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """One node where rules are tried: every distinct word of the layer on a party, and days kept there."""

    words: tuple[Word, ...]
    kept_days: int | None


def silent(done: int, total: int) -> None:
    """No progress."""


def lint_text(text: str, file: str, setting: Setting, day: dt.date, progress: Progress = silent) -> Iterator[Finding]:
    """Findings on a text of rules, sealed or not, as a part of any policy in the setting's federation."""
    try:
        body = unseal(text, file)
    except PolicyError as e:
        yield Finding(kind="unsealed", rule="", file=file, line=e.line, message=_message(e))
        body = text
    try:
        rules = load(seal(body), setting.vocabulary, file)
    except PolicyError:
        yield from _faults(body, setting.vocabulary, file)
        return
    places = _places({file: body})
    yield from _claimed("borrowed", altered(r.cells for r in rules), places)
    sites = list(_everywhere(rules, setting, day, progress))
    yield from _findings(rules, places, sites, closed=False)


def lint_pack(name: str, setting: Setting, day: dt.date, progress: Progress = silent) -> Iterator[Finding]:
    """Findings on a pack, from the setting's folder before the package.

    Raises:
        PolicyError: there is no such pack.
    """
    beside = setting.folder / "packs" if setting.folder else None
    derived, text = _derived([name], beside), pack_text(name, beside)
    for finding in lint_text(text, f"{name}.csv", setting, day, progress):
        yield _stated(finding, derived)
    rows = [row.split(",") for row in rows_of(text, f"{name}.csv")]
    yield from _claimed("left-out", left_out([name], rows, day), {})


def lint_node(node: str, setting: Setting, day: dt.date) -> Iterator[Finding]:
    """Findings on the whole policy of one node, at that node; none if it has no policy.

    Raises:
        PolicyError: a pack of the node is refused.
    """
    policy, at = setting.node_policies[node], setting.federation.nodes[node]
    if policy is None:
        return
    beside = setting.folder / "packs" if setting.folder else None
    texts = {f"{name}.csv": pack_text(name, beside) for name in at.presets}
    places = _places(texts)
    yield from _claimed("borrowed", altered(r.cells for r in policy.rules), places)
    yield from _claimed("left-out", left_out(setting.packs_of(node), [r.cells for r in policy.rules], day), {})
    side = Side(registry=Registry(setting.federation, day), node=node, layers=(Stated.of(Layer.NODE, policy),))
    site = _Site(words=_words(Space([side])), kept_days=setting.kept_s(node) // DAY_S)
    derived = _derived(at.presets, beside)
    for finding in _findings(policy.rules, places, [site], closed=True):
        yield _stated(finding, derived)


def _claimed(kind: str, found: Iterable[Claim], places: Places) -> Iterator[Finding]:
    for claim in found:
        file, line = places.get(claim.row, (f"{claim.pack}.csv", 0))
        yield Finding(kind=kind, rule=claim.row, file=file, line=line, message=str(claim))


def _derived(packs: Sequence[str], beside: Path | None) -> frozenset[str]:
    """The rules of the packs of which their metadata says that they follow from others."""
    known = [pack_metadata(name, beside) for name in packs]
    return frozenset(rule for m in known if m is not None for rule, r in m.rules.items() if r.checked == "derived")


def _stated(finding: Finding, derived: frozenset[str]) -> Finding:
    known = finding.kind == "redundant" and finding.rule.partition(".")[0] in derived
    return replace(finding, kind="restates") if known else finding


def _everywhere(rules: tuple[Rule, ...], setting: Setting, day: dt.date, progress: Progress) -> Iterator[_Site]:
    registry = Registry(setting.federation, day)
    # whether the node has posted no purpose, or all of them, is not the rules' to say
    posted = (
        [None, frozenset[str]()] if any(UNPOSTED in r.condition.needs | r.condition.bars for r in rules) else [None]
    )
    nodes = sorted(setting.federation.nodes)
    for number, node in enumerate(nodes):
        progress(number, len(nodes))
        for purposes in posted:
            stated = Stated(layer=Layer.NODE, rules=rules, posted=purposes)
            yield _Site(words=_words(Space([Side(registry=registry, node=node, layers=(stated,))])), kept_days=None)


def _words(space: Space) -> tuple[Word, ...]:
    by_reach = {p.rules: space.word(0, 0, p) for p in (*space.requesters, *space.beneficiaries)}
    return tuple(by_reach.values())


def _findings(rules: tuple[Rule, ...], places: Places, sites: Sequence[_Site], *, closed: bool) -> Iterator[Finding]:
    judge = _Judge(sites, closed=closed)
    gone: set[str] = set()
    for rule in rules:
        found = judge.fault(rule, gone)
        if found is None and closed and rule.effect == "deny" and judge.idle(rule):
            found = ("idle", "refuses only what no rule of this policy allows")
        if found is not None:
            kind, message = found
            # what another one makes needless must not make that one needless in turn
            gone |= {rule.row} if kind == "redundant" else set()
            file, line = places.get(rule.row, ("", 0))
            yield Finding(kind=kind, rule=rule.row, file=file, line=line, message=f"{rule.row} {message}")


class _Judge:
    """One layer's rules at all sites. `closed`: nothing stands beside them."""

    def __init__(self, sites: Sequence[_Site], *, closed: bool) -> None:
        self._sites, self._closed = sites, closed
        self._all = [(site, word) for site in sites for word in site.words]

    def fault(self, rule: Rule, gone: set[str]) -> tuple[str, str] | None:
        """What is wrong with the rule if those that are `gone` were not there, else None."""
        met = [(site, word, bits) for site, word in self._all if (bits := _bits(word, rule))]
        if not met:
            return "dead", "matches no request that anybody could make"
        live = [(site, word, bits & self._live(rule, word)) for site, word, bits in met]
        if rule.effect == "allow" and not any(bits for _, _, bits in live):
            return self._shadowed(rule, [(word, bits) for _, word, bits in met])
        if rule.effect == "limit" and rule.cells[8] != "advice":
            reason = self._never_binds(rule, live)
            if reason:
                return "never-binds", reason
        return self._redundant(rule, live, gone)

    def idle(self, rule: Rule) -> bool:
        """Whether everything that the rule refuses would be refused without any deny."""
        return not any(_bits(word, rule) & word.allow for _, word in self._all)

    def _live(self, rule: Rule, word: Word) -> int:
        """Where the rule can count at all, -1 for everywhere."""
        if rule.effect == "deny":
            return -1
        allowed = word.allow if self._closed and rule.effect == "limit" else -1
        return allowed & ~word.deny

    def _shadowed(self, rule: Rule, met: Sequence[tuple[Word, int]]) -> tuple[str, str]:
        denies = {d.row: d for word, _ in met for d, _ in word.rules if d.effect == "deny"}
        for deny in denies.values():
            if deny.cells[1:6] == rule.cells[1:6] and all(not bits & ~_bits(word, deny) for word, bits in met):
                return "contradicting", f"allows what {deny.row} with the same columns refuses"
        blocking = sorted(row for row, d in denies.items() if any(bits & _bits(word, d) for word, bits in met))
        return "shadowed", f"allows nothing: {', '.join(blocking)} always overrules it"

    def _never_binds(self, rule: Rule, live: Sequence[tuple[_Site, Word, int]]) -> str:
        if not any(bits for _, _, bits in live):
            return "limits only what is refused anyway"
        kept = [site.kept_days for site, _, bits in live if bits]
        days, only_days = rule.duties.window_days, rule.cells[8].startswith("window_days") and ";" not in rule.cells[8]
        if days is not None and only_days and all(k is not None and k <= days for k in kept):
            return f"limits to {days:,} days where detections are kept for {max(k or 0 for k in kept):,}"
        return ""

    def _redundant(self, rule: Rule, live: Sequence[tuple[_Site, Word, int]], gone: set[str]) -> tuple[str, str] | None:
        by: set[str] = set()
        for _, word, bits in live:
            others = [(r, b) for r, b in word.rules if r.row != rule.row and r.row not in gone and b & bits]
            same = [(r, b) for r, b in others if r.effect == rule.effect]
            if rule.effect != "limit":
                covered = 0
                for r, b in same:
                    covered |= b
                    by |= {r.row} if b & bits else set()
                if bits & ~covered:
                    return None
            if bits & ~_duties_met(rule.duties, [(r, b) for r, b in others if r.effect != "deny"], by):
                return None
        if rule.cells[8] == "advice" or not any(bits for _, _, bits in live):
            return None
        return "redundant", f"changes no decision and no duty beside {', '.join(sorted(by))}"


def _bits(word: Word, rule: Rule) -> int:
    return next((bits for r, bits in word.rules if r.row == rule.row), 0)


def _duties_met(duties: Obligations, others: Sequence[tuple[Rule, int]], by: set[str]) -> int:
    """Where others ask for at least as much; their names are added to `by`."""
    met = -1
    for part in _parts(duties):
        covered = 0
        for rule, bits in others:
            if rule.duties.join(part) == rule.duties:
                covered |= bits
                by.add(rule.row)
        met &= covered
    return met


def _parts(duties: Obligations) -> Iterator[Obligations]:
    if duties.window_days is not None:
        yield Obligations(window_days=duties.window_days)
    if duties.redaction > Obligations().redaction:
        yield Obligations(redaction=duties.redaction)
    if duties.approval:
        yield Obligations(approval=True)
    if duties.warrant:
        yield Obligations(warrant=True)
    if duties.quota_per_day is not None:
        yield Obligations(quota_per_day=duties.quota_per_day)
    if duties.breadth is not None:
        yield Obligations(breadth=duties.breadth)


def _places(texts: Mapping[str, str]) -> Places:
    """Row -> file and line; a row of the same name in a later file is the loader's to refuse."""
    out: dict[str, tuple[str, int]] = {}
    for file, text in texts.items():
        for number, line in enumerate(text.split("\n"), 1):
            if line and not line.startswith("#") and line != HEADER:
                out.setdefault(line.partition(",")[0], (file, number))
    return out


def _faults(body: str, words: Vocabulary, file: str) -> Iterator[Finding]:
    """What the loader refuses, of every row by itself; else the fault of the text as a whole."""
    lines, found = body.split("\n"), 0
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#") or line == HEADER or number < 2:
            continue
        try:
            # comment lines before it keep the row's number
            load(seal("#\n" * (number - 2) + f"{HEADER}\n{line}\n"), words, file)
        except PolicyError as e:
            found += 1
            rule = line.partition(",")[0][:40]
            yield Finding(kind="refused", rule=rule, file=file, line=e.line or number, message=_message(e))
            if found >= MAX_FAULTS:
                return
    if not found:
        try:
            load(seal(body), words, file)
        except PolicyError as e:
            yield Finding(kind="refused", rule="", file=file, line=e.line, message=_message(e))


def _message(error: PolicyError) -> str:
    """The error without its file and line, which stand beside it; the column stays."""
    place = ":".join([error.file or "policy", *(str(n) for n in (error.line, error.column) if n)])
    said = str(error).removeprefix(f"{place}: ")
    return f"column {error.column}: {said}" if error.column else said
