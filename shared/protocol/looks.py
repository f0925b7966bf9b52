"""When a server asks for another look: the margin of its answer, as an integer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.model.exits import ONE
from shared.protocol.messages import More

KEEP_MS = 10_000  # how long a stream remembers that it asked
LARGEST_MARGIN = 2**62  # also of an answer that has no rival

Logits = npt.NDArray[np.float32]  # (N, classes)


def margins(logits: Logits) -> npt.NDArray[np.int64]:
    """The largest logit of each sample less the next largest, in 1 / ONE, rounded down: (N,).

    Differences of float32 are exact in float64, so that compiled code gets the same integers.
    """
    if logits.shape[1] < 2:
        return np.full(len(logits), LARGEST_MARGIN)
    best = np.partition(logits.astype(np.float64), -2, axis=1)
    scaled = np.minimum((best[:, -1] - best[:, -2]) * ONE, LARGEST_MARGIN)
    found: npt.NDArray[np.int64] = scaled.astype(np.int64)
    return found


def wanted(logits: Logits, level: int, ask_below: int) -> More | None:
    """The wish for a look at ``level`` at those samples whose margin is below ``ask_below``."""
    asked = np.flatnonzero(margins(logits) < min(ask_below, LARGEST_MARGIN))
    if not len(asked):
        return None
    return More(level, KEEP_MS, () if len(asked) == len(logits) else tuple(asked.tolist()))
