"""Ingests batches into FOLDER and prints the number of each when it is acknowledged, until killed or COUNT."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from node.formats.interface import RecordFormat
from node.ingest import Ingester
from node.store.sqlite import SqliteStore
from tests.unit.node.samples import NOW_MS, YEAR_S, clock, encode, group


def main(folder: Path, count: int | None) -> None:
    SqliteStore.create(folder / "store")
    store = SqliteStore.open(folder / "store", retention_s=YEAR_S, clock=clock)
    ingester = Ingester(store, folder / "set-aside", clock, source="police")
    for n in itertools.islice(itertools.count(), count):
        records = [
            encode(group(best_uuid=f"u-{i}", best_uuid_epoch_ms=NOW_MS - i, best_plate_number=f"AB{i:05d}"))
            for i in range(n * 20, n * 20 + 19)
        ]
        ingester.ingest_records(RecordFormat.OPENALPR, [*records, b"junk %d" % n])
        print(n, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
