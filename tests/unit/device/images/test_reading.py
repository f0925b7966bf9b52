"""Folders, arrays and streams as people have them: every image answered, the rest named."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from device.images.reading import Picture, Pictures, read_images, read_labels
from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.images.idx import write_idx
from shared.images.labels import Labels
from shared.images.labels import read_labels as read_label_file
from shared.model.architecture import Shape
from shared.model.preprocessing import DIGITS, PHOTOGRAPHS, Preprocessing

SHAPE = Shape(28, 28, 1)
COLOUR = Shape(32, 32, 3)
GREY = Preprocessing(colour=False)
IMAGES, LABELS = sample_digits()
NAMES = tuple("0123456789")


def pictures(*sources: Path, labels: Labels | None = None, shape: Shape = SHAPE) -> Pictures:
    steps = DIGITS if shape == SHAPE else PHOTOGRAPHS
    return Pictures(tuple(map(str, sources)), shape, steps, NAMES, labels)


def save(index: int, path: Path, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGES[index]).save(path, kind)
    return path


def same(found: list[Picture], indices: list[int]) -> bool:
    return [p.image.tobytes() for p in found] == [IMAGES[index].tobytes() for index in indices]


def test_files_come_in_natural_order_and_subfolders_after_them(tmp_path: Path) -> None:
    for index, name in enumerate(("10.png", "2.png", "1.png", "sub/1.png", "sub/deep/1.png")):
        save(index, tmp_path / name)
    found = list(pictures(tmp_path))
    assert [Path(p.name).relative_to(tmp_path).as_posix() for p in found] == [
        *("1.png", "2.png", "10.png", "sub/1.png", "sub/deep/1.png")
    ]
    assert same(found, [2, 1, 0, 3, 4])


def test_what_cannot_be_read_is_skipped_counted_and_named(tmp_path: Path) -> None:
    save(0, tmp_path / "a.png")
    save(1, tmp_path / "z.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7 of another system")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "nowhere.gif").symlink_to(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe.png")
    cut = save(2, tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY nonsense")
    source = pictures(tmp_path)
    assert same(list(source), [0, 1])
    bad = ("._a.png", "broken.npy", "cut.jpg", "empty.jpg", "folder.png", "loop.png")
    named = {Path(line.split(" ", 1)[0].rstrip(":")).name for line in source.skipped}
    assert named == {*bad, "nowhere.gif", "pipe.png"}
    assert all("\n" not in line for line in source.skipped)


def test_links_round_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    save(0, tmp_path / "sub" / "a.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    assert len(list(pictures(tmp_path))) == 1


def test_every_format_that_opens_as_a_file_opens_in_a_folder(tmp_path: Path) -> None:
    for index, kind in enumerate(("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")):
        save(index, tmp_path / f"without-ending-{kind}", kind)
    for index, ending in enumerate(("jfif", "jp2", "tga", "bmp", "ico", "pgm", "sgi", "pcx")):
        save(index, tmp_path / f"x.{ending}")
    np.save(tmp_path / "some.npy", IMAGES[:3])
    np.savez(tmp_path / "some.npz", images=IMAGES[:2])
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES[:4])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS[:4])
    (tmp_path / "README.txt").write_text("not an image")
    source = pictures(tmp_path)
    assert len(list(source)) == 6 + 8 + 3 + 2 + 4
    assert source.skipped == []


def test_class_folders_label_what_is_in_them(tmp_path: Path) -> None:
    for index in range(4):
        save(index, tmp_path / "test" / str(LABELS[index]) / f"{index}.png")
    assert sorted(p.label for p in pictures(tmp_path) if p.label is not None) == sorted(
        LABELS[:4].tolist()
    )
    save(4, tmp_path / "other" / "4.png")
    assert {p.label for p in pictures(tmp_path)} == {None}


@pytest.mark.parametrize("kind", ["npy", "idx", "order.txt", "csv", "heading.csv", "names.txt"])
def test_labels_of_every_kind(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "digits"
    for index in range(12):
        save(index, folder / f"{index}.png")
    path = tmp_path / f"labels.{kind}"
    known = LABELS[:12]
    match kind:
        case "npy":
            np.save(path, known.astype(np.int32))
        case "idx":
            write_idx(path, known)
        case "order.txt":
            path.write_text("".join(f"{label}\n" for label in known))
        case "csv":
            path.write_text("".join(f"digits/{i}.png,{known[i]}\n" for i in reversed(range(12))))
        case "heading.csv":
            rows = (f"{known[i]};x;{i}.png\n" for i in range(12))
            path.write_text("label;other;filename\n" + "".join(rows))
        case "names.txt":
            path.write_text("".join(f"{i}.png {known[i]}\n" for i in range(12)))
    found = list(pictures(folder, labels=read_label_file(path, "--labels")))
    assert [p.label for p in found] == known.tolist()


def test_labels_in_order_count_what_was_skipped(tmp_path: Path) -> None:
    for index in range(3):
        save(index, tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    found = list(pictures(tmp_path, labels=Labels(in_order=["5", "6", "7"])))
    assert [p.label for p in found] == [5, 7]
    with pytest.raises(ImageError, match="holds 2 labels; 3 are needed"):
        list(pictures(tmp_path, labels=Labels(in_order=["5", "6"])))


DIGIT = IMAGES[:5]
LAYOUTS = {
    "N H W": DIGIT,
    "N H W 1": DIGIT[:, :, :, None],
    "N 1 H W": DIGIT[:, None],
    "rows": DIGIT.reshape(5, 784),
    "N H W 3": np.repeat(DIGIT[:, :, :, None], 3, axis=3),
    "N 3 H W": np.repeat(DIGIT[:, None], 3, axis=1),
    "RGBA": np.concatenate(
        [np.repeat(DIGIT[:, :, :, None], 3, axis=3), np.full((5, 28, 28, 1), 255, np.uint8)], -1
    ),
    "fortran": np.asfortranarray(DIGIT),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        *(("u1", 1), (">u2", 257), ("<u2", 16), ("u2", 1), ("i2", 1), (">i4", 1), ("i8", 257)),
        *(("f2", 1), ("f4", 1 / 255), (">f8", 1 / 255), ("f8", 1), ("u4", 257)),
    ],
)
def test_arrays_of_every_common_type_and_layout(
    tmp_path: Path, layout: str, dtype: str, factor: float
) -> None:
    values = LAYOUTS[layout].astype(np.float64) * factor
    np.save(tmp_path / "x.npy", values.astype(dtype))
    found = list(pictures(tmp_path / "x.npy"))
    assert len(found) == 5
    for one, digit in zip(found, DIGIT, strict=True):
        # 2: 255 * 16 is not quite the largest value of 12 bits, so the alpha is not quite opaque
        assert np.abs(one.image[:, :, 0].astype(int) - digit).max() <= 2


def test_masks_of_0_and_1_and_of_truth_values(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.bool_, np.int64, np.float32):
        np.save(tmp_path / "x.npy", (DIGIT > 96).astype(dtype))
        source = pictures(tmp_path / "x.npy")
        found = list(source)
        assert {int(v) for v in np.unique(found[0].image)} == {0, 255}
        assert set(source.notes.values()) <= {len(DIGIT)}  # what was done, to how many images


REFUSED: dict[str, npt.NDArray[np.generic]] = {
    "negative": DIGIT.astype(np.int16) - 5,
    "normalised": DIGIT / 127.5 - 1,
    "not finite": np.full((2, 28, 28), np.nan),
    "complex": DIGIT.astype(np.complex64),
    "text": np.array(["a"]),
    "nothing": np.zeros((0, 28, 28), np.uint8),
    "five axes": np.zeros((1, 1, 28, 28, 1), np.uint8),
    "picture or rows": np.zeros((784, 784), np.uint8),
    "images on the last axis": np.moveaxis(DIGIT, 0, -1),
    "a range of its own": DIGIT.astype(np.uint32) * 70_000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_can_be_read_in_two_ways_or_none_are_refused(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "x.npy", REFUSED[name])
    with pytest.raises(ImageError, match=r"--input: .*x\.npy"):
        list(pictures(tmp_path / "x.npy"))


def test_colour_arrays_for_a_colour_model(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for array in (images, images.transpose(0, 3, 1, 2), images[0], images[0].transpose(2, 0, 1)):
        np.save(tmp_path / "x.npy", array)
        found = list(pictures(tmp_path / "x.npy", shape=COLOUR))
        assert len(found) == (1 if array.ndim == 3 else 4)
        assert np.array_equal(found[0].image, images[0])
    np.save(tmp_path / "x.npy", images.reshape(4, -1))
    with pytest.raises(ImageError, match="shape"):  # planes or pixels first cannot be told
        list(pictures(tmp_path / "x.npy", shape=COLOUR))


def test_pictures_one_after_the_other_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def data(index: int, kind: str) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(IMAGES[index]).resize((60, 60)).save(buffer, kind)
        return buffer.getvalue()

    kinds = ("PNG", "JPEG", "PNG", "JPEG", "BMP")
    stream = b"".join(data(index, kind) for index, kind in enumerate(kinds))
    (tmp_path / "stream").write_bytes(stream)
    with (tmp_path / "stream").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert len(list(pictures(Path("-")))) == 5


def test_several_sources_and_one_that_is_missing(tmp_path: Path) -> None:
    one, two = save(0, tmp_path / "a.png"), save(1, tmp_path / "b" / "b.png")
    assert same(list(pictures(one, two.parent)), [0, 1])
    source = pictures(one, tmp_path / "missing.png")
    assert same(list(source), [0])
    assert len(source.skipped) == 1
    with pytest.raises(ImageError, match=r"--input: .*missing.png cannot be read"):
        list(pictures(tmp_path / "missing.png"))


def test_images_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    page = Image.new("L", (2000, 1500), 250)
    for index in range(6):
        page.save(tmp_path / f"{index}.jpg")
    tracemalloc.start()
    try:
        coming = iter(Pictures((str(tmp_path),), SHAPE, GREY))
        next(coming)
        first = tracemalloc.get_traced_memory()[1]
        assert len(list(coming)) == 5
        assert tracemalloc.get_traced_memory()[1] < 2 * first
    finally:
        tracemalloc.stop()


def test_arrays_as_a_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES[:7])
    np.save(tmp_path / "y.npy", LABELS[:7])
    assert np.array_equal(read_images(str(tmp_path / "x.npy"), SHAPE).images[..., 0], IMAGES[:7])
    assert read_labels(tmp_path / "y.npy", 7).tolist() == LABELS[:7].tolist()
    with pytest.raises(ImageError, match=r"--labels: .*7 labels"):
        read_labels(tmp_path / "y.npy", 8)
