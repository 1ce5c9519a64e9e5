"""A progress bar for work that lasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHOW_PROGRESS_AFTER_S = 2.0


class Bar:
    """Progress on standard error, once the work has lasted so long that somebody wonders. A context manager."""

    def __init__(self, doing: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing, self._clock, self._began = doing, clock, clock()
        self._progress: Progress | None = None

    def __call__(self, done: int, entries: int) -> None:
        """Say that so many are done. Work of several parts starts at 0 again."""
        if self._progress is None:
            if self._clock() - self._began < SHOW_PROGRESS_AFTER_S:
                return
            columns = (TextColumn(self._doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task("", total=entries)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=entries)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()
