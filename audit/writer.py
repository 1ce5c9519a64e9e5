"""The one place where entries come to be: time, order, hashes and signed head, in a single thread, without a queue."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import edge, form
from audit.entry import Draft, Stamp, seal
from audit.note import Checkpoint, Cited, VerifierKey, verify_checkpoint
from audit.sealed_store import SealedPart
from audit.sealing import Accepted, Sealer
from audit.store import Store
from audit.tree import Tree, leaf_hash
from comity.errors import ComityError, InvalidInput, LogFault, Unavailable
from comity.instants import from_ms, to_ms, to_text
from identity.auditors import Recipient

Clock = Callable[[], dt.datetime]
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


class _Sealer:
    """Seals one commit's entries. Heads that the log has not cited before come with their notes, in the first entry
    that has room for them; until then entries go on citing those of before.
    """

    def __init__(self, stamp: Stamp, proven: tuple[Cited, ...], cited: tuple[Cited, ...]) -> None:
        self.proven = proven
        self._stamp = replace(stamp, peers=tuple(c.as_json(proven=False) for c in proven))
        self._new = None if cited == proven else cited

    def seal(self, drafts: Sequence[Draft], parts: Sequence[SealedPart | None]) -> tuple[bytes, ...]:
        """The entries of one call, each naming its sealed part if it has one; or none of them.

        Raises:
            InvalidInput: one cannot be sealed; what a later call's entries cite is as if this one had not been.
        """
        stamp, new, sealed = self._stamp, self._new, []
        for draft, part in zip(drafts, parts, strict=True):
            if new is not None:
                first = replace(stamp, peers=tuple(c.as_json(proven=c not in self.proven) for c in new))
                try:
                    sealed.append(seal(draft, first, part))
                except InvalidInput as e:
                    if e.reason != "ENTRY_TOO_LARGE":
                        raise
                else:
                    stamp, new = replace(stamp, peers=tuple(c.as_json(proven=False) for c in new)), None
                    continue
            sealed.append(seal(draft, stamp, part))
        if new is None and self._new is not None:
            self.proven, self._stamp, self._new = self._new, stamp, None
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

    def write(self, calls: Sequence[Sequence[Draft]]) -> list[Appended | ComityError]:
        """What became of each call, in order: written durably and whole, or refused for a reason of its own.

        All that is written is one transaction under one new head. Any other error than a refusal says that the log
        is broken.
        """
        try:
            stamp = self._stamp()
        except Unavailable as e:
            return [Unavailable(str(e), reason=e.reason) for _ in calls]
        tree = self._tree.copy()
        entries: list[bytes] = []
        hashes: list[bytes] = []
        inquiries: dict[str, int] = {}
        done: list[tuple[int, tuple[bytes, ...], tuple[bytes, ...]] | ComityError] = []
        accepted: list[Accepted] = []
        sealer = _Sealer(stamp, self._proven, self._citable(stamp))
        for drafts in calls:
            try:
                new = self._new_inquiries(drafts, tree.size, inquiries)
                parts = [self._parts.seal(draft, stamp.at) for draft in drafts]
                sealed = sealer.seal(drafts, parts)
            except ComityError as e:
                done.append(e)
                continue
            leaves = tuple(map(leaf_hash, sealed))
            done.append((tree.size, sealed, leaves))
            accepted.append((tree.size, drafts, parts))
            for leaf in leaves:
                tree.append(leaf)
            entries += sealed
            hashes += leaves
            inquiries |= new
        if entries:
            self._commit(tree, entries, hashes, inquiries, stamp, accepted)
            self._proven = sealer.proven
        return [
            d
            if isinstance(d, ComityError)
            else Appended(first_index=d[0], entries=d[1], leaf_hashes=d[2], head=self.head)
            for d in done
        ]

    def _commit(
        self,
        tree: Tree,
        entries: list[bytes],
        hashes: list[bytes],
        inquiries: dict[str, int],
        stamp: Stamp,
        accepted: list[Accepted],
    ) -> None:
        rows = self._parts.rows(accepted)
        root = tree.root()
        note = Checkpoint(origin=self._origin, size=tree.size, root=root).sign(self._key, self._key_id)
        self._store.commit(self._tree.size, entries, hashes, tuple(inquiries.items()), note, rows)
        self._parts.written(rows)
        self._tree = tree
        if tree.size >= self._keep_at:
            self.keep_edge()
        self._last_ms = _ms(stamp.at)
        self.head = SignedHead(size=tree.size, root=root, checkpoint=note)

    def keep_edge(self) -> None:
        """The next opening of a long log is quick from here on."""
        self._keep_at += edge.EVERY
        edge.keep(self._tree, self._store.where)

    def _stamp(self) -> Stamp:
        """Now, or the last entry's time when the clock has jumped back behind it.

        Raises:
            Unavailable: the clock is outside 2000 to 2100: nothing could order what it dates (CLOCK_UNUSABLE).
        """
        now = to_ms(self._clock())
        at = max(now, self._last_ms)
        text = to_text(from_ms(at))
        if not form.time(text) or not form.time(to_text(from_ms(now))):
            raise Unavailable("the clock is not set: nothing is recorded", reason="CLOCK_UNUSABLE")
        return Stamp(at=text, clock_behind_ms=at - now, size=self.head.size, root=self.head.root.hex())

    def _citable(self, stamp: Stamp) -> tuple[Cited, ...]:
        """The heads to cite: none that was cosigned long after now. A clock that was put back, by an hour say, would
        make an honest entry look back-dated.
        """
        cited = self.cited
        latest = _ms(stamp.at) // 1000 + _AHEAD_S if cited else 0
        return tuple(c for c in cited if c.seen_at <= latest)

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
