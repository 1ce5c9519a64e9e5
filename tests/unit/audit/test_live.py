"""Proofs about a log while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.live import LiveHashes
from audit.log import DecisionLog
from audit.proof import verify_consistency
from audit.tree import EMPTY_ROOT, Tree
from comity.errors import LogFault
from tests.unit.audit.sample import ORIGIN, START, HandClock

SIZES = (1, 5, 255, 256, 257, 600)


async def test_roots_and_proofs_of_a_growing_log_are_those_of_its_entries(tmp_path: Path) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        live = LiveHashes(tmp_path)
        tree, roots = Tree(), {0: EMPTY_ROOT}
        for size in SIZES:
            done = await log.append([START] * (size - tree.size))
            for leaf in done.leaf_hashes:
                tree.append(leaf)
            roots[size] = tree.root()
            for old, root in roots.items():
                assert live.root(old) == root
                proof = live.consistency(old, size)
                if old:
                    verify_consistency(old, size, root, roots[size], proof)
                else:
                    assert proof == ()
        live.close()


async def test_there_is_no_root_of_what_is_not_written_yet(tmp_path: Path) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        await log.append([START])
        live = LiveHashes(tmp_path)
        with pytest.raises(LogFault):
            live.root(2)
        live.close()
