"""Samples that must reach the cloud, kept in SQLite until the cloud has confirmed them.

A sample is committed before it is sent. Before its answer is handed out, its deletion is committed
too. So after kill -9 or a power failure, no unconfirmed sample is lost and no confirmed one is sent
again. (The write-ahead log is flushed at every commit: ``synchronous=FULL``.) One gap cannot be
closed on a single machine: if the process dies between the arrival of the cloud's answer and our
commit of it, the sample is sent again with the same bytes.

If the spool or the disk is full, new samples are not stored, and ``put`` returns None for them;
earlier samples stay. Samples that a server refuses permanently are set aside in the same file. They
are deleted first when room is needed.
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
LATER = {"answered": "INTEGER NOT NULL DEFAULT 0", "image": "BLOB"}  # added after release 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One stored sample: packed bits of device level ``level`` of a model.

    ``taken_at`` is the wall clock at the time of storing, for information only. ``answered`` tells
    whether the device has answered it. ``image`` is the picture, compressed by zlib, with which the
    bits can be recomputed for another version of the model.
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

    A file that is damaged or no spool is renamed, with a warning, and a new one is started with the
    samples that can still be read. ``UsageError`` if the file cannot be used at all. ``wall`` is
    the wall clock; the order of samples does not depend on it, since they are numbered.
    """

    def __init__(self, path: Path, limit: int = 10_000, wall: Callable[[], float] = time.time):
        if limit < 1:
            raise UsageError(f"--spool-max: {limit} is not allowed; give 1 or more")
        self.path = path
        self._limit = limit
        self._wall = wall
        self._warned_full = False
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
        """Commit ``samples``; return the number of each, None for those without room."""
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
            self._warn_full(f"cannot be written ({error})")
            return [None] * len(wanted)
        if room < len(wanted):
            self._warn_full(f"holds {self._limit} samples")
        else:
            self._warned_full = False
        return numbers + [None] * (len(wanted) - room)

    def confirm(self, numbers: Iterable[int]) -> None:
        """Delete samples that the cloud has answered; ``OSError`` if that cannot be written."""
        try:
            with self._db:
                self._db.executemany("DELETE FROM sample WHERE id = ?", [(n,) for n in numbers])
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def mark_answered(self, numbers: Iterable[int]) -> None:
        """Record that the device has answered samples itself; ``OSError`` if that fails."""
        try:
            with self._db:
                text = "UPDATE sample SET answered = 1 WHERE id = ?"
                self._db.executemany(text, [(n,) for n in numbers])
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def change(self, sample: Sample) -> None:
        """Replace a sample's bits by those of another version; ``OSError`` if that fails."""
        row = (sample.model, sample.version, sample.level, sample.bits)
        text = "UPDATE sample SET model = ?, version = ?, level = ?, bits = ?, digest = ?"
        try:
            with self._db:
                self._db.execute(f"{text} WHERE id = ?", (*row, _digest(*row), sample.id))
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def refuse(self, number: int, reason: str) -> None:
        """Set a sample aside with the reason of its refusal; ``OSError`` if that fails."""
        try:
            with self._db:
                self._db.execute("UPDATE sample SET refused = ? WHERE id = ?", (reason, number))
        except sqlite3.Error as error:
            raise OSError(f"spool {self.path}: cannot be written ({error})") from None

    def oldest(self, count: int, without: Collection[int] = ()) -> list[Sample]:
        """Return up to ``count`` waiting samples of one model and level, the oldest first.

        Samples in ``without`` are left out. A sample whose bits do not match its digest is set
        aside.
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
        """Return the number of samples that wait for the cloud."""
        query = "SELECT count(*) FROM sample WHERE refused IS NULL"
        return int(self._db.execute(query).fetchone()[0])

    def refused(self) -> list[tuple[int, str]]:
        """Return the samples that were set aside as (number, reason)."""
        query = "SELECT id, refused FROM sample WHERE refused IS NOT NULL ORDER BY id"
        return [(int(number), str(reason)) for number, reason in self._db.execute(query)]

    def close(self) -> None:
        """Close the file; its samples stay."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        # Transactions are those of ``with self._db``. The thread is not checked, since the client
        # uses the spool on a thread other than the one that opens it.
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
            # Takes the lock now, so that a second process fails when it starts.
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
        """Copy the intact waiting samples of a damaged spool into this one."""
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
        """Return how many of ``wanted`` samples fit, deleting refused ones if needed."""
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

    def _warn_full(self, why: str) -> None:
        if not self._warned_full:
            _log.warning("spool %s %s; new samples are not kept", self.path, why)
            self._warned_full = True


def _add_columns(database: sqlite3.Connection) -> None:
    """Add missing columns to a spool of release 0.1, which ignores them."""
    columns = {name for _, name, *_ in database.execute("PRAGMA table_info(sample)")}
    for name, kind in LATER.items():
        if name not in columns:
            database.execute(f"ALTER TABLE sample ADD COLUMN {name} {kind}")


def _row(row: sqlite3.Row) -> tuple[str | int | float | bytes | None, ...] | None:
    """Return the values of ``COLUMNS`` in a row of a damaged spool.

    None if the row is damaged or its sample does not wait.
    """
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
    """Return a digest of 16 bytes that detects damaged rows."""
    head = f"{model}\n{version}\n{level}\n".encode()
    return hashlib.blake2b(head + bits, digest_size=16).digest()
