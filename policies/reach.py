"""Who reaches whose data once everything that is passed on is counted, and which nodes an agency may search.

A reader gets a node's data in one of these ways, and `Reach` closes the matrix over them:

search      it asks for itself and is permitted
on-behalf   another agency asks for it, where that permits more than its own search
reshare     an agreement of kind `reshare` says that `from` passes on to `to` what it obtains or hosts, over any
            number of agencies; the node's policy has no say in it

That an agency holds what its own nodes hold is not repeated. Nothing shows what is passed on without a paper."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from comity.decision import Decision, Pep
from comity.errors import InvalidInput
from comity.federation import Agreement, Federation
from comity.purpose import Act, Authority, LegalBasis
from policies.decide import Decider
from policies.engine import Policy
from policies.matrix import Matrix, Way, grouped
from policies.offences import LIMITATIONS
from policies.request import Question
from policies.setting import Setting
from policies.vocabulary import Dimension, node_word

RESHARE = "reshare"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way of data to a reader. `how`: search, on-behalf, or host (who passes it on owns the node).

    `through`: the agencies that it passes, from who obtains it to who hands it to the reader; none for a search of
    its own. `requesters`: any one of them asks, if on-behalf. `until`: the first day without one of the papers.
    """

    how: str
    through: tuple[str, ...]
    requesters: tuple[str, ...]
    ways: tuple[Way, ...]
    until: dt.date | None

    def as_json(self) -> dict[str, object]:
        """For `--json` and manifests."""
        return {
            "how": self.how,
            "through": list(self.through),
            "requesters": list(self.requesters),
            "until": self.until.isoformat() if self.until else None,
            "ways": [shown(w) for w in self.ways],
        }


