"""A federation small enough to ask every request there is, and to compare each answer with a tool's."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

from comity.decision import Decision, Pep
from comity.federation import Federation
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import NODE_FACTS
from policies.decide import Decider
from policies.engine import Policy
from policies.instance import Request
from policies.seal import HEADER, seal
from policies.setting import Setting
from policies.vocabulary import vocabulary_of

DAY = dt.date(2026, 7, 1)
FEDERATION_RULES = """
FED-1,any-node,any-agency,any-role,any-purpose,any-act,deny,unless case,-,a
FED-4,any-node,any-agency,any-role,any-purpose,any-act,deny,unless searching-role,-,a
FED-7,any-node,police,searcher,any-purpose,any-act,allow,always,-,a
FED-8,any-node,any-agency,any-role,immigration,any-act,deny,unless basis-civil,-,a
"""
NODE_RULES = """
SC-1,any-node,federal,any-role,any-purpose,any-act,deny,unless judicial-warrant,-,b
SC-2,any-node,any-agency,any-role,immigration,any-act,limit,always,approval=supervisor;window_days<=7,b
SC-3,any-node,police,any-role,any-purpose,any-act,allow,same-state,-,b
SC-4,any-node,police,any-role,any-purpose,any-act,allow,declaration&lookback<=30,redact=no-image,b
SC-5,any-node,any-agency,any-role,any-purpose,area,deny,unless hot-list-match,-,b
SC-6,any-node,any-agency,any-role,criminal,any-act,limit,on-behalf,warrant=judicial,b
"""


def registry(**more: Any) -> Federation:
    """Three agencies, one node of the city's, two roles, two purposes."""
    agencies: list[dict[str, Any]] = [
        {"id": "us-fbi", "name": "FBI", "kind": "federal", "does": ["law-enforcement"]},
        {"id": "us-ca-a-pd", "name": "A", "kind": "municipal", "jurisdiction": "us/ca", "does": ["law-enforcement"]},
        {"id": "us-tx-b-pd", "name": "B", "kind": "municipal", "jurisdiction": "us/tx", "does": ["law-enforcement"]},
    ]
    node = {"id": "a-1", "agency": "us-ca-a-pd", "source": "police", "retention_s": 86400 * 90, "cameras": 1}
    data: dict[str, Any] = {
        "federation": {"id": "small", "presets": ["p"]},
        "purposes": {
            "any-purpose": "",
            "criminal": "any-purpose",
            "felony": "criminal",
            "immigration": "any-purpose",
            "immigration-civil": "immigration",
        },
        "roles": {"any-role": "", "searcher": "any-role", "investigator": "searcher", "auditor": "any-role"},
        "jurisdictions": {"us": "", "us/ca": "us", "us/tx": "us"},
        "agency": agencies,
        "node": [node | {"presets": ["p"]}],
    }
    return Federation.parse(data | more)


def rules(text: str, federation: Federation) -> Policy:
    """The policy that the rows state."""
    return Policy.compile(seal(f"{HEADER}\n{text.strip()}\n"), vocabulary_of(federation), file="rows")


def setting(federation_rules: str = FEDERATION_RULES, node_rules: str | None = NODE_RULES, **more: Any) -> Setting:
    """The small federation under these rows; None is a node that published nothing."""
    federation = registry(**more)
    return Setting(
        federation=federation,
        vocabulary=vocabulary_of(federation),
        federation_policy=rules(federation_rules, federation),
        node_policies={n: rules(node_rules, federation) if node_rules else None for n in federation.nodes},
    )


def every_request(at: Setting, days: tuple[int, ...] = (0, 7, 8, 30, 31), *, alone: bool = False) -> Iterator[Request]:
    """Every request at every node, for look-backs of `days`, with one kind of paper on file or none."""
    f = at.federation
    papers = (frozenset[str](), frozenset({"declaration"}))
    named = itertools.product(f.agencies, sorted(at.vocabulary.role.leaves), sorted(at.vocabulary.purpose.leaves))
    asked = (LegalBasis.CRIMINAL, LegalBasis.CIVIL), (Act.EXACT, Act.AREA), (True, False)
    held = (Authority.NONE, Authority.COURT_ORDER, Authority.JUDICIAL_WARRANT)
    for (who, role, purpose), (basis, act, case), authority, day, node, mine, seen in itertools.product(
        named, itertools.product(*asked), held, days, f.nodes, papers, (frozenset[str](), NODE_FACTS)
    ):
        for other in [who] if alone else f.agencies:
            for theirs in papers if other != who else (mine,):
                yield Request(
                    requester=who,
                    role=role,
                    beneficiary=other,
                    purpose=purpose,
                    legal_basis=basis,
                    authority=authority,
                    act=act,
                    has_case=case,
                    lookback_days=day,
                    node=node,
                    papers=mine,
                    beneficiary_papers=theirs,
                    node_facts=seen,
                )


class Oracle:
    """The decision on each request by the node's own enforcement point, one at a time."""

    def __init__(self, at: Setting) -> None:
        self.setting = at
        self._deciders: dict[object, Decider] = {}

    def decide(self, request: Request) -> Decision:
        """What the node says, with the papers of the request on file."""
        key = (request.requester, request.beneficiary, request.papers, request.beneficiary_papers, request.node)
        if key not in self._deciders:
            federation = request.supposed(self.setting.federation)
            self._deciders[key] = Decider(federation, self.setting.federation_policy, Pep.NODE, new_id=str)
        target = (request.node, self.setting.node_policies.get(request.node))
        return self._deciders[key].decide(request.question(DAY), [target])[0]
