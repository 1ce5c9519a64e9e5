"""The cosigned heads in entries: written once with their evidence, and verified with and without the directory."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.cosignature import cosign, line, witness_name
from audit.entry import review_entry
from audit.log import DecisionLog
from audit.note import Checkpoint, Cited, VerifierKey
from audit.read import LogReader
from audit.verify import verify
from cli.audit import audit
from comity.errors import InvalidInput
from identity import certificates
from identity.directory import Directory, LogKey
from identity.keys import load_log_key
from tests.golden.audit.samples import ENVELOPE
from tests.unit.audit.growing import GrowingLog, public, witness_key
from tests.unit.audit.sample import ORIGIN, START, Forger, HandClock, asked, search, unsigned
from tests.unit.identity.world import ALDER, NOW, World

WITNESS = witness_name(ALDER, "alder-1")
BROKER_WITNESS = witness_name("test-exchange", "b1")
NODE = f"{ALDER}/node/alder-1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("cited-world"))


def cosigned(log: DecisionLog, *, at: dt.datetime = NOW, name: str = WITNESS) -> Cited:
    """The log's newest head with a witness's cosignature."""
    return Cited.parse(cosign(log.head.checkpoint, name, witness_key(name), at))


def node_head(size: int) -> Cited:
    """A node's head that the broker cosigned."""
    note = GrowingLog(size, origin=NODE).head.checkpoint
    return Cited.parse(cosign(note, BROKER_WITNESS, witness_key(BROKER_WITNESS), NOW))


def peers(folder: Path) -> list[list[tuple[str, int, bool]]]:
    """What each entry cites: origin, size, and whether the note is there."""
    with LogReader.open(folder) as reader:
        values = [json.loads(entry) for _, _, entry in reader.rows()]
    return [[(p["origin"], p["size"], "note" in p) for p in v["peers"]] for v in values]


def directory(world: World, folder: Path, **changes: Any) -> Directory:
    keys = {ORIGIN: load_log_key(folder / "log.key").public_key(), NODE: GrowingLog(origin=NODE).key.public_key()}
    content: dict[str, Any] = {
        "logs": [
            LogKey(origin=ORIGIN, key=keys[ORIGIN], program="broker", id="b1"),
            LogKey(origin=NODE, key=keys[NODE], program="node", id="alder-1"),
        ],
        "witnesses": {
            "alder-1": witness_key(WITNESS).public_key(),
            "broker/b1": witness_key(BROKER_WITNESS).public_key(),
        },
    }
    return world.directory(**(content | changes))


async def test_a_head_comes_with_its_note_in_the_first_entry_that_cites_it_and_without_in_the_others(
    tmp_path: Path,
) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        await log.append([START])
        own = cosigned(log)
        log.cite([own])
        await log.append([START, START])
        await log.append([START])
        log.cite([own, node_head(4)])
        await log.append([START])
    with DecisionLog.open(tmp_path, clock=HandClock()) as log:
        await log.append([START])
        log.cite([own])
        await log.append([START])
    assert peers(tmp_path) == [
        [],
        [(ORIGIN, 1, True)],
        [(ORIGIN, 1, False)],
        [(ORIGIN, 1, False)],
        [(ORIGIN, 1, False), (NODE, 4, True)],
        [],
        [(ORIGIN, 1, True)],
    ]
    assert verify(tmp_path).fault is None


async def test_a_refused_call_takes_no_note_with_it(tmp_path: Path) -> None:
    draft = unsigned()
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        await log.append([draft])
        log.cite([cosigned(log)])
        with pytest.raises(Exception, match="recorded already"):
            await log.append([START, draft])
        await log.append([START])
    assert peers(tmp_path)[1:] == [[(ORIGIN, 1, True)]]


async def test_an_entry_with_no_room_for_a_note_goes_without_and_the_next_one_has_it(tmp_path: Path) -> None:
    head = node_head(4)
    fat = replace(head, note=head.note + line("w" * 200, b"x" * 76) * 95)
    many = [2**53 - 1] * 1_000
    big = review_entry(
        reviewer=f"spiffe://{ALDER}/person/a-1", begin=NOW, end=NOW, sampled=many, flagged=many, envelope=ENVELOPE
    )
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        log.cite([fat])
        await log.append([big, START])
    assert peers(tmp_path) == [[], [(NODE, 4, True)]]
    assert verify(tmp_path).fault is None


