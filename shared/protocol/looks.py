"""Decide when a server requests another look, by the integer margin of its answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.model.exits import ONE
from shared.protocol.messages import More

KEEP_MS = 10_000  # how long a stream remembers its requests for another look
LARGEST_MARGIN = 2**62  # also the margin if there is only one class

Logits = npt.NDArray[np.float32]  # (N, classes)


def margins(logits: Logits) -> npt.NDArray[np.int64]:
    """Return each sample's largest logit minus its second largest, in 1 / ONE, rounded down: (N,).

    Differences of float32 values are exact in float64, so compiled code computes the same integers.
    """
    if logits.shape[1] < 2:
        return np.full(len(logits), LARGEST_MARGIN)
    best = np.partition(logits.astype(np.float64), -2, axis=1)
    scaled = np.minimum((best[:, -1] - best[:, -2]) * ONE, LARGEST_MARGIN)
    found: npt.NDArray[np.int64] = scaled.astype(np.int64)
    return found


def wanted(logits: Logits, level: int, ask_below: int) -> More | None:
    """Return the request for a look at ``level`` at samples with a margin below ``ask_below``.

    None if there are no such samples.
    """
    asked = np.flatnonzero(margins(logits) < min(ask_below, LARGEST_MARGIN))
    if not len(asked):
        return None
    return More(level, KEEP_MS, () if len(asked) == len(logits) else tuple(asked.tolist()))
