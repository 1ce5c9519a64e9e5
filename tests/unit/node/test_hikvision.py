"""Hikvision events: what is read from XML and its pictures, and why a bad one is set aside."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate
from node.formats.hikvision import Hikvision, decode
from node.formats.interface import MAX_RAW_BYTES, BadRecord, Pictured
from tests.unit.node.samples import CONTEXT, JPEG, NOW_MS, alert, multipart

XML = ("anpr.xml", "text/xml", alert())
PLATE = ("licensePlatePicture.jpg", "image/jpeg", JPEG + b"plate")
VEHICLE = ("detectionPicture.jpg", "image/jpeg", JPEG + b"vehicle")
PICTURES = replace(CONTEXT, pictures=True)
BILLION = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd">'


def only(raw: bytes) -> Detection:
    [read] = decode(raw, CONTEXT)
    assert isinstance(read, Detection), read
    return read


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(alert(), id="XML alone"),
        pytest.param(multipart(XML, PLATE, VEHICLE), id="a multipart body"),
        pytest.param(b"\r\n" + multipart(PLATE, XML, boundary="---- 7e3"), id="one that begins with a blank line"),
    ],
)
def test_an_event_is_one_detection_in_utc(raw: bytes) -> None:
    d = only(raw)
    assert d.plate == Plate(number="7ABC123", state="")
    assert to_ms(d.captured_at) == NOW_MS - 60_000
    assert (d.camera, d.confidence_permille, d.colour) == ("4cbd8f000001-1", 930, "blue")


def test_an_event_without_an_id_is_named_by_its_time_and_lane() -> None:
    assert only(alert(uuid="")).uid == only(alert(uuid="")).uid
    assert only(alert(uuid="")).uid != only(alert(uuid="", time="2026-01-31T19:59:01+08:00")).uid


@pytest.mark.parametrize("word", ["unknown", "noplate", ""])
def test_a_vehicle_whose_plate_was_not_read_is_no_plate_of_that_name(word: str) -> None:
    assert decode(alert(plate=word), CONTEXT) == []


def test_a_heartbeat_is_no_bad_record() -> None:
    assert decode(alert(kind="videoloss", state="inactive"), CONTEXT) == []


def test_the_picture_of_the_vehicle_is_taken_before_that_of_the_plate_and_only_when_asked_for() -> None:
    [read] = decode(multipart(XML, PLATE, VEHICLE), PICTURES)
    assert isinstance(read, Pictured)
    assert read.jpeg == VEHICLE[2]
    assert "7ABC123" not in repr(read)


def test_what_only_says_that_it_is_a_picture_is_left_out_and_the_read_counts() -> None:
    [read] = decode(multipart(XML, ("detectionPicture.jpg", "image/jpeg", b"<script>")), PICTURES)
    assert isinstance(read, Detection)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(alert().replace(b"licensePlate>", b"plateNumber>"), "NO_PLATE", id="no word about a plate"),
        pytest.param(alert(plate="7ABC123456789"), "BAD_PLATE", id="a plate that is too long"),
        pytest.param(alert(plate="无牌车"), "BAD_PLATE", id="a plate in other letters"),
        pytest.param(alert(confidence="101"), "BAD_CONFIDENCE", id="a confidence over a hundred"),
        pytest.param(alert(confidence="1e1"), "BAD_CONFIDENCE", id="a confidence with an exponent"),
        pytest.param(alert(time="2026-01-31T11:59:00"), "BAD_TIME", id="a time without its zone"),
        pytest.param(alert(time="2026-01-31T12:11:00Z"), "TIME_IN_FUTURE", id="a clock ahead"),
        pytest.param(alert(time="1970-01-01T00:00:09Z"), "TIME_BEFORE_2000", id="a clock that began anew"),
        pytest.param(alert(mac="camera one"), "BAD_CAMERA", id="a device without an address"),
        pytest.param(alert(channel="-1"), "BAD_CAMERA", id="a channel that is none"),
        pytest.param(alert(uuid="x" * 200), "BAD_ID", id="an id that is too long"),
        pytest.param(alert(kind="linedetection"), "UNKNOWN_TYPE", id="another event"),
        pytest.param(alert(root="Something"), "BAD_XML", id="another document"),
        pytest.param(alert()[:200], "BAD_XML", id="a torn document"),
        pytest.param(alert(extra=BILLION), "BAD_XML", id="entities that multiply"),
        pytest.param(alert(extra=OUTSIDE), "BAD_XML", id="a document type of another file"),
        pytest.param(alert(plate="&b;"), "BAD_XML", id="an entity that was not declared"),
        pytest.param(alert(uuid="<a>" * 17 + "</a>" * 17), "BAD_XML", id="elements 17 deep"),
        pytest.param(alert(uuid="<a/>" * 2001), "BAD_XML", id="two thousand elements"),
        pytest.param(alert(uuid="x" * 300_000), "TOO_LARGE", id="a document over 256 KiB"),
        pytest.param(b"\xff" * (MAX_RAW_BYTES + 1), "TOO_LARGE", id="a record over 4 MiB"),
        pytest.param(multipart(XML, XML), "BAD_MULTIPART", id="two documents"),
        pytest.param(multipart(PLATE), "BAD_MULTIPART", id="no document"),
        pytest.param(multipart(XML, PLATE)[:-20], "BAD_MULTIPART", id="a body without its end"),
        pytest.param(multipart(XML, *[PLATE] * 16), "BAD_MULTIPART", id="seventeen parts"),
        pytest.param(b"--b\r\n\r\n" + b"x" * 9000, "BAD_MULTIPART", id="no end of the first part"),
        pytest.param(b"--b\r\nA: 1\r\na: 2\r\n\r\n<a/>\r\n--b--", "BAD_MULTIPART", id="a header that is there twice"),
        pytest.param(b"", "BAD_MULTIPART", id="nothing"),
    ],
)
def test_an_event_is_set_aside_for(raw: bytes, reason: str) -> None:
    assert decode(raw, CONTEXT) == [BadRecord(reason=reason)]


def test_a_file_is_one_event_and_one_that_is_too_large_is_never_held_whole() -> None:
    _, records = Hikvision().open(io.BytesIO(alert()))
    assert [r.raw for r in records] == [alert()]
    _, records = Hikvision().open(io.BytesIO(b"x" * (MAX_RAW_BYTES + 1)))
    assert [(r.fault, len(r.raw)) for r in records] == [("TOO_LARGE", 4096)]
