"""Set damaged database files aside, and recover their readable rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def set_aside(path: Path) -> Path:
    """Rename a database and its companion files to ``NAME.damaged-N``; returns the new path.

    Raises ``OSError``.
    """
    aside = next(
        other
        for number in range(1, 1_000_000)
        if not (other := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        extra = path.with_name(path.name + suffix)
        if extra.exists():
            extra.rename(aside.with_name(aside.name + suffix))
    return aside


def readable_rows(path: Path, table: str, *key: str) -> list[sqlite3.Row]:
    """Return the rows of a damaged database that can still be read, in the order of ``key``.

    Reads from the first row up to a damaged page, and from the last row down to one, without using
    an index. Values may be wrong. Returns nothing if the file is no database any more.
    """
    found: dict[tuple[object, ...], sqlite3.Row] = {}
    ahead: list[sqlite3.Row] = []
    back: list[sqlite3.Row] = []
    for order, rows in (("ASC", ahead), ("DESC", back)):
        columns = ", ".join(f"{column} {order}" for column in key)
        try:
            with closing(sqlite3.connect(path)) as database:
                database.row_factory = sqlite3.Row
                text = f"SELECT * FROM {table} NOT INDEXED ORDER BY {columns}"  # noqa: S608 - ours
                for row in database.execute(text):
                    place = tuple(row[column] for column in key)
                    if place in found:
                        break
                    found[place] = row
                    rows.append(row)
        except (sqlite3.Error, OverflowError, UnicodeDecodeError):
            continue  # a damaged page ends this direction
    return [*ahead, *reversed(back)]
