"""A node's own policy file: a file that is refused changes nothing, and either is recorded once."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comity.envelope import BUNDLE_TYPE
from comity.errors import ComityError
from identity import dsse, keys
from node.policy import FILE, OwnPolicy
from policies.bundle import make_bundle
from policies.published import MAX_BUNDLE_BYTES
from policies.seal import HEADER, seal
from tests.fakes import FakeLog, FixedClock
from tests.unit.broker.scene import ALLOW, DENY
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, World


@dataclass
class Agency:
    """An agency with a policy key and one node."""

    world: World
    folder: Path

    def __post_init__(self) -> None:
        self.key = keys.new_signing_key()
        self.directory = self.world.directory(policy_keys={ALDER: [self.key.public_key()]})
        self.log = FakeLog("node.example/log", FixedClock(NOW))
        self.path = self.folder / FILE

    def bundle(self, rows: str = ALLOW, *, key: Any = None, **changes: Any) -> bytes:
        content: dict[str, Any] = {
            "federation": self.directory.federation,
            "node": "alder-1",
            "version": 3,
            "valid_from": NOW - DAY,
            "valid_to": NOW + DAY,
            "packs": [],
            "policy": seal(f"{HEADER}\n{rows}\n"),
        }
        return dsse.sign_with_key(BUNDLE_TYPE, make_bundle(**(content | changes)), key or self.key)

    def load(self, data: bytes) -> OwnPolicy:
        self.path.write_bytes(data)
        return OwnPolicy.load(self.path, self.directory, "alder-1", NOW)


@pytest.fixture
def agency(world: World, tmp_path: Path) -> Agency:
    return Agency(world, tmp_path)


BAD: dict[str, Any] = {
    "empty": (lambda a: b"", "BAD_ENVELOPE"),
    "half-written": (lambda a: a.bundle()[:-40], "BAD_ENVELOPE"),
    "larger than any policy": (lambda a: b" " * (MAX_BUNDLE_BYTES + 1), "BUNDLE_TOO_LARGE"),
    "signed by another key": (lambda a: a.bundle(DENY, key=keys.new_signing_key()), "UNKNOWN_KEY"),
    "of another node": (lambda a: a.bundle(node="brazos-1"), "WRONG_NODE"),
    "expired": (lambda a: a.bundle(valid_to=NOW), "BUNDLE_EXPIRED"),
    "not yet valid": (lambda a: a.bundle(valid_from=NOW + DAY, valid_to=NOW + 2 * DAY), "BUNDLE_NOT_YET_VALID"),
    "older than the one in force": (lambda a: a.bundle(DENY, version=2), "POLICY_OLDER"),
    "without the usage policy that it rests on": (
        lambda a: a.bundle(DENY.replace("deny,always", "deny,unposted-purpose"), version=4),
        "BUNDLE_USAGE_POLICY",
    ),
    "another of the version in force": (lambda a: a.bundle(DENY), "POLICY_OLDER"),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
async def test_a_file_that_is_refused_leaves_the_old_policy_and_is_recorded_once(
    make: Any, reason: str, agency: Agency
) -> None:
    own = agency.load(agency.bundle())
    before = own.in_force(NOW)
    agency.path.write_bytes(make(agency))
    assert not await own.renew(agency.log, NOW)
    assert not await own.renew(agency.log, NOW)
    assert own.in_force(NOW) is before
    assert [(b["taken_up"], b["reason"]) for b in agency.log.bodies("policy")] == [(False, reason)]


async def test_a_file_that_is_not_yet_valid_is_taken_up_when_it_is(agency: Agency) -> None:
    own = agency.load(agency.bundle(valid_to=NOW + 3 * DAY))
    agency.path.write_bytes(agency.bundle(DENY, version=4, valid_from=NOW + DAY, valid_to=NOW + 2 * DAY))
    assert not await own.renew(agency.log, NOW)
    assert not await own.renew(agency.log, NOW + DAY - dt.timedelta(seconds=1))
    assert await own.renew(agency.log, NOW + DAY)
    assert [(b["taken_up"], b["version"]) for b in agency.log.bodies("policy")] == [(False, 0), (True, 4)]


async def test_a_file_that_is_gone_leaves_the_old_policy(agency: Agency) -> None:
    own = agency.load(agency.bundle())
    agency.path.unlink()
    assert not await own.renew(agency.log, NOW)
    assert own.in_force(NOW) is not None


async def test_a_new_version_is_recorded_and_decides_from_then_on(agency: Agency) -> None:
    own = agency.load(agency.bundle())
    before = own.in_force(NOW)
    agency.path.write_bytes(agency.bundle(DENY, version=4))
    assert await own.renew(agency.log, NOW)
    assert own.in_force(NOW) is not before
    assert [(b["taken_up"], b["version"]) for b in agency.log.bodies("policy")] == [(True, 4)]
    assert not await own.renew(agency.log, NOW)


async def test_a_new_version_that_cannot_be_recorded_is_not_taken_up(agency: Agency) -> None:
    own = agency.load(agency.bundle())
    before = own.in_force(NOW)
    agency.path.write_bytes(agency.bundle(DENY, version=4))
    agency.log.failing = [ComityError("x", reason="LOG_TIMEOUT")]
    with pytest.raises(ComityError):
        await own.renew(agency.log, NOW)
    assert own.in_force(NOW) is before


async def test_a_new_version_that_could_not_be_recorded_is_taken_up_at_the_next_look(agency: Agency) -> None:
    own = agency.load(agency.bundle())
    agency.path.write_bytes(agency.bundle(DENY, version=4))
    agency.log.failing = [ComityError("x", reason="LOG_TIMEOUT")]
    with pytest.raises(ComityError):
        await own.renew(agency.log, NOW)
    assert await own.renew(agency.log, NOW)
    assert own.published.version == 4


def test_a_policy_is_none_from_its_very_end_on(agency: Agency) -> None:
    own = agency.load(agency.bundle())
    assert own.in_force(NOW + DAY - dt.timedelta(milliseconds=1)) is not None
    assert own.in_force(NOW + DAY) is None


def test_a_node_does_not_start_without_a_policy(agency: Agency) -> None:
    with pytest.raises(ComityError) as e:
        OwnPolicy.load(agency.path, agency.directory, "alder-1", NOW)
    assert e.value.reason == "NO_POLICY"
