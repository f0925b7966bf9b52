"""A job, which is the samples of one request, and its outcome."""

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
IMAGES = 0  # in place of an encoding when costs are predicted: the server runs the device half


@dataclass(slots=True, eq=False)
class Job:
    """Samples of one device level to classify.

    The samples are the payload of ``frame``, which ``reader`` decodes, or ``images`` (N, H, W, C)
    of uint8, or ``features`` that have been checked already. ``cloud_level`` is set if the caller
    pins the cloud's level. The end of the job sets ``logits`` or ``error``. ``decode_s`` is the
    time spent so far on making features from frames or images.
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
        """Whether features can be made slice by slice, so that no batch waits for all of them."""
        return self.encoding in (IMAGES, Encoding.CONTEXT)

    def keep(self, start: int, stop: int, logits: npt.NDArray[Any]) -> None:
        """Store the logits, (stop - start, classes), of the samples ``start`` to ``stop``."""
        if stop - start == self.samples:
            self.logits = logits
            return
        if self.logits is None:
            self.logits = np.empty((self.samples, logits.shape[1]), np.float32)
        self.logits[start:stop] = logits


class Prediction(NamedTuple):
    """The outcome of a job: logits (N, classes), the cloud level used, and the time it took."""

    logits: Logits
    cloud_level: int
    queue_us: int
    compute_us: int
    hints: Hints | None = None
