"""What came in and what became of it, counted in a file that `comity node status` shows: no plate, only numbers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from comity.errors import Unavailable

FILE = "counters.json"
MAX_BYTES = 256 * 1024


class Counters:
    """Counts by surface and name, over all processes and starts of a node. Safe from several threads.

    What was added since the last `flush` is lost in a crash: counters are for people, never for what was kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._new: dict[str, Counter[str]] = {}

    def add(self, surface: str, counts: Mapping[str, int]) -> None:
        """Count these in at the next flush."""
        with self._lock:
            self._new.setdefault(surface, Counter()).update(counts)

    def flush(self) -> None:
        """The file has all that was added: a reader sees the old one or the new one whole.

        Raises:
            Unavailable: COUNTERS_FAILED; nothing is forgotten, the next flush tries again.
        """
        with self._lock:
            if not self._new:
                return
            try:
                with _alone(self._path):
                    whole = {surface: Counter(counts) for surface, counts in read(self._path).items()}
                    for surface, counts in self._new.items():
                        whole.setdefault(surface, Counter()).update(counts)
                    _replace(self._path, orjson.dumps(whole, option=orjson.OPT_SORT_KEYS))
            except OSError as e:
                raise Unavailable(f"counters cannot be written: {e.strerror}", reason="COUNTERS_FAILED") from None
            self._new = {}


def read(path: Path) -> dict[str, dict[str, int]]:
    """The counts by surface; none where there is no file, or one that is damaged."""
    try:
        with path.open("rb") as file:
            data = orjson.loads(file.read(MAX_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {
        surface: {name: n for name, n in counts.items() if type(n) is int}
        for surface, counts in data.items()
        if isinstance(counts, dict)
    }


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    new.replace(path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
