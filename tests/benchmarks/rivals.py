"""Rivals: ways to send the compressed image itself instead of features.

A rival encodes images to payloads and decodes them to the images that the cloud would see. Lossless
rivals share one classifier; every lossy one is judged by a classifier that was trained on its own
output.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from PIL import Image

from cloud.training.split.context import ContextSettings, train_context
from shared.model.architecture import Architecture, Kind, Shape, Stage
from shared.model.bits import pack
from shared.protocol.codec import COMPRESSION_LEVEL
from shared.protocol.context_coder import context_coder
from shared.protocol.context_model import BIAS, WEIGHT, ContextModel

Images = npt.NDArray[np.uint8]  # (N, H, W, C)

DICTIONARY_BYTES = 16 * 1024  # more than a device would store, in favour of the rival
DICTIONARY_IMAGES = 20_000
CONTEXT_IMAGES = 12_000
MAGIC_BYTES = 4  # the magic number of a zstd frame, which our own protocol would leave out


@dataclass(frozen=True)
class Rival:
    """A way to send an image.

    ``view`` names the images that the cloud decodes; rivals with the same view share a classifier.
    ``payload_bytes`` is (N, H, W, C) -> bytes of each image.
    """

    name: str
    view: str
    payload_bytes: Callable[[Images], list[int]]


def _picture(image: Images) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _file(image: Images, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    _picture(image).save(stream, kind, **options)
    return stream.getvalue()


def _file_sizes(kind: str, **options: Any) -> Callable[[Images], list[int]]:
    return lambda images: [len(_file(image, kind, **options)) for image in images]


def lossy(images: Images, kind: str, quality: int) -> Images:
    """Return ``images`` after compression at ``quality`` and decompression, same shape."""
    mode = "L" if images.shape[-1] == 1 else "RGB"
    decoded = [
        np.asarray(Image.open(io.BytesIO(_file(image, kind, quality=quality))).convert(mode))
        for image in images
    ]
    return np.stack(decoded).reshape(images.shape)


def one_bit(images: Images, side: int) -> npt.NDArray[np.bool_]:
    """Threshold at half brightness, at ``side`` x ``side``: (N, H, W, C) -> (N, s, s, 1)."""
    grey = images.astype(np.float32).mean(axis=-1)
    count, height, width = grey.shape
    if side < height:
        # (N, H, W) -> (N, s, H / s, s, W / s) -> (N, s, s)
        grey = grey.reshape(count, side, height // side, side, width // side).mean(axis=(2, 4))
    return np.asarray(grey[..., None] >= 128)


def _one_bit_architecture(side: int) -> Architecture:
    """Make a network whose device part sends one bit per pixel; only its shapes are used."""
    return Architecture(
        name="one-bit",
        input_shape=Shape(side, side, 1),
        classes=2,
        device=(Stage("threshold", Kind.IMAGE_CONV, 1, 1, step=1),),
        cloud=(Stage("classify", Kind.BINARY_LINEAR, 1, 2),),
        device_levels=(1.0,),
        cloud_levels=(1.0,),
    )


def _zstd_sizes(train: Sequence[bytes], dictionary: bool) -> Callable[[Sequence[bytes]], list[int]]:
    trained = (
        zstandard.train_dictionary(DICTIONARY_BYTES, list(train), level=COMPRESSION_LEVEL)
        if dictionary
        else None
    )
    compressor = zstandard.ZstdCompressor(
        level=19, dict_data=trained, write_content_size=False, write_dict_id=False
    )
    return lambda rows: [len(compressor.compress(row)) - MAGIC_BYTES for row in rows]


def zstd_rival(train: Images, dictionary: bool) -> Rival:
    """Make the rival that sends the pixels in a zstd frame, perhaps with a trained dictionary."""
    sizes = _zstd_sizes([image.tobytes() for image in train[:DICTIONARY_IMAGES]], dictionary)
    name = "zstd + dictionary" if dictionary else "zstd"
    return Rival(name, "image", lambda images: sizes([image.tobytes() for image in images]))


def one_bit_zstd_rival(train: Images, side: int) -> Rival:
    """Make the rival that sends the thresholded image in a zstd frame with a dictionary."""

    def rows(images: Images) -> list[bytes]:
        bits = one_bit(images, side)
        return [row.tobytes() for row in pack(bits.reshape(len(bits), -1))]

    sizes = _zstd_sizes(rows(train[:DICTIONARY_IMAGES]), dictionary=True)
    name = f"1-bit {side}x{side}, zstd + dictionary"
    return Rival(name, f"one-bit-{side}", lambda images: sizes(rows(images)))


def one_bit_context_rival(train: Images, side: int) -> Rival:
    """Make the rival that codes the thresholded image with our context coder, trained for it."""
    architecture = _one_bit_architecture(side)
    bits = one_bit(train[:CONTEXT_IMAGES], side)
    rows = pack(bits.reshape(len(bits), -1))
    tensors = train_context([rows], architecture, ContextSettings())
    model = ContextModel(architecture, tensors[WEIGHT], tensors[BIAS])  # type: ignore[arg-type]
    coder = context_coder(model.tables(0))

    def sizes(images: Images) -> list[int]:
        sent = pack(one_bit(images, side).reshape(len(images), -1))
        return [len(coder.encode(row[None], 16 * row.nbytes) or b"") for row in sent]

    return Rival(f"1-bit {side}x{side}, context coder", f"one-bit-{side}", sizes)


def rivals(train: Images, qualities: Sequence[int]) -> list[Rival]:
    """Make all rivals for such images; ``qualities`` are those of the lossy ones."""
    side = train.shape[1]
    made = [
        Rival("PNG", "image", _file_sizes("PNG", optimize=True)),
        Rival("WebP lossless", "image", _file_sizes("WEBP", lossless=True, quality=100, method=6)),
        zstd_rival(train, dictionary=False),
        zstd_rival(train, dictionary=True),
        one_bit_zstd_rival(train, side),
        one_bit_context_rival(train, side),
        one_bit_context_rival(train, side // 2),
    ]
    for kind in ("WEBP", "JPEG"):
        made += [
            Rival(f"{kind} q{q}", f"{kind.lower()}-{q}", _file_sizes(kind, quality=q))
            for q in qualities
        ]
    return made


def view(name: str, images: Images) -> Images:
    """Return ``images`` as the cloud decodes them in the view ``name``."""
    kind, _, number = name.rpartition("-")
    if kind in ("webp", "jpeg"):
        return lossy(images, kind.upper(), int(number))
    if kind == "one-bit":
        bits = one_bit(images, int(number))
        return np.where(bits, np.uint8(255), np.uint8(0))
    return images
