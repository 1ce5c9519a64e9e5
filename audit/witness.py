"""A witness: it cosigns another's log head once it knows that the log only grew, and remembers each head durably.

    1 whose      a log that the directory pins, shown by its owner, signed by its key
    2 smaller    than the head it holds: the log was rolled back, refused and reported
    3 same size  another root: a fork, refused and reported; the same root: cosigned anew
    4 larger     the proof must lead from the head it holds; without one it says which head that is
    5 durable    what it cosigns is on disk before the cosignature leaves

The first head of a log that it ever sees is taken as it is: the log's key in the directory is what was begun with.
Source: C2SP tlog-witness v1.0.0, add-checkpoint.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.cosignature import WitnessKey, cosign
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from audit.proof import verify_consistency
from audit.tree import HASH_BYTES
from comity.errors import ConfigError, InvalidInput, LogFault, Unavailable
from comity.instants import to_text
from comity.v1 import node_link_service_pb2 as pb2
from identity import files, keys

DB_NAME = "witness.db"
KEY_NAME = "witness.key"
VKEY_NAME = "witness.vkey"
MAX_CHECKPOINT_BYTES = 16 * 1024
MAX_NAME = 64
MAX_PROOF = 2 * 64  # hashes; a tree of 2^53 leaves needs fewer
MAX_REPORTS = 64  # kept of one log: the first ones tell, and a rogue shall not fill the disk
_SCHEMA = (
    "CREATE TABLE head(origin TEXT PRIMARY KEY, size INTEGER NOT NULL, note BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE report(id INTEGER PRIMARY KEY, at TEXT NOT NULL, origin TEXT NOT NULL, kind TEXT NOT NULL, "
    "held BLOB NOT NULL, shown BLOB NOT NULL) STRICT",
)

Clock = Callable[[], dt.datetime]
logger = structlog.get_logger("witness")


class Refusal(enum.StrEnum):
    """Why a witness did not cosign a head. All but the first two are faults of the log, and reported."""

    NOT_ITS_LOG = "NOT_ITS_LOG"
    STALE = "STALE"  # it holds another head than the one that the proof begins with
    ROLLED_BACK = "ROLLED_BACK"
    FORKED = "FORKED"
    INCONSISTENT = "INCONSISTENT"


FAULTS = frozenset((Refusal.ROLLED_BACK, Refusal.FORKED, Refusal.INCONSISTENT))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToWitness:
    """A log's head, and the proof that it has grown from the `old_size` that the witness is believed to hold.

    `node`: passed on by a broker, to that witness or from that log's node; empty: between the two ends of a stream.
    """

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    node: str = ""

    @classmethod
    def parse(cls, message: pb2.ToWitness) -> ToWitness:
        """What was asked, within limits; nothing is verified.

        Raises:
            InvalidInput: BAD_CHECKPOINT.
        """
        proof = tuple(message.proof)
        if len(proof) > MAX_PROOF or any(len(h) != HASH_BYTES for h in proof):
            raise InvalidInput("a proof is at most 128 hashes", reason="BAD_CHECKPOINT")
        if not 0 < len(message.checkpoint) <= MAX_CHECKPOINT_BYTES:
            raise InvalidInput("a checkpoint is at most 16 KiB", reason="BAD_CHECKPOINT")
        if len(message.node) > MAX_NAME:
            raise InvalidInput("a node's id is at most 64 characters", reason="BAD_CHECKPOINT")
        return cls(old_size=message.old_size, proof=proof, checkpoint=message.checkpoint, node=message.node)

    def to_message(self) -> pb2.ToWitness:
        """As it travels."""
        return pb2.ToWitness(old_size=self.old_size, proof=self.proof, checkpoint=self.checkpoint, node=self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A witness's answer: the newest head that it has cosigned of that log, empty if none; `refused`: why not more.

    `node`: passed on by a broker, to that log's node or from that witness; empty: between the two ends of a stream.
    """

    checkpoint: bytes
    refused: str = ""
    node: str = ""

    @classmethod
    def parse(cls, message: pb2.Witnessed) -> Witnessed:
        """The answer, within limits; nothing is verified.

        Raises:
            InvalidInput: BAD_CHECKPOINT.
        """
        if len(message.checkpoint) > MAX_CHECKPOINT_BYTES or len(message.refused) > 64 or len(message.node) > MAX_NAME:
            raise InvalidInput("a checkpoint is at most 16 KiB", reason="BAD_CHECKPOINT")
        return cls(checkpoint=message.checkpoint, refused=message.refused, node=message.node)

    def to_message(self) -> pb2.Witnessed:
        """As it travels."""
        return pb2.Witnessed(checkpoint=self.checkpoint, refused=self.refused, node=self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A head that a log signed and could not have, beside the one that was held: both are the evidence."""

    at: str
    origin: str
    kind: str
    held: bytes
    shown: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedLog:
    """A log to witness: its key, and the one peer that may show its heads: old ones from others look like faults.

    Of a head that a broker passed on, the owner is the node that the broker says it is from.
    """

    owner: str
    key: VerifierKey


class WitnessState:
    """The newest cosigned head of each log, in `witness.db`. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(
                f"there is no {path}: a witness that forgot what it signed signs no more", reason="NO_STATE"
            )
        self._db = _connect(path)

    @staticmethod
    def create(path: Path) -> None:
        """A witness's empty memory is at `path`, mode 0600.

        Raises:
            ConfigError: FILE_EXISTS or FILE_UNWRITABLE.
        """
        files.write_new(path, b"", mode=files.PRIVATE)
        try:
            with contextlib.closing(_connect(path)) as db:
                db.execute("PRAGMA journal_mode=WAL")
                for statement in _SCHEMA:
                    db.execute(statement)
        except sqlite3.Error as e:
            raise ConfigError(f"cannot create {path}: {e}", reason="FILE_UNWRITABLE") from None

    def held(self, origin: str) -> bytes:
        """The newest note of that log which was cosigned; empty if there is none."""
        row = self._db.execute("SELECT note FROM head WHERE origin = ?", (origin,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def keep(self, heads: Mapping[str, tuple[int, bytes]], reports: Sequence[Report]) -> None:
        """These heads and reports are durable; all or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT INTO head(origin, size, note) VALUES (?, ?, ?) "
                "ON CONFLICT(origin) DO UPDATE SET size = excluded.size, note = excluded.note",
                [(origin, size, note) for origin, (size, note) in heads.items()],
            )
            for r in reports:
                self._db.execute(
                    "INSERT INTO report(at, origin, kind, held, shown) SELECT ?, ?, ?, ?, ? "
                    "WHERE (SELECT count(*) FROM report WHERE origin = ?) < ?",
                    (r.at, r.origin, r.kind, r.held, r.shown, r.origin, MAX_REPORTS),
                )
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def reports(self) -> list[Report]:
        """What was refused as a log's fault, oldest first."""
        rows = self._db.execute("SELECT at, origin, kind, held, shown FROM report ORDER BY id").fetchall()
        return [Report(at=a, origin=o, kind=k, held=bytes(h), shown=bytes(s)) for a, o, k, h, s in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class Witness:
    """One program's witness of the logs in `logs`, by origin. For one thread at a time; it waits for the disk."""

    def __init__(
        self,
        state: WitnessState,
        *,
        name: str,
        key: Ed25519PrivateKey,
        logs: Mapping[str, PinnedLog],
        clock: Clock,
    ) -> None:
        self._state, self._name, self._key, self._logs, self._clock = state, name, key, logs, clock
        self._broken = False

    @staticmethod
    def create(folder: Path, name: str) -> None:
        """A new witness's key (mode 0600), its verifier key for the directory, and its empty memory are in `folder`.

        Raises:
            ConfigError: FILE_EXISTS or FILE_UNWRITABLE.
            InvalidInput: BAD_ORIGIN.
        """
        key = keys.new_log_key()
        vkey = WitnessKey.of(name, key.public_key())
        keys.write_key(folder / KEY_NAME, key)
        files.write_new(folder / VKEY_NAME, f"{vkey}\n".encode(), mode=files.PUBLIC)
        WitnessState.create(folder / DB_NAME)

    @classmethod
    def open(
        cls, folder: Path, *, pinned: WitnessKey | None, logs: Mapping[str, PinnedLog], clock: Clock
    ) -> Self | None:
        """The witness whose key and memory `comity node init` or `comity broker init` made in `folder`; None if there
        is none, or the directory does not pin its key: its cosignatures would count for nothing.

        Raises:
            ConfigError: NO_STATE, FILE_UNREADABLE, KEY_EXPOSED or BAD_KEY.
        """
        if pinned is None or not (folder / KEY_NAME).exists():
            return None
        key = keys.load_log_key(folder / KEY_NAME)
        if key.public_key().public_bytes_raw() != pinned.key:
            logger.warning("not a witness: the directory pins another key", witness=pinned.name)
            return None
        return cls(WitnessState(folder / DB_NAME), name=pinned.name, key=key, logs=logs, clock=clock)

    def answers(self, asked: Sequence[tuple[str, ToWitness]]) -> list[Witnessed]:
        """What is said to each (peer, what it shows), in order; whatever was cosigned is durable, in one commit.

        Raises:
            Unavailable: it could not be made durable: nothing was cosigned, and nothing more will be (NO_WITNESS).
        """
        if self._broken:
            raise Unavailable("the witness's memory could not be written", reason="NO_WITNESS")
        new: dict[str, tuple[int, bytes]] = {}
        reports: list[Report] = []
        try:
            said = [self._answer(peer, one, new, reports) for peer, one in asked]
            if new or reports:
                self._state.keep(new, reports)
        except (sqlite3.Error, OSError):
            self._broken = True
            raise Unavailable("the witness's memory could not be written", reason="NO_WITNESS") from None
        return said

    def close(self) -> None:
        """Let go of the memory."""
        self._state.close()

    def _answer(
        self, peer: str, asked: ToWitness, new: dict[str, tuple[int, bytes]], reports: list[Report]
    ) -> Witnessed:
        try:
            origin = Checkpoint.parse(asked.checkpoint).origin
            log = self._logs.get(origin)
            shown = verify_checkpoint(asked.checkpoint, log.key) if log and log.owner == peer else None
        except LogFault:
            shown = None
        if shown is None:
            return Witnessed(checkpoint=b"", refused=Refusal.NOT_ITS_LOG)
        held = new[origin][1] if origin in new else self._state.held(origin)
        refusal = judge(Checkpoint.parse(held), shown, asked) if held else None
        now = self._clock()
        if refusal is None:
            note = cosign(asked.checkpoint, self._name, self._key, now)
            new[origin] = shown.size, note
            return Witnessed(checkpoint=note)
        # Between owner and witness a broker can play an old head again, or spoil a proof; it cannot sign another past.
        if refusal is Refusal.FORKED or (refusal in FAULTS and not asked.node):
            reports.append(Report(at=to_text(now), origin=origin, kind=refusal, held=held, shown=asked.checkpoint))
        return Witnessed(checkpoint=held, refused=refusal)


def judge(held: Checkpoint, shown: Checkpoint, asked: ToWitness) -> Refusal | None:
    """Why the head in `shown`, whose signature was verified, is not cosigned after `held`; None if it is.

    The proof in `asked` is looked at only where it is needed.
    """
    if shown.size < held.size:
        return Refusal.ROLLED_BACK
    if shown.size == held.size:
        return None if shown.root == held.root else Refusal.FORKED
    if held.size == 0:
        return None  # whatever is in it, a log begins empty
    if asked.old_size != held.size:
        return Refusal.STALE
    try:
        verify_consistency(held.size, shown.size, held.root, shown.root, asked.proof)
    except LogFault:
        return Refusal.INCONSISTENT
    return None


def is_memory(db: sqlite3.Connection) -> bool:
    """True if the file holds a witness's two tables and nothing else: no view stands in for them."""
    return {sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")} == set(_SCHEMA)


def _connect(path: Path) -> sqlite3.Connection:
    os.stat(path)
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA trusted_schema=OFF")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
    return db
