"""An index over a log's rows, so that a few of a million are found at once. Derived, and never trusted for truth.

It holds what filters ask for and where each row's entries are; a row shown is read from the log and held against the
filter again. The right edge of the tree over everything indexed is kept with it: brought up to date, it must lead to
the log's own root, or it is of another log, or of another past of this one, and is built anew.

It lies in the reader's own cache, never beside a log, which may be evidence or on a read-only medium.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Self

import orjson

from audit.gather import Gathered, Gatherer
from audit.hashes import HashReader, Progress
from audit.listing import Filter, Row, row_of
from audit.note import Checkpoint
from audit.tree import HASH_BYTES, Tree
from comity.errors import ConfigError, InvalidInput, LogFault
from identity import files

WORTHWHILE = 10_000  # entries; below it reading the log itself takes no second
BEYOND = 2**62
_FORM = 1
_STRETCH = 4_096
_BUSY_S = 120.0  # another reader builds the same index
_TABLES = (
    "CREATE TABLE state(k INTEGER PRIMARY KEY CHECK(k=1), form INTEGER, origin TEXT, size INTEGER, edge BLOB)",
    "CREATE TABLE word(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE line(idx INTEGER PRIMARY KEY, inquiry INTEGER, search INTEGER, agency INTEGER, person INTEGER,"
    " beneficiary INTEGER, purpose INTEGER, node INTEGER, decision INTEGER)",
    "CREATE TABLE rule(word INTEGER, idx INTEGER, PRIMARY KEY(word, idx)) WITHOUT ROWID",
    "CREATE TABLE outcome(inquiry INTEGER, node INTEGER, idx INTEGER, PRIMARY KEY(inquiry, node)) WITHOUT ROWID",
)
_COLUMNS = ("agency", "person", "beneficiary", "purpose", "node", "decision")
_FOUND = "SELECT line.idx, line.inquiry, outcome.idx FROM "
_WITH_OUTCOME = " LEFT JOIN outcome ON outcome.inquiry = line.inquiry AND outcome.node = line.node WHERE "

Found = tuple[int, int | None, int | None]  # the indexes of a row's entry, its inquiry's and its outcome's


class _Stale(Exception):
    """The index was made of other entries than those under the log's head."""


