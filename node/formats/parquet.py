"""Parquet, for bulk loads: columns by the names that CSV has, each row decoded as a CSV line of its own.

Needs pyarrow, which Comity does not bring along: `pip install comity[parquet]`.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from comity.errors import InvalidInput, NotYet
from node.formats.csv import COLUMNS, Csv
from node.formats.interface import Decode, Record

ROWS_AT_ONCE = 1_000
MAX_CELL_BYTES = 4_096
# Of one column of a row group, before it is decompressed; rows of a thousand bytes each, a million of them, are less.
MAX_COLUMN_BYTES = 1024 * 1024 * 1024
_UNREADABLE = "?"  # in place of a value that no Python type holds: no column takes it
_NAMES = frozenset(name for names in COLUMNS.values() for name in names)

Rows = Iterable[Mapping[str, Any]]


class Parquet:
    """A Parquet file; a record of it, as it is set aside or sent, is a CSV header and one line."""

    def open(self, stream: BinaryIO) -> tuple[Decode, Iterator[Record]]:
        """See `ReadFormat.open`.

        Raises:
            NotYet: pyarrow is not installed.
        """
        file = _file(stream)
        names = [name for name in file.schema_arrow.names if name.strip().lower() in _NAMES]
        _check_size(file, names)
        return opened(names, lambda wanted: _rows(file, wanted))

    def open_batch(self, records: Sequence[bytes]) -> Decode:
        """See `ReadFormat.open_batch`."""
        return Csv().open_batch(records)


def opened(names: Sequence[str], rows: Callable[[Sequence[str]], Rows]) -> tuple[Decode, Iterator[Record]]:
    """What decodes the rows, and their records; `rows` gives these columns of them, anew each time it is called.

    Confidence is 0-1 or 0-100 by file, as in CSV.

    Raises:
        InvalidInput: BAD_HEADER.
    """
    head = _line(names) + b"\n"
    confidence = next((name for name in names if name.strip().lower() in COLUMNS["confidence"]), None)
    sample = b""
    if confidence and any(_over_one(row.get(confidence)) for row in rows([confidence])):
        sample = _line(["100" if name == confidence else "" for name in names]) + b"\n"
    decode, _ = Csv().open(io.BytesIO(head + sample))

    def records() -> Iterator[Record]:
        for number, row in enumerate(rows(names), start=1):
            yield Record(line=number, raw=_line([_cell(row.get(name)) for name in names]), head=head)

    return decode, records()


def _over_one(value: Any) -> bool:
    # Some writers have decimals or text here: taken for no number, a file of 0-100 would lose its confidences.
    try:
        return type(value) is not bool and 1 < float(value) <= 100
    except (TypeError, ValueError):
        return False


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, float | Decimal):
        # Never an exponent, which a CSV number does not have.
        return f"{value:.9f}"
    if isinstance(value, bytes):  # text of older writers, which do not say that it is
        return value.decode("utf-8", "replace")
    return str(value)


def _line(cells: Sequence[str]) -> bytes:
    out = io.StringIO()
    # A record is one line: an end of line within a cell would make two of it.
    csv.writer(out, lineterminator="").writerow([cell.replace("\n", " ").replace("\r", " ") for cell in cells])
    return out.getvalue().encode("utf-8", "replace")


def _file(stream: BinaryIO) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise NotYet("Parquet needs pyarrow: pip install 'comity[parquet]'", reason="NO_PARQUET") from None
    try:
        names = [column.name for column in parquet.read_schema(stream) if _is_text(column.type)]
        stream.seek(0)
        # Texts stay in their dictionary until their lengths are known.
        return parquet.ParquetFile(stream, read_dictionary=names, pre_buffer=False, page_checksum_verification=True)
    except (ArrowException, OSError, ValueError):
        raise InvalidInput("the file is not Parquet", reason="BAD_HEADER") from None


def _rows(file: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    from pyarrow import ArrowException

    try:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(names)):
            columns = [_values(column) for column in batch.cast(_readable(batch.schema), safe=False).columns]
            for row in zip(*columns, strict=True):
                yield dict(zip(batch.schema.names, row, strict=True))
    except (ArrowException, OSError, ValueError):
        raise InvalidInput("the file is damaged: what came before is read in", reason="CANNOT_READ") from None


def _values(column: Any) -> list[Any]:
    """The column's values; one that a date or a duration of Python cannot hold costs its row, and not the file."""
    from pyarrow import compute, types

    if types.is_nested(column.type):
        return [_UNREADABLE] * len(column)
    texts = column.dictionary if hasattr(column, "dictionary") else column
    if _is_text(texts.type) and (compute.max(compute.binary_length(texts)).as_py() or 0) > MAX_CELL_BYTES:
        # A dictionary of one long text makes gigabytes out of a file of a few bytes.
        raise InvalidInput(f"a cell of the file has more than {MAX_CELL_BYTES} bytes", reason="FILE_TOO_LARGE")
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(item) for item in column]


def _value(item: Any) -> Any:
    try:
        return item.as_py()
    except (OverflowError, ValueError):
        return _UNREADABLE


def _is_text(type_: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(type_) or types.is_large_string(type_) or types.is_binary(type_) or types.is_large_binary(type_)
    )


def _check_size(file: Any, names: Sequence[str]) -> None:
    """Return if what the file says of its columns is no more than memory takes.

    Raises:
        InvalidInput: FILE_TOO_LARGE.
    """
    for g in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(g)
        for c in range(group.num_columns):
            column = group.column(c)
            if column.path_in_schema.partition(".")[0] in names and column.total_uncompressed_size > MAX_COLUMN_BYTES:
                raise InvalidInput(
                    "a column of the file is too large: write smaller row groups", reason="FILE_TOO_LARGE"
                )


def _readable(schema: Any) -> Any:
    """The schema, times of it in microseconds: finer ones, which data frames are written with, no datetime can hold."""
    import pyarrow

    return pyarrow.schema(
        [f.with_type(pyarrow.timestamp("us", f.type.tz)) if pyarrow.types.is_timestamp(f.type) else f for f in schema]
    )
