"""Invented traffic past the cameras of a node: which plates, where, when, and what the cameras made of them."""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cli.demo.plates import invent, misread
from comity.federation import Federation, Node
from comity.instants import from_ms, to_ms
from comity.plate import skeleton

SPAN_S = 30 * 86_400  # no read is older, however long the node keeps them
SEEN_ONCE = 0.40
MISREAD = 0.03
STATE_WRONG, STATE_UNREAD = 0.03, 0.05
IN_STATE = 0.92
RECENT_SHARE, RECENT_S = 0.01, 600  # so that a search of the last minutes finds something
MAX_CAMERAS = 200

# Share of a day's traffic in each local hour, from midnight.
_DAY = (
    1.0,
    0.7,
    0.5,
    0.5,
    0.9,
    2.2,
    4.4,
    6.9,
    7.0,
    5.6,
    5.2,
    5.4,
    5.7,
    5.7,
    6.0,
    6.7,
    7.3,
    7.4,
    6.0,
    4.6,
    3.7,
    3.0,
    2.2,
    1.5,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node's cameras stand: degrees, a half-width in degrees, and what their names begin with."""

    latitude: float
    longitude: float
    spread: float
    prefix: str
    state: str
    visitors: tuple[str, ...]


PLACES = {
    "port-alder-1": Place(
        latitude=37.79, longitude=-122.24, spread=0.06, prefix="pa", state="CA", visitors=("NV", "OR", "AZ", "WA")
    ),
    "sequoia-1": Place(
        latitude=36.62, longitude=-119.35, spread=0.35, prefix="sq", state="CA", visitors=("NV", "OR", "AZ", "TX")
    ),
    "bay-toll-1": Place(
        latitude=37.82, longitude=-122.33, spread=0.12, prefix="bt", state="CA", visitors=("NV", "OR", "AZ", "WA")
    ),
    "brazos-bend-1": Place(
        latitude=29.52, longitude=-95.66, spread=0.12, prefix="bb", state="TX", visitors=("LA", "OK", "AZ", "CA")
    ),
    "llano-1": Place(
        latitude=30.38, longitude=-97.86, spread=0.10, prefix="ll", state="TX", visitors=("LA", "OK", "NV", "CA")
    ),
    "lakeshore-1": Place(
        latitude=42.05, longitude=-87.74, spread=0.08, prefix="lk", state="IL", visitors=("WI", "IN", "OR", "TX")
    ),
    "tidewater-1": Place(
        latitude=36.88, longitude=-76.30, spread=0.12, prefix="tw", state="VA", visitors=("NC", "MD", "MA", "TX")
    ),
    "granite-1": Place(
        latitude=43.21, longitude=-71.54, spread=0.06, prefix="gr", state="NH", visitors=("MA", "ME", "VT", "CA")
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A reader: its name and degrees to six decimals."""

    id: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A read that the story needs: this plate at this node, read without fault. `camera` counts from 0."""

    plate: str
    state: str
    node: str
    at: dt.datetime
    camera: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """A vehicle passing a camera: `number` and `state` are true, `read` and `read_state` ('' unread) what was read.

    `confidence` is 0 to 100, `at_ms` UTC, `heading` in degrees.
    """

    number: str
    state: str
    read: str
    read_state: str
    at_ms: int
    camera: Camera
    confidence: float
    heading: float
    make: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """One car with its make and colour, and the few cameras on its way."""

    number: str
    state: str
    make: str
    colour: str
    way: tuple[Camera, ...]


def plant(plate: str, state: str, node: str, times: Sequence[dt.datetime]) -> tuple[Planted, ...]:
    """Reads of one plate at one node, at another camera each time."""
    return tuple(Planted(plate=plate, state=state, node=node, at=at, camera=i) for i, at in enumerate(times))


def cameras_of(node: Node, federation: Federation) -> list[Camera]:
    """The node's cameras, as many as the directory says (1 to 200), the same on every call."""
    place = _place(node, federation)
    rng = random.Random(f"cameras {node.id}")  # noqa: S311  # invented places, no secret
    return [
        Camera(
            id=f"{place.prefix}-{i + 1:03d}",
            latitude=round(place.latitude + rng.uniform(-place.spread, place.spread), 6),
            longitude=round(place.longitude + rng.uniform(-place.spread, place.spread), 6),
        )
        for i in range(min(max(node.cameras, 1), MAX_CAMERAS))
    ]


def traffic(
    node_id: str,
    federation: Federation,
    seed: int,
    reads: int,
    now: dt.datetime,
    planted: Sequence[Planted] = (),
    excluded: Collection[str] = (),
) -> list[Passing]:
    """`reads` invented passings and those planted at this node, in the order of time, none after `now`.

    No number, true or misread, has the skeleton of a planted or excluded one. The same arguments, the same passings.
    """
    node = federation.nodes[node_id]
    rng = random.Random(f"traffic {seed} {node_id}")  # noqa: S311  # invented traffic, no secret
    cameras = cameras_of(node, federation)
    taken = {skeleton(n) for n in (*excluded, *(p.plate for p in planted))}
    times = _times(rng, reads, min(node.retention_s, SPAN_S), now, _place(node, federation).longitude)
    rng.shuffle(times)
    vehicles = _vehicles(rng, reads, cameras, _place(node, federation), taken)
    out = [_passing(rng, vehicle, at_ms, taken) for vehicle, at_ms in zip(vehicles, times, strict=True)]
    for p in planted:
        if p.node == node_id:
            out.append(_planted(rng, p, cameras[p.camera % len(cameras)]))
    out.sort(key=lambda passing: passing.at_ms)
    return out


def _place(node: Node, federation: Federation) -> Place:
    """A node of another directory than the sample one stands in the middle of the country."""
    known = PLACES.get(node.id)
    if known:
        return known
    state = federation.agency_of(node.id).state.rpartition("/")[2].upper()
    return Place(
        latitude=39.8, longitude=-98.6, spread=0.2, prefix=node.id[:8], state=state or "KS", visitors=("TX", "CA")
    )


def _times(rng: random.Random, reads: int, span_s: int, now: dt.datetime, longitude: float) -> list[int]:
    end_ms = to_ms(now)
    if span_s <= 3600:
        # A node that keeps minutes: most reads in the last third, so that loading them does not outlive them.
        mean_ms = span_s * 1000 / 3
        return [end_ms - 1 - min(int(rng.expovariate(1 / mean_ms)), span_s * 900) for _ in range(reads)]
    recent = min(reads, max(20, round(reads * RECENT_SHARE)))
    hours = math.ceil(span_s / 3600)
    offset_h = round(longitude / 15)
    weights = []
    for hour in range(hours):
        local = from_ms(end_ms - (hour + 1) * 3_600_000) + dt.timedelta(hours=offset_h)
        weights.append(_DAY[local.hour] * (0.75 if local.weekday() >= 5 else 1.0))
    limits = list(itertools.accumulate(weights))
    out = [end_ms - 1 - rng.randrange(min(RECENT_S, span_s) * 1000) for _ in range(recent)]
    for _ in range(reads - recent):
        back_ms = bisect.bisect_left(limits, rng.random() * limits[-1]) * 3_600_000 + rng.randrange(3_600_000)
        out.append(end_ms - 1 - min(back_ms, span_s * 1000 - 60_000))
    return out


_MAKES = ("toyota", "honda", "ford", "chevrolet", "nissan", "tesla", "hyundai", "subaru", "jeep", "bmw")
_COLOURS = ("white", "black", "silver-gray", "blue", "red", "green", "brown", "gold-beige")


def _vehicles(
    rng: random.Random, reads: int, cameras: Sequence[Camera], place: Place, taken: Collection[str]
) -> list[Vehicle]:
    """One vehicle a read. About 40 % of them come once, a few hundreds of times."""
    out: list[Vehicle] = []
    while len(out) < reads:
        state = place.state if rng.random() < IN_STATE else rng.choice(place.visitors)
        number = invent(rng, state)
        if skeleton(number) in taken:
            continue
        times = 1 if rng.random() < SEEN_ONCE else min(2 + int(rng.paretovariate(1.2)), 400)
        vehicle = Vehicle(
            number=number,
            state=state,
            make=rng.choice(_MAKES),
            colour=rng.choice(_COLOURS),
            way=tuple(rng.choices(cameras, k=min(times, 5))),
        )
        out.extend([vehicle] * min(times, reads - len(out)))
    return out


def _passing(rng: random.Random, vehicle: Vehicle, at_ms: int, taken: Collection[str]) -> Passing:
    read, confidence = vehicle.number, rng.triangular(78, 99.5, 94)
    if rng.random() < MISREAD:
        wrong = misread(rng, vehicle.number)
        if skeleton(wrong) not in taken:
            read, confidence = wrong, rng.triangular(55, 95, 78)
    read_state, chance = vehicle.state, rng.random()
    if chance < STATE_UNREAD:
        read_state = ""
    elif chance < STATE_UNREAD + STATE_WRONG:
        read_state = rng.choice([s for s in ("CA", "TX", "NV", "IL", "VA") if s != vehicle.state])
    return Passing(
        number=vehicle.number,
        state=vehicle.state,
        read=read,
        read_state=read_state,
        at_ms=at_ms,
        camera=rng.choice(vehicle.way),
        confidence=round(confidence, 4),
        heading=round(rng.uniform(0, 360), 3),
        make=vehicle.make,
        colour=vehicle.colour,
    )


def _planted(rng: random.Random, p: Planted, camera: Camera) -> Passing:
    return Passing(
        number=p.plate,
        state=p.state,
        read=p.plate,
        read_state=p.state,
        at_ms=to_ms(p.at),
        camera=camera,
        confidence=round(rng.uniform(90, 98), 4),
        heading=round(rng.uniform(0, 360), 3),
        make="honda",
        colour="blue",
    )
