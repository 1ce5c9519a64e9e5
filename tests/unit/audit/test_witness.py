"""A witness: which heads it cosigns, which it refuses and reports, and what it remembers."""

from __future__ import annotations

import base64
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.cosignature import WitnessKey, cosign, cosignature
from audit.note import Checkpoint, verify_checkpoint
from audit.witness import (
    DB_NAME,
    KEY_NAME,
    MAX_PROOF,
    MAX_REPORTS,
    VKEY_NAME,
    PinnedLog,
    Refusal,
    ToWitness,
    Witness,
    Witnessed,
    WitnessState,
    judge,
)
from comity.errors import ConfigError, InvalidInput, LogFault, Unavailable
from comity.v1 import node_link_service_pb2 as pb2
from tests.unit.audit.growing import BROKER, NOW, ORIGIN, GrowingLog, public, witness, witness_key

NAME = "us-ca-alder-pd/witness/alder-1"


def show(log: GrowingLog, old: int = 0) -> ToWitness:
    """The log's newest head with the proof from `old`."""
    head = log.head
    proof = log.consistency(old, head.size) if old <= head.size else ()
    return ToWitness(old_size=old, proof=proof, checkpoint=head.checkpoint)


def ask(who: Witness, what: ToWitness, peer: str = BROKER) -> Witnessed:
    (said,) = who.answers([(peer, what)])
    return said


def size(note: bytes) -> int:
    return Checkpoint.parse(note).size if note else 0


# The format


def test_a_cosignature_says_when_and_leaves_the_log_s_own_signature_as_it_was() -> None:
    log = GrowingLog(5)
    note = cosign(log.head.checkpoint, NAME, witness_key(NAME), NOW)
    assert verify_checkpoint(note, log.vkey).size == 5
    found = cosignature(note, public(NAME))
    assert found is not None
    assert found[0] == NOW
    assert note.endswith(found[1])


def test_the_bytes_of_a_cosignature_are_those_of_the_public_format() -> None:
    log = GrowingLog(5)
    note = cosign(log.head.checkpoint, NAME, witness_key(NAME), NOW)
    text = log.head.checkpoint.partition(b"\n\n")[0] + b"\n"
    message = b"cosignature/v1\ntime %d\n" % NOW.timestamp() + text
    data = public(NAME).id + int(NOW.timestamp()).to_bytes(8) + witness_key(NAME).sign(message)
    assert note.decode().splitlines()[-1] == f"— {NAME} {base64.b64encode(data).decode()}"


@pytest.mark.parametrize("at", [b"\n5\n", ORIGIN.encode()], ids=["another size", "another log"])
def test_a_cosignature_of_another_head_does_not_fit(at: bytes) -> None:
    note = cosign(GrowingLog(5).head.checkpoint, NAME, witness_key(NAME), NOW)
    with pytest.raises(LogFault) as refused:
        cosignature(note.replace(at, at.replace(b"5", b"6").replace(b"b1", b"b2"), 1), public(NAME))
    assert refused.value.reason == "BAD_COSIGNATURE"


def test_a_note_that_a_witness_did_not_sign_has_no_cosignature_of_it() -> None:
    note = cosign(GrowingLog(5).head.checkpoint, NAME, witness_key(NAME), NOW)
    assert cosignature(note, public("other/witness/o-1")) is None


def test_a_witness_s_key_comes_back_from_its_text_and_a_log_s_key_is_none() -> None:
    assert WitnessKey.parse(f"{public(NAME)}\n") == public(NAME)
    with pytest.raises(InvalidInput):
        WitnessKey.parse(str(GrowingLog().vkey))


# What it cosigns


def test_a_witness_cosigns_a_log_s_first_head_and_each_that_the_log_has_grown_to(tmp_path: Path) -> None:
    log, who = GrowingLog(3), witness(tmp_path, NAME, GrowingLog())
    for old, more in ((0, 0), (3, 1), (4, 300), (304, 0)):
        log.grow(more)
        said = ask(who, show(log, old))
        assert said.refused == ""
        assert cosignature(said.checkpoint, public(NAME)) is not None
        assert size(said.checkpoint) == len(log.leaves)


