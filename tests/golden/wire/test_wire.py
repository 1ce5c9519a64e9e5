"""The bytes that are signed stay what they were: signatures are over them, for years."""

from __future__ import annotations

import pytest

from comity.inquiry import Disclosed, Inquiry
from comity.outcome import Outcome
from comity.purpose import Act
from comity.query import AreaQuery, ConvoyQuery, PatternQuery, PlateQuery, Query, query_of
from comity.v1 import inquiry_pb2
from tests.golden.wire import samples
from tests.unit.comity import scene

FILES = samples.files()


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_same_values_are_written_as_the_same_bytes(name: str) -> None:
    assert FILES[name] == (samples.HERE / name).read_bytes()


def test_no_golden_file_is_without_its_sample() -> None:
    assert {p.name for p in samples.HERE.glob("*.bin")} == set(FILES)


def test_the_golden_inquiry_is_still_read_as_what_it_said() -> None:
    read = Inquiry.parse((samples.HERE / "inquiry.bin").read_bytes())
    assert read == samples.inquiry()
    query = inquiry_pb2.Disclosure.FromString((samples.HERE / "disclosure-query.bin").read_bytes())
    given = [query, *scene.disclosures(scene.CASE_NUMBER, scene.REFERENCE)]
    assert Disclosed.parse(read, given).query == PlateQuery(plate=scene.PLATE)


@pytest.mark.parametrize(("name", "query"), samples.queries().items(), ids=samples.queries())
def test_a_golden_query_is_still_read_as_what_it_asked_for(name: str, query: Query) -> None:
    disclosure = inquiry_pb2.Disclosure.FromString((samples.HERE / name).read_bytes())
    acts = {PatternQuery: Act.PARTIAL, AreaQuery: Act.AREA, ConvoyQuery: Act.CONVOY}
    assert query_of(acts[type(query)], inquiry_pb2.Query.FromString(disclosure.value)) == query


@pytest.mark.parametrize(("name", "outcome"), samples.outcomes().items(), ids=samples.outcomes())
def test_a_golden_outcome_is_still_read_as_what_it_said(name: str, outcome: Outcome) -> None:
    assert Outcome.parse((samples.HERE / name).read_bytes()) == outcome
