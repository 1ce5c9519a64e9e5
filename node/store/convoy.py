"""What travels with a plate, as SQL on one segment: first who was near it at which camera, then those reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import skeleton
from comity.query import ConvoyQuery

# The order of the joins is fixed: from each sighting to the few reads of its camera around it, in the camera index.
WHO = """
SELECT DISTINCT d.plate, c.text FROM json_each(:seen) j CROSS JOIN word c CROSS JOIN det d
  LEFT JOIN word s ON s.id = d.source
WHERE c.kind = 'camera' AND c.text = json_extract(j.value, '$[0]') AND d.camera = c.id
  AND d.captured_at BETWEEN json_extract(j.value, '$[1]') - :near_ms AND json_extract(j.value, '$[1]') + :near_ms
"""
READS = """
d.skel IN (SELECT value FROM json_each(:skels)) AND d.plate IN (SELECT value FROM json_each(:plates))
  AND EXISTS (SELECT 1 FROM json_each(:seen) j WHERE json_extract(j.value, '$[0]') = c.text
    AND d.captured_at BETWEEN json_extract(j.value, '$[1]') - :near_ms AND json_extract(j.value, '$[1]') + :near_ms)
"""


def near(query: ConvoyQuery, sightings: Sequence[Detection]) -> dict[str, object]:
    """The values of WHO."""
    seen = sorted({(d.camera, to_ms(d.captured_at)) for d in sightings})
    return {"seen": orjson.dumps(seen).decode(), "near_ms": query.within_s * 1000}


def companions(query: ConvoyQuery, found: Iterable[tuple[str, str]]) -> list[str]:
    """The numbers that were near the plate at enough cameras, of all (number, camera) of WHO; sorted.

    What shares the plate's skeleton is the plate itself, misread, and is none.
    """
    cameras: dict[str, set[str]] = {}
    for number, camera in found:
        cameras.setdefault(number, set()).add(camera)
    own = query.plate.skeleton
    return sorted(n for n, at in cameras.items() if len(at) >= query.cameras and skeleton(n) != own)


def their_reads(values: dict[str, object], numbers: Sequence[str]) -> dict[str, object]:
    """The values of READS, from those of WHO."""
    skeletons = sorted({skeleton(n) for n in numbers})
    return {**values, "skels": orjson.dumps(skeletons).decode(), "plates": orjson.dumps(list(numbers)).decode()}
