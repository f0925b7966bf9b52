"""Digits in every way that pictures come in: right, or said to be wrong."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.images.pictures import prepare_file
from shared.images.ready import Prepared
from shared.model.architecture import Shape
from shared.model.preprocessing import DIGITS, GARMENTS, PHOTOGRAPHS, Changes, Preprocessing
from tests.support.classifying import classify

Digit = npt.NDArray[np.uint8]
SHAPE = Shape(28, 28, 1)
COLOUR = Shape(32, 32, 3)
IMAGES, LABELS = sample_digits()
CHOSEN = np.array([np.flatnonzero(label == LABELS)[0] for label in range(10)])
DIGITS_SHOWN, CLASSES = IMAGES[CHOSEN], LABELS[CHOSEN]
ORIENTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def prepared(data: bytes, steps: Preprocessing = DIGITS, shape: Shape = SHAPE) -> Prepared:
    return prepare_file(data, "x", shape, steps)


def right(save: Callable[[Digit], bytes], steps: Preprocessing = DIGITS) -> int:
    """How many of ten digits are recognised."""
    images = [prepared(save(digit), steps).image for digit in DIGITS_SHOWN]
    return int((classify(images) == CLASSES).sum())


def png(
    values: npt.NDArray[np.generic], depth: int, kind: int, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG by hand: ``values`` (H, W, channels), big-endian, with chunks before the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = values.shape[:2]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    extra = b"".join(chunk(*one) for one in chunks)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + body


LOSSLESS = ("PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "TGA", "PCX", "SGI", "QOI", "ICO")
MODES = ("L", "RGB", "RGBA", "LA", "P", "1", "CMYK")


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", "JPEG2000"])
@pytest.mark.parametrize("mode", MODES)
def test_every_format_in_every_mode_on_either_ground(kind: str, mode: str) -> None:
    known: dict[str, dict[str, object]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 95},
        "ICO": {"sizes": [(28, 28)]},
    }
    options = known.get(kind, {})

    def save(digit: Digit, inverted: bool) -> bytes:
        image = Image.fromarray(255 - digit if inverted else digit)
        if mode == "CMYK":
            image = image.convert("RGB")
        return saved(image.convert(mode), kind, **options)

    try:
        save(DIGITS_SHOWN[0], False)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"{kind} has no mode {mode}")
    for inverted in (False, True):
        assert right(lambda digit: save(digit, inverted)) == 10, inverted  # noqa: B023


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_is_as_the_network_knows_it_passes_bit_for_bit(kind: str, mode: str) -> None:
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    for digit in DIGITS_SHOWN:
        result = prepared(saved(Image.fromarray(digit).convert(mode), kind, **options))
        assert np.array_equal(result.image[:, :, 0], digit)
        assert not result.scaled
        assert result.notes == ()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("inverted", [False, True])
def test_pictures_are_turned_upright(kind: str, orientation: int, inverted: bool) -> None:
    turn = ORIENTATIONS[orientation]

    def save(digit: Digit) -> bytes:
        image = Image.fromarray(255 - digit if inverted else digit)
        exif = Image.Exif()
        exif[0x112] = orientation
        lying = image if turn is None else image.transpose(turn)
        options: dict[str, dict[str, object]] = {
            "JPEG": {"quality": 95},
            "WEBP": {"lossless": True},
        }
        return saved(lying, kind, exif=exif, **options.get(kind, {}))

    assert right(save) == 10


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 10, 12, 16])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_png_of_every_depth(depth: int, inverted: bool, declared: bool, kind: int) -> None:
    if depth == 10 and not declared:
        pytest.skip("10 bits in 16 look like 12 bits unless the file says so")
    if depth < 8 and kind:
        pytest.skip("not in PNG")
    stored = depth if depth <= 8 else 16
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]

    def save(digit: Digit) -> bytes:
        values = np.rint((255 - digit if inverted else digit) / 255 * (2**depth - 1)).astype(">u2")
        if stored < 8:
            bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -stored:]
            rows = np.packbits(bits.reshape(28, -1), axis=1)
            return _packed_png(rows, stored)
        pixels = np.repeat(values[:, :, None], channels, axis=2)
        if kind in (4, 6):
            pixels[:, :, -1] = 2**stored - 1
        significant = bytes([depth] * channels)
        extra = [(b"sBIT", significant)] if declared else []
        return png(pixels.astype(">u2" if stored == 16 else np.uint8), stored, kind, *extra)

    assert right(save) == 10


def _packed_png(rows: npt.NDArray[np.uint8], depth: int) -> bytes:
    head = bytearray(png(rows[:, :, None], 8, 0))
    struct.pack_into(">IIBB", head, 16, 28, 28, depth, 0)
    struct.pack_into(">I", head, 29, zlib.crc32(head[12:29]))
    return bytes(head)


@pytest.mark.parametrize("white", [255, 4095, 65535])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_16_bits(white: int, order: str, channels: int) -> None:
    def save(digit: Digit) -> bytes:
        values = np.rint(digit / 255 * white).astype(f"{order}u2")
        return tiff(np.repeat(values[:, :, None], channels, axis=2), order)

    assert right(save) == 10


def tiff(pixels: npt.NDArray[np.generic], order: str, **tags: int) -> bytes:
    """An uncompressed TIFF by hand: (H, W, C) of 16 bits."""
    height, width, channels = pixels.shape
    known = {256: width, 257: height, 258: 16, 259: 1, 262: 2 if channels == 3 else 1}
    known |= {273: 0, 277: channels, 278: height, 279: pixels.nbytes}
    known |= {int(name[1:]): value for name, value in tags.items()}
    end = 8 + 2 + 12 * len(known) + 4
    extra = b""
    if channels == 3:
        extra = struct.pack(f"{order}HHH", 16, 16, 16)
    known[273] = end + len(extra)
    entries = b""
    for tag in sorted(known):
        count, value = (3, end) if tag == 258 and channels == 3 else (1, known[tag])
        entries += struct.pack(
            f"{order}HHII" if tag in (273, 279) or count == 3 else f"{order}HHIHxx",
            tag,
            3 if tag not in (273, 279) else 4,
            count,
            value,
        )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return (
        head + struct.pack(f"{order}H", len(known)) + entries + bytes(4) + extra + pixels.tobytes()
    )


def test_tiff_whose_white_is_zero_and_one_that_declares_its_largest_value() -> None:
    def reversed_tiff(digit: Digit) -> bytes:
        values = (65535 - digit.astype(np.uint16) * 257).astype("<u2")
        return tiff(values[:, :, None], "<", t262=0)

    def declared(digit: Digit) -> bytes:
        return tiff((digit.astype("<u2") * 4)[:, :, None], "<", t281=1020)

    assert right(reversed_tiff) == 10
    assert right(declared) == 10


@pytest.mark.parametrize("largest", [15, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_portable_maps_by_their_declared_largest_value(largest: int, magic: bytes) -> None:
    def save(digit: Digit) -> bytes:
        values = np.rint(digit / 255 * largest).astype(">u2" if largest > 255 else np.uint8)
        repeats = 3 if magic == b"P6" else 1
        pixels = np.repeat(values[:, :, None], repeats, axis=2)
        return magic + b"\n28 28\n%d\n" % largest + pixels.tobytes()

    assert right(save) == 10


def test_colour_of_12_bits_in_portable_maps_of_16() -> None:
    def save(digit: Digit) -> bytes:
        values = np.repeat((digit.astype(">u2") * 16)[:, :, None], 3, axis=2)
        return b"P6\n28 28\n65535\n" + values.tobytes()

    assert right(save) == 10


@pytest.mark.parametrize(
    ("dtype", "white"), [("f4", 1.0), ("f4", 255.0), ("i4", 255), ("i4", 65535)]
)
@pytest.mark.parametrize("inverted", [False, True])
def test_numbers_of_32_bits(dtype: str, white: float, inverted: bool) -> None:
    def save(digit: Digit) -> bytes:
        values = (255 - digit if inverted else digit) / 255 * white
        return saved(Image.fromarray(values.astype(dtype)), "TIFF")

    assert right(save) == 10


@pytest.mark.parametrize("ink", [0, 40, 128, 200, 255])
@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_strokes_on_a_clear_ground(ink: int, ground: int, mode: str, kind: str) -> None:
    def save(digit: Digit) -> bytes:
        grey = np.where(digit > 0, ink, ground).astype(np.uint8)
        image = Image.merge(
            mode, [*[Image.fromarray(grey)] * (len(mode) - 1), Image.fromarray(digit)]
        )
        return saved(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))

    if kind == "WEBP" and mode == "LA":
        pytest.skip("WebP has no grey")
    assert right(save) == 10


@pytest.mark.parametrize("size", [(40, 40), (640, 480), (300, 600), (1600, 1200)])
@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("place", ["middle", "corner"])
def test_digits_on_a_page(size: tuple[int, int], dark: bool, place: str) -> None:
    side = min(size) if place == "middle" and min(size) < 100 else min(size) * 2 // 5
    width, height = size
    noise = np.random.default_rng(1).normal(0, 4, (height, width))  # the same for all digits

    def save(digit: Digit) -> bytes:
        x, y = ((width - side) // 2, (height - side) // 2) if place == "middle" else (width // 2, 4)
        paper = 225 + 20 * np.linspace(-1, 1, width)[None, :] + noise
        ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))
        paper[y : y + side, x : x + side] -= ink * (190 / 255)
        page = paper.clip(0, 255).astype(np.uint8)
        return saved(Image.fromarray(page if dark else 255 - page), "JPEG", quality=90)

    assert right(save) >= 9


def test_a_shadow_across_the_page_is_not_ink() -> None:
    def save(digit: Digit) -> bytes:
        page = np.full((480, 640), 230.0)
        page[140:340, 120:320] -= np.asarray(Image.fromarray(digit).resize((200, 200))) * 0.75
        page[:, 400:] *= 0.6
        soft = Image.fromarray(page.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
        return saved(soft, "JPEG", quality=85)

    assert right(save) >= 9


def test_strokes_of_a_thin_pen_become_as_wide_as_those_of_the_training_digits() -> None:
    def save(digit: Digit) -> bytes:
        large = Image.fromarray(digit).resize((560, 560), Image.Resampling.BICUBIC)
        page = Image.new("L", (1200, 900), 240)
        ink = large.point(lambda v: 255 * (v > 127)).filter(ImageFilter.MinFilter(23))
        page.paste(30, (300, 150), ink.filter(ImageFilter.MaxFilter(5)))
        return saved(page, "PNG")

    assert right(save) >= 8


def test_invert_crop_and_resize_override_the_model() -> None:
    digit = DIGITS_SHOWN[3]
    page = Image.new("L", (200, 100), 0)
    page.paste(Image.fromarray(digit), (150, 40))
    part = Changes(crop=(150, 40, 28, 28)).apply(DIGITS)
    assert np.array_equal(prepared(saved(page, "PNG"), part).image[:, :, 0], digit)
    inverted = Changes(invert=True).apply(DIGITS)
    data = saved(Image.fromarray(255 - digit), "PNG")
    assert np.array_equal(prepared(data, inverted).image[:, :, 0], digit)
    whole = Changes(resize="stretch").apply(DIGITS)
    assert prepared(saved(page, "PNG"), whole).image.sum() < digit.sum()
    with pytest.raises(ImageError, match=r"x is 200x100; the part .* is outside"):
        prepared(saved(page, "PNG"), replace(DIGITS, crop=(190, 0, 28, 28)))


@pytest.mark.parametrize(("resize", "left"), [("stretch", 0), ("fit", 100), ("crop", 255)])
def test_pictures_of_another_aspect(resize: str, left: int) -> None:
    wide = Image.new("RGB", (200, 100), (255, 255, 255))
    wide.paste((0, 0, 0), (0, 0, 50, 100))
    steps = replace(PHOTOGRAPHS, resize=resize, ground=100)
    image = prepared(saved(wide, "PNG"), steps, COLOUR).image
    assert image.shape == (32, 32, 3)
    assert abs(int(image[0 if resize == "fit" else 16, 1, 0]) - left) < 10


def test_colour_at_a_grey_model_and_strange_pictures_are_said() -> None:
    red = saved(Image.new("RGB", (64, 64), (220, 30, 40)), "PNG")
    notes = " ".join(prepared(red, Preprocessing(colour=False, mean=(0, 50))).notes)
    assert "in colour; this model sees grey" in notes
    assert "far darker or lighter" in notes
    assert "no ink stands out" in " ".join(prepared(red).notes)
    two = [Image.new("L", (28, 28)), Image.fromarray(DIGITS_SHOWN[0])]
    animated = saved(two[1], "GIF", save_all=True, append_images=two[:1])
    assert "several frames" in " ".join(prepared(animated).notes)


def test_garments_on_white_become_light_on_black_with_their_proportions() -> None:
    shirt = Image.new("L", (60, 120), 255)
    shirt.paste(60, (10, 10, 50, 110))
    image = prepared(saved(shirt, "PNG"), GARMENTS).image[:, :, 0]
    assert image[14, 14] == 255 - 60
    assert image[:, :6].max() == 0


def test_large_jpegs_are_decoded_small_but_upright() -> None:
    page = Image.new("L", (4000, 3000), 240)
    digit = Image.fromarray(DIGITS_SHOWN[7]).resize((1400, 1400))
    page.paste(20, (1000, 800), digit)
    exif = Image.Exif()
    exif[0x112] = 6
    lying = page.transpose(Image.Transpose.ROTATE_90)
    image = prepared(saved(lying, "JPEG", exif=exif, quality=85)).image
    assert classify([image]) == CLASSES[7]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF"])
def test_what_is_no_picture_is_one_error(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x is not an image that can be read") as caught:
        prepared(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_files_are_errors_and_nothing_else(kind: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            prepared(data[: int(len(data) * share)])


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, 1.5], [0, np.nan], [0, np.inf], [0, 1e6]])
def test_numbers_of_no_known_range_are_refused(values: list[float]) -> None:
    data = saved(Image.fromarray(np.array([values], np.float32)), "TIFF")
    with pytest.raises(ImageError, match=r"0\.\.1, 0\.\.255"):
        prepared(data)


def test_damaged_metadata_do_not_hide_the_pixels() -> None:
    data = bytearray(saved(Image.fromarray(DIGITS_SHOWN[2]), "PNG", exif=b"Exif\0\0nonsense"))
    assert np.array_equal(prepared(bytes(data)).image[:, :, 0], DIGITS_SHOWN[2])
