"""A log of nothing but hashes, that grows, forks and goes back at a word; and witnesses of it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.cosignature import WitnessKey
from audit.exchange import Exchange
from audit.hashes import WIDTH, Hashes, tile_root
from audit.log import DecisionLog
from audit.note import Checkpoint, Cited, VerifierKey
from audit.proof import Proof, consistency_proof, tree_root
from audit.tree import HASH_BYTES
from audit.witness import DB_NAME, PinnedLog, Witness, WitnessState
from audit.witnessed import OwnHeads
from audit.writer import SignedHead

ORIGIN = "test-exchange/broker/b1"
BROKER = "broker/b1"
NOW = dt.datetime(2030, 5, 1, 12, tzinfo=dt.UTC)


async def until(probe: Callable[[], bool]) -> None:
    """Return once `probe` says so."""
    async with asyncio.timeout(120):
        while not probe():  # noqa: ASYNC110  the ends' threads set no event of ours
            await asyncio.sleep(0.005)


def leaf(index: int, past: str = "") -> bytes:
    """The hash of the entry at that index, in one of several pasts."""
    return sha256(f"{past}{index}".encode()).digest()


class GrowingLog:
    """A log under one key. It knows every proof about itself, as `LiveHashes` does."""

    def __init__(self, size: int = 0, *, origin: str = ORIGIN, key: Ed25519PrivateKey | None = None) -> None:
        self.origin, self.key = origin, key or Ed25519PrivateKey.from_private_bytes(sha256(origin.encode()).digest())
        self.vkey = VerifierKey.of(origin, self.key.public_key())
        self.leaves: list[bytes] = []
        self.cited: tuple[Cited, ...] = ()
        self.grow(size)

    def grow(self, count: int, past: str = "") -> None:
        """So many more entries, of that past."""
        first = len(self.leaves)
        self.leaves += [leaf(i, past) for i in range(first, first + count)]

    def go_back(self, size: int) -> None:
        """An older copy of it is put in its place."""
        del self.leaves[size:]

    def cite(self, heads: Sequence[Cited]) -> None:
        """As the real log."""
        self.cited = tuple(heads)

    @property
    def head(self) -> SignedHead:
        """The newest head, signed."""
        size, root = len(self.leaves), self.root(len(self.leaves))
        note = Checkpoint(origin=self.origin, size=size, root=root).sign(self.key)
        return SignedHead(size=size, root=root, checkpoint=note)

    def root(self, size: int) -> bytes:
        """The root over the first `size` entries."""
        return tree_root(size, self._hashes(size).subtree)

    def consistency(self, old: int, new: int) -> Proof:
        """That it only grew."""
        return consistency_proof(old, new, self._hashes(new).subtree) if old else ()

    def _hashes(self, size: int) -> Hashes:
        def read(level: int, number: int, width: int) -> bytes:
            if level == 0:
                return b"".join(self.leaves[number * WIDTH :][:width])
            return b"".join(tile_root(read(level - 1, number * WIDTH + i, WIDTH)) for i in range(width))

        assert size <= WIDTH * WIDTH * HASH_BYTES
        return Hashes(size, read)


class HandSeconds:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def witness(folder: Path, name: str, *logs: GrowingLog, owner: str = BROKER, at: dt.datetime = NOW) -> Witness:
    """A witness of those logs, with its memory in `folder`."""
    if not (folder / DB_NAME).exists():
        WitnessState.create(folder / DB_NAME)
    pinned = {log.origin: PinnedLog(owner=owner, key=log.vkey) for log in logs}
    return Witness(WitnessState(folder / DB_NAME), name=name, key=witness_key(name), logs=pinned, clock=lambda: at)


def witness_key(name: str) -> Ed25519PrivateKey:
    """The key of the witness of that name."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def public(name: str) -> WitnessKey:
    """Its verifier key."""
    return WitnessKey.of(name, witness_key(name).public_key())


def own_heads(log: GrowingLog, *names: str, quorum: int) -> OwnHeads:
    """What those witnesses, each known by its name, have cosigned of the log."""
    return OwnHeads(
        vkey=log.vkey,
        head=lambda: log.head,
        proofs=log,
        witnesses={n: public(n) for n in names},
        quorum=quorum,
        clock=lambda: NOW,
    )


def silent_exchange(log: DecisionLog) -> Exchange:
    """An exchange of a log without witnesses, that witnesses nothing."""
    nobody = OwnHeads(
        vkey=log.vkey, head=lambda: log.head, proofs=GrowingLog(), witnesses={}, quorum=0, clock=lambda: NOW
    )
    return Exchange(log=log, own=nobody, witness=None, every_s=1, renew_s=60, seconds=HandSeconds())
