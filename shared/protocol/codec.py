"""Encode packed bits of a level to a payload, and decode it.

The encoder uses the smallest of the encodings for which the bundle has tables. The decoder knows
the exact size of its output from the level and the number of samples, and allocates no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from shared.errors import BundleError, InvalidRequestError
from shared.model.architecture import Architecture
from shared.model.bits import unused_bits_are_zero
from shared.model.bundle import Bundle
from shared.protocol.context_coder import (
    ContextCoder,
    ContextDecoder,
    ReferenceCoder,
    context_coder,
)
from shared.protocol.context_model import LEAST_BITS, TAIL_BYTES, context_model

DICTIONARY = "zstd"  # name of the dictionary's tensor in a bundle
# For frames this small, level 19 takes twice as long and saves only 1-3 % of the bytes.
COMPRESSION_LEVEL = 7
# First byte of a zstd frame without optional fields (sizes, checksum, dictionary id). Only such
# frames are decoded, since for others zstd would allocate any size that the frame declares.
PLAIN_FRAME = b"\0"
LARGEST_WINDOW_BYTES = 2**20  # memory that decoding may use besides its output
# Most samples in a frame; limits the memory that a request can make a receiver allocate.
LARGEST_BATCH = 1024
# A coded payload may be larger than the raw bits by this much; larger ones are not even decoded.
PAYLOAD_SLACK_BYTES = 64
# A bit of the context model's smallest probability takes less than 12 bits.
LARGEST_EXPANSION = 16

Features = npt.NDArray[np.uint8]  # (B, packed bytes of the level)


class Encoding(IntEnum):
    """The encodings of payloads; the values are those on the wire."""

    RAW = 1
    ZSTD_DICT = 2
    CONTEXT = 3


class Frame(NamedTuple):
    """Encoded samples of one level."""

    level: int
    samples: int
    encoding: int  # an ``Encoding``, but unchecked in received frames
    payload: bytes


class FeatureCodec:
    """Encoder and decoder for the bits of one model. Not thread-safe.

    ``kernel`` names an implementation of the context coder, as for ``DeviceHalf``; all give the
    same bytes. Raises ``BundleError`` if tables of the bundle are invalid.
    """

    def __init__(self, bundle: Bundle, kernel: str | None = None) -> None:
        self._architecture: Architecture = bundle.architecture
        model = context_model(bundle)
        self._levels = [
            _Level(
                size=self._architecture.sent_shape(index).packed_bytes,
                bits=self._architecture.sent_shape(index).size,
                zstd=_zstd(bundle, index),
                context=None if model is None else context_coder(model.tables(index), kernel),
            )
            for index in range(len(self._architecture.device_levels))
        ]

    def encode(self, features: Features, level: int) -> Frame:
        """Return the smallest frame for packed samples (B, packed bytes of the level).

        If the bundle has a context model, zstd is only tried when the context model saves nothing.
        """
        at = self._levels[level]
        if at.context is not None:
            payload = at.context.encode(features, features.nbytes)
            if payload is not None:
                return Frame(level, len(features), Encoding.CONTEXT, payload)
        raw = features.tobytes()
        if at.zstd is not None:
            payload = at.zstd.compress(raw)
            if len(payload) < len(raw):
                return Frame(level, len(features), Encoding.ZSTD_DICT, payload)
        return Frame(level, len(features), Encoding.RAW, raw)

    def encode_as(self, features: Features, level: int, encoding: Encoding) -> Frame:
        """Return the frame in one encoding; ``ValueError`` if the bundle lacks its tables."""
        at = self._levels[level]
        if encoding is Encoding.RAW:
            return Frame(level, len(features), encoding, features.tobytes())
        if encoding is Encoding.ZSTD_DICT and at.zstd is not None:
            return Frame(level, len(features), encoding, at.zstd.compress(features.tobytes()))
        if encoding is Encoding.CONTEXT and at.context is not None:
            payload = at.context.encode(features, LARGEST_EXPANSION * features.nbytes)
            if payload is not None:
                return Frame(level, len(features), encoding, payload)
        raise ValueError(f"encoding: the bundle has no tables for {encoding.name} at level {level}")

    def compiled_coders(self) -> list[ContextCoder | None]:
        """Return the compiled context coder of each level; None for levels without tables."""
        coders = (level.context for level in self._levels)
        return [None if isinstance(coder, ReferenceCoder) else coder for coder in coders]

    def least_bytes(self, level: int, samples: int) -> int:
        """Return the least size of a context coder's payload for ``samples`` of a level."""
        bits = samples * self._levels[level].bits * LEAST_BITS
        return max(int(bits / 8) - TAIL_BYTES, 0)

    def decode(self, frame: Frame) -> Features:
        """Decode to packed samples (B, packed bytes of the level); ``InvalidRequestError``."""
        return self.reader(frame).next(frame.samples)

    def reader(self, frame: Frame) -> FrameReader:
        """Return a reader of the samples of ``frame``; ``InvalidRequestError``."""
        if not 0 <= frame.level < len(self._levels):
            fractions = self._architecture.device_levels
            levels = ", ".join(f"{i} ({f:g})" for i, f in enumerate(fractions))
            raise InvalidRequestError(f"level: {frame.level} is not allowed; levels are {levels}")
        if not 1 <= frame.samples <= LARGEST_BATCH:
            raise InvalidRequestError(
                f"samples: {frame.samples} is not allowed; give 1 to {LARGEST_BATCH}"
            )
        at = self._levels[frame.level]
        if frame.encoding == Encoding.CONTEXT:
            return FrameReader(frame, at.size, at.from_context(frame))
        if frame.encoding == Encoding.ZSTD_DICT:
            return FrameReader(frame, at.size, at.from_raw(frame, at.from_zstd(frame)))
        if frame.encoding == Encoding.RAW:
            return FrameReader(frame, at.size, at.from_raw(frame, frame.payload))
        known = ", ".join(f"{e.value} ({e.name})" for e in Encoding)
        raise InvalidRequestError(f"encoding: {frame.encoding} is not allowed; known are {known}")


