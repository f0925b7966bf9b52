"""Encode the packed bits of a level as a payload, and decode it.

The encoder keeps the smallest of the encodings that the bundle has tables for. The decoder knows
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
# Level 19 takes twice the time of this one for 1-3 % fewer bytes of frames this small.
COMPRESSION_LEVEL = 7
# First byte of a zstd frame without optional fields (sizes, checksum, dictionary id). The decoder
# reads only such frames: for others zstd would allocate whatever size the frame declares.
PLAIN_FRAME = b"\0"
LARGEST_WINDOW_BYTES = 2**20  # memory that decoding may use besides its output
# The most samples in one frame: bounds the memory that one request can make a receiver allocate.
LARGEST_BATCH = 1024
# A coded payload may exceed the raw bits by this much; a larger one is refused unread.
PAYLOAD_SLACK_BYTES = 64
# The context model's smallest probability costs less than 12 bits for each bit.
LARGEST_EXPANSION = 16

Features = npt.NDArray[np.uint8]  # (B, packed bytes of the level)


class Encoding(IntEnum):
    """How a payload holds its samples; the numbers are those on the wire."""

    RAW = 1
    ZSTD_DICT = 2
    CONTEXT = 3


class Frame(NamedTuple):
    """Samples of one level, encoded."""

    level: int
    samples: int
    encoding: int  # an ``Encoding`` once it has been checked
    payload: bytes


class FeatureCodec:
    """Encoder and decoder for the bits of one model. For one thread at a time.

    ``kernel`` names an implementation of the context coder, as for ``DeviceHalf``; all give the
    same bytes. Raises ``BundleError`` if tables of the bundle cannot be used.
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
        """The smallest frame for packed samples (B, packed bytes of the level).

        Where the bundle has a context model, zstd is tried only if that saves nothing.
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
        """The frame in one encoding, whatever its size; ``ValueError`` if there are no tables."""
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
        """The compiled context coder of each level; None where there are no tables."""
        coders = (level.context for level in self._levels)
        return [None if isinstance(coder, ReferenceCoder) else coder for coder in coders]

    def least_bytes(self, level: int, samples: int) -> int:
        """No payload of the context coder for ``samples`` of a level is shorter than this."""
        bits = samples * self._levels[level].bits * LEAST_BITS
        return max(int(bits / 8) - TAIL_BYTES, 0)

    def decode(self, frame: Frame) -> Features:
        """Packed samples (B, packed bytes of the level), or ``InvalidRequestError``."""
        return self.reader(frame).next(frame.samples)

    def reader(self, frame: Frame) -> FrameReader:
        """What gives the samples of ``frame`` a few at a time; ``InvalidRequestError``."""
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
    """The samples of one frame in order, a few at a time.

    Those of the context coder are decoded as they are asked for, and only with the last of them it
    is certain that the payload is what its encoder gives; all others are in ``source`` from the
    beginning. For one thread at a time.
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
        """The next ``count`` samples (count, packed bytes), or ``InvalidRequestError``."""
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
    """Compressor and decompressor of one level, made once and reused."""

    def __init__(self, dictionary: npt.NDArray[np.uint8], size: int) -> None:
        data = zstandard.ZstdCompressionDict(dictionary.tobytes())
        # Frames are small, so header fields are left out; TCP and HTTP/2 already detect bit errors.
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
        """At most ``size`` bytes; ``ZstdError`` if ``payload`` is not one frame of no more."""
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
    """Sizes of a sample at one device level, and its coders where the bundle has tables."""

    size: int
    bits: int
    zstd: _Zstd | None
    context: ContextCoder | None

    def from_raw(self, frame: Frame, raw: bytes) -> Features:
        """The samples that ``raw`` holds."""
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
        """The bytes of bits in a zstd frame."""
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
        """The decoder of a payload of the context coder."""
        if self.context is None:
            raise InvalidRequestError("encoding: this model has no context model; send RAW")
        return self.context.decoder(frame.payload)


def train_dictionary(samples: npt.NDArray[np.uint8], size_bytes: int) -> npt.NDArray[np.uint8]:
    """A zstd dictionary of at most ``size_bytes`` for packed samples (N, packed bytes).

    Empty if the samples are too few or too small for zstd to learn from.
    """
    try:
        dictionary = zstandard.train_dictionary(
            size_bytes, [row.tobytes() for row in samples], level=COMPRESSION_LEVEL
        )
    except zstandard.ZstdError:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(dictionary.as_bytes(), dtype=np.uint8)


def saved_by_dictionary(dictionary: npt.NDArray[np.uint8], samples: npt.NDArray[np.uint8]) -> float:
    """Share of the bytes of ``samples`` (N, packed bytes), sent one by one, that it saves."""
    zstd = _Zstd(dictionary, samples.shape[1])
    sizes = [min(len(zstd.compress(row.tobytes())), len(row)) for row in samples]
    return 1 - sum(sizes) / samples.nbytes
