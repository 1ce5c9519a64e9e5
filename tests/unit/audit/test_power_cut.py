"""The power goes at any byte of a commit: whatever was acknowledged is there, and of what was not, all or nothing.

The model: what was synced before a commit is there. Of what the commit writes after, any part may be: a beginning, with
nothing, zeros or anything behind it, or some sectors and others not. SQLite recovers each such file; the log then opens
with one of the two heads, under which every entry is the one that was written.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.entry import Draft
from audit.log import DecisionLog
from audit.store import LogFiles, Store
from audit.verify import verify
from audit.writer import Writer
from comity.errors import ComityError
from identity import keys
from tests.unit.audit.sample import ORIGIN, START, HandClock, search, unsigned

SECTOR = 512


@dataclass(frozen=True, slots=True)
class State:
    """The two files of a log at one moment, and every entry that was acknowledged until then."""

    db: bytes
    wal: bytes
    entries: tuple[bytes, ...]


class Recorder:
    """A log whose files are kept as they are after each commit, its database never closed."""

    def __init__(self, folder: Path) -> None:
        DecisionLog.create(folder, origin=ORIGIN, clock=HandClock()).close()
        self.where = LogFiles.locate(folder)
        self.store = Store(self.where)
        self.writer = Writer(self.store, keys.load_log_key(self.where.key), ORIGIN, HandClock())
        self.entries: tuple[bytes, ...] = ()

    def state(self) -> State:
        wal = self.where.db.with_name("log.db-wal")
        return State(self.where.db.read_bytes(), wal.read_bytes() if wal.exists() else b"", self.entries)

    def commit(self, drafts: list[Draft]) -> State:
        (done,) = self.writer.write([drafts])
        assert not isinstance(done, ComityError)
        self.entries += done.entries
        return self.state()

    def fold(self) -> State:
        """The WAL is written into the database; the next commit begins it anew."""
        self.store._db.execute("PRAGMA wal_checkpoint(RESTART)")
        return self.state()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: what is read back is what was written, synced or not."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path_factory.mktemp("cuts")))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, dict[str, tuple[State, State]]]:
    """Commits of every kind, each as the state before and the state after."""
    made = Recorder(tmp_path_factory.mktemp("recorded"))
    states = [made.state()]
    for drafts in (*search(unsigned()), [START], *search(unsigned())):
        states.append(made.commit(drafts))
    assert states[4].wal.endswith(bytes(4096)), "room was made with it"
    assert len(states[4].wal) == len(states[5].wal), "and was enough for the next"
    folded = made.fold()
    anew = made.commit([START, START])
    further = made.commit(search(unsigned())[0])
    return made, {
        "the first commit of a WAL": (states[0], states[1]),
        "a commit behind another": (states[2], states[3]),
        "a commit with which room is made for the next": (states[3], states[4]),
        "a commit into that room": (states[4], states[5]),
        "a commit over the frames of a WAL that was folded in": (folded, anew),
        "a commit behind that one": (anew, further),
    }


KINDS = (
    "the first commit of a WAL",
    "a commit behind another",
    "a commit with which room is made for the next",
    "a commit into that room",
    "a commit over the frames of a WAL that was folded in",
    "a commit behind that one",
)


def opened(recorder: Recorder, folder: Path, db: bytes, wal: bytes) -> tuple[bytes, ...]:
    """The entries of the log as it recovers from these files, its head signed and over just them."""
    scratch = folder / "log"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    where = LogFiles.locate(scratch)
    for path, data in ((where.db, db), (where.db.with_name("log.db-wal"), wal)):
        path.touch(mode=0o600)
        path.write_bytes(data)
    store = Store(where)
    try:
        writer = Writer(store, recorder.writer._key, ORIGIN, HandClock())
        rows = store._db.execute("SELECT entry FROM leaf ORDER BY idx").fetchall()
        assert writer.head.size == len(rows)
        return tuple(entry for (entry,) in rows)
    finally:
        store.close()


def cut_at(before: State, after: State, at: int, tail: Callable[[int], bytes]) -> bytes:
    """The WAL with the commit's writes as far as byte `at`, and `tail` where the rest would have come."""
    if at >= len(after.wal):
        return after.wal
    if len(before.wal) >= len(after.wal):  # written over what was there
        return after.wal[:at] + before.wal[at:]
    return after.wal[:at] + tail(len(after.wal) - at)


