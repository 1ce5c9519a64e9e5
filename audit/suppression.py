"""Small counts hidden so that no hidden one can be worked out, not even by a reader who knows this very procedure.

A table has a row a category and columns of counts, whose totals are published. A row is hidden whole, if any of its
counts is above 0 and below `least`. Then further rows are hidden, those with the fewest searches first and all that
have as many, until in no column that counts anything all hidden rows are equal. If that cannot be reached, the table
is withheld.

Why it holds: which rows are hidden depends on the counts in them, not on whose they are, and rows that tie are hidden
together. Exchange any two hidden rows, and the same table is published. So each hidden count may be the other one's,
and for each there is another that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEAST = 5  # counts from 1 to 4 point at persons

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A table as it may be shown: None stands for a row of hidden counts; `withheld`: nothing of it is shown."""

    rows: Mapping[str, Counts | None]
    withheld: bool


def suppress(rows: Mapping[str, Counts], least: int, *, totals: bool = True) -> Published:
    """The table of `rows` as it may be published; the first column orders them. `totals`: their sums are known.

    A category that might be absent altogether must be there as a row of zeros, so that being listed says nothing.
    """
    hidden = {name for name, counts in rows.items() if any(0 < c < least for c in counts)}
    if hidden and totals:
        counting = [i for i in range(len(next(iter(rows.values())))) if any(counts[i] for counts in rows.values())]
        shown = sorted({rows[name][0] for name in rows.keys() - hidden}, key=lambda first: (first == 0, first))
        for first in shown:
            if not _determined(rows, hidden, counting):
                break
            hidden |= {name for name, counts in rows.items() if counts[0] == first}
        if len(hidden) == len(rows) or _determined(rows, hidden, counting):
            return Published(rows={}, withheld=True)
    return Published(rows={name: None if name in hidden else counts for name, counts in rows.items()}, withheld=False)


def _determined(rows: Mapping[str, Counts], hidden: set[str], counting: list[int]) -> bool:
    """True if some column's hidden counts are all equal: their sum, which the total gives away, would tell each."""
    return any(len({rows[name][i] for name in hidden}) < 2 for i in counting)
