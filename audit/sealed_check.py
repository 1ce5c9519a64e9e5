"""Step 8 of a log's verification: what was sealed is there as it was written, or its erasure is recorded and done.

Nothing is opened: whoever verifies needs no auditor's key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from audit.read import LogReader
from audit.sealed_store import EpochKey, SealedPart, epoch_key_id
from comity.errors import LogFault

# The entries' canonical form was checked before: no string in one holds a bare quote, so this matches the field alone.
_NAMED = re.compile(rb'"sealed":\{"hash":"([0-9a-f]{64})","key_id":"([0-9a-f]{32})"\}')
_UNAPPROVED = re.compile(rb'\{"act":"[a-z]+","approvers":\[\],"at":"([0-9]{4}-[0-9]{2})')  # as most begin
Erasures = Sequence[tuple[int, Mapping[str, Any]]]


def check_sealed(reader: LogReader, erasures: Erasures) -> int:
    """The number of inquiries that name no sealed part, which is no fault by itself: auditors may have come later.

    Every other's part and its epoch key are what the entry names, or were erased by an entry that says so. `erasures`
    are all those entries, each with its index.

    Raises:
        LogFault: a part is missing (SEALED_MISSING) or another (SEALED_MISMATCH), belongs to no entry (SEALED_STRAY),
            was sealed under another month's key (SEALED_MONTH), was erased without a record (ERASURE_UNRECORDED), or
            is there though a record says that it was erased (ERASURE_UNDONE).
    """
    keys_used, erased, count, without = dict[str, str](), list[int](), 0, 0
    for index, entry, part in reader.sealed_of_inquiries():
        named = _NAMED.search(entry) if b'"sealed":{' in entry else None
        if named is None:
            without += 1
            continue
        if part is None:
            raise LogFault(f"the sealed part of entry {index} is gone", index=index, reason="SEALED_MISSING")
        count += 1
        key_id = named[2].decode()
        month = _month(entry)
        if keys_used.setdefault(key_id, month) != month:
            message = f"entry {index} was sealed under the key of another month, and would outlive its own's erasure"
            raise LogFault(message, index=index, reason="SEALED_MONTH")
        if part.key_id == key_id and part.erased:
            erased.append(index)
        elif not _fits(part, key_id, named[1]):
            message = f"the sealed part of entry {index} is not the one that was written with it"
            raise LogFault(message, index=index, reason="SEALED_MISMATCH")
    if count != reader.sealed_count():
        raise LogFault("a sealed part belongs to no entry", reason="SEALED_STRAY")
    epochs = reader.epoch_keys()
    missing = keys_used.keys() - {e.key_id for e in epochs}
    if missing:
        raise LogFault(f"the epoch key {min(missing)} is gone", reason="SEALED_MISSING")
    gone = {e.key_id for e in epochs if e.erased}
    for key_id in sorted({e.key_id for e in epochs} - gone):
        rows = [e for e in epochs if e.key_id == key_id]
        if {e.month for e in rows} != {rows[0].month} or key_id != _id_of(rows):
            message = f"what is sealed of the epoch key {key_id[:40]} is not what was written"
            raise LogFault(message, reason="SEALED_MISMATCH")
    for epoch in epochs:
        if keys_used.get(epoch.key_id, epoch.month) != epoch.month:
            message = f"the epoch key {epoch.key_id} is not of the month in which it was used: what it seals would "
            raise LogFault(message + "outlive that month's erasure", reason="SEALED_MONTH")
    _recorded(erasures, erased, gone)
    _done(erasures, set(erased), {e.key_id for e in epochs if not e.erased})
    return without


def _month(entry: bytes) -> str:
    """YYYY-MM of an inquiry's time."""
    begin = _UNAPPROVED.match(entry)
    return begin[1].decode() if begin else str(orjson.loads(entry)["at"])[:7]


def _id_of(rows: Sequence[EpochKey]) -> str:
    return epoch_key_id(rows[0].month, [(e.recipient, e.sealed) for e in rows])


def _fits(part: SealedPart, key_id: str, hash_: bytes) -> bool:
    return part.key_id == key_id and type(part.part) is bytes and part.hash.hex().encode() == hash_


def _recorded(erasures: Erasures, erased: list[int], gone: set[str]) -> None:
    keys = {value["key_id"] for _, value in erasures if value["scope"] == "epoch"}
    indexes = {i for _, value in erasures if value["scope"] == "entry" for i in value["indexes"]}
    for index in erased:
        if index not in indexes:
            message = f"the values of entry {index} were erased, and no entry says so"
            raise LogFault(message, index=index, reason="ERASURE_UNRECORDED")
    if not gone <= keys:
        raise LogFault("an epoch key was erased, and no entry says so", reason="ERASURE_UNRECORDED")


def _done(erasures: Erasures, erased: set[int], there: set[str]) -> None:
    """Whoever puts a copy from before an erasure back under it brings back what nobody may read any more."""
    for index, value in erasures:
        kept = value["key_id"] in there if value["scope"] == "epoch" else not erased.issuperset(value["indexes"])
        if kept:
            message = f"entry {index} records an erasure, and what it names is there"
            raise LogFault(message, index=index, reason="ERASURE_UNDONE")
