"""Calendar months of UTC: what a server's rows are parted by, and what is copied at a time."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from comity.instants import from_ms, to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A calendar month of UTC, [begin_ms, end_ms); `number` is 202601 for January 2026."""

    number: int
    begin_ms: int
    end_ms: int

    @classmethod
    def of(cls, at_ms: int) -> Month:
        """The month that holds this instant, ms UTC."""
        first = from_ms(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end_ms = to_ms(first.replace(month=first.month + 1)) if first.month < 12 else _new_year(first.year)
        return cls(number=first.year * 100 + first.month, begin_ms=to_ms(first), end_ms=end_ms)

    @property
    def name(self) -> str:
        """`2026_01`."""
        return f"{self.number // 100:04}_{self.number % 100:02}"

    @property
    def table(self) -> str:
        """The partition."""
        return f"det_{self.name}"

    @property
    def dictionary(self) -> str:
        """The table of its plates."""
        return f"plates_{self.name}"

    @property
    def draft(self) -> str:
        """The partition before it is attached: no search sees it."""
        return f"det_{self.name}_new"


def _new_year(year: int) -> int:
    # The year 10000 cannot be told as a date.
    return to_ms(dt.datetime(year, 12, 31, tzinfo=dt.UTC)) + 86_400_000
