"""What the store is measured against: a plain SQLite table, LMDB, PostgreSQL (DuckDB has a file of its own)."""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate, skeleton
from comity.query import Circle
from node.store.rows import INSERT, SELECT, SPANS, Row, Words, detection_of, row_of

LIMIT = 1_001
_WINDOW = " AND d.captured_at >= :begin AND d.captured_at < :end ORDER BY d.captured_at DESC, d.uid DESC LIMIT 1001"
_SCHEMA = """
CREATE TABLE word(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE(kind, text));
CREATE TABLE det(id INTEGER PRIMARY KEY, skel TEXT NOT NULL, captured_at INTEGER NOT NULL, uid INTEGER NOT NULL,
  plate TEXT NOT NULL, region INTEGER NOT NULL, camera INTEGER NOT NULL, source INTEGER NOT NULL, lat INTEGER,
  lon INTEGER, conf INTEGER, make INTEGER, colour INTEGER, image TEXT);
"""
_INDEXES = """
CREATE UNIQUE INDEX det_p ON det(plate, captured_at, uid);
CREATE INDEX det_c ON det(camera, captured_at);
"""
_SELECT_SPANS = (
    f"{SELECT.partition(' FROM ')[0]} FROM {SPANS} LEFT JOIN word r ON r.id = d.region"
    " LEFT JOIN word s ON s.id = d.source LEFT JOIN word m ON m.id = d.make LEFT JOIN word o ON o.id = d.colour"
)
_INSERT = INSERT.replace("ON CONFLICT(skel, captured_at, uid)", "ON CONFLICT(plate, captured_at, uid)")
Window = tuple[int, int]  # ms UTC, the second is no longer in it


class Peer(Protocol):
    """What every peer can do, so that the same questions are put to each."""

    name: str
    durable: bool  # and a read that is there already is not stored again

    def bulk(self, batch: Sequence[Detection]) -> None:
        """Take a part of the whole."""

    def finish(self) -> None:
        """All of it is durable and indexed."""

    def add(self, batch: Sequence[Detection]) -> None:
        """Durable when this returns."""

    def exact(self, plate: Plate, window: Window) -> list[Detection]:
        """Newest first."""

    def camera(self, camera: str, window: Window) -> list[Detection]:
        """Newest first."""

    def size(self) -> int:
        """Bytes on the disk."""

    def close(self) -> None:
        """Let go."""


def evict(folder: Path) -> None:
    """No page of the folder's files is in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # a page that is not written yet stays
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def written_bytes() -> int:
    """What this process has sent towards the disk so far."""
    return _io("write_bytes")


def read_bytes() -> int:
    """What this process has had fetched from the disk so far."""
    return _io("read_bytes")


def _io(name: str) -> int:
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith(f"{name}:")).split()[1])


def folder_bytes(folder: Path) -> int:
    """What the folder takes."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


