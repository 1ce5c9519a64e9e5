"""What one log says of every exchange between broker and node, and of the other's log: one side of a reconciliation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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


class Parted(Mapping[str, Any]):
    """What was said, with some fields of its own; the rest is one object for all who say the same."""

    __slots__ = ("_names", "_own", "_rest")

    def __init__(self, names: tuple[str, ...], own: tuple[Any, ...], rest: Mapping[str, Any]) -> None:
        self._names, self._own, self._rest = names, own, rest

    def __getitem__(self, name: str) -> Any:
        return self._own[self._names.index(name)] if name in self._names else self._rest[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from self._rest

    def __len__(self) -> int:
        return len(self._names) + len(self._rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A head of another log that this one holds: in a receipt, with the entry it is for, or cited by the log itself.

    `note` is empty where only size and root were cited; `key` and `entry` are None there. `cited` is the root then.
    """

    index: int
    origin: str
    size: int
    cited: bytes = b""
    note: bytes = b""
    key: Key | None = None
    entry: tuple[int, bytes] | None = None

    @property
    def root(self) -> bytes:
        """The root over that many entries. Read again when it is wanted: a million receipts are kept."""
        return Checkpoint.parse(self.note).root if self.note else self.cited


@dataclass(slots=True)
class Exchange:
    """All that one side recorded of one node and one inquiry. `more` are indexes of what stands there a second time."""

    decision: Said | None = None
    outcome: Said | None = None
    receipt: Held | None = None
    more: tuple[int, ...] = ()


class Side:
    """One verified log, read. `ids` and `programs`: who wrote it. `roots` and `leaves`: what `look_up` found. `seen`:
    so many entries are under a head that a witness saw.
    """

    def __init__(self, key: VerifierKey, head: Checkpoint) -> None:
        self.vkey, self.head, self.seen = key, head, 0
        self.ids: set[str] = set()
        self.programs: set[str] = set()
        self.nodes: set[str] = set()
        self.asked: dict[str, Asked] = {}
        self.exchanges: dict[Key, Exchange] = {}
        self.rejected: list[Said] = []
        self.held: list[Held] = []
        self._cited: dict[str, tuple[int, str]] = {}
        self.breaks: list[tuple[int, int]] = []  # (index of a start or stop, when the entry before it was written)
        self.roots: dict[int, bytes] = {}
        self.leaves: dict[int, bytes] = {}
        self._before = 0
        self._by_hash: dict[str, str] = {}
        self._same: dict[Any, Any] = {}
        self._names: dict[str, str] = {}

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

    def inquiry_of(self, payload_hash: str) -> str | None:
        """The id of the inquiry whose payload that is the hash of; None if none was recorded."""
        if not self._by_hash:
            self._by_hash = {asked.hash: inquiry_id for inquiry_id, asked in self.asked.items()}
        return self._by_hash.get(payload_hash)

    def broke_off(self, decided: Said, within_ms: int) -> bool:
        """True if the program stopped or was started anew so soon after that the rest may never have been recorded."""
        after = next(((i, at) for i, at in self.breaks if i > decided.index), None)
        return after is not None and after[1] - decided.at <= within_ms

    def _take(self, index: int, value: Mapping[str, Any]) -> None:
        at = _ms(value["at"])
        at = self._before if at == self._before else at
        # Where a head is first cited says the most; later entries only say it again.
        self.held += [
            Held(index=index, origin=p["origin"], size=p["size"], cited=bytes.fromhex(p["root"]))
            for p in value["peers"]
            if (p["size"], p["root"]) != self._cited.get(p["origin"])
        ]
        self._cited |= {p["origin"]: (p["size"], p["root"]) for p in value["peers"]}
        match value["type"]:
            case "inquiry":
                self._inquiry(index, at, value)
            case "decision":
                self.nodes.add(value["node"])
                self._exchange(value, "decision", Said(index=index, at=at, said=self._one(_decision(value))))
            case "outcome":
                self._exchange(value, "outcome", Said(index=index, at=at, said=self._outcome(value)))
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
        envelope = sha256(orjson.dumps(value["envelope"], option=orjson.OPT_SORT_KEYS)).digest()
        rest = {"role": value["requester"]["role"], "approvers": value["approvers"], "preview": value["preview"]}
        said = Parted(("envelope",), (envelope,), self._one(rest))
        inquiry_id = self._name(value["inquiry_id"])
        self.asked[inquiry_id] = Asked(index=index, at=at, hash=value["inquiry_hash"], said=said)

    def _receipt(self, index: int, value: Mapping[str, Any]) -> None:
        note = value["checkpoint"].encode()
        head = Checkpoint.parse(note)  # in its form: the log was verified
        held = Held(
            index=index,
            origin=self._name(value["origin"]),
            size=head.size,
            note=note,
            key=self._key(value),
            entry=(value["index"], bytes.fromhex(value["leaf_hash"])),
        )
        self.held.append(held)
        self._exchange(value, "receipt", held)

    def _exchange(self, value: Mapping[str, Any], name: str, what: Said | Held) -> None:
        key = what.key if isinstance(what, Held) and what.key else self._key(value)
        exchange = self.exchanges.setdefault(key, Exchange())
        if getattr(exchange, name) is None:
            setattr(exchange, name, what)
        else:
            exchange.more += (what.index,)

    def _key(self, value: Mapping[str, Any]) -> Key:
        return self._name(value["inquiry_id"]), self._name(value["node"])

    def _name(self, name: str) -> str:
        """The same object for the same text; an inquiry's id is met once for every entry that is of it."""
        return self._names.setdefault(name, name)

    def _outcome(self, value: Mapping[str, Any]) -> Parted:
        rest = {name: value[name] for name in ("outcome", "count", "reason_code")}
        span = value["coverage"]
        coverage = None if span is None else tuple(_ms(span[name]) for name in ("begin", "end"))
        own = (bytes.fromhex(value["payload_hash"]), coverage)
        return Parted(("payload_hash", "coverage"), own, self._one(rest))

    def _one(self, value: _T) -> _T:
        """The same object for the same value: a million decisions say a few hundred different things."""
        kept: _T = self._same.setdefault(orjson.dumps(value).decode(), value)  # a copy: it leaves room in its bytes
        return kept


def _ms(text: str) -> int:
    return to_ms(dt.datetime.fromisoformat(text))


def _decision(value: Mapping[str, Any]) -> dict[str, Any]:
    names = ("effect", "rules", "obligations", "policy_digest", "federation_digest", "reason_code", "approved")
    return {name: value[name] for name in names}
