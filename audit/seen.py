"""Heads of logs that others have seen, held against the log: what shows that it was cut back, or altered near its end.

A witness's memory is read, or a signed note from anywhere. Only what the log's own key signed counts: nobody can make
up a head against a log.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson

from audit.cosignature import WitnessKey, cosignatures
from audit.hashes import HashReader, hashes_of_log
from audit.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, verify_checkpoint
from audit.proof import tree_root
from audit.store import connect_read_only
from audit.witness import DB_NAME, is_memory
from comity.errors import InvalidInput, LogFault
from identity import files

_SQLITE = b"SQLite format 3\0"
# Not what was refused: a broker that was started once on an older copy of its log signed other heads by mistake.
_NOTES = "SELECT note FROM head UNION SELECT held FROM report LIMIT 10000"


def seen_heads(path: Path) -> list[bytes]:
    """The signed notes in `path`: a witness's `witness.db` or the folder with it, or one note. Nothing is verified.

    Read them before the log is read, or copied: a log that goes on grows past what a witness saw, never the reverse.

    Raises:
        ConfigError: FILE_UNREADABLE, FILE_TOO_LARGE.
        InvalidInput: neither of the two (BAD_WITNESSED).
    """
    path = path / DB_NAME if path.is_dir() else path
    if path.is_file():  # a pipe would be waited for
        with contextlib.suppress(OSError), path.open("rb") as f:
            if f.read(len(_SQLITE)) == _SQLITE:
                return _remembered(path)
    note = files.read(path, max_bytes=MAX_NOTE_BYTES)
    try:
        Checkpoint.parse(note)
    except LogFault:
        raise _bad(path) from None
    return [note]


def hold_against(reader: HashReader, head: Checkpoint, key: VerifierKey, notes: Sequence[bytes]) -> int:
    """The size of the newest of those heads; all that are of this log, and signed by its key, are ones that it had.

    Raises:
        LogFault: the log has become smaller (ROLLED_BACK), or has another past (FORKED).
    """
    found = sorted({(c.size, c.root) for n in notes if (c := _signed(n, key)) is not None})
    hashes, good = None, 0
    for size, root in found:
        if size > head.size:
            message = f"others saw {size} entries of it, signed by its key, and it has {head.size}: it was cut back"
            raise LogFault(message, reason="ROLLED_BACK")
        hashes = hashes or hashes_of_log(reader, head.size)
        if tree_root(size, hashes.subtree) != root:
            message = f"one of its entries {good} to {size - 1} is not what others saw, signed by its key"
            raise LogFault(message, reason="FORKED")
        good = size
    return good


def newest_cosigned(reader: HashReader, key: VerifierKey, witnesses: Sequence[WitnessKey], quorum: int) -> bytes:
    """The newest head of this log that its own entries show with as many cosignatures; empty if there is none.

    Raises:
        LogFault: an entry is not one.
    """
    for index, entry in reader.backwards():
        if b'"note"' not in entry:
            continue
        try:
            notes = [p["note"].encode() for p in orjson.loads(entry)["peers"] if "note" in p]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise LogFault(
                f"entry {index} is not in its form: verify the log", index=index, reason="BAD_FORM"
            ) from None
        for note in notes:
            with contextlib.suppress(LogFault):
                if verify_checkpoint(note, key) and len(cosignatures(note, witnesses)) >= max(1, quorum):
                    return bytes(note)
    return b""


def _signed(note: bytes, key: VerifierKey) -> Checkpoint | None:
    try:
        return verify_checkpoint(note, key)
    except LogFault:
        return None


def _remembered(path: Path) -> list[bytes]:
    try:
        at_rest = not path.with_name(path.name + "-wal").exists()
        with contextlib.closing(connect_read_only(path, at_rest=at_rest)) as db:
            if not is_memory(db):
                raise _bad(path)
            notes = [note for (note,) in db.execute(_NOTES)]
    except (sqlite3.Error, UnicodeDecodeError):
        raise _bad(path) from None
    if any(type(note) is not bytes for note in notes):
        raise _bad(path)
    return notes


def _bad(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is neither a witness's memory nor a signed note", reason="BAD_WITNESSED")
