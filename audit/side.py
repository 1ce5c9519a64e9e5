"""What one log says of every exchange between broker and node, and of the other's log: one side of a reconciliation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import orjson

from audit.hashes import HashReader
from audit.note import Checkpoint, VerifierKey
from audit.tree import EMPTY_ROOT, Tree
from comity.instants import to_ms

Key = tuple[str, str]  # inquiry id, node
Progress = Callable[[int, int], None]
_BATCH = 2_048
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An inquiry as it was recorded: `at` in milliseconds since 1970."""

    index: int
    at: int
    hash: str
    said: Mapping[str, Any]  # envelope (its SHA-256), role, approvers, preview


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A decision, an outcome or a rejection: where, when (ms) and what."""

    index: int
    at: int
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A head of another log that this one holds: in a receipt, with the entry it is for, or cited by the log itself.

    `note` is empty where only size and root were cited; `key` and `entry` are None there.
    """

    index: int
    origin: str
    size: int
    root: bytes
    note: bytes = b""
    key: Key | None = None
    entry: tuple[int, bytes] | None = None


@dataclass(slots=True)
class Exchange:
    """All that one side recorded of one node and one inquiry. `more` are indexes of what stands there a second time."""

    decision: Said | None = None
    outcome: Said | None = None
    receipt: Held | None = None
    more: list[int] = field(default_factory=list)


class Side:
    """One verified log, read. `ids` and `programs`: who wrote it. `roots` and `leaves`: what `look_up` found."""

    def __init__(self, key: VerifierKey, head: Checkpoint) -> None:
        self.vkey, self.head = key, head
        self.ids: set[str] = set()
        self.programs: set[str] = set()
        self.nodes: set[str] = set()
        self.asked: dict[str, Asked] = {}
        self.by_hash: dict[str, str] = {}
        self.exchanges: dict[Key, Exchange] = {}
        self.rejected: list[Said] = []
        self.held: list[Held] = []
        self.breaks: list[tuple[int, int]] = []  # (index of a start or stop, when the entry before it was written)
        self.roots: dict[int, bytes] = {}
        self.leaves: dict[int, bytes] = {}
        self._before = 0
        self._same: dict[Any, Any] = {}

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.head.origin

    def read(self, reader: HashReader, progress: Progress | None = None) -> None:
        """Take up every entry under the head."""
        for start in range(0, self.head.size, _BATCH):
            if progress:
                progress(start, self.head.size)
            entries = reader.entries(start, min(self.head.size, start + _BATCH))
            for index, entry in enumerate(entries, start):
                self._take(index, orjson.loads(entry))

    def look_up(self, reader: HashReader, sizes: Iterable[int], indexes: Iterable[int]) -> None:
        """Know the root at each of `sizes` and the leaf hash at each of `indexes` that are within the log."""
        wanted, leaves, tree = set(sizes), set(indexes), Tree()
        self.roots[0] = EMPTY_ROOT
        for index, leaf in enumerate(reader.all_hashes(self.head.size)):
            tree.append(leaf)
            if index in leaves:
                self.leaves[index] = leaf
            if tree.size in wanted:
                self.roots[tree.size] = tree.root()

    def decision(self, key: Key) -> Said | None:
        """The decision of that exchange; None if none is recorded."""
        exchange = self.exchanges.get(key)
        return exchange.decision if exchange else None

    def broke_off(self, decided: Said, within_ms: int) -> bool:
        """True if the program stopped or was started anew so soon after that the rest may never have been recorded."""
        after = next(((i, at) for i, at in self.breaks if i > decided.index), None)
        return after is not None and after[1] - decided.at <= within_ms

    def _take(self, index: int, value: Mapping[str, Any]) -> None:
        at = to_ms(dt.datetime.fromisoformat(value["at"]))
        self.held += [
            Held(index=index, origin=p["origin"], size=p["size"], root=bytes.fromhex(p["root"])) for p in value["peers"]
        ]
        match value["type"]:
            case "inquiry":
                self._inquiry(index, at, value)
            case "decision":
                self.nodes.add(value["node"])
                self._exchange(value, "decision", Said(index=index, at=at, said=self._one(_decision(value))))
            case "outcome":
                self._exchange(value, "outcome", Said(index=index, at=at, said=_outcome(value)))
            case "receipt":
                self._receipt(index, value)
            case "rejected":
                self.rejected.append(Said(index=index, at=at, said=value))
            case "start" | "stop":
                self.ids.add(value["id"])
                self.programs.add(value["program"])
                self.breaks.append((index, self._before))
        self._before = at

    def _inquiry(self, index: int, at: int, value: Mapping[str, Any]) -> None:
        envelope = sha256(orjson.dumps(value["envelope"], option=orjson.OPT_SORT_KEYS)).hexdigest()
        said = {"envelope": envelope, "role": value["requester"]["role"], "approvers": value["approvers"]}
        said["preview"] = value["preview"]
        self.asked[value["inquiry_id"]] = Asked(index=index, at=at, hash=value["inquiry_hash"], said=said)
        self.by_hash[value["inquiry_hash"]] = value["inquiry_id"]

    def _receipt(self, index: int, value: Mapping[str, Any]) -> None:
        note = value["checkpoint"].encode()
        head = Checkpoint.parse(note)  # in its form: the log was verified
        held = Held(
            index=index,
            origin=value["origin"],
            size=head.size,
            root=head.root,
            note=note,
            key=(value["inquiry_id"], value["node"]),
            entry=(value["index"], bytes.fromhex(value["leaf_hash"])),
        )
        self.held.append(held)
        self._exchange(value, "receipt", held)

    def _exchange(self, value: Mapping[str, Any], name: str, what: Said | Held) -> None:
        exchange = self.exchanges.setdefault((value["inquiry_id"], value["node"]), Exchange())
        if getattr(exchange, name) is None:
            setattr(exchange, name, what)
        else:
            exchange.more.append(what.index)

    def _one(self, value: _T) -> _T:
        """The same object for the same value: a million decisions say a few hundred different things."""
        kept: _T = self._same.setdefault(orjson.dumps(value), value)
        return kept


def _decision(value: Mapping[str, Any]) -> dict[str, Any]:
    names = ("effect", "rules", "obligations", "policy_digest", "federation_digest", "reason_code", "approved")
    return {name: value[name] for name in names}


def _outcome(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("outcome", "count", "coverage", "payload_hash", "reason_code")}
