"""What travels with a plate: who was near it at which camera, by the camera index alone, then the reads of those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import skeleton
from comity.query import ConvoyQuery
from node.store.manifest import Piece
from node.store.rows import SPANS, never_written

Span = tuple[str, int, int]  # a camera, and the first and last millisecond
# No DISTINCT: one car is seldom near twice at one camera, and sorting costs more than a set.
WHO = f"SELECT d.plate, c.text FROM {SPANS} LEFT JOIN word s ON s.id = d.source WHERE 1"  # noqa: S608  # nosec B608
READS = "d.plate IN (SELECT value FROM json_each(:plates))"


def near(query: ConvoyQuery, sightings: Sequence[Detection], begin_ms: int, end_ms: int) -> list[Span]:
    """When each camera is looked at, inside [begin_ms, end_ms): sorted, and no millisecond twice."""
    reach = query.within_s * 1000
    out: list[Span] = []
    for camera, at in sorted({(d.camera, to_ms(d.captured_at)) for d in sightings}):
        first, last = max(begin_ms, at - reach), min(end_ms - 1, at + reach)
        if out and out[-1][0] == camera and first <= out[-1][2]:
            out[-1] = (camera, out[-1][1], max(last, out[-1][2]))
        elif first <= last:
            out.append((camera, first, last))
    return out


def within(spans: Sequence[Span], piece: Piece | None) -> Sequence[Span]:
    """Those that rows of the piece may meet; all, if it still grows."""
    return spans if piece is None else [s for s in spans if piece.meets(s[1], s[2] + 1)]


def bound(spans: Sequence[Span]) -> dict[str, object]:
    """What WHO and `rows.CODED_SPANS` are asked with."""
    return {"spans": orjson.dumps(spans).decode()}


def texts(row: tuple[object, ...], _words: object) -> tuple[object, ...]:
    """A row of WHO as it is.

    Raises:
        StoreError: STORE_CORRUPT.
    """
    if tuple(map(type, row)) != (str, str):
        raise never_written()
    return row


def companions(query: ConvoyQuery, found: Iterable[tuple[object, ...]]) -> list[str]:
    """The numbers that were near the plate at enough cameras, of all (number, camera) of WHO; sorted.

    What shares the plate's skeleton is the plate itself, misread, and is none.
    """
    cameras: dict[str, set[object]] = {}
    for number, camera in found:
        cameras.setdefault(str(number), set()).add(camera)
    own = query.plate.skeleton
    return sorted(n for n, at in cameras.items() if len(at) >= query.cameras and skeleton(n) != own)
