"""Which files of the folder are the store: one small file, swapped whole. What it does not name does not count."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from comity.errors import ConfigError
from identity import files
from node.store.interface import StoreError

FILE = "manifest.json"
MAX_BYTES = 4 * 1024 * 1024
NAME = re.compile(r"(hot|part)-(\d{1,9})\.db\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file that no longer grows, with what was in it: times are ms UTC, [begin_ms, end_ms).

    `sha256` is of a sealed part; a hot file that waits to be sealed has none, and its size is 0.
    `reason` says why a piece was set aside, and is empty in one that serves.
    """

    name: str
    rows: int
    begin_ms: int
    end_ms: int
    size_bytes: int = 0
    sha256: str = ""
    reason: str = ""

    def meets(self, begin_ms: int, end_ms: int) -> bool:
        """True if a row of [begin_ms, end_ms) may be in it."""
        return self.begin_ms < end_ms and begin_ms < self.end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Rows of one class before this time were purged."""

    rule: str
    before_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The store at one instant. `next` is the number of the next new file: a number is never used twice.

    `purged_ms`: rows before it may be gone, whatever the clock says later.
    """

    next: int
    active: str
    opened_ms: int
    frozen: tuple[Piece, ...] = ()
    parts: tuple[Piece, ...] = ()
    set_aside: tuple[Piece, ...] = ()
    purged_ms: int = 0
    gone: tuple[Gone, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every file that is the store's."""
        return frozenset({self.active, *(p.name for p in (*self.frozen, *self.parts, *self.set_aside))})

    def encode(self) -> bytes:
        """The content and a line with its SHA-256: a flipped bit in a span would hide rows."""
        body = orjson.dumps(dataclasses.asdict(self))
        return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """The manifest that `encode` wrote.

        Raises:
            StoreError: STORE_CORRUPT.
        """
        body, _, digest = data.partition(b"\n")
        try:
            if hashlib.sha256(body).hexdigest().encode() + b"\n" != digest:
                raise ValueError
            raw: dict[str, Any] = orjson.loads(body)
            for key, kind in (("frozen", Piece), ("parts", Piece), ("set_aside", Piece), ("gone", Gone)):
                raw[key] = tuple(kind(**item) for item in raw[key])
            found = cls(**raw)
            if not all(NAME.match(name) for name in found.names):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise StoreError("the detection store's manifest is damaged", reason="STORE_CORRUPT") from None
        return found

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The folder's manifest.

        Raises:
            StoreError: STORE_CORRUPT or STORE_FAILED.
        """
        try:
            data = files.read(folder / FILE, max_bytes=MAX_BYTES)
        except ConfigError:
            raise StoreError("the detection store's manifest cannot be read") from None
        return cls.parse(data)

    def save(self, folder: Path) -> None:
        """Return when the folder's manifest is durably this one; whoever reads sees the old one or this one.

        Raises:
            StoreError: it is still the old one.
        """
        try:
            files.replace(folder / FILE, self.encode(), mode=files.PRIVATE)
        except ConfigError:
            raise StoreError("the detection store's manifest cannot be written", reason="STORE_FULL") from None
