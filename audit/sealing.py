"""Sealed parts: the clear values behind an entry's commitments, for auditors alone and until their key is deleted.

    part      AES-256-GCM of the disclosures under a key of this entry's own
    wrapped   that key, AES-256-GCM under the epoch key; 12 bytes nonce, then the ciphertext
    epoch     a key of this process and this month, HPKE-sealed to each auditor; its clear form is in memory alone

The entry holds the hash of wrapped key and ciphertext, which are bound to log, entry type and inquiry, and the epoch
key's id, which is a hash over all that was sealed of it: nothing fits elsewhere, and nothing is altered unseen.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit import evidence
from audit.entry import Draft
from audit.listing import decode
from audit.note import Checkpoint, unbase64
from audit.read import LogReader
from audit.sealed_store import EpochKey, SealedPart, SealedRows, epoch_key_id
from comity.errors import ComityError, InvalidInput, LogFault, NotAllowed
from comity.inquiry import Disclosed, Disclosure
from comity.query import ConvoyQuery, PlateQuery, Query
from identity.auditors import AuditorKey, Recipient, open_auditor_key

__all__ = ["AuditorKey", "Clear", "Sealer", "Unsealer", "open_auditor_key", "unsealed"]

FORMAT = "comity-sealed-1"
EPOCH_FORMAT = "comity-epoch-key-1"
Accepted = tuple[int, Sequence[Draft], Sequence[SealedPart | None]]  # a call: first index, its drafts, their parts
PAD_BYTES = 256  # else the length would tell a short plate or case number from a long one
NONCE_BYTES = 12
_ONCE = bytes(NONCE_BYTES)  # each entry's key encrypts once


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """What was asked, in clear, checked against the commitments that the investigator signed.

    `plate` and `state` are empty if the query is not of one whole plate; `query` says what it is of.
    """

    index: int
    inquiry_id: str
    plate: str = field(repr=False)
    state: str = field(repr=False)
    case_number: str = field(repr=False)
    authority_reference: str = field(repr=False)
    query: Query = field(repr=False)
    disclosures: tuple[Disclosure, ...] = field(repr=False)


class Sealer:
    """Seals for the auditors named; one for the life of a writing process. Not for several threads at once.

    Each new epoch key is in `unwritten` until the writer has stored it with the first part that needs it.
    """

    def __init__(self, origin: str, auditors: Sequence[Recipient]) -> None:
        self._origin, self._auditors = origin, tuple(a for a in auditors if a.reads(origin))
        self._month, self._key_id, self._wraps = "", "", 0
        self._key: AESGCM | None = None
        self.unwritten: list[EpochKey] = []

    def seal(self, draft: Draft, at: str) -> SealedPart | None:
        """The sealed part of an entry written at `at`; None if it has no clear values or nobody may read this log."""
        if not draft.clear or not self._auditors:
            return None
        if self._key is None or at[:7] != self._month:
            self._begin(at[:7])
        assert self._key is not None
        bound = _bound(self._origin, draft.type, draft.body["inquiry_hash"], self._key_id)
        own = secrets.token_bytes(32)
        # A counter: the epoch key is of this process alone, so no nonce comes twice.
        nonce = self._wraps.to_bytes(NONCE_BYTES, "big")
        self._wraps += 1
        return SealedPart(
            key_id=self._key_id,
            wrapped=nonce + self._key.encrypt(nonce, own, bound),
            part=AESGCM(own).encrypt(_ONCE, _encode(draft.clear), bound),
        )

    def rows(self, accepted: Sequence[Accepted]) -> SealedRows:
        """What the commit of these calls writes beside their entries; an erasure is done by the one that records it."""
        erasures = [d.body for _, drafts, _ in accepted for d in drafts if d.type == "erasure"]
        return SealedRows(
            parts=[(at, p) for first, _, parts in accepted for at, p in enumerate(parts, first) if p is not None],
            epochs=tuple(self.unwritten),
            erased_indexes=[i for body in erasures if body["scope"] == "entry" for i in body["indexes"]],
            erased_keys=[body["key_id"] for body in erasures if body["scope"] == "epoch"],
        )

    def written(self, rows: SealedRows) -> None:
        """They are durable: the keys in them are not written again, and those erased not used again."""
        self.unwritten.clear()
        if self._key_id in rows.erased_keys:
            self._key = None

    def _begin(self, month: str) -> None:
        key = secrets.token_bytes(32)
        info = _epoch_info(self._origin, month)
        sealed = [(a.id, a.seal(key, info)) for a in self._auditors]
        self._month, self._key_id, self._wraps = month, epoch_key_id(month, sealed), 0
        self._key = AESGCM(key)
        self.unwritten += [EpochKey(self._key_id, month, recipient, data) for recipient, data in sealed]


class Unsealer:
    """Opens the sealed parts of one log with one auditor's key; each epoch key is opened once."""

    def __init__(self, reader: LogReader, key: AuditorKey) -> None:
        self._reader, self._key = reader, key
        self._origin = Checkpoint.parse(reader.head()[1]).origin
        self._opened: dict[str, AESGCM] = {}

    def clear(self, index: int) -> Clear:
        """What entry `index`, an inquiry, stands for.

        Raises:
            InvalidInput: no such entry (NO_ENTRY), nothing sealed with it (NOT_SEALED), or its key was erased (ERASED).
            NotAllowed: it was not sealed to this key (NOT_FOR_KEY).
            LogFault: the sealed part is missing (SEALED_MISSING), is not the one that the entry names or does not open
                (SEALED_MISMATCH), or holds other values than were committed to (COMMITMENT_MISMATCH); or the entry is
                malformed.
        """
        value = decode(index, self._reader.entry(index))
        if "sealed" not in value:
            raise InvalidInput(f"nothing was sealed with entry {index}", reason="NOT_SEALED")
        sealed = self._reader.sealed_part(index)
        if sealed is None:
            raise LogFault(f"the sealed part of entry {index} is gone", index=index, reason="SEALED_MISSING")
        if sealed.erased:
            raise InvalidInput(f"the values of entry {index} were erased", reason="ERASED")
        if sealed.hash.hex() != value["sealed"]["hash"] or sealed.key_id != value["sealed"]["key_id"]:
            raise _mismatch(index)
        bound = _bound(self._origin, value["type"], value["inquiry_hash"], sealed.key_id)
        wrapper = self._epoch_key(sealed.key_id)
        try:
            own = wrapper.decrypt(sealed.wrapped[:NONCE_BYTES], sealed.wrapped[NONCE_BYTES:], bound)
            disclosures = _decode(AESGCM(own).decrypt(_ONCE, sealed.part, bound))
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise _mismatch(index) from None
        return _checked(index, value, disclosures)

    def _epoch_key(self, key_id: str) -> AESGCM:
        if key_id not in self._opened:
            rows = [e for e in self._reader.epoch_keys() if e.key_id == key_id]
            mine = next((e for e in rows if e.recipient == self._key.id), None)
            if mine is None:
                raise NotAllowed("this entry was not sealed to this key", reason="NOT_FOR_KEY")
            if mine.erased:
                raise InvalidInput("the values of that month were erased", reason="ERASED")
            info = _epoch_info(self._origin, mine.month)
            self._opened[key_id] = AESGCM(self._key.open(mine.sealed, info))
        return self._opened[key_id]


