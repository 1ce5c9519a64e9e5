"""`comity node copy`: whatever kills it, in the end both stores hold the same rows, and it says so only then."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import pytest

from comity.detection import Detection
from comity.errors import ComityError
from comity.instants import to_ms
from node.copying import FILE, Copying
from node.store.choose import StoreAt
from node.store.months import Month
from node.store.moving import Movable, Raw
from node.store.postgres_address import schema_of
from node.store.postgres_pool import Connection, connect
from node.store.sqlite import SqliteStore
from tests.postgres_server import PostgresServer
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

NODE = "t-copying"
WHO = {"agency": "alder", "node": NODE}
DAY_S = 86_400


class Cut(Exception):
    """What ends a copy at some row, as a kill would."""


class CutShort:
    """A store that breaks once so many of its rows were read."""

    def __init__(self, store: Movable, rows: int) -> None:
        self._store = store
        self._left = rows
        self.alone, self.months, self.count = store.alone, store.months, store.count
        self.fill, self.marks, self.take, self.close = store.fill, store.marks, store.take, store.close

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        for row in self._store.sorted_rows(month):
            if not self._left:
                raise Cut
            self._left -= 1
            yield row


def batch(rng: random.Random, count: int) -> list[Detection]:
    """Reads of the last 100 days, some without a state or a place."""
    return [
        detection(
            f"{rng.randrange(1, 10)}ABC{rng.randrange(100, 1000)}",
            rng.choice(("CA", "NV", "")),
            rng.randrange(1, 100 * DAY_S),
            camera=f"c-{rng.randrange(5)}",
            **rng.choice(({}, {"latitude_e7": None, "longitude_e7": None}, {"make": "", "image": ""})),
        )
        for _ in range(count)
    ]


@pytest.fixture
def at(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Callable[[str], StoreAt]]:
    """Stores by a short name: one, two in files, server in the database."""
    (tmp_path / "password").write_text(postgres_server.password)
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "url").write_text(postgres_server.url)
    urls = {"one": "sqlite:one", "two": "sqlite:two", "server": postgres_server.url}

    def parsed(name: str) -> StoreAt:
        at = StoreAt.parse(urls[name], tmp_path, password_file="password" if postgres_server.password else "")
        at.create(**WHO, now=NOW)
        return at

    yield parsed
    emptied(parsed("server"))


def moving(at: StoreAt) -> Movable:
    return at.moving(**WHO, retention_s=YEAR_S, clock=clock)


def added(at: StoreAt, rows: Iterable[Detection]) -> None:
    store = at.open(agency="alder", node=NODE, retention_s=YEAR_S, clock=clock)
    store.add(list(rows))
    store.close()


def quiet(what: str, more: int) -> None: ...


def copied(state: Path, one: StoreAt, other: StoreAt, *, rows: int = -1) -> tuple[int, bool]:
    """How many rows are alike now, and whether it went on; cut after reading `rows` of them."""
    source, target = moving(one), moving(other)
    try:
        cut = CutShort(source, rows) if rows >= 0 else source
        report = Copying(state, one.words, other.words, quiet).run(cut, target)
    finally:
        source.close()
        target.close()
    return report.rows, report.resumed


def all_rows(at: StoreAt) -> list[Raw]:
    store = moving(at)
    found = [row for month in store.months() for row in store.sorted_rows(month)]
    store.close()
    return found


@pytest.mark.parametrize(("one", "other"), [("one", "server"), ("server", "one"), ("one", "two")])
def test_every_row_is_copied_once_and_both_are_compared(
    at: Callable[[str], StoreAt], tmp_path: Path, one: str, other: str
) -> None:
    source, target = at(one), at(other)
    rows = batch(random.Random(1), 400)
    added(source, rows)
    distinct = len({(d.plate.skeleton, d.captured_at, d.uid) for d in rows})
    assert copied(tmp_path, source, target) == (distinct, False)
    assert all_rows(source) == all_rows(target)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(("one", "other"), [("one", "server"), ("server", "one")])
@pytest.mark.parametrize("seed", [pytest.param(s, id=f"cut at random, seed {s}") for s in range(3)])
def test_a_copy_that_was_cut_short_goes_on(
    at: Callable[[str], StoreAt], tmp_path: Path, one: str, other: str, seed: int
) -> None:
    rng = random.Random(seed)
    source, target = at(one), at(other)
    added(source, batch(rng, 300))
    with pytest.raises(Cut):
        copied(tmp_path, source, target, rows=rng.randrange(300))
    assert "ABC" not in (tmp_path / FILE).read_text()
    rows, resumed = copied(tmp_path, source, target)
    assert (rows, resumed) == (len(all_rows(source)), True)
    assert all_rows(source) == all_rows(target)


def test_what_was_purged_from_the_one_is_uncovered_in_the_other(at: Callable[[str], StoreAt], tmp_path: Path) -> None:
    source, target = at("one"), at("server")
    added(source, [detection(seconds=s) for s in (10, 50 * DAY_S)])
    store = source.open(agency="alder", node=NODE, retention_s=YEAR_S, clock=clock)
    store.purge(ago(40 * DAY_S))
    store.close()
    copied(tmp_path, source, target)
    store = target.open(agency="alder", node=NODE, retention_s=YEAR_S, clock=clock)
    assert (store.horizon(), store.count()) == (ago(40 * DAY_S), 1)
    store.close()


def test_a_copy_goes_only_where_nothing_is(at: Callable[[str], StoreAt], tmp_path: Path) -> None:
    source, target = at("one"), at("server")
    added(source, [detection()])
    added(target, [detection("8XYZ999")])
    with pytest.raises(ComityError) as e:
        copied(tmp_path, source, target)
    assert e.value.reason == "TARGET_NOT_EMPTY"


def test_a_copy_that_was_begun_is_not_mixed_with_another(at: Callable[[str], StoreAt], tmp_path: Path) -> None:
    source = at("one")
    added(source, [detection()])
    with pytest.raises(Cut):
        copied(tmp_path, source, at("server"), rows=0)
    with pytest.raises(ComityError) as e:
        copied(tmp_path, source, at("two"))
    assert e.value.reason == "COPY_UNDER_WAY"


class Late(CutShort):
    """A store to which a row comes each time that it was read."""

    def __init__(self, store: Movable, at: StoreAt) -> None:
        super().__init__(store, -1)
        self._at = at

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        yield from self._store.sorted_rows(month)
        added(self._at, [detection("8XYZ999", seconds=5)])


def test_a_row_that_comes_meanwhile_is_told_of_and_copied_next_time(
    at: Callable[[str], StoreAt], tmp_path: Path
) -> None:
    source, target = at("one"), at("server")
    added(source, [detection()])
    one, other = moving(source), moving(target)
    with pytest.raises(ComityError) as e:
        Copying(tmp_path, source.words, target.words, quiet).run(Late(one, source), other)
    assert e.value.reason == "COPY_DIFFERS"
    one.close()
    other.close()
    assert copied(tmp_path, source, target) == (2, True)


def test_a_damaged_part_is_not_left_behind_in_silence(at: Callable[[str], StoreAt], tmp_path: Path) -> None:
    source = at("one")
    assert source.folder is not None
    store = SqliteStore.open(source.folder, retention_s=YEAR_S, clock=clock, max_hot_rows=1)
    for days in (40, 41):
        store.add([detection(seconds=days * DAY_S)])
    store.sealer.run()
    store.close()
    [part] = source.folder.glob("part-*.db")
    part.chmod(0o600)
    data = bytearray(part.read_bytes())
    data[100:4096] = bytes(3996)
    part.write_bytes(data)
    with pytest.raises(ComityError) as e:
        copied(tmp_path, source, at("server"))
    assert e.value.reason in ("PART_SET_ASIDE", "STORE_CORRUPT")


def killed_at_points(
    at: Callable[[str], StoreAt], folder: Path, names: tuple[str, str], *, points: int, seed: int
) -> None:
    """Kill a copying process again and again, here and there, and let the last one end."""
    rng = random.Random(seed)
    one, other = (at(name) for name in names)
    added(one, batch(rng, 2_000))
    command = [sys.executable, "-m", "tests.unit.node.copy_child", str(folder), *rest(folder, names)]
    for _ in range(points):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            list(itertools.islice(child.stdout, rng.randrange(80)))
            child.kill()
        if not (folder / FILE).exists() and (found := all_rows(other)):  # it had ended before it was killed
            assert found == all_rows(one)
            emptied(other)
            at(names[1])
    copied(folder, one, other)
    assert all_rows(one) == all_rows(other)


def emptied(at: StoreAt) -> None:
    if at.folder is not None:
        shutil.rmtree(at.folder)
        return
    with connect_to(at) as connection:
        connection.execute(f'DROP SCHEMA "{schema_of(NODE)}" CASCADE'.encode())


def rest(folder: Path, names: tuple[str, str]) -> list[str]:
    urls = [(folder / "url").read_text() if name == "server" else f"sqlite:{name}" for name in names]
    return [*urls, "password" if (folder / "password").stat().st_size else ""]


def connect_to(at: StoreAt) -> Connection:
    assert at.address is not None
    return connect(at.address, "public")


WAYS = [pytest.param(("one", "server"), id="to the server"), pytest.param(("server", "two"), id="to files")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", WAYS)
def test_a_killed_copy_goes_on_and_in_the_end_every_row_is_there_once(
    at: Callable[[str], StoreAt], tmp_path: Path, names: tuple[str, str]
) -> None:
    killed_at_points(at, tmp_path, names, points=2, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("names", WAYS)
def test_a_copy_killed_200_times_goes_on(at: Callable[[str], StoreAt], tmp_path: Path, names: tuple[str, str]) -> None:
    killed_at_points(at, tmp_path, names, points=200, seed=2)


@pytest.mark.parametrize(
    ("day", "begin", "end"),
    [
        pytest.param("2026-01-31", "2026-01-01", "2026-02-01", id="within a year"),
        pytest.param("2025-12-01", "2025-12-01", "2026-01-01", id="over a year's end"),
        pytest.param("2024-02-29", "2024-02-01", "2024-03-01", id="a leap day"),
    ],
)
def test_a_month_is_a_calendar_month_of_utc(day: str, begin: str, end: str) -> None:
    first, last, at = (dt.datetime.fromisoformat(d).replace(tzinfo=dt.UTC) for d in (begin, end, day))
    month = Month.of(to_ms(at))
    assert (month.begin_ms, month.end_ms) == (to_ms(first), to_ms(last))
