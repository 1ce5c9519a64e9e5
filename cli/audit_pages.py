"""Pages of `comity audit list`: from the log itself, or by way of its index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from audit import listing
from audit.hashes import HashReader, reading
from audit.index import BEYOND, WORTHWHILE, LogIndex, default_place
from audit.listing import Filter, Row
from cli.progress import Bar
from comity.errors import ConfigError

INDEX = click.IntRange(0, BEYOND - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which rows of all that fit: `limit` of them, before or after an entry, else the newest."""

    limit: int
    before: int | None
    after: int | None
    place: Path | None
    no_index: bool

    def __post_init__(self) -> None:
        """Refuse what says two things.

        Raises:
            click.UsageError: --before with --after, or --index with --no-index.
        """
        if self.before is not None and self.after is not None:
            raise click.UsageError("a page lies --before an entry or --after it")
        if self.place is not None and self.no_index:
            raise click.UsageError("--index or --no-index")


def rows_of(log: Path, wanted: Filter, page: Page) -> list[Row]:
    """The page, oldest row first.

    Raises:
        ConfigError: NO_LOG; the index that was asked for cannot be written (FILE_UNWRITABLE).
        LogFault: the log is damaged, or an entry malformed.
    """
    with reading(log) as reader:
        found_at_the_end = not (wanted.of_searches or wanted.until) and page.before is None and page.after is None
        worthwhile = reader.head()[0] >= WORTHWHILE and not found_at_the_end
        if not page.no_index and (page.place is not None or worthwhile):
            try:
                return _by_index(reader, wanted, page)
            except ConfigError as e:
                if page.place is not None:
                    raise
                click.echo(f"note: {e}; the log itself is read, which takes longer", err=True)
        return _by_reading(reader, wanted, page)


def more(rows: Sequence[Row], page: Page) -> str:
    """How the next page is asked for."""
    if page.after is not None:
        return f"{len(rows)} of them; --after {rows[-1].index} shows what follows."
    return f"The newest {len(rows)}; --limit shows more, --before {rows[0].index} the page before."


def _by_index(reader: HashReader, wanted: Filter, page: Page) -> list[Row]:
    place = page.place or default_place(reader.files.db)
    with reader.snapshot(), Bar("indexing") as bar, LogIndex.open(reader, place, bar) as index:
        if page.after is not None:
            return index.following(wanted, page.limit, after=page.after)
        return index.newest(wanted, page.limit, before=BEYOND if page.before is None else page.before)


def _by_reading(reader: HashReader, wanted: Filter, page: Page) -> list[Row]:
    if page.after is None:
        return listing.newest(reader, wanted, page.limit, before=BEYOND if page.before is None else page.before)
    after = page.after
    return [row for row in listing.newest(reader, wanted, BEYOND) if row.index > after][: page.limit]
