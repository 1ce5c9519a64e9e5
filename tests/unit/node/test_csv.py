"""CSV reads: any order of columns, one scale of confidence a file, a line a record."""

from __future__ import annotations

import io

import pytest

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.instants import to_ms
from node.formats.csv import Csv
from node.formats.interface import BadRecord, Read
from tests.unit.node.samples import CONTEXT, NOW, NOW_MS

AT = "2026-01-31T11:59:00Z"


def reads(text: str | bytes) -> list[Read]:
    data = text if isinstance(text, bytes) else text.encode()
    decode, records = Csv().open(io.BytesIO(data))
    return [r for x in records for r in ([BadRecord(reason=x.fault)] if x.fault else decode(x.raw, CONTEXT))]


def only(text: str) -> Detection:
    [read] = reads(text)
    assert isinstance(read, Detection), read
    return read


@pytest.mark.parametrize(
    ("head", "row"),
    [
        pytest.param("plate,state,timestamp,camera,lat,lon,conf", f"7ABC123,CA,{AT},c1,37.5,-122.5,0.9", id="a"),
        pytest.param("LON,Lat,conf,Camera_ID,Region,Time,Plate", f"-122.5,37.5,90,c1,us-ca,{AT},7abc-123", id="b"),
        pytest.param("\ufeffcamera,plate,state,time,lat,lng,score,?", f"c1,7ABC123,CA,{AT},37.5,-122.5,90,?", id="c"),
    ],
)
def test_columns_may_stand_in_any_order_under_their_usual_names(head: str, row: str) -> None:
    d = only(f"{head}\r\n{row}\r\n")
    assert (d.plate.number, d.plate.state, d.camera) == ("7ABC123", "CA", "c1")
    assert (d.latitude_e7, d.longitude_e7, d.confidence_permille) == (375_000_000, -1_225_000_000, 900)
    assert to_ms(d.captured_at) == NOW_MS - 60_000


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        pytest.param("2026-01-31T03:59:00-08:00", NOW_MS - 60_000, id="an offset"),
        pytest.param("2026-01-31T11:59:00.250+00:00", NOW_MS - 59_750, id="milliseconds"),
        pytest.param(str(NOW_MS // 1000 - 60), NOW_MS - 60_000, id="epoch seconds"),
        pytest.param(str(NOW_MS - 60_000), NOW_MS - 60_000, id="epoch milliseconds"),
    ],
)
def test_times_are_iso_8601_with_a_zone_or_counts_since_1970(time: str, ms: int) -> None:
    assert to_ms(only(f"plate,time,camera\n7ABC123,{time},c1\n").captured_at) == ms


@pytest.mark.parametrize(
    ("row", "why"),
    [
        pytest.param(f",CA,{AT},c1,0.9", "NO_PLATE", id="no plate"),
        pytest.param(f"{'A' * 10_000},CA,{AT},c1,0.9", "BAD_PLATE", id="a plate of 10,000 characters"),
        pytest.param(f"АВС123,CA,{AT},c1,0.9", "BAD_PLATE", id="homoglyphs"),
        pytest.param(f"7ABC123,??,{AT},c1,0.9", "BAD_STATE", id="no state's letters"),
        pytest.param("7ABC123,CA,2026-01-31T11:59:00,c1,0.9", "BAD_TIME", id="a time without zone"),
        pytest.param("7ABC123,CA,yesterday,c1,0.9", "BAD_TIME", id="a time in words"),
        pytest.param("7ABC123,CA,nan,c1,0.9", "BAD_TIME", id="no number for a time"),
        pytest.param("7ABC123,CA,0001-01-01T00:00:00+23:59,c1,0.9", "TIME_BEFORE_2000", id="a time before all time"),
        pytest.param("7ABC123,CA,1999-12-31T23:59:59Z,c1,0.9", "TIME_BEFORE_2000", id="before 2000"),
        pytest.param("7ABC123,CA,2026-01-31T12:11:00Z,c1,0.9", "TIME_IN_FUTURE", id="ahead"),
        pytest.param(f"7ABC123,CA,{AT},,0.9", "BAD_CAMERA", id="no camera"),
        pytest.param(f"7ABC123,CA,{AT},c1,nan", "BAD_CONFIDENCE", id="confidence NaN"),
        pytest.param(f"7ABC123,CA,{AT},c1,1e0", "BAD_CONFIDENCE", id="confidence with an exponent"),
        pytest.param(f"7ABC123,CA,{AT},c1,120", "BAD_CONFIDENCE", id="confidence over 100"),
        pytest.param(f"7ABC123,CA,{AT}", "BAD_COLUMNS", id="a column short"),
        pytest.param(f"7ABC123,CA,{AT},c1,0.9,", "BAD_COLUMNS", id="a column more"),
        pytest.param(f'"7ABC123,CA,{AT},c1,0.9', "NOT_CSV", id="a quote left open"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_next_is_read(row: str, why: str) -> None:
    found = reads(f"plate,state,timestamp,camera,confidence\n{row}\n8XYZ999,CA,{AT},c1,0.5\n")
    assert found[0] == BadRecord(reason=why)
    assert isinstance(found[1], Detection)


def test_one_value_over_one_makes_the_whole_file_0_to_100() -> None:
    rows = "".join(f"AAA{i},{AT},c1,{c}\n" for i, c in enumerate(("0.5", "1", "88.5")))
    found = [r.confidence_permille for r in reads("plate,time,camera,conf\n" + rows) if isinstance(r, Detection)]
    assert found == [5, 10, 885]


def test_without_a_value_over_one_confidence_is_0_to_1() -> None:
    rows = "".join(f"AAA{i},{AT},c1,{c}\n" for i, c in enumerate(("0.5", "1", "")))
    found = [r.confidence_permille for r in reads("plate,time,camera,conf\n" + rows) if isinstance(r, Detection)]
    assert found == [500, 1000, None]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(f"7ABC123,CA,{AT},c1", id="no header"),
        pytest.param("plate,state,camera", id="no time"),
        pytest.param("plate,time,camera,lat", id="latitude alone"),
        pytest.param("plate,license_plate,time,camera", id="two columns of one meaning"),
        pytest.param("plate,time,camera," + "x," * 100, id="too many columns"),
        pytest.param("x" * 10_000, id="too long"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_file_without_a_usable_header_is_refused_whole_and_not_quoted(head: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reads(f"{head}\n7ABC123,CA,{AT},c1\n")
    assert caught.value.reason == "BAD_HEADER"
    assert "7ABC123" not in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_file_cut_anywhere_in_its_last_line_yields_no_wrong_plate(cut: int) -> None:
    whole = f"time,camera,plate\n{AT},c1,AAA111\n{AT},c1,7ABC123\n"
    found = reads(whole[:-cut])
    assert isinstance(found[0], Detection)
    assert all(r == BadRecord(reason="TORN") for r in found[1:])


def test_the_same_line_twice_is_one_read_without_an_id_column() -> None:
    first, again = reads(f"plate,time,camera\n7ABC123,{AT},c1\n7ABC123,{AT},c1\n")
    assert isinstance(first, Detection)
    assert isinstance(again, Detection)
    assert first.uid == again.uid


def test_a_record_of_a_batch_is_a_header_and_a_line() -> None:
    records = [b"plate,time,camera\n7ABC123,%d,c1" % NOW_MS, b"nothing\n7ABC123", b"7ABC123"]
    decode = Csv().open_batch(records)
    [good], [bad], [worse] = (decode(r, CONTEXT) for r in records)
    assert isinstance(good, Detection)
    assert good.captured_at == NOW
    assert bad == worse == BadRecord(reason="BAD_HEADER")
