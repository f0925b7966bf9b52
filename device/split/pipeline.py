"""Run one model on the device: image to packed bits, the exit head's answer, and a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError, InvalidRequestError
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle
from shared.model.exits import (
    NEVER_MARGIN,
    LocalAnswer,
    local_answer,
    margin_threshold,
    read_calibration,
)
from shared.model.identity import ModelIdentity
from shared.packed import DeviceHalf
from shared.protocol.codec import FeatureCodec, Frame

Features = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ExitSettings:
    """Whether confident samples stay here, and from which confidence (None: the bundle's)."""

    use: bool = True
    threshold: float | None = None


class Pipeline:
    """The device's part of ``bundle``, ready to run. Not thread-safe."""

    def __init__(self, bundle: Bundle, exits: ExitSettings | None = None) -> None:
        exits = ExitSettings() if exits is None else exits
        self.bundle = bundle
        self.architecture: Architecture = bundle.architecture
        self.can_answer = self.architecture.exit_head  # whether there is an exit head
        self.identity = ModelIdentity.short(bundle.metadata.name, bundle.metadata.version)
        self.class_names = bundle.metadata.class_names
        self._half = DeviceHalf(bundle)
        self._codec = FeatureCodec(bundle)
        levels = len(self.architecture.device_levels)
        self.channels = [self.architecture.sent_shape(level).channels for level in range(levels)]
        calibration = read_calibration(bundle)
        self._temperature = calibration.temperature if calibration else (1.0,) * levels
        self._margins = calibration.margins if calibration else (NEVER_MARGIN,) * levels
        self._exits = exits

    def least_margin(self, level: int, wanted: float | None) -> int:
        """Return the margin from which a sample stays here.

        It belongs to the threshold of the settings; if that is None to ``wanted``, the policy's; if
        that is None too, to the bundle's threshold.
        """
        if not self._exits.use or not self.can_answer:
            return NEVER_MARGIN
        confidence = wanted if self._exits.threshold is None else self._exits.threshold
        if confidence is None:
            return self._margins[level]
        return margin_threshold(confidence, self._temperature[level])

    def margin(self, level: int, confidence: float) -> int:
        """Convert a confidence of the exit head to a margin; 0, the lowest, without exit head."""
        if not self._exits.use or not self.can_answer:
            return 0
        return margin_threshold(confidence, self._temperature[level])

    def run(self, image: npt.NDArray[np.uint8], level: int) -> Features:
        """Return packed bits (1, bytes) of one image (H, W, C); ``ValueError`` for
        another shape.
        """
        return self._half.run(image[None], level)

    def answer(self, features: Features, level: int) -> LocalAnswer:
        """Return the exit head's answer to packed bits (1, bytes)."""
        logits = self._half.exit_logits(features, level)[0].tolist()
        return local_answer(logits, self._temperature[level])

    def encode(self, features: Features, level: int) -> Frame:
        """Encode packed samples (B, bytes) in the smallest frame."""
        return self._codec.encode(features, level)

    def check(self) -> None:
        """Test the model at every level; ``BundleError`` if it does not work on this device.

        The compiled kernels must give the same bits as the reference code, the codec must decode
        its own frames, and the exit head must run.
        """
        shape = self.architecture.input_shape
        size = (1, shape.height, shape.width, shape.channels)
        image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        name = self.bundle.metadata.name
        try:
            for level in range(len(self.architecture.device_levels)):
                bits = self._half.trace(image, level)[-1]
                features = self._half.run(image, level)
                packed = np.packbits(bits.reshape(1, -1), axis=1, bitorder="little")
                if not np.array_equal(packed, features):
                    raise BundleError(
                        f"model {name}: level {level} gives other bits than it should"
                    )
                decoded = self._codec.decode(self._codec.encode(features, level))
                if not np.array_equal(decoded, features):
                    raise BundleError(f"model {name}: level {level} does not survive its codec")
                if self.can_answer:
                    self._half.exit_logits(features, level)
        except (ValueError, InvalidRequestError) as error:
            raise BundleError(f"model {name}: cannot be run ({error})") from None


def stack(samples: Sequence[Features]) -> Features:
    """Stack samples of (1, bytes) each: -> (B, bytes)."""
    return samples[0] if len(samples) == 1 else np.concatenate(samples)
