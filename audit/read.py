"""A log read by anybody, while its writer runs or at rest; nothing is changed and nothing is believed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from audit import sealed_store
from audit.sealed_store import EpochKey, SealedPart
from audit.store import LogFiles, check_schema, connect_read_only, the_head
from comity.errors import ConfigError, InvalidInput, LogFault
from identity import files

MAX_READ = 10_000  # entries in one answer
_PAGE = 512
_MAX_VKEY_BYTES = 1024


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as e:
        # SQLite may quote names out of a file that somebody made to be quoted on a terminal.
        said = "".join(c if c.isprintable() else "?" for c in str(e)[:200])
        raise LogFault(f"the log cannot be read: {said}", reason="LOG_UNREADABLE") from None


class LogReader:
    """One read-only connection; a context manager. Every method raises LogFault (LOG_UNREADABLE) on a damaged file."""

    def __init__(self, where: LogFiles, *, live: bool = False) -> None:
        self.files = where
        try:
            if not where.db.is_file():
                raise ConfigError(f"there is no log at {where.db}", reason="NO_LOG")
            # A log at rest is evidence: SQLite would leave a -wal and a -shm file beside it.
            self._at_rest = not live and not where.db.with_name(where.db.name + "-wal").exists()
            self._seen = self._state()
        except OSError as e:
            raise ConfigError(f"cannot read {where.db}: {e.strerror}", reason="FILE_UNREADABLE") from None
        with _reading():
            self._db = connect_read_only(where.db, at_rest=self._at_rest)
            try:
                check_schema(self._db)
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """A reader of the log at `path`: a program's state folder, or the log file in it.

        Raises:
            ConfigError: there is none (NO_LOG).
            LogFault: LOG_UNREADABLE or BAD_SCHEMA.
        """
        return cls(LogFiles.locate(Path(path)))

    def vkey_text(self) -> str | None:
        """What the log's own `log.vkey` says, which whoever could alter the log could alter too; None if absent.

        Raises:
            ConfigError: not a readable text of normal size.
        """
        if not self.files.vkey.exists():
            return None
        return files.read(self.files.vkey, max_bytes=_MAX_VKEY_BYTES).decode("ascii", errors="replace")

    def head(self) -> tuple[int, bytes]:
        """The size and the signed checkpoint, neither verified.

        Raises:
            LogFault: there is not exactly one (NO_HEAD).
        """
        with _reading():
            return the_head(self._db)

    def entry(self, index: int) -> bytes:
        """The bytes of one entry.

        Raises:
            InvalidInput: no such index (NO_ENTRY).
        """
        found = self.entries(index, index + 1)
        if not found:
            raise InvalidInput(f"the log has no entry {index}", reason="NO_ENTRY")
        return found[0]

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries of [start, stop) that there are, in order; at most MAX_READ in one call.

        Raises:
            InvalidInput: not a range, or too many (BAD_RANGE).
        """
        if not 0 <= start <= stop < 2**62 or stop - start > MAX_READ:
            raise InvalidInput(f"a range of 0 to {MAX_READ} entries is read at once", reason="BAD_RANGE")
        with _reading():
            query = "SELECT entry FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
            found = [entry for (entry,) in self._db.execute(query, (start, stop))]
        if any(type(entry) is not bytes for entry in found):
            raise _no_entry(start)
        return found

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Every (index, stored hash, entry), first to last, as the file has them."""
        with _reading():
            yield from self._db.execute("SELECT idx, hash, entry FROM leaf ORDER BY idx")

    def block(self, start: int, stop: int) -> list[tuple[int, object, object]]:
        """Every (index, stored hash, entry) of [start, stop), in order, as the file has them."""
        with _reading():
            query = "SELECT idx, hash, entry FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
            return self._db.execute(query, (start, stop)).fetchall()

    def outside(self, size: int) -> int | None:
        """The first index that is none of a log of that size; None if there is no entry there."""
        query = "SELECT idx FROM leaf WHERE idx < 0 UNION ALL SELECT min(idx) FROM leaf WHERE idx >= ?"
        with _reading():
            return next((index for (index,) in self._db.execute(query, (size,)) if index is not None), None)

    def forwards(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Every (index, entry) from `start` on, oldest first."""
        with _reading():
            for index, entry in self._db.execute("SELECT idx, entry FROM leaf WHERE idx >= ? ORDER BY idx", (start,)):
                if type(entry) is not bytes:
                    raise _no_entry(index)
                yield index, entry

    def backwards(self) -> Iterator[tuple[int, bytes]]:
        """Every (index, entry), newest first."""
        query, below = "SELECT idx, entry FROM leaf WHERE idx < ? ORDER BY idx DESC LIMIT ?", 2**62
        while True:
            with _reading():
                page = self._db.execute(query, (below, _PAGE)).fetchall()
            if any(type(entry) is not bytes for _, entry in page):
                raise _no_entry(page[-1][0])
            yield from page
            if len(page) < _PAGE:
                return
            below = page[-1][0]

    def find_inquiry(self, inquiry_id: str) -> int | None:
        """The index of that inquiry's entry by the side index; None if it was never recorded."""
        with _reading():
            row = self._db.execute("SELECT idx FROM inquiry WHERE inquiry_id = ?", (inquiry_id,)).fetchone()
        if row is not None and type(row[0]) is not int:
            raise _bad_index()
        return None if row is None else row[0]

    def inquiries(self) -> Iterator[tuple[str, int]]:
        """The side index: every (inquiry id, index)."""
        with _reading():
            for inquiry_id, index in self._db.execute("SELECT inquiry_id, idx FROM inquiry"):
                if type(inquiry_id) is not str or type(index) is not int:
                    raise _bad_index()
                yield inquiry_id, index

    def sealed_part(self, index: int) -> SealedPart | None:
        """The sealed part of an entry, unopened; None if it has none."""
        with _reading():
            return sealed_store.part_of(self._db, index)

    def epoch_keys(self) -> list[EpochKey]:
        """Every epoch key, sealed as it is, oldest first."""
        with _reading():
            return sealed_store.epoch_keys(self._db)

    def sealed_of_inquiries(self) -> Iterator[tuple[int, bytes, SealedPart | None]]:
        """Every inquiry's (index, entry, sealed part or None), by the side index."""
        with _reading():
            yield from sealed_store.of_inquiries(self._db)

    def sealed_count(self) -> int:
        """How many sealed parts there are, whatever they belong to."""
        with _reading():
            count: int = self._db.execute("SELECT count(*) FROM sealed").fetchone()[0]
        return count

    def check_pages(self) -> None:
        """Return if SQLite finds its own structure sound.

        Raises:
            LogFault: LOG_UNREADABLE, with what it found.
        """
        with _reading():
            said = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if said != ("ok",):
            raise LogFault("the log's file is damaged in its structure", reason="LOG_UNREADABLE")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it every read sees the log as of one moment, while its writer goes on."""
        with _reading():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("COMMIT")

    def disturbed(self) -> bool:
        """True if a log that was read at rest has been written to since: what was read may be no one state of it."""
        return self._at_rest and self._state() != self._seen

    def _state(self) -> tuple[int, int]:
        found = self.files.db.stat()
        return found.st_mtime_ns, found.st_size

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# A table can say STRICT and hold what was written before it did.
def _no_entry(index: int) -> LogFault:
    return LogFault(f"what stands for entry {index}, or one after it, is none", index=index, reason="BAD_FORM")


def _bad_index() -> LogFault:
    return LogFault("the index of inquiries is not one", reason="BAD_INDEX")
