"""Requests for tests: one that is permitted, varied field by field."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Mapping
from typing import Any

from comity.decision import Pep
from comity.purpose import Act, Authority, LegalBasis
from policies.conditions import FACTS, NODE_FACTS, Facts
from policies.decide import Decider, Question
from policies.engine import Alarm, Policy
from policies.packs import load_packs
from policies.seal import HEADER, seal
from policies.setting import Setting

SETTING = Setting.load()
WORDS = SETTING.vocabulary
DAY = dt.date(2026, 7, 1)
NODES = tuple(SETTING.federation.nodes)
AGENCIES = tuple(SETTING.federation.agencies)


def question(**changes: Any) -> Question:
    """A county detective's search for a stolen vehicle, with `changes`."""
    fields: dict[str, Any] = {
        "requester_agency": "us-ca-sequoia-so",
        "role": "investigator",
        "purpose": "stolen-vehicle",
        "legal_basis": LegalBasis.CRIMINAL,
        "authority": Authority.NONE,
        "act": Act.EXACT,
        "has_case": True,
        "lookback_days": 30,
        "approved": False,
        "day": DAY,
    }
    fields |= changes
    fields.setdefault("beneficiary", fields["requester_agency"])
    return Question(**fields)


def decider(*packs: str, own: str = "", pep: Pep = Pep.BROKER) -> Decider:
    """A decider under the sample's federation policy, or under other packs and rows."""
    policy = compile_rows(own, *packs) if packs or own else SETTING.federation_policy
    return Decider(SETTING.federation, policy, pep, new_id=map(str, itertools.count()).__next__)


def compile_rows(rows: str, *packs: str, alarm: Alarm | None = None) -> Policy:
    """A policy of `rows` and packs."""
    own = seal(f"{HEADER}\n{rows.strip()}\n") if rows else ""
    return Policy.compile(load_packs(packs, own_rules=own), WORDS, alarm=alarm)


def facts(lookback_days: int = 30, **true: bool) -> Facts:
    """A total assignment in which everything is false but what is named."""
    values: Mapping[str, bool] = dict.fromkeys(FACTS, False) | {k.replace("_", "-"): v for k, v in true.items()}
    return Facts.parse(values, lookback_days)


def any_facts(chance: random.Random) -> Facts:
    """Facts at random, the node's left to it one time in five."""
    left = chance.random() < 0.2
    values = {f: None if left and f in NODE_FACTS else chance.random() < 0.5 for f in FACTS}
    return Facts.parse(values, chance.choice((0, 7, 30, 31, 400)))
