"""A broker whose decision log cannot be written says so at once, to operators and to whoever waits, and stops."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.calls import NEVER_SEEN, Person
from tests.integration.conftest import NewWorld
from tests.integration.world import World, events, ready, until

A, B = "port-alder-1", "sequoia-1"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CJIS_FIELDS = {"at", "requester", "beneficiary", "purpose", "act", "window", "commitments", "received_from"}
TO_THE_MILLISECOND = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> World:
    """A broker and two nodes, which as its witnesses are a quorum, and it releases."""
    world = new_world()
    world.start(A, B)
    return world


@contextmanager
def failing_syncs(pid: int, trace: Path) -> Iterator[None]:
    """Every further fsync of the process fails."""
    inject = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"]
    command = ["strace", "-f", "-qq", "-y", "-o", str(trace), *inject, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: _traced(pid) or process.poll() is not None, "strace is attached")
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.skip(f"processes cannot be traced here: {process.stderr.read().strip()[-80:]}")
            yield
        finally:
            process.terminate()


def _traced(pid: int) -> bool:
    """True if every thread of the process is traced."""
    for thread in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has ended writes nothing any more
            if "\nTracerPid:\t0\n" in thread.read_text():
                return False
    return True


def test_an_inquiry_and_its_decision_hold_who_what_why_where_and_when_to_the_millisecond(world: World) -> None:
    person = Person.of(world)
    assert person.search(person.ask(A, plate=NEVER_SEEN)).kinds == {A: "no_match"}
    (inquiry,) = world.entries(world.broker, "inquiry")[-1:]
    assert inquiry.keys() >= CJIS_FIELDS
    assert inquiry["requester"].keys() == {"agency", "person", "role"}
    assert all(inquiry["requester"].values())
    (decision,) = world.entries(world.broker, "decision", inquiry_id=inquiry["inquiry_id"])
    assert decision.keys() >= {"node", "effect", "rules", "obligations", "policy_digest", "reason_code"}
    (outcome,) = world.entries(world.broker, "outcome", inquiry_id=inquiry["inquiry_id"])
    assert (outcome["outcome"], outcome["count"]) == ("no_match", 0)
    times = [e["at"] for e in (inquiry, decision, outcome)] + [inquiry["issued_at"], *inquiry["window"].values()]
    assert all(TO_THE_MILLISECOND.fullmatch(t) for t in times)
    assert times[:3] == sorted(times[:3])
    assert any(not t.endswith(".000Z") for t in times[:3]) or times[0] != times[2]


@pytest.mark.skipif(shutil.which("strace") is None, reason="processes cannot be traced here: strace is not installed")
def test_a_failed_fsync_turns_health_off_at_once_and_ends_the_broker_without_another_try(
    world: World, tmp_path: Path
) -> None:
    person = Person.of(world)
    pid = world.broker.pid
    assert pid is not None
    before = world.size(world.broker)
    address = tomllib.loads((world.broker.state / "broker.toml").read_text())["admin"]
    seen: list[int] = []
    with grpc.insecure_channel(address) as channel, failing_syncs(pid, tmp_path / "trace"):
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=600)
        seen.append(next(watched).status)
        told = person.search(person.ask(A, plate=NEVER_SEEN))
        assert (told.code, told.reason, told.events) == ("UNAVAILABLE", "LOG_BROKEN", ())
        seen.append(next(watched).status)
        until(world.broker.ended, "the broker stopped by itself")
    assert seen == [health_pb2.HealthCheckResponse.SERVING, NOT_SERVING]
    assert world.broker._process.returncode == 1
    (said,) = events(world.broker, "the decision log is broken")
    assert (said["level"], said["reason"]) == ("critical", "LOG_BROKEN")
    failed = [line for line in (tmp_path / "trace").read_text().splitlines() if "log.db" in line and "EIO" in line]
    assert len(failed) == 1, "it was not tried again"
    world.broker.start()
    ready(world.broker, "serving")
    assert world.size(world.broker) >= before, "nothing that was acknowledged is gone"
    assert world.faults(world.broker) == {}
