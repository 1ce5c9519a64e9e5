"""A node's policy as a payload: exact in time, address and form."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest

from comity import jcs
from comity.errors import PolicyError
from policies.bundle import check_posted, compile_bundle, make_bundle, parse_bundle
from policies.packs import load_packs
from policies.retention import DAY_S, retention_s
from policies.seal import HEADER, seal
from tests.policy.requests import SETTING, WORDS

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
WEEK = dt.timedelta(days=7)
OWN = seal(f"{HEADER}\nPA-1,any-node,us-fbi,any-role,any-purpose,any-act,deny,always,-,council order\n")


def payload(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "federation": SETTING.federation,
        "node": "sequoia-1",
        "version": 1,
        "valid_from": NOW,
        "valid_to": NOW + WEEK,
        "packs": ["us-ca"],
        "policy": load_packs(["us-ca"]),
        "usage_policy": SETTING.usage_policies["sequoia-1"],
    }
    return make_bundle(**(fields | changes))


def edited(**changes: Any) -> bytes:
    return jcs.encode(orjson.loads(payload()) | changes)


def refused(data: bytes, now: dt.datetime = NOW) -> str:
    with pytest.raises(PolicyError) as e:
        parse_bundle(data, SETTING.federation, now)
    return e.value.reason


def test_what_was_made_is_read_back() -> None:
    bundle = parse_bundle(payload(version=7), SETTING.federation, NOW)
    assert (bundle.node, bundle.agency, bundle.version, bundle.packs) == (
        "sequoia-1",
        "us-ca-sequoia-so",
        7,
        ("us-ca",),
    )
    assert (bundle.valid_from, bundle.valid_to) == (NOW, NOW + WEEK)
    assert payload(version=7) == payload(version=7)


@pytest.mark.parametrize("when", ["unposted-purpose", "unless unposted-purpose&lookback>7"])
def test_a_rule_on_the_posted_purposes_needs_a_usage_policy_whatever_packs_are_named(when: str) -> None:
    rows = f"{HEADER}\nCA-4,any-node,any-agency,any-role,any-purpose,any-act,deny,{when},-,as pack us-ca has it\n"
    for usage, reason in ((None, "BUNDLE_USAGE_POLICY"), (SETTING.usage_policies["sequoia-1"], "")):
        made = payload(node="brazos-bend-1", packs=[], policy=seal(rows), usage_policy=usage)
        bundle = parse_bundle(made, SETTING.federation, NOW)
        compiled = compile_bundle(bundle, SETTING.federation)
        if not reason:
            check_posted(bundle, compiled)
            continue
        with pytest.raises(PolicyError, match="CA-4 rests on a usage policy") as e:
            check_posted(bundle, compiled)
        assert e.value.reason == reason


def test_a_bundle_compiles_to_the_same_version_as_its_packs() -> None:
    bundle = parse_bundle(payload(), SETTING.federation, NOW)
    assert compile_bundle(bundle, WORDS) is SETTING.node_policies["sequoia-1"]
    assert compile_bundle(bundle, SETTING.federation) is SETTING.node_policies["sequoia-1"]


def test_own_rules_come_behind_the_packs() -> None:
    bundle = parse_bundle(payload(policy=load_packs(["us-ca"], own_rules=OWN)), SETTING.federation, NOW)
    assert {"PA-1", "CA-1"} <= {r.id for r in compile_bundle(bundle, WORDS).rules}


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (NOW - dt.timedelta(seconds=1), "BUNDLE_NOT_YET_VALID"),
        (NOW + WEEK, "BUNDLE_EXPIRED"),
        (NOW + 2 * WEEK, "BUNDLE_EXPIRED"),
    ],
)
def test_a_bundle_out_of_its_time_is_refused(moment: dt.datetime, reason: str) -> None:
    assert refused(payload(), moment) == reason


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"federation": "atlantic-exchange"}, id="another federation"),
        pytest.param({"node": "sequoia-9"}, id="an unknown node"),
        pytest.param({"node": "port-alder-1"}, id="another agency's node"),
        pytest.param({"agency": "us-fbi"}, id="another agency"),
    ],
)
def test_a_bundle_for_someone_else_is_refused(change: dict[str, Any]) -> None:
    assert refused(edited(**change)) == "BUNDLE_MISDIRECTED"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="no keys"),
        pytest.param(b"[]", id="a list"),
        pytest.param(payload()[:-9], id="a part"),
        pytest.param(payload() + b" ", id="a blank behind it"),
        pytest.param(payload().replace(b'"version":1', b'"version":2,"version":1'), id="a key twice"),
        pytest.param(edited(extra=1), id="an unknown key"),
        pytest.param(edited(format=2), id="another format"),
        pytest.param(edited(version=0), id="version nought"),
        pytest.param(edited(version=True), id="a version that is a truth value"),
        pytest.param(edited(version="1"), id="a version as text"),
        pytest.param(edited(valid_to="2026-07-08"), id="a time without its hour"),
        pytest.param(edited(valid_to="2026-13-08T00:00:00Z"), id="a month that is none"),
        pytest.param(edited(valid_to="2026-07-01T12:00:00Z"), id="an end at the beginning"),
        pytest.param(edited(packs="us-ca"), id="packs as text"),
        pytest.param(edited(packs=["../us-ca"]), id="a pack that is a path"),
        pytest.param(edited(packs=["us-ca"] * 65), id="too many packs"),
        pytest.param(b'{"x":1.5}', id="a fraction"),
        pytest.param(b"[" * 5000, id="endless nesting"),
        pytest.param(b"x" * 2_000_000, id="too long"),
    ],
)
def test_a_malformed_bundle_is_refused(data: bytes) -> None:
    assert refused(data) == "BUNDLE_MALFORMED"


def test_a_policy_that_is_not_sealed_is_refused() -> None:
    assert refused(edited(policy=load_packs(["us-ca"]).replace("CA-1,", "CA-9,", 1))) == "POLICY_REFUSED"


def test_a_bundle_for_no_registered_node_is_not_made() -> None:
    with pytest.raises(PolicyError):
        payload(node="sequoia-9")


@pytest.mark.parametrize(
    ("own", "packs", "least"),
    [
        (365 * DAY_S, ["us-ca"], 365 * DAY_S),
        (365 * DAY_S, ["us-nh"], 180),
        (60, ["us-nh"], 60),
        (365 * DAY_S, ["us-va", "us-ca"], 21 * DAY_S),
        (365 * DAY_S, [], 365 * DAY_S),
    ],
)
def test_retention_is_the_least_of_the_nodes_own_and_its_packs(own: int, packs: list[str], least: int) -> None:
    assert retention_s(own, packs) == least


def test_a_bundle_counts_the_packs_it_names_towards_retention() -> None:
    bundle = parse_bundle(payload(packs=["us-ca", "us-va"]), SETTING.federation, NOW)
    assert bundle.retention_s(SETTING.federation.nodes["sequoia-1"]) == 21 * DAY_S
