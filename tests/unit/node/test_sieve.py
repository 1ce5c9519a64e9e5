"""What sealed parts keep in memory: it spares look-ups, and never costs a read that is there."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.plate import Plate
from comity.query import AreaQuery, PatternQuery
from node.store.interface import Added, StoreError
from node.store.segment import Segment
from node.store.sieve import Sieve, marked, sieve_of
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, YEAR_S, ago, clock, detection

SKELETONS = st.text("0123456789ACEFGHJKMNPRTUVWXY", min_size=1, max_size=10)
PLATE, OTHER = Plate(number="7ABC123", state="CA"), Plate(number="8XYZ999", state="CA")
WINDOW = (ago(YEAR_S - 60), NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with three reads in a sealed part and one in the growing one."""
    SqliteStore.create(tmp_path / "store")
    store = opened(tmp_path / "store", rows=3)
    store.add([detection(seconds=300, camera="old")])
    store.add([detection(seconds=s, camera="old") for s in (301, 302)])
    assert store.sealer.run().rows == 3
    store.add([detection("7ABC456", seconds=5)])
    store.close()
    return tmp_path / "store"


def opened(folder: Path, rows: int = 1000) -> SqliteStore:
    return SqliteStore.open(folder, retention_s=YEAR_S, clock=clock, max_hot_rows=rows)


def part(folder: Path) -> Path:
    return next(folder.glob("part-*.db"))


def change(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@given(st.lists(SKELETONS, max_size=200), st.lists(SKELETONS, max_size=50))
def test_a_sieve_never_leaves_out_a_skeleton_it_was_made_of_and_keeps_their_order(
    held: list[str], others: list[str]
) -> None:
    sieve = Sieve.parse(*sieve_of(held, len(held)))
    asked = [*held, *others]
    kept = sieve.kept(marked(asked))
    assert [s for s in asked if s in set(kept)] == kept
    assert set(held) <= set(kept)


def test_a_sieve_lets_few_of_those_through_that_are_not_there() -> None:
    dice = random.Random(1)
    drawn = ["".join(dice.choices("0123456789ACEFGHJKMNPRTUVWXY", k=7)) for _ in range(40_000)]
    held = set(drawn[:20_000])
    others = [s for s in drawn[20_000:] if s not in held]
    wrong = Sieve.parse(*sieve_of(held, len(held))).kept(marked(others))
    assert 0 < len(wrong) < len(others) // 50


def test_marks_are_for_good_since_parts_are_kept_for_years() -> None:
    words, digest = sieve_of(["7A8C123", "0", "XYW"], 3)
    assert words.hex() == "500e022440090000"
    assert Sieve.parse(words, digest).kept(marked(["7A8C123", "8XY2999", "0"])) == ["7A8C123", "0"]


@pytest.mark.parametrize(
    ("words", "sha256"),
    [(b"", b""), (None, None), ("text", b""), (bytes(8), bytes(32))],
    ids=["empty", "missing", "of another type", "of another digest"],
)
def test_a_sieve_that_is_not_what_was_sealed_is_damage(words: object, sha256: object) -> None:
    with pytest.raises(StoreError) as caught:
        Sieve.parse(words, sha256)
    assert caught.value.reason == "STORE_CORRUPT"


def test_a_sealed_part_says_which_skeletons_it_may_hold_and_a_growing_one_does_not(folder: Path) -> None:
    look = marked([OTHER.skeleton, PLATE.skeleton])
    sealed, growing = Segment(part(folder), sealed=True), Segment(folder / "hot-1.db")
    assert sealed.among(look) == [PLATE.skeleton]
    assert growing.among(look) == [OTHER.skeleton, PLATE.skeleton]
    sealed.close()
    growing.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE sieve SET words = zeroblob(length(words))", id="its bits are gone"),
        pytest.param("DELETE FROM sieve", id="it is not there"),
        pytest.param("DELETE FROM word WHERE kind = 'camera'", id="a word is not there"),
        pytest.param("UPDATE word SET text = x'00' WHERE kind = 'make'", id="a word is no text"),
    ],
)
def test_a_part_damaged_in_what_is_kept_in_memory_is_an_error_and_never_no_match(folder: Path, damage: str) -> None:
    change(part(folder), damage)
    store = opened(folder)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.exact(PLATE, *WINDOW, 10)
        assert caught.value.reason == "PART_SET_ASIDE"
    assert [p.state for p in store.status().parts] == ["hot", "set-aside"]
    store.close()


def test_a_part_sealed_before_there_were_sieves_answers_the_same(folder: Path) -> None:
    change(part(folder), "DROP TABLE sieve")
    store = opened(folder)
    assert len(store.exact(PLATE, *WINDOW, 10)) == 3
    assert len(store.confusable(PLATE, *WINDOW, 10)) == 3
    assert len(store.partial(PatternQuery.parse("?ABC123", ""), *WINDOW, 10)) == 3
    assert store.add([detection(seconds=300, camera="old")]) == Added(accepted=0, duplicates=1)
    store.close()


def test_a_word_that_came_after_the_words_were_read_is_found_with_its_row(folder: Path) -> None:
    reader, writer = opened(folder), opened(folder)
    assert [m.detection.camera for m in reader.exact(PLATE, *WINDOW, 10)] == ["old"] * 3
    assert [m.detection.make for m in reader.exact(Plate(number="7ABC456", state="CA"), *WINDOW, 10)] == ["honda"]
    late = detection(seconds=7, camera="new", make="lancia", state="")
    writer.add([late])
    assert [m.detection for m in reader.exact(PLATE, *WINDOW, 1)][:1] == [late]
    assert [m.detection for m in reader.area(AreaQuery.parse(camera="new"), *WINDOW, 10)] == [late]
    reader.close()
    writer.close()


def test_a_camera_is_looked_for_by_its_own_number_in_each_part(folder: Path) -> None:
    store = opened(folder)
    store.add([detection(seconds=9, camera="old", make="old")])
    cameras = {"old": 4, "pa-001": 1, "police": 0, "honda": 0, "none": 0}
    for camera, count in cameras.items():
        assert len(store.area(AreaQuery.parse(camera=camera), *WINDOW, 10)) == count
    store.close()
