"""A run of entries looked at one by one: what each shows by itself, and what is left to hold against the others.

Several processes can look at different runs at once. What they find is told in few words, so that the one which joins
them has little to do: the roots by which the run grows the tree, each change of time or citation, and who was asked,
decided and answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from audit import evidence, form
from audit.entry import MAX_ENTRY_BYTES, receipt_fits
from audit.glance import LOOKS, UNTOLD, Seen
from audit.tree import Rows
from comity import jcs
from comity.errors import LogFault

BLOCK = 4_096  # entries; a power of two, so that each but the last is one complete subtree


@dataclass(slots=True, kw_only=True)
class Commit:
    """From `index` on entries bear this time and cite this head, until the next. The citation and `peers` are JSON.

    `before` is the root over the run's entries before `index`; None if it is the run's first. `behind`: the first of
    them says that the clock was.
    """

    index: int
    at: bytes
    behind: bool
    head: bytes
    peers: bytes
    before: bytes | None = None


@dataclass(slots=True, kw_only=True)
class Asked:
    """An inquiry is recorded at `index`, and its entry shows what was signed: only the signatures are not verified."""

    index: int
    entry: bytes
    inquiry_id: bytes
    inquiry_hash: bytes


@dataclass(slots=True, kw_only=True)
class Erased:
    """An erasure is recorded at `index`; what was signed is not held against it yet."""

    index: int
    entry: bytes


@dataclass(slots=True, kw_only=True)
class Said:
    """Decisions or outcomes that cite one inquiry: of which nodes, and where each stands."""

    kind: str
    inquiry_id: bytes
    inquiry_hash: bytes
    nodes: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Block:
    """What was found in `count` sound entries from `first` on; `fault` is of the entry after them.

    `edge` are the complete subtrees over them and their levels; `behind` entries were written while the
    clock was behind.
    """

    first: int
    count: int = 0
    edge: list[tuple[bytes, int]] = field(default_factory=list)
    events: list[Commit | Asked | Erased | Said] = field(default_factory=list)
    fault: tuple[int, str, str] | None = None
    behind: int = 0


def look(rows: Iterable[tuple[int, object, object]], first: int, stop: int) -> Block:
    """The rows (index, stored hash, entry) of [first, stop), checked each by itself."""
    looking = _Looking(first)
    try:
        looking.run(rows)
        if (there := first + len(looking.leaves)) != stop:
            raise LogFault(f"entry {there} is missing", index=there, reason="MISSING")
    except LogFault as e:
        looking.block.fault = (e.index, str(e), e.reason)
    return looking.end()


class _Looking:
    """The state of one pass over a run."""

    def __init__(self, first: int) -> None:
        self.block = Block(first=first)
        self.leaves: list[bytes] = []
        self.said = Said(kind="", inquiry_id=b"", inquiry_hash=b"")
        self.nodes: dict[bytes, bytes] = {}

    def run(self, rows: Iterable[tuple[int, object, object]]) -> None:
        was = (b"", b"", b"")
        for expected, (index, stored, entry) in enumerate(rows, self.block.first):
            if index != expected:
                raise LogFault(f"entry {expected} is missing", index=expected, reason="MISSING")
            if type(entry) is not bytes or (leaf := sha256(b"\0" + entry).digest()) != stored:
                raise LogFault(f"entry {index} is not what was hashed", index=index, reason="WRONG_HASH")
            kind, match, glance = LOOKS.get(entry[-12:-7], UNTOLD)
            if match is not None:
                found = match(entry)
                seen = None if found is None else found.groups()
            else:
                seen = glance(entry)
            value: dict[str, Any] | None = None
            if seen is None or len(entry) > MAX_ENTRY_BYTES:
                value = decode(index, entry)
                kind, seen = value["type"], _seen(value)
            at, behind, head, inquiry_hash, inquiry_id, node, peers = seen
            if behind is not None:
                self.block.behind += 1
            if was != (at, head, peers):
                was = (at, head, peers)
                self.stamped(Commit(index=index, at=at, behind=behind is not None, head=head, peers=peers))
            if kind == "inquiry":
                self.asked(index, entry, value)
            elif kind == "receipt" and value is not None:
                _check_receipt(index, value)
            elif kind == "erasure":
                self.block.events.append(Erased(index=index, entry=entry))
            elif node and inquiry_hash:
                said = self.said
                if said.inquiry_hash != inquiry_hash or said.inquiry_id != inquiry_id or said.kind != kind:
                    said = self.joined(kind, inquiry_id, inquiry_hash)
                said.nodes.append(self.nodes.setdefault(node, node))
                said.indexes.append(index)
            self.leaves.append(leaf)

    def stamped(self, commit: Commit) -> None:
        self.block.events.append(commit)
        self.said = Said(kind="", inquiry_id=b"", inquiry_hash=b"")

    def asked(self, index: int, entry: bytes, value: dict[str, Any] | None) -> None:
        value = value or orjson.loads(entry)
        evidence.check_payload(index, value)
        inquiry_id, inquiry_hash = value["inquiry_id"].encode(), value["inquiry_hash"].encode()
        self.block.events.append(Asked(index=index, entry=entry, inquiry_id=inquiry_id, inquiry_hash=inquiry_hash))

    def joined(self, kind: str, inquiry_id: bytes, inquiry_hash: bytes) -> Said:
        self.said = Said(kind=kind, inquiry_id=inquiry_id, inquiry_hash=inquiry_hash)
        self.block.events.append(self.said)
        return self.said

    def end(self) -> Block:
        """The block, its tree grown as far as the entries are sound."""
        rows = Rows(self.leaves)
        self.block.count = len(self.leaves)
        self.block.edge = list(rows.edge(len(self.leaves)))
        for event in self.block.events:
            if isinstance(event, Commit) and event.index > self.block.first:
                event.before = rows.root(event.index - self.block.first)
        return self.block


def decode(index: int, entry: bytes) -> dict[str, Any]:
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


def _seen(value: Mapping[str, Any]) -> Seen:
    """What a sound entry says, as `glance` tells it."""
    return (
        value["at"].encode(),
        b"behind" if "clock_behind_ms" in value else None,
        jcs.encode(value["head"]),
        value.get("inquiry_hash", "").encode(),
        value.get("inquiry_id", "").encode(),
        value["node"].encode() if value["type"] in ("decision", "outcome") else b"",
        jcs.encode(value["peers"]),
    )


def _check_receipt(index: int, value: Mapping[str, Any]) -> None:
    if not receipt_fits(value["origin"], value["index"], value["checkpoint"].encode()):
        message = f"entry {index} is a receipt whose checkpoint does not cover it"
        raise LogFault(message, index=index, reason="BAD_RECEIPT")
