"""Detections of an invented agency, drawn from a seed: the same ones for every store that is measured."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass

from comity.detection import Detection
from comity.instants import from_ms, to_ms
from comity.plate import Plate

CAMERAS = 50
BEGIN = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
CHUNK = 10_000
READS_A_VEHICLE = 4
MISREAD_PERMILLE = 30
FOLLOWED = 50  # one vehicle in so many has another close behind it wherever it goes
_BEGIN_MS = to_ms(BEGIN)
_DAY_MS = 86_400_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_THREE = [a + b + c for a in _LETTERS for b in _LETTERS for c in _LETTERS]
_NUMBERS = 9 * len(_THREE) * 1000
_STEP = 97_654_321  # has no divisor in common with _NUMBERS: each vehicle has a number of its own
_STATES = ("CA",) * 17 + ("NV", "AZ", "")
_MAKES, _COLOURS = ("toyota", "ford", "honda", "tesla", ""), ("white", "black", "grey", "red", "")
_CAMERA_IDS = [f"cam-{i:03}" for i in range(CAMERAS)]
_PLACES = [(377_000_000 + i // 10 * 120_000, -1_223_000_000 + i % 10 * 150_000) for i in range(CAMERAS)]
_TAKEN_FOR = dict(zip("0OQD1IL2Z5S8B6G7VWMN", "OQD0LI1Z2S5B8G67WVNM", strict=True))
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`rows` reads by 50 cameras over `days` days from BEGIN, in the order in which they were made.

    A vehicle is read two or three times as a rule and hundreds of times at most; 3 % of reads have one character
    wrong; one vehicle in 50 has another three seconds behind it.
    """

    rows: int
    days: int
    seed: int = 1

    @property
    def end(self) -> dt.datetime:
        """After the last read."""
        return BEGIN + dt.timedelta(days=self.days)

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[list[Detection]]:
        """Reads number `first` to before `last`, 10,000 at a time; the same for the same numbers. Past `rows`, too."""
        last = self.rows if last is None else last
        for start in range(first, last, CHUNK):
            yield [self.read(n) for n in range(start, min(start + CHUNK, last))]

    def sample(self, count: int, seed: int = 2) -> list[Detection]:
        """`count` of the reads, drawn evenly: a vehicle that is read often is searched often."""
        dice = random.Random(seed)
        return [self.read(dice.randrange(self.rows)) for _ in range(count)]

    def read(self, n: int) -> Detection:
        """Read number `n`."""
        bits = _mixed(n * 2 + self.seed * 1_000_003)
        led = _mixed((n - n % 2) * 2 + self.seed * 1_000_003)
        vehicles = max(2, self.rows // READS_A_VEHICLE)
        leader = int(vehicles * ((led >> 11) / (1 << 53)) ** 1.5)
        following = n % 2 == 1 and leader % FOLLOWED == 0
        vehicle = leader + 1 if following else int(vehicles * ((bits >> 11) / (1 << 53)) ** 1.5)
        more = _mixed(bits)
        camera = (_mixed(led) if following else more) % CAMERAS
        number = _number(vehicle)
        if (more >> 8) % 1000 < MISREAD_PERMILLE:
            i = (more >> 20) % 7
            number = number[:i] + _TAKEN_FOR.get(number[i], number[i]) + number[i + 1 :]
        lat, lon = _PLACES[camera]
        return Detection(
            uid=bits - (1 << 63),
            plate=Plate(number=number, state=_STATES[vehicle % 20] if (more >> 30) % 50 else ""),
            captured_at=from_ms(_BEGIN_MS + n * self.days * _DAY_MS // self.rows),
            camera=_CAMERA_IDS[camera],
            latitude_e7=lat,
            longitude_e7=lon,
            confidence_permille=700 + (more >> 36) % 300,
            source="police",
            image="",
            make=_MAKES[vehicle % 5],
            colour=_COLOURS[vehicle % 7 % 5],
        )


def _number(vehicle: int) -> str:
    at = vehicle * _STEP % _NUMBERS
    digits, rest = at % 1000, at // 1000
    return f"{rest % 9 + 1}{_THREE[rest // 9]}{digits:03}"


def _mixed(n: int) -> int:
    """64 bits that look drawn by chance. Source: Steele, Lea, Flood 2014, SplitMix64."""
    n = (n + 0x9E3779B97F4A7C15) & _MASK
    n = ((n ^ (n >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    n = ((n ^ (n >> 27)) * 0x94D049BB133111EB) & _MASK
    return n ^ (n >> 31)
