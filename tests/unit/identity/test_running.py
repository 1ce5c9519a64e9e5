"""Until when a program runs, and whether it starts anew."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from comity.errors import LogBroken
from identity.folder import DIRECTORY_FILE, IdentityFolder
from identity.running import Running
from tests.unit.identity.world import ALDER, NOW, World, name


@pytest.fixture
def running() -> Running:
    return Running("node", lambda: NOW)


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World.make(tmp_path)


@pytest.fixture
def folder(own: World) -> IdentityFolder:
    return own.folder(own.alder, name(ALDER, "node", "alder-1"), own.signed_directory())


async def renewed(running: Running, own: World, folder: IdentityFolder) -> None:
    directory = folder.directory()
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=8))
    await running.renew(folder, directory, 0.01)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
async def test_a_signal_ends_it_for_good(running: Running, sign: signal.Signals) -> None:
    running.follow_signals()
    os.kill(os.getpid(), sign)
    await running.ended.wait()
    assert (running.anew, running.exit_code, running.why) == (False, 0, "signal")


async def test_a_renewed_directory_ends_it_to_start_anew(running: Running, own: World, folder: IdentityFolder) -> None:
    await renewed(running, own, folder)
    assert running.ended.is_set()
    assert (running.anew, running.exit_code, running.why) == (True, 0, "identity renewed")


async def test_a_hang_up_makes_it_look_at_once(running: Running, own: World, folder: IdentityFolder) -> None:
    heard: list[str] = []
    running.follow_signals(lambda: heard.append("hung up"))
    directory = folder.directory()
    (folder.path / DIRECTORY_FILE).write_bytes(own.signed_directory(version=8))
    looking = asyncio.ensure_future(running.renew(folder, directory, 3600))
    os.kill(os.getpid(), signal.SIGHUP)
    await looking
    assert heard == ["hung up"]
    assert running.anew


async def test_a_signal_while_it_stops_to_start_anew_ends_it_for_good(
    running: Running, own: World, folder: IdentityFolder
) -> None:
    await renewed(running, own, folder)
    running.end()
    assert not running.anew


async def test_a_directory_that_comes_while_it_stops_for_a_signal_does_not_start_it_anew(
    running: Running, own: World, folder: IdentityFolder
) -> None:
    running.end()
    await renewed(running, own, folder)
    assert (running.anew, running.why) == (False, "signal")


async def test_a_signal_between_two_runs_ends_the_second(running: Running, own: World, folder: IdentityFolder) -> None:
    await renewed(running, own, folder)
    running.again()
    running.end()
    assert running.ended.is_set()
    assert not running.anew


async def test_after_a_broken_log_nothing_starts_anew(running: Running, own: World, folder: IdentityFolder) -> None:
    await renewed(running, own, folder)
    running.broken(LogBroken("the disk is gone", reason="LOG_BROKEN"))
    assert (running.anew, running.exit_code) == (False, 1)
