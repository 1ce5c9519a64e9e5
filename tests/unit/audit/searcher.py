"""The broker's whole search flow on a real log, in processes that are killed at a chosen instant.

`python -m tests.unit.audit.searcher FOLDER_OF_KEYS`. For each line `LOG_FOLDER RELEASES SECONDS` on stdin one process
searches without end and is killed that long after so many releases. Whatever was released to an investigator is a line
on stdout; `killed` is the last.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import sys
from contextlib import aclosing
from pathlib import Path

from audit.log import DecisionLog
from broker.admission import Admission
from broker.model import Decided, Released
from broker.search import Limits, Search
from comity.inquiry import new_inquiry_id
from comity.outcome import OutcomeKind
from tests.unit.broker.scene import DENY, Stage, answer
from tests.unit.comity.scene import NOW
from tests.unit.identity.world import World

AT_ONCE = 16
MANY = 1_000_000


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def one(stage: Stage, search: Search, released: int) -> None:
    """One search; each thing that the investigator is given is said once they have it."""
    inquiry_id = new_inquiry_id(NOW)
    signed = stage.signed(inquiry_id=inquiry_id, nonce=secrets.token_bytes(16))
    async with aclosing(search.run(stage.call(signed))) as releases:
        async for release in releases:
            if isinstance(release, Decided):
                lines = [f"decision {inquiry_id} {d.node} {d.effect.value}" for d in release.decisions]
            elif isinstance(release, Released):
                lines = [f"outcome {inquiry_id} {a.node} {a.kind.value}" for a in release.answers]
            else:
                lines = []
            for line in lines:
                say(line)
                os.write(released, b"r")


async def serve(world: World, folder: Path, released: int) -> None:
    stage = Stage(world, limits=Limits(person_per_day=MANY, agency_per_day=MANY))
    stage.attach("alder-1", answers=answer("alder-1", OutcomeKind.MATCH, count=2))
    stage.attach("brazos-1", DENY)
    log = DecisionLog.open(folder, clock=lambda: NOW)
    admission = Admission(total=AT_ONCE, per_agency=AT_ONCE, waiting=AT_ONCE)
    search = dataclasses.replace(stage.search, log=log, admission=admission)

    async def investigator() -> None:
        while True:
            await one(stage, search, released)

    await asyncio.gather(*(investigator() for _ in range(AT_ONCE)))


def run(world: World, folder: Path, releases: int, after_s: float) -> None:
    """One process that serves and is killed."""
    heard, released = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(serve(world, folder, released))
        finally:
            os._exit(1)  # it never ends by itself
    os.close(released)
    while releases > 0 and (got := os.read(heard, releases)):
        releases -= len(got)
    signal.sigtimedwait({signal.SIGCHLD}, after_s)
    os.close(heard)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    say("killed" if os.WIFSIGNALED(status) else "ended")


def main() -> None:
    world = World.make(Path(sys.argv[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        folder, releases, after_s = line.split()
        run(world, Path(folder), int(releases), float(after_s))


if __name__ == "__main__":
    main()
