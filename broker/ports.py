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


__all__ = ["Bundles", "Clock", "OutcomeSigner", "Presence", "Quota", "ReplayGuard"]
