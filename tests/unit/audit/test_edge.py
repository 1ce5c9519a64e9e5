"""A long log opens from the edge kept beside it; whatever that edge is, the log is the one that its head signs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit import edge
from audit.log import DecisionLog
from audit.store import LogFiles, Store
from audit.tree import Tree
from audit.verify import verify
from comity.errors import LogFault
from tests.unit.audit.sample import ORIGIN, START, HandClock, build, tamper

SIZE, TAIL = 14, 4


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that counts as long, one commit an entry, with the edge that closing it left."""
    monkeypatch.setattr(edge, "WORTH_IT", 4)
    monkeypatch.setattr(edge, "EVERY", 3)
    monkeypatch.setattr(edge, "TAIL", TAIL)
    await build(tmp_path, [[START]] * SIZE)
    return tmp_path


def read_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From which index on hashes are read when the log opens, and that it goes on."""
    asked: list[int] = []
    read = Store.leaf_hashes

    def noted(self: Store, first: int = 0) -> Iterator[bytes]:
        asked.append(first)
        return read(self, first)

    monkeypatch.setattr(Store, "leaf_hashes", noted)
    with DecisionLog.open(folder, clock=HandClock()) as log:
        assert log.head.size == SIZE
    monkeypatch.undo()
    return asked


def test_hashes_before_the_edge_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edge.place(LogFiles.locate(folder)).stat().st_mode & 0o777 == 0o600
    assert read_from(folder, monkeypatch) == [12], "and those of the tail are"


def test_after_a_crash_the_hashes_since_the_edge_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(LogFiles.locate(folder))
    older = Tree(list(store.leaf_hashes())[:7])
    store.close()
    edge.keep(older, LogFiles.locate(folder))
    assert read_from(folder, monkeypatch) == [4]


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[:-1],
    "of a tree that is larger than the log": lambda data: (2**40).to_bytes(8) + data[8:40],
    "another hash": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "huge": lambda data: data * 1000,
    "noise": lambda data: b"\xff" * len(data),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_an_edge_that_does_not_lead_to_the_signed_root_is_not_believed(
    spoil: Callable[[bytes], bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = edge.place(LogFiles.locate(folder))
    place.write_bytes(spoil(place.read_bytes()))
    assert read_from(folder, monkeypatch)[-1] == 0


def test_a_log_without_its_edge_opens_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.place(LogFiles.locate(folder)).unlink()
    assert read_from(folder, monkeypatch) == [0]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM leaf WHERE idx = 13",
        "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 12",
        "UPDATE head SET size = 13",
    ],
)
def test_a_log_changed_after_its_edge_does_not_open(statement: str, folder: Path) -> None:
    tamper(folder, statement)
    with pytest.raises(LogFault):
        DecisionLog.open(folder, clock=HandClock())


def test_a_hash_altered_under_the_edge_is_found_by_verification(folder: Path) -> None:
    tamper(folder, "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 2")
    DecisionLog.open(folder, clock=HandClock()).close()
    report = verify(folder)
    assert report.fault is not None
    assert (report.fault.index, report.fault.reason) == (2, "WRONG_HASH")


async def test_an_edge_is_kept_while_the_log_grows_and_not_beside_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "WORTH_IT", 4)
    monkeypatch.setattr(edge, "EVERY", 1)
    monkeypatch.setattr(edge, "TAIL", 2)
    place = edge.place(LogFiles.locate(tmp_path))
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        kept = []
        for _ in range(7):
            await log.append([START])
            kept.append(int.from_bytes(place.read_bytes()[:8]) if place.exists() else 0)
    assert kept == [0, 0, 0, 0, 4, 4, 6]
