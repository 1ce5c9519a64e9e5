"""Every class of request that two versions of the policies judge differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from comity.decision import Layer, Obligations
from policies.instance import Request
from policies.sides import Side
from policies.space import Judged, Parties, Space
from policies.wording import Wording, as_values, outcome

Progress = Callable[[int, int], None]
Rules = frozenset[tuple[Layer, str]]
_What = tuple[Obligations | None, Obligations | None, Rules, Rules]
_Pair = tuple[Parties, Parties | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Classes of requests at one node that change alike. `beneficiaries` is empty for searches for oneself; `example`
    is one of the `requests`, and `before`, `after`, `lost` and `gained` (rules that apply before only, after only) are
    what becomes of it; of all the others too, unless changes were merged by kind.
    """

    node: str
    transition: str
    before: Obligations | None
    after: Obligations | None
    lost: Rules
    gained: Rules
    requesters: tuple[Parties, ...]
    beneficiaries: tuple[Parties, ...]
    box: Mapping[str, object]
    words: str
    requests: int
    example: Request

    @property
    def decided(self) -> bool:
        """Whether the decision or a duty changes, not only the rules behind it."""
        return self.before != self.after

    def as_json(self) -> dict[str, object]:
        """One object for `--json`."""
        return {
            "node": self.node,
            "transition": self.transition,
            "before": _judged(self.before),
            "after": _judged(self.after),
            "rules_lost": [{"layer": layer.value, "rule": r} for layer, r in sorted(self.lost)],
            "rules_gained": [{"layer": layer.value, "rule": r} for layer, r in sorted(self.gained)],
            "requesters": _agencies(self.requesters),
            "beneficiaries": _agencies(self.beneficiaries),
            "where": self.box,
            "words": self.words,
            "requests": self.requests,
            "example": self.example.as_json(),
        }


def silent(done: int, total: int) -> None:
    """No progress."""


def changes(
    before: Mapping[str, Side],
    after: Mapping[str, Side],
    *,
    merged: bool = False,
    papers: bool = True,
    progress: Progress = silent,
) -> Iterator[Change]:
    """All changes, by node: a node that one version lacks refuses everything there.

    `merged`: changes of one kind together (a permit refused, a look-back widened) whatever else is so; otherwise one
    for each pair of outcomes and set of rules. Both cover exactly the requests that change. `papers`: as for `Space`.

    Raises:
        TooLarge: there are more classes than can be gone through.
    """
    nodes = sorted(before.keys() | after.keys())
    for number, node in enumerate(nodes):
        progress(number, len(nodes))
        sides = [_side(node, before), _side(node, after)]
        if sides[0].layers == sides[1].layers and sides[0].registry.federation == sides[1].registry.federation:
            continue
        space = Space(sides, papers=papers)
        wording = Wording(words=sides[1 if sides[1].registered else 0].registry.words)
        found: dict[str, dict[_Pair, int]] = {}
        example: dict[str, _What] = {}
        for what, of_pair in _differences(space).items():
            kind = _kind(what) if merged else _exactly(what)
            example.setdefault(kind, what)
            for pair, bits in of_pair.items():
                held = found.setdefault(kind, {})
                held[pair] = held.get(pair, 0) | bits
        for kind, of_pair in found.items():
            yield from _stated(space, wording, kind, example[kind], of_pair)


def _side(node: str, sides: Mapping[str, Side]) -> Side:
    if node in sides:
        return sides[node]
    other = next(iter(sides.values()))
    return Side(registry=other.registry, node=node, layers=())


def _differences(space: Space) -> dict[_What, dict[_Pair, int]]:
    """Change -> pair of parties -> where on the grid."""
    found: dict[_What, dict[_Pair, int]] = {}
    for pair in space.pairs():
        old, new = space.judged(0, *pair), space.judged(1, *pair)
        rules = _rules_apart(old, new, space.grid.full)
        for a, where in old.outcomes.items():
            for b, there in new.outcomes.items():
                for (lost, gained), differ in rules:
                    bits = where & there & differ
                    if bits and (a != b or lost or gained):
                        found.setdefault((a, b, lost, gained), {})[pair] = bits
    return found


def _exactly(what: _What) -> str:
    before, after, lost, gained = what
    rules = [f"-{r}" for _, r in sorted(lost)] + [f"+{r}" for _, r in sorted(gained)]
    said = f"{outcome(before)} -> {outcome(after)}" if before != after else f"{outcome(before)} as before"
    return f"{said}; rules {' '.join(rules)}" if rules else said


