"""All detections of a node from one store into another, such that a kill at any instant costs at most a month's work.

1  what is gone from the one is noted as gone in the other, before any row is there
2  month by month: sorted rows, durable in the other, then noted as done
3  every month of both is read again, and count and digest compared
4  rows that came to the one meanwhile are found by counting it once more
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from comity.errors import ConfigError, Unavailable
from identity import files
from node.store.months import Month
from node.store.moving import Movable, Sum, counted, summed

FILE = "copy.json"
MAX_BYTES = 1024 * 1024
COPY, CHECK = "copy", "check"
Say = Callable[[str, int], None]  # what is being done, and with how many rows more


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a copy has done so far: months by name. It holds no plate."""

    source: str
    target: str
    done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is in both stores now, by month, and whether an earlier copy went on."""

    rows: int
    months: tuple[tuple[str, Sum], ...]
    resumed: bool


class Copying:
    """One copy, from the store that `source` says in words to that of `target`; notes are kept in `state`."""

    def __init__(self, state: Path, source: str, target: str, say: Say) -> None:
        self._file = state / FILE
        self._note = Note(source=source, target=target)
        self._say = say

    def run(self, source: Movable, target: Movable) -> Report:
        """Copy what is missing, and compare all.

        Raises:
            ConfigError: COPY_UNDER_WAY: another copy was begun here; TARGET_NOT_EMPTY.
            Unavailable: COPY_DIFFERS.
            StoreError: one of them failed; doing it again goes on.
        """
        with source.alone(), target.alone():
            resumed = self._begin(target)
            target.take(source.marks())  # 1
            for month in source.months():  # 2
                if month.name not in self._note.done:
                    with closing(source.sorted_rows(month)) as rows:
                        target.fill(month, counted(rows, lambda n: self._say(COPY, n)))
                    self._save(Note(**{**asdict(self._note), "done": (*self._note.done, month.name)}))
            sums = self._compared(source, target)
            self._file.unlink(missing_ok=True)
        return Report(rows=sum(s.rows for _, s in sums), months=sums, resumed=resumed)

    def check(self, source: Movable, target: Movable) -> Report:
        """Compare only.

        Raises:
            Unavailable: COPY_DIFFERS.
            StoreError: one of them failed.
        """
        with source.alone(), target.alone():
            sums = self._compared(source, target)
        return Report(rows=sum(s.rows for _, s in sums), months=sums, resumed=False)

    def _compared(self, source: Movable, target: Movable) -> tuple[tuple[str, Sum], ...]:
        sums = []
        for month in _both(source, target):  # 3
            one, other = (self._summed(s, month) for s in (source, target))
            if one != other:
                self._forget()
                raise Unavailable(
                    f"{month.name} differs: {one.rows} rows there, {other.rows} here; did something write meanwhile?"
                    " Copying again adds what is missing, and removes nothing",
                    reason="COPY_DIFFERS",
                )
            sums.append((month.name, one))
        if source.count() != sum(s.rows for _, s in sums):  # 4
            self._forget()
            raise Unavailable("rows came while it was copied: copy again, with nothing writing", reason="COPY_DIFFERS")
        return tuple(sums)

    def _summed(self, store: Movable, month: Month) -> Sum:
        with closing(store.sorted_rows(month)) as rows:
            return summed(rows, lambda n: self._say(CHECK, n))

    def _begin(self, target: Movable) -> bool:
        """True if a copy that was begun goes on."""
        if self._file.exists():
            note = self._load()
            if (note.source, note.target) != (self._note.source, self._note.target):
                raise ConfigError(
                    f"a copy from {note.source} to {note.target} was begun: finish it, or delete {self._file}",
                    reason="COPY_UNDER_WAY",
                )
            self._note = note
            return True
        if target.months():
            raise ConfigError(
                f"{self._note.target} holds detections already, and copying would mix them: name an empty one, or "
                "compare with --check",
                reason="TARGET_NOT_EMPTY",
            )
        self._save(self._note)
        return False

    def _forget(self) -> None:
        if self._file.exists():
            self._save(Note(source=self._note.source, target=self._note.target))

    def _load(self) -> Note:
        try:
            raw = orjson.loads(files.read(self._file, max_bytes=MAX_BYTES, private=True))
            return Note(source=raw["source"], target=raw["target"], done=tuple(raw["done"]))
        except (ConfigError, ValueError, TypeError, KeyError):
            raise ConfigError(
                f"{self._file} cannot be read: delete it to begin anew", reason="COPY_UNDER_WAY"
            ) from None

    def _save(self, note: Note) -> None:
        files.replace(self._file, orjson.dumps(asdict(note)), mode=files.PRIVATE)
        self._note = note


def _both(source: Movable, target: Movable) -> Iterator[Month]:
    months = {m.begin_ms: m for store in (source, target) for m in store.months()}
    return iter([months[at] for at in sorted(months)])
