"""Coders for one device level with the context model: the compiled one, and a numpy reference.

Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.bits import pack, unpack
from shared.packed import kernels
from shared.protocol.context_model import (
    LARGEST_ACTIVATION,
    LOGIT_SHIFT,
    NEIGHBOURS,
    PROBABILITIES,
    ContextTables,
)
from shared.protocol.range_coder import RangeDecoder, RangeEncoder

if kernels.missing_reason() == "":
    from shared.packed import _native

Features = npt.NDArray[np.uint8]  # (B, sample_bytes)


class ContextDecoder(Protocol):
    """Decodes a payload a few samples at a time. Not thread-safe."""

    def next(self, output: Features) -> bool:
        """Fill ``output`` (B, sample_bytes) with the next samples; False if bytes are missing."""
        ...

    def finished(self) -> bool:
        """Whether the payload is exactly the encoding of the samples that were read."""
        ...


class ContextCoder(Protocol):
    """Encodes packed samples of one level to a payload, all in one number, and decodes it."""

    def encode(self, features: Features, limit: int) -> bytes | None:
        """Encode samples (B, sample_bytes) to fewer than ``limit`` bytes; None if impossible."""
        ...

    def decode(self, payload: bytes, output: Features) -> bool:
        """Fill ``output`` (B, sample_bytes); False if ``payload`` is no encoding of B samples."""
        ...

    def decoder(self, payload: bytes) -> ContextDecoder:
        """Return a decoder that decodes ``payload`` a few samples at a time."""
        ...


def context_coder(tables: ContextTables, kernel: str | None = None) -> ContextCoder:
    """Return the best coder for ``tables`` that runs here (``kernel`` as for ``DeviceHalf``)."""
    chosen = kernels.current() if kernel is None else kernels.check(kernel, "kernel")
    if chosen == kernels.NUMPY:
        return ReferenceCoder(tables)
    try:
        return _native.ContextCoder(
            tables.height,
            tables.width,
            tables.base,
            tables.neighbour,
            tables.channel,
            tables.output,
            tables.bias,
            PROBABILITIES,
        )
    except ValueError as error:
        raise BundleError(f"bundle: its context model cannot be run ({error})") from None


class ReferenceCoder:
    """The coder in numpy, bit by bit; some hundred times slower than the compiled one."""

    def __init__(self, tables: ContextTables) -> None:
        self._tables = tables
        # int32, so that products with activations fit.
        self._output = tables.output.astype(np.int32)
        self._near = tables.neighbour.reshape(len(NEIGHBOURS), tables.channels, -1)

    def encode(self, features: Features, limit: int) -> bytes | None:
        """See ``ContextCoder``."""
        encoder = RangeEncoder()
        size = self._tables.height * self._tables.width * self._tables.channels
        for bits in unpack(features, size):
            known = iter(bits)

            def code(probability: int, known: Iterator[np.bool_] = known) -> bool:
                bit = bool(next(known))
                encoder.put(bit, probability)
                return bit

            self.walk(code)
        payload = encoder.finish()
        return payload if len(payload) < limit else None

    def decode(self, payload: bytes, output: Features) -> bool:
        """See ``ContextCoder``."""
        decoder = self.decoder(payload)
        return decoder.next(output) and decoder.finished()

    def decoder(self, payload: bytes) -> ReferenceDecoder:
        """See ``ContextCoder``."""
        return ReferenceDecoder(self.walk, payload)

    def walk(self, code: Callable[[int], bool]) -> npt.NDArray[np.bool_]:
        """Call ``code`` with each bit's probability, in order; return its bits (H, W, channels)."""
        tables = self._tables
        # A border of zeros: one row above, one column on either side.
        bits = np.zeros((tables.height + 1, tables.width + 2, tables.channels), np.bool_)
        for place, base in enumerate(tables.base):
            y, x = divmod(place, tables.width)
            hidden = base.copy()
            for (down, right), weights in zip(NEIGHBOURS, self._near, strict=True):
                hidden += bits[y + 1 + down, x + 1 + right] @ weights
            for channel in range(tables.channels):
                active = np.clip(hidden, 0, LARGEST_ACTIVATION).astype(np.int32)
                logit = int(active @ self._output[channel]) + int(tables.bias[channel])
                step = (logit >> LOGIT_SHIFT) + len(PROBABILITIES) // 2
                probability = PROBABILITIES[min(max(step, 0), len(PROBABILITIES) - 1)]
                if code(int(probability)):
                    bits[y + 1, x + 1, channel] = True
                    hidden += tables.channel[channel]
        return bits[1:, 1:-1]


class ReferenceDecoder:
    """Decodes by ``walk`` of a ``ReferenceCoder``."""

    def __init__(self, walk: Callable[[Callable[[int], bool]], Any], payload: bytes) -> None:
        self._walk = walk
        self._decoder = RangeDecoder(payload)

    def next(self, output: Features) -> bool:
        """See ``ContextDecoder``."""
        for row in output:
            row[:] = pack(self._walk(self._decoder.get).reshape(-1))
            if self._decoder.too_short:
                return False
        return True

    def finished(self) -> bool:
        """See ``ContextDecoder``."""
        return self._decoder.finished()
