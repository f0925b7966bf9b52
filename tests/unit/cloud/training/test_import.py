"""A user's pictures become a data set: folders, tables, arrays, Datasets; split and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from cloud.training.data.command import app
from cloud.training.data.datasets import Dataset, load
from cloud.training.data.importing import import_pictures
from cloud.training.data.items import Item, Target, items_of
from shared.data.sample import sample_digits
from shared.images.idx import write_idx
from shared.images.values import Bytes
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

DIGITS, LABELS = sample_digits()
NAMES = ("apple", "pear", "plum")
COUNT = 90
SPLITS = ("train", "validation", "test")


def pixels(index: int) -> npt.NDArray[np.uint8]:
    return np.asarray(DIGITS[index])


def run(data_dir: Path, *words: str, status: int = 0) -> str:
    command = ["import", *words, "--data-dir", str(data_dir)]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code == 0) == (status == 0), (result.output, result.exception)
    return result.output if status == 0 else f"{result.output}{result.exception}"


def splits(name: str, data_dir: Path) -> tuple[Dataset, ...]:
    return tuple(load(name, data_dir, split) for split in SPLITS)


def contents(data: Dataset) -> set[bytes]:
    return {image.tobytes() for image in data.images}


def class_folders(root: Path, count: int = COUNT) -> Path:
    for index in range(count):
        folder = root / NAMES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(index)).save(folder / f"{index}.png")
    return root


def check_all(name: str, data_dir: Path, count: int = COUNT) -> tuple[Dataset, ...]:
    """Nothing is lost, nothing in two splits, and every image has its label."""
    parts = splits(name, data_dir)
    assert sum(len(part.images) for part in parts) == count
    assert not contents(parts[0]) & contents(parts[1]) | contents(parts[1]) & contents(parts[2])
    known = {pixels(index).tobytes(): index % 3 for index in range(count)}
    for part in parts:
        assert [known[image.tobytes()] for image in part.images] == part.labels.tolist()
    return parts


def test_class_folders(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "fruit")
    (source / "apple" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (source / "plum" / "._1.png").write_bytes(b"x")
    output = run(tmp_path, str(source), "--size", "28x28", "--grey", "--name", "mine")
    assert "2 pictures could not be read" in output
    assert "broken.jpg" in output
    train, validation, test = check_all("mine", tmp_path)
    assert train.classes == NAMES
    assert {len(part.digest) for part in (train, validation, test)} == {64}
    assert isinstance(train.images, np.memmap)
    steps = train.preprocessing
    assert steps is not None
    assert not steps.colour
    assert steps.mean[0] <= train.images.mean() <= steps.mean[1]
    assert steps.ground == 0


def test_parts_of_the_source_are_kept_and_crossing_pictures_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "fruit" / "train", 60)
    for part, first in (("val", 60), ("test", 75)):
        for index in range(first, first + 15):
            folder = tmp_path / "fruit" / part / NAMES[index % 3]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(index)).save(folder / f"{index}.png")
    copy = tmp_path / "fruit" / "train" / NAMES[75 % 3] / "copy.bmp"
    Image.fromarray(pixels(75)).save(copy)
    output = run(tmp_path, str(tmp_path / "fruit"), "--size", "28x28", "--grey", "--name", "x")
    assert "1 pictures are copies of others" in output
    assert "1 pictures are in validation or test too" in output
    sizes = [len(part.images) for part in check_all("x", tmp_path)]
    assert sizes == [60, 15, 15]


def test_the_split_is_told_by_content(tmp_path: Path) -> None:
    class_folders(tmp_path / "a")
    for index in range(COUNT):  # the same pictures under other names, so in another order
        folder = tmp_path / "b" / NAMES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(index)).save(folder / f"{COUNT - index}.bmp")
    for name in ("a", "b"):
        run(tmp_path, str(tmp_path / name), "--size", "28x28", "--grey", "--name", f"set-{name}")
    for one, other in zip(splits("set-a", tmp_path), splits("set-b", tmp_path), strict=True):
        assert contents(one) == contents(other)


def test_tables_of_file_and_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "fruit")
    rows = [f"{NAMES[i % 3]}/{i}.png;{NAMES[i % 3]}\n" for i in range(COUNT)]
    (tmp_path / "fruit" / "table.csv").write_text("file;label\n" + "".join(rows))
    source = str(tmp_path / "fruit" / "table.csv")
    run(tmp_path, source, "--size", "28x28", "--grey", "--name", "mine")
    assert check_all("mine", tmp_path)[0].classes == NAMES


@pytest.mark.parametrize("kind", ["kaggle", "npy", "npz", "keras", "one"])
def test_arrays_with_labels_from_1_in_32_bits(tmp_path: Path, kind: str) -> None:
    images = np.stack([pixels(index) for index in range(COUNT)])
    labels = np.arange(COUNT, dtype=np.int32) % 3 + 1
    folder = tmp_path / "arrays"
    folder.mkdir()
    words: Sequence[str] = (str(folder),)
    match kind:
        case "kaggle":
            for part, rows in (("train", slice(0, 60)), ("t10k", slice(60, None))):
                write_idx(folder / f"{part}-images.idx3-ubyte", images[rows])
                head = b"\0\0\x0c\x01" + len(labels[rows]).to_bytes(4, "big")
                values = labels[rows].astype(">i4").tobytes()
                (folder / f"{part}-labels.idx1-ubyte").write_bytes(head + values)
        case "npy":
            np.save(folder / "images.npy", images / 255)
            np.save(folder / "labels.npy", labels)
        case "npz":
            np.savez(tmp_path / "a.npz", images=images, labels=labels)
            words = (str(tmp_path / "a.npz"),)
        case "keras":
            parts = {"x_train": images[:60], "y_train": labels[:60]}
            parts |= {"x_test": images[60:], "y_test": labels[60:]}
            np.savez(tmp_path / "a.npz", **parts)  # type: ignore[arg-type]
            words = (str(tmp_path / "a.npz"),)
        case "one":
            np.save(folder / "x.npy", images.astype(np.uint16) * 257)
            np.save(tmp_path / "y.npy", labels)
            words = (str(folder / "x.npy"), "--labels", str(tmp_path / "y.npy"))
    run(tmp_path, *words, "--size", "28x28", "--grey", "--name", "mine")
    train, _, test = check_all("mine", tmp_path)
    assert train.classes == ("1", "2", "3")
    if kind in ("kaggle", "keras"):
        assert len(test.images) == 30


MODULE = """
import numpy as np
from shared.data.sample import sample_digits

