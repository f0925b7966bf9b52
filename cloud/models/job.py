"""A request on its way through a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.errors import RequestError
from shared.protocol.codec import Encoding, Frame, FrameReader
from shared.protocol.messages import Hints

Features = npt.NDArray[np.uint8]  # (N, packed bytes of the level)
Logits = npt.NDArray[np.float32]  # (N, classes)
IMAGES = 0  # stands for an encoding in costs: the server runs the device half


@dataclass(slots=True, eq=False)
class Job:
    """Samples of one device level to classify; ``cloud_level`` is a level that the caller pinned.

    The samples come as the payload of ``frame``, which ``reader`` decodes, or as ``images`` (N, H,
    W, C) of uint8, or as ``features`` that were checked already. ``logits`` or ``error`` is set in
    the end. ``decode_s`` adds up what making the features took.
    """

    level: int
    samples: int
    cloud_level: int | None = None
    frame: Frame | None = None
    images: npt.NDArray[np.uint8] | None = None
    features: Features | None = None
    reader: FrameReader | None = None
    logits: Logits | None = None
    error: RequestError | None = None
    decode_s: float = 0.0

    @property
    def encoding(self) -> int:
        """How the samples are encoded, for the prediction of costs."""
        if self.images is not None:
            return IMAGES
        return Encoding.RAW if self.frame is None else self.frame.encoding

    @property
    def made_in_slices(self) -> bool:
        """Whether each slice makes its own features, so that no batch waits for all of them."""
        return self.encoding in (IMAGES, Encoding.CONTEXT)

    def keep(self, start: int, stop: int, logits: npt.NDArray[Any]) -> None:
        """Store the logits of the samples ``start`` to ``stop``."""
        if stop - start == self.samples:
            self.logits = logits
            return
        if self.logits is None:
            self.logits = np.empty((self.samples, logits.shape[1]), np.float32)
        self.logits[start:stop] = logits


class Prediction(NamedTuple):
    """The outcome of a job: logits (N, classes), and how they were computed."""

    logits: Logits
    cloud_level: int
    queue_us: int
    compute_us: int
    hints: Hints | None = None
