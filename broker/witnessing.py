"""What the broker may release depends on who has seen its log: a quorum of witnesses, named in the directory.

It starts releasing nothing. It goes on once a quorum has cosigned a head of this run, each after the head that it held
before: so an older copy of the log, or another past of it, is never gone on from. It stops when that was too long ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from audit.cosignature import WitnessKey, other_witnesses, witnesses_of_brokers, witnesses_of_nodes
from audit.exchange import Exchange, Passing
from audit.live import LiveHashes
from audit.log import DecisionLog
from audit.note import VerifierKey
from audit.pinned import tell_if_not_pinned
from audit.tile_http import LiveTiles
from audit.witness import PinnedLog, Refusal, Witness
from audit.witnessed import OwnHeads
from broker.ports import Clock
from comity.errors import ConfigError, Unavailable
from identity.directory import Directory

EVERY_S = 1.0
RENEW_S = 60.0
START_WAIT_S = 2.0  # a search that comes while the nodes are still attaching waits so long for the quorum
_FAULTS = {
    Refusal.ROLLED_BACK: (
        "LOG_ROLLED_BACK",
        "a witness holds a later head of this broker's log: this is an older copy",
    ),
    Refusal.FORKED: ("LOG_FORKED", "a witness holds another past of this broker's log"),
}
logger = structlog.get_logger("witness")


class Gate:
    """Open while `quorum` witnesses have cosigned within the last `within_s` seconds, and no fault was shown.

    `changed` hears at the first settling and at every change since whether it is open.
    """

    def __init__(
        self, own: OwnHeads, *, within_s: float, seconds: Callable[[], float], changed: Callable[[bool], None]
    ) -> None:
        self._own, self._within_s, self._seconds, self._changed = own, within_s, seconds, changed
        self._opened = asyncio.Event()
        self._was: str | None = None  # why it was closed; empty: it was open

    def check(self) -> None:
        """Return if something may be released now.

        Raises:
            Unavailable: NOT_WITNESSED, LOG_ROLLED_BACK or LOG_FORKED.
        """
        own = self._own
        if own.fault is not None:
            reason, sentence = _FAULTS[own.fault]
            raise Unavailable(f"{sentence}: nothing is released", reason=reason)
        if own.quorum and own.fresh(self._seconds(), self._within_s) < own.quorum:
            message = f"fewer than {own.quorum} witnesses have seen the broker's log lately: nothing is released"
            raise Unavailable(message, reason="NOT_WITNESSED")

    async def opened(self, within_s: float) -> None:
        """As `check`, after a short wait, `within_s` at most, if it never has been open: nodes are still attaching.

        Raises:
            Unavailable: as `check`.
        """
        if self._own.quorum and self._own.fault is None and not self._opened.is_set():
            try:
                async with asyncio.timeout(max(0.0, min(START_WAIT_S, within_s))):
                    await self._opened.wait()
            except TimeoutError:
                pass
        self.check()

    def settle(self) -> None:
        """Say it if something has changed."""
        try:
            self.check()
        except Unavailable as error:
            reason = error.reason
        else:
            reason = ""
            self._opened.set()
        if reason == self._was:
            return
        starts = reason == "NOT_WITNESSED" and not self._opened.is_set()
        if not reason:
            logger.info("releasing", quorum=self._own.quorum)
        else:
            (logger.info if starts else logger.error)("not releasing", reason=reason, quorum=self._own.quorum)
        self._was = reason
        self._changed(not reason)


def enough_witnesses(directory: Directory) -> Mapping[str, WitnessKey]:
    """The pinned witnesses of brokers' logs, as many as the quorum at least.

    Raises:
        ConfigError: TOO_FEW_WITNESSES.
    """
    quorum, witnesses = directory.federation.quorum, witnesses_of_brokers(directory)
    if len(witnesses) < quorum:
        raise ConfigError(
            f"the directory asks for {quorum} witnesses and pins the keys of {len(witnesses)}: "
            "sign one with --witness NODE=witness.vkey for each",
            reason="TOO_FEW_WITNESSES",
        )
    return witnesses


class Witnessing:
    """The broker's exchange with its nodes, and the gate that hangs on it."""

    def __init__(
        self,
        state: Path,
        *,
        log: DecisionLog,
        directory: Directory,
        broker: str,
        within_s: float,
        tiles_every_s: float,
        clock: Clock,
        seconds: Callable[[], float],
        changed: Callable[[bool], None],
    ) -> None:
        quorum, witnesses = directory.federation.quorum, enough_witnesses(directory)
        tell_if_not_pinned(directory, log.vkey)
        self._hashes = LiveHashes(state)
        self.own = OwnHeads(
            vkey=log.vkey,
            head=lambda: log.head,
            proofs=self._hashes,
            witnesses=witnesses,
            quorum=quorum,
            clock=clock,
        )
        self.gate = Gate(self.own, within_s=within_s, seconds=seconds, changed=changed)
        self._witness = _witness(state, directory, broker, clock)
        self.exchange = Exchange(
            log=log,
            own=self.own,
            witness=self._witness,
            every_s=EVERY_S,
            renew_s=min(RENEW_S, within_s / 4),
            seconds=seconds,
            settled=self.gate.settle,
            passing=Passing(pairs=other_witnesses(directory)),
        )
        self.tiles = LiveTiles(state, log=log, own=self.own, every_s=tiles_every_s)

    def close(self) -> None:
        """Let go of the files, once `exchange` runs no more."""
        self._hashes.close()
        if self._witness is not None:
            self._witness.close()


def _witness(state: Path, directory: Directory, broker: str, clock: Clock) -> Witness | None:
    """The witness of nodes' logs in `state`; None where `init` made none, or the directory pins no key of it."""
    logs = {
        origin: PinnedLog(owner=log.id, key=VerifierKey.of(origin, log.key))
        for origin, log in directory.logs.items()
        if log.program == "node"
    }
    pinned = witnesses_of_nodes(directory).get("broker/" + broker.rpartition("/")[2])
    return Witness.open(state, pinned=pinned, logs=logs, clock=clock)
