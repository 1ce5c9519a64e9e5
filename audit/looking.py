"""The blocks of a log in order, looked at by several processes at once where the log is long enough to be worth it."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from audit.block import BLOCK, Block, look
from audit.read import LogReader
from audit.store import LogFiles

WORTH_IT = 100_000  # entries: below, starting processes takes longer than they save
MOST = 8  # processes: the one that joins what they find is then the slowest
_AHEAD = 4  # blocks a process, so that none of them waits and memory stays small
_opened: list[LogReader] = []  # in a process that looks: the one log it reads


def blocks(reader: LogReader, size: int, processes: int | None = None) -> Generator[Block, None, None]:
    """Every block of the log's first `size` entries, first to last.

    `processes` None: as many as there are processors for a long log, none but this one for a short one.
    """
    if processes is None:
        processes = min(MOST, len(os.sched_getaffinity(0))) if size >= WORTH_IT else 1
    ranges = [(first, min(size, first + BLOCK)) for first in range(0, size, BLOCK)]
    if processes == 1:
        for first, stop in ranges:
            yield look(reader.block(first, stop), first, stop)
        return
    # Not forked: a fork would take along whatever locks the threads of this program hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_open, initargs=(reader.files,)) as pool:
        waiting: deque[tuple[int, int, Future[Block]]] = deque()
        try:
            for first, stop in ranges:
                waiting.append((first, stop, pool.submit(_look, first, stop)))
                if len(waiting) >= _AHEAD * processes:
                    yield _taken(reader, *waiting.popleft())
            while waiting:
                yield _taken(reader, *waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _taken(reader: LogReader, first: int, stop: int, found: Future[Block]) -> Block:
    try:
        return found.result()
    except BrokenProcessPool:  # killed for memory, say: what is left is looked at here
        return look(reader.block(first, stop), first, stop)


def _open(where: LogFiles) -> None:
    _opened.append(LogReader(where))


def _look(first: int, stop: int) -> Block:
    return look(_opened[0].block(first, stop), first, stop)