async def test_every_signature_of_cited_heads_is_proven_with_a_directory(world: World, tmp_path: Path) -> None:
    _, draft, _ = asked(world.person())
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        for call in search(draft):
            await log.append(call)
            log.cite([cosigned(log), node_head(log.head.size)])
        await log.append([START])
    known = directory(world, tmp_path)
    assert (verify(tmp_path, directory=known).fault, verify(tmp_path, directory=known).warnings) == (None, ())
    assert any("cited heads were not verified" in w for w in verify(tmp_path).warnings)


async def test_an_entry_dated_within_a_stop_of_the_log_is_said_to_be_under_no_head_of_that_time(
    world: World, tmp_path: Path
) -> None:
    clock = HandClock()
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=clock) as log:
        await log.append([START])
        log.cite([cosigned(log)])
        await log.append([START])
        clock.move(days=2)
        await log.append([START])  # put there on the third day, by who has the key
        clock.move(days=1)
        log.cite([cosigned(log, at=clock.at)])
        await log.append([START])
    report = verify(tmp_path, directory=directory(world, tmp_path))
    assert report.fault is None
    assert [w for w in report.warnings if w.startswith("entries 1 to 2 were cosigned more than an hour after")]


async def test_a_log_that_nobody_cosigned_for_more_than_an_hour_is_said_to_be_one(world: World, tmp_path: Path) -> None:
    clock = HandClock()
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=clock) as log:
        for _ in range(3):
            await log.append([START])
            clock.move(hours=1)
    warnings = verify(tmp_path, directory=directory(world, tmp_path)).warnings
    assert warnings == ("from entry 0 on, over more than an hour, the log shows no cosigned head",)


async def test_a_log_that_is_idle_for_days_and_was_cosigned_before_is_under_heads_of_its_time(
    world: World, tmp_path: Path
) -> None:
    clock = HandClock()
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=clock) as log:
        for _ in range(4):
            await log.append([START])
            log.cite([cosigned(log, at=clock.at)])
            clock.move(days=1)
    assert verify(tmp_path, directory=directory(world, tmp_path)).warnings == ()


def unknown_log(world: World, folder: Path) -> Directory:
    only = LogKey(origin=ORIGIN, key=load_log_key(folder / "log.key").public_key(), program="broker", id="b1")
    return directory(world, folder, logs=[only], witnesses={"alder-1": witness_key(WITNESS).public_key()})


async def test_what_a_directory_does_not_name_is_said_and_no_fault(world: World, tmp_path: Path) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        log.cite([node_head(3)])
        await log.append([START])
    report = verify(tmp_path, directory=unknown_log(world, tmp_path))
    assert report.fault is None
    assert report.warnings == ("1 cited heads are of logs that the directory does not name",)


Citing = Callable[[DecisionLog], Cited]
FORGED: dict[str, tuple[str, Citing]] = {
    "without a cosignature": ("TOO_FEW_COSIGNATURES", lambda log: Cited.parse(log.head.checkpoint)),
    "with another witness's cosignature alone": (
        "TOO_FEW_COSIGNATURES",
        lambda log: cosigned(log, name="elsewhere/witness/w"),
    ),
    "with a cosignature that does not fit": (
        "BAD_COSIGNATURE",
        lambda log: Cited.parse(
            log.head.checkpoint
            + cosign(GrowingLog(1).head.checkpoint, WITNESS, witness_key(WITNESS), NOW).splitlines(True)[-1]
        ),
    ),
    "that was cosigned an hour after the entry says it was written": (
        "COSIGNED_LATER",
        lambda log: replace(cosigned(log, at=NOW + dt.timedelta(hours=1)), seen_at=0),
    ),
    "of another log, under a key that is not its own": (
        "BAD_PEER",
        lambda log: Cited.parse(
            GrowingLog(3, origin=NODE, key=Ed25519PrivateKey.from_private_bytes(b"k" * 32)).head.checkpoint
        ),
    ),
}


@pytest.mark.parametrize(("reason", "citing"), FORGED.values(), ids=FORGED)
async def test_the_directory_shows_that_an_entry_cites_a_head(
    reason: str, citing: Citing, world: World, tmp_path: Path
) -> None:
    _, draft, _ = asked(world.person())
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        for call in search(draft):
            await log.append(call)
        log.cite([citing(log)])
        await log.append([START])
        index = log.head.size - 1
    known = directory(world, tmp_path, version=7)
    fault = verify(tmp_path, directory=known).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (index, reason)


