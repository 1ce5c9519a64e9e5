"""Holds: two persons of the agency, one a supervisor, or nothing is held; and what is held is not in the log."""

from __future__ import annotations

import base64
import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from comity.errors import ComityError, InvalidInput, NotAuthentic, Unavailable
from comity.plate import Plate
from identity.signing import Signer
from node.holds import Holds
from node.store.held import Scope
from tests.unit.identity.world import ALDER, BRAZOS, NOW, World, name

SCOPE = Scope(plate=Plate(number="7ABC123", state="CA"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def now() -> list[dt.datetime]:
    return [NOW]


@pytest.fixture
def holds(tmp_path: Path, world: World, now: list[dt.datetime]) -> Holds:
    return Holds(tmp_path / "holds", directory=world.directory(), node="alder-1", agency=ALDER, clock=lambda: now[0])


@pytest.fixture
def author(world: World) -> Signer:
    return world.person("t-reyes")


@pytest.fixture
def supervisor(world: World) -> Signer:
    return world.person("s-okafor", role="supervisor")


def add(holds: Holds, signer: Signer, scope: Scope = SCOPE, **changes: Any) -> str:
    content: dict[str, Any] = {"kind": "hold", "reason": "an appeal", "order": "CO-26-17", "days": 90} | changes
    return holds.add(scope, signer=signer, **content).hold_id


def states(holds: Holds) -> list[str]:
    return [h.state for h in holds.all()]


def test_a_hold_is_in_force_from_the_second_signature_until_its_end(
    holds: Holds, author: Signer, supervisor: Signer, now: list[dt.datetime]
) -> None:
    hold = add(holds, author)
    assert states(holds) == ["draft"]
    assert holds.approve(hold, supervisor).in_force
    [found] = holds.all()
    assert (found.scope, found.reason, found.order, len(found.signers)) == (SCOPE, "an appeal", "CO-26-17", 2)
    now[0] += dt.timedelta(days=90)
    assert states(holds) == ["over"]


def test_the_supervisor_may_be_the_one_who_drafts_it(holds: Holds, author: Signer, supervisor: Signer) -> None:
    assert holds.approve(add(holds, supervisor), author).in_force


def test_ending_a_hold_takes_two_persons_too(holds: Holds, author: Signer, supervisor: Signer) -> None:
    hold = add(holds, author)
    holds.approve(hold, supervisor)
    assert holds.end(hold, supervisor).in_force
    with pytest.raises(InvalidInput) as caught:
        holds.approve(hold, supervisor)
    assert caught.value.reason == "DUPLICATE_SIGNER"
    assert holds.approve(hold, author).state == "ended"
    assert states(holds) == ["ended"]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        pytest.param(lambda w: w.person("t-2"), "WRONG_APPROVER", id="no supervisor"),
        pytest.param(lambda w: w.person("t-reyes", role="supervisor"), "DUPLICATE_SIGNER", id="the same person"),
        pytest.param(
            lambda w: w.signer(w.brazos, name(BRAZOS, "person", "x"), role="supervisor"),
            "WRONG_APPROVER",
            id="another agency's supervisor",
        ),
        pytest.param(lambda w: w.signer(w.alder, name(ALDER, "node", "alder-1")), "WRONG_KIND", id="a node"),
        pytest.param(
            lambda w: w.person("s-1", role="supervisor", at=NOW - dt.timedelta(days=20)),
            "CERTIFICATE_EXPIRED",
            id="an expired certificate",
        ),
    ],
)
def test_whoever_is_not_the_second_person_that_is_needed_is_refused(
    holds: Holds, world: World, author: Signer, second: Callable[[World], Signer], reason: str
) -> None:
    hold = add(holds, author)
    with pytest.raises(NotAuthentic) as caught:
        holds.approve(hold, second(world))
    assert caught.value.reason == reason
    assert states(holds) == ["draft"]


def test_a_person_of_another_agency_drafts_nothing(holds: Holds, world: World) -> None:
    with pytest.raises(NotAuthentic):
        add(holds, world.signer(world.brazos, name(BRAZOS, "person", "x"), role="supervisor"))
    assert holds.all() == ()


def test_a_draft_that_nobody_approved_in_a_day_lapses(
    holds: Holds, world: World, author: Signer, now: list[dt.datetime]
) -> None:
    hold = add(holds, author)
    now[0] += dt.timedelta(days=1)
    assert states(holds) == ["lapsed"]
    with pytest.raises(InvalidInput):
        holds.approve(hold, world.person("s-2", role="supervisor", at=now[0]))


