"""DuckDB as a peer: the better engine for loading at once and for size, with no key and nothing said of durability."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.store_peers import LIMIT, Window, folder_bytes
from comity.detection import Detection
from comity.instants import to_ms
from comity.plate import Plate
from node.store.rows import detection_of

_SCHEMA = """
CREATE TABLE det(captured_at BIGINT NOT NULL, uid BIGINT NOT NULL, plate VARCHAR NOT NULL, state VARCHAR NOT NULL,
  camera VARCHAR NOT NULL, source VARCHAR NOT NULL, lat INTEGER, lon INTEGER, conf SMALLINT, image VARCHAR,
  make VARCHAR, colour VARCHAR)
"""
_NAMES = ["captured_at", "uid", "plate", "state", "camera", "source", "lat", "lon", "conf", "image", "make", "colour"]
_TAIL = "captured_at >= ? AND captured_at < ? ORDER BY captured_at DESC, uid DESC LIMIT ?"


class Duckdb:
    """One table without an index, as its manual advises for loading: its column statistics narrow a scan."""

    name = "DuckDB, no unique key"
    durable = False

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._arrow: Any = importlib.import_module("pyarrow")
        self._c: Any = importlib.import_module("duckdb").connect(str(folder / "detections.duckdb"))
        self._c.execute(_SCHEMA)
        self._waiting: list[tuple[object, ...]] = []

    def bulk(self, batch: Sequence[Detection]) -> None:
        self._waiting += [_row(d) for d in batch]
        if len(self._waiting) >= 100_000:  # it takes whole columns, and few large ones rather than many small
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._waiting, strict=True)
        # Found by its name by the statement below.
        chunk = self._arrow.table(dict(zip(_NAMES, map(list, columns), strict=True)))
        self._c.register("chunk", chunk)
        self._c.execute("INSERT INTO det SELECT * FROM chunk")
        self._c.unregister("chunk")
        self._waiting.clear()

    def finish(self) -> None:
        self._flush()
        self._c.execute("CHECKPOINT")

    def add(self, batch: Sequence[Detection]) -> None:
        self.bulk(batch)
        self._flush()

    def _asked(self, where: str, values: Sequence[object], window: Window) -> list[Detection]:
        found = self._c.execute(f"SELECT * FROM det WHERE {where} AND {_TAIL}", [*values, *window, LIMIT])  # nosec B608
        return [detection_of(r) for r in found.fetchall()]

    def exact(self, plate: Plate, window: Window) -> list[Detection]:
        return self._asked("plate = ? AND state IN (?, '')", [plate.number, plate.state], window)

    def camera(self, camera: str, window: Window) -> list[Detection]:
        return self._asked("camera = ?", [camera], window)

    def size(self) -> int:
        self._c.execute("CHECKPOINT")
        return folder_bytes(self.folder)

    def close(self) -> None:
        self._c.close()


def _row(d: Detection) -> tuple[object, ...]:
    return (to_ms(d.captured_at), d.uid, d.plate.number, d.plate.state, d.camera, d.source, d.latitude_e7,
            d.longitude_e7, d.confidence_permille, d.image or None, d.make or None, d.colour or None)  # fmt: skip
