"""Appending: durable and contiguous or refused, each refusal with its own reason, and never again once broken."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from audit.entry import Draft
from audit.log import MAX_CALL, AlreadyRecorded, Appended, DecisionLog
from audit.read import LogReader
from audit.store import LogFiles
from audit.tree import EMPTY_ROOT, Tree, leaf_hash
from audit.verify import verify
from comity.errors import Exhausted, InvalidInput, LogBroken, LogFault, Unavailable
from tests.unit.audit.sample import (
    ORIGIN,
    START,
    FailingStore,
    HandClock,
    StalledStore,
    decided,
    opened,
    reopened,
    tamper,
    unsigned,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty log, closed."""
    DecisionLog.create(tmp_path, origin=ORIGIN, clock=HandClock()).close()
    return tmp_path


async def test_the_entries_of_one_call_are_contiguous_hashed_and_under_the_head(folder: Path) -> None:
    with reopened(folder) as log:
        await log.append([START])
        draft = unsigned()
        done = await log.append([draft, decided(draft, "alder-1"), decided(draft, "brazos-1")])
        assert done.first_index == 1
        assert done.leaf_hashes == tuple(map(leaf_hash, done.entries))
        assert log.entries(1, 4) == list(done.entries)
        assert log.head == done.head
        assert done.head.root == Tree(map(leaf_hash, log.entries(0, 4))).root()
        assert [json.loads(e)["type"] for e in done.entries] == ["inquiry", "decision", "decision"]


async def test_every_entry_cites_the_newest_durable_head_before_its_commit(folder: Path) -> None:
    with reopened(folder) as log:
        first = await log.append([START])
        second = await log.append([START, START])
        cited = [json.loads(e)["head"] for e in (*first.entries, *second.entries)]
    assert cited[0] == {"size": 0, "root": EMPTY_ROOT.hex()}
    assert cited[1] == cited[2] == {"size": 1, "root": first.head.root.hex()}


async def test_whoever_waits_is_committed_together(folder: Path) -> None:
    store = StalledStore(LogFiles.locate(folder))
    with opened(folder, store, HandClock()) as log:
        first = asyncio.create_task(log.append([START]))
        await asyncio.to_thread(store.reached.wait, 120)
        rest = [asyncio.create_task(log.append([START, START])) for _ in range(50)]
        await asyncio.sleep(0)
        store.let_go.set()
        done = await asyncio.gather(first, *rest)
    assert store.commits == [1, 100]
    assert sorted(d.first_index for d in done) == [0, *range(1, 101, 2)]
    assert {d.head.size for d in done} == {1, 101}


async def test_many_at_once_each_get_their_own_entries_back(folder: Path) -> None:
    drafts = [[unsigned(), START] for _ in range(300)]
    with reopened(folder) as log:
        done = await asyncio.gather(*(log.append(d) for d in drafts))
        for (draft, _), appended in zip(drafts, done, strict=True):
            inquiry_id = draft.body["inquiry_id"]
            assert log.find_inquiry(inquiry_id) == appended.first_index
            assert (
                json.loads(log.entries(appended.first_index, appended.first_index + 1)[0])["inquiry_id"] == inquiry_id
            )
    report = verify(folder)
    assert (report.entries, report.fault) == (600, None)


async def test_an_inquiry_is_recorded_once_and_its_second_call_writes_nothing(folder: Path) -> None:
    draft = unsigned()
    with reopened(folder) as log:
        await log.append([START, draft])
        with pytest.raises(AlreadyRecorded) as refused:
            await log.append([START, draft, decided(draft, "alder-1")])
        assert (refused.value.index, refused.value.reason) == (1, "ALREADY_RECORDED")
        assert log.head.size == 2


