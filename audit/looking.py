"""The blocks of a log in order, looked at by several processes at once where the log is long enough to be worth it.

The process that asks looks at blocks too, always the next that nobody has: a helper takes a while to start, and one
that never does, or is killed, costs nothing but its help.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import MappingProxyType

from cryptography import x509

from audit.block import BLOCK, Block, look
from audit.evidence import Signatures
from audit.read import LogReader
from audit.store import LogFiles
from comity.errors import ComityError
from identity import certificates
from identity.directory import Directory

WORTH_IT = 100_000  # entries: below, starting a process takes longer than it saves
MOST = 8  # processes: the one that joins what they find is then the slowest
_AT_HAND = 2  # blocks a helper has, so that it never waits for the next
_AHEAD = 8  # blocks a process, beyond the next to be joined: what they found waits in memory


def blocks(
    reader: LogReader, size: int, directory: Directory | None = None, processes: int | None = None
) -> Generator[Block, None, None]:
    """Every block of the log's first `size` entries, first to last; with a directory, signatures are verified.

    `processes` None: as many as there are processors for a long log, none but this one for a short one.
    """
    if processes is None:
        processes = min(MOST, len(os.sched_getaffinity(0))) if size >= WORTH_IT else 1
    signatures = Signatures(directory) if directory is not None else None
    with hired(processes - 1, reader.files, signatures) as helpers:
        yield from shared(reader, size, signatures, helpers)


@dataclass(slots=True)
class Helper:
    """Another process, by the connection to it; `has` are the blocks it was given, in order."""

    connection: Connection
    ready: bool = False
    has: list[int] = field(default_factory=list)


def shared(
    reader: LogReader, size: int, signatures: Signatures | None, helpers: Sequence[Helper]
) -> Generator[Block, None, None]:
    """The blocks, each looked at by whoever is free, this process among them."""
    undone, done = deque(range(0, size, BLOCK)), dict[int, Block]()
    for due in range(0, size, BLOCK):
        while due not in done:
            helpers = [h for h in helpers if _heard(h, done, undone)]
            last = due + BLOCK * _AHEAD * (1 + len(helpers))
            mine = undone.popleft() if undone and due not in done and undone[0] < last else None
            for helper in helpers:
                while helper.ready and len(helper.has) < _AT_HAND and undone and undone[0] < last:
                    _give(helper, undone, size)
            if mine is not None:
                done[mine] = look(reader.block, mine, min(size, mine + BLOCK), signatures)
            elif due not in done:
                wait([h.connection for h in helpers])
        yield done.pop(due)


def _heard(helper: Helper, done: dict[int, Block], undone: deque[int]) -> bool:
    """Take what it has found by now. False if it is gone: what it had is to be done by others."""
    try:
        while helper.connection.poll():
            found = helper.connection.recv()
            if found is None:
                helper.ready = True
            else:
                done[helper.has.pop(0)] = found
    except (EOFError, OSError):  # killed for memory, say
        # In order: where two are gone at once, the next to be joined may not stand behind one far ahead of it.
        left = sorted((*helper.has, *undone))
        undone.clear()
        undone.extend(left)
        return False
    return True


def _give(helper: Helper, undone: deque[int], size: int) -> None:
    first = undone.popleft()
    helper.has.append(first)
    with contextlib.suppress(OSError):  # gone: heard of next
        helper.connection.send((first, min(size, first + BLOCK)))


@contextlib.contextmanager
def hired(count: int, where: LogFiles, signatures: Signatures | None) -> Generator[list[Helper], None, None]:
    """So many helpers, which end with it."""
    # Not forked: a fork would take along whatever locks the threads of this program hold.
    context = multiprocessing.get_context("spawn")
    helpers, started = list[Helper](), list[BaseProcess]()
    try:
        for _ in range(count):
            here, there = context.Pipe()
            helpers.append(Helper(here))
            process = context.Process(target=helping, args=(there, where, signatures), daemon=True)
            with there, contextlib.suppress(OSError):  # no room for another: it is done without
                process.start()
                started.append(process)
        yield helpers
    finally:
        for helper in helpers:
            helper.connection.close()
        for other in started:
            other.terminate()
            other.join()


def helping(asks: Connection, where: LogFiles, signatures: Signatures | None) -> None:
    """Look at the blocks that are asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the one that asks says so by ending
    with contextlib.suppress(EOFError, OSError, ComityError), LogReader(where) as reader:
        asks.send(None)
        while True:
            first, stop = asks.recv()
            asks.send(look(reader.block, first, stop, signatures))


def _unchangeable(known: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(known)


def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


# What a directory is made of, besides what Python can send to another process by itself.
ForkingPickler.register(MappingProxyType, lambda known: (_unchangeable, (dict(known),)))
ForkingPickler.register(x509.Certificate, lambda one: (_certificate, (certificates.der(one),)))
