"""Takes files in from a watched folder, one a look, and says each: what a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

import node.watch
from node.ingest import Ingester
from node.store.sqlite import SqliteStore
from node.watch import Watch
from tests.unit.node.samples import YEAR_S, clock


def main(folder: Path) -> None:
    node.watch.FILES_AT_ONCE = 1
    store = SqliteStore.open(folder / "store", retention_s=YEAR_S, clock=clock)
    watch = Watch(folder / "in", Ingester(store, folder / "set-aside", clock, source="police"), clock)
    while True:
        if watch.look().done:
            print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