def tails(chosen: random.Random) -> dict[str, Callable[[int], bytes]]:
    return {"nothing": lambda n: b"", "zeros": bytes, "anything": chosen.randbytes}


def written(before: State, after: State) -> range:
    """Where the commit's bytes are in the WAL, without the room behind them, which is zeros."""
    first = next((i for i, (a, b) in enumerate(zip(before.wal, after.wal, strict=False)) if a != b), len(before.wal))
    changed = [i for i in range(min(len(before.wal), len(after.wal))) if before.wal[i] != after.wal[i]]
    last = len(after.wal.rstrip(b"\0")) if len(after.wal) > len(before.wal) else changed[-1] + 1
    return range(first, last)


def check_cuts(
    recorder: Recorder, folder: Path, before: State, after: State, cuts: list[int], chosen: random.Random
) -> None:
    assert before.entries == after.entries[: len(before.entries)]
    for at in cuts:
        for name, tail in tails(chosen).items():
            got = opened(recorder, folder, before.db, cut_at(before, after, at, tail))
            assert got in (before.entries, after.entries), (at, name)
    assert opened(recorder, folder, before.db, after.wal) == after.entries


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_at_chosen_bytes_of(
    kind: str, recorded: tuple[Recorder, dict[str, tuple[State, State]]], shared: Path
) -> None:
    recorder, states = recorded
    before, after = states[kind]
    chosen, bytes_ = random.Random(kind), written(before, after)
    edges = [at for i in range(bytes_.start, bytes_.stop, 4096 + 24) for at in (i, i + 1, i + 24, i + 25)]
    cuts = sorted({*edges, bytes_.stop - 1, *chosen.sample(bytes_, 40)})
    check_cuts(recorder, shared, before, after, [at for at in cuts if at < bytes_.stop], chosen)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_at_every_byte_of(
    kind: str, recorded: tuple[Recorder, dict[str, tuple[State, State]]], shared: Path
) -> None:
    recorder, states = recorded
    before, after = states[kind]
    check_cuts(recorder, shared, before, after, list(written(before, after)), random.Random(kind))


def sectors(before: bytes, after: bytes, chosen: random.Random) -> bytes:
    """Some sectors as they were to be written, the others as they were or, past the old end, anything."""
    out = bytearray()
    for at in range(0, len(after), SECTOR):
        new = after[at : at + SECTOR]
        old = before[at : at + len(new)]
        out += new if chosen.random() < 0.5 else old + chosen.randbytes(len(new) - len(old))
    return bytes(out) + before[len(after) :]


@pytest.mark.parametrize("kind", KINDS)
def test_some_sectors_of_a_commit_written_and_others_not_are_the_commit_or_nothing(
    kind: str, recorded: tuple[Recorder, dict[str, tuple[State, State]]], shared: Path
) -> None:
    recorder, states = recorded
    before, after = states[kind]
    chosen = random.Random(kind)
    for _ in range(40):
        got = opened(recorder, shared, before.db, sectors(before.wal, after.wal, chosen))
        assert got in (before.entries, after.entries)


def test_a_cut_while_the_wal_is_folded_in_loses_nothing(tmp_path: Path, shared: Path) -> None:
    recorder = Recorder(tmp_path)
    for _ in range(6):
        for drafts in search(unsigned()):
            before = recorder.commit(drafts)
    after = recorder.fold()
    assert before.db != after.db
    chosen = random.Random(3)
    for _ in range(60):
        assert opened(recorder, shared, sectors(before.db, after.db, chosen), before.wal) == recorder.entries
    assert opened(recorder, shared, after.db, b"") == recorder.entries, "and the WAL is not needed any more"


async def test_a_log_recovered_from_a_cut_verifies_and_goes_on(
    recorded: tuple[Recorder, dict[str, tuple[State, State]]], shared: Path
) -> None:
    recorder, states = recorded
    before, after = states["a commit behind another"]
    for at in (written(before, after).start + 10, len(after.wal)):
        got = opened(recorder, shared, before.db, cut_at(before, after, at, bytes))
        for name in ("log.key", "log.vkey"):
            shutil.copy(recorder.where.db.with_name(name), shared / "log" / name)
        with DecisionLog.open(shared / "log", clock=HandClock()) as log:
            assert (await log.append([START])).first_index == len(got)
        assert verify(shared / "log").fault is None
