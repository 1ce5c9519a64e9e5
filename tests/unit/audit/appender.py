"""A process that appends until it is killed or its log breaks. Each entry it was told is durable is a line on stdout.

`python -m tests.unit.audit.appender FOLDER [MOST_BYTES_OF_A_FILE [CALLERS]]`
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys

from audit.log import DecisionLog
from comity.errors import LogBroken
from comity.instants import now
from tests.unit.audit.sample import START, unsigned


async def append(log: DecisionLog) -> None:
    while True:
        done = await log.append([unsigned(), START])
        lines = [f"{done.first_index + i} {leaf.hex()}\n" for i, leaf in enumerate(done.leaf_hashes)]
        os.write(1, "".join(lines).encode())


async def main() -> None:
    told: list[LogBroken] = []
    log = DecisionLog.open(sys.argv[1], clock=now, on_broken=told.append)
    os.write(1, b"open\n")
    if len(sys.argv) > 2:
        most = int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    callers = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    ended = await asyncio.gather(*(append(log) for _ in range(callers)), return_exceptions=True)
    again = await asyncio.gather(log.append([START]), return_exceptions=True)
    reasons = {e.reason if isinstance(e, LogBroken) else repr(e) for e in (*ended, *again)}
    os.write(1, f"ended {' '.join(sorted(reasons))} told {len(told)}\n".encode())


if __name__ == "__main__":
    asyncio.run(main())
