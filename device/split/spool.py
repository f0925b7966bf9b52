"""Samples that must reach the cloud, kept in SQLite until the cloud has confirmed them.

A sample is committed before it is sent and deleted, in a commit of its own, before its answer is
handed out: after kill -9 or a power cut nothing unconfirmed is lost and nothing confirmed is sent
again. (The write-ahead log is flushed at every commit, ``synchronous=FULL``.) The one window that
no single machine can close is between the cloud's answer and our commit of it: such a sample is
sent again, with the same bytes, and gets the same kind of answer.

When the spool or the disk is full, the newest sample is not stored and the caller learns of it;
earlier samples stay. Samples that a server refuses for good are set aside in the same file, and are
the first to make room.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from device.split.damaged import readable_rows, set_aside
from shared.errors import UsageError

FORMAT = 1
SCHEMA = """
CREATE TABLE sample (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL, version TEXT NOT NULL, level INTEGER NOT NULL,
    bits BLOB NOT NULL, digest BLOB NOT NULL, taken_at REAL NOT NULL, refused TEXT,
    answered INTEGER NOT NULL DEFAULT 0, image BLOB
) STRICT;
CREATE INDEX waiting ON sample (id) WHERE refused IS NULL;
"""
COLUMNS = ("id", "model", "version", "level", "bits", "digest", "taken_at", "answered", "image")
LATER = {"answered": "INTEGER NOT NULL DEFAULT 0", "image": "BLOB"}  # not in release 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One stored sample: packed bits of device level ``level`` of a model.

    ``taken_at`` is the wall clock at storing and decides nothing; ``answered``: by the device.
    ``image`` is the picture itself, compressed by zlib, for another version of the model.
    """

    model: str
    version: str
    level: int
    bits: bytes
    id: int = 0
    taken_at: float = 0.0
    answered: bool = False
    image: bytes | None = None


