"""The one place where entries come to be: time, order, hashes and signed head, in a single thread, without a queue."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import edge
from audit.entry import Draft, Stamp, seal
from audit.note import Checkpoint, Cited, VerifierKey, verify_checkpoint
from audit.sealed_store import SealedPart
from audit.sealing import Accepted, Sealer
from audit.store import Store
from audit.tree import leaf_hash
from comity.errors import ComityError, InvalidInput, LogFault, Unavailable
from comity.instants import from_ms, to_ms, to_text
from identity.auditors import Recipient

Clock = Callable[[], dt.datetime]
_MORE_THAN_ENTRIES = frozenset({"inquiry", "erasure"})  # types whose commit has other rows to write or to erase
_EARLIEST_MS, _END_MS = (to_ms(dt.datetime(year, 1, 1, tzinfo=dt.UTC)) for year in (2000, 2100))  # as forms allow
_AHEAD_S = 300  # verification allows twice that between an entry and the cosignatures that it cites


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """How large the log is, the root over all of it, and the signed note that says so."""

    size: int
    root: bytes
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Durable: the entries of one call, contiguous from `first_index` on, under `head`."""

    first_index: int
    entries: tuple[bytes, ...]
    leaf_hashes: tuple[bytes, ...]
    head: SignedHead


