from __future__ import annotations

import pytest

from broker.state import redis


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take four times what an answer may take at work; what never answers is still given up."""
    monkeypatch.setattr(redis, "TIMEOUT_S", 4 * redis.TIMEOUT_S)
    monkeypatch.setattr(redis, "DEADLINE_S", 4 * redis.DEADLINE_S)
