"""Legal holds and preservation requests: what may not be purged, on the word of two persons of the node's agency.

What is signed names no plate and no court: it carries salted commitments to the scope and to the order's reference,
so that its hash can be in the decision log. The clear values are in the hold's own file alone, mode 0600.

    1  the author's and the approver's signatures are over these bytes, by certificates of the pinned directory
    2  both are persons of the node's own agency, two of them, one a supervisor
    3  approved within a day of being issued
    4  the clear values match their commitments

A hold that fails any of these is a fault: nothing is purged until someone has looked, and it holds nothing either.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import fcntl
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from comity import commitment, instants, jcs
from comity.detection import MAX_CAMERA_CHARACTERS
from comity.envelope import Envelope
from comity.errors import ComityError, InvalidInput, NotAuthentic, Unavailable, Violation
from comity.inquiry import CLOCK_SKEW
from comity.plate import Plate
from identity import files
from identity.directory import Directory
from identity.inquiry import APPROVER_ROLE
from identity.signing import Signer, verify_envelope
from node.store.held import Scope

FOLDER = "holds"
LOCK_FILE = ".lock"
HOLD_TYPE = "application/vnd.comity.hold.v1+json"
HOLD, PRESERVATION = "hold", "preservation"
PRESERVATION_DAYS = 14
MAX_DAYS = 5 * 366
APPROVED_WITHIN = dt.timedelta(days=1)
MAX_FILE_BYTES = 64 * 1024
MAX_TEXT = 500
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_COMMITTED = {"query": commitment.QUERY, "order": commitment.AUTHORITY_REFERENCE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One hold. `state` is draft, in force, ending (one signature to end it), ended, lapsed (never approved) or over.

    `digest` is the SHA-256 of what was signed, `ended_digest` that of what ended it, empty before.
    """

    hold_id: str
    kind: str
    state: str
    issued_at: dt.datetime
    ends_at: dt.datetime
    signers: tuple[str, ...]
    digest: bytes
    ended_digest: bytes
    scope: Scope = field(repr=False)
    reason: str = field(repr=False)
    order: str = field(repr=False)

    @property
    def in_force(self) -> bool:
        """True while its rows stay."""
        return self.state in ("in force", "ending")