class Plain:
    """One SQLite table with the same columns, unique by (plate, time, uid), and an index by (camera, time)."""

    name = "plain SQLite table"
    durable = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._words: Words = {}
        self._open()
        if not self._c.execute("SELECT 1 FROM sqlite_schema").fetchone():
            self._c.executescript(_SCHEMA)
            self._c.execute("BEGIN")

    def _open(self) -> None:
        self._c = sqlite3.connect(self.folder / "plain.db", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._c.execute(f"PRAGMA {pragma}")

    def bulk(self, batch: Sequence[Detection]) -> None:
        self._c.executemany(_INSERT.partition(" ON CONFLICT")[0], self._rows(batch))

    def finish(self) -> None:
        for statement in _INDEXES.split(";"):
            self._c.execute(statement)
        self._c.execute("COMMIT")
        self.checkpoint()

    def checkpoint(self) -> None:
        """Everything is in the main file."""
        self._c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _rows(self, batch: Sequence[Detection]) -> list[Row]:
        return [row_of(d, self._words, self._c) for d in batch]

    def add(self, batch: Sequence[Detection]) -> None:
        self._c.execute("BEGIN IMMEDIATE")
        self._c.executemany(_INSERT, self._rows(batch))
        self._c.execute("COMMIT")

    def _asked(self, statement: str, window: Window, **values: object) -> list[Detection]:
        bound = {**values, "begin": window[0], "end": window[1]}
        return [detection_of(r) for r in self._c.execute(statement + _WINDOW, bound).fetchall()]

    def exact(self, plate: Plate, window: Window) -> list[Detection]:
        state = "coalesce(r.text, :state) IN (:state, '')"
        return self._asked(
            f"{SELECT} WHERE d.plate = :plate AND {state}", window, plate=plate.number, state=plate.state
        )

    def among(self, numbers: Sequence[str], window: Window) -> list[Detection]:
        """Those of any of the numbers."""
        where = "d.plate IN (SELECT value FROM json_each(:plates))"
        return self._asked(f"{SELECT} WHERE {where}", window, plates=orjson.dumps(numbers).decode())

    def glob(self, pattern: str, window: Window) -> list[Detection]:
        """Those that fit the pattern."""
        return self._asked(f"{SELECT} WHERE d.plate GLOB :pattern", window, pattern=pattern)

    def camera(self, camera: str, window: Window) -> list[Detection]:
        where = "d.camera = (SELECT id FROM word WHERE kind = 'camera' AND text = :camera)"
        return self._asked(f"{SELECT} WHERE {where}", window, camera=camera)

    def circle(self, circle: Circle, window: Window) -> list[Detection]:
        """Those inside it."""
        reach = int(circle.radius_e7) + 1
        where = (
            "d.camera IN (SELECT id FROM word WHERE kind = 'camera')"
            " AND d.lat BETWEEN :lat - :reach AND :lat + :reach"
            " AND abs(d.lon - :lon) * :scale <= :reach"
        )
        lat, lon = circle.latitude_e7, circle.longitude_e7
        found = self._asked(f"{SELECT} WHERE {where}", window, lat=lat, lon=lon, reach=reach, scale=circle.scale)
        return [d for d in found if circle.contains(d.latitude_e7 or 0, d.longitude_e7 or 0)]

    def convoy(self, plate: Plate, within_s: int, cameras: int, window: Window) -> list[Detection]:
        """What was near the plate's reads at so many cameras: the rows near each, by the camera index, in one pass."""
        spans = []
        for d in self.exact(plate, window):
            at = to_ms(d.captured_at)
            spans.append((d.camera, max(window[0], at - within_s * 1000), min(window[1] - 1, at + within_s * 1000)))
        near = set(self._c.execute(_SELECT_SPANS, {"spans": orjson.dumps(spans).decode()}))
        at_cameras: dict[str, set[str]] = {}
        for row in near:
            at_cameras.setdefault(row[2], set()).add(row[4])
        many = {n for n, at in at_cameras.items() if len(at) >= cameras and skeleton(n) != plate.skeleton}
        return [detection_of(row) for row in sorted((r for r in near if r[2] in many), reverse=True)[:LIMIT]]

    def row_ids(self, uids: Iterable[int], plate: Plate) -> list[int]:
        """The rowids of a plate's reads with these uids."""
        wanted = set(uids)
        return [
            i for i, uid in self._c.execute("SELECT id, uid FROM det WHERE plate = ?", (plate.number,)) if uid in wanted
        ]

    def by_rowid(self, ids: Sequence[int]) -> list[Detection]:
        """The rows with these rowids, made into the same objects, sorted: the least that a look-up costs in SQLite."""
        rows = self._c.execute(f"{SELECT} WHERE d.id IN ({','.join('?' * len(ids))})", ids).fetchall()  # nosec B608
        return sorted((detection_of(r) for r in rows), key=lambda d: (d.captured_at, d.uid), reverse=True)

    def drop_before(self, at_ms: int) -> None:
        """Rows from before are gone."""
        self._c.execute("DELETE FROM det WHERE captured_at < ?", (at_ms,))
        self.checkpoint()

    def renew(self) -> None:
        """A new connection that has looked at the schema."""
        self._c.close()
        self._open()
        self._c.execute("SELECT 1 FROM det WHERE id = 1").fetchall()

    def size(self) -> int:
        self.checkpoint()
        return folder_bytes(self.folder)

    def close(self) -> None:
        self._c.close()


class Lmdb:
    """LMDB with a row under its key by plate and again by camera; the better engine for single look-ups."""

    name = "LMDB"
    durable = False  # a transaction a batch is; here it is there for its look-ups

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._env: Any = importlib.import_module("lmdb").open(str(folder), map_size=1 << 38, max_dbs=2)
        self._by_plate, self._by_camera = (self._env.open_db(n) for n in (b"plate", b"camera"))

    def bulk(self, batch: Sequence[Detection]) -> None:
        self.add(batch)

    def finish(self) -> None:
        self._env.sync(True)

    def add(self, batch: Sequence[Detection]) -> None:
        with self._env.begin(write=True) as transaction:
            for d in batch:
                key, value = _key(to_ms(d.captured_at), d.uid), _packed(d)
                transaction.put(_prefix(d.plate.number) + key, value, db=self._by_plate, overwrite=False)
                transaction.put(_prefix(d.camera) + key, value, db=self._by_camera, overwrite=False)

    def _range(self, db: object, prefix: bytes, window: Window) -> list[Detection]:
        end, found = prefix + _key(window[1], -(1 << 63)), []
        with self._env.begin(db=db) as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix + _key(window[0], -(1 << 63))):
                for key, value in cursor:
                    if key >= end:
                        break
                    found.append(detection_of(tuple(orjson.loads(value))))
        return found[::-1][:LIMIT]

    def exact(self, plate: Plate, window: Window) -> list[Detection]:
        found = self._range(self._by_plate, _prefix(plate.number), window)
        return [d for d in found if d.plate.state in (plate.state, "")]

    def camera(self, camera: str, window: Window) -> list[Detection]:
        return self._range(self._by_camera, _prefix(camera), window)

    def size(self) -> int:
        return folder_bytes(self.folder)

    def close(self) -> None:
        self._env.close()


