"""A whole log verified, by anybody who has the file and the key: nothing the log says of itself is believed.

    1 head       one, signed by the log's key, naming the log
    2 entry      there at its index, canonical, in its type's form, and what was hashed
    3 time       never earlier than the entry before
    4 citation   the head it cites is the true root over everything before its own commit; cosigned heads as in `cited`
    5 evidence   an inquiry shows what was signed; decisions cite a recorded inquiry, outcomes a decision, once
    6 root       all hashes together are the signed root, and as many as were signed
    7 file       the side index says the same, and SQLite's structure is sound
    8 sealed     every sealed part is the one its entry names, or its erasure is recorded, and signed by who may
    9 seen       every head of it that others saw, as far as their word is given, is one that it had

What one log alone cannot show: that it was cut back to an older head of its own. Its witnesses can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from audit.block import Asked, Block, Commit, Erased, Said
from audit.cited import Citations
from audit.erasure_record import check_erasure
from audit.hashes import HashReader
from audit.looking import blocks
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.sealed_check import check_sealed
from audit.seen import hold_against
from audit.tree import Tree
from comity.errors import ComityError, LogFault, Unavailable
from identity.directory import Directory

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first thing found wrong: where (-1: in no one entry), what, and a stable code."""

    index: int
    sentence: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verification found: `entries` were checked, `head` is signed (None: not even that), `fault` comes first.

    `warnings` say what was not or could not be checked; `seen` entries are under a head that others showed.
    """

    entries: int
    head: Checkpoint | None
    fault: Fault | None
    warnings: tuple[str, ...]
    seen: int = 0


def verify(
    path: Path | str,
    *,
    vkey: str | None = None,
    directory: Directory | None = None,
    progress: Progress | None = None,
    processes: int | None = None,
    seen: Sequence[bytes] = (),
) -> Report:
    """The report on the log at `path`, as of one moment while its writer may go on.

    `vkey` pins the log's key; without it the directory does; without either the log's own `log.vkey` is taken, and a
    warning says so. `progress` is called with (entries done, entries) now and then. `processes` None: as many as
    there are processors for a long log, none but this one for a short one. `seen` are signed notes from witnesses,
    of any log.

    Raises:
        ConfigError: there is no log (NO_LOG), or its `log.vkey` cannot be read.
        InvalidInput: `vkey` is no verifier key (BAD_VKEY).
        Unavailable: a log at rest was written to meanwhile: verify again (LOG_CHANGED).
    """
    pinned = VerifierKey.parse(vkey) if vkey is not None else None
    audit = _Audit(directory, progress, seen)
    fault = None
    try:
        with HashReader.open(path) as reader:
            try:
                with reader.snapshot():
                    audit.run(reader, pinned, processes)
            finally:
                if reader.disturbed():
                    raise Unavailable("the log was written to meanwhile: verify it again", reason="LOG_CHANGED")
    except LogFault as e:
        fault = Fault(index=e.index, sentence=str(e), reason=e.reason)
    return Report(
        entries=audit.tree.size,
        head=audit.head,
        fault=fault,
        warnings=tuple(audit.warnings()),
        seen=max(0, audit.newest),
    )


@dataclass(slots=True)
class _Asked:
    """One inquiry so far; each node is one bit."""

    index: int
    hash: bytes
    decided: int = 0
    answered: int = 0


class _Audit:
    """The state of one pass over a log, first entry to last."""

    def __init__(self, directory: Directory | None, progress: Progress | None, seen: Sequence[bytes]) -> None:
        self.directory, self.progress, self.seen, self.newest = directory, progress, seen, -1
        self.tree = Tree()
        self.head: Checkpoint | None = None
        self.at = b""
        self.cited = b""
        self.peers = b"[]"
        self.citations = Citations("", None)
        self.asked: dict[bytes, _Asked] = {}
        self.nodes: dict[bytes, int] = {}
        self.erasures: list[tuple[int, Mapping[str, Any]]] = []
        self.own_key = False
        self.revoked = self.behind = self.unsealed = 0

    def run(self, reader: HashReader, pinned: VerifierKey | None, processes: int | None) -> None:
        size, note = reader.head()
        key = pinned or self.key(reader, note)
        self.head = verify_checkpoint(note, key)
        if self.head.size != size:
            raise LogFault("the head's size is not the one that was signed", reason="WRONG_SIZE")
        self.citations = Citations(self.head.origin, self.directory)
        with contextlib.closing(blocks(reader, size, self.directory, processes)) as found:
            for block in found:
                self.take(block)
                if self.progress:
                    self.progress(self.tree.size, size)
        beyond = reader.outside(size)
        if beyond is not None:
            raise LogFault(f"entry {beyond} is beyond the signed head of {size}", index=beyond, reason="BEYOND_HEAD")
        if self.tree.root() != self.head.root:
            message = (
                "the hashes of all entries are not the root that was signed: some entry and its hash were replaced"
            )
            raise LogFault(message, reason="WRONG_ROOT")
        self.side_index(reader)
        self.unsealed = check_sealed(reader, self.erasures)
        reader.check_pages()
        self.newest = hold_against(reader, self.head, key, self.seen) if self.seen else -1

    def key(self, reader: HashReader, note: bytes) -> VerifierKey:
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

    def take(self, block: Block) -> None:
        """Steps 2 to 5 of one block: `look` saw each entry by itself, here they are held against each other."""
        before = self.tree.copy()
        for event in block.events:
            if isinstance(event, Commit):
                self.in_order(event, before)
            elif isinstance(event, Asked):
                self.inquiry(event)
            elif isinstance(event, Erased):
                self.erasure(event)
            else:
                self.joined(event)
        for root, level in block.edge:
            self.tree.graft(root, level)
        self.behind += block.behind
        if block.fault is not None:
            index, sentence, reason = block.fault
            raise LogFault(sentence, index=index, reason=reason)

    def in_order(self, commit: Commit, before: Tree) -> None:
        index, at = commit.place, commit.at
        if at < self.at or (commit.behind and at != self.at):
            raise LogFault(f"entry {index} is dated before the one ahead of it", index=index, reason="TIME_ORDER")
        self.at = at
        # Entries of one commit cite the head before it: that is the log as it stands here, or what the last one cited.
        if commit.head != self.cited:
            here = b'{"root":"%s","size":%d}' % (before.root(commit.before).hex().encode(), index)
            if commit.head != here:
                message = f"entry {index} cites a head that the entries before it do not have: one is not the original"
                raise LogFault(message, index=index, reason="WRONG_CITATION")
            self.citations.had(commit.head, at)
        self.cited = commit.head
        if commit.peers != self.peers:
            self.citations.take(index, at, commit.peers)
            self.peers = commit.peers

    def inquiry(self, event: Asked) -> None:
        known = self.asked.get(event.inquiry_id)
        if known is not None:
            message = f"entry {event.place} records an inquiry that entry {known.index} had recorded"
            raise LogFault(message, index=event.place, reason="DUPLICATE_INQUIRY")
        self.citations.in_force = event.version
        self.revoked += event.revoked
        self.asked[event.inquiry_id] = _Asked(event.place, event.inquiry_hash)

    def erasure(self, event: Erased) -> None:
        value = orjson.loads(event.entry)
        assert self.head is not None
        check_erasure(self.head.origin, event.place, value, self.directory)
        self.erasures.append((event.place, value))

    def joined(self, said: Said) -> None:
        """Decisions or outcomes of one inquiry, cited."""
        asked = self.asked.get(said.inquiry_id)
        if asked is None or asked.hash != said.inquiry_hash:
            message = f"entry {said.indexes[0]} cites an inquiry that was not recorded before it"
            raise LogFault(message, index=said.indexes[0], reason="NO_INQUIRY")
        for index, name in zip(said.indexes, said.nodes, strict=True):
            node = self.nodes.get(name)
            if node is None:
                node = self.nodes[name] = 1 << len(self.nodes)
            if said.kind == "decision":
                asked.decided |= node
                continue
            if not asked.decided & node:
                raise LogFault(f"entry {index} is an outcome that nobody decided", index=index, reason="NO_DECISION")
            if asked.answered & node:
                message = f"entry {index} is a second outcome of one node for one inquiry"
                raise LogFault(message, index=index, reason="DUPLICATE_OUTCOME")
            asked.answered |= node

    def side_index(self, reader: HashReader) -> None:
        """Step 7: an inquiry missing from it could be replayed, and one too many could not be asked."""
        count = 0
        for inquiry_id, index in reader.inquiries():
            asked = self.asked.get(inquiry_id.encode())
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
        if self.directory is None and self.erasures:
            said.append("who signed for erasures was not verified: give a directory")
        if self.revoked:
            said.append(f"{self.revoked} inquiries were signed with certificates that have been revoked since")
        if self.behind:
            said.append(f"{self.behind} entries were written while the clock was behind the last entry's time")
        origin, auditors = self.head.origin if self.head else "", self.directory.auditors if self.directory else ()
        if self.unsealed and any(a.reads(origin) for a in auditors):
            said.append(f"{self.unsealed} inquiries have no sealed part, though auditors are named for this log")
        if self.head and 0 <= self.newest < self.head.size:
            said.append(f"the last {self.head.size - self.newest} entries are under no head that was given as seen")
        said += self.citations.warnings()
        return said
