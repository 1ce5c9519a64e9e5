"""Detections in SQLite files of one folder: the store that needs no server."""

from __future__ import annotations

import datetime as dt
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from comity.detection import MAX_MS, Detection, Match, MatchClass
from comity.errors import ConfigError
from comity.instants import from_ms, to_ms
from comity.plate import Plate
from node.store.confusable import confusable_skeletons
from node.store.interface import Added, Purged, StoreError, check_search
from node.store.segment import Segment

_SEGMENT = re.compile(r"hot-(\d{1,9})\.db\Z")

# LEFT JOIN, so that the planner starts from det, and a word that is missing shows as NULL and not as no row.
_FROM = """
SELECT d.captured_at, d.uid, d.plate, r.text, c.text, s.text, d.lat, d.lon, d.conf, d.image, m.text, o.text
FROM det d LEFT JOIN word r ON r.id = d.region LEFT JOIN word c ON c.id = d.camera
  LEFT JOIN word s ON s.id = d.source LEFT JOIN word m ON m.id = d.make LEFT JOIN word o ON o.id = d.colour
"""
_NEWEST_FIRST = " ORDER BY d.captured_at DESC, d.uid DESC LIMIT :most"
_EXACT = (
    _FROM
    + "WHERE d.skel = :skel AND d.captured_at >= :begin AND d.captured_at < :end"
    + " AND d.plate = :number AND coalesce(r.text, :state) IN (:state, '')"
    + _NEWEST_FIRST
)
_CONFUSABLE = (
    _FROM  # noqa: S608  # nosec B608  # constants only
    + "WHERE d.skel IN (SELECT value FROM json_each(:skels)) AND d.captured_at >= :begin AND d.captured_at < :end"
    + _NEWEST_FIRST
)
_INSERT = """
INSERT INTO det(skel, captured_at, uid, plate, region, camera, source, lat, lon, conf, make, colour, image)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(skel, captured_at, uid) DO NOTHING
"""
_EXPIRED = "SELECT count(*), min(captured_at), max(captured_at) FROM det WHERE captured_at < ?"


_Asked = tuple[dt.datetime, dt.datetime, int]  # begin, end, limit


