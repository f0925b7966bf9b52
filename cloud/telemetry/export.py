"""Write telemetry to a Parquet or CSV file, some thousand rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
from pyarrow import csv, parquet

from shared.atomic_file import replacing
from shared.errors import UsageError
from shared.fleet.messages import Telemetry

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
# The columns of ``cloud.telemetry.tables.telemetry``, in their order.
SCHEMA = pa.schema(
    [
        ("fleet", pa.string()),
        *((name, _TYPES[kind]) for name, kind in get_type_hints(Telemetry).items()),
        ("received_s", pa.float64()),
    ]
)
Parts = Iterator[Sequence[tuple[Any, ...]]]


class Format(str, Enum):
    """File formats that can be written."""

    PARQUET = "parquet"
    CSV = "csv"


def parse_format(text: str | None, path: Path) -> Format:
    """Return the format named ``text``; if None, that of the suffix of ``path``; ``UsageError``."""
    allowed = f"give {' or '.join(one.value for one in Format)}"
    try:
        return Format(path.suffix[1:].lower() if text is None else text)
    except ValueError:
        if text is None:
            raise UsageError(f"--format: {path} does not say it; {allowed}") from None
        raise UsageError(f"--format: {text!r} is not allowed; {allowed}") from None


def write(
    path: Path,
    kind: Format,
    parts: Iterator[Sequence[tuple[Any, ...]]],
    advance: Callable[[int], None],
) -> int:
    """Write the rows in ``parts`` and return their number; ``advance`` receives each part's.

    ``path`` is replaced only after the new file is complete; if writing fails it is unchanged.
    """
    count = 0
    with replacing(path, "--output") as temporary, _writer(str(temporary), kind) as writer:
        for rows in parts:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
            count += len(rows)
            advance(len(rows))
    return count


def _writer(path: str, kind: Format) -> Any:
    if kind is Format.CSV:
        return csv.CSVWriter(path, SCHEMA)
    return parquet.ParquetWriter(path, SCHEMA, compression="zstd")
