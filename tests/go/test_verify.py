"""The published tiles, verified by Go's own checksum-database packages: a verifier that nobody here wrote."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from audit.cosignature import cosign
from audit.log import DecisionLog
from audit.note import Checkpoint
from audit.tiles import COSIGNED, WITNESSES, publish, publish_cosigned, tile_path
from tests.go.driver import built, run
from tests.unit.audit.growing import NOW, public, witness_key
from tests.unit.audit.sample import ORIGIN, START, HandClock

OLDER, ENTRIES = 1_000, 70_037
CALL = 4_000


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The driver."""
    return built(tmp_path_factory.mktemp("go"), pytestconfig)


async def append(folder: Path, entries: int) -> None:
    with DecisionLog.open(folder, clock=HandClock()) as log:
        while (size := log.head.size) < entries:
            await log.append([START] * min(CALL, entries - size))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiles of a log of 70,037 entries, published twice; the first checkpoint is kept beside them."""
    work = tmp_path_factory.mktemp("tiles")
    log, out = work / "log", work / "out"
    log.mkdir()
    DecisionLog.create(log, origin=ORIGIN, clock=HandClock()).close()
    for entries in (OLDER, ENTRIES):
        if (out / "checkpoint").exists():
            shutil.copy(out / "checkpoint", work / "older")
        asyncio.run(append(log, entries))
        publish(log, out)
    return out


def test_go_verifies_every_entry_and_that_the_log_only_grew(verifier: Path, tiles: Path) -> None:
    done = run(verifier, tiles, tiles.parent / "older")
    assert (done.returncode, done.stdout) == (0, f"verified {ENTRIES} entries of {ORIGIN}\n"), done.stderr


FLIPPED = {
    "a leaf hash": tile_path(0, 100),
    "a hash above": tile_path(1, 0),
    "a hash at the right edge": tile_path(0, ENTRIES // 256, ENTRIES % 256),
    "an entry": tile_path("entries", 17),
    "the last entry": tile_path("entries", ENTRIES // 256, ENTRIES % 256),
    "the checkpoint": "checkpoint",
    "the key": "log.vkey",
}


@pytest.mark.parametrize("path", FLIPPED.values(), ids=FLIPPED)
def test_go_refuses_one_byte_altered_in(verifier: Path, tiles: Path, path: str) -> None:
    file = tiles / path
    whole = file.read_bytes()
    at = len(whole) // 2
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        done = run(verifier, tiles)
    finally:
        file.write_bytes(whole)
    assert done.returncode == 1
    assert done.stderr.startswith("verify: ")


def test_go_refuses_an_older_checkpoint_of_another_log(verifier: Path, tiles: Path, tmp_path: Path) -> None:
    done = run(verifier, tiles, _other_checkpoint(tmp_path))
    assert (done.returncode, "verify: " in done.stderr) == (1, True)


def _other_checkpoint(folder: Path) -> Path:
    log = DecisionLog.create(folder, origin=ORIGIN, clock=HandClock())
    log.close()
    publish(folder, folder.with_name("other-tiles"))
    return folder.with_name("other-tiles") / "checkpoint"


SEEN = ("a/witness/a-1", "b/witness/b-1")


def cosigned(tiles: Path) -> bytes:
    """The older checkpoint with the signatures of two witnesses, whose keys stand in the folder."""
    (tiles / WITNESSES).write_text("".join(f"{public(name)}\n" for name in SEEN))
    note = (tiles.parent / "older").read_bytes()
    lines = [cosign(note, name, witness_key(name), NOW).splitlines(keepends=True)[-1] for name in SEEN]
    return note + b"".join(lines)


def test_go_verifies_the_cosignatures_of_witnesses_and_that_the_log_grew_from_what_they_saw(
    verifier: Path, tiles: Path
) -> None:
    note = cosigned(tiles)
    publish_cosigned(tiles, Checkpoint.parse((tiles / "checkpoint").read_bytes()), note)
    try:
        done = run(verifier, tiles)
        said = f"{OLDER} entries were seen by 2 witnesses\nverified {ENTRIES} entries of {ORIGIN}\n"
        assert (done.returncode, done.stdout) == (0, said), done.stderr
        at = note.rindex(b"=") - 20
        other = b"B" if note[at : at + 1] == b"A" else b"A"
        (tiles / COSIGNED).write_bytes(note[:at] + other + note[at + 1 :])
        done = run(verifier, tiles)
        assert (done.returncode, done.stderr.startswith("verify: ")) == (1, True), "one character of it altered"
    finally:
        (tiles / COSIGNED).unlink()
        (tiles / WITNESSES).write_text("")
