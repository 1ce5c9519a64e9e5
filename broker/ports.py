"""What the steps need from outside; `app` decides what it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Protocol

from broker.state.interface import Bundles, Presence, Quota, ReplayGuard
from comity.envelope import Envelope

Clock = Callable[[], dt.datetime]


class OutcomeSigner(Protocol):
    """Signs what the broker itself has to say of a target."""

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """An envelope with the broker's signature."""
        ...


class ReleaseGate(Protocol):
    """Says whether enough others have seen the log that what is in it may be acted on."""

    async def opened(self, within_s: float) -> None:
        """Return if anything may be released; a wait of at most `within_s` seconds while the program starts.

        Raises:
            Unavailable: nothing may be.
        """
        ...

    def check(self) -> None:
        """Return if anything may be released now.

        Raises:
            Unavailable: nothing may be.
        """
        ...


__all__ = ["Bundles", "Clock", "OutcomeSigner", "Presence", "Quota", "ReleaseGate", "ReplayGuard"]