class Data:
    classes = ("apple", "pear", "plum")
    def __len__(self): return 90
    def __getitem__(self, index):
        digit = sample_digits()[0][index]
        return (digit / 255).astype(np.float32)[None], index % 3

def make(): return Data()
"""


@pytest.mark.parametrize("name", ["make", "Data"])
def test_a_dataset_by_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"own_{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    run(tmp_path, f"own_{name}:{name}", "--size", "28x28", "--grey", "--name", "mine")
    assert check_all("mine", tmp_path)[0].classes == NAMES


def test_larger_colour_pictures_are_scaled_as_asked(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for index in range(60):
        folder = tmp_path / "s" / NAMES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (48, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.jpg")
    run(tmp_path, str(tmp_path / "s"), "--size", "16x24", "--resize", "crop", "--name", "mine")
    train = load("mine", tmp_path, "train")
    assert train.images.shape[1:] == (16, 24, 3)
    assert train.preprocessing is not None
    assert train.preprocessing.resize == "crop"


WRONG = {
    "nowhere": (("nothing-here", "--size", "8x8"), "neither a folder"),
    "size": (("{folder}", "--size", "8"), "--size"),
    "name": (("{folder}", "--size", "8x8", "--name", "mnist"), "--name"),
    "resize": (("{folder}", "--size", "8x8", "--resize", "x"), "--resize"),
    "one class": (("{folder}/apple", "--size", "8x8"), "in no class folder"),
    "empty": (("{empty}", "--size", "8x8"), "at least two classes"),
    "module": (("no_module:thing", "--size", "8x8", "--name", "x"), "gives no Dataset"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_named_and_leave_nothing(tmp_path: Path, case: str) -> None:
    class_folders(tmp_path / "fruit")
    (tmp_path / "empty").mkdir()
    words, expected = WRONG[case]
    places = {"folder": str(tmp_path / "fruit"), "empty": str(tmp_path / "empty")}
    filled = [word.format(**places) for word in words]
    assert expected in run(tmp_path / "data", *filled, status=2)
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_a_data_set_is_not_overwritten_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    source = str(class_folders(tmp_path / "fruit"))
    words = (source, "--size", "28x28", "--grey", "--name", "mine")
    run(tmp_path, *words)
    assert "is there" in run(tmp_path, *words, status=2)
    path = tmp_path / "mine" / "dataset.json"
    document = json.loads(path.read_text())
    for text in ("", "{}", json.dumps({**document, "format": 9})):
        path.write_text(text)
        with pytest.raises(Exception, match="import the data again"):
            load("mine", tmp_path, "train")


class KilledError(Exception):
    """Instead of a kill."""


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_import_goes_on_to_the_same_data(
    tmp_path: Path, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = class_folders(tmp_path / "fruit")
    (source / "apple" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    target = Target(Shape(28, 28, 1), Preprocessing(colour=False))
    read: list[int] = []

    def items() -> Iterator[Item]:
        for number, item in enumerate(items_of(str(source), target)):

            def counted(item: Item = item, number: int = number) -> Bytes:
                read.append(number)
                return item.read()

            yield replace(item, read=counted)

    def kill(number: int) -> None:
        if number == 20:
            raise KilledError

    monkeypatch.setattr("cloud.training.data.gathering.FLUSHED", 1)
    whole = import_pictures(items(), target, tmp_path / "whole", (0.1, 0.2), threads=2)
    place = tmp_path / "killed"
    with pytest.raises(KilledError):
        import_pictures(items(), target, place, (0.1, 0.2), kill, threads=2)
    pixels = tmp_path / ".killed.part" / "pixels"
    pixels.write_bytes(pixels.read_bytes()[: -lost or None])  # the last had not reached the disk
    read.clear()
    again = import_pictures(items(), target, place, (0.1, 0.2), threads=2)
    assert min(read) == 20 - lost
    assert again == whole
    for name in ("dataset.json", "train-images.npy", "test-labels.npy"):
        ours, theirs = ((tmp_path / folder / name).read_bytes() for folder in ("killed", "whole"))
        assert ours.replace(b"killed", b"whole") == theirs
    assert not (tmp_path / ".killed.part").exists()
