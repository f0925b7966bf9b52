"""A tiny data set and sources of it: made up, on a loopback web server, in an archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
from rich.progress import Progress

from cloud.training.data.known import Known
from cloud.training.data.sources import (
    Files,
    Meter,
    SourceError,
)
from shared.images.idx import format_idx

RANDOM = np.random.default_rng(1)


CONTENTS = {
    "train-images-idx3-ubyte": format_idx(RANDOM.integers(0, 256, (20, 4, 5), dtype=np.uint8)),
    "train-labels-idx1-ubyte": format_idx(np.arange(20, dtype=np.uint8) % 10),
    "t10k-images-idx3-ubyte": format_idx(RANDOM.integers(0, 256, (10, 4, 5), dtype=np.uint8)),
    "t10k-labels-idx1-ubyte": format_idx(np.arange(10, dtype=np.uint8)),
}


TINY = Known(
    classes=tuple("0123456789"),
    digests={name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()},
    sources=(),
)


QUIET = Progress(disable=True)


@dataclass(frozen=True)
class Fake:
    """A source of given contents, which may fail after them."""

    name: str
    contents: dict[str, bytes]
    failure: str = ""

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:
        yield from ((name, data) for name, data in self.contents.items() if name in wanted)
        if self.failure:
            raise SourceError(self.failure)


class NoMeter:
    total: float = 0

    def update(self, size: int) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None: ...


def fill(folder: Path, contents: dict[str, bytes], compressed: bool = False) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in contents.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tar(path: Path, contents: dict[str, bytes], extra: Collection[tarfile.TarInfo] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
