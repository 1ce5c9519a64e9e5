"""A whole log verified, by anybody who has the file and the key: nothing the log says of itself is believed.

    1 head       one, signed by the log's key, naming the log
    2 entry      there at its index, canonical, in its type's form, and what was hashed
    3 time       never earlier than the entry before
    4 citation   the head it cites is the true root over everything before its own commit
    5 evidence   an inquiry shows what was signed; decisions cite a recorded inquiry, outcomes a decision, once
    6 root       all hashes together are the signed root, and as many as were signed
    7 file       the side index says the same, and SQLite's structure is sound

What one log alone cannot show: that it was cut back to an older head of its own. Its witnesses can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from audit import evidence, form
from audit.entry import MAX_ENTRY_BYTES, receipt_fits
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.read import LogReader
from audit.tree import Tree, leaf_hash
from comity import jcs
from comity.errors import ComityError, LogFault, Unavailable
from identity.directory import Directory

Progress = Callable[[int, int], None]
_PROGRESS_EVERY = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first thing found wrong: where (-1: in no one entry), what, and a stable code."""

    index: int
    sentence: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verification found: `entries` were checked, `head` is signed (None: not even that), `fault` comes first.

    `warnings` say what was not or could not be checked.
    """

    entries: int
    head: Checkpoint | None
    fault: Fault | None
    warnings: tuple[str, ...]


def verify(
    path: Path | str,
    *,
    vkey: str | None = None,
    directory: Directory | None = None,
    progress: Progress | None = None,
) -> Report:
    """The report on the log at `path`, as of one moment while its writer may go on.

    `vkey` pins the log's key; without it the directory does; without either the log's own `log.vkey` is taken, and a
    warning says so. `progress` is called with (entries done, entries) now and then.

    Raises:
        ConfigError: there is no log (NO_LOG), or its `log.vkey` cannot be read.
        InvalidInput: `vkey` is no verifier key (BAD_VKEY).
        Unavailable: a log at rest was written to meanwhile: verify again (LOG_CHANGED).
    """
    pinned = VerifierKey.parse(vkey) if vkey is not None else None
    audit = _Audit(directory, progress)
    fault = None
    try:
        with LogReader.open(path) as reader:
            try:
                with reader.snapshot():
                    audit.run(reader, pinned)
            finally:
                if reader.disturbed():
                    raise Unavailable("the log was written to meanwhile: verify it again", reason="LOG_CHANGED")
    except LogFault as e:
        fault = Fault(index=e.index, sentence=str(e), reason=e.reason)
    return Report(entries=audit.tree.size, head=audit.head, fault=fault, warnings=tuple(audit.warnings()))


@dataclass(slots=True)
class _Asked:
    """One inquiry so far; each node is one bit."""

    index: int
    hash: str
    decided: int = 0
    answered: int = 0


class _Audit:
    """The state of one pass over a log, first entry to last."""

    def __init__(self, directory: Directory | None, progress: Progress | None) -> None:
        self.directory, self.progress = directory, progress
        self.tree = Tree()
        self.head: Checkpoint | None = None
        self.at = ""
        self.cited: Mapping[str, Any] = {}
        self.asked: dict[str, _Asked] = {}
        self.nodes: dict[str, int] = {}
        self.own_key = False
        self.revoked = self.behind = 0

    def run(self, reader: LogReader, pinned: VerifierKey | None) -> None:
        size, note = reader.head()
        self.head = verify_checkpoint(note, pinned or self.key(reader, note))
        if self.head.size != size:
            raise LogFault("the head's size is not the one that was signed", reason="WRONG_SIZE")
        for index, stored, entry in reader.rows():
            self.row(index, stored, entry, size)
            if self.progress and index % _PROGRESS_EVERY == 0:
                self.progress(index, size)
        if self.tree.size != size:
            raise LogFault(
                f"entry {self.tree.size} is missing: {size} were signed", index=self.tree.size, reason="MISSING"
            )
        if self.tree.root() != self.head.root:
            message = (
                "the hashes of all entries are not the root that was signed: some entry and its hash were replaced"
            )
            raise LogFault(message, reason="WRONG_ROOT")
        self.side_index(reader)
        reader.check_pages()

    def key(self, reader: LogReader, note: bytes) -> VerifierKey:
        """The key to trust when none was given."""
        if self.directory is not None:
            origin = Checkpoint.parse(note).origin
            known = self.directory.logs.get(origin)
            if known is None:
                raise LogFault("the directory names no log of this origin", reason="UNKNOWN_LOG")
            return VerifierKey.of(origin, known.key)
        self.own_key = True
        text = reader.vkey_text()
        if text is None:
            raise LogFault("no key was given, and the log has no log.vkey beside it", reason="NO_KEY")
        try:
            return VerifierKey.parse(text)
        except ComityError as e:
            raise LogFault(f"log.vkey: {e}", reason="BAD_VKEY") from None

    def row(self, index: int, stored: object, entry: object, size: int) -> None:
        expected = self.tree.size
        if index != expected:
            raise LogFault(f"entry {expected} is missing", index=expected, reason="MISSING")
        if index >= size:
            raise LogFault(f"entry {index} is beyond the signed head of {size}", index=index, reason="BEYOND_HEAD")
        if type(entry) is not bytes or leaf_hash(entry) != stored:
            raise LogFault(f"entry {index} is not what was hashed", index=index, reason="WRONG_HASH")
        value = _decode(index, entry)
        self.in_order(index, value)
        self.tree.append(leaf_hash(entry))
        check = _CHECKS.get(value["type"])
        if check is not None:
            check(self, index, value)

    def in_order(self, index: int, value: Mapping[str, Any]) -> None:
        at, cited, behind = value["at"], value["head"], "clock_behind_ms" in value
        if at < self.at or (behind and at != self.at):
            raise LogFault(f"entry {index} is dated before the one ahead of it", index=index, reason="TIME_ORDER")
        self.at = at
        self.behind += behind
        # Entries of one commit cite the head before it: that is the log as it stands here, or what the last one cited.
        here = {"size": index, "root": self.tree.root().hex()} if cited["size"] == index else self.cited
        if cited != here:
            message = (
                f"entry {index} cites a head that the entries before it do not have: one of them is not the original"
            )
            raise LogFault(message, index=index, reason="WRONG_CITATION")
        self.cited = cited

    def inquiry(self, index: int, value: Mapping[str, Any]) -> None:
        inquiry_id = value["inquiry_id"]
        if inquiry_id in self.asked:
            message = f"entry {index} records an inquiry that entry {self.asked[inquiry_id].index} had recorded"
            raise LogFault(message, index=index, reason="DUPLICATE_INQUIRY")
        inquiry = evidence.check_payload(index, value)
        if self.directory is not None:
            self.revoked += not evidence.check_signatures(index, value, inquiry, self.directory)
        self.asked[inquiry_id] = _Asked(index, value["inquiry_hash"])

    def decision(self, index: int, value: Mapping[str, Any]) -> None:
        asked, node = self.cites(index, value)
        asked.decided |= node

    def outcome(self, index: int, value: Mapping[str, Any]) -> None:
        asked, node = self.cites(index, value)
        if not asked.decided & node:
            raise LogFault(f"entry {index} is an outcome that nobody decided", index=index, reason="NO_DECISION")
        if asked.answered & node:
            message = f"entry {index} is a second outcome of one node for one inquiry"
            raise LogFault(message, index=index, reason="DUPLICATE_OUTCOME")
        asked.answered |= node

    def receipt(self, index: int, value: Mapping[str, Any]) -> None:
        if not receipt_fits(value["origin"], value["index"], value["checkpoint"].encode()):
            message = f"entry {index} is a receipt whose checkpoint does not cover it"
            raise LogFault(message, index=index, reason="BAD_RECEIPT")

    def cites(self, index: int, value: Mapping[str, Any]) -> tuple[_Asked, int]:
        asked = self.asked.get(value["inquiry_id"])
        if asked is None or asked.hash != value["inquiry_hash"]:
            message = f"entry {index} cites an inquiry that was not recorded before it"
            raise LogFault(message, index=index, reason="NO_INQUIRY")
        return asked, 1 << self.nodes.setdefault(value["node"], len(self.nodes))

    def side_index(self, reader: LogReader) -> None:
        """Step 7: an inquiry missing from it could be replayed, and one too many could not be asked."""
        count = 0
        for inquiry_id, index in reader.inquiries():
            asked = self.asked.get(inquiry_id)
            if asked is None or asked.index != index:
                raise LogFault("the index of inquiries names one that is not recorded there", reason="BAD_INDEX")
            count += 1
        if count != len(self.asked):
            raise LogFault("the index of inquiries leaves some out", reason="BAD_INDEX")

    def warnings(self) -> list[str]:
        """What a reader of the report must know besides."""
        said = []
        if self.own_key:
            said.append("the log's own log.vkey was trusted: pin the key with --vkey or --directory")
        if self.directory is None and self.asked:
            said.append("signatures of inquiries were not verified, only their structure: give a directory")
        if self.revoked:
            said.append(f"{self.revoked} inquiries were signed with certificates that have been revoked since")
        if self.behind:
            said.append(f"{self.behind} entries were written while the clock was behind the last entry's time")
        return said


_CHECKS: Mapping[str, Callable[[_Audit, int, Mapping[str, Any]], None]] = {
    "inquiry": _Audit.inquiry,
    "decision": _Audit.decision,
    "outcome": _Audit.outcome,
    "receipt": _Audit.receipt,
}


def _decode(index: int, entry: bytes) -> dict[str, Any]:
    """The entry's value, once its bytes are the one canonical form of it and it is in its type's form.

    Raises:
        LogFault: TOO_LARGE, NOT_CANONICAL or BAD_FORM.
    """
    if len(entry) > MAX_ENTRY_BYTES:
        raise LogFault(f"entry {index} has more than {MAX_ENTRY_BYTES} bytes", index=index, reason="TOO_LARGE")
    try:
        value = orjson.loads(entry)
        canonical = jcs.encode(value) == entry
    except (ValueError, TypeError, RecursionError):
        canonical = False
    if not canonical:
        raise LogFault(f"entry {index} is not canonical JSON", index=index, reason="NOT_CANONICAL")
    bad = form.entry_fault(value)
    if bad is not None:
        raise LogFault(f"entry {index} is not in the form of its type: {bad}", index=index, reason="BAD_FORM")
    assert isinstance(value, dict)
    return value