@given(st.integers(1, 700), st.integers(0, 700))
def test_a_witness_accepts_any_growth_and_no_other_past(old: int, more: int) -> None:
    log, other = GrowingLog(old), GrowingLog(old - 1)
    other.grow(1, "another past ")
    held = [Checkpoint.parse(x.head.checkpoint) for x in (log, other)]
    log.grow(more)
    shown, what = Checkpoint.parse(log.head.checkpoint), show(log, old)
    assert judge(held[0], shown, what) is None
    assert judge(held[1], shown, what) is (Refusal.INCONSISTENT if more else Refusal.FORKED)


def back(log: GrowingLog) -> None:
    log.go_back(4)


def fork(log: GrowingLog) -> None:
    log.go_back(4)
    log.grow(6, "another past ")


def fork_and_grow(log: GrowingLog) -> None:
    fork(log)
    log.grow(5)


FAULTS: dict[str, tuple[Refusal, Callable[[GrowingLog], None]]] = {
    "smaller than it was": (Refusal.ROLLED_BACK, back),
    "of the same size with another past": (Refusal.FORKED, fork),
    "larger with another past": (Refusal.INCONSISTENT, fork_and_grow),
}


@pytest.mark.parametrize(("refusal", "change"), FAULTS.values(), ids=FAULTS)
def test_a_log_is_refused_shown_what_it_signed_before_and_reported_durably(
    refusal: Refusal, change: Callable[[GrowingLog], None], tmp_path: Path
) -> None:
    log, who = GrowingLog(10), witness(tmp_path, NAME, GrowingLog())
    held = ask(who, show(log)).checkpoint
    change(log)
    what = show(log, 10)
    said = ask(who, what)
    assert (said.refused, said.checkpoint) == (refusal, held)
    who.close()
    again = witness(tmp_path, NAME, GrowingLog())
    assert ask(again, what) == said, "it remembers over a restart"
    reports = WitnessState(tmp_path / DB_NAME).reports()
    assert [(r.origin, r.kind, r.held, r.shown) for r in reports] == [(ORIGIN, refusal, held, what.checkpoint)] * 2


def test_a_proof_from_another_head_than_the_one_held_is_stale_and_no_fault(tmp_path: Path) -> None:
    log, who = GrowingLog(10), witness(tmp_path, NAME, GrowingLog())
    held = ask(who, show(log)).checkpoint
    log.grow(5)
    assert ask(who, show(log, 7)) == Witnessed(checkpoint=held, refused="STALE")
    assert ask(who, show(log, 10)).refused == ""
    assert WitnessState(tmp_path / DB_NAME).reports() == []


def test_a_head_of_a_log_that_is_not_pinned_not_the_peer_s_or_not_signed_by_it_is_not_cosigned(tmp_path: Path) -> None:
    log, who = GrowingLog(3), witness(tmp_path, NAME, GrowingLog())
    other = GrowingLog(3, origin="elsewhere/broker/b9")
    forged = GrowingLog(3, key=other.key)
    nothing = Witnessed(checkpoint=b"", refused="NOT_ITS_LOG")
    assert ask(who, show(other)) == nothing
    assert ask(who, show(forged)) == nothing
    assert ask(who, show(log), "broker/b2") == nothing
    assert ask(who, ToWitness(old_size=0, proof=(), checkpoint=b"nonsense")) == nothing


def test_many_logs_are_cosigned_in_one_commit_and_two_heads_of_one_log_one_after_the_other(tmp_path: Path) -> None:
    logs = [GrowingLog(i + 1, origin=f"test/node/n{i}") for i in range(5)]
    who = Witness(
        _memory(tmp_path),
        name=NAME,
        key=witness_key(NAME),
        logs={log.origin: PinnedLog(owner=log.origin, key=log.vkey) for log in logs},
        clock=lambda: NOW,
    )
    asked = [(log.origin, show(log)) for log in logs]
    logs[0].grow(4)
    asked.append((logs[0].origin, show(logs[0], 1)))
    assert [size(s.checkpoint) for s in who.answers(asked)] == [1, 2, 3, 4, 5, 5]


