"""Rules that rest on what only the node knows: decided at the node, for each class of its cameras."""

from __future__ import annotations

from pathlib import Path

import pytest

from comity.decision import Obligations
from comity.errors import ConfigError
from comity.inquiry import Disclosed
from comity.outcome import OutcomeKind
from comity.purpose import Act
from comity.query import ConvoyQuery, PlateQuery
from node.config import FILE, NodeConfig
from node.look_up import MAX_DETECTIONS, Withheld, look_up
from node.model import ALL_CAMERAS, Cameras, Found
from tests.fakes import FakeStore
from tests.unit.broker.scene import ALLOW
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, World
from tests.unit.node.scene import NodeStage, seen

MOBILE = frozenset({"car-7"})
NONE_MOBILE: frozenset[str] = frozenset()
ROW = "X-9,any-node,any-agency,any-role,any-purpose,any-act,{},{},{},a test rule"
NOT_MOBILE = f"{ALLOW}\n{ROW.format('deny', 'mobile-camera', '-')}"
MOBILE_ALONE = f"{ALLOW}\n{ROW.format('deny', 'unless mobile-camera', '-')}"
COARSE = f"{ALLOW}\n{ROW.format('limit', 'mobile-camera', 'redact=coarse-location')}"
UNLISTED = f"{ALLOW}\n{ROW.format('deny', 'unless hot-list-match', '-')}"
LISTED = f"{ALLOW}\n{ROW.format('deny', 'hot-list-match', '-')}"
MATCH, PART, NOTHING = OutcomeKind.MATCH, OutcomeKind.PARTIAL_COVERAGE, OutcomeKind.NO_MATCH
REFUSED = OutcomeKind.REFUSED

# rules, the cameras stated to be mobile, those that saw the plate -> outcome, its reason, the cameras released
CASES: dict[str, tuple[str, frozenset[str] | None, tuple[str, ...], OutcomeKind, str, list[str]]] = {
    "not stated": (NOT_MOBILE, None, ("pa-1",), REFUSED, "INDETERMINATE", []),
    "stated that none is": (NOT_MOBILE, NONE_MOBILE, ("pa-1",), MATCH, "", ["pa-1"]),
    "one is left out": (NOT_MOBILE, MOBILE, ("pa-1", "car-7"), PART, "CAMERAS_LEFT_OUT", ["pa-1"]),
    "nothing but what is left out": (NOT_MOBILE, MOBILE, ("car-7",), PART, "CAMERAS_LEFT_OUT", []),
    "nothing at all": (NOT_MOBILE, MOBILE, (), PART, "CAMERAS_LEFT_OUT", []),
    "mobile ones alone": (MOBILE_ALONE, MOBILE, ("pa-1", "car-7"), PART, "CAMERAS_LEFT_OUT", ["car-7"]),
    "mobile ones alone, and none is": (MOBILE_ALONE, NONE_MOBILE, ("pa-1",), REFUSED, "DENIED_BY_RULE", []),
    "other duties": (COARSE, MOBILE, ("pa-1", "car-7"), PART, "CAMERAS_LEFT_OUT", ["pa-1"]),
    "on no hot list": (UNLISTED, None, ("pa-1",), REFUSED, "DENIED_BY_RULE", []),
    "a deny of what is on a hot list": (LISTED, None, ("pa-1",), MATCH, "", ["pa-1"]),
    "no rule that rests on it": (ALLOW, MOBILE, ("pa-1", "car-7"), MATCH, "", ["car-7", "pa-1"]),
}


@pytest.mark.parametrize(("rows", "mobile", "saw", "kind", "reason", "released"), CASES.values(), ids=CASES.keys())
async def test_what_a_class_of_cameras_may_not_tell_is_left_out_and_said_to_be_found_or_not(
    world: World,
    tmp_path: Path,
    rows: str,
    mobile: frozenset[str] | None,
    saw: tuple[str, ...],
    kind: OutcomeKind,
    reason: str,
    released: list[str],
) -> None:
    stage = NodeStage(world, tmp_path, rows=rows)
    stage.search = stage.searching(mobile_cameras=mobile)
    stage.store.add([seen(60 + i, camera=camera) for i, camera in enumerate(saw)])
    signed, outcome = await stage.answer(await stage.work())
    assert (signed.kind, signed.reason_code) == (kind, reason)
    assert sorted(d.camera for d in outcome.detections) == released
    (recorded,) = stage.log.bodies("decision")
    assert (recorded["effect"] == "deny") is (kind is REFUSED)


