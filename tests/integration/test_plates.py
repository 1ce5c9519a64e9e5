"""A plate that is none is refused before anything is signed, and again by the broker; it is repeated nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comity import commitment
from comity.errors import InvalidInput
from comity.inquiry import Disclosure
from comity.v1 import inquiry_pb2
from tests.integration.calls import SEEN, STATE, Person, Told
from tests.integration.world import World

NODE = "port-alder-1"
BAD = {
    "ten thousand characters": "7" * 10_000,
    "eleven characters": "ABCDEFGHIJ1",
    "nothing": "",
    "blanks": "   ",
    "a control character": "7STL\x07042",
    "an escape sequence": "\x1b[2J7STL",
    "a new line": "7STL042\nX",
    "a zero byte": "7STL042\0",
    "a Cyrillic letter that looks Latin": "7SТL042",
    "a Greek letter that looks Latin": "7STL04Ο",
    "full-width digits": "７STL042",
    "Arabic digits": "7STL٠٤٢",
    "an invisible character": "7STL\u200b042",
    "letters written from right to left": "\u202e240LTS7",
    "a wildcard": "7STL*",
    "a quote": "7STL' OR 1=1",
}


@pytest.mark.parametrize("plate", BAD.values(), ids=[f"{what} is refused" for what in BAD])
def test_the_broker_refuses_a_plate_that_is_none_and_does_not_repeat_it(federation: World, plate: str) -> None:
    told = disclosed(federation, inquiry_pb2.PlateQuery(plate=plate, state=STATE))
    # What is longer than any value may be is not even compared with its commitment.
    reason = "DISCLOSURE_MISMATCH" if len(plate) > 1000 else "BAD_PLATE"
    assert (told.code, told.reason, told.events) == ("INVALID_ARGUMENT", reason, ())
    assert not plate.strip() or plate[:7] not in told.message
    last = federation.log(federation.broker)[-1]
    assert (last["type"], last["reason_code"]) == ("rejected", reason)


@pytest.mark.parametrize("state", ["", "C", "CAL", "С A", "\x00\x00", "C" * 200])
def test_the_broker_refuses_an_issuing_state_that_is_none(federation: World, state: str) -> None:
    told = disclosed(federation, inquiry_pb2.PlateQuery(plate=SEEN, state=state))
    assert (told.code, told.reason, told.events) == ("INVALID_ARGUMENT", "BAD_PLATE", ())
    assert SEEN not in told.message


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param(b"\xff\xff\xff", "BAD_QUERY", id="bytes that are no query"),
        pytest.param(b"", "BAD_QUERY", id="an empty query"),
        pytest.param(
            inquiry_pb2.Query(pattern=inquiry_pb2.PatternQuery(pattern="*", state=STATE)).SerializeToString(),
            "BAD_QUERY",
            id="a pattern under the act of a whole plate",
        ),
        pytest.param(
            inquiry_pb2.Query(area=inquiry_pb2.AreaQuery(camera="pa-001")).SerializeToString(),
            "BAD_QUERY",
            id="an area under the act of a whole plate",
        ),
        pytest.param(b"\x0a\x00\x9a\x06\x01x", "BAD_QUERY", id="a query with an unknown field"),
        pytest.param(b"\x0a" + b"x" * 3_000_000, "DISCLOSURE_MISMATCH", id="three megabytes"),
    ],
)
def test_the_broker_refuses_a_query_that_is_none(federation: World, query: bytes, reason: str) -> None:
    person = Person.of(federation)
    told = signed_over(person, query)
    assert (told.code, told.reason, told.events) == ("INVALID_ARGUMENT", reason, ())


def test_a_message_beyond_every_limit_is_refused_and_the_broker_goes_on(federation: World) -> None:
    person = Person.of(federation)
    told = signed_over(person, b"x" * (5 << 20))
    assert (told.code, told.events) == ("RESOURCE_EXHAUSTED", ())
    assert person.search(person.ask(NODE)).kinds == {NODE: "no_match"}


@pytest.mark.parametrize(
    "plate", [BAD[w] for w in BAD if w != "a zero byte"], ids=[f"{w} is refused" for w in BAD if w != "a zero byte"]
)
def test_compose_refuses_a_plate_that_is_none_before_it_signs(federation: World, plate: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Person.of(federation).ask(NODE, plate=plate)
    assert refused.value.reason == "BAD_PLATE"
    assert not plate.strip() or plate[:7] not in str(refused.value)


@pytest.mark.parametrize(
    "what", ["ten thousand characters", "an escape sequence", "a Cyrillic letter that looks Latin"]
)
def test_the_command_says_what_a_plate_must_be_and_ends_with_1(federation: World, what: str) -> None:
    before = federation.size(federation.broker)
    printed = Person.of(federation).command(BAD[what], "--state", STATE, "--purpose", "stolen-vehicle", "--case", "X")
    assert (printed.code, printed.out) == (1, "")
    assert "BAD_PLATE" in printed.err
    assert BAD[what] not in printed.err
    assert "\x1b" not in printed.err
    assert federation.size(federation.broker) == before


def test_a_plate_as_people_write_it_is_the_same_plate(federation: World) -> None:
    person = Person.of(federation)
    for plate in ("7stl042", "7STL-042", " 7 STL 042 "):
        assert person.search(person.ask(NODE, plate=plate)).kinds == {NODE: "match"}


def disclosed(world: World, plate: inquiry_pb2.PlateQuery) -> Told:
    """What comes of an inquiry over this plate, signed and committed to as it is."""
    return signed_over(Person.of(world), inquiry_pb2.Query(plate=plate).SerializeToString())


def signed_over(person: Person, query: bytes) -> Told:
    """The same of any query."""
    signed = person.ask(NODE)
    disclosure = Disclosure.fresh(commitment.QUERY, query)
    signed = person.resign(signed, lambda m: setattr(m, "query_commitment", disclosure.commitment))
    return person.search(replace(signed, disclosures=(disclosure, *signed.disclosures[1:])))
