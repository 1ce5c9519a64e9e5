"""Intake: what the configuration asks for is started, counted, purged and stopped, and nothing else."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comity import instants
from comity.errors import ConfigError
from node.config import NodeConfig
from node.counters import Counters, read
from node.images import Images
from node.ingest import Ingester
from node.intake import IMAGES_FOLDER, Intake
from node.store.sqlite import SqliteStore
from tests.unit.identity.world import ALDER, World, name
from tests.unit.node.samples import JPEG, NOW, YEAR_S, ago, clock, encode, group

Open = Callable[..., Intake]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


@pytest.fixture
def open_(store: SqliteStore, tmp_path: Path) -> Open:
    own = World.make(tmp_path / "world", instants.now())
    counters = Counters(tmp_path / "counters.json")

    def opened(**keys: Any) -> Intake:
        return Intake.open(
            tmp_path,
            NodeConfig(identity=tmp_path, brokers=("b:1",), **keys),
            folder=own.folder(own.alder, name(ALDER, "node", "alder-1")),
            directory=own.directory(),
            agency=ALDER,
            ingester=Ingester(store, tmp_path / "set-aside", clock, source="police", counters=counters),
            counters=counters,
            clock=clock,
        )

    return opened


async def test_a_file_that_is_written_into_the_watched_folder_is_kept_and_counted(
    open_: Open, store: SqliteStore, tmp_path: Path
) -> None:
    done = tmp_path / "in" / "done" / "a.jsonl"
    (tmp_path / "in").mkdir()
    intake = open_(watch="in", watch_every_s=0.02, webhook="127.0.0.1:0")
    await intake.start()
    (tmp_path / "in" / "a.jsonl").write_bytes(encode(group()) + b"\n")
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(done.exists):  # noqa: ASYNC110 - a folder tells nobody
            await asyncio.sleep(0.02)
    await intake.stop()
    assert store.count() == 1
    assert read(tmp_path / "counters.json")["watch"]["accepted"] == 1


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        pytest.param({"watch": "gone"}, "NO_WATCH_FOLDER", id="a folder that is not there"),
        pytest.param({"webhook": "127.0.0.1:0", "webhook_tokens": "gone"}, "FILE_UNREADABLE", id="a token file"),
    ],
)
def test_a_node_does_not_begin_to_serve_without(open_: Open, keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_(**keys)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("own_s", "kept"),
    [
        pytest.param(300, False, id="go with their own retention"),
        pytest.param(900, True, id="stay within it"),
        pytest.param(10**9, True, id="stay no longer than detections do"),
    ],
)
def test_pictures(open_: Open, tmp_path: Path, own_s: int, kept: bool) -> None:
    images = Images(tmp_path / IMAGES_FOLDER)
    images.keep([(JPEG, ago(600)), (JPEG + b"old", ago(7200))])
    open_(image_retention_s=own_s).purge(NOW, NOW - dt.timedelta(hours=1))
    left = list((tmp_path / IMAGES_FOLDER).rglob("*.jpg"))
    assert len(left) == kept