class FrameReader:
    """Reads the samples of one frame in order, a few at a time. Not thread-safe.

    Payloads of the context coder are decoded incrementally, and only after the last sample it is
    certain that the payload is valid. Other payloads are decoded to ``source`` from the beginning.
    """

    def __init__(
        self,
        frame: Frame,
        size: int,
        source: Features | ContextDecoder,
    ) -> None:
        self._frame = frame
        self._size = size
        self._source = source
        self._read = 0

    def next(self, count: int) -> Features:
        """Return the next ``count`` samples (count, packed bytes); ``InvalidRequestError``."""
        start, self._read = self._read, self._read + count
        if isinstance(self._source, np.ndarray):
            return self._source[start : self._read]
        output = np.empty((count, self._size), np.uint8)
        known = self._source.next(output)
        if known and self._read >= self._frame.samples:
            known = self._source.finished()
        if not known:
            raise InvalidRequestError(
                f"payload: is not what the context coder gives for {self._frame.samples} samples "
                f"of level {self._frame.level}"
            )
        return output


class _Zstd:
    """The zstd compressor and decompressor of one level, made once and reused."""

    def __init__(self, dictionary: npt.NDArray[np.uint8], size: int) -> None:
        data = zstandard.ZstdCompressionDict(dictionary.tobytes())
        # Frames are small, so optional header fields are left out; TCP detects bit errors already.
        parameters = zstandard.ZstdCompressionParameters.from_level(
            COMPRESSION_LEVEL,
            source_size=size,
            dict_size=dictionary.size,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=0,
            write_checksum=0,
            write_dict_id=0,
        )
        compressor = zstandard.ZstdCompressor(dict_data=data, compression_params=parameters)
        decompressor = zstandard.ZstdDecompressor(
            dict_data=data,
            max_window_size=LARGEST_WINDOW_BYTES,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        )
        self.compress: Callable[[bytes], bytes] = compressor.compress
        self._decompress = decompressor.decompress

    def decompress(self, payload: bytes, size: int) -> bytes:
        """Decompress to at most ``size`` bytes; ``ZstdError`` if ``payload`` is no such frame."""
        return self._decompress(payload, max_output_size=size, allow_extra_data=False)


