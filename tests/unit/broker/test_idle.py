"""Beside the searches: answers are checked, work in advance goes on, and neither takes more than its time."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pytest

from broker import idle
from broker.links import Links
from comity.decision import Pep
from policies.ahead import Ahead
from policies.decide import Decider
from policies.roster import Target
from policies.shadow import Shadow
from tests.policy.requests import NODES, SETTING, compile_rows, question

ALLOW = "X-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,own"
NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def pair(share: float = 1.0) -> tuple[Decider, Shadow, list[Target]]:
    shadow = Shadow(random.Random(5), share)
    decider = Decider(SETTING.federation, compile_rows(ALLOW), Pep.BROKER, lambda: "d", shadow)
    return decider, shadow, [(n, compile_rows(ALLOW.replace("X-1", f"X-{i}"))) for i, n in enumerate(NODES)]


def test_a_turn_checks_what_waits_and_works_in_advance() -> None:
    decider, shadow, targets = pair()
    decider.decide(question(), targets)
    ahead = Ahead(decider, clock=lambda: 0.0)
    assert shadow.waiting > 0
    idle.turn(ahead, shadow, targets, clock=lambda: 0.0)
    assert (shadow.waiting, shadow.differed) == (0, 0)
    assert ahead.done(targets)


def test_work_in_advance_goes_on_though_more_answers_wait_than_a_turn_can_check() -> None:
    decider, shadow, targets = pair()
    for _ in range(20):
        decider.decide(question(), targets)
    ticks = itertools.count(0, 0.001)
    waiting = shadow.waiting
    ahead = Ahead(decider, clock=lambda: next(ticks))
    idle.turn(ahead, shadow, targets, clock=lambda: next(ticks))
    assert 0 < shadow.waiting < waiting
    assert not ahead.done(targets)
    before = ahead.decided
    while not ahead.done(targets):
        idle.turn(ahead, shadow, targets, clock=lambda: next(ticks))
    assert ahead.decided > before


class _Over(Exception):
    pass


async def test_a_broker_without_nodes_policies_works_out_the_federations() -> None:
    decider, shadow, _ = pair()
    times = iter([NOW, NOW])

    def clock() -> dt.datetime:
        try:
            return next(times)
        except StopIteration:
            raise _Over from None

    with pytest.raises(_Over):
        await idle.keep_ahead(decider, shadow, Links(), clock)
    assert decider.federation_policy._classes