def default_place(db: Path) -> Path:
    """Where the index of the log file `db` lies: in the user's cache, under a name made of the log's path."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "comity" / f"log-index-{sha256(str(db.resolve()).encode()).hexdigest()[:24]}.db"


class LogIndex:
    """The index of one log, brought up to date with the head that its reader sees."""

    def __init__(self, db: sqlite3.Connection, reader: HashReader) -> None:
        self._db, self._reader = db, reader
        self._ids: dict[str, int] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, reader: HashReader, place: Path, progress: Progress | None = None) -> Iterator[Self]:
        """The index of `reader`'s log in the file `place`, mode 0600; made, mended or brought further as need be.

        Raises:
            ConfigError: it cannot be written there (FILE_UNWRITABLE).
            LogFault: the entries are not those that the log's head says (WRONG_ROOT), or are malformed.
        """
        files.make_folder(place.parent)
        for attempt in (1, 2):
            db = _connected(place)
            index = cls(db, reader)
            try:
                index._catch_up(progress)
            except (sqlite3.DatabaseError, _Stale) as e:
                db.close()
                if attempt == 2 or isinstance(e, sqlite3.OperationalError):
                    raise _given_up(place, e) from None
                place.unlink(missing_ok=True)
                continue
            except BaseException:
                db.close()
                raise
            break
        try:
            yield index
        except sqlite3.Error as e:
            raise _given_up(place, e) from None
        finally:
            db.close()

    def newest(self, wanted: Filter, limit: int, *, before: int = BEYOND) -> list[Row]:
        """The newest `limit` rows that are wanted, of entries below `before`, oldest of them first.

        Raises:
            LogFault: an entry is not what it was when it was indexed, or is malformed.
        """
        return self._rows(wanted, limit, 0, before, "DESC")[::-1]

    def following(self, wanted: Filter, limit: int, *, after: int) -> list[Row]:
        """The oldest `limit` rows that are wanted, of entries above `after`, oldest first.

        Raises:
            LogFault: as `newest`.
        """
        return self._rows(wanted, limit, after + 1, BEYOND, "ASC")

    def _rows(self, wanted: Filter, limit: int, least: int, below: int, order: str) -> list[Row]:
        least = max(least, self._first_at(wanted.since)) if wanted.since else least
        below = min(below, self._first_at(wanted.until)) if wanted.until else below
        rows = []
        for index, inquiry, outcome in self._found(wanted, limit, least, below, order):
            try:
                row = row_of(self._reader, index, inquiry, outcome)
            except (TypeError, InvalidInput):
                message = "the index names an entry that is not there: remove it, or read without it (--no-index)"
                raise LogFault(message, reason="BAD_INDEX") from None
            if not wanted.wants(row):
                message = f"entry {index} is not what it was when it was indexed: verify the log"
                raise LogFault(message, index=index, reason="BAD_INDEX")
            rows.append(row)
        return rows

    def _found(self, wanted: Filter, limit: int, least: int, below: int, order: str) -> list[Found]:
        terms, values = ["line.idx >= ?", "line.idx < ?"], [least, below]
        for name in _COLUMNS:
            if text := getattr(wanted, name):
                terms.append(f"line.{name} = ?")
                values.append(self._word(text))
        if wanted.of_searches:
            terms.append("line.search = 1")
        source, words = "line", [[]] if not wanted.rule else [[w] for w in self._rules(wanted.rule)]
        if wanted.rule:
            source = "rule JOIN line ON line.idx = rule.idx"
            terms.append("rule.word = ?")
        query = f"{_FOUND}{source}{_WITH_OUTCOME}{' AND '.join(terms)} ORDER BY line.idx {order} LIMIT ?"
        found: set[Found] = set()
        for word in words:
            found.update(self._db.execute(query, (*values, *word, limit)))
        return sorted(found, key=lambda f: f[0], reverse=order == "DESC")[:limit]

    def _word(self, text: str) -> int:
        row = self._db.execute("SELECT id FROM word WHERE text = ?", (text,)).fetchone()
        return -1 if row is None else int(row[0])

    def _rules(self, rule: str) -> list[int]:
        names = [rule] if ":" in rule else [f"federation:{rule}", f"node:{rule}"]
        return [w for w in map(self._word, names) if w >= 0]

    def _first_at(self, at: str) -> int:
        """The first entry written at `at` or later, by halving: the times of a log never go back."""
        low, high = 0, int(self._db.execute("SELECT size FROM state").fetchone()[0])
        while low < high:
            middle = (low + high) // 2
            if str(orjson.loads(self._reader.entry(middle))["at"]) < at:
                low = middle + 1
            else:
                high = middle
        return low

    def _catch_up(self, progress: Progress | None) -> None:
        """Bring the index to the log's head, in one transaction: it is whole or as it was.

        Raises:
            _Stale: it was made of other entries than those under this head.
        """
        size, note = self._reader.head()
        head = Checkpoint.parse(note)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            tree = self._tree(head.origin)
            if tree.size < size:
                self._ids = {text: id_ for id_, text in self._db.execute("SELECT id, text FROM word")}
                fresh = tree.size == 0
                for gathered in Gatherer(self._reader).stretches(tree, size, _STRETCH):
                    self._write(gathered)
                    if progress:
                        progress(tree.size, size)
                if fresh:
                    self._arrange()
                self._db.execute("UPDATE state SET size = ?, edge = ?", (size, b"".join(tree.edge)))
            if tree.size != size or tree.root() != head.root:
                raise _Stale
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _arrange(self) -> None:
        for name in _COLUMNS:
            self._db.execute(f"CREATE INDEX line_{name} ON line({name})")
        self._db.execute("PRAGMA analysis_limit=1000")
        self._db.execute("ANALYZE")

    def _tree(self, origin: str) -> Tree:
        """The tree over what is indexed so far; an empty index is made if there is none."""
        if not self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            for statement in _TABLES:
                self._db.execute(statement)
            self._db.execute("INSERT INTO word VALUES (0, '')")
            self._db.execute("INSERT INTO state VALUES (1, ?, ?, 0, x'')", (_FORM, origin))
        row = self._db.execute("SELECT form, origin, size, edge FROM state").fetchone()
        if row is None or row[:2] != (_FORM, origin):
            raise _Stale
        try:
            return Tree.of(row[2], [row[3][i : i + HASH_BYTES] for i in range(0, len(row[3]), HASH_BYTES)])
        except (ValueError, TypeError):
            raise _Stale from None

    def _write(self, gathered: Gathered) -> None:
        id_of, db = self._id, self._db
        db.executemany("DELETE FROM line WHERE idx = ?", [(i,) for i in gathered.decided])
        db.executemany(
            "INSERT INTO line VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (index, inquiry, search, *map(id_of, words), id_of(node), id_of(decision))
                for index, inquiry, search, words, node, decision in gathered.lines.values()
            ],
        )
        rules = {(id_of(rule), index) for rule, index in gathered.rules}
        db.executemany("INSERT INTO rule VALUES (?,?)", sorted(rules))
        outcomes = [(inquiry, id_of(node), index) for inquiry, node, index in gathered.outcomes]
        db.executemany("INSERT OR IGNORE INTO outcome VALUES (?,?,?)", outcomes)

    def _id(self, word: str) -> int:
        known = self._ids.get(word)
        if known is None:
            known = self._ids[word] = len(self._ids)
            self._db.execute("INSERT INTO word VALUES (?, ?)", (known, word))
        return known


def _connected(place: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE))
        return sqlite3.connect(place, timeout=_BUSY_S, isolation_level=None)
    except (OSError, sqlite3.Error) as e:
        raise _given_up(place, e) from None


def _given_up(place: Path, cause: Exception) -> ConfigError | LogFault:
    if isinstance(cause, _Stale):
        message = "the hashes of all entries are not the root in the log's head: verify the log"
        return LogFault(message, reason="WRONG_ROOT")
    said = cause.strerror if isinstance(cause, OSError) else type(cause).__name__
    return ConfigError(f"the index in {place} cannot be written or read: {said}", reason="FILE_UNWRITABLE")