def _memory(folder: Path) -> WitnessState:
    WitnessState.create(folder / DB_NAME)
    return WitnessState(folder / DB_NAME)


# What it keeps


def test_a_witness_that_cannot_write_cosigns_nothing_and_never_again(tmp_path: Path) -> None:
    log, who = GrowingLog(3), witness(tmp_path, NAME, GrowingLog())
    with sqlite3.connect(tmp_path / DB_NAME) as db:
        db.execute("DROP TABLE head")
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            ask(who, show(log))
        assert refused.value.reason == "NO_WITNESS"


def test_what_init_makes_is_private_and_is_never_made_anew(tmp_path: Path) -> None:
    Witness.create(tmp_path, NAME)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / DB_NAME).stat().st_mode) == 0o600
    assert WitnessKey.parse((tmp_path / VKEY_NAME).read_text()).name == NAME
    with pytest.raises(ConfigError):
        Witness.create(tmp_path, NAME)


def test_a_witness_whose_memory_is_gone_does_not_start(tmp_path: Path) -> None:
    Witness.create(tmp_path, NAME)
    (tmp_path / DB_NAME).unlink()
    with pytest.raises(ConfigError) as refused:
        Witness.open(tmp_path, pinned=made_key(tmp_path), logs={}, clock=lambda: NOW)
    assert refused.value.reason == "NO_STATE"


def made_key(folder: Path) -> WitnessKey:
    return WitnessKey.parse((folder / VKEY_NAME).read_text())


def test_a_program_witnesses_only_with_the_key_that_the_directory_pins(tmp_path: Path) -> None:
    assert Witness.open(tmp_path, pinned=public(NAME), logs={}, clock=lambda: NOW) is None, "init made none"
    Witness.create(tmp_path, NAME)
    for pinned in (None, public(NAME)):
        assert Witness.open(tmp_path, pinned=pinned, logs={}, clock=lambda: NOW) is None
    assert Witness.open(tmp_path, pinned=made_key(tmp_path), logs={}, clock=lambda: NOW) is not None


def test_a_rogue_log_does_not_fill_the_witness_s_disk_with_reports(tmp_path: Path) -> None:
    log, who = GrowingLog(10), witness(tmp_path, NAME, GrowingLog())
    ask(who, show(log))
    log.go_back(5)
    who.answers([(BROKER, ToWitness(old_size=0, proof=(), checkpoint=log.head.checkpoint))] * (MAX_REPORTS + 9))
    assert len(WitnessState(tmp_path / DB_NAME).reports()) == MAX_REPORTS


LIMITS = {
    "too long a proof": pb2.ToWitness(proof=[b"h" * 32] * (MAX_PROOF + 1), checkpoint=b"x"),
    "a short hash": pb2.ToWitness(proof=[b"h"], checkpoint=b"x"),
    "no checkpoint": pb2.ToWitness(),
    "too large a checkpoint": pb2.ToWitness(checkpoint=b"x" * 20_000),
}


@pytest.mark.parametrize("message", LIMITS.values(), ids=LIMITS)
def test_what_is_too_large_to_be_a_head_and_its_proof_is_refused_unread(message: pb2.ToWitness) -> None:
    with pytest.raises(InvalidInput):
        ToWitness.parse(message)


def test_an_answer_too_large_to_be_one_is_refused_unread() -> None:
    for message in (pb2.Witnessed(checkpoint=b"x" * 20_000), pb2.Witnessed(refused="x" * 65)):
        with pytest.raises(InvalidInput):
            Witnessed.parse(message)


def test_heads_and_answers_come_back_from_the_wire() -> None:
    log = GrowingLog(9)
    what, said = show(log, 3), Witnessed(checkpoint=b"note", refused="STALE")
    assert ToWitness.parse(what.to_message()) == what
    assert Witnessed.parse(said.to_message()) == said