def test_a_part_that_ends_for_another_reason_too_says_both() -> None:
    disclosed = Disclosed(query=PlateQuery(plate=scene.PLATE), case_number="", authority_reference="")
    found = look_up(
        FakeStore(),
        scene.inquiry(),
        disclosed,
        Obligations(window_days=1),
        retention_s=86_400 * 30,
        agency=ALDER,
        now=NOW,
        cameras=Cameras(named=MOBILE, alone=False),
    )
    assert found.reason_code == "WINDOW_LIMIT"
    assert "1 days back; policy releases nothing of some" in found.reason


def test_a_convoy_is_withheld_where_cameras_are_left_out_and_nothing_is_searched() -> None:
    store = FakeStore()
    query = ConvoyQuery.parse("7ABC123", "CA", within_s=60, cameras=2)
    disclosed = Disclosed(query=query, case_number="", authority_reference="")
    asked = scene.inquiry(act=Act.CONVOY, begin=NOW - DAY)
    for cameras in (Cameras(named=MOBILE, alone=False), Cameras(named=MOBILE, alone=True)):
        with pytest.raises(Withheld) as e:
            look_up(store, asked, disclosed, Obligations(), retention_s=1, agency=ALDER, now=NOW, cameras=cameras)
        assert e.value.reason == "CAMERAS_LEFT_OUT"
    assert store.searches == 0


def told(store: FakeStore) -> Found:
    """What a search of 7 days tells without the mobile camera."""
    disclosed = Disclosed(query=PlateQuery(plate=scene.PLATE), case_number="", authority_reference="")
    left_out = Cameras(named=MOBILE, alone=False)
    how = {"retention_s": 86_400 * 30, "agency": ALDER, "now": NOW, "cameras": left_out}
    return look_up(store, scene.inquiry(), disclosed, Obligations(), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hidden", "shown", "reason"),
    [
        pytest.param(MAX_DETECTIONS + 1, 3, "CAMERAS_LEFT_OUT", id="few of the others"),
        pytest.param(2 * MAX_DETECTIONS + 1, MAX_DETECTIONS + 1, "TOO_MANY", id="many of the others too"),
    ],
)
def test_how_often_a_camera_that_is_left_out_saw_the_plate_changes_nothing_of_what_is_told(
    hidden: int, shown: int, reason: str
) -> None:
    both, others = FakeStore(), FakeStore()
    for store in (both, others):
        store.add([seen(60 + 20 * i) for i in range(shown)])
    both.add([seen(10 + 3 * i, camera="car-7", source_id=f"car-{i}") for i in range(hidden)])
    assert told(both) == told(others)
    assert told(both).reason_code == reason


@pytest.mark.parametrize(
    ("apart_s", "looks"),
    [pytest.param(1, 1, id="too many to look through"), pytest.param(0, 20, id="all at one instant")],
)
def test_where_it_cannot_look_past_what_is_left_out_it_tells_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, apart_s: int, looks: int
) -> None:
    monkeypatch.setattr("node.look_up.MAX_LOOKS", looks)
    store = FakeStore()
    store.add([seen(5), seen(90_000)])
    store.add([seen(10 + apart_s * i, camera="car-7", source_id=f"car-{i}") for i in range(MAX_DETECTIONS + 1)])
    found = told(store)
    assert (len(found.detections), found.reason_code) == (1, "TOO_MANY")
    assert NOW - DAY < found.coverage.begin < NOW


def test_all_cameras_leave_none_out() -> None:
    assert "pa-1" in ALL_CAMERAS
    assert not ALL_CAMERAS.some_left_out


@pytest.mark.parametrize(
    ("stated", "mobile"),
    [
        pytest.param("[]", None, id="not stated"),
        pytest.param('["none"]', NONE_MOBILE, id="none"),
        pytest.param('["car-7"]', MOBILE, id="one"),
    ],
)
def test_a_node_states_which_of_its_cameras_are_mobile(
    tmp_path: Path, stated: str, mobile: frozenset[str] | None
) -> None:
    (tmp_path / FILE).write_text(f'identity = "identity"\nbrokers = ["localhost:1"]\nmobile_cameras = {stated}\n')
    assert NodeConfig.load(tmp_path).mobile == mobile


@pytest.mark.parametrize("stated", ['["none", "car-7"]', '[""]'])
def test_a_statement_that_contradicts_itself_is_refused(tmp_path: Path, stated: str) -> None:
    (tmp_path / FILE).write_text(f'identity = "identity"\nbrokers = ["localhost:1"]\nmobile_cameras = {stated}\n')
    with pytest.raises(ConfigError, match="mobile_cameras must be cameras' names, or none alone"):
        NodeConfig.load(tmp_path)
