"""The node as a witness of its brokers' and of other nodes' logs, where the directory names it one; and its witnesses:
the brokers, and one other node that they pass its heads on to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from audit.cosignature import other_witnesses, witnesses_of_brokers, witnesses_of_node
from audit.exchange import Exchange, Passing
from audit.live import LiveHashes
from audit.log import DecisionLog
from audit.note import VerifierKey
from audit.pinned import tell_if_not_pinned
from audit.tile_http import LiveTiles
from audit.witness import Clock, PinnedLog, Witness
from audit.witnessed import OwnHeads
from identity.directory import Directory

EVERY_S = 5.0
RENEW_S = 60.0
BROKER = "broker/"


class Witnessing:
    """The node's exchange with its brokers. A node answers with or without a broker's cosignature: it is no quorum."""

    def __init__(
        self,
        state: Path,
        *,
        log: DecisionLog,
        directory: Directory,
        node: str,
        tiles_every_s: float,
        clock: Clock,
        seconds: Callable[[], float],
    ) -> None:
        tell_if_not_pinned(directory, log.vkey)
        self._hashes = LiveHashes(state)
        self.own = OwnHeads(
            vkey=log.vkey,
            head=lambda: log.head,
            proofs=self._hashes,
            witnesses=witnesses_of_node(directory, node),
            quorum=1,
            clock=clock,
        )
        others = other_witnesses(directory)
        passing = Passing(to=others.get(node, ""), of=frozenset(n for n, w in others.items() if w == node))
        self._witness = _witness(state, directory, node, passing, clock)
        self.exchange = Exchange(
            log=log,
            own=self.own,
            witness=self._witness,
            every_s=EVERY_S,
            renew_s=RENEW_S,
            seconds=seconds,
            passing=passing,
        )
        self.tiles = LiveTiles(state, log=log, own=self.own, every_s=tiles_every_s)

    def close(self) -> None:
        """Let go of the files, once `exchange` runs no more."""
        self._hashes.close()
        if self._witness is not None:
            self._witness.close()


def peer_of(broker: str) -> str:
    """The witness's name in the directory, of a broker by its SPIFFE ID."""
    return BROKER + broker.rpartition("/")[2]


def _witness(state: Path, directory: Directory, node: str, passing: Passing, clock: Clock) -> Witness | None:
    """The witness in `state`; None where the directory names this node none, or `init` made none."""
    logs = {
        origin: PinnedLog(
            owner=BROKER + log.id if log.program == "broker" else log.id, key=VerifierKey.of(origin, log.key)
        )
        for origin, log in directory.logs.items()
        if log.program == "broker" or log.id in passing.of
    }
    return Witness.open(state, pinned=witnesses_of_brokers(directory).get(node), logs=logs, clock=clock)