async def test_of_two_calls_with_one_inquiry_in_one_commit_the_first_wins(folder: Path) -> None:
    store, draft = StalledStore(LogFiles.locate(folder)), unsigned()
    with opened(folder, store, HandClock()) as log:
        first = asyncio.create_task(log.append([START]))
        await asyncio.to_thread(store.reached.wait, 120)
        both = [asyncio.create_task(log.append([draft])), asyncio.create_task(log.append([START, draft]))]
        third = asyncio.create_task(log.append([START]))
        await asyncio.sleep(0)
        store.let_go.set()
        await first
        won, lost = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(won, Appended)
        assert isinstance(lost, AlreadyRecorded)
        assert lost.index == won.first_index == 1
        assert (await third).first_index == 2


async def test_one_inquiry_twice_in_a_call_is_refused(folder: Path) -> None:
    draft = unsigned()
    with reopened(folder) as log:
        with pytest.raises(AlreadyRecorded):
            await log.append([draft, draft])
        assert log.head.size == 0


async def test_an_oversized_entry_is_refused_with_its_whole_call_and_harms_no_other(folder: Path) -> None:
    body = unsigned().body
    chain = ["A" * 10_000] * 3
    large = Draft("inquiry", body | {"envelope": body["envelope"] | {"signatures": [{"signature": "AAAA", "chain": chain}] * 4}})  # fmt: skip  # noqa: E501
    with reopened(folder) as log:
        done = await asyncio.gather(log.append([START, large]), log.append([START]), return_exceptions=True)
        refused, kept = done
        assert isinstance(refused, InvalidInput)
        assert refused.reason == "ENTRY_TOO_LARGE"
        assert isinstance(kept, Appended)
        assert log.head.size == 1
        assert log.find_inquiry(body["inquiry_id"]) is None


@pytest.mark.parametrize("count", [0, MAX_CALL + 1], ids=["none", "too many"])
async def test_a_call_is_refused_with_drafts_that_are(folder: Path, count: int) -> None:
    with reopened(folder) as log:
        with pytest.raises(InvalidInput) as refused:
            await log.append([START] * count)
        assert refused.value.reason == "BAD_CALL"


async def test_past_the_deadline_a_call_is_refused_and_one_that_had_not_begun_is_never_written(folder: Path) -> None:
    store = StalledStore(LogFiles.locate(folder))
    with opened(folder, store, HandClock()) as log:
        begun = asyncio.create_task(log.append([START]))
        await asyncio.to_thread(store.reached.wait, 120)
        late = unsigned()
        with pytest.raises(Unavailable) as refused:
            await log.append([late], deadline_s=0.01)
        assert refused.value.reason == "LOG_TIMEOUT"
        store.let_go.set()
        await begun
        assert (await log.append([START])).first_index == 1
        assert log.find_inquiry(late.body["inquiry_id"]) is None


