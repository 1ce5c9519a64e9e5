"""A node takes in the reads of a whole county while it is searched: 1,400 a second, for an hour when there is time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from comity import instants
from comity.purpose import Act
from comity.query import AreaQuery, PatternQuery
from comity.v1 import ingest_service_pb2 as pb2
from comity.v1 import ingest_service_pb2_grpc
from identity.folder import IdentityFolder
from identity.tls import client_credentials
from tests.integration.calls import Person, comity
from tests.integration.conftest import INGEST_NODE, NewWorld
from tests.integration.test_ingest import AGENCY, camera
from tests.integration.world import World

READS_PER_S, CAMERAS, BATCH = 1_400, 10, 35
# A camera's buffer: so many batches may be on their way.
UNACKNOWLEDGED = 8
PLATES = 300_000
SEARCH_EVERY_S = 2.0
HOUR_S, SLICE_S = 3_600, 6


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one camera was told. `lags` are seconds from when a batch was due to its acknowledgement."""

    accepted: int = 0
    others: int = 0
    lags: list[float] = field(default_factory=list)
    last: str = ""


def plate_of(rng: random.Random) -> str:
    """One of so many plates, the first of them far more often than the last."""
    number = int(PLATES * rng.random() ** 3)
    letters = "".join(chr(65 + number // 26**i % 26) for i in range(3))
    return f"{number % 9 + 1}{letters}{number % 1_000:03d}"


def record(plate: str, name: str, number: int) -> bytes:
    return orjson.dumps(
        {
            "data_type": "alpr_results",
            "version": 2,
            "uuid": f"{name}-{number}",
            "camera_id": name,
            "epoch_time": instants.to_ms(instants.now()),
            "results": [{"plate": plate, "confidence": 93.5, "region": "us-ca"}],
        }
    )


def pump(world: World, folder: IdentityFolder, name: str, tally: Tally, begin: float, batches: int) -> None:
    """Send one camera's batches, each when it is due, and count what is acknowledged."""
    rng, numbers = random.Random(name), count()
    due = [begin + i * BATCH * CAMERAS / READS_PER_S for i in range(batches)]
    sent: list[str] = []
    buffer = threading.Semaphore(UNACKNOWLEDGED)
    clock = threading.Event()

    def requests() -> Iterator[pb2.IngestRequest]:
        for sequence, at in enumerate(due, 1):
            clock.wait(max(0.0, at - time.monotonic()))
            buffer.acquire()
            plates = [plate_of(rng) for _ in range(BATCH)]
            sent.append(plates[0])
            yield pb2.IngestRequest(
                sequence=sequence,
                format=pb2.RECORD_FORMAT_OPENALPR,
                records=[record(p, name, next(numbers)) for p in plates],
            )

    credentials = client_credentials(folder, roots=world.directory.authorities_of(AGENCY))
    with grpc.secure_channel(world.ingest_address, credentials) as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        for response in stub.Ingest(requests()):
            tally.lags.append(time.monotonic() - due[response.sequence - 1])
            tally.accepted += response.accepted
            tally.others += response.duplicates + len(response.rejected)
            tally.last = sent[response.sequence - 1]
            buffer.release()


def rows(world: World) -> int:
    """Every detection that the node's store holds."""
    printed = comity("node", "status", str(world.nodes[INGEST_NODE].state), "--json")
    assert printed.code == 0, printed.err
    return sum(int(part["rows"]) for part in printed.lines[0]["parts"])


def searched(world: World, tallies: Sequence[Tally], over: threading.Event) -> list[tuple[float, str]]:
    """Seconds and outcome of each search until `over`: of what was last acknowledged, in turn by every kind."""
    person = Person.of(world)
    got: list[tuple[float, str]] = []
    for number in count():
        if over.wait(SEARCH_EVERY_S):
            return got
        plate = tallies[number % CAMERAS].last
        if not plate:
            continue
        changes = KINDS[number % len(KINDS)](plate)
        began = time.monotonic()
        outcome = person.search(person.ask(INGEST_NODE, plate=plate, days=0.01, **changes), deadline_s=110).kinds.get(
            INGEST_NODE, ""
        )
        got.append((time.monotonic() - began, outcome))
    raise AssertionError


KINDS: Sequence[Callable[[str], dict[str, Any]]] = (
    lambda _: {},
    lambda _: {"act": Act.CONFUSABLE},
    lambda plate: {"act": Act.PARTIAL, "query": PatternQuery.parse(f"{plate[:5]}*", "CA")},
    lambda _: {"act": Act.AREA, "query": AreaQuery.parse(circle=None, camera=camera_id(0))},
)


def camera_id(number: int) -> str:
    return f"sq-9{number:02d}"


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(SLICE_S, id="for some seconds"),
        pytest.param(HOUR_S, id="for an hour", marks=[pytest.mark.soak, pytest.mark.timeout(2 * HOUR_S)]),
    ],
)
def test_every_read_of_a_county_is_kept_and_found_while_it_comes_in(
    new_world: NewWorld, tmp_path: Path, seconds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world = new_world(ingest=INGEST_NODE, broker_keys={"person_per_day": 100_000})
    world.start(INGEST_NODE, "port-alder-1")  # two witnesses: a quorum
    before = rows(world)
    names = [camera_id(n) for n in range(CAMERAS)]
    folders = [camera(world, tmp_path / name, f"spiffe://{AGENCY}/camera/{name}") for name in names]
    batches = seconds * READS_PER_S // (BATCH * CAMERAS)
    tallies, over = [Tally() for _ in names], threading.Event()
    with ThreadPoolExecutor(CAMERAS + 1) as pool:
        begin = time.monotonic() + 0.5
        pumps = [
            pool.submit(pump, world, folder, name, tally, begin + i * BATCH / READS_PER_S, batches)
            for i, (folder, name, tally) in enumerate(zip(folders, names, tallies, strict=True))
        ]
        searches = pool.submit(searched, world, tallies, over)
        try:
            for future in pumps:
                future.result()
        finally:
            over.set()
        took = time.monotonic() - begin
        answers = searches.result()
    sent = batches * BATCH * CAMERAS
    assert [(t.accepted, t.others) for t in tallies] == [(batches * BATCH, 0)] * CAMERAS
    assert rows(world) == before + sent
    assert {outcome for _, outcome in answers} <= {"match", "partial_coverage"}
    assert answers
    assert world.faults(world.broker, world.nodes[INGEST_NODE]) == {}
    with capsys.disabled():
        print(f"\n{sent:,} reads in {took:,.1f} s ({sent / took:,.0f}/s), {len(answers):,} searches")
        for what, values in (
            ("acknowledged", [lag for t in tallies for lag in t.lags]),
            ("searched", [a for a, _ in answers]),
        ):
            shown = ", ".join(f"{name} {1000 * v:,.0f} ms" for name, v in percentiles(values).items())
            print(f"{what}: {shown}")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "longest": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}
