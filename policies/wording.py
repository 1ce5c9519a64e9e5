"""Classes of requests in plain words, with the names that rules use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from comity.decision import Obligations
from policies.grid import Box, Values
from policies.instance import AGREEMENTS, PAPERS
from policies.space import Member
from policies.vocabulary import Dimension, Vocabulary

MAX_NAMED = 4
MAX_BUT = 3
_FACTS = {
    "hot-list-match": ("of plates on a hot list", "of plates on no hot list"),
    "mobile-camera": ("by mobile cameras", "by fixed cameras"),
}


def outcome(duties: Obligations | None) -> str:
    """`refused`, `permitted`, or `permitted: ` and the duties in words."""
    if duties is None:
        return "refused"
    said = []
    if duties.window_days is not None:
        said.append(f"at most {duties.window_days:,} days back")
    if duties.redaction.value > 1:
        said.append(f"redacted to {duties.redaction.word}")
    said += ["with a supervisor's signature"] if duties.approval else []
    said += ["with a judicial warrant"] if duties.warrant else []
    if duties.quota_per_day is not None:
        said.append(f"at most {duties.quota_per_day:,} searches a day")
    if duties.breadth is not None:
        said.append(f"at most {duties.breadth:,} nodes a search")
    return f"permitted: {', '.join(said)}" if said else "permitted"


def listed(words: Sequence[str], link: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {link} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The words of one directory. A set of leaves that is all of a group is named by the group."""

    words: Vocabulary

    def named(self, leaves: Iterable[str], dimension: Dimension, top: str) -> str:
        """The smallest group that has exactly these leaves, or all but a few, else up to four names and the
        number of the rest.
        """
        wanted = frozenset(leaves)
        if len(wanted) > 1 or not wanted:
            below: dict[str, set[str]] = {}
            for leaf in dimension.leaves:
                for group in dimension.above[leaf]:
                    below.setdefault(group, set()).add(leaf)
            exact = [g for g, held in below.items() if held == wanted]
            if exact:
                # the deepest group says the most: police-of:us/ca rather than any-agency
                group = max(exact, key=lambda g: (g != top, len(dimension.above.get(g, ())), g))
                return f"any {dimension.name}" if group == top else group
            but = [(held - wanted, g) for g, held in below.items() if wanted < held and len(held - wanted) <= MAX_BUT]
            if but and len(wanted) > MAX_NAMED:
                missing, group = min(but, key=lambda found: (len(found[0]), found[1]))
                return f"{f'any {dimension.name}' if group == top else group} but {listed(sorted(missing))}"
        names = sorted(wanted)
        rest = len(names) - MAX_NAMED
        return listed([*names[:MAX_NAMED], f"{rest} more"] if rest > 1 else names)

    def agencies(self, members: Iterable[Member]) -> str:
        """The parties, with the papers that they have or lack on file if those tell them apart."""
        members = tuple(members)
        papers = {frozenset(m.papers) for m in members}
        said = self.named({m.agency for m in members}, self.words.who, "any-agency")
        persons = {m.person for m in members}
        if persons and "" not in persons:
            said += f" ({listed(sorted(persons))})"
        for kind in PAPERS:
            if papers and all(kind in p for p in papers):
                said += f" with a {kind} on file" if kind in AGREEMENTS else f", {kind}"
        return said

    def box(self, box: Box) -> str:
        """What the box says of purpose, role, kind, basis, authority, case, offence, look-back and the node's facts."""
        words, out = self.words, []
        flat = {name: [v for held in values for v in held] for name, values in box.items() if name != "lookback"}
        if "purpose" in flat:
            out.append(f"for {self.named(map(str, flat['purpose']), words.purpose, 'any-purpose')}")
        if "role" in flat:
            out.append(f"by {self.named(map(str, flat['role']), words.role, 'any-role')}")
        if "act" in flat:
            out.append(f"as {listed(sorted(map(str, flat['act'])), 'or')} search")
        if "legal_basis" in flat:
            out.append(f"on {listed(sorted(map(str, flat['legal_basis'])), 'or')} basis")
        if "authority" in flat:
            out.append(f"with {listed([str(a).replace('none', 'no warrant') for a in flat['authority']], 'or')}")
        if "case" in flat:
            out.append("with a case number" if flat["case"] == [True] else "without a case number")
        if "offence" in flat:
            out.append(f"for offence {listed([str(o) or 'none' for o in flat['offence']][:MAX_NAMED], 'or')}")
        if "lookback" in box:
            out.append(_days(box["lookback"]))
        out += [_FACTS[f][0 if flat[f] == [True] else 1] for f in _FACTS if f in flat]
        return ", ".join(out)


def _days(held: Sequence[Values]) -> str:
    spans: list[list[int]] = []
    for part in held:
        first, last = int(str(part[0])), int(str(part[-1]))
        if spans and spans[-1][1] + 1 == first:
            spans[-1][1] = last
        else:
            spans.append([first, last])
    return f"looking {listed([f'{a:,} to {b:,}' for a, b in spans], 'or')} days back"


def as_values(box: Box) -> Mapping[str, object]:
    """A box for `--json`: every value of each column, look-backs as first and last day of each stretch."""
    out: dict[str, object] = {}
    for name, values in box.items():
        if name == "lookback":
            out[name] = [[held[0], held[-1]] for held in values]
        else:
            out[name] = [v for held in values for v in held]
    return out