Cell = tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Every one of `agencies`, at every one of `nodes`, for every one of `purposes`: the same paths; none if never."""

    agencies: tuple[str, ...]
    nodes: tuple[str, ...]
    purposes: tuple[str, ...]
    paths: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Onward:
    """How data comes from one agency to another by agreements alone."""

    through: tuple[str, ...]
    until: dt.date


class Reach:
    """The matrix closed over. Filters leave out rows, columns and purposes, never an agency that passes on.

    Raises:
        InvalidInput: a name to filter by that is not registered (NOT_REGISTERED).
    """

    def __init__(
        self, matrix: Matrix, *, agencies: Sequence[str] = (), nodes: Sequence[str] = (), purposes: Sequence[str] = ()
    ) -> None:
        words = matrix.setting.vocabulary
        self.matrix, self.federation = matrix, matrix.federation
        self.agencies = _chosen("agency", agencies, words.who)
        self.nodes = _named_nodes(nodes, self.federation)
        self.purposes = _chosen("purpose", purposes, words.purpose)
        self.sources = {a: _sources(a, self.federation.agreements, matrix.day) for a in words.who.leaves}
        passing = {source for onward in self.sources.values() for source in onward}
        self._papers: dict[str, list[Agreement]] = {}
        for paper in self.federation.agreements:
            if matrix.day < paper.expires and paper.kind != RESHARE:
                self._papers.setdefault(paper.from_agency, []).append(paper)
        given = {p.to_agency for papers in self._papers.values() for p in papers}
        self._alone = frozenset(passing | given)
        self._kinds = self._alike_agencies(sorted(words.who.leaves))

    def cell(self, agency: str, node: str, purpose: str) -> Cell:
        """Every path by which the node's data comes to the agency for the purpose; its own search first."""
        out = self._obtained(agency, node, purpose)
        for source, onward in self.sources[agency].items():
            found = self._obtained(source, node, purpose)
            if source == self.federation.nodes[node].agency:
                # what is its own it needs not search for
                found = [Path(how="host", through=(), requesters=(), ways=(), until=None)]
            for path in found:
                out.append(
                    Path(
                        how=path.how,
                        through=onward.through,
                        requesters=path.requesters,
                        ways=path.ways,
                        until=min(onward.until, path.until) if path.until else onward.until,
                    )
                )
        return tuple(out)

    def groups(self) -> list[Group]:
        """All cells, those that are alike together; in the directory's order, what is permitted before what is not."""
        rows = self._alike_agencies(self.agencies)
        columns = grouped(self.nodes, self._node_key)
        whys = grouped(self.purposes, lambda p: self.matrix.alike("purpose", p))
        profiles = _Profiles(self, whys)
        table = {row: [profiles.of(row[0], column[0]) for column in columns] for row in rows}
        merged_rows = grouped(rows, lambda row: tuple(map(id, table[row])))
        merged_columns = grouped(range(len(columns)), lambda i: tuple(id(table[row[0]][i]) for row in merged_rows))
        of_columns = [(column[0], tuple(chain(*(columns[i] for i in column)))) for column in merged_columns]
        parts: dict[int, list[tuple[tuple[str, ...], Cell]]] = {}
        out = []
        for row in merged_rows:
            agencies, cells = tuple(chain(*row)), table[row[0]]
            for at, nodes in of_columns:
                profile = cells[at]
                found = parts.get(id(profile))
                if found is None:  # a profile is one object for all that have it
                    same = grouped(range(len(whys)), lambda i: id(profile[i]))  # noqa: B023  # called at once
                    found = parts[id(profile)] = [(tuple(chain(*(whys[i] for i in n))), profile[n[0]]) for n in same]
                out += [Group(agencies=agencies, nodes=nodes, purposes=why, paths=paths) for why, paths in found]
        return sorted(out, key=lambda g: not g.paths)

    def papers_until(self, agency: str, node: str) -> dt.date | None:
        """The first day without an agreement between them which a rule may rest on; None if there is none."""
        papers = self._papers.get(agency)
        if not papers:
            return None
        owner, mentions = self.federation.nodes[node].agency, self.matrix.layer(node).mentions
        return min((p.expires for p in papers if p.to_agency == owner and p.kind in mentions), default=None)

    def _obtained(self, agency: str, node: str, purpose: str) -> list[Path]:
        direct = self.matrix.ways(agency, node, purpose)
        until = self.papers_until(agency, node)
        out = [Path(how="search", through=(), requesters=(), ways=direct, until=until)] if direct else []
        if not self.matrix.layer(node).favours_proxies:
            return out
        for kind in self._kinds:
            asked_by = next((a for a in kind if a != agency), None)
            found = self.matrix.ways(agency, node, purpose, asked_by=asked_by) if asked_by else ()
            more = tuple(w for w in found if not any(d.covers(w) for d in direct))
            if more:
                out.append(Path(how="on-behalf", through=(), requesters=kind, ways=more, until=until))
        return out

    def _alike_agencies(self, agencies: Sequence[str]) -> list[tuple[str, ...]]:
        # what rules match both follows from the words that name the agency
        one_of_each = {id(self.matrix.setting.node_policies[n]): n for n in self.nodes}.values()
        hosts = {n.agency for n in self.federation.nodes.values() if "own-node" in self.matrix.layer(n.id).mentions}
        relations: dict[object, object] = {}

        def key(agency: str) -> object:
            a = self.federation.agencies[agency]
            papers = tuple((p.kind, p.to_agency, p.expires) for p in self._papers.get(agency, ()))
            # all that a relation follows from, beside the node
            alike = (a.kind == "federal", a.state, papers, agency if agency in hosts else "", self.matrix.own(agency))
            if alike not in relations:
                relations[alike] = tuple(self.matrix.relation(agency, n) for n in one_of_each)
            sources = tuple(self.sources[agency].items())
            return self.matrix.alike("who", agency), alike[:-1], sources, relations[alike]

        return grouped(agencies, key)

    def _node_key(self, node: str) -> object:
        owner = self.federation.nodes[node].agency
        alone = owner in self._alone or "own-node" in self.matrix.layer(node).mentions
        return (
            id(self.matrix.setting.node_policies[node]),
            self.matrix.alike("node", node_word(node)),
            owner if alone else self.federation.agencies[owner].state,
        )


