"""The stores in files and in a database find the same, in the same order, whatever is in them and asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comity.detection import Detection, Match
from comity.plate import Plate
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery
from node.store.interface import DetectionStore
from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_keep import Keeper
from node.store.postgres_pool import connect
from node.store.rules import parse_rules
from node.store.sqlite import SqliteStore
from tests.contract.test_detection_store import EARLY, LATE, SealedAtOnce
from tests.postgres_server import PostgresServer
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

DAY_S = 86_400
RULES = parse_rules(["source:toll=2592000", "camera:c-3=86400"])
Stores = tuple[DetectionStore, ...]
LONGITUDES = (-1_222_412_345, 1_799_999_000, -1_799_999_000)  # on both sides of the line where a day begins, too


def some_reads(rng: random.Random, count: int) -> list[Detection]:
    """Reads of few plates and cameras, so that much is alike: look-alikes, one id twice, one instant twice."""
    plates = ["7ABC123", "7A8C123", "7ABCI23", "8XYZ999", "5DEF555", *(f"{n}GHJ77{n}" for n in range(1, 6))]
    return [
        detection(
            rng.choice(plates),
            rng.choice(("CA", "NV", "")),
            rng.choice((rng.randrange(1, 100 * DAY_S), 500, DAY_S * 40)),
            camera=f"c-{rng.randrange(6)}",
            source=rng.choice(("police", "toll")),
            source_id=str(rng.randrange(count)),
            longitude_e7=rng.choice(LONGITUDES) + rng.randrange(1_000),
        )
        for _ in range(count)
    ]


@pytest.fixture
def stores(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Stores]:
    """Alike in three forms: growing files, sealed parts, and a database."""
    address = PostgresAddress.parse(postgres_server.url, password=postgres_server.password)
    made: list[DetectionStore] = []
    for kind, name in ((SqliteStore, "hot"), (SealedAtOnce, "sealed")):
        kind.create(tmp_path / name)
        made.append(kind.open(tmp_path / name, retention_s=YEAR_S, clock=clock, rules=RULES))
    PostgresStore.create(address, agency="alder", node="t-agreement", now=NOW)
    database = PostgresStore.open(
        address, agency="alder", node="t-agreement", retention_s=YEAR_S, clock=clock, rules=RULES
    )
    made.append(database)
    rng = random.Random(7)
    for _ in range(4):
        batch = some_reads(rng, 150)
        assert len({(s.add(batch).accepted) for s in made}) == 1
        Keeper(database.pool, clock=clock).run()
    yield tuple(made)
    for store in made:
        store.close()
    with connect(address, "public") as connection:
        connection.execute(f'DROP SCHEMA "{schema_of("t-agreement")}" CASCADE'.encode())


def asked(rng: random.Random) -> dict[str, Callable[[DetectionStore], object]]:
    """One search of each kind, and what a node asks besides."""
    begin, end = sorted((ago(rng.randrange(100 * DAY_S)), ago(rng.randrange(100 * DAY_S))))
    begin, end = rng.choice(((EARLY, LATE), (begin, end)))
    plate, limit = Plate(number=rng.choice(("7ABC123", "8XYZ999", "1GHJ771")), state="CA"), rng.choice((3, 500))
    pattern = PatternQuery.parse(rng.choice(("7AB*", "*BC1*", "?G?J77*", "*YZ9*", "7?B?12?")), rng.choice(("", "CA")))
    circle = Circle(latitude_e7=377_912_345, longitude_e7=rng.choice(LONGITUDES), radius_m=rng.choice((10, 5_000)))
    convoy = ConvoyQuery.parse(plate.number, "CA", within_s=rng.choice((5, 300)), cameras=2)

    def together(store: DetectionStore) -> list[Match]:
        own = [m.detection for m in store.exact(plate, begin, end, 500)]
        return store.convoy(convoy, own, begin, end, limit)

    return {
        "exact": lambda s: s.exact(plate, begin, end, limit),
        "confusable": lambda s: s.confusable(plate, begin, end, limit),
        "partial": lambda s: s.partial(pattern, begin, end, limit),
        "camera": lambda s: s.area(AreaQuery.parse(camera="c-2"), begin, end, limit),
        "circle": lambda s: s.area(AreaQuery.parse(circle=circle), begin, end, limit),
        "convoy": together,
        "unplaced": lambda s: s.unplaced(begin, end),
        "gaps": lambda s: s.gaps(begin, end),
        "bounds": lambda s: (s.horizon(), s.oldest(), s.newest(), s.count()),
    }


def in_order(found: object) -> object:
    """What was found; reads of one instant and one id come in no order, and of those a limit takes any."""
    if not isinstance(found, list):
        return found
    times = [(m.detection.captured_at, m.detection.uid) for m in found]
    assert times == sorted(times, reverse=True)
    last = times[-1:]
    whole = [m for m in found if [(m.detection.captured_at, m.detection.uid)] != last]
    return times, sorted(whole, key=repr_of)


def repr_of(match: Match) -> str:
    return f"{match}{match.detection.plate}"


def test_every_kind_of_search_finds_the_same_in_every_store(stores: Stores) -> None:
    rng, found = random.Random(8), 0
    for _ in range(25):
        for kind, ask in asked(rng).items():
            first, *others = (in_order(ask(store)) for store in stores)
            assert all(other == first for other in others), kind
            found += len(first[0]) if isinstance(first, tuple) and kind in ("exact", "camera") else 0
    assert found > 200
    assert len({s.purge(ago(35 * DAY_S)).rows for s in stores}) == 1
    assert len({(s.count(), s.horizon(), s.gaps(EARLY, LATE)) for s in stores}) == 1
