"""Kept answers: durable, private, gone when their time is over."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from comity.errors import Unavailable
from node.kept import FILE, Kept
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.node.scene import signed

MS = dt.timedelta(milliseconds=1)


def test_an_answer_comes_back_as_it_was_kept_after_the_process_has_ended(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    first.put(signed(), NOW + DAY)
    first.close()
    assert Kept(tmp_path).get(scene.INQUIRY_ID, NOW) == signed()


def test_an_answer_without_coverage_has_none_afterwards(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(signed(coverage=None), NOW + DAY)
    found = kept.get(scene.INQUIRY_ID, NOW)
    assert found is not None
    assert found.coverage is None


def test_an_answer_is_never_replaced_by_another(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(signed(), NOW + DAY)
    kept.put(signed(envelope=b"other"), NOW + 2 * DAY)
    assert kept.get(scene.INQUIRY_ID, NOW) == signed()


def test_an_answer_is_gone_from_its_very_end_on_though_nothing_was_purged(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(signed(), NOW + DAY)
    assert kept.get(scene.INQUIRY_ID, NOW + DAY - MS) is not None
    assert kept.get(scene.INQUIRY_ID, NOW + DAY) is None
    assert kept.get("another", NOW) is None


def test_a_purge_takes_what_is_past_its_time_off_the_disk_and_nothing_else(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(signed(envelope=b"PLATE-OF-THE-OLD" * 100), NOW + DAY)
    kept.put(signed(inquiry_id="b", envelope=b"PLATE-OF-THE-NEW" * 100), NOW + 2 * DAY)
    assert kept.purge(NOW + DAY - MS) == 0
    assert kept.purge(NOW + DAY) == 1
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"PLATE-OF-THE-OLD" not in files
    assert b"PLATE-OF-THE-NEW" in files


def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put(signed(), NOW + DAY)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.glob(f"{FILE}*")} == {0o600}


def test_a_table_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.close()
    for use in (lambda: kept.put(signed(), NOW), lambda: kept.get("x", NOW), lambda: kept.purge(NOW)):
        with pytest.raises(Unavailable) as e:
            use()
        assert e.value.reason == "KEPT_UNAVAILABLE"
