"""What every detection store does, whatever holds the rows."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from comity.detection import Detection, MatchClass
from comity.errors import InvalidInput
from comity.plate import Plate
from node.store.interface import Added, DetectionStore, Purged, StoreError
from node.store.postgres import PostgresStore
from node.store.postgres_address import PostgresAddress, schema_of
from node.store.postgres_keep import Keeper
from node.store.postgres_pool import connect
from node.store.sqlite import SqliteStore
from tests.postgres_server import PostgresServer
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

PLATE = Plate(number="7ABC123", state="CA")
EARLY, LATE = ago(YEAR_S - 60), NOW + dt.timedelta(minutes=10)


class Opener(Protocol):
    """Opens the store of one test, again after it was closed."""

    def __call__(
        self, retention_s: int = YEAR_S, clock: Callable[[], dt.datetime] = clock
    ) -> DetectionStore: ...  # pragma: no cover


def _sqlite(folder: Path) -> Opener:
    SqliteStore.create(folder / "store")

    def opened(retention_s: int = YEAR_S, clock: Callable[[], dt.datetime] = clock) -> DetectionStore:
        return SqliteStore.open(folder / "store", retention_s=retention_s, clock=clock)

    return opened


class SealedAtOnce(SqliteStore):
    """Every batch goes through a hot segment into sealed and merged parts before it is asked for."""

    def add(self, batch: Sequence[Detection]) -> Added:
        added = super().add(batch)
        self.sealer.run()
        return added


def _sealed(folder: Path) -> Opener:
    SealedAtOnce.create(folder / "store")

    def opened(retention_s: int = YEAR_S, clock: Callable[[], dt.datetime] = clock) -> DetectionStore:
        return SealedAtOnce.open(folder / "store", retention_s=retention_s, clock=clock, max_hot_rows=1)

    return opened


class ListedAtOnce(PostgresStore):
    """Every batch is in a closed month, with a dictionary, before it is asked for."""

    def add(self, batch: Sequence[Detection]) -> Added:
        added = super().add(batch)
        Keeper(self.pool, clock=lambda: NOW + dt.timedelta(days=400)).run()
        return added


@contextlib.contextmanager
def _postgres(server: PostgresServer, kind: type[PostgresStore]) -> Iterator[Opener]:
    address = PostgresAddress.parse(server.url, password=server.password)
    node = f"t-{uuid.uuid4().hex[:12]}"
    kind.create(address, agency="alder", node=node, now=NOW)

    def opened(retention_s: int = YEAR_S, clock: Callable[[], dt.datetime] = clock) -> DetectionStore:
        return kind.open(address, agency="alder", node=node, retention_s=retention_s, clock=clock)

    try:
        yield opened
    finally:
        with connect(address, "public") as connection:
            connection.execute(f'DROP SCHEMA "{schema_of(node)}" CASCADE'.encode())


STORES = (
    pytest.param(_sqlite, id="sqlite"),
    pytest.param(_sealed, id="sqlite, sealed at once"),
    pytest.param(PostgresStore, id="postgresql"),
)
LISTED = pytest.param(ListedAtOnce, id="postgresql, listed at once")


@contextlib.contextmanager
def opening(request: pytest.FixtureRequest, folder: Path) -> Iterator[Opener]:
    """The opener that one of STORES, or LISTED, stands for."""
    if isinstance(request.param, type):
        with _postgres(request.getfixturevalue("postgres_server"), request.param) as opened:
            yield opened
        return
    make: Callable[[Path], Opener] = request.param
    yield make(folder)


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    with opening(request, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(opener: Opener) -> Iterator[DetectionStore]:
    store = opener()
    yield store
    store.close()


def seconds(
    store: DetectionStore, begin: dt.datetime = EARLY, end: dt.datetime = LATE, limit: int = 100
) -> list[float]:
    """How long before NOW the exact matches of PLATE are."""
    found = store.exact(PLATE, begin, end, limit)
    return [(NOW - m.detection.captured_at).total_seconds() for m in found]


def test_what_was_added_comes_back_whole(store: DetectionStore) -> None:
    bare = detection(
        seconds=90, latitude_e7=None, longitude_e7=None, confidence_permille=None, image="", make="", colour=""
    )
    store.add([detection(), bare])
    assert [m.detection for m in store.exact(PLATE, EARLY, LATE, 10)] == [detection(), bare]


def test_the_same_detection_is_stored_once_in_one_batch_and_over_batches(store: DetectionStore) -> None:
    assert store.add([detection(), detection(), detection(seconds=70)]) == Added(accepted=2, duplicates=1)
    assert store.add([detection(), detection(seconds=80)]) == Added(accepted=1, duplicates=1)
    assert store.count() == 3


def test_a_used_id_hides_no_other_read(store: DetectionStore) -> None:
    batch = [detection(source_id="x"), detection(source_id="x", seconds=61), detection("8XYZ999", source_id="x")]
    assert store.add(batch) == Added(accepted=3, duplicates=0)


def test_an_empty_batch_adds_nothing(store: DetectionStore) -> None:
    assert store.add([]) == Added(accepted=0, duplicates=0)


def test_what_was_added_is_there_after_closing_and_opening(opener: Opener) -> None:
    store = opener()
    store.add([detection()])
    store.close()
    store = opener()
    assert seconds(store) == [60]
    store.close()


def test_matches_come_newest_first_and_one_more_than_the_limit(store: DetectionStore) -> None:
    store.add([detection(seconds=s) for s in (50, 10, 40, 20, 30)])
    assert seconds(store, limit=5) == [10, 20, 30, 40, 50]
    assert seconds(store, limit=3) == [10, 20, 30, 40]
    found = store.confusable(PLATE, EARLY, LATE, 2)
    assert [m.detection.captured_at for m in found] == [ago(10), ago(20), ago(30)]


def test_a_window_holds_its_beginning_and_not_its_end(store: DetectionStore) -> None:
    store.add([detection(seconds=s) for s in (10, 20, 30)])
    assert seconds(store, ago(20), ago(10)) == [20]
    assert seconds(store, ago(20) + dt.timedelta(microseconds=1), ago(10)) == []
    assert seconds(store, ago(20), ago(10) + dt.timedelta(microseconds=1)) == [10, 20]


def test_exact_tells_a_state_that_was_not_read_from_the_one_asked_for(store: DetectionStore) -> None:
    store.add([detection(state=s, seconds=i) for i, s in ((10, "CA"), (20, ""), (30, "NV"))])
    found = [(m.detection.plate.state, m.match_class) for m in store.exact(PLATE, EARLY, LATE, 10)]
    assert found == [("CA", MatchClass.EXACT), ("", MatchClass.PARTIAL)]


def test_exact_does_not_return_what_only_looks_alike(store: DetectionStore) -> None:
    store.add([detection("7A8C123"), detection("7ABCI23"), detection("7ABC12")])
    assert seconds(store) == []


@pytest.mark.parametrize(
    "read",
    [
        pytest.param("7A8C123", id="folded: B read as 8"),
        pytest.param("7ABCLZ3", id="two folded: 1 as L and 2 as Z"),
        pytest.param("74BC123", id="A read as 4"),
        pytest.param("ZABC123", id="7 read as Z"),
        pytest.param("7ABC127", id="3 read as 7"),
        pytest.param("7ABC12", id="the last character lost"),
        pytest.param("7ABC1123", id="a character too many"),
        pytest.param("7A8CI2E", id="two folded and one further pair"),
    ],
)
def test_confusable_finds_what_a_camera_may_have_read(store: DetectionStore, read: str) -> None:
    store.add([detection(read, "NV")])
    [match] = store.confusable(PLATE, EARLY, LATE, 10)
    assert (match.detection.plate.number, match.match_class) == (read, MatchClass.CONFUSABLE)


def test_confusable_calls_only_the_same_number_and_state_exact(store: DetectionStore) -> None:
    store.add([detection(state=s, seconds=i) for i, s in ((10, "CA"), (20, ""), (30, "NV"))])
    found = [m.match_class for m in store.confusable(PLATE, EARLY, LATE, 10)]
    assert found == [MatchClass.EXACT, MatchClass.CONFUSABLE, MatchClass.CONFUSABLE]


def test_confusable_leaves_out_what_no_camera_takes_for_it(store: DetectionStore) -> None:
    store.add([detection(n) for n in ("7ABC199", "7AXC123", "7BAC123", "7AB123C", "ABC12")])
    assert store.confusable(PLATE, EARLY, LATE, 10) == []


@pytest.mark.parametrize(
    ("plate", "begin", "end", "limit"),
    [
        pytest.param(PLATE, NOW, NOW, 10, id="an empty window"),
        pytest.param(PLATE, NOW, ago(1), 10, id="a window backwards"),
        pytest.param(PLATE, EARLY, NOW, 0, id="no limit"),
        pytest.param(PLATE, EARLY, NOW, 10_001, id="a limit too great"),
        pytest.param(Plate(number="7ABC123", state=""), EARLY, NOW, 10, id="no state"),
    ],
)
def test_an_impossible_search_is_refused_and_not_answered_with_nothing(
    store: DetectionStore, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int
) -> None:
    for search in (store.exact, store.confusable):
        with pytest.raises(InvalidInput):
            search(plate, begin, end, limit)


def test_an_expired_row_is_never_returned_though_it_is_still_held(opener: Opener) -> None:
    store = opener(retention_s=180)
    store.add([detection(seconds=s) for s in (179, 180, 181)])
    assert (seconds(store), store.count()) == ([179, 180], 3)
    assert len(store.confusable(PLATE, EARLY, LATE, 10)) == 2
    assert store.horizon() == ago(180)
    store.close()


def test_rows_expire_as_the_clock_goes_on(opener: Opener) -> None:
    now = [NOW]
    store = opener(retention_s=180, clock=lambda: now[0])
    store.add([detection(seconds=100)])
    assert seconds(store) == [100]
    now[0] += dt.timedelta(seconds=81)
    assert seconds(store) == []
    store.close()


def test_a_purge_takes_what_is_older_and_says_what_it_took(store: DetectionStore) -> None:
    store.add([detection(seconds=s) for s in (10, 20, 30, 40)])
    assert store.purge(ago(20)) == Purged(rows=2, oldest=ago(40), newest=ago(30))
    assert store.purge(ago(20)) == Purged(rows=0, oldest=None, newest=None)
    assert seconds(store) == [10, 20]


def test_what_was_purged_stays_uncovered_though_the_clock_is_set_back(opener: Opener) -> None:
    now = [NOW]
    store = opener(retention_s=86_400, clock=lambda: now[0])
    store.add([detection(seconds=s) for s in (10, 3600)])
    now[0] += dt.timedelta(days=1)
    assert store.purge(now[0] - dt.timedelta(days=1)).rows == 2
    now[0] = NOW
    assert store.horizon() >= NOW
    store.close()


def test_a_store_without_class_rules_has_no_gap(store: DetectionStore) -> None:
    store.add([detection()])
    assert store.gaps(EARLY, LATE) == ()


def test_oldest_newest_and_count_speak_of_all_rows_held(store: DetectionStore) -> None:
    assert (store.oldest(), store.newest(), store.count()) == (None, None, 0)
    store.add([detection(seconds=s) for s in (10, 20, 30)])
    assert (store.oldest(), store.newest(), store.count()) == (ago(30), ago(10), 3)


def test_a_closed_store_fails_and_never_finds_nothing(opener: Opener) -> None:
    store = opener()
    store.close()
    store.close()
    for call in (
        lambda: store.exact(PLATE, EARLY, LATE, 10),
        lambda: store.confusable(PLATE, EARLY, LATE, 10),
        lambda: store.add([detection()]),
        lambda: store.purge(NOW),
        store.count,
        store.oldest,
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.reason == "STORE_CLOSED"


def test_searches_and_ingest_from_several_threads_lose_nothing(store: DetectionStore) -> None:
    failures: list[BaseException] = []

    def add(first: int) -> None:
        try:
            for i in range(20):
                # Cameras new to every batch make threads race for the same words too.
                store.add([detection(seconds=1 + first * 1000 + i, camera=f"c-{i}")])
        except BaseException as e:
            failures.append(e)

    def search() -> None:
        try:
            for _ in range(40):
                assert len(store.exact(PLATE, EARLY, LATE, 1000)) <= 80
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = store.exact(PLATE, EARLY, LATE, 1000)
    assert len(found) == 80
    assert {m.detection.camera for m in found} == {f"c-{i}" for i in range(20)}