class AlreadyRecorded(ComityError):
    """That inquiry is in the log already, at `index`; nothing of this call was written."""

    reason = "ALREADY_RECORDED"

    def __init__(self, index: int) -> None:
        super().__init__(f"this inquiry was recorded already, as entry {index}")
        self.index = index


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What one commit writes from index `first` on, at one time: the entries of the calls accepted so far, and what
    goes with them. `accepted` are the calls that may have more than entries to write.
    """

    first: int
    at_ms: int
    entries: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    inquiries: dict[str, int] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)


class _Sealer:
    """Seals one commit's entries. Heads that the log has not cited before come with their notes, in the first entry
    that has room for them; until then entries go on citing those of before, as `stamp` does.
    """

    def __init__(self, stamp: Stamp, proven: tuple[Cited, ...], cited: tuple[Cited, ...]) -> None:
        self.proven, self.peers = proven, stamp.peers
        self._stamp = stamp
        self._new = None if cited == proven else cited

    def seal(self, drafts: Sequence[Draft], parts: Sequence[SealedPart | None]) -> tuple[bytes, ...]:
        """The entries of one call, each naming its sealed part if it has one; or none of them. No parts: none has.

        Raises:
            InvalidInput: one cannot be sealed; what a later call's entries cite is as if this one had not been.
        """
        if self._new is not None:
            return self._citing_anew(drafts, parts or [None] * len(drafts), self._new)
        stamp = self._stamp
        if not parts:
            return tuple([seal(draft, stamp) for draft in drafts])
        return tuple([seal(draft, stamp, part) for draft, part in zip(drafts, parts, strict=True)])

    def _citing_anew(
        self, drafts: Sequence[Draft], parts: Sequence[SealedPart | None], new: tuple[Cited, ...]
    ) -> tuple[bytes, ...]:
        stamp, sealed, cited = self._stamp, [], False
        for draft, part in zip(drafts, parts, strict=True):
            if not cited:
                first = replace(stamp, peers=tuple(c.as_json(proven=c not in self.proven) for c in new))
                try:
                    sealed.append(seal(draft, first, part))
                except InvalidInput as e:
                    if e.reason != "ENTRY_TOO_LARGE":
                        raise
                else:
                    stamp, cited = replace(stamp, peers=tuple(c.as_json(proven=False) for c in new)), True
                    continue
            sealed.append(seal(draft, stamp, part))
        if cited:
            self.proven, self.peers, self._stamp, self._new = new, stamp.peers, stamp, None
        return tuple(sealed)


class Writer:
    """The state that the next entry needs. Made by recovery: what the file holds must be what its head signs.

    Raises:
        LogFault: the head is not signed by this key, or hashes, count or last entry differ from it.
    """

    def __init__(
        self, store: Store, key: Ed25519PrivateKey, origin: str, clock: Clock, auditors: Sequence[Recipient] = ()
    ) -> None:
        self._store, self._key, self._origin, self._clock = store, key, origin, clock
        self._parts = Sealer(origin, auditors)
        size, note = store.head()
        vkey = VerifierKey.of(origin, key.public_key())
        self._key_id = vkey.id
        checkpoint = verify_checkpoint(note, vkey)
        self._tree = edge.recovered(store, size, checkpoint.root)
        if not size == checkpoint.size == self._tree.size:
            message = f"{self._tree.size} entries are there, {checkpoint.size} were signed"
            raise LogFault(message, reason="WRONG_SIZE")
        if self._tree.root() != checkpoint.root:
            raise LogFault("the entries' hashes are not those that were signed", reason="WRONG_ROOT")
        self.head = SignedHead(size=size, root=checkpoint.root, checkpoint=note)
        self._last_ms = _last_ms(store, size)
        self._keep_at = size + edge.EVERY
        self.cited: tuple[Cited, ...] = ()  # set by whoever hears of them, at any time; read once a commit
        self._proven: tuple[Cited, ...] = ()
        self._peers: tuple[dict[str, Any], ...] = ()  # as entries cite those

    def write(self, calls: Sequence[Sequence[Draft]]) -> list[Appended | ComityError]:
        """What became of each call, in order: written durably and whole, or refused for a reason of its own.

        All that is written is one transaction under one new head. Any other error than a refusal says that the log
        is broken.
        """
        try:
            at_ms, stamp = self._stamp()
        except Unavailable as e:
            return [Unavailable(str(e), reason=e.reason) for _ in calls]
        batch = _Batch(first=self._tree.size, at_ms=at_ms)
        sealer = _Sealer(stamp, self._proven, self._citable(at_ms))
        done: list[tuple[int, tuple[bytes, ...], tuple[bytes, ...]] | ComityError] = []
        for drafts in calls:
            try:
                done.append(self._sealed(drafts, batch, stamp, sealer))
            except ComityError as e:
                done.append(e)
        if batch.entries:
            self._commit(batch)
            self._proven, self._peers = sealer.proven, sealer.peers
        head = self.head
        return [
            d if isinstance(d, ComityError) else Appended(first_index=d[0], entries=d[1], leaf_hashes=d[2], head=head)
            for d in done
        ]

    def _sealed(
        self, drafts: Sequence[Draft], batch: _Batch, stamp: Stamp, sealer: _Sealer
    ) -> tuple[int, tuple[bytes, ...], tuple[bytes, ...]]:
        """First index, entries and leaf hashes of one call, which is in the batch from now on.

        Raises:
            ComityError: it is refused, and nothing of it is in the batch.
        """
        first = batch.first + len(batch.entries)
        parts: list[SealedPart | None] = []
        for draft in drafts:
            if draft.clear or draft.type in _MORE_THAN_ENTRIES:
                new = self._new_inquiries(drafts, first, batch.inquiries)
                parts = [self._parts.seal(draft, stamp.at) for draft in drafts]
                entries = sealer.seal(drafts, parts)
                batch.accepted.append((first, drafts, parts))
                batch.inquiries |= new
                break
        else:
            entries = sealer.seal(drafts, parts)
        leaves = tuple([leaf_hash(entry) for entry in entries])
        batch.entries += entries
        batch.hashes += leaves
        return first, entries, leaves

    def _commit(self, batch: _Batch) -> None:
        rows = self._parts.rows(batch.accepted)
        tree = self._tree.copy()
        tree.extend(batch.hashes)
        root = tree.root()
        note = Checkpoint(origin=self._origin, size=tree.size, root=root).sign(self._key, self._key_id)
        self._store.commit(batch.first, batch.entries, batch.hashes, tuple(batch.inquiries.items()), note, rows)
        self._parts.written(rows)
        self._tree = tree
        if tree.size >= self._keep_at:
            self.keep_edge()
        self._last_ms = batch.at_ms
        self.head = SignedHead(size=tree.size, root=root, checkpoint=note)

    def keep_edge(self) -> None:
        """The next opening of a long log is quick from here on."""
        self._keep_at += edge.EVERY
        edge.keep(self._tree, self._store.where)

    def _stamp(self) -> tuple[int, Stamp]:
        """Now, or the last entry's time when the clock has jumped back behind it; in milliseconds since 1970 too.

        Raises:
            Unavailable: the clock is outside 2000 to 2100: nothing could order what it dates (CLOCK_UNUSABLE).
        """
        now = to_ms(self._clock())
        at = max(now, self._last_ms)
        if now < _EARLIEST_MS or at >= _END_MS:
            raise Unavailable("the clock is not set: nothing is recorded", reason="CLOCK_UNUSABLE")
        return at, Stamp(
            at=to_text(from_ms(at)),
            clock_behind_ms=at - now,
            size=self.head.size,
            root=self.head.root.hex(),
            peers=self._peers,
        )

    def _citable(self, at_ms: int) -> tuple[Cited, ...]:
        """The heads to cite: none that was cosigned long after now. A clock that was put back, by an hour say, would
        make an honest entry look back-dated.
        """
        cited = self.cited
        latest = at_ms // 1000 + _AHEAD_S
        return tuple([c for c in cited if c.seen_at <= latest])

    def _new_inquiries(self, drafts: Sequence[Draft], first: int, pending: dict[str, int]) -> dict[str, int]:
        """The inquiries of one call and the indexes they will have.

        Raises:
            AlreadyRecorded: one is in the log, in this batch, or twice in the call.
        """
        new: dict[str, int] = {}
        for index, draft in enumerate(drafts, first):
            if draft.type != "inquiry":
                continue
            inquiry_id = draft.body["inquiry_id"]
            known = pending.get(inquiry_id, new.get(inquiry_id))
            if known is None:
                known = self._store.find_inquiry(inquiry_id)
            if known is not None:
                raise AlreadyRecorded(known)
            new[inquiry_id] = index
        return new


def _last_ms(store: Store, size: int) -> int:
    """When the newest entry was written, milliseconds since 1970; 0 if there is none.

    Raises:
        LogFault: the entry is not the one that was hashed (WRONG_HASH).
    """
    last = store.last()
    if last is None:
        return 0
    stored, entry = last
    if type(entry) is not bytes or leaf_hash(entry) != stored:
        raise LogFault(f"entry {size - 1} is not what was hashed", index=size - 1, reason="WRONG_HASH")
    return _ms(orjson.loads(entry)["at"])


def _ms(text: str) -> int:
    return to_ms(dt.datetime.fromisoformat(text))
