"""From the plate and the options that an investigator types to the kind of search and its query."""

from __future__ import annotations

from collections.abc import Mapping

import click

from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, PlateQuery, Query

DEFAULT_DAYS = 7
DEFAULT_AREA_DAYS = 1
MAX_KM = 20_000  # more is no distance; what may be asked for is far less
_PLACES = ("near", "camera")
_KINDS = (*_PLACES, "convoy")


def needs(given: Mapping[str, str]) -> tuple[str, ...]:
    """What must be named beside the options `given`: `PLATE` and options, in the order of the command's help."""
    if any(name in given for name in _PLACES):
        return ("--purpose", "--case")
    if given.get("act") == Act.PARTIAL.value:
        return ("PLATE", "--purpose", "--case")
    return ("PLATE", "--state", "--purpose", "--case")


def default_days(act: Act) -> int:
    """The window where none is named, in days."""
    return DEFAULT_AREA_DAYS if act is Act.AREA else DEFAULT_DAYS


def asked_for(plate: str | None, given: Mapping[str, str]) -> tuple[Act, Query]:
    """The kind of search and its query.

    Raises:
        UsageError: options that do not go together, or a number that is none.
        InvalidInput: as the query's own `parse`; QUERY_TOO_WIDE says what would narrow it.
    """
    kinds = [name for name in _KINDS if name in given]
    act = Act(given.get("act", Act.EXACT.value))
    state = given.get("state", "")
    if len(kinds) > 1 or (kinds and act is not Act.EXACT):
        raise click.UsageError("name one of --match, --near, --camera and --convoy: each is a search of its own")
    if kinds and kinds[0] in _PLACES:
        if plate is not None or state:
            raise click.UsageError("--near and --camera ask for every plate: name no PLATE and no --state")
        circle = _circle(given["near"]) if "near" in given else None
        return Act.AREA, AreaQuery.parse(circle=circle, camera=given.get("camera", ""))
    assert plate is not None
    if kinds:
        within_s, cameras = _convoy(given["convoy"])
        return Act.CONVOY, ConvoyQuery.parse(plate, state, within_s=within_s, cameras=cameras)
    if act is Act.PARTIAL:
        return act, PatternQuery.parse(plate, state)
    if any(c in plate for c in "?*"):
        raise click.UsageError("a plate with ? or * is a part of one: --match partial asks for it")
    return act, PlateQuery.parse(plate, state)


def _circle(text: str) -> Circle:
    wrong = click.UsageError("--near must be LAT,LON,KM, such as 37.79,-122.24,2")
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        raise wrong from None
    # NaN and infinity too: no comparison with them is true.
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < km <= MAX_KM):
        raise wrong
    return Circle(latitude_e7=round(latitude * 1e7), longitude_e7=round(longitude * 1e7), radius_m=round(km * 1000))


def _convoy(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(p.strip().isascii() and p.strip().isdigit() and len(p) <= 6 for p in parts):
        raise click.UsageError("--convoy must be SECONDS,CAMERAS, such as 30,3")
    return int(parts[0]), int(parts[1])