class _Profiles:
    """The cells of one agency at one node for all purposes; equal ones are one object."""

    def __init__(self, reach: Reach, whys: Sequence[tuple[str, ...]]) -> None:
        self._reach, self._whys = reach, whys
        self._known: dict[object, tuple[Cell, ...]] = {}
        self._cells: dict[Cell, Cell] = {}
        self._profiles: dict[tuple[int, ...], tuple[Cell, ...]] = {}

    def of(self, agency: str, node: str) -> tuple[Cell, ...]:
        matrix = self._reach.matrix
        if self._reach.sources[agency] or matrix.layer(node).favours_proxies:
            return self._work_out(agency, node)
        policy = matrix.setting.node_policies[node]
        key = (id(policy), matrix.pair(agency, node), self._reach.papers_until(agency, node))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._work_out(agency, node)
        return known

    def _work_out(self, agency: str, node: str) -> tuple[Cell, ...]:
        cells = [self._reach.cell(agency, node, why[0]) for why in self._whys]
        same = tuple(self._cells.setdefault(c, c) for c in cells)
        return self._profiles.setdefault(tuple(map(id, same)), same)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whether a node may be searched for a purpose. `status`: one of STATUSES; `open` is under the authority held.

    `ways`: all that the role has. `reason` and `rules` (layer:rule) say why it is not open, with citations.
    """

    node: str
    owner: str
    purpose: str
    status: str
    ways: tuple[Way, ...]
    reason: str
    rules: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "node": self.node,
            "agency": self.owner,
            "purpose": self.purpose,
            "status": self.status,
            "ways": [shown(w) for w in self.ways],
            "reason": self.reason,
            "rules": list(self.rules),
        }


STATUSES = ("open", "needs-authority", "closed")


def targets(
    matrix: Matrix, agency: str, role: str, *, authority: Authority, purposes: Sequence[str] = (), asked_for: str = ""
) -> list[Target]:
    """Every node for every purpose, the open ones first, then by name. `asked_for`: on whose behalf, if another's.

    Raises:
        InvalidInput: a name that is not a registered leaf (NOT_REGISTERED).
    """
    setting, words = matrix.setting, matrix.setting.vocabulary
    _chosen("agency", (agency, asked_for or agency), words.who)
    _chosen("role", (role,), words.role)
    decider = Decider(setting.federation, setting.federation_policy, Pep.BROKER, new_id=lambda: "")
    out = []
    for purpose in _chosen("purpose", purposes, words.purpose):
        least = Question(
            requester_agency=agency,
            role=role,
            beneficiary=asked_for or agency,
            purpose=purpose,
            legal_basis=LegalBasis.CRIMINAL,
            authority=authority,
            act=Act.EXACT,
            has_case=True,
            lookback_days=0,
            approved=False,
            day=matrix.day,
        )
        for node in sorted(setting.federation.nodes):
            ways = matrix.ways(asked_for or agency, node, purpose, asked_by=agency)
            out.append(
                _target(setting, decider, least, node, tuple(w for w in ways if role in (w.roles or matrix.searching)))
            )
    return sorted(out, key=lambda t: (STATUSES.index(t.status), t.node, t.purpose))


def _target(setting: Setting, decider: Decider, least: Question, node: str, ways: tuple[Way, ...]) -> Target:
    reason, rules = "", tuple[str, ...]()
    if any(w.suffices(least.authority or Authority.NONE) for w in ways):
        status = "open"
    else:
        status = "needs-authority" if ways else "closed"
        decision = _nearest(decider, least, node, setting.node_policies[node])
        reason = decision.reason
        rules = tuple(f"{r.layer.value}:{r.rule}" for r in decision.rules if r.effect == "deny")
    return Target(
        node=node,
        owner=setting.federation.nodes[node].agency,
        purpose=least.purpose,
        status=status,
        ways=ways,
        reason=reason,
        rules=rules,
    )


def _nearest(decider: Decider, least: Question, node: str, policy: Policy | None) -> Decision:
    """The refusal with the fewest denies: the legal basis is the requester's to state rightly."""
    decisions = (decider.decide(replace(least, legal_basis=b), [(node, policy)])[0] for b in LegalBasis)
    return min(decisions, key=lambda d: (d.permitted, sum(r.effect == "deny" for r in d.rules)))