@pytest.mark.parametrize(
    ("scope", "changes"),
    [
        pytest.param(Scope(), {}, id="everything"),
        pytest.param(Scope(begin=NOW), {}, id="a window without an end"),
        pytest.param(Scope(begin=NOW, end=NOW), {}, id="an empty window"),
        pytest.param(SCOPE, {"order": ""}, id="no order"),
        pytest.param(SCOPE, {"reason": ""}, id="no reason"),
        pytest.param(SCOPE, {"reason": "a\nb"}, id="a reason of two lines"),
        pytest.param(SCOPE, {"reason": "x" * 501}, id="a long reason"),
        pytest.param(SCOPE, {"days": 0}, id="no time"),
        pytest.param(SCOPE, {"days": 10_000}, id="for ever"),
        pytest.param(SCOPE, {"kind": "preservation", "days": 15}, id="a preservation past 14 days"),
        pytest.param(SCOPE, {"kind": "wish"}, id="another kind"),
    ],
)
def test_an_impossible_hold_is_refused(holds: Holds, author: Signer, scope: Scope, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(holds, author, scope, **changes)
    assert caught.value.reason == "BAD_HOLD"


def test_what_is_signed_names_neither_plate_nor_order_and_the_file_is_the_owners_alone(
    holds: Holds, author: Signer, tmp_path: Path
) -> None:
    hold = add(holds, author)
    path = tmp_path / "holds" / f"{hold}.json"
    envelope = base64.b64decode(orjson.loads(path.read_bytes())["add"]["envelope"])
    assert b"7ABC123" not in envelope
    assert b"CO-26-17" not in envelope
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "7ABC123" not in repr(holds.all())


def _swapped(content: dict[str, Any]) -> None:
    salt, value = content["clear"]["query"]
    content["clear"]["query"] = [salt, base64.b64encode(base64.b64decode(value).replace(b"7ABC", b"8ABC")).decode()]


def _one_signature(content: dict[str, Any]) -> None:
    content["add"]["approved_at"] = None


def _late(content: dict[str, Any]) -> None:
    content["add"]["approved_at"] = "2030-05-03T12:00:00.000Z"


@pytest.mark.parametrize("alter", [_swapped, _one_signature, _late, lambda c: c.pop("clear"), lambda c: c.pop("end")])
def test_a_hold_whose_file_was_altered_is_a_fault_that_names_no_plate(
    holds: Holds, author: Signer, supervisor: Signer, tmp_path: Path, alter: Callable[[dict[str, Any]], object]
) -> None:
    hold = add(holds, author)
    holds.approve(hold, supervisor)
    path = tmp_path / "holds" / f"{hold}.json"
    content = orjson.loads(path.read_bytes())
    alter(content)
    path.write_bytes(orjson.dumps(content))
    with pytest.raises(Unavailable) as caught:
        holds.all()
    assert caught.value.reason == "HOLD_UNVERIFIED"
    assert "ABC" not in str(caught.value)


def test_a_hold_of_another_node_is_not_this_ones(holds: Holds, world: World, author: Signer, tmp_path: Path) -> None:
    add(holds, author)
    other = Holds(tmp_path / "holds", directory=world.directory(), node="brazos-1", agency=ALDER, clock=lambda: NOW)
    with pytest.raises(Unavailable):
        other.all()


@pytest.mark.parametrize("hold_id", ["", "../../x", "0" * 36, "00000000-0000-4000-8000-000000000000"])
def test_an_id_that_is_no_holds_is_refused(holds: Holds, supervisor: Signer, hold_id: str) -> None:
    with pytest.raises(ComityError) as caught:
        holds.approve(hold_id, supervisor)
    assert caught.value.reason == "NO_HOLD"


def test_an_approval_waits_for_a_purge_that_has_read_the_holds(
    holds: Holds, author: Signer, supervisor: Signer
) -> None:
    hold = add(holds, author)
    approving = threading.Thread(target=holds.approve, args=(hold, supervisor))
    with holds.alone():
        approving.start()
        assert states(holds) == ["draft"]
    approving.join()
    assert states(holds) == ["in force"]


def test_a_hold_that_cannot_be_believed_is_left_out_only_by_its_name(
    holds: Holds, author: Signer, supervisor: Signer, tmp_path: Path
) -> None:
    hold, other = add(holds, author), add(holds, author)
    holds.approve(other, supervisor)
    path = tmp_path / "holds" / f"{hold}.json"
    path.write_bytes(b"{}")
    with pytest.raises(Unavailable):
        holds.all(without=[other])
    assert [h.hold_id for h in holds.all(without=[hold, other])] == [other]
