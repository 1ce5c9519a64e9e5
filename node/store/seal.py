"""Hot segments become sealed, sorted parts of one period each, and the parts of a period become one.

A part is written whole under a temporary name, synced and hashed before the manifest names it. Its source stays
until then, so that a kill or a full disk at any instant costs the work and no row.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comity.instants import from_ms, to_ms
from node.store.manifest import Piece
from node.store.partial import PLACES
from node.store.rows import word_ids
from node.store.rules import ClassRule
from node.store.segment import APPLICATION_ID, SEALED, faults, sync_folder
from node.store.sieve import PUT, TABLE, sieve_of

DAY_S = 86_400
DAY_MS = DAY_S * 1000
MAX_SOURCES = 8  # SQLite attaches ten at most
CACHE_KIB = 64 * 1024
# A look-up reads a page at each level of a tree, and a million rows have one level less than with the usual 4 KiB.
# With 16 KiB there are no fewer, and what is in many places, as a convoy is, takes twice the bytes.
PAGE_BYTES = 8 * 1024
_SCHEMA = f"""
CREATE TABLE word(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE(kind, text));
CREATE TABLE det(skel TEXT NOT NULL, captured_at INTEGER NOT NULL, uid INTEGER NOT NULL, plate TEXT NOT NULL,
  region INTEGER NOT NULL, camera INTEGER NOT NULL, source INTEGER NOT NULL, lat INTEGER, lon INTEGER,
  conf INTEGER, make INTEGER, colour INTEGER, image TEXT, PRIMARY KEY(skel, captured_at, uid)) WITHOUT ROWID;
CREATE TABLE plates(pid INTEGER PRIMARY KEY, skel TEXT NOT NULL, plate TEXT NOT NULL);
CREATE VIRTUAL TABLE tri USING fts5(skel, content='', detail=none, columnsize=0, tokenize='trigram');
CREATE VIRTUAL TABLE pos USING fts5(skel, content='', detail=none, columnsize=0, tokenize='ascii');
{TABLE};
"""
# Each character as a word with the letter of its place, `a7 b8 c8`, for what is known here and there.
_PLACED = (
    f"printf('{' '.join(f'{place}%s' for place in PLACES)}', "
    f"{', '.join(f'substr(skel, {i + 1}, 1)' for i in range(len(PLACES)))})"
)
# After the rows, which are sorted: an index or a dictionary made at once is packed. The index has every column (the
# key's are in it anyway): what one camera saw in an hour lies together, and a row elsewhere costs a page each.
_INDEXES = f"""
CREATE INDEX det_c ON det(camera, captured_at, plate, region, source, lat, lon, conf, make, colour, image);
INSERT INTO plates(skel, plate) SELECT DISTINCT skel, plate FROM det ORDER BY skel, plate;
INSERT INTO tri(rowid, skel) SELECT pid, skel FROM plates;
INSERT INTO tri(tri) VALUES ('optimize');
INSERT INTO pos(rowid, skel) SELECT pid, {_PLACED} FROM plates;
INSERT INTO pos(pos) VALUES ('optimize');
"""  # noqa: S608  # nosec B608
_COLUMNS = (
    "d.skel, d.captured_at, d.uid, d.plate, r.new, c.new, s.new, d.lat, d.lon, d.conf, m.new AS make, o.new AS colour,"
    " d.image"
)
_UNKNOWN = (
    " AND NOT EXISTS (SELECT 1 FROM k{0}.det k"
    " WHERE k.skel = d.skel AND k.captured_at = d.captured_at AND k.uid = d.uid)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What of the sources goes in: captured in [begin_ms, end_ms), and not expired by a class rule."""

    begin_ms: int
    end_ms: int
    rules: tuple[tuple[ClassRule, int], ...] = ()


def period(at_ms: int, retention_s: int) -> tuple[int, int]:
    """The day, week or month, [begin, end) in ms UTC, that a row of that time is sealed into.

    A month where half a year is kept, a week above a fortnight, else a day: a part goes as a whole once all of it
    is expired, and few parts are quick to search.
    """
    if retention_s >= 180 * DAY_S:
        first = from_ms(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (first + dt.timedelta(days=32)).replace(day=1)
        return to_ms(first), to_ms(following)
    length = (7 if retention_s > 14 * DAY_S else 1) * DAY_MS
    begin = at_ms // length * length
    return begin, begin + length


def build(
    folder: Path, number: int, sources: Sequence[Path], span: Span, *, known: Sequence[Path] = ()
) -> Piece | None:
    """The sealed part `part-<number>.db` with these rows, durable but named by no manifest; None if there are none.

    Of two rows with one key it has one, and none that one of the sealed parts `known` has.

    Raises:
        StoreError: it could not be made; nothing is left of it.
    """
    final = folder / f"part-{number}.db"
    draft = folder / f"part-{number}.db.tmp"
    try:
        with faults():
            draft.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None, uri=True)) as connection:
                rows, first, last = _fill(connection, sources, span, known)
            if rows:
                digest = digest_of(draft, sync=True)
                size = draft.stat().st_size
                draft.rename(final)
                sync_folder(folder)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    if not rows:
        return None
    return Piece(name=final.name, rows=rows, begin_ms=first, end_ms=last + 1, size_bytes=size, sha256=digest)


