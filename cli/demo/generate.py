"""Files as the camera systems of a node would have written them, from invented traffic."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from cli.demo.plates import misread
from cli.demo.traffic import Passing, Planted, plant, traffic
from comity.federation import Federation
from comity.instants import from_ms

__all__ = ["Planted", "plant", "write_camera_files"]

_COMPANY = "a1d3c7f0-0000-4000-8000-000000000001"


def write_camera_files(
    directory: Path,
    node: str,
    federation: Federation,
    seed: int,
    reads: int,
    now: datetime,
    planted: Sequence[Planted] = (),
    *,
    excluded: Collection[str] = (),
) -> list[Path]:
    """The files, one a kind of camera system, of `reads` invented reads and the planted ones of this node.

    Each camera belongs to one system: OpenALPR groups of version 2 or 1, OpenALPR single results, or CSV. Times end
    at `now` (aware UTC). The same arguments give the same bytes. `excluded`: numbers that no camera may read.
    """
    passings = traffic(node, federation, seed, reads, now, planted, excluded)
    rng = random.Random(f"files {seed} {node}")  # noqa: S311  # invented records, no secret
    by_system: dict[str, list[Passing]] = {name: [] for name in _SYSTEMS}
    names = list(_SYSTEMS)
    for passing in passings:
        # Half of the cameras write groups of version 2, the rest the three older forms in turn.
        i = int(passing.camera.id.rpartition("-")[2])
        by_system[names[0] if i % 2 else names[1 + i // 2 % 3]].append(passing)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    out = []
    for name, part in by_system.items():
        if part:
            path = directory / f"{node}-{name}"
            path.write_bytes(_SYSTEMS[name](rng, part))
            path.chmod(0o600)
            out.append(path)
    return out


def _groups_v1(rng: random.Random, passings: Sequence[Passing]) -> bytes:
    return b"".join(orjson.dumps(_group(rng, p, 1)) + b"\n" for p in passings)


def _groups_v2(rng: random.Random, passings: Sequence[Passing]) -> bytes:
    return b"".join(orjson.dumps(_group(rng, p, 2)) + b"\n" for p in passings)


def _results(rng: random.Random, passings: Sequence[Passing]) -> bytes:
    return b"".join(orjson.dumps(_result(rng, p)) + b"\n" for p in passings)


def _csv(rng: random.Random, passings: Sequence[Passing]) -> bytes:
    """Columns in an order of its own, confidence 0-1, times in ISO 8601 UTC."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["id", "timestamp", "camera", "plate", "state", "confidence", "lon", "lat", "make", "color"])
    for p in passings:
        at = from_ms(p.at_ms).isoformat(timespec="milliseconds")
        where = (p.camera.longitude, p.camera.latitude)
        row = (
            _uuid(rng),
            at,
            p.camera.id,
            p.read,
            p.read_state,
            round(p.confidence / 100, 4),
            *where,
            p.make,
            p.colour,
        )
        writer.writerow(row)
    return text.getvalue().encode()


_SYSTEMS: dict[str, Callable[[random.Random, Sequence[Passing]], bytes]] = {
    "groups-v2.jsonl": _groups_v2,
    "groups-v1.jsonl": _groups_v1,
    "results.jsonl": _results,
    "reads.csv": _csv,
}


def _group(rng: random.Random, p: Passing, version: int) -> dict[str, Any]:
    """One `alpr_group`; the best frame is the one that the time is of."""
    uuid = _uuid(rng)
    frame = rng.randrange(1_000_000)
    lasted_ms = rng.randrange(300, 4_500)  # the grouping window
    region = _region(p)
    out = {
        "data_type": "alpr_group",
        "version": version,
        "epoch_start": p.at_ms - lasted_ms // 2,
        "epoch_end": p.at_ms + lasted_ms // 2,
        "frame_start": frame,
        "frame_end": frame + lasted_ms // 100,
        "company_id": _COMPANY,
        "agent_uid": f"AGENT{p.camera.id.upper()}",
        "agent_type": "alprd",
        "camera_id": p.camera.id,
        "gps_latitude": p.camera.latitude,
        "gps_longitude": p.camera.longitude,
        "country": "us",
        "uuids": [uuid],
        "best_plate": _plate(rng, p),
        "best_confidence": p.confidence,
        "best_plate_number": p.read,
        "best_region": region,
        "best_region_confidence": 0 if region == "us" else round(rng.uniform(40, 95), 2),
        "best_uuid": uuid,
        "best_uuid_epoch_ms": p.at_ms,
        "travel_direction": p.heading,
    }
    if version == 2:
        out["is_parked"] = False
        out["vehicle"] = {
            "color": [{"name": p.colour, "confidence": 88.1}],
            "make": [{"name": p.make, "confidence": 83.4}],
            "make_model": [{"name": f"{p.make}_unknown", "confidence": 31.0}],
            "body_type": [{"name": "sedan-standard", "confidence": 74.2}],
            "year": [{"name": "2015-2019", "confidence": 46.5}],
        }
        out["web_server_config"] = {"camera_label": p.camera.id, "agent_label": p.camera.id.partition("-")[0]}
    return out


def _result(rng: random.Random, p: Passing) -> dict[str, Any]:
    """One `alpr_results` with one plate in the frame; these agents know no position."""
    return {
        "data_type": "alpr_results",
        "version": 2,
        "uuid": _uuid(rng),
        "camera_id": p.camera.id,
        "site_id": p.camera.id.partition("-")[0],
        "img_width": 1280,
        "img_height": 720,
        "epoch_time": p.at_ms,
        "processing_time_ms": round(rng.uniform(20, 90), 3),
        "results": [_plate(rng, p)],
    }


def _plate(rng: random.Random, p: Passing) -> dict[str, Any]:
    x, y, width = rng.randrange(80, 1000), rng.randrange(80, 600), rng.randrange(60, 160)
    corners = ((x, y), (x + width, y), (x + width, y + width // 2), (x, y + width // 2))
    others = [{"plate": misread(rng, p.read), "confidence": round(p.confidence * 0.9, 4), "matches_template": 0}]
    return {
        "plate": p.read,
        "confidence": p.confidence,
        "matches_template": 1,
        "region": _region(p),
        "region_confidence": 0 if not p.read_state else 71,
        "coordinates": [{"x": a, "y": b} for a, b in corners],
        "candidates": [{"plate": p.read, "confidence": p.confidence, "matches_template": 1}, *others],
    }


def _region(p: Passing) -> str:
    return f"us-{p.read_state.lower()}" if p.read_state else "us"


def _uuid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"