def _kind(what: _What) -> str:
    before, after, lost, gained = what
    if before == after:
        rules = [f"-{r}" for _, r in sorted(lost)] + [f"+{r}" for _, r in sorted(gained)]
        return f"as before, by other rules: {' '.join(rules)}"
    if before is None or after is None:
        return f"{'refused' if before is None else 'permitted'} -> {'refused' if after is None else 'permitted'}"
    said = []
    for name, was, now in (
        ("window", before.window_days, after.window_days),
        ("quota", before.quota_per_day, after.quota_per_day),
        ("breadth", before.breadth, after.breadth),
    ):
        if was != now:
            looser = now is None or (was is not None and now > was)
            said.append(f"{name} {'wider' if looser else 'narrower'}")
    if before.redaction != after.redaction:
        said.append(f"redacted {'more' if after.redaction > before.redaction else 'less'}")
    for name, had, has in (("approval", before.approval, after.approval), ("warrant", before.warrant, after.warrant)):
        if had != has:
            said.append(f"{name} {'asked for' if has else 'no longer asked for'}")
    return f"permitted -> permitted, {', '.join(said)}"


def _rules_apart(old: Judged, new: Judged, full: int) -> list[tuple[tuple[Rules, Rules], int]]:
    """The grid cut by which rules apply on one side only; the first part has no difference."""
    empty: Rules = frozenset()
    parts: dict[tuple[Rules, Rules], int] = {(empty, empty): full}
    for rule in sorted(old.rules.keys() | new.rules.keys()):
        was, now = old.rules.get(rule, 0), new.rules.get(rule, 0)
        if was == now:
            continue
        split: dict[tuple[Rules, Rules], int] = {}
        for (lost, gained), bits in parts.items():
            for key, part in (
                ((lost | {rule}, gained), bits & was & ~now),
                ((lost, gained | {rule}), bits & now & ~was),
                ((lost, gained), bits & ~(was ^ now)),
            ):
                if part:
                    split[key] = split.get(key, 0) | part
        parts = split
    return list(parts.items())


def _stated(space: Space, wording: Wording, kind: str, what: _What, of_pair: Mapping[_Pair, int]) -> Iterator[Change]:
    before, after, lost, gained = what
    same: dict[int, list[_Pair]] = {}
    for pair, bits in of_pair.items():
        same.setdefault(bits, []).append(pair)
    for bits, pairs in same.items():
        for requesters, beneficiaries in _rectangles(pairs):
            partner = beneficiaries[0] if beneficiaries else None
            every = [(r, b) for r in requesters for b in beneficiaries or (None,)]
            for box in space.grid.boxes(bits):
                inside = space.grid.inside(box)
                yield Change(
                    node=space.node,
                    transition=kind,
                    before=before,
                    after=after,
                    lost=lost,
                    gained=gained,
                    requesters=requesters,
                    beneficiaries=beneficiaries,
                    box=as_values(box),
                    words=_words(wording, requesters, beneficiaries, wording.box(box)),
                    requests=sum(space.count(r, b, inside) for r, b in every),
                    example=space.request(requesters[0], partner, inside),
                )


def _rectangles(pairs: Sequence[_Pair]) -> Iterator[tuple[tuple[Parties, ...], tuple[Parties, ...]]]:
    """The pairs as few products of requesters and beneficiaries; no beneficiary is a search for oneself."""
    alone = tuple(r for r, b in pairs if b is None)
    if alone:
        yield alone, ()
    partners: dict[Parties, list[Parties]] = {}
    for r, b in pairs:
        if b is not None:
            partners.setdefault(r, []).append(b)
    same: dict[tuple[Parties, ...], list[Parties]] = {}
    for r, bs in partners.items():
        same.setdefault(tuple(bs), []).append(r)
    for beneficiaries, requesters in same.items():
        yield tuple(requesters), beneficiaries


def _words(wording: Wording, requesters: Sequence[Parties], beneficiaries: Sequence[Parties], box: str) -> str:
    said = wording.agencies(m for p in requesters for m in p.members)
    if beneficiaries:
        said += f" on behalf of {wording.agencies(m for p in beneficiaries for m in p.members)}"
    return f"{said}, {box}" if box else said


def _judged(duties: Obligations | None) -> dict[str, object]:
    return {"effect": "deny"} if duties is None else {"effect": "permit", "obligations": duties.as_json()}


def _agencies(parties: Sequence[Parties]) -> list[dict[str, object]]:
    return [{"agency": m.agency, "papers": sorted(m.papers), "person": m.person} for p in parties for m in p.members]