class Holds:
    """The holds of one node, one file each. `clock` returns aware UTC."""

    def __init__(
        self, folder: Path, *, directory: Directory, node: str, agency: str, clock: Callable[[], dt.datetime]
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._node = node
        self._agency = agency
        self._clock = clock

    def add(self, scope: Scope, *, kind: str, reason: str, order: str, days: int, signer: Signer) -> Hold:
        """A draft with its author's signature; it holds nothing until `approve`. A preservation is of 14 days.

        Raises:
            InvalidInput: BAD_HOLD, naming what is wrong.
            NotAuthentic: the signer is no person of this agency, or as `verify_envelope`.
            ConfigError: it cannot be written.
        """
        _check(scope, kind, reason, order, days)
        now = self._clock()
        values = {"query": jcs.encode({"reason": reason, "scope": _scope_json(scope)}), "order": order.encode()}
        clear = {name: (os.urandom(commitment.SALT_BYTES), value) for name, value in values.items()}
        payload = {
            "action": "add",
            "ends_at": instants.to_text(now + dt.timedelta(days=days)),
            "hold_id": (hold_id := str(uuid.uuid4())),
            "issued_at": instants.to_text(now),
            "kind": kind,
            "node": self._node,
            "v": 1,
        } | {name: _b64(commitment.commit(_COMMITTED[name], *pair)) for name, pair in clear.items()}
        content = {
            "add": _signed(signer.sign(HOLD_TYPE, jcs.encode(payload)), None),
            "end": None,
            "clear": {name: [_b64(salt), _b64(value)] for name, (salt, value) in clear.items()},
        }
        files.make_folder(self._folder)
        hold = self._read(content, hold_id, now)
        files.write_new(self._path(hold_id), orjson.dumps(content), mode=files.PRIVATE)
        return hold

    def end(self, hold_id: str, signer: Signer) -> Hold:
        """The hold with one signature to end it; it goes on until `approve`.

        Raises:
            InvalidInput: NO_HOLD, or NOT_IN_FORCE.
            NotAuthentic, Unavailable, ConfigError: as `add` and `all`.
        """
        content, hold, now = self._load(hold_id)
        if hold.state != "in force":
            raise InvalidInput(f"the hold is {hold.state}", reason="NOT_IN_FORCE")
        payload = {
            "action": "end",
            "added": hold.digest.hex(),
            "hold_id": hold_id,
            "issued_at": instants.to_text(now),
            "node": self._node,
            "v": 1,
        }
        content["end"] = _signed(signer.sign(HOLD_TYPE, jcs.encode(payload)), None)
        return self._store(hold_id, content, now)

    def approve(self, hold_id: str, signer: Signer) -> Hold:
        """The hold in force, or ended, by the second person's signature.

        Raises:
            InvalidInput: NO_HOLD, DUPLICATE_SIGNER, or NOTHING_TO_APPROVE.
            NotAuthentic: WRONG_APPROVER: not two persons of this agency with a supervisor among them.
            Unavailable, ConfigError: as `all` and `alone`.
        """
        with self.alone():
            content, hold, now = self._load(hold_id)
            if hold.state not in ("draft", "ending"):
                raise InvalidInput(f"the hold is {hold.state}", reason="NOTHING_TO_APPROVE")
            step = "add" if hold.state == "draft" else "end"
            envelope = Envelope.parse(_unb64(content[step]["envelope"]), payload_type=HOLD_TYPE)
            content[step] = _signed(signer.countersign(envelope), now)
            return self._store(hold_id, content, now)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no hold comes into force and none ends: what a purge has read of them stays true.

        Raises:
            ConfigError, Unavailable: the folder cannot be made, or its lock not be taken.
        """
        files.make_folder(self._folder)
        try:
            lock = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            raise Unavailable(f"the holds cannot be locked: {e.strerror}", reason="HOLD_UNVERIFIED") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def all(self, *, without: Collection[str] = ()) -> tuple[Hold, ...]:
        """Every hold, the oldest first; those in `without` only where they can be believed.

        Raises:
            Unavailable: HOLD_UNVERIFIED; one file, which is named, cannot be read or believed.
        """
        now = self._clock()
        paths = sorted(self._folder.glob("*.json")) if self._folder.exists() else []
        found = []
        for path in paths:
            try:
                with _believing(path.stem):
                    data = files.read(path, max_bytes=MAX_FILE_BYTES, private=True)
                    found.append(self._read(orjson.loads(data), path.stem, now))
            except Unavailable:
                if path.stem not in without:
                    raise
        return tuple(sorted(found, key=lambda h: (h.issued_at, h.hold_id)))

    def _load(self, hold_id: str) -> tuple[dict[str, Any], Hold, dt.datetime]:
        now, path = self._clock(), self._path(hold_id)
        if not path.is_file():
            raise InvalidInput("there is no such hold: comity node hold list shows them", reason="NO_HOLD")
        with _believing(hold_id):
            content: dict[str, Any] = orjson.loads(files.read(path, max_bytes=MAX_FILE_BYTES, private=True))
            return content, self._read(content, hold_id, now), now

    def _store(self, hold_id: str, content: dict[str, Any], now: dt.datetime) -> Hold:
        hold = self._read(content, hold_id, now)
        files.replace(self._path(hold_id), orjson.dumps(content), mode=files.PRIVATE)
        return hold

    def _path(self, hold_id: str) -> Path:
        if not _ID.match(hold_id):
            raise InvalidInput("that is no hold's id: comity node hold list shows them", reason="NO_HOLD")
        return self._folder / f"{hold_id}.json"

    def _read(self, content: dict[str, Any], hold_id: str, now: dt.datetime) -> Hold:
        added, payload, signers, whole = self._verified(content["add"], "add", hold_id)
        clear = {}
        for name, label in _COMMITTED.items():  # 4
            salt, value = (_unb64(text) for text in content["clear"][name])
            if not commitment.matches(_unb64(payload[name]), label, salt, value):
                raise NotAuthentic("a hold's clear values are not those that were signed", reason="WRONG_DISCLOSURE")
            clear[name] = value
        query = orjson.loads(clear["query"])
        issued_at, ends_at = _at(payload["issued_at"]), _at(payload["ends_at"])
        ended = b""
        if whole:
            state = "in force" if now < ends_at else "over"
        else:
            state = "draft" if now < issued_at + APPROVED_WITHIN else "lapsed"
        if whole and content["end"] is not None:
            ending, end_payload, end_signers, both = self._verified(content["end"], "end", hold_id)
            if end_payload["added"] != added.payload_hash.hex():
                raise NotAuthentic("what ends this hold names another", reason="WRONG_DISCLOSURE")
            state, signers = ("ended" if both else state), (*signers, *end_signers)
            if not both and state == "in force" and now < _at(end_payload["issued_at"]) + APPROVED_WITHIN:
                state = "ending"
            ended = ending.payload_hash if both else b""
        return Hold(
            hold_id=hold_id,
            kind=payload["kind"],
            state=state,
            issued_at=issued_at,
            ends_at=ends_at,
            signers=signers,
            digest=added.payload_hash,
            ended_digest=ended,
            scope=_scope(query["scope"]),
            reason=query["reason"],
            order=clear["order"].decode(),
        )

    def _verified(
        self, signed: dict[str, Any], action: str, hold_id: str
    ) -> tuple[Envelope, dict[str, Any], tuple[str, ...], bool]:
        """Steps 1 to 3; true at the end if two persons signed."""
        envelope = Envelope.parse(_unb64(signed["envelope"]), payload_type=HOLD_TYPE)
        payload: dict[str, Any] = orjson.loads(envelope.payload)
        if (payload["action"], payload["hold_id"], payload["node"]) != (action, hold_id, self._node):
            raise NotAuthentic("this was signed for another hold or node", reason="WRONG_HOLD")
        issued_at = _at(payload["issued_at"])
        approved_at = _at(signed["approved_at"]) if signed["approved_at"] else None
        identities = verify_envelope(envelope, self._directory, issued_at, kind="person", approvers_at=approved_at)  # 1
        if any(i.agency != self._agency for i in identities):  # 2
            raise NotAuthentic("a hold is signed by persons of the node's own agency", reason="WRONG_APPROVER")
        whole = len(identities) == 2
        if len(identities) > 2 or (whole and APPROVER_ROLE not in {i.role for i in identities}):
            raise NotAuthentic(f"a hold needs two persons, one a {APPROVER_ROLE}", reason="WRONG_APPROVER")
        if issued_at > self._clock() + CLOCK_SKEW:
            raise NotAuthentic("the hold is issued in the future: check the clocks", reason="ISSUED_IN_FUTURE")
        if whole and (approved_at is None or not issued_at <= approved_at <= issued_at + APPROVED_WITHIN):  # 3
            raise NotAuthentic("it was not approved within a day", reason="EXPIRED")
        return envelope, payload, tuple(str(i.spiffe) for i in identities), whole


@contextlib.contextmanager
def _believing(hold_id: str) -> Iterator[None]:
    try:
        yield
    except (ComityError, ValueError, TypeError, KeyError) as e:
        why = e.reason if isinstance(e, ComityError) else "BAD_HOLD"
        raise Unavailable(f"the hold {hold_id} cannot be believed: {why}", reason="HOLD_UNVERIFIED") from None


def _check(scope: Scope, kind: str, reason: str, order: str, days: int) -> None:
    bad = []
    if kind not in (HOLD, PRESERVATION):
        bad.append(Violation("kind", f"must be {HOLD} or {PRESERVATION}"))
    if not (scope.plate or scope.camera or (scope.begin and scope.end)):
        bad.append(Violation("scope", "must name a plate, a camera, or a window with both ends"))
    if scope.begin and scope.end and scope.begin >= scope.end:
        bad.append(Violation("window", "must begin before it ends"))
    if len(scope.camera) > MAX_CAMERA_CHARACTERS or not scope.camera.isprintable():
        bad.append(Violation("camera", f"must be at most {MAX_CAMERA_CHARACTERS} printable characters"))
    for name, text in (("reason", reason), ("order", order)):
        if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
            bad.append(Violation(name, f"must be 1 to {MAX_TEXT} printable characters"))
    most = PRESERVATION_DAYS if kind == PRESERVATION else MAX_DAYS
    if not 1 <= days <= most:
        bad.append(Violation("days", f"must be 1 to {most}"))
    if bad:
        raise InvalidInput("not a hold", violations=bad, reason="BAD_HOLD")


def _scope_json(scope: Scope) -> dict[str, str]:
    return {
        "begin": instants.to_text(scope.begin) if scope.begin else "",
        "camera": scope.camera,
        "end": instants.to_text(scope.end) if scope.end else "",
        "plate": scope.plate.number if scope.plate else "",
        "state": scope.plate.state if scope.plate else "",
    }


def _scope(raw: dict[str, str]) -> Scope:
    return Scope(
        plate=Plate.parse(raw["plate"], raw["state"], state_required=False) if raw["plate"] else None,
        camera=raw["camera"],
        begin=_at(raw["begin"]) if raw["begin"] else None,
        end=_at(raw["end"]) if raw["end"] else None,
    )


def _signed(envelope: Envelope, approved_at: dt.datetime | None) -> dict[str, str | None]:
    return {
        "envelope": _b64(envelope.encode()),
        "approved_at": instants.to_text(approved_at) if approved_at else None,
    }


def _at(text: str) -> dt.datetime:
    at = dt.datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(dt.UTC)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
