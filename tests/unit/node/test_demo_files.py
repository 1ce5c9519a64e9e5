"""The demo's camera files: the shapes and volumes of real ones, read in without a single bad record."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from cli.demo.generate import plant, write_camera_files
from cli.demo.traffic import cameras_of, traffic
from comity.federation import Federation
from comity.instants import to_ms
from comity.plate import Plate, skeleton
from node.ingest import Ingester
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW, NOW_MS, ago, clock

FEDERATION = Federation.parse(tomllib.loads((Path(__file__).parent / "federation.toml").read_text()))
STOLEN = Plate(number="7ABC123", state="CA")


@pytest.mark.parametrize("node", sorted(FEDERATION.nodes))
def test_every_generated_read_is_taken_and_the_planted_ones_are_found(node: str, tmp_path: Path) -> None:
    retention_s = FEDERATION.nodes[node].retention_s
    planted = plant(STOLEN.number, STOLEN.state, node, [ago(s) for s in (20, 60, 100)])
    files = write_camera_files(tmp_path / "files", node, FEDERATION, 1, 2000, NOW, planted)
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=retention_s, clock=clock)
    ingester = Ingester(store, tmp_path / "set-aside", clock, source=FEDERATION.nodes[node].source)
    tallies = [ingester.ingest_file(path) for path in files]
    assert sum(t.accepted for t in tallies) == 2003
    assert sum(t.rejected + t.expired + t.duplicates for t in tallies) == 0
    found = [m.detection for m in store.exact(STOLEN, ago(retention_s), NOW, 10)]
    assert [d.captured_at for d in found] == [ago(s) for s in (20, 60, 100)]
    assert {d.camera for d in found} <= {c.id for c in cameras_of(FEDERATION.nodes[node], FEDERATION)}
    store.close()


def test_a_node_has_all_four_kinds_of_camera_file(tmp_path: Path) -> None:
    files = write_camera_files(tmp_path, "port-alder-1", FEDERATION, 1, 500, NOW)
    kinds = {f.name.removeprefix("port-alder-1-") for f in files}
    assert kinds == {"groups-v2.jsonl", "groups-v1.jsonl", "results.jsonl", "reads.csv"}
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    def written(name: str, seed: int) -> list[bytes]:
        files = write_camera_files(tmp_path / name, "port-alder-1", FEDERATION, seed, 300, NOW)
        return [f.read_bytes() for f in files]

    assert written("a", 1) == written("b", 1) != written("c", 2)


def test_traffic_is_heavy_tailed_mostly_of_the_state_and_sometimes_misread() -> None:
    passings = traffic("port-alder-1", FEDERATION, 3, 20_000, NOW)
    times = Counter(p.number for p in passings)
    assert len(passings) == 20_000
    assert 0.35 < sum(n == 1 for n in times.values()) / len(times) < 0.45
    assert times.most_common(1)[0][1] > 100
    assert 0.88 < sum(p.state == "CA" for p in passings) / len(passings) < 0.96
    assert 0.02 < sum(p.read != p.number for p in passings) / len(passings) < 0.04
    assert 0.04 < sum(p.read_state != p.state for p in passings) / len(passings) < 0.12


def test_traffic_ends_now_reaches_back_a_month_and_sleeps_at_night() -> None:
    passings = traffic("port-alder-1", FEDERATION, 3, 20_000, NOW)
    assert all(NOW_MS - 30 * 86_400_000 <= p.at_ms < NOW_MS for p in passings)
    assert sum(p.at_ms > NOW_MS - 600_000 for p in passings) >= 100
    local_hours = Counter((p.at_ms // 3_600_000 - 8) % 24 for p in passings)
    assert local_hours[17] > 4 * local_hours[3]


def test_a_node_that_keeps_three_minutes_has_reads_of_the_last_one() -> None:
    passings = traffic("granite-1", FEDERATION, 3, 1000, NOW)
    assert all(NOW_MS - 180_000 < p.at_ms < NOW_MS for p in passings)
    assert sum(p.at_ms > NOW_MS - 60_000 for p in passings) > 500


def test_no_camera_reads_an_excluded_number_or_a_second_car_with_a_planted_one() -> None:
    everyone = traffic("granite-1", FEDERATION, 3, 5000, NOW)
    excluded = {p.read for p in everyone[:1000]}
    planted = plant(everyone[-1].read, "NH", "granite-1", [ago(30)])
    again = traffic("granite-1", FEDERATION, 3, 5000, NOW, planted, excluded)
    forbidden = {skeleton(n) for n in excluded} - {skeleton(planted[0].plate)}
    assert not forbidden & {skeleton(p.read) for p in again}
    assert [p.at_ms for p in again if skeleton(p.read) == skeleton(planted[0].plate)] == [to_ms(ago(30))]


def test_cameras_stand_where_the_node_is_as_many_as_the_directory_says() -> None:
    cameras = cameras_of(FEDERATION.nodes["port-alder-1"], FEDERATION)
    assert len({c.id for c in cameras}) == 28
    assert all(abs(c.latitude - 37.79) <= 0.06 and abs(c.longitude + 122.24) <= 0.06 for c in cameras)
