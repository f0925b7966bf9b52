"""Telemetry as a Parquet or CSV file, written some thousand rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from shared.atomic_file import replacing
from shared.errors import UsageError
from shared.fleet.messages import Telemetry

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
# The columns of ``cloud.telemetry.tables.telemetry``, in their order.
SCHEMA = pa.schema(
    [
        ("fleet", pa.string()),
        *((one.name, _TYPES[str(one.type)]) for one in fields(Telemetry)),
        ("received_s", pa.float64()),
    ]
)
Parts = Iterator[Sequence[tuple[Any, ...]]]


class Format(str, Enum):
    """What can be written."""

    PARQUET = "parquet"
    CSV = "csv"


def parse_format(text: str | None, path: Path) -> Format:
    """The format ``text``, or without it the one that the name of ``path`` ends with."""
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
    told: Callable[[int], None],
) -> int:
    """Write the rows in ``parts`` and return how many; ``told`` hears of those of each part.

    ``path`` is replaced when all of it is there, and left alone if anything fails.
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
            told(len(rows))
    return count


def _writer(path: str, kind: Format) -> Any:
    if kind is Format.CSV:
        return csv.CSVWriter(path, SCHEMA)
    return parquet.ParquetWriter(path, SCHEMA, compression="zstd")
