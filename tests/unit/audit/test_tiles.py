"""Tiles on disk: in the published format, grown as the log grows, never ahead of their checkpoint, never of a fork."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit.hashes import hashes_of_log, reading
from audit.log import DecisionLog
from audit.note import VerifierKey, verify_checkpoint
from audit.proof import inclusion_proof, tree_root, verify_inclusion
from audit.tiles import TileFolder, publish, tile_path
from audit.tree import EMPTY_ROOT, leaf_hash
from cli.audit import audit
from comity.errors import ComityError, ConfigError, LogFault
from identity import files
from tests.unit.audit.sample import ORIGIN, START, HandClock, build, tamper

GROWTH = (1, 255, 256, 257, 700)


async def grown(folder: Path, size: int) -> None:
    """The log in `folder`, made if it is not there, has so many entries."""
    where, clock = _made(folder), HandClock()
    known = (folder / "log.db").exists()
    with DecisionLog.open(where, clock=clock) if known else _created(where) as log:
        if size > log.head.size:
            await log.append([START] * (size - log.head.size))


def _created(folder: Path) -> DecisionLog:
    return DecisionLog.create(folder, origin=ORIGIN, clock=HandClock())


def listed(out: Path) -> dict[str, bytes]:
    """Every file under `out`."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def entries_of(out: Path, size: int) -> list[bytes]:
    """The entries in the bundles, read as the format says."""
    found: list[bytes] = []
    for number in range((size + 255) // 256):
        width = min(256, size - number * 256)
        data = (out / tile_path("entries", number, width)).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + length])
            data = data[2 + length :]
    return found


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (1, 67, 1, "tile/1/067.p/1"),
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        ("entries", 1_000, 255, "tile/entries/x001/000.p/255"),
    ],
)
def test_a_tile_has_the_path_that_the_format_gives_it(level: int | str, number: int, width: int, path: str) -> None:
    assert tile_path(level, number, width) == path


async def test_a_tree_of_700_has_the_files_that_the_format_names(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 700)
    publish(tmp_path / "log", tmp_path / "out")
    names = ["000", "001", "002.p/188"]
    levels = [*(f"tile/0/{n}" for n in names), "tile/1/000.p/2", *(f"tile/entries/{n}" for n in names)]
    assert set(listed(tmp_path / "out")) == {"checkpoint", "log.vkey", "witness.vkeys", *levels}
    assert (tmp_path / "out/log.vkey").read_bytes() == (tmp_path / "log/log.vkey").read_bytes()
    assert (tmp_path / "out/witness.vkeys").read_bytes() == b""


@pytest.mark.parametrize("size", [0, *GROWTH])
async def test_entries_hashes_and_root_are_those_that_the_checkpoint_signs(tmp_path: Path, size: int) -> None:
    await grown(tmp_path / "log", size)
    out = tmp_path / "out"
    done = publish(tmp_path / "log", out)
    head = verify_checkpoint(TileFolder(out).checkpoint(), VerifierKey.parse((out / "log.vkey").read_text()))
    assert (head, head.size) == (done.head, size)
    hashes, entries = TileFolder(out).hashes(size), entries_of(out, size)
    assert len(entries) == size
    assert (tree_root(size, hashes.subtree) if size else EMPTY_ROOT) == head.root
    for index in {0, size // 2, size - 1} & set(range(size)):
        verify_inclusion(
            index, size, leaf_hash(entries[index]), inclusion_proof(index, size, hashes.subtree), head.root
        )


async def test_what_has_grown_is_what_would_be_written_at_once_but_for_partial_tiles_still_needed(
    tmp_path: Path,
) -> None:
    for size in GROWTH:
        await grown(tmp_path / "log", size)
        publish(tmp_path / "log", tmp_path / "out")
    publish(tmp_path / "log", tmp_path / "once")
    grown_files, once = listed(tmp_path / "out"), listed(tmp_path / "once")
    more = set(grown_files) - set(once)
    assert {name: grown_files[name] for name in once} == once
    assert more == {"tile/1/000.p/1"}


async def test_nothing_is_written_when_there_is_nothing_new(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 300)
    assert publish(tmp_path / "log", tmp_path / "out").files == 5
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert publish(tmp_path / "log", tmp_path / "out").files == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before


async def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 600)
    publish(tmp_path / "log", tmp_path / "out")
    await grown(tmp_path / "log", 610)
    done = publish(tmp_path / "log", tmp_path / "out")
    assert (done.begun_at, done.files) == (512, 3)