def unsealed(log_reader: LogReader, index: int, key: AuditorKey) -> Clear:
    """What entry `index` of that log stands for. For many entries make one `Unsealer` and keep it.

    Raises:
        InvalidInput, NotAllowed, LogFault: as `Unsealer.clear`.
    """
    return Unsealer(log_reader, key).clear(index)


def _bound(origin: str, kind: str, inquiry_hash: str, key_id: str) -> bytes:
    """The associated data of part and wrapped key: a part of another log, type or inquiry does not open here."""
    return "\0".join((FORMAT, origin, kind, inquiry_hash, key_id)).encode()


def _epoch_info(origin: str, month: str) -> bytes:
    return "\0".join((EPOCH_FORMAT, origin, month)).encode()


def _encode(disclosures: Sequence[Disclosure]) -> bytes:
    """JSON, filled up with blanks to a multiple of PAD_BYTES."""
    plain = orjson.dumps(
        [
            {"name": d.label, "salt": base64.b64encode(d.salt).decode(), "value": base64.b64encode(d.value).decode()}
            for d in disclosures
        ]
    )
    return plain.ljust(-(-len(plain) // PAD_BYTES) * PAD_BYTES)


def _decode(plain: bytes) -> tuple[Disclosure, ...]:
    return tuple(
        Disclosure(label=d["name"], salt=unbase64(d["salt"]), value=unbase64(d["value"])) for d in orjson.loads(plain)
    )


def _checked(index: int, value: dict[str, Any], disclosures: tuple[Disclosure, ...]) -> Clear:
    inquiry = evidence.check_payload(index, value)
    try:
        disclosed = Disclosed.parse(inquiry, [d.to_message() for d in disclosures])
    except (ComityError, TypeError, ValueError):
        message = f"the values sealed with entry {index} are not those that were committed to"
        raise LogFault(message, index=index, reason="COMMITMENT_MISMATCH") from None
    query = disclosed.query
    plate = query.plate if isinstance(query, PlateQuery | ConvoyQuery) else None
    return Clear(
        index=index,
        inquiry_id=inquiry.inquiry_id,
        plate=plate.number if plate else "",
        state=plate.state if plate else "",
        case_number=disclosed.case_number,
        authority_reference=disclosed.authority_reference,
        query=query,
        disclosures=disclosures,
    )


def _mismatch(index: int) -> LogFault:
    message = f"the sealed part of entry {index} is not the one that was written with it"
    return LogFault(message, index=index, reason="SEALED_MISMATCH")
