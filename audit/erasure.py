"""Erases sealed values for good by overwriting their keys. Entries, hashes and proofs stay as they are.

What opened them before, and copies of the log made before, are beyond it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit import form
from audit.entry import Draft
from audit.erasure_record import ERASURE_TYPE, signed_erasure
from audit.listing import decode
from audit.log import MAX_CALL, DecisionLog
from audit.note import Checkpoint
from audit.oversight import overseer
from audit.read import LogReader
from audit.store import LogFiles
from audit.writer import Clock, SignedHead
from comity.errors import InvalidInput, LogFault, Unavailable
from identity.directory import Directory
from identity.signing import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was erased: of how many entries, or how many keys of a month; and the head that holds the record of it."""

    entries: int
    keys: int
    first_index: int
    head: SignedHead


def erase(
    path: Path | str,
    *,
    inquiries: Sequence[str] = (),
    month: str = "",
    signer: Signer,
    directory: Directory,
    rule: str,
    clock: Clock,
) -> Erasure:
    """The clear values of these inquiries, or of everything written in `month` (YYYY-MM), can be read by nobody.

    Who signs, whom `directory` must know as entitled, and `rule` (why) stand in the log's `erasure` entries, which are
    one transaction with the overwriting. The program whose log it is must not run. When it returns, the keys are in
    none of the log's files.

    Raises:
        ConfigError: NO_LOG, LOG_IN_USE (its program runs), LOG_EXPOSED or a fault of its key.
        NotAuthentic: whose certificate it is may not erase here, as `overseer`.
        InvalidInput: NO_ENTRY, NOT_SEALED, ERASED (already), or BAD_ENTRY.
        LogFault: the log is not what its head signs.
        Unavailable: somebody reads the log, so that its journal still holds the keys: again (ERASURE_UNFINISHED).
        LogBroken: it could not be written.
    """
    try:
        with DecisionLog.open(path, clock=clock) as log:
            with LogReader(LogFiles.locate(Path(path)), live=True) as reader:
                found = (
                    _of_month(reader, month) if month else [_of_inquiry(reader, i) for i in dict.fromkeys(inquiries)]
                )
            origin = Checkpoint.parse(log.head.checkpoint).origin
            who = overseer(signer.sign(ERASURE_TYPE, b""), directory, clock(), of_log=origin).spiffe
            drafts = [
                signed_erasure(
                    origin, signer, epoch=epoch, key_id=key_id, indexes=indexes, requested_by=str(who), rule=rule
                )
                for epoch, key_id, indexes in found
            ]
            first, head = asyncio.run(_append(log, drafts))
    except InvalidInput as e:
        if e.reason == "ERASED":  # a second run after one that was not finished
            scrub(path)
        raise
    scrub(path)
    return Erasure(entries=0 if month else len(drafts), keys=len(drafts) if month else 0, first_index=first, head=head)


def scrub(path: Path | str) -> None:
    """Return if no journal is left that could hold what was overwritten in the log's file.

    Raises:
        Unavailable: there is one (ERASURE_UNFINISHED).
    """
    # Closing folded the journal into the file and removed it, unless somebody else has the file open.
    db = LogFiles.locate(Path(path)).db
    if db.with_name(db.name + "-wal").exists():
        raise Unavailable(
            "erased and recorded, but somebody reads the log, so that its journal still holds the keys: "
            "end that, and run this again",
            reason="ERASURE_UNFINISHED",
        )


def _of_inquiry(reader: LogReader, inquiry_id: str) -> tuple[str, str, tuple[int, ...]]:
    """Epoch, key and index of what was sealed with that inquiry."""
    index = reader.find_inquiry(inquiry_id)
    if index is None:
        raise InvalidInput("this log has not recorded that inquiry", reason="NO_ENTRY")
    value, part = decode(index, reader.entry(index)), reader.sealed_part(index)
    if "sealed" not in value:
        raise InvalidInput(f"nothing was sealed with entry {index}", reason="NOT_SEALED")
    if part is None:
        raise LogFault(f"the sealed part of entry {index} is gone", index=index, reason="SEALED_MISSING")
    if part.erased:
        raise InvalidInput(f"the values of entry {index} were erased before", reason="ERASED")
    return value["at"][:7], part.key_id, (index,)


def _of_month(reader: LogReader, month: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Epoch and id of each of that month's keys that is still there."""
    if not form.month(month):
        raise InvalidInput("a month is written YYYY-MM", reason="BAD_MONTH")
    keys = [e for e in reader.epoch_keys() if e.month == month]
    if not keys:
        raise InvalidInput(f"nothing was sealed in {month}", reason="NOT_SEALED")
    left = dict.fromkeys(e.key_id for e in keys if not e.erased)
    if not left:
        raise InvalidInput(f"the values of {month} were erased before", reason="ERASED")
    return [(month, key_id, ()) for key_id in left]


async def _append(log: DecisionLog, drafts: Sequence[Draft]) -> tuple[int, SignedHead]:
    first = log.head.size
    for at in range(0, len(drafts), MAX_CALL):
        await log.append(drafts[at : at + MAX_CALL])
    return first, log.head
