"""Parts of plates, places and convoys, through the command, a broker and nodes that are real processes."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from comity.inquiry import Disclosure
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, Query
from comity.v1 import inquiry_pb2
from tests.integration.calls import SEEN, STATE, Person
from tests.integration.world import World

NODE = "port-alder-1"
COMMON = ("--purpose", "stolen-vehicle", "--case", "PA-26-0101", "--node", NODE, "--json")


def test_a_part_of_a_plate_finds_the_plate_and_says_what_kind_of_match_it_is(federation: World) -> None:
    person = Person.of(federation)
    whole = person.command(SEEN, "--state", STATE, *COMMON).last_of_each[NODE]
    part = person.command(f"{SEEN[:4]}??{SEEN[6:]}", "--match", "partial", *COMMON).last_of_each[NODE]
    seen = {(d["seen_at"], d["camera"]) for d in whole["detections"]}
    found = {(d["seen_at"], d["camera"]) for d in part["detections"] if d["plate"] == SEEN}
    assert seen
    assert found == seen
    assert {d["match"] for d in part["detections"]} == {"partial"}


def test_a_camera_and_a_circle_around_it_find_what_was_seen_there(federation: World) -> None:
    person = Person.of(federation)
    seen = person.command(SEEN, "--state", STATE, *COMMON).last_of_each[NODE]["detections"]
    one = next(d for d in seen if d["lat"] is not None)
    middle = dt.datetime.fromisoformat(one["seen_at"])
    hour = dt.timedelta(hours=1)
    window = ("--from", (middle - hour).isoformat(), "--to", (middle + hour).isoformat())
    at_camera = person.command("--camera", one["camera"], *window, *COMMON).last_of_each[NODE]
    assert one["seen_at"] in {d["seen_at"] for d in at_camera["detections"] if d["plate"] == SEEN}
    assert {d["camera"] for d in at_camera["detections"]} == {one["camera"]}
    nearby = person.command(f"--near={one['lat']},{one['lon']},0.1", *window, *COMMON).last_of_each[NODE]
    assert one["seen_at"] in {d["seen_at"] for d in nearby["detections"] if d["plate"] == SEEN}
    assert nearby["outcome"] in ("match", "partial_coverage")


def test_a_convoy_is_answered_by_the_node_itself_and_never_names_the_plate_asked_for(federation: World) -> None:
    outcome = Person.of(federation).command(SEEN, "--state", STATE, "--convoy", "300,2", *COMMON).last_of_each[NODE]
    assert outcome["signed_by"] == "node"
    assert outcome["outcome"] in ("match", "no_match")
    assert SEEN not in {d["plate"] for d in outcome["detections"]}


WIDE = {
    "two known characters": (("7*4", "--match", "partial"), "pattern"),
    "six kilometres": (("--near", "37.79,-122.24,6"), "circle"),
    "a camera over two days": (("--camera", "pa-001", "--days", "2"), "window"),
    "a convoy over eight days": ((SEEN, "--state", STATE, "--convoy", "30,3", "--days", "8"), "window"),
}


@pytest.mark.parametrize(("args", "what"), WIDE.values(), ids=WIDE.keys())
def test_the_command_says_what_would_narrow_a_search_that_is_too_wide_and_sends_nothing(
    federation: World, args: tuple[str, ...], what: str
) -> None:
    before = federation.size(federation.broker)
    printed = Person.of(federation).command(*args, *COMMON)
    assert (printed.code, printed.out) == (1, "")
    assert "QUERY_TOO_WIDE" in printed.err
    assert what in printed.err
    assert federation.size(federation.broker) == before


GOOD: dict[str, tuple[Act, Query]] = {
    "a pattern": (Act.PARTIAL, PatternQuery.parse("7STL*", "")),
    "an area": (Act.AREA, AreaQuery.parse(circle=Circle(latitude_e7=0, longitude_e7=0, radius_m=5_000))),
    "a convoy": (Act.CONVOY, ConvoyQuery.parse(SEEN, STATE, within_s=300, cameras=2)),
}
WIDER = {
    "a pattern": inquiry_pb2.Query(pattern=inquiry_pb2.PatternQuery(pattern="7*")),
    "an area": inquiry_pb2.Query(area=inquiry_pb2.AreaQuery(circle=inquiry_pb2.Circle(radius_m=5_001))),
    "a convoy": inquiry_pb2.Query(
        convoy=inquiry_pb2.ConvoyQuery(plate=inquiry_pb2.PlateQuery(plate=SEEN, state=STATE), within_s=301, cameras=2)
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_broker_refuses_a_query_that_a_client_let_grow_too_wide(federation: World, kind: str) -> None:
    person = Person.of(federation)
    act, query = GOOD[kind]
    good = person.ask(NODE, act=act, query=query, days=1)
    wide = Disclosure.fresh("query", WIDER[kind].SerializeToString())

    def widened(inquiry: inquiry_pb2.Inquiry) -> None:
        inquiry.query_commitment = wide.commitment

    sent = person.resign(good, widened)
    told = person.search(replace(sent, disclosures=(wide, *sent.disclosures[1:])))
    assert (told.code, told.reason, told.events) == ("INVALID_ARGUMENT", "QUERY_TOO_WIDE", ())
    assert SEEN not in told.message
