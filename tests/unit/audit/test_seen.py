"""Heads that others saw, held against a log: its newest entries are covered too, and nobody can make up a head."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.discrepancy import Kind
from audit.note import Checkpoint
from audit.read import LogReader
from audit.reconcile import reconcile
from audit.seen import seen_heads
from audit.verify import verify
from audit.witness import DB_NAME, Report, WitnessState
from cli.audit import audit
from comity.errors import ConfigError, InvalidInput
from tests.unit.audit.exchanges import NODES, Day
from tests.unit.audit.growing import GrowingLog
from tests.unit.audit.mutations import Mutation
from tests.unit.audit.test_reconcile import Written, all_mutations, books, is_beyond_two_logs

SEED, SLICE = 7, 60


def head_of(path: Path) -> bytes:
    """The newest signed note of the log there."""
    with LogReader.open(path) as reader:
        return reader.head()[1]


def memory(folder: Path, *notes: bytes) -> Path:
    """A witness's memory that holds those heads."""
    WitnessState.create(folder / DB_NAME)
    state = WitnessState(folder / DB_NAME)
    heads = {(c := Checkpoint.parse(n)).origin: (c.size, n) for n in notes}
    state.keep(heads, [])
    state.close()
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written.make(tmp_path_factory.mktemp("seen-day"), Day.eventful())


@pytest.fixture(scope="module")
def notes(written: Written) -> list[bytes]:
    return [head_of(path) for path in written.paths.values()]


def hard_ones(written: Written) -> Iterator[tuple[str, Mutation]]:
    """The changes at the ends of the logs that no two logs show, and a slice of the others."""
    every = list(all_mutations(written.day))
    plain = written.reconcile()
    yield from (one for one in every if is_beyond_two_logs(written, plain, *one))
    yield from random.Random(SEED).sample(every, SLICE)


def test_with_the_heads_that_witnesses_saw_every_change_is_found_to_the_last_entry(
    written: Written, notes: list[bytes]
) -> None:
    chosen = list(hard_ones(written))
    assert len(chosen) > SLICE
    missed = []
    for name, mutation in chosen:
        forged = books(written.day)[name].forged(mutation.commits).write(written.folder / "forged")
        at = written.paths | {name: forged}
        if not reconcile(at["broker"], [at[n] for n in NODES], seen=notes).discrepancies:
            missed.append(f"{name}: {mutation.what}")
        shutil.rmtree(forged)
    assert missed == []


def test_what_witnesses_saw_raises_no_false_alarm_and_leaves_nothing_unpinned(
    written: Written, notes: list[bytes]
) -> None:
    paths = written.paths
    result = reconcile(paths["broker"], [paths[n] for n in NODES], seen=notes)
    assert result.discrepancies == []
    assert set(result.unpinned.values()) == {0}


def test_a_log_that_was_cut_back_is_shown_by_a_head_that_a_witness_saw(written: Written, notes: list[bytes]) -> None:
    commits = deepcopy(written.day.broker.commits)[:-1]
    cut = written.day.broker.forged(commits).write(written.folder / "cut")
    assert verify(cut).fault is None, "alone it shows nothing"
    report = verify(cut, seen=notes)
    assert report.fault is not None
    assert report.fault.reason == "ROLLED_BACK"
    shutil.rmtree(cut)


def test_a_head_that_the_log_s_key_did_not_sign_counts_for_nothing(written: Written) -> None:
    head = Checkpoint.parse(head_of(written.paths["broker"]))
    forged = Checkpoint(origin=head.origin, size=head.size + 9, root=b"r" * 32).sign(Ed25519PrivateKey.generate())
    report = verify(written.paths["broker"], seen=[forged, GrowingLog(5).head.checkpoint])
    assert (report.fault, report.seen) == (None, 0)
    assert any(f"the last {head.size} entries" in w for w in report.warnings)


def test_heads_come_from_a_witness_s_memory_its_folder_or_a_note(written: Written, tmp_path: Path) -> None:
    note = head_of(written.paths["broker"])
    folder = memory(tmp_path, note)
    (tmp_path / "note").write_bytes(note)
    assert seen_heads(folder) == seen_heads(folder / DB_NAME) == seen_heads(tmp_path / "note") == [note]


def test_the_head_that_was_held_against_a_forked_log_is_seen_too(tmp_path: Path) -> None:
    held, shown = GrowingLog(5).head.checkpoint, GrowingLog(4).head.checkpoint
    WitnessState.create(tmp_path / DB_NAME)
    state = WitnessState(tmp_path / DB_NAME)
    state.keep({}, [Report(at="2030-05-01T12:00:00.000Z", origin="o", kind="ROLLED_BACK", held=held, shown=shown)])
    assert seen_heads(tmp_path) == [held], "while it is in use"
    state.close()


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"SQLite format 3\0 and no more"], ids=["nothing", "no note", "half a file"]
)
def test_what_is_neither_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InvalidInput) as refused:
        seen_heads(tmp_path / "file")
    assert refused.value.reason == "BAD_WITNESSED"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        seen_heads(tmp_path / "nothing")


def test_the_commands_take_what_witnesses_saw(written: Written, notes: list[bytes], tmp_path: Path) -> None:
    seen = ["--witnessed", str(memory(tmp_path, *notes)), "--json"]
    done = CliRunner().invoke(audit, ["verify", str(written.paths["broker"]), *seen])
    assert (done.exit_code, orjson.loads(done.stdout)["seen"]) == (0, Checkpoint.parse(notes[0]).size)
    cut = written.day.broker.forged(deepcopy(written.day.broker.commits)[:-1]).write(written.folder / "cut-again")
    done = CliRunner().invoke(audit, ["verify", str(cut), *seen])
    assert (done.exit_code, orjson.loads(done.stdout)["fault"]["reason"]) == (1, "ROLLED_BACK")
    done = CliRunner().invoke(audit, ["reconcile", str(cut), str(written.paths[NODES[0]]), *seen])
    first = orjson.loads(done.stdout.splitlines()[0])
    assert (done.exit_code, first["kind"]) == (1, Kind.LOG_FAULT)
    shutil.rmtree(cut)