def _prefix(text: str) -> bytes:
    return text.encode().ljust(12, b"\0")


def _key(at_ms: int, uid: int) -> bytes:
    return struct.pack(">QQ", at_ms, uid + (1 << 63))


def _packed(d: Detection) -> bytes:
    return orjson.dumps(
        (to_ms(d.captured_at), d.uid, d.plate.number, d.plate.state, d.camera, d.source, d.latitude_e7,
         d.longitude_e7, d.confidence_permille, d.image or None, d.make or None, d.colour or None)
    )  # fmt: skip


class Postgres:
    """PostgreSQL: one table, unique by (skeleton, time, uid), an index by (camera, time) that includes the plate."""

    durable = True

    def __init__(self, server: Any) -> None:
        psycopg = importlib.import_module("psycopg")
        self.name = server.what
        self._c = psycopg.connect(server.url, password=server.password, autocommit=True)
        self._words: Words = {}
        self._c.execute(_SCHEMA.replace("INTEGER PRIMARY KEY", "SERIAL PRIMARY KEY").replace("INTEGER", "BIGINT"))
        self._c.execute("BEGIN")
        self._copying: Any = None
        self._copy: Any = None

    def bulk(self, batch: Sequence[Detection]) -> None:
        rows = [row_of(d, self._words, _Lexicon(self._words)) for d in batch]  # type: ignore[arg-type]
        if self._copy is None:
            self._copying = self._c.cursor().copy(f"COPY det({_PG_COLUMNS}) FROM STDIN")
            self._copy = self._copying.__enter__()
        for row in rows:
            self._copy.write_row(row)

    def finish(self) -> None:
        self._copying.__exit__(None, None, None)
        self._c.execute("ALTER TABLE det DROP COLUMN id")
        self._c.execute("CREATE UNIQUE INDEX det_k ON det(skel, captured_at, uid)")
        self._c.execute("CREATE INDEX det_c ON det(camera, captured_at) INCLUDE (plate)")
        with self._c.cursor() as cursor:
            words = [(i, kind, text) for (kind, text), i in self._words.items()]
            cursor.executemany("INSERT INTO word(id, kind, text) VALUES (%s, %s, %s)", words)
        self._c.execute("COMMIT")
        self._c.execute("ANALYZE")

    def add(self, batch: Sequence[Detection]) -> None:
        rows = [row_of(d, self._words, _Lexicon(self._words)) for d in batch]  # type: ignore[arg-type]
        # One statement of whole columns: as fast as COPY into a temporary table, and faster for a single row.
        self._c.execute(_PG_INSERT, [list(column) for column in zip(*rows, strict=True)])

    def exact(self, plate: Plate, window: Window) -> list[Detection]:
        where = "d.skel = %s AND d.plate = %s AND coalesce(r.text, %s) IN (%s, '')"
        return self._asked(where, [plate.skeleton, plate.number, plate.state, plate.state], window)

    def camera(self, camera: str, window: Window) -> list[Detection]:
        return self._asked("d.camera = (SELECT id FROM word WHERE kind = 'camera' AND text = %s)", [camera], window)

    def _asked(self, where: str, values: list[object], window: Window) -> list[Detection]:
        tail = f"AND d.captured_at >= %s AND d.captured_at < %s ORDER BY d.captured_at DESC, d.uid DESC LIMIT {LIMIT}"
        found = self._c.execute(f"{SELECT} WHERE {where} {tail}", [*values, *window])  # nosec B608
        return [detection_of(r) for r in found.fetchall()]

    def size(self) -> int:
        return int(self._c.execute("SELECT pg_total_relation_size('det')").fetchone()[0])

    def close(self) -> None:
        self._c.close()


