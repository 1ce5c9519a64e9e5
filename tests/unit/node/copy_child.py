"""Copies the store FROM of the node in FOLDER to TO, prints each row's number, and `done` at the end; to be killed."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from pathlib import Path

from node.copying import Copying
from node.store.choose import StoreAt
from node.store.months import Month
from node.store.moving import Movable, Raw
from tests.unit.node.samples import YEAR_S, clock

EVERY = 50


class Telling:
    """A store that says how far it was read."""

    def __init__(self, store: Movable) -> None:
        self._store = store
        self._read = 0
        self.alone, self.months, self.count = store.alone, store.months, store.count
        self.fill, self.marks, self.take, self.close = store.fill, store.marks, store.take, store.close

    def sorted_rows(self, month: Month) -> Generator[Raw, None, None]:
        for row in self._store.sorted_rows(month):
            self._read += 1
            if self._read % EVERY == 0:
                print(self._read, flush=True)
            yield row


def main(folder: Path, one: str, other: str, password_file: Iterable[str]) -> None:
    stores = [StoreAt.parse(url, folder, password_file="".join(password_file)) for url in (one, other)]
    source, target = (s.moving(agency="alder", node="t-copying", retention_s=YEAR_S, clock=clock) for s in stores)
    Copying(folder, stores[0].words, stores[1].words, lambda what, more: None).run(Telling(source), target)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
