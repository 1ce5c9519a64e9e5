"""Many rows at once, past the growing segment: staged by period without an index, then built into sealed parts."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from comity.detection import Detection
from comity.errors import InvalidInput
from comity.instants import to_ms
from node.store.interface import Added, StoreError
from node.store.rows import STAGE, Words, row_of
from node.store.seal import MAX_SOURCES, Span, build, period
from node.store.sealing import LEAST_RETENTION_S, Sealer
from node.store.segment import WORDS_AND_ROWS, faults
from node.store.shelf import Shelf

# A period is built once it has so many rows and a batch came without any of it: rows tend to come in order of time.
ENOUGH_ROWS = 1_000_000
BUILDERS = 2
Period = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class _Stage:
    """Rows of one period on their way, in a file that no manifest names: a kill costs them and nothing else."""

    name: str
    path: Path
    connection: sqlite3.Connection
    rows: int = 0
    words: Words = field(default_factory=dict)


class Load:
    """Rows on their way in; used while the shelf is `keeping`. A period that is built serves at once.

    `horizon`: see `DetectionStore.horizon`.
    """

    def __init__(self, shelf: Shelf, *, retention_s: int, horizon: Callable[[], dt.datetime]) -> None:
        self._shelf = shelf
        self._retention_s = retention_s
        self.horizon = horizon
        self._stages: dict[Period, _Stage] = {}
        self._builder = ThreadPoolExecutor(BUILDERS, "bulk")
        self._built: list[Future[int]] = []
        self._of: dict[Period, Future[int]] = {}
        self._staged = 0

    def add(self, batch: Sequence[Detection]) -> Added:
        """Take the batch, all of it as new; durable, and known for what it is, once `finish` has returned.

        Raises:
            StoreError: it cannot be written, or an earlier one could not be built; loading all again is safe.
        """
        of: dict[Period, list[Detection]] = defaultdict(list)
        begin = end = -1
        for d in batch:
            at = to_ms(d.captured_at)
            if not begin <= at < end:
                begin, end = period(at, self._retention_s)
            of[begin, end].append(d)
        for which, detections in of.items():
            stage = self._stages.get(which) or self._open(which)
            with faults():
                rows = [row_of(d, stage.words, stage.connection) for d in detections]
                stage.connection.executemany(STAGE, rows)
            stage.rows += len(rows)
        self._staged += len(batch)
        for which in [w for w, s in self._stages.items() if w not in of and s.rows >= ENOUGH_ROWS]:
            self._hand_over(which)
        for built in self._built:
            if built.done():
                built.result()
        return Added(accepted=len(batch), duplicates=0)

    def finish(self) -> Added:
        """How many of all that was added are new; every one of them is durable and is found.

        Raises:
            StoreError: some periods may not be there; loading all again is safe.
        """
        for which in sorted(self._stages):
            self._hand_over(which)
        accepted = sum(f.result() for f in self._built)
        return Added(accepted=accepted, duplicates=self._staged - accepted)

    def close(self) -> None:
        """What was not built is gone; idempotent.

        Raises:
            StoreError: what was staged cannot be deleted.
        """
        self._builder.shutdown(cancel_futures=True)
        for stage in self._stages.values():
            stage.connection.close()
            self._shelf.unlink({stage.name})
        self._stages.clear()

    def _open(self, which: Period) -> _Stage:
        name = f"hot-{self._shelf.number()}.db"
        path = self._shelf.folder / f"{name}.tmp"
        with faults():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            stage = self._stages[which] = _Stage(name=name, path=path, connection=connection)
            for pragma in ("journal_mode=OFF", "synchronous=OFF"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("BEGIN")
            for statement in WORDS_AND_ROWS.split(";"):
                connection.execute(statement)
        return stage

    def _hand_over(self, which: Period) -> None:
        stage = self._stages.pop(which)
        if which in self._of:
            self._of[which].result()  # what it built is known to the next one
        self._of[which] = built = self._builder.submit(self._build, which, stage)
        self._built.append(built)

    def _build(self, which: Period, stage: _Stage) -> int:
        """How many rows of the stage are new, in a part that serves."""
        try:
            with faults():
                stage.connection.execute("COMMIT")
                stage.connection.close()
            parts = [p for p in self._shelf.view().manifest.parts if p.meets(*which)]
            if len(parts) > MAX_SOURCES:
                raise StoreError("too many sealed parts of one period: seal, and load again", reason="STORE_BUSY")
            known = [self._shelf.folder / p.name for p in parts]
            span = Span(begin_ms=which[0], end_ms=which[1])
            new = build(self._shelf.folder, self._shelf.number(), [stage.path], span, known=known)
        except BaseException:
            self._shelf.unlink({stage.name})
            raise
        self._shelf.exchange({stage.name}, (new,) if new else ())
        return new.rows if new else 0


@contextlib.contextmanager
def loading(shelf: Shelf, sealer: Sealer, *, retention_s: int, horizon: Callable[[], dt.datetime]) -> Iterator[Load]:
    """A load that ends with the block. Sealing, merging and purging wait; searches and ingest go on.

    What is not sealed yet is sealed first, so that the load meets all that is there. A row that ingest takes
    meanwhile and the load has too is found once, and counted twice until parts are merged.

    Raises:
        InvalidInput: NO_BULK, the node keeps detections for too short a time to seal any.
        StoreError: it cannot be begun.
    """
    if retention_s < LEAST_RETENTION_S:
        raise InvalidInput("a node that seals nothing takes no bulk load", reason="NO_BULK")
    view = shelf.view()
    if view.active.ask("SELECT 1 FROM det LIMIT 1", {}):
        shelf.rotate(view)
    sealer.run()
    with shelf.keeping():
        load = Load(shelf, retention_s=retention_s, horizon=horizon)
        try:
            yield load
        finally:
            load.close()
