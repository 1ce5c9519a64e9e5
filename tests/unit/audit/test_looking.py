"""A log looked at by several processes is told of as by one."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from audit import looking
from audit.block import BLOCK, Block, look
from audit.read import LogReader
from audit.verify import verify
from tests.unit.audit.sample import START, build, tamper

SIZE = BLOCK + 3


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await build(tmp_path, [[START] * 2_000, [START] * (SIZE - 2_000)])
    return tmp_path


def test_several_processes_report_what_one_does_and_name_the_same_fault(folder: Path) -> None:
    assert verify(folder, processes=2) == verify(folder, processes=1)
    assert verify(folder, processes=2).entries == SIZE
    tamper(folder, "UPDATE leaf SET hash = zeroblob(32) WHERE idx IN (?, ?)", arguments=(BLOCK + 1, BLOCK - 1))
    found = verify(folder, processes=2)
    assert found == verify(folder, processes=1)
    assert found.fault is not None
    assert (found.entries, found.fault.index, found.fault.reason) == (BLOCK - 1, BLOCK - 1, "WRONG_HASH")


async def test_what_a_killed_process_did_not_look_at_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(tmp_path, [[START] * 3])

    class Killed:
        def result(self) -> Block:
            raise BrokenProcessPool

    with LogReader.open(tmp_path) as reader:
        taken = looking._taken(reader, 0, 3, Killed())  # type: ignore[arg-type]
        assert taken == look(reader.block(0, 3), 0, 3)
        assert taken.count == 3