_PG_COLUMNS = "skel, captured_at, uid, plate, region, camera, source, lat, lon, conf, make, colour, image"
_PG_TYPES = ("text", "bigint", "bigint", "text", *["bigint"] * 8, "text")
_PG_INSERT = (
    f"INSERT INTO det({_PG_COLUMNS}) SELECT * FROM unnest({', '.join(f'%s::{t}[]' for t in _PG_TYPES)})"  # nosec B608
    " ON CONFLICT DO NOTHING"
)


class _Lexicon:
    """Gives words their numbers as they come, in the place of a connection: the table is filled at the end."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def execute(self, _statement: str, _values: object) -> _Lexicon:
        return self

    def fetchone(self) -> tuple[int]:
        return (len(self._words) + 1,)


@contextlib.contextmanager
def peers(folder: Path, wanted: Sequence[str]) -> Iterator[tuple[list[Peer], list[str]]]:
    """The peers that can be had here beside the plain table, and what to say of those that cannot."""
    found: list[Peer] = []
    missing: list[str] = []
    with contextlib.ExitStack() as stack:
        if "lmdb" in wanted:
            try:
                found.append(Lmdb(folder / "lmdb"))
            except ImportError:
                missing.append("LMDB was not measured: the package lmdb is not installed")
        if "duckdb" in wanted:
            try:
                found.append(importlib.import_module("bench.store_duckdb").Duckdb(folder / "duckdb"))
            except ImportError:
                missing.append("DuckDB was not measured: the package duckdb is not installed")
        if "postgres" in wanted:
            try:
                from tests.postgres_server import LocalServer, NoServer

                found.append(Postgres(stack.enter_context(LocalServer())))
            except (ImportError, NoServer):
                missing.append("PostgreSQL was not measured: no server, or psycopg is not installed")
        try:
            yield found, missing
        finally:
            for peer in found:
                peer.close()
