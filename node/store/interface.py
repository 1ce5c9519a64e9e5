"""What a detection store does, whatever holds the rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from comity.detection import Detection, Match
from comity.errors import InvalidInput, Unavailable, Violation
from comity.plate import Plate
from comity.query import AreaQuery, ConvoyQuery, PatternQuery

MAX_LIMIT = 10_000


class StoreError(Unavailable):
    """The store cannot answer or cannot keep: an outcome `error`, never an empty result.

    Reasons: STORE_FULL, STORE_CORRUPT, PART_SET_ASIDE, STORE_BUSY, STORE_CLOSED, STORE_FAILED.
    """

    reason = "STORE_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """How many detections of a batch are new and how many were there already; together, all of it."""

    accepted: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many rows are gone and the oldest and newest of them; None where there were none."""

    rows: int
    oldest: dt.datetime | None
    newest: dt.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span [begin, end) of which some rows are gone, or not returned, under `rule`, such as `source:commercial`."""

    begin: dt.datetime
    end: dt.datetime
    rule: str


class DetectionStore(Protocol):
    """An agency's detections. Safe to call from several threads; times are aware UTC, windows half-open.

    A detection older than the retention is never returned, even while it is still on disk.
    Every method raises StoreError where the store cannot do it.
    """

    def add(self, batch: Sequence[Detection]) -> Added:
        """Keep the batch, all or nothing; durable when this returns.

        A detection that is there already, by uid, plate skeleton and time, is not stored again. The same uid with
        another plate or time is another detection: a camera that reuses an id hides no read.

        Raises:
            StoreError: nothing of the batch was kept.
        """

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """Detections of this number and state (class exact) or of this number with no state read (partial).

        Newest first; at most `limit` + 1, so that one too many says that there are more.

        Raises:
            InvalidInput: an empty window, a plate without state, or a limit outside 1 to MAX_LIMIT.
            StoreError: it was not searched.
        """

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """Detections in any state that a camera may have taken for this plate, the true ones of class exact.

        Order, limit and errors as `exact`.
        """

    def partial(self, query: PatternQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """Detections whose plate, as it was read, fits the pattern; all of class partial.

        Of the query's state or with no state read; of any state if the query names none. Order, limit and errors
        as `exact`.
        """

    def area(self, query: AreaQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        """All detections of a camera, or whose own location lies in a circle; all of class exact.

        Order, limit and errors as `exact`.
        """

    def unplaced(self, begin: dt.datetime, end: dt.datetime) -> bool:
        """True if a detection of the window has no location: no circle finds it, wherever it was made."""

    def convoy(
        self, query: ConvoyQuery, sightings: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int
    ) -> list[Match]:
        """Detections of other plates within the query's seconds of a sighting, at its camera; all of class exact.

        Only of numbers that are so near at the query's number of different cameras; a number that shares the
        skeleton of the query's plate is not another. Order, limit and errors as `exact`.
        """

    def horizon(self) -> dt.datetime:
        """The oldest time that a search returns now; asked after a search, it bounds what that search covered."""

    def gaps(self, begin: dt.datetime, end: dt.datetime) -> tuple[Gap, ...]:
        """What a search of [begin, end) does not cover after the horizon, oldest first: classes kept for less.

        Asked after a search, as `horizon` is; a search over a gap is `partial_coverage`, never "no record".
        """

    def oldest(self) -> dt.datetime | None:
        """The oldest time of all rows held, expired ones that are not purged yet among them; None without rows."""

    def newest(self) -> dt.datetime | None:
        """The newest time of all rows held; None without rows."""

    def count(self) -> int:
        """Rows held, expired ones that are not purged yet among them."""

    def purge(self, before: dt.datetime) -> Purged:
        """Delete all rows captured before `before`; durable when this returns."""

    def close(self) -> None:
        """Let go of all files; every later call raises StoreError. Closing twice does nothing."""


def check_bounds(begin: dt.datetime, end: dt.datetime, limit: int) -> None:
    """Return if a search can be made of these.

    Raises:
        InvalidInput: naming what cannot.
    """
    bad = []
    if begin >= end:
        bad.append(Violation("window", "must begin before it ends"))
    if not 1 <= limit <= MAX_LIMIT:
        bad.append(Violation("limit", f"must be 1 to {MAX_LIMIT}"))
    if bad:
        raise InvalidInput("not a search", violations=bad, reason="BAD_SEARCH")


def check_search(plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> None:
    """Return if a search can be made of these.

    Raises:
        InvalidInput: naming what cannot; without this an impossible window would read as "no record".
    """
    bad = []
    if not plate.state:
        bad.append(Violation("state", "must be given"))
    if begin >= end:
        bad.append(Violation("window", "must begin before it ends"))
    if not 1 <= limit <= MAX_LIMIT:
        bad.append(Violation("limit", f"must be 1 to {MAX_LIMIT}"))
    if bad:
        raise InvalidInput("not a search", violations=bad, reason="BAD_SEARCH")