async def test_the_tiles_of_a_log_in_use_are_those_of_its_newest_head(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with DecisionLog.create(tmp_path / "log", origin=ORIGIN, clock=HandClock()) as log:
        for size in (3, 260):
            await log.append([START] * (size - log.head.size))
            assert publish(tmp_path / "log", tmp_path / "out").head.size == size
            assert (tmp_path / "out/checkpoint").read_bytes() == log.head.checkpoint


@pytest.mark.parametrize("cut", ["tile/0/000", "tile/1/000.p/1", "tile/0/001.p/44"])
async def test_tiles_that_are_damaged_are_written_anew(tmp_path: Path, cut: str) -> None:
    await grown(tmp_path / "log", 300)
    publish(tmp_path / "log", tmp_path / "out")
    whole = listed(tmp_path / "out")
    (tmp_path / "out" / cut).write_bytes(b"cut")
    publish(tmp_path / "log", tmp_path / "out", rebuild=cut != "tile/1/000.p/1")
    assert listed(tmp_path / "out") == whole


class Crash(BaseException):
    """Stands for a power cut."""


async def test_a_crash_at_any_file_leaves_the_checkpoint_before_and_the_next_run_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grown(tmp_path / "log", 300)
    publish(tmp_path / "log", tmp_path / "first")
    await grown(tmp_path / "log", 1_100)
    publish(tmp_path / "log", tmp_path / "whole")
    whole, real = listed(tmp_path / "whole"), os.replace
    for survived in range(14):
        out, left = tmp_path / f"crash-{survived}", [survived]
        shutil.copytree(tmp_path / "first", out)

        def replace(self: Path, target: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            real(self, target)
            return target

        with monkeypatch.context() as m:
            m.setattr(Path, "replace", replace)
            try:
                publish(tmp_path / "log", out)
            except Crash:
                crashed = True
            else:
                crashed = False
        size = verify_checkpoint(TileFolder(out).checkpoint(), VerifierKey.parse((out / "log.vkey").read_text())).size
        assert size == (300 if crashed else 1_100)
        assert proves_all(out, size)
        publish(tmp_path / "log", out)
        assert {name: data for name, data in listed(out).items() if name in whole} == whole
    assert not crashed


def proves_all(out: Path, size: int) -> bool:
    """True if every entry in the folder is proven under its checkpoint."""
    note = TileFolder(out).checkpoint()
    head = verify_checkpoint(note, VerifierKey.parse((out / "log.vkey").read_text()))
    hashes = TileFolder(out).hashes(size)
    for index, entry in enumerate(entries_of(out, size)):
        verify_inclusion(index, size, leaf_hash(entry), inclusion_proof(index, size, hashes.subtree), head.root)
    return True


async def test_a_shorter_log_is_refused_and_what_was_published_stays(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 300)
    shutil.copytree(tmp_path / "log", tmp_path / "older")
    await grown(tmp_path / "log", 301)
    publish(tmp_path / "log", tmp_path / "out")
    before = listed(tmp_path / "out")
    with pytest.raises(LogFault) as refused:
        publish(tmp_path / "older", tmp_path / "out")
    assert refused.value.reason == "ROLLED_BACK"
    assert listed(tmp_path / "out") == before


@pytest.mark.parametrize(("published", "forked"), [(300, 300), (300, 301), (300, 900), (3, 5), (512, 513)])
@pytest.mark.parametrize("rebuild", [False, True], ids=["resumed", "rebuilt"])
async def test_a_log_with_another_beginning_is_refused_and_what_was_published_stays(
    tmp_path: Path, published: int, forked: int, rebuild: bool
) -> None:
    await grown(tmp_path / "log", 1)
    shutil.copytree(tmp_path / "log", tmp_path / "fork")
    await grown(tmp_path / "log", published)
    publish(tmp_path / "log", tmp_path / "out")
    before = listed(tmp_path / "out")
    clock = HandClock()
    clock.move(seconds=1)
    with DecisionLog.open(tmp_path / "fork", clock=clock) as log:
        await log.append([START] * (forked - 1))
    with pytest.raises(LogFault) as refused:
        publish(tmp_path / "fork", tmp_path / "out", rebuild=rebuild)
    assert refused.value.reason == "FORKED"
    assert {name: data for name, data in listed(tmp_path / "out").items() if name in before} == before
    assert proves_all(tmp_path / "out", published)


async def test_another_log_is_refused(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 3)
    publish(tmp_path / "log", tmp_path / "out")
    (tmp_path / "other").mkdir()
    with DecisionLog.create(tmp_path / "other", origin="other.example/log", clock=HandClock()) as log:
        await log.append([START] * 4)
    with pytest.raises(LogFault) as refused:
        publish(tmp_path / "other", tmp_path / "out")
    assert refused.value.reason == "OTHER_LOG"


TAMPERED = {
    "an entry altered": ("UPDATE leaf SET entry = x'7b7d' WHERE idx = 7", "WRONG_ROOT"),
    "an entry removed": ("DELETE FROM leaf WHERE idx = 7", "MISSING"),
    "the head's size altered": ("UPDATE head SET size = 4", "WRONG_SIZE"),
    "the checkpoint spoilt": ("UPDATE head SET checkpoint = zeroblob(99)", "BAD_CHECKPOINT"),
}


@pytest.mark.parametrize(("statement", "reason"), TAMPERED.values(), ids=TAMPERED)
async def test_a_log_that_is_not_what_it_signed_gets_no_checkpoint(tmp_path: Path, statement: str, reason: str) -> None:
    await grown(tmp_path / "log", 300)
    tamper(tmp_path / "log", statement)
    with pytest.raises(LogFault) as refused:
        publish(tmp_path / "log", tmp_path / "out")
    assert refused.value.reason == reason
    assert not (tmp_path / "out/checkpoint").exists()


async def test_a_folder_of_something_else_and_one_in_use_are_refused(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 3)
    for out, reason in ((tmp_path / "log", "NOT_TILES"), (tmp_path / "busy", "TILES_IN_USE")):
        files.make_folder(out)
        fd = os.open(out, os.O_RDONLY)
        if reason == "TILES_IN_USE":
            fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(ConfigError) as refused:
            publish(tmp_path / "log", out)
        os.close(fd)
        assert refused.value.reason == reason


async def test_without_a_key_nothing_is_published(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 3)
    vkey = (tmp_path / "log/log.vkey").read_text()
    os.remove(tmp_path / "log/log.vkey")
    with pytest.raises(ConfigError) as refused:
        publish(tmp_path / "log", tmp_path / "out")
    assert refused.value.reason == "NO_KEY"
    assert publish(tmp_path / "log", tmp_path / "out", vkey=vkey).head.size == 3


async def test_what_is_published_is_for_the_owner_alone(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 300)
    publish(tmp_path / "log", tmp_path / "out")
    assert {oct(p.stat().st_mode & 0o77) for p in [tmp_path / "out", *(tmp_path / "out").rglob("*")]} == {"0o0"}


async def test_a_proof_from_the_log_alone_is_the_one_from_its_tiles(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 700)
    publish(tmp_path / "log", tmp_path / "out")
    with reading(tmp_path / "log") as reader:
        alone, tiles = hashes_of_log(reader, 700), TileFolder(tmp_path / "out").hashes(700)
        for index in (0, 255, 256, 511, 512, 699):
            made = [inclusion_proof(index, 700, h.subtree) for h in (alone, tiles)]
            assert made[0] == made[1]


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, [str(a) for a in arguments])


async def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    await grown(tmp_path / "log", 300)
    said = json.loads(run("tiles", tmp_path / "log", tmp_path / "out", "--json").output)
    assert (said["origin"], said["size"], said["begun_at"], said["files"]) == (ORIGIN, 300, 0, 5)
    assert "300 entries" in run("tiles", tmp_path / "log", tmp_path / "out").output


async def test_the_command_on_a_log_of_another_key_fails_with_its_reason(tmp_path: Path) -> None:
    await build(_made(tmp_path / "a"), [[START]])
    await build(_made(tmp_path / "b"), [[START, START]])
    assert run("tiles", tmp_path / "a", tmp_path / "out").exit_code == 0
    result = run("tiles", tmp_path / "b", tmp_path / "out")
    assert isinstance(result.exception, ComityError)
    assert result.exception.reason == "OTHER_LOG"


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
