"""Measures the real client on digits in many formats, and on a folder of large photographs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.data.sample import sample_digits
from tests.support.processes import ROOT, environment

Digit = npt.NDArray[np.uint8]
Save = Callable[[Digit, Path], None]
DIGITS_EACH = 2
PHOTOGRAPHS = 200
PHOTOGRAPH_SIZE = (4000, 3000)


def grey(digit: Digit) -> Image.Image:
    """Return the digit as a picture."""
    return Image.fromarray(digit)


def write_numbers(scale: float, dtype: str, digit: Digit, path: Path) -> None:
    """Write the digit in grey with another number of bits."""
    Image.fromarray((digit.astype(np.float64) * scale).astype(dtype)).save(path)


def write_clear(ink: int, ground: int, mode: str, digit: Digit, path: Path) -> None:
    """Write strokes of one colour on a transparent ground of another."""
    colour = Image.fromarray(np.where(digit > 0, ink, ground).astype(np.uint8))
    Image.merge(mode, [*[colour] * (len(mode) - 1), grey(digit)]).save(path)


def write_turned(orientation: int, turn: Image.Transpose, digit: Digit, path: Path) -> None:
    """Write a rotated JPEG whose EXIF data give the orientation."""
    exif = Image.Exif()
    exif[0x112] = orientation
    grey(digit).transpose(turn).save(path, quality=95, exif=exif)


def write_page(size: tuple[int, int], side: int, digit: Digit, path: Path) -> None:
    """Write the digit in dark ink on a noisy, unevenly lit page."""
    width, height = size
    noise = np.random.default_rng(1).normal(0, 4, (height, width))
    page = 225 + 15 * np.linspace(-1, 1, width)[None, :] + noise
    y, x = (height - side) // 2, (width - side) // 2
    page[y : y + side, x : x + side] -= np.asarray(grey(digit).resize((side, side))) * (190 / 255)
    Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def write_palette(ground: int, digit: Digit, path: Path) -> None:
    """Write a palette of two colours, of which that of the ground is transparent."""
    image = Image.fromarray((digit > 96).astype(np.uint8), "P")
    image.putpalette([ground] * 3 + [255] * 3)
    image.save(path, transparency=0)


def write_as(mode: str, digit: Digit, path: Path) -> None:
    """Write the digit in a mode of Pillow, in the format of the path's suffix."""
    image = grey(digit).convert("RGB") if mode == "CMYK" else grey(digit)
    image.convert(mode).save(path)


def write_frames(digit: Digit, path: Path) -> None:
    """Write a file of two frames: the digit and another picture."""
    grey(digit).save(path, save_all=True, append_images=[Image.new("L", (28, 28))])


CASES: Mapping[str, tuple[str, Save]] = {
    **{f"{mode}-{end}": (end, partial(write_as, mode))
       for mode, ends in {"L": "png bmp jpg webp tif pgm jp2", "RGB": "ppm tga", "P": "png gif",
                          "1": "png tif", "RGBA": "png webp", "LA": "png", "CMYK": "jpg"}.items()
       for end in ends.split()},
    **{f"clear-{mode}-{ink}-on-{ground}": ("png", partial(write_clear, ink, ground, mode))
       for mode in ("LA", "RGBA") for ink in (0, 255) for ground in (0, 255)},
    **{f"palette-{ground}": ("png", partial(write_palette, ground)) for ground in (0, 255)},
    **{f"{dtype}-{scale:.3g}-{end}": (end, partial(write_numbers, scale, dtype))
       for dtype, scale, end in (("u2", 257, "png"), ("u2", 16, "png"), ("u2", 257, "tif"),
                                 ("i4", 257, "tif"), ("f4", 1, "tif"), ("f4", 1 / 255, "tif"))},
    **{f"turned-{number}": ("jpg", partial(write_turned, number, turn))
       for number, turn in ((6, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_180),
                            (8, Image.Transpose.ROTATE_270))},
    **{f"page-{width}x{height}": ("jpg", partial(write_page, (width, height), side))
       for width, height, side in ((40, 40, 40), (640, 480, 200), (300, 600, 220))},
    "frames-gif": ("gif", write_frames),
    "frames-tif": ("tif", write_frames),
    "dark-on-light": ("png", lambda digit, path: grey(255 - digit).save(path)),
}  # fmt: skip


def write_cases(folder: Path) -> None:
    """Write every case as a folder of class folders."""
    images, labels = sample_digits()
    for name, (ending, save) in CASES.items():
        for label in range(10):
            place = folder / name / str(label)
            place.mkdir(parents=True)
            for number in np.flatnonzero(labels == label)[:DIGITS_EACH]:
                save(images[number], place / f"{number}.{ending}")


def wrong_answers(model: str, server: str, folder: Path) -> tuple[int, dict[str, int]]:
    """Return the number of pictures with no or a different answer, in all and by case."""
    command = [sys.executable, "-m", "device.client", "--server", server, "--model", model]
    command += ["--fraction", "1.0", "--no-exit", "--output", "json", "--input", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    paths = {path for path in folder.rglob("*") if path.is_file()}
    right = {
        Path(sample["input"])
        for sample in json.loads(done.stdout or '{"samples": []}')["samples"]
        if sample["class_name"] == Path(sample["input"]).parent.name
    }
    wrong = Counter(path.parts[len(folder.parts)] for path in paths - right)
    return sum(wrong.values()), dict(wrong)


def write_photographs(folder: Path) -> None:
    """Write two hundred JPEGs of 12 megapixels, with eight different contents."""
    random = np.random.default_rng(2)
    images = sample_digits()[0]
    contents = []
    for number in range(8):
        coarse = random.integers(200, 250, (30, 40), dtype=np.uint8)
        page = Image.fromarray(coarse).resize(PHOTOGRAPH_SIZE, Image.Resampling.BICUBIC)
        ink = grey(images[number]).resize((1500, 1500), Image.Resampling.BICUBIC)
        page.paste(25, (1200, 700), ink)
        path = folder / f"{number}.jpg"
        page.convert("RGB").save(path, quality=85)
        contents.append(path.read_bytes())
    for number in range(8, PHOTOGRAPHS):
        (folder / f"{number}.jpg").write_bytes(contents[number % 8])