async def test_a_cancelled_caller_leaves_the_queue(folder: Path) -> None:
    store = StalledStore(LogFiles.locate(folder))
    with opened(folder, store, HandClock()) as log:
        begun = asyncio.create_task(log.append([START]))
        await asyncio.to_thread(store.reached.wait, 120)
        gone = asyncio.create_task(log.append([START]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.let_go.set()
        await begun
    assert store.commits == [1]


async def test_a_full_queue_refuses_and_takes_again_once_it_is_shorter(folder: Path) -> None:
    store = StalledStore(LogFiles.locate(folder))
    with opened(folder, store, HandClock(), max_waiting=3) as log:
        begun = asyncio.create_task(log.append([START]))
        await asyncio.to_thread(store.reached.wait, 120)
        waiting = asyncio.create_task(log.append([START] * 2))
        await asyncio.sleep(0)
        with pytest.raises(Exhausted) as refused:
            await log.append([START] * 2)
        assert (refused.value.reason, refused.value.retry_after_s) == ("LOG_QUEUE_FULL", 1.0)
        store.let_go.set()
        await asyncio.gather(begun, waiting)
        assert (await log.append([START] * 2)).first_index == 3


ERRORS: dict[str, BaseException] = {
    "an fsync error": sqlite3.OperationalError("disk I/O error"),
    "a full disk": sqlite3.OperationalError("database or disk is full"),
    "an operating system's error": OSError(5, "Input/output error"),
    "a head moved by somebody else": LogFault("moved", reason="HEAD_MOVED"),
    "a fault of the program": RuntimeError("a bug"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_after_one_failed_write_everybody_is_refused_for_ever_though_it_would_succeed(
    folder: Path, error: BaseException
) -> None:
    store = FailingStore(LogFiles.locate(folder))
    told: list[LogBroken] = []
    log = opened(folder, store, HandClock(), on_broken=told.append)
    await log.append([START])
    store.error = error
    failed = await asyncio.gather(*(log.append([START]) for _ in range(5)), return_exceptions=True)
    assert {type(e) for e in failed} == {LogBroken}
    with pytest.raises(LogBroken) as refused:
        await log.append([START])
    assert refused.value.reason == "LOG_BROKEN"
    assert "a bug" not in str(refused.value)
    assert log.broken
    assert [type(e) for e in told] == [LogBroken]
    assert log.head.size == 1
    log.close()


async def test_another_connection_that_moves_the_head_breaks_the_log(folder: Path) -> None:
    log = reopened(folder)
    await log.append([START])
    tamper(folder, "UPDATE head SET size = 0")
    with pytest.raises(LogBroken):
        await log.append([START])
    log.close()


async def test_a_closed_log_refuses(folder: Path) -> None:
    log = reopened(folder)
    log.close()
    with pytest.raises(Unavailable) as refused:
        await log.append([START])
    assert refused.value.reason == "LOG_CLOSED"


async def test_closing_writes_what_waits(folder: Path) -> None:
    store = StalledStore(LogFiles.locate(folder))
    log = opened(folder, store, HandClock())
    calls = [asyncio.create_task(log.append([START])) for _ in range(4)]
    await asyncio.to_thread(store.reached.wait, 120)
    store.let_go.set()
    await asyncio.to_thread(log.close)
    assert sorted([(await c).first_index for c in calls]) == [0, 1, 2, 3]
    with LogReader.open(folder) as reader:
        assert reader.head()[0] == 4


async def test_time_never_goes_back_and_the_entry_says_how_far_the_clock_was_behind(folder: Path) -> None:
    clock = HandClock()
    with reopened(folder, clock) as log:
        written: list[dict[str, Any]] = []
        for move in (0, 5, -3600, 10, 7200, -1):
            clock.move(seconds=move)
            written.append(json.loads((await log.append([START])).entries[0]))
    seen = [(e["at"][11:], e.get("clock_behind_ms")) for e in written]
    assert seen == [
        ("12:00:00.000Z", None),
        ("12:00:05.000Z", None),
        ("12:00:05.000Z", 3_600_000),
        ("12:00:05.000Z", 3_590_000),
        ("13:00:15.000Z", None),
        ("13:00:15.000Z", 1_000),
    ]


async def test_time_does_not_go_back_over_a_restart_either(folder: Path) -> None:
    clock = HandClock()
    with reopened(folder, clock) as log:
        await log.append([START])
    clock.move(minutes=-5)
    with reopened(folder, clock) as log:
        entry = json.loads((await log.append([START])).entries[0])
    assert (entry["at"], entry["clock_behind_ms"]) == ("2030-05-01T12:00:00.000Z", 300_000)
    report = verify(folder)
    assert report.fault is None
    assert any("clock was behind" in w for w in report.warnings)


@pytest.mark.parametrize("year", [1970, 1999, 2100])
async def test_a_clock_that_is_not_set_records_nothing_and_breaks_nothing(folder: Path, year: int) -> None:
    clock = HandClock()
    right = clock.at
    with reopened(folder, clock) as log:
        clock.at = right.replace(year=year)
        with pytest.raises(Unavailable) as refused:
            await log.append([START])
        assert refused.value.reason == "CLOCK_UNUSABLE"
        clock.at = right
        assert (await log.append([START])).first_index == 0