def _zstd(bundle: Bundle, level: int) -> _Zstd | None:
    dictionary = bundle.codec_tensor(level, DICTIONARY)
    if dictionary is None or not dictionary.size:
        return None
    if dictionary.dtype != np.uint8:
        raise BundleError(f"bundle: a codec dictionary is {dictionary.dtype}, must be uint8")
    size = bundle.architecture.sent_shape(level).packed_bytes
    try:
        zstd = _Zstd(dictionary, size)
        if zstd.decompress(zstd.compress(bytes(size)), size) == bytes(size):
            return zstd
    except zstandard.ZstdError:
        pass
    raise BundleError("bundle: a codec dictionary cannot be used by zstd")


@dataclass(frozen=True)
class _Level:
    """Sizes of a sample at one device level, and its coders if the bundle has tables."""

    size: int
    bits: int
    zstd: _Zstd | None
    context: ContextCoder | None

    def from_raw(self, frame: Frame, raw: bytes) -> Features:
        """Split ``raw`` into samples."""
        size = frame.samples * self.size
        if len(raw) != size:
            raise InvalidRequestError(
                f"payload: holds {len(raw)} bytes of bits; {frame.samples} samples of level "
                f"{frame.level} are {size}"
            )
        features = np.frombuffer(raw, dtype=np.uint8).reshape(frame.samples, self.size)
        if not unused_bits_are_zero(features, self.bits):
            raise InvalidRequestError("payload: the unused bits after a sample must be 0")
        return features

    def from_zstd(self, frame: Frame) -> bytes:
        """Decompress a zstd frame to raw bytes."""
        size = frame.samples * self.size
        if self.zstd is None:
            raise InvalidRequestError(f"encoding: level {frame.level} has no dictionary; send RAW")
        if not frame.payload.startswith(PLAIN_FRAME):
            raise InvalidRequestError(
                "payload: a zstd frame must have none of the optional fields in its header"
            )
        try:
            return self.zstd.decompress(frame.payload, size)
        except zstandard.ZstdError:
            raise InvalidRequestError(
                f"payload: is no zstd frame of {size} bytes with the level's dictionary"
            ) from None

    def from_context(self, frame: Frame) -> ContextDecoder:
        """Return a decoder for a payload of the context coder."""
        if self.context is None:
            raise InvalidRequestError("encoding: this model has no context model; send RAW")
        return self.context.decoder(frame.payload)


def train_dictionary(samples: npt.NDArray[np.uint8], size_bytes: int) -> npt.NDArray[np.uint8]:
    """Train a zstd dictionary of at most ``size_bytes`` on packed samples (N, packed bytes).

    Returns an empty one if the samples are too few or too small.
    """
    try:
        dictionary = zstandard.train_dictionary(
            size_bytes, [row.tobytes() for row in samples], level=COMPRESSION_LEVEL
        )
    except zstandard.ZstdError:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(dictionary.as_bytes(), dtype=np.uint8)


def saved_by_dictionary(dictionary: npt.NDArray[np.uint8], samples: npt.NDArray[np.uint8]) -> float:
    """Return the share of bytes that a dictionary saves if ``samples`` are sent one by one."""
    zstd = _Zstd(dictionary, samples.shape[1])
    sizes = [min(len(zstd.compress(row.tobytes())), len(row)) for row in samples]
    return 1 - sum(sizes) / samples.nbytes
