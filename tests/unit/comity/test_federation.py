"""The registry: every bad field is named, and nothing is used that is not registered."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from comity.errors import InvalidInput
from comity.federation import Federation, state_of
from tests.unit.identity.world import REGISTRY

Change = Callable[[dict[str, Any]], object]
DEEP = {"n0": ""} | {f"n{i}": f"n{i - 1}" for i in range(1, 9)}

BAD: dict[str, tuple[Change, str]] = {
    "an unknown table": (lambda d: d.update(nodes=[]), "nodes"),
    "no federation": (lambda d: d.pop("federation"), "federation"),
    "an id in capitals": (lambda d: d["federation"].update(id="Test"), "federation.id"),
    "an unknown key": (lambda d: d["federation"].update(quorums=1), "federation.quorums"),
    "a quorum that is true": (lambda d: d["federation"].update(quorum=True), "federation.quorum"),
    "a witness that is no node": (lambda d: d["federation"].update(witnesses=["x"]), "federation.witnesses"),
    "a witness twice": (lambda d: d["federation"].update(witnesses=["alder-1"] * 2), "federation.witnesses"),
    "a quorum of more than there are witnesses": (lambda d: d["federation"].update(quorum=2), "federation.quorum"),
    "seventeen witnesses": (lambda d: d["federation"].update(witnesses=["alder-1"] * 17), "federation.witnesses"),
    "no purposes": (lambda d: d.update(purposes={}), "purposes"),
    "a parent that is not registered": (lambda d: d["purposes"].update(a="b"), "purposes.a"),
    "a parent of no text": (lambda d: d["roles"].update(a=1), "roles.a"),
    "a cycle": (lambda d: d.update(purposes={"a": "b", "b": "a"}), "purposes.a"),
    "a purpose that is its own parent": (lambda d: d.update(purposes={"a": "a"}), "purposes.a"),
    "a tree of nine": (lambda d: d.update(roles=DEEP), "roles.n8"),
    "a jurisdiction in capitals": (lambda d: d["jurisdictions"].update({"us/NV": "us"}), "jurisdictions.us/NV"),
    "agencies that are no list": (lambda d: d.update(agency={}), "agency"),
    "an agency that is text": (lambda d: d["agency"].append("x"), "agency[2]"),
    "an agency twice": (lambda d: d["agency"].append(d["agency"][0]), "agency"),
    "a kind that is not known": (lambda d: d["agency"][0].update(kind="army"), "agency[0].kind"),
    "a jurisdiction that is not known": (
        lambda d: d["agency"][0].update(jurisdiction="us/zz"),
        "agency[0].jurisdiction",
    ),
    "an agency's name with an escape": (lambda d: d["agency"][0].update(name="A\x1b"), "agency[0].name"),
    "an agency without a name": (lambda d: d["agency"][0].pop("name"), "agency[0].name"),
    "a node of no agency": (lambda d: d["node"][0].update(agency="x"), "node alder-1"),
    "a node that keeps nothing": (lambda d: d["node"][0].update(retention_s=0), "node[0].retention_s"),
    "a retention in words": (lambda d: d["node"][0].update(retention_s="1 day"), "node[0].retention_s"),
    "a source that is not known": (lambda d: d["node"][0].update(source="drone"), "node[0].source"),
    "a node twice": (lambda d: d["node"].append(d["node"][0]), "node"),
    "an agreement of an unknown agency": (lambda d: d["agreement"][0].update(to="x"), "agreement"),
    "an agreement that never ends": (lambda d: d["agreement"][0].pop("expires"), "agreement[0].expires"),
    "an agreement that ends on no day": (
        lambda d: d["agreement"][0].update(expires="2026-02-30"),
        "agreement[0].expires",
    ),
    "an agreement that ends at an hour": (
        lambda d: d["agreement"][0].update(expires=dt.datetime(2031, 1, 1, tzinfo=dt.UTC)),
        "agreement[0].expires",
    ),
}


@pytest.mark.parametrize(("change", "field"), BAD.values(), ids=BAD.keys())
def test_a_bad_field_of_the_registry_is_named(change: Change, field: str) -> None:
    data = copy.deepcopy(REGISTRY)
    change(data)
    with pytest.raises(InvalidInput) as e:
        Federation.parse(data)
    assert e.value.reason == "BAD_DIRECTORY"
    assert field in {v.field for v in e.value.violations}


def test_a_good_registry_says_whose_a_node_is() -> None:
    read = Federation.parse(REGISTRY)
    assert read.agency_of("alder-1").id == "us-ca-alder-pd"
    assert read.agencies["us-ca-alder-pd"].state == "us/ca"
    with pytest.raises(KeyError):
        read.agency_of("nowhere")


def test_a_state_is_the_first_two_parts_of_a_jurisdiction() -> None:
    assert [state_of(j) for j in ("", "us", "us/ca", "us/ca/alder/port-alder")] == ["", "", "us/ca", "us/ca"]
