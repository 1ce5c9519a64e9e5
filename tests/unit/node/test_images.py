"""Pictures: kept once by their content, private, durable before a detection names them, gone with their time."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from comity.errors import InvalidInput, Unavailable
from comity.plate import Plate
from node.formats.interface import RecordFormat
from node.images import Images
from node.ingest import Ingester
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import JPEG, NOW, YEAR_S, ago, alert, clock, encode, group, multipart, result

REFERENCE = "sha256:" + hashlib.sha256(JPEG).hexdigest()
TEXT = base64.b64encode(JPEG).decode()


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    SqliteStore.create(tmp_path / "store")
    store = SqliteStore.open(tmp_path / "store", retention_s=YEAR_S, clock=clock)
    yield store
    store.close()


def stored(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "images").rglob("*") if p.is_file())


def ingester(store: SqliteStore, folder: Path, images: Images | None) -> Ingester:
    return Ingester(store, folder / "set-aside", clock, source="police", images=images)


def named(store: SqliteStore) -> list[str]:
    found = store.exact(Plate(number="7ABC123", state="CA"), ago(YEAR_S), NOW + dt.timedelta(1), 5)
    return [m.detection.image for m in found]


def test_a_picture_is_kept_once_and_is_the_owner_s_alone(images: Images, tmp_path: Path) -> None:
    assert images.keep([(JPEG, NOW), (JPEG, ago(1))]) == [REFERENCE, REFERENCE]
    assert images.keep([(JPEG, ago(2))]) == [REFERENCE]
    hours = {p.parent.name: p.stat().st_mode & 0o777 for p in stored(tmp_path)}
    assert hours == {"2026013112": 0o600, "2026013111": 0o600}
    assert (tmp_path / "images" / "2026013112").stat().st_mode & 0o777 == 0o700
    assert images.read(REFERENCE, NOW) == JPEG


def test_a_picture_goes_when_its_last_capture_is_past_the_time_and_not_before(images: Images, tmp_path: Path) -> None:
    images.keep([(JPEG, ago(600)), (JPEG + b"2", ago(700)), (JPEG, ago(900))])
    assert images.purge(ago(600)) == 1
    assert images.read(REFERENCE, ago(600)) == JPEG
    assert images.purge(ago(599)) == 1
    assert not list((tmp_path / "images").iterdir())


def test_a_draft_that_a_crash_left_goes_too(images: Images, tmp_path: Path) -> None:
    images.keep([(JPEG, ago(7200))])
    (stored(tmp_path)[0].parent / ".draft").write_bytes(b"half")
    assert images.purge(NOW + dt.timedelta(days=36_500)) == 1
    assert not list((tmp_path / "images").iterdir())


def test_a_picture_that_was_changed_on_the_disk_is_not_shown(images: Images, tmp_path: Path) -> None:
    images.keep([(JPEG, NOW)])
    stored(tmp_path)[0].write_bytes(JPEG + b"!")
    with pytest.raises(Unavailable) as caught:
        images.read(REFERENCE, NOW)
    assert caught.value.reason == "BAD_IMAGE_FILE"


@pytest.mark.parametrize("reference", ["img-1", "sha256:../../../../etc/passwd", REFERENCE.upper(), ""])
def test_what_is_no_reference_reads_no_file(images: Images, reference: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        images.read(reference, NOW)
    assert caught.value.reason == "BAD_IMAGE"


@pytest.mark.parametrize(
    ("format_", "record"),
    [
        pytest.param(RecordFormat.OPENALPR, encode(group(vehicle_crop_jpeg=TEXT)), id="a group's vehicle"),
        pytest.param(
            RecordFormat.OPENALPR,
            encode(group(best_plate={"plate": "7ABC123", "plate_crop_jpeg": TEXT})),
            id="a group's plate",
        ),
        pytest.param(RecordFormat.OPENALPR, encode(result(image_bytes=TEXT)), id="a frame"),
    ],
)
def test_a_detection_names_its_picture_by_the_picture_s_content(
    store: SqliteStore, images: Images, tmp_path: Path, format_: RecordFormat, record: bytes
) -> None:
    assert ingester(store, tmp_path, images).ingest_records(format_, [record, record]).accepted == 1
    assert named(store) == [REFERENCE]
    assert [p.read_bytes() for p in stored(tmp_path)] == [JPEG]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(base64.b64encode(b"GIF89a").decode(), id="another kind"),
        pytest.param("not base64 at all", id="no base64"),
        pytest.param(base64.b64encode(JPEG + b"x" * 2_200_000).decode(), id="over 2 MiB"),
        pytest.param(17, id="a number"),
    ],
)
def test_a_picture_that_is_none_is_left_out_and_the_read_is_kept(
    store: SqliteStore, images: Images, tmp_path: Path, picture: object
) -> None:
    record = encode(group(vehicle_crop_jpeg=picture))
    assert ingester(store, tmp_path, images).ingest_records(RecordFormat.OPENALPR, [record]).accepted == 1
    assert (named(store), stored(tmp_path)) == (["u-1"], [])


def test_without_a_retention_of_pictures_none_is_kept(store: SqliteStore, tmp_path: Path) -> None:
    body = multipart(("a.xml", "text/xml", alert()), ("detectionPicture.jpg", "image/jpeg", JPEG))
    assert ingester(store, tmp_path, None).ingest_body(RecordFormat.HIKVISION, body).accepted == 1
    assert not (tmp_path / "images").exists()


def test_a_read_whose_picture_cannot_be_kept_is_not_acknowledged(
    store: SqliteStore, images: Images, tmp_path: Path
) -> None:
    (tmp_path / "images").write_bytes(b"a file where the folder should be")
    with pytest.raises(Unavailable) as caught:
        ingester(store, tmp_path, images).ingest_records(RecordFormat.OPENALPR, [encode(group(vehicle_crop_jpeg=TEXT))])
    assert (caught.value.reason, store.count()) == ("IMAGES_FAILED", 0)