class SqliteStore:
    """The `DetectionStore` of one folder. Searches ask every segment, the newest first; new rows go to the newest."""

    def __init__(self, segments: Sequence[Segment], *, retention_s: int, clock: Callable[[], dt.datetime]) -> None:
        self._segments = tuple(segments)
        self._retention = dt.timedelta(seconds=retention_s)
        self._clock = clock
        self._words: dict[tuple[str, str], int] = {}

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make `folder` (0700) with an empty store (0600); one there already is completed if need be.

        Raises:
            StoreError: it cannot be written.
            ConfigError: another program's file is there.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            for path in _segment_paths(folder) or [folder / "hot-0.db"]:
                Segment.create(path)
            # SQLite syncs the file, not the folder that names it.
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as e:
            raise StoreError(f"cannot make the detection store: {e.strerror}") from None

    @classmethod
    def open(cls, folder: Path, *, retention_s: int, clock: Callable[[], dt.datetime]) -> SqliteStore:
        """The store in `folder`; `clock` returns aware UTC.

        Raises:
            ConfigError: there is none, others than the owner can reach it, or it is of another version.
            StoreError: it cannot be read.
        """
        paths = _segment_paths(folder)
        if not paths:
            raise ConfigError("there is no detection store: run `comity node init`", reason="NO_STORE")
        if any(p.stat().st_mode & 0o077 for p in (folder, *paths)):
            raise ConfigError("the detection store is open to others: chmod 0700 it and 0600 its files")
        segments = [Segment(path) for path in paths]
        for segment in segments:
            segment.open()
        return cls(segments, retention_s=retention_s, clock=clock)

    def add(self, batch: Sequence[Detection]) -> Added:
        """See `DetectionStore.add`; one transaction, synced to the disk."""
        with self._segments[0].writing() as connection:
            # Words are kept only once their transaction is: another process may have the file open too.
            words = dict(self._words)
            rows = [_row(d, words, connection) for d in batch]
            rows.sort(key=_index_order)
            accepted = connection.executemany(_INSERT, rows).rowcount if rows else 0
        self._words = words
        return Added(accepted=accepted, duplicates=len(batch) - accepted)

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.exact`."""
        check_search(plate, begin, end, limit)
        found = self._select(
            _EXACT,
            {"skel": plate.skeleton, "number": plate.number, "state": plate.state},
            (begin, end, limit),
        )
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.PARTIAL) for d in found
        ]

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """See `DetectionStore.confusable`."""
        check_search(plate, begin, end, limit)
        skeletons = orjson.dumps(confusable_skeletons(plate.number)).decode()
        found = self._select(_CONFUSABLE, {"skels": skeletons}, (begin, end, limit))
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.CONFUSABLE)
            for d in found
        ]

    def horizon(self) -> dt.datetime:
        """See `DetectionStore.horizon`."""
        return self._clock() - self._retention

    def oldest(self) -> dt.datetime | None:
        """See `DetectionStore.oldest`; reads every row."""
        found = [v for v in self._each("SELECT min(captured_at) FROM det") if v is not None]
        return from_ms(min(found)) if found else None

    def newest(self) -> dt.datetime | None:
        """See `DetectionStore.newest`; reads every row."""
        found = [v for v in self._each("SELECT max(captured_at) FROM det") if v is not None]
        return from_ms(max(found)) if found else None

    def count(self) -> int:
        """See `DetectionStore.count`."""
        return sum(v or 0 for v in self._each("SELECT count(*) FROM det"))

    def purge(self, before: dt.datetime) -> Purged:
        """See `DetectionStore.purge`; deleted bytes are overwritten in the file, which is no erasure of the medium."""
        rows, ends, cut = 0, [], (_first_ms(before),)
        for segment in self._segments:
            with segment.writing() as connection:
                n, oldest, newest = connection.execute(_EXPIRED, cut).fetchone()
                if n:
                    connection.execute("DELETE FROM det WHERE captured_at < ?", cut)
                    rows += n
                    ends += [from_ms(oldest), from_ms(newest)]
        return Purged(rows=rows, oldest=min(ends, default=None), newest=max(ends, default=None))

    def close(self) -> None:
        """See `DetectionStore.close`."""
        for segment in self._segments:
            segment.close()

    def _select(
        self, statement: str, values: dict[str, object], window: tuple[dt.datetime, dt.datetime, int]
    ) -> list[Detection]:
        begin, end, limit = window
        # Expired rows stay on disk until the next purge; no search may see them.
        begin = max(begin, self.horizon())
        bound = {**values, "begin": _first_ms(begin), "end": _first_ms(end), "most": limit + 1}
        rows: list[tuple[object, ...]] = []
        for segment in self._segments:
            with segment.reading() as connection:
                rows.extend(connection.execute(statement, bound).fetchall())
        found = [_detection(row) for row in rows]
        if len(self._segments) > 1:
            found.sort(key=lambda d: (d.captured_at, d.uid), reverse=True)
        return found[: limit + 1]

    def _each(self, statement: str) -> list[int | None]:
        out = []
        for segment in self._segments:
            with segment.reading() as connection:
                out.append(connection.execute(statement).fetchone()[0])
        return out


def _first_ms(at: dt.datetime) -> int:
    """The first whole millisecond not before `at`, since rows keep whole milliseconds."""
    return to_ms(at + dt.timedelta(microseconds=999))


def _segment_paths(folder: Path) -> list[Path]:
    """Newest first."""
    found = [(int(m[1]), p) for p in folder.glob("hot-*.db") if (m := _SEGMENT.match(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


_Row = tuple[str, int, int, str, int, int, int, int | None, int | None, int | None, int | None, int | None, str | None]


def _index_order(row: _Row) -> tuple[str, int]:
    return row[:2]


def _row(d: Detection, words: dict[tuple[str, str], int], connection: sqlite3.Connection) -> _Row:
    def word(kind: str, text: str) -> int:
        known = words.get((kind, text))
        if known is None:
            known = words[kind, text] = _word_id(connection, kind, text)
        return known

    return (
        d.plate.skeleton,
        to_ms(d.captured_at),
        d.uid,
        d.plate.number,
        word("region", d.plate.state),
        word("camera", d.camera),
        word("source", d.source),
        d.latitude_e7,
        d.longitude_e7,
        d.confidence_permille,
        word("make", d.make) if d.make else None,
        word("colour", d.colour) if d.colour else None,
        d.image or None,
    )


def _word_id(connection: sqlite3.Connection, kind: str, text: str) -> int:
    connection.execute("INSERT INTO word(kind, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (kind, text))
    found = connection.execute("SELECT id FROM word WHERE kind = ? AND text = ?", (kind, text)).fetchone()
    assert found is not None
    return int(found[0])


def _detection(row: tuple[object, ...]) -> Detection:
    """The row as a detection, which was parsed before it was written.

    Raises:
        StoreError: a column holds what was never written, so the file is damaged.
    """
    match row:
        case (
            int(captured),
            int(uid),
            str(number),
            str(state),
            str(camera),
            str(source),
            int() | None as lat,
            int() | None as lon,
            int() | None as confidence,
            str() | None as image,
            str() | None as make,
            str() | None as colour,
        ) if 0 <= captured <= MAX_MS:
            return Detection(
                uid=uid,
                plate=Plate(number=number, state=state),
                captured_at=from_ms(captured),
                camera=camera,
                latitude_e7=lat,
                longitude_e7=lon,
                confidence_permille=confidence,
                source=source,
                image=image or "",
                make=make or "",
                colour=colour or "",
            )
    raise StoreError("the detection store holds a row that was never written", reason="STORE_CORRUPT")
