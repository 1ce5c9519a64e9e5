"""The words that policies of a federation may use, and which of them a request may name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from comity import jcs
from comity.errors import PolicyError
from comity.federation import KINDS, SOURCES, Agency, Federation

MAX_LINKS = 8  # Casbin stops following roles, silently, after ten names: a deny on the eleventh is lost
# What an agency does -> its group, where that is not the same word.
GROUP_OF = {"law-enforcement": "police"}
# Groups that rules may name in any federation, whether or not an agency is in them.
GROUPS = (*KINDS, "police", "federal-police", "toll", "ice", "civil-immigration")
# Of these, what an agency may say that it does: `ice` is any office of U.S. Immigration and Customs Enforcement,
# `civil-immigration` those of them that enforce civil immigration law, so not Homeland Security Investigations.
DONE = frozenset({"toll", "ice", "civil-immigration"})
Link = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One tree of words. `links`: child and parent; `leaves`: what requests may name; `above`: each with itself."""

    name: str
    links: tuple[Link, ...]
    leaves: frozenset[str]
    above: Mapping[str, frozenset[str]]

    @classmethod
    def build(cls, name: str, links: Iterable[Link], leaves: Iterable[str], top: str) -> Dimension:
        """The tree of `links`, each word without a parent put under `top`.

        Raises:
            PolicyError: a cycle, a word more than 8 links below the top, a leaf that others lie under.
        """
        above: dict[str, set[str]] = {top: set()}
        for child, parent in links:
            above.setdefault(parent, set())
            above.setdefault(child, set()).add(parent)
        for word, parents in above.items():
            if not parents and word != top:
                parents.add(top)
        leaves = frozenset(leaves)
        groups = {parent for parents in above.values() for parent in parents}
        for leaf in leaves:
            # g(x, x) is true of any x: a leaf that is a group as well would answer for its members
            if leaf in groups or leaf == top:
                raise PolicyError(f"{leaf!r} names both a group and a single {name}", file="directory")
        return cls(
            name=name,
            links=tuple(sorted((c, p) for c, parents in above.items() for p in parents)),
            leaves=leaves,
            above=MappingProxyType({word: _climb(name, word, above) for word in sorted(above)}),
        )

    def names(self, value: object) -> bool:
        """True if `value` is a registered leaf: exactly text, since a subclass may claim to equal anything."""
        return type(value) is str and value in self.leaves


def _climb(name: str, word: str, parents: Mapping[str, set[str]]) -> frozenset[str]:
    seen, level, links = {word}, {word}, 0
    while level:
        level = {p for w in level for p in parents[w]}
        if word in level:
            raise PolicyError(f"{name} {word!r} lies in a cycle", file="directory")
        links += bool(level)
        if links > MAX_LINKS:
            raise PolicyError(f"{name} {word!r} lies in a cycle or more than {MAX_LINKS} links deep", file="directory")
        seen |= level
    return frozenset(seen)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vocabulary:
    """All words of one directory; two are equal if their digests are. `digest`: SHA-256, lower-case hex."""

    who: Dimension
    node: Dimension
    purpose: Dimension
    role: Dimension
    digest: str

    @classmethod
    def of(cls, federation: Federation) -> Vocabulary:
        """The words of `federation`.

        Raises:
            PolicyError: a name stands for two things, or a tree has a cycle or is too deep.
        """
        who, node = _who(federation), _node(federation)
        purpose = _tree("purpose", federation.purposes, "any-purpose")
        role = _tree("role", federation.roles, "any-role")
        said = {
            d.name: {"links": [list(x) for x in d.links], "leaves": sorted(d.leaves)}
            for d in (who, node, purpose, role)
        }
        digest = hashlib.sha256(jcs.encode(said)).hexdigest()
        return cls(who=who, node=node, purpose=purpose, role=role, digest=digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def vocabulary_of(federation: Federation) -> Vocabulary:
    """The words of `federation`, worked out once for as long as the same object is asked about.

    Raises:
        PolicyError: see `Vocabulary.of`.
    """
    known = _LATEST[0] if _LATEST else None
    if known is None or known[0] is not federation:
        known = (federation, Vocabulary.of(federation))
        _LATEST[:] = [known]
    return known[1]


_LATEST: list[tuple[Federation, Vocabulary]] = []


def node_word(node_id: str) -> str:
    """How rules and requests name a node."""
    return f"node:{node_id}"


def _who(federation: Federation) -> Dimension:
    links: set[Link] = {(g, "any-agency") for g in GROUPS} | {("civil-immigration", "ice")}
    for place in federation.jurisdictions:
        links |= {(f"agency-of:{place}", "any-agency"), (f"police-of:{place}", "any-agency")}
    for agency in federation.agencies.values():
        links |= {(agency.id, group) for group in _groups(agency, federation.jurisdictions)}
    return Dimension.build("agency", links, federation.agencies, "any-agency")


def _groups(agency: Agency, places: Mapping[str, str]) -> set[str]:
    for word in agency.does & set(GROUPS) - DONE:
        raise PolicyError(f"agency {agency.id}: {word!r} is the name of a group, not something done", file="directory")
    groups = {agency.kind} | {GROUP_OF.get(word, word) for word in agency.does}
    if agency.kind == "federal":
        # a federal office inside a state is not an agency of that state
        return groups | ({"federal-police"} if "police" in groups else set())
    for place in _chain(agency.jurisdiction, places):
        groups.add(f"agency-of:{place}")
        if "police" in groups:
            groups.add(f"police-of:{place}")
    return groups


def _node(federation: Federation) -> Dimension:
    links: set[Link] = {(f"source:{s}", "any-node") for s in SOURCES}
    links |= {(child, parent or "any-node") for child, parent in federation.jurisdictions.items()}
    for agency in federation.agencies.values():
        links |= {(f"tag:{tag}", "any-node") for tag in agency.tags}
    for node in federation.nodes.values():
        agency = federation.agency_of(node.id)
        word = node_word(node.id)
        links |= {(word, f"source:{node.source}"), (word, agency.jurisdiction or "any-node")}
        links |= {(word, f"tag:{tag}") for tag in agency.tags}
    return Dimension.build("node", links, map(node_word, federation.nodes), "any-node")


def _tree(name: str, tree: Mapping[str, str], top: str) -> Dimension:
    parents = set(tree.values()) | {top}
    links = [(child, parent) for child, parent in tree.items() if parent]
    links += [(child, top) for child, parent in tree.items() if not parent and child != top]
    return Dimension.build(name, links, set(tree) - parents, top)


def _chain(place: str, places: Mapping[str, str]) -> list[str]:
    out: list[str] = []
    while place:
        out.append(place)
        place = places[place]
    return out
