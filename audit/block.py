"""A run of entries looked at one by one: what each shows by itself, and what is left to hold against the others.

Several processes can look at different runs at once. What they find is told in few words, so that the one which joins
them has little to do: the roots by which the run grows the tree, each change of time or citation, and who was asked,
decided and answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from audit import asked, evidence, form
from audit.entry import MAX_ENTRY_BYTES, receipt_fits
from audit.glance import LOOKS, UNTOLD, Seen
from audit.skim import skim
from audit.tree import Rows, leaf_hash, leaf_hashes
from comity import jcs
from comity.errors import LogFault

Row = tuple[int, object, object]  # index, stored hash, entry, as the file has them
Read = Callable[[int, int], Sequence[Row]]

STRIDE = 256  # entries at once: what fits a processor's cache, and no memory is asked of the system anew
BLOCK = 4_096  # entries; a power of two, so that each but the last is one complete subtree


class Commit(NamedTuple):
    """From `place` on entries bear this time and cite this head, until the next. The citation and `peers` are JSON.

    `before` is the root over the run's entries before `index`; None if it is the run's first. `behind`: the first of
    them says that the clock was.
    """

    place: int
    at: bytes
    behind: bool
    head: bytes
    peers: bytes
    before: bytes | None = None


class Asked(NamedTuple):
    """An inquiry is recorded at `place`, and its entry shows what was signed; its signatures hold if a directory was
    given. `revoked`: a signer's certificate has been since. `version` of the directory was in force.
    """

    place: int
    inquiry_id: bytes
    inquiry_hash: bytes
    version: int
    revoked: bool = False


class Erased(NamedTuple):
    """An erasure is recorded at `place`; what was signed is not held against it yet."""

    place: int
    entry: bytes


class Said(NamedTuple):
    """Decisions or outcomes that cite one inquiry: of which nodes, and where each stands."""

    kind: str
    inquiry_id: bytes
    inquiry_hash: bytes
    nodes: list[bytes]
    indexes: list[int]


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


def look(read: Read, first: int, stop: int, signatures: evidence.Signatures | None = None) -> Block:
    """The rows of [first, stop), as `read` has them, checked each by itself; `signatures` verifies those of inquiries.

    First many at once. If anything about them is not as usual they are looked at again, one after the other.
    """
    looking = _Looking(first, signatures)
    try:
        for at in range(first, stop, STRIDE):
            end = min(stop, at + STRIDE)
            if not looking.at_once(read(at, end), at, end):
                looking = _Looking(first, signatures)
                strides = range(first, stop, STRIDE)  # a hostile row has up to a megabyte
                looking.one_by_one((row for at in strides for row in read(at, min(stop, at + STRIDE))), stop)
                break
    except LogFault as e:
        looking.block.fault = (e.index, str(e), e.reason)
    return looking.end()


_NOTHING = Said("", b"", b"", [], [])


class _Looking:
    """The state of one pass over a run."""

    def __init__(self, first: int, signatures: evidence.Signatures | None) -> None:
        self.block, self.signatures = Block(first=first), signatures
        self.leaves: list[bytes] = []
        self.said = _NOTHING
        self.commit, self.peers = (b"", b""), b""

    def at_once(self, rows: Sequence[Row], first: int, stop: int) -> bool:
        """False if it cannot be done so: then nothing is known, not even that there is a fault."""
        if len(rows) != stop - first:
            return False
        indexes, stored, entries = zip(*rows, strict=True)
        if indexes != tuple(range(first, stop)) or set(map(type, entries)) != {bytes}:
            return False
        leaves = leaf_hashes(entries)
        if tuple(leaves) != stored:
            return False
        self.leaves += leaves
        try:
            return skim(first, entries, self)
        except LogFault:
            return False

    def one_by_one(self, rows: Iterable[Row], stop: int) -> None:
        for expected, (index, stored, entry) in enumerate(rows, self.block.first):
            if index != expected:
                raise LogFault(f"entry {expected} is missing", index=expected, reason="MISSING")
            if type(entry) is not bytes or (leaf := leaf_hash(entry)) != stored:
                raise LogFault(f"entry {index} is not what was hashed", index=index, reason="WRONG_HASH")
            self.single(index, entry)
            self.leaves.append(leaf)
        if (there := self.block.first + len(self.leaves)) != stop:
            raise LogFault(f"entry {there} is missing", index=there, reason="MISSING")

    def single(self, index: int, entry: bytes) -> None:
        """Whatever the entry is: known by its bytes, or looked at field by field."""
        if len(entry) > MAX_ENTRY_BYTES or (inquiry := asked.inquiry(entry)) is None:
            self.other(index, entry)
            return
        at, head, inquiry_hash, inquiry_id, peers, version = inquiry
        self.stamped(index, (at, head), peers)
        event = Asked(index, inquiry_id, inquiry_hash, int(version))
        self.signed(event, orjson.loads(entry) if self.signatures else None)

    def other(self, index: int, entry: bytes) -> None:
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
        self.stamped(index, (at, head), peers, behind is not None)
        if kind == "inquiry":
            self.asked(index, value or orjson.loads(entry))
        elif kind == "receipt" and value is not None:
            _check_receipt(index, value)
        elif kind == "erasure":
            self.block.events.append(Erased(index, entry))
        elif node and inquiry_hash:
            nodes, indexes = self.saying(kind, inquiry_id, inquiry_hash)
            nodes.append(node)
            indexes.append(index)

    def stamped(self, index: int, commit: tuple[bytes, bytes], peers: bytes, behind: bool = False) -> None:
        """The entry is of that commit (time and head): an event if the one before was of another."""
        if commit != self.commit or peers != self.peers:
            self.commit, self.peers, (at, head) = commit, peers, commit
            self.block.events.append(Commit(index, at, behind, head, peers))
            self.said = _NOTHING

    def saying(self, kind: str, inquiry_id: bytes, inquiry_hash: bytes) -> tuple[list[bytes], list[int]]:
        """Where to add to: what was said last, if it was the same of the same inquiry in the same commit."""
        said = self.said
        if said.inquiry_hash != inquiry_hash or said.inquiry_id != inquiry_id or said.kind != kind:
            said = self.said = Said(kind, inquiry_id, inquiry_hash, [], [])
            self.block.events.append(said)
        return said.nodes, said.indexes

    def asked(self, index: int, value: dict[str, Any]) -> None:
        evidence.check_payload(index, value)
        inquiry_id, inquiry_hash = value["inquiry_id"].encode(), value["inquiry_hash"].encode()
        self.signed(Asked(index, inquiry_id, inquiry_hash, value["directory_version"]), value)

    def signed(self, event: Asked, value: dict[str, Any] | None) -> None:
        # Told of before its signatures are looked at: that it is recorded twice is the greater fault.
        self.block.events.append(event)
        if self.signatures is not None and value is not None and not self.signatures.check(event.place, value):
            self.block.events[-1] = event._replace(revoked=True)

    def end(self) -> Block:
        """The block, its tree grown as far as the entries are sound."""
        rows = Rows(self.leaves)
        self.block.count = len(self.leaves)
        self.block.edge = list(rows.edge(len(self.leaves)))
        events, first = self.block.events, self.block.first
        for at, event in enumerate(events):
            if type(event) is Commit and event.place > first:
                place, written_at, behind, head, peers, _ = event
                events[at] = Commit(place, written_at, behind, head, peers, rows.root(place - first))
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
