"""What is done for decisions beside the searches: answers that Casbin is to check, and work in advance."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence

from broker.links import Links
from policies.ahead import Ahead
from policies.decide import Decider
from policies.roster import Target
from policies.shadow import Shadow

EVERY_S = 0.1
WORK_S = 0.015  # of processor time, each time
LEAST_AHEAD_S = 0.003  # of this, however many answers wait to be checked
CHECKED_AT_ONCE = 8
# Containers more than there were before Python looks for cycles among the youngest, the younger and all. A search
# makes thousands that live as long as it does; at Python's own 700 it would pay for going through what is remembered.
COLLECT_AFTER = (10_000, 10, 20)


async def keep_ahead(decider: Decider, shadow: Shadow, links: Links, clock: Callable[[], dt.datetime]) -> None:
    """Never returns: a little work each tenth of a second, in a thread, as long as there is some."""
    ahead, nodes = Ahead(decider), tuple(sorted(decider.federation.nodes))
    while True:
        await asyncio.sleep(EVERY_S)
        targets = links.with_policies(nodes, clock())
        if shadow.waiting or not ahead.done(targets):
            await asyncio.to_thread(turn, ahead, shadow, targets)


def turn(
    ahead: Ahead, shadow: Shadow, targets: Sequence[Target], clock: Callable[[], float] = time.thread_time
) -> None:
    """Check answers, and go on in advance in the time that is left. `clock`: processor time in seconds."""
    until = clock() + WORK_S
    if not ahead.done(targets):
        ahead.work(targets, LEAST_AHEAD_S)
    while shadow.waiting and clock() < until:
        shadow.check(CHECKED_AT_ONCE)
    if clock() < until and not ahead.done(targets):
        ahead.work(targets, until - clock())
