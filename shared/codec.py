"""The codec: packed bits of a level <-> the payload that travels.

The encoder tries every encoding that the bundle has tables for and keeps the smallest result. The
decoder knows the exact size of what comes out before it starts, and allocates no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import zstandard

from shared.architecture import Architecture
from shared.bits import unused_bits_are_zero
from shared.bundle import Bundle
from shared.errors import BundleError, InvalidRequestError

DICTIONARY = "zstd"  # name of the dictionary's tensor in a bundle
COMPRESSION_LEVEL = 19
# A frame's first byte when nothing optional is in it: no sizes, no checksum, no dictionary id. Only
# such frames are read: zstd would allocate whatever size a frame declares.
PLAIN_FRAME = b"\0"
LARGEST_WINDOW_BYTES = 2**20  # what decoding may take besides its output
# Values of sample counts that a receiver accepts: bounds what one request can make it allocate.
LARGEST_BATCH = 1024


class Encoding(IntEnum):
    """How a payload holds its samples; the numbers are those on the wire."""

    RAW = 1
    ZSTD_DICT = 2


@dataclass(frozen=True)
class Frame:
    """Samples of one level, encoded."""

    level: int
    samples: int
    encoding: Encoding
    payload: bytes


class FeatureCodec:
    """Encoder and decoder for the bits of one model. For one thread at a time.

    Raises ``BundleError`` if a dictionary of the bundle is none.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._architecture: Architecture = bundle.architecture
        self._levels = [
            _Level(bundle.codec_tensor(index, DICTIONARY), self._size(index))
            for index in range(len(self._architecture.device_levels))
        ]

    def encode(self, features: npt.NDArray[np.uint8], level: int) -> Frame:
        """The smallest frame for packed samples (B, packed bytes of the level)."""
        raw = features.tobytes()
        packed = self._levels[level].compress(raw)
        if packed is not None and len(packed) < len(raw):
            return Frame(level, len(features), Encoding.ZSTD_DICT, packed)
        return Frame(level, len(features), Encoding.RAW, raw)

    def decode(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """Packed samples (B, packed bytes of the level), or ``InvalidRequestError``."""
        if not 0 <= frame.level < len(self._levels):
            fractions = self._architecture.device_levels
            levels = ", ".join(f"{i} ({f:g})" for i, f in enumerate(fractions))
            raise InvalidRequestError(f"level: {frame.level} is not allowed; levels are {levels}")
        if not 1 <= frame.samples <= LARGEST_BATCH:
            raise InvalidRequestError(
                f"samples: {frame.samples} is not allowed; give 1 to {LARGEST_BATCH}"
            )
        size = frame.samples * self._size(frame.level)
        raw = self._raw(frame, size)
        if len(raw) != size:
            raise InvalidRequestError(
                f"payload: holds {len(raw)} bytes of bits; {frame.samples} samples of level "
                f"{frame.level} are {size}"
            )
        features = np.frombuffer(raw, dtype=np.uint8).reshape(frame.samples, -1)
        if not unused_bits_are_zero(features, self._architecture.sent_shape(frame.level).size):
            raise InvalidRequestError("payload: the unused bits after a sample must be 0")
        return features

    def _raw(self, frame: Frame, size: int) -> bytes:
        if frame.encoding == Encoding.RAW:
            return frame.payload
        if frame.encoding == Encoding.ZSTD_DICT:
            return self._levels[frame.level].decompress(frame.payload, size)
        known = ", ".join(f"{e.value} ({e.name})" for e in Encoding)
        raise InvalidRequestError(f"encoding: {frame.encoding} is not allowed; known are {known}")

    def _size(self, level: int) -> int:
        return self._architecture.sent_shape(level).packed_bytes


class _Level:
    """Compressor and decompressor of one level, made once and reused."""

    def __init__(self, dictionary: npt.NDArray[np.uint8] | None, size: int) -> None:
        self._compressor: zstandard.ZstdCompressor | None = None
        self._decompressor: zstandard.ZstdDecompressor | None = None
        if dictionary is None or not dictionary.size:
            return
        if dictionary.dtype != np.uint8:
            raise BundleError(f"bundle: a codec dictionary is {dictionary.dtype}, must be uint8")
        data = zstandard.ZstdCompressionDict(dictionary.tobytes())
        # Small frames: every byte of a header counts, and gRPC already guards against bit errors.
        parameters = zstandard.ZstdCompressionParameters.from_level(
            COMPRESSION_LEVEL,
            source_size=size,
            dict_size=dictionary.size,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=0,
            write_checksum=0,
            write_dict_id=0,
        )
        self._compressor = zstandard.ZstdCompressor(dict_data=data, compression_params=parameters)
        self._decompressor = zstandard.ZstdDecompressor(
            dict_data=data,
            max_window_size=LARGEST_WINDOW_BYTES,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        )
        try:
            self.decompress(self._compressor.compress(bytes(size)), size)
        except (zstandard.ZstdError, InvalidRequestError):
            raise BundleError("bundle: a codec dictionary cannot be used by zstd") from None

    def compress(self, raw: bytes) -> bytes | None:
        return None if self._compressor is None else self._compressor.compress(raw)

    def decompress(self, payload: bytes, size: int) -> bytes:
        if self._decompressor is None:
            raise InvalidRequestError("encoding: this level has no dictionary; send RAW")
        if not payload.startswith(PLAIN_FRAME):
            raise InvalidRequestError(
                "payload: a zstd frame must have none of the optional fields in its header"
            )
        try:
            return self._decompressor.decompress(
                payload, max_output_size=size, allow_extra_data=False
            )
        except zstandard.ZstdError:
            raise InvalidRequestError(
                f"payload: is no zstd frame of {size} bytes with the level's dictionary"
            ) from None


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
