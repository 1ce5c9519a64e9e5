"""Step 8 of a log's verification: what was sealed is there as it was written, or its erasure is recorded.

Nothing is opened: whoever verifies needs no auditor's key.
"""

from __future__ import annotations

import re

from audit.listing import decode
from audit.read import LogReader
from audit.sealed_store import SealedPart
from comity.errors import LogFault

# The entries' canonical form was checked before: no string in one holds a bare quote, so this matches the field alone.
_NAMED = re.compile(rb'"sealed":\{"hash":"([0-9a-f]{64})","key_id":"([0-9a-f]{16})"\}')
_ERASURE = b'"type":"erasure"'


def check_sealed(reader: LogReader) -> int:
    """The number of inquiries that name no sealed part, which is no fault by itself: auditors may have come later.

    Every other's part and its epoch key are what the entry names, or were erased by an entry that says so.

    Raises:
        LogFault: a part is missing (SEALED_MISSING) or another (SEALED_MISMATCH), belongs to no entry (SEALED_STRAY),
            or was erased without a record (ERASURE_UNRECORDED).
    """
    keys_used, erased, count, without = set[str](), list[int](), 0, 0
    for index, entry, part in reader.sealed_of_inquiries():
        named = _NAMED.search(entry)
        if named is None:
            without += 1
            continue
        if part is None:
            raise LogFault(f"the sealed part of entry {index} is gone", index=index, reason="SEALED_MISSING")
        count += 1
        key_id = named[2].decode()
        keys_used.add(key_id)
        if part.key_id == key_id and part.erased:
            erased.append(index)
        elif not _fits(part, key_id, named[1]):
            message = f"the sealed part of entry {index} is not the one that was written with it"
            raise LogFault(message, index=index, reason="SEALED_MISMATCH")
    if count != reader.sealed_count():
        raise LogFault("a sealed part belongs to no entry", reason="SEALED_STRAY")
    epochs = reader.epoch_keys()
    missing = keys_used - {e.key_id for e in epochs}
    if missing:
        raise LogFault(f"the epoch key {min(missing)} is gone", reason="SEALED_MISSING")
    gone = {e.key_id for e in epochs if e.erased}
    if erased or gone:
        _recorded(reader, erased, gone)
    return without


def _fits(part: SealedPart, key_id: str, hash_: bytes) -> bool:
    return part.key_id == key_id and type(part.part) is bytes and part.hash.hex().encode() == hash_


def _recorded(reader: LogReader, erased: list[int], gone: set[str]) -> None:
    indexes, keys = set[int](), set[str]()
    for index, entry in reader.forwards(0):
        if _ERASURE in entry:
            value = decode(index, entry)
            if value["type"] == "erasure" and value["scope"] == "epoch":
                keys.add(value["key_id"])
            elif value["type"] == "erasure":
                indexes.update(value["indexes"])
    for index in erased:
        if index not in indexes:
            message = f"the values of entry {index} were erased, and no entry says so"
            raise LogFault(message, index=index, reason="ERASURE_UNRECORDED")
    if not gone <= keys:
        raise LogFault("an epoch key was erased, and no entry says so", reason="ERASURE_UNRECORDED")