def _sources(agency: str, agreements: Iterable[Agreement], day: dt.date) -> Mapping[str, Onward]:
    """Every agency whose data comes to this one by agreements, the shortest way of each; nearest first."""
    valid = sorted(
        (a for a in agreements if a.kind == RESHARE and day < a.expires), key=lambda a: (a.from_agency, a.expires)
    )
    out: dict[str, Onward] = {}
    level = {agency: Onward(through=(), until=dt.date.max)}
    while level:
        reached: dict[str, Onward] = {}
        for a in valid:
            after = level.get(a.to_agency)
            if after is not None and a.from_agency not in out and a.from_agency != agency:
                onward = Onward(through=(a.from_agency, *after.through), until=min(a.expires, after.until))
                known = reached.get(a.from_agency)
                if known is None or known.until < onward.until:
                    reached[a.from_agency] = onward
        out |= reached
        level = reached
    return out


def _chosen(kind: str, names: Sequence[str], words: Dimension) -> tuple[str, ...]:
    for name in names:
        if not words.names(name):
            near = difflib.get_close_matches(name, words.leaves, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidInput(f"there is no {kind} {name!r} in the directory{hint}", reason="NOT_REGISTERED")
    return tuple(dict.fromkeys(names)) if names else tuple(sorted(words.leaves))


def _named_nodes(names: Sequence[str], federation: Federation) -> tuple[str, ...]:
    for name in names:
        if name not in federation.nodes:
            raise InvalidInput(f"there is no node {name!r} in the directory", reason="NOT_REGISTERED")
    return tuple(dict.fromkeys(names)) if names else tuple(sorted(federation.nodes))


def shown(way: Way) -> dict[str, object]:
    """A way for `--json` and manifests, in words too."""
    return {"conditions": list(conditions(way)), **way.as_json()}


def conditions(way: Way) -> Iterator[str]:
    """What is asked, in words, one condition each; none if nothing is."""
    begin, end = way.lookback_days
    for values, before, after in (
        (way.roles, "role ", ""),
        (way.bases, "legal basis ", ""),
        (way.acts, "", " searches only"),
        (tuple(_LIMITS.get(v, v) for v in way.limits), "offence ", ""),
        (tuple(_facts(v) for v in way.staff), "person ", ""),
        (tuple(_facts(v) for v in way.found), "detections ", ""),
        (tuple(_AUTHORITY.get(v, v) for v in way.authorities), "", ""),
        (tuple("a case number" if v else "no case number" for v in way.cases), "", ""),
    ):
        if values:
            yield before + " or ".join(values) + after
    if (begin, end) != (0, None):
        yield f"look-back from {begin} days" if end is None else f"look-back of {begin} to {end} days"
    for duty, value in way.obligations.as_json().items():
        if duty != "warrant":  # said as the authority that is asked
            yield _DUTIES.get(duty, f"{duty} {{}}").format(value)


_DUTIES = {
    "window_days": "only the last {} days",
    "redact": "redacted to {}",
    "approval": "a supervisor's signature",
    "quota_per_day": "at most {} searches a day",
    "breadth": "at most {} nodes a search",
}
_LIMITS = {"": "never barred"} | {f: f"barred after {days // 365} years" for f, days in LIMITATIONS.items()}
_AUTHORITY = {
    Authority.NONE: "no authority",
    Authority.ADMINISTRATIVE_WARRANT: "an administrative warrant",
    Authority.COURT_ORDER: "a court order",
    Authority.JUDICIAL_WARRANT: "a judicial warrant",
}


def _facts(facts: frozenset[str]) -> str:
    return " and ".join(sorted(facts)) or "of no such kind"
