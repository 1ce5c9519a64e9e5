"""A log looked at by several processes is told of as by one."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from audit.block import BLOCK, Block, look
from audit.evidence import Signatures
from audit.looking import Helper, hired, shared
from audit.read import LogReader
from audit.verify import verify
from comity.errors import LogFault
from identity.certificates import fingerprint
from tests.unit.audit.sample import START, asked, build, tamper
from tests.unit.identity.world import ALDER, World, name

SIZE = 3 * BLOCK + 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    asyncio.run(build(folder, [[START] * 4_000] * 3 + [[START] * (SIZE - 12_000)]))
    return folder


class AtHand:
    """A connection to a helper that has looked as soon as it is asked, and is gone after `lasts` answers."""

    def __init__(self, reader: LogReader, lasts: int = 100, *, ready: bool = True) -> None:
        self.reader, self.lasts, self.asked = reader, lasts, list[int]()
        self.found: deque[Block | None] = deque([None] if ready else [])

    def send(self, asked: tuple[int, int]) -> None:
        self.asked.append(asked[0])
        self.found.append(look(self.reader.block, *asked))

    def poll(self) -> bool:
        return bool(self.found)

    def recv(self) -> Block | None:
        if not self.lasts:
            raise EOFError
        self.lasts -= 1
        return self.found.popleft()


def expected(reader: LogReader) -> list[Block]:
    return [look(reader.block, first, min(SIZE, first + BLOCK)) for first in range(0, SIZE, BLOCK)]


HELPERS: dict[str, Callable[[LogReader], list[AtHand]]] = {
    "none": lambda reader: [],
    "one": lambda reader: [AtHand(reader)],
    "three": lambda reader: [AtHand(reader) for _ in range(3)],
    "one that never starts": lambda reader: [AtHand(reader, ready=False)],
    "one that is killed before it starts": lambda reader: [AtHand(reader, 0)],
    "one that is killed before it answers": lambda reader: [AtHand(reader, 1)],
    "one that is killed after an answer, and another": lambda reader: [AtHand(reader, 2), AtHand(reader)],
}


@pytest.mark.parametrize("helpers", HELPERS.values(), ids=HELPERS)
def test_whoever_helps_every_block_is_there_once_and_in_order(
    helpers: Callable[[LogReader], list[AtHand]], folder: Path
) -> None:
    with LogReader.open(folder) as reader:
        there = helpers(reader)
        hands = [Helper(hand) for hand in there]  # type: ignore[arg-type]
        assert list(shared(reader, SIZE, None, hands)) == expected(reader)


class NoRows:
    """A log of which nothing is left: every block of it is found to be missing, and costs nothing."""

    def block(self, start: int, stop: int) -> list[tuple[int, object, object]]:
        return []


class Silent(AtHand):
    """A connection to a helper that says nothing but that it has started, and is gone when `until` is asked this."""

    until: AtHand | None = None

    def send(self, asked: tuple[int, int]) -> None:
        self.asked.append(asked[0])

    def poll(self) -> bool:
        return bool(self.found) or self.gone()

    def gone(self) -> bool:
        return self.until is not None and len(self.until.asked) > 10

    def recv(self) -> Block | None:
        if not self.found:
            raise EOFError
        return self.found.popleft()


class Doomed(AtHand):
    """A connection to a helper that looks at once, and is gone, with what it was asked last, when that was a lot."""

    def recv(self) -> Block | None:
        if len(self.asked) > 10:
            raise EOFError
        return super().recv()


def test_helpers_that_are_gone_at_once_leave_the_next_block_to_be_looked_at_first() -> None:
    """One had the next to be joined, the other was far ahead: as when memory runs out and all of them are killed."""
    reader: LogReader = NoRows()  # type: ignore[assignment]
    slow, ahead = Silent(reader), Doomed(reader)
    slow.until = ahead
    hands = [Helper(slow), Helper(ahead)]  # type: ignore[arg-type]
    there = shared(reader, 60 * BLOCK, None, hands)
    assert [block.first for block in there] == list(range(0, 60 * BLOCK, BLOCK))
    assert slow.asked[0] < ahead.asked[-1] - 8 * BLOCK, "farther ahead than one process alone would go"


def test_a_helper_is_given_blocks_once_it_says_that_it_has_started_and_not_before(folder: Path) -> None:
    with LogReader.open(folder) as reader:
        ready, waiting = AtHand(reader), AtHand(reader, ready=False)
        list(shared(reader, SIZE, None, [Helper(waiting), Helper(ready)]))  # type: ignore[arg-type]
    assert ready.asked[0] == BLOCK, "the first is looked at here, meanwhile"
    assert waiting.asked == []


def test_another_process_finds_the_same(folder: Path) -> None:
    with LogReader.open(folder) as reader, hired(1, reader.files, None) as (helper,):
        assert helper.connection.recv() is None, "it says when it has started"
        helper.connection.send((BLOCK, 2 * BLOCK))
        assert helper.connection.recv() == look(reader.block, BLOCK, 2 * BLOCK)
        assert list(shared(reader, SIZE, None, [Helper(helper.connection, ready=True)])) == expected(reader)


async def test_several_processes_report_what_one_does_and_name_the_same_fault(tmp_path: Path) -> None:
    await build(tmp_path, [[START] * 2_000, [START] * (BLOCK + 3 - 2_000)])
    assert verify(tmp_path, processes=2) == verify(tmp_path, processes=1)
    assert verify(tmp_path, processes=2).entries == BLOCK + 3
    tamper(tmp_path, "UPDATE leaf SET hash = zeroblob(32) WHERE idx IN (?, ?)", arguments=(BLOCK + 1, BLOCK - 1))
    found = verify(tmp_path, processes=2)
    assert found == verify(tmp_path, processes=1)
    assert found.fault is not None
    assert (found.entries, found.fault.index, found.fault.reason) == (BLOCK - 1, BLOCK - 1, "WRONG_HASH")


def test_what_a_directory_says_of_signatures_is_the_same_in_another_process(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    revoked = world.person("r-stone")
    directory = world.directory(denied=[fingerprint(revoked.chain[0])], version=8)
    here = Signatures(directory)
    there = pickle.loads(bytes(ForkingPickler.dumps(here)))
    good, bad = asked(world.person())[1].body, asked(world.person("x"))[1].body
    said = asked(revoked, requester=str(name(ALDER, "person", "r-stone")))[1].body
    for signatures in (here, there):
        at = {"at": "2030-05-01T12:00:00.000Z"}
        assert signatures.check(0, good | at)
        assert not signatures.check(0, said | at), "revoked since"
        with pytest.raises(LogFault) as refused:
            signatures.check(0, bad | at)
        assert refused.value.reason == "FIELD_DIFFERS"