async def test_after_a_clock_was_put_back_an_hour_no_honest_entry_looks_back_dated(
    world: World, tmp_path: Path
) -> None:
    clock = HandClock(NOW)
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=clock) as log:
        await log.append([START])
        early = node_head(3)
        late = cosigned(log, at=NOW + dt.timedelta(hours=1))
        log.cite([late, early])
        await log.append([START])
        clock.move(hours=1)
        await log.append([START])
    assert [[size for _, size, _ in cited] for cited in peers(tmp_path)] == [[], [3], [1, 3]], "it is cited later"
    known = directory(world, tmp_path, version=7)
    assert verify(tmp_path, directory=known).fault is None


async def test_too_few_cosignatures_are_a_warning_where_another_directory_was_in_force(
    world: World, tmp_path: Path
) -> None:
    with DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()) as log:
        await log.append([START])
        log.cite([Cited.parse(log.head.checkpoint)])
        await log.append([START])
    report = verify(tmp_path, directory=directory(world, tmp_path))
    assert report.fault is None
    assert "fewer cosignatures" in report.warnings[0]


# A log's own operator, with its key, may write what he likes into it


def note_of(size: int, root: bytes, origin: str = NODE) -> dict[str, Any]:
    """A citation with a well-formed note."""
    log = GrowingLog(origin=origin)
    note = Checkpoint(origin=origin, size=size, root=root).sign(log.key).decode()
    return {"origin": origin, "size": size, "root": root.hex(), "note": note}


def plain(cited: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in cited.items() if k != "note"}


ONE, TWO, OTHER = note_of(5, b"1" * 32), note_of(6, b"2" * 32), note_of(6, b"3" * 32)
WRONG: dict[str, list[list[dict[str, Any]]]] = {
    "a head without a note": [[plain(ONE)]],
    "a head whose note was another's": [[ONE], [plain(TWO)]],
    "a root that is not the note's": [[ONE | {"root": "00" * 32}]],
    "a size that is not the note's": [[ONE | {"size": 6}]],
    "a malformed note": [[ONE | {"note": "a note"}]],
    "a smaller head after a larger": [[TWO], [ONE]],
    "a head of its own that it never had": [[note_of(1, b"1" * 32, ORIGIN)]],
    "a head of its own that is yet to come": [[note_of(50, b"1" * 32, ORIGIN)]],
}


@pytest.mark.parametrize("cited", WRONG.values(), ids=WRONG)
def test_even_without_a_directory_no_entry_can_cite(cited: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    forger = Forger(tmp_path)
    forger.add(START)
    for heads in cited:
        forger.add(START, peers=heads)
    fault = verify(forger.write()).fault
    assert fault is not None
    assert (fault.index, fault.reason) == (len(cited), "WRONG_PEER")


def test_what_is_cited_in_order_with_its_notes_verifies(tmp_path: Path) -> None:
    forger = Forger(tmp_path)
    for heads in ([], [ONE], [plain(ONE)], [plain(ONE), TWO | {}], [TWO], [plain(TWO)], []):
        forger.add(START, peers=heads)
    assert verify(forger.write()).fault is None


def test_a_log_s_key_is_what_its_cited_heads_are_verified_with(world: World, tmp_path: Path) -> None:
    assert VerifierKey.of(NODE, GrowingLog(origin=NODE).key.public_key()) == GrowingLog(origin=NODE).vkey
    forger = Forger(tmp_path)
    forger.add(START, peers=[ONE])
    forger.write()
    report = verify(tmp_path, directory=directory(world, tmp_path))
    assert report.fault is None
    assert "fewer cosignatures" in report.warnings[0]


def test_tiles_written_with_a_directory_name_the_log_s_witnesses_and_no_other_log_s(
    world: World, tmp_path: Path
) -> None:
    log, file = tmp_path / "log", tmp_path / "directory.json"
    log.mkdir()
    DecisionLog.create(log, origin=ORIGIN, clock=HandClock()).close()
    own = LogKey(origin=ORIGIN, key=load_log_key(log / "log.key").public_key(), program="broker", id="b1")
    keys = {"alder-1": witness_key(WITNESS).public_key(), "broker/b1": witness_key(BROKER_WITNESS).public_key()}
    (tmp_path / "federation-ca.pem").write_bytes(certificates.pem(world.federation.certificate))
    file.write_bytes(world.signed_directory(logs=[own], witnesses=keys))
    arguments = ["tiles", str(log), str(tmp_path / "out"), "--directory", str(file)]
    assert CliRunner().invoke(audit, arguments).exit_code == 0
    assert (tmp_path / "out" / "witness.vkeys").read_text() == f"{public(WITNESS)}\n"
    file.write_bytes(world.signed_directory())
    refused = CliRunner().invoke(audit, arguments).exception
    assert isinstance(refused, InvalidInput)
    assert refused.reason == "UNKNOWN_LOG"
