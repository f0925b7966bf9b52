"""Gather pictures into one file of pixels, with a journal that lets a killed import resume."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cloud.training.data.items import Item, Target
from cloud.training.data.splits import content_hashes
from shared.errors import ImageError, UsageError
from shared.images.ready import border
from shared.images.values import Bytes

AHEAD = 8  # pictures decoded in advance by each thread
NAMED = 10  # unreadable files whose names are kept
FLUSHED = 256  # pictures after which both files are flushed; a kill loses at most these
PIXELS, JOURNAL = "pixels", "journal.jsonl"


@dataclass
class Gathered:
    """Name, label, part and hash of every readable picture, in the order of the source.

    ``broken`` counts unreadable pictures; ``examples`` are the reasons for the first of them.
    """

    labels: list[str] = field(default_factory=list)
    parts: list[str | None] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    borders: list[float] = field(default_factory=list)
    broken: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry of the journal."""
        if "broken" in entry:
            self.broken += 1
            if len(self.examples) < NAMED:
                self.examples.append(entry["broken"])
            return
        self.labels.append(entry["label"])
        self.parts.append(entry["part"])
        self.hashes.append(entry["hash"])
        self.means.append(entry["mean"])
        self.borders.append(entry["border"])


def gather(
    items: Iterable[Item],
    target: Target,
    folder: Path,
    on_picture: Callable[[int], None],
    threads: int,
) -> Gathered:
    """Decode every picture into ``folder``/pixels, resuming after those that are there already.

    ``on_picture`` receives the number of pictures done. ``UsageError`` if the source's pictures
    differ from those when ``folder`` was begun.
    """
    found = Gathered()
    names = _recalled(folder, target, found)
    done = len(names)
    rest = _after(items, names)
    with (
        (folder / PIXELS).open("ab") as pixels,
        (folder / JOURNAL).open("a", encoding="utf-8") as journal,
    ):
        for number, (item, picture) in enumerate(decoded(rest, threads), done + 1):
            entry = _entry(item, picture, pixels)
            found.add(entry)
            journal.write(json.dumps(entry) + "\n")
            if number % FLUSHED == 0:
                pixels.flush()
                journal.flush()
            on_picture(number)
    return found


def decoded(items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Future[Bytes]]]:
    """Yield the items in order, each with its picture; a few are decoded in advance.

    Decoding releases Python's lock, so threads can use several cores.
    """
    waiting: deque[tuple[Item, Future[Bytes]]] = deque()
    with ThreadPoolExecutor(threads, "decoding") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(item.read)))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _entry(item: Item, picture: Future[Bytes], pixels: IO[bytes]) -> dict[str, Any]:
    try:
        image = np.ascontiguousarray(picture.result())
    except ImageError as error:
        return {"name": item.name, "broken": str(error)}
    pixels.write(image.data)
    return {
        "name": item.name,
        "label": item.label,
        "part": item.part,
        "hash": int(content_hashes(image[None])[0]),
        "mean": float(image.mean()),
        "border": float(np.median(border(image[:, :, 0]))),
    }


def _recalled(folder: Path, target: Target, found: Gathered) -> deque[str]:
    """Return the names that a killed import had gathered, after repairing both of its files."""
    pixels, journal = folder / PIXELS, folder / JOURNAL
    begin = json.dumps({"target": repr(target)}) + "\n"
    lines = journal.read_text(encoding="utf-8").splitlines(True) if journal.is_file() else []
    if not lines or lines[0] != begin or not pixels.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        journal.write_text(begin, encoding="utf-8")
        return deque()
    room = pixels.stat().st_size // target.shape.size
    names: deque[str] = deque()
    kept = [begin]
    for line in lines[1:]:
        entry: dict[str, Any] = json.loads(line) if line.endswith("\n") else {}
        if ("broken" not in entry and len(found.labels) == room) or "name" not in entry:
            break  # the pixels had not reached the disk, or the line is incomplete
        found.add(entry)
        names.append(entry["name"])
        kept.append(line)
    with pixels.open("r+b") as file:
        file.truncate(len(found.labels) * target.shape.size)
    journal.write_text("".join(kept), encoding="utf-8")
    return names


def _after(items: Iterable[Item], names: deque[str]) -> Iterator[Item]:
    """Yield the items after the first ones, which must have ``names``."""
    for item in items:
        if not names:
            yield item
        elif item.name != names.popleft():
            raise UsageError(
                "SOURCE: has other pictures than when its import was interrupted; run it again to "
                "begin anew"
            )