class Spool:
    """Samples in the SQLite file ``path``, at most ``limit``. For one thread and one process.

    A file that is damaged or not a spool is renamed, with a warning, and a new one is started with
    the samples that can still be read.
    ``UsageError`` if the file cannot be used at all. ``wall`` is the wall clock; a clock that
    jumps changes no order, since samples are numbered.
    """

    def __init__(self, path: Path, limit: int = 10_000, wall: Callable[[], float] = time.time):
        if limit < 1:
            raise UsageError(f"--spool-max: {limit} is not allowed; give 1 or more")
        self.path = path
        self._limit = limit
        self._wall = wall
        self._said_full = False
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._unusable(error) from None
            aside = self._set_aside(error)
            try:
                self._db = self._open()
                self._take_over(aside)
            except sqlite3.Error as again:
                raise self._unusable(again) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def put(self, samples: Iterable[Sample]) -> list[int | None]:
        """Commit ``samples``; the number of each, None where there was no room."""
        numbers: list[int | None] = []
        wanted = list(samples)
        try:
            with self._db:
                room = self._make_room(len(wanted))
                for sample in wanted[:room]:
                    row = (sample.model, sample.version, sample.level, sample.bits)
                    cursor = self._db.execute(
                        "INSERT INTO sample (model, version, level, bits, digest, taken_at, image)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (*row, _digest(*row), self._wall(), sample.image),
                    )
                    numbers.append(cursor.lastrowid)
        except sqlite3.Error as error:
            self._say_full(f"cannot be written ({error})")
            return [None] * len(wanted)
        if room < len(wanted):
            self._say_full(f"holds {self._limit} samples")
        else:
            self._said_full = False
        return numbers + [None] * (len(wanted) - room)

    def confirm(self, numbers: Iterable[int]) -> None:
        """Delete samples that the cloud has answered; ``OSError`` if that cannot be written."""
        try:
            with self._db:
                self._db.executemany("DELETE FROM sample WHERE id = ?", [(n,) for n in numbers])
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def mark_answered(self, numbers: Iterable[int]) -> None:
        """Note that the device has answered samples itself; ``OSError`` if that fails."""
        try:
            with self._db:
                text = "UPDATE sample SET answered = 1 WHERE id = ?"
                self._db.executemany(text, [(n,) for n in numbers])
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def change(self, sample: Sample) -> None:
        """Store other bits of a sample, of another version; ``OSError`` if that fails."""
        row = (sample.model, sample.version, sample.level, sample.bits)
        text = "UPDATE sample SET model = ?, version = ?, level = ?, bits = ?, digest = ?"
        try:
            with self._db:
                self._db.execute(f"{text} WHERE id = ?", (*row, _digest(*row), sample.id))
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def refuse(self, number: int, reason: str) -> None:
        """Set a sample aside, with the reason; ``OSError`` if that cannot be written."""
        try:
            with self._db:
                self._db.execute("UPDATE sample SET refused = ? WHERE id = ?", (reason, number))
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def oldest(self, count: int, without: Collection[int] = ()) -> list[Sample]:
        """Up to ``count`` waiting samples of one model and level, the oldest first.

        A sample whose bits have rotted is set aside.
        """
        skip = set(without)
        rows = self._db.execute(
            "SELECT model, version, level, bits, id, taken_at, answered, image, digest FROM sample"
            " WHERE refused IS NULL ORDER BY id LIMIT ?",
            (count + len(skip),),
        ).fetchall()
        samples: list[Sample] = []
        for *values, digest in rows:
            sample = Sample(*values)
            if sample.id in skip:
                continue
            if _digest(sample.model, sample.version, sample.level, sample.bits) != digest:
                _log.warning("spool %s: sample %d is damaged and set aside", self.path, sample.id)
                self.refuse(sample.id, "damaged")
                continue
            if samples and _kind(samples[0]) != _kind(sample):
                break
            samples.append(sample)
        return samples[:count]

    def waiting(self) -> int:
        """How many samples wait for the cloud."""
        query = "SELECT count(*) FROM sample WHERE refused IS NULL"
        return int(self._db.execute(query).fetchone()[0])

    def refused(self) -> list[tuple[int, str]]:
        """Samples that were set aside: (number, reason)."""
        query = "SELECT id, refused FROM sample WHERE refused IS NOT NULL ORDER BY id"
        return [(int(number), str(reason)) for number, reason in self._db.execute(query)]

    def close(self) -> None:
        """Close the file; its samples stay."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        # isolation_level: transactions are those of ``with self._db``. Any thread may use it, one
        # at a time: the client runs it on a thread of its own.
        database = sqlite3.connect(self.path, timeout=1.0, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its pages do not fit together")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if version == 0 and tables == 0:
                database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            elif version != FORMAT:
                raise sqlite3.DatabaseError(f"it is no spool of format {FORMAT}")
            _add_columns(database)
            # Takes the lock now, so that a second process fails at its start.
            with database:
                database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(digest) FROM sample").fetchone()
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self, error: sqlite3.Error) -> Path:
        try:
            aside = set_aside(self.path)
        except OSError as failure:
            raise UsageError(
                f"--spool: {self.path} is damaged and cannot be set aside ({failure.strerror})"
            ) from None
        _log.warning(
            "spool %s is damaged (%s); set aside as %s, a new one is started",
            self.path,
            error,
            aside.name,
        )
        return aside

    def _take_over(self, aside: Path) -> None:
        """Put the waiting samples of a damaged spool that are whole into this one."""
        rows = [_row(row) for row in readable_rows(aside, "sample", "id")]
        whole = [row for row in rows if row is not None][: self._limit]
        if whole:
            with self._db:
                text = (
                    "INSERT INTO sample (id, model, version, level, bits, digest, taken_at,"
                    " answered, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                )
                self._db.executemany(text, whole)
            _log.warning("spool %s: %d samples of %s are kept", self.path, len(whole), aside.name)

    def _unusable(self, error: sqlite3.Error) -> UsageError:
        if "locked" in str(error):
            return UsageError(f"--spool: {self.path} is in use by another process")
        return UsageError(f"--spool: {self.path} cannot be used ({error})")

    def _make_room(self, wanted: int) -> int:
        """How many of ``wanted`` samples fit; refused ones give way first."""
        held = int(self._db.execute("SELECT count(*) FROM sample").fetchone()[0])
        missing = held + wanted - self._limit
        if missing > 0:
            cursor = self._db.execute(
                "DELETE FROM sample WHERE id IN (SELECT id FROM sample WHERE refused IS NOT NULL"
                " ORDER BY id LIMIT ?)",
                (missing,),
            )
            held -= cursor.rowcount
        return min(max(self._limit - held, 0), wanted)

    def _say_full(self, why: str) -> None:
        if not self._said_full:
            _log.warning("spool %s %s; new samples are not kept", self.path, why)
            self._said_full = True


def _add_columns(database: sqlite3.Connection) -> None:
    """Give a spool of release 0.1 the columns that it lacks; that release ignores them."""
    columns = {name for _, name, *_ in database.execute("PRAGMA table_info(sample)")}
    for name, kind in LATER.items():
        if name not in columns:
            database.execute(f"ALTER TABLE sample ADD COLUMN {name} {kind}")


def _row(row: sqlite3.Row) -> tuple[str | int | float | bytes | None, ...] | None:
    """The values of ``COLUMNS`` in a row of a damaged spool; None if it is not whole or waiting."""
    names = row.keys()
    if not set(COLUMNS) - set(LATER) <= set(names) or row["refused"] is not None:
        return None
    parts = row["model"], row["version"], row["level"], row["bits"]
    kinds = (str, str, int, bytes)
    if not all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        return None
    if _digest(*parts) != row["digest"]:
        return None
    answered = bool(row["answered"]) if "answered" in names else False
    taken_at = row["taken_at"] if isinstance(row["taken_at"], float) else 0.0
    image = row["image"] if "image" in names and isinstance(row["image"], bytes) else None
    return (row["id"], *parts, row["digest"], taken_at, answered, image)


def _kind(sample: Sample) -> tuple[str, str, int]:
    return sample.model, sample.version, sample.level


def _digest(model: str, version: str, level: int, bits: bytes) -> bytes:
    """16 bytes by which a damaged row is found."""
    head = f"{model}\n{version}\n{level}\n".encode()
    return hashlib.blake2b(head + bits, digest_size=16).digest()