def digest_of(path: Path, *, sync: bool = False) -> str:
    """SHA-256 of the file, in hex; `sync`: and it is durable.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(
    connection: sqlite3.Connection, sources: Sequence[Path], span: Span, known: Sequence[Path]
) -> tuple[int, int, int]:
    # Nothing is journalled: a draft that was cut short is deleted.
    for pragma in (f"page_size={PAGE_BYTES}", "journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
        connection.execute(f"PRAGMA main.{pragma}").fetchall()
    # The one place that attaches: sources are merged here and searched one by one.
    for i, source in enumerate(sources):
        mode = "mode=ro&immutable=1" if source.name.startswith("part-") else "mode=rw"
        connection.execute(f"ATTACH ? AS s{i}", (f"{source.absolute().as_uri()}?{mode}",))
    for i, path in enumerate(known):
        connection.execute(f"ATTACH ? AS k{i}", (f"{path.absolute().as_uri()}?mode=ro&immutable=1",))
    connection.execute("BEGIN")
    for statement in _statements(_SCHEMA):
        connection.execute(statement)
    unknown = "".join(_UNKNOWN.format(i) for i in range(len(known)))
    selects = [f"{_select(connection, i, span)}{unknown}" for i in range(len(sources))]
    # The target of the conflict is named: OR IGNORE would drop a damaged row too, and say nothing.
    connection.execute(
        f"INSERT INTO det {' UNION ALL '.join(selects)} ORDER BY 1, 2, 3"  # nosec B608
        " ON CONFLICT(skel, captured_at, uid) DO NOTHING",
        {"begin": span.begin_ms, "end": span.end_ms},
    )
    found = connection.execute("SELECT count(*), min(captured_at), max(captured_at) FROM det").fetchone()
    for statement in _statements(_INDEXES):
        connection.execute(statement)
    plates = int(connection.execute("SELECT count(*) FROM plates").fetchone()[0])
    connection.execute(PUT, sieve_of((s for (s,) in connection.execute("SELECT skel FROM plates")), plates))
    connection.execute(f"PRAGMA main.application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA main.user_version={SEALED}")
    connection.execute("COMMIT")
    return int(found[0]), int(found[1] or 0), int(found[2] or 0)


def _select(connection: sqlite3.Connection, i: int, span: Span) -> str:
    """The rows of source `i` with this part's own word ids, in key order."""
    connection.execute(f"INSERT OR IGNORE INTO word(kind, text) SELECT kind, text FROM s{i}.word")  # noqa: S608  # nosec B608
    connection.execute(f"CREATE TEMP TABLE map{i}(old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
    connection.execute(
        f"INSERT INTO map{i} SELECT w.id, n.id FROM s{i}.word w JOIN main.word n USING (kind, text)"  # noqa: S608  # nosec B608
    )
    expired = "".join(
        f" AND NOT (d.{kind} = {id_} AND d.captured_at < {cut})" for kind, id_, cut in _expired(connection, i, span)
    )
    joins = "".join(
        f" LEFT JOIN map{i} {alias} ON {alias}.old = d.{column}"
        for alias, column in (("r", "region"), ("c", "camera"), ("s", "source"), ("m", "make"), ("o", "colour"))
    )
    return (
        f"SELECT {_COLUMNS} FROM s{i}.det d{joins}"  # noqa: S608  # nosec B608  # numbers and constants only
        f" WHERE d.captured_at >= :begin AND d.captured_at < :end{expired}"
    )


def _expired(connection: sqlite3.Connection, i: int, span: Span) -> Iterable[tuple[str, int, int]]:
    for rule, cut in span.rules:
        # A word's id in the source, which is not this part's.
        new = word_ids(connection, {(rule.kind, rule.text): cut})
        for id_ in new:
            old = connection.execute(f"SELECT old FROM map{i} WHERE new = ?", (id_,)).fetchone()  # noqa: S608  # nosec B608
            if old is not None:
                yield rule.kind, int(old[0]), cut


def _statements(script: str) -> list[str]:
    return [s for s in script.split(";") if s.strip()]
