"""A log's entries as JSON lines or Parquet, each with its hash and, if asked for, its proof; none left out.

What a log never held in clear is not there: commitments stand in its place, as in the log itself.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from audit.hashes import Hashes, HashReader, Progress, hashes_of_log, reading
from audit.listing import decode
from audit.note import Checkpoint, verify_checkpoint
from audit.proof import inclusion_proof
from audit.stretch import entries_of
from audit.tree import Tree, leaf_hash
from comity.errors import ConfigError, LogFault, NotYet
from identity import files

FORMAT = "comity-export-1"
_BATCH = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The head that all exported entries are under, and how many there are of each type."""

    head: Checkpoint
    counts: dict[str, int]


def export(
    log: Path, out: Path, *, proofs: bool = False, vkey: str | None = None, progress: Progress | None = None
) -> Exported:
    """`out` holds every entry of `log`, in order, whole or not at all, mode 0600; Parquet if its name ends so.

    The first line (or the Parquet file's metadata under `comity`) has counts by type and the signed checkpoint. All
    entries together lead to its root.

    Raises:
        ConfigError: NO_LOG, NO_KEY, FILE_EXISTS, FILE_UNWRITABLE.
        LogFault: the log is not what its head signs.
        NotYet: Parquet without pyarrow.
        Unavailable: LOG_CHANGED.
    """
    parquet = out.suffix == ".parquet"
    if parquet and importlib.util.find_spec("pyarrow") is None:
        raise NotYet("Parquet needs pyarrow, which is not installed: name a .jsonl file")
    if out.exists():
        raise ConfigError(f"{out} exists already: choose another place or move it away", reason="FILE_EXISTS")
    with reading(log) as reader:
        size, note = reader.head()
        head = verify_checkpoint(note, reader.key(vkey))
        if head.size != size:
            raise LogFault("the head's size is not the one that was signed", reason="WRONG_SIZE")
        counts = _counts(reader, head, progress)
        header = {
            "format": FORMAT,
            "origin": head.origin,
            "size": size,
            "root": head.root.hex(),
            "checkpoint": note.decode(),
            "counts": counts,
            "proofs": proofs,
        }
        rows = _rows(reader, head.size, hashes_of_log(reader, size, progress) if proofs else None, progress)
        with _draft(out) as draft:
            (_write_parquet if parquet else _write_lines)(draft, header, rows)
    return Exported(head=head, counts=counts)


def _counts(reader: HashReader, head: Checkpoint, progress: Progress | None) -> dict[str, int]:
    """How many entries of each type, once all of them were found to be those that were signed."""
    tree, counts = Tree(), Counter[str]()
    for index, entry, leaf in entries_of(reader, 0, head.size, progress):
        counts[decode(index, entry)["type"]] += 1
        tree.append(leaf)
    if (tree.size, tree.root()) != (head.size, head.root):
        raise LogFault("the hashes of all entries are not the root that was signed", reason="WRONG_ROOT")
    return dict(sorted(counts.items()))


def _rows(
    reader: HashReader, size: int, hashes: Hashes | None, progress: Progress | None
) -> Iterator[tuple[int, bytes, list[str] | None]]:
    for index, entry, _ in entries_of(reader, 0, size, progress):
        proof = inclusion_proof(index, size, hashes.subtree) if hashes else None
        yield index, entry, None if proof is None else [base64.b64encode(h).decode() for h in proof]


def _write_lines(draft: Path, header: dict[str, Any], rows: Iterator[tuple[int, bytes, list[str] | None]]) -> None:
    with draft.open("wb") as f:
        f.write(orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE))
        for index, entry, proof in rows:
            # The entry's own bytes: what is hashed is what is read.
            line = {"index": index, "leaf_hash": leaf_hash(entry).hex(), "entry": orjson.Fragment(entry)}
            if proof is not None:
                line["proof"] = proof
            f.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        f.flush()
        os.fsync(f.fileno())


def _write_parquet(draft: Path, header: dict[str, Any], rows: Iterator[tuple[int, bytes, list[str] | None]]) -> None:
    pa, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    schema = pa.schema(
        [
            ("index", pa.int64()),
            ("at", pa.string()),
            ("type", pa.string()),
            ("leaf_hash", pa.string()),
            ("entry", pa.string()),
            ("proof", pa.list_(pa.string())),
        ],
        metadata={"comity": orjson.dumps(header)},
    )
    with parquet.ParquetWriter(draft, schema) as writer:
        batch: list[dict[str, Any]] = []
        for index, entry, proof in rows:
            value = orjson.loads(entry)
            row = {"index": index, "at": value["at"], "type": value["type"], "leaf_hash": leaf_hash(entry).hex()}
            batch.append({**row, "entry": entry.decode(), "proof": proof})
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch.clear()
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """An empty file beside `out`, which it becomes if all goes well."""
    draft = out.with_name(f".{out.name}.new")
    draft.unlink(missing_ok=True)
    files.write_new(draft, b"", mode=files.PRIVATE)
    try:
        yield draft
        draft.replace(out)
    except OSError as e:
        raise ConfigError(f"cannot write {out}: {e.strerror}", reason="FILE_UNWRITABLE") from None
    finally:
        draft.unlink(missing_ok=True)
