"""Which frames of a live source are worth an answer: by time, and by what has changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.images.values import Bytes

BLOCKS = 16  # along each side, whose means are compared
LEAST_CHANGE = 10.0  # of 255, of one block: above a sensor's noise, which the mean takes away
LIGHT_CHANGE = 40.0  # of 255, of the whole picture: more than a camera's exposure wanders


class Every:
    """Lets a frame through when ``period_s`` have passed since the last one that it let through."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._due_s: float | None = None

    def wants(self, now_s: float) -> bool:
        """Whether the frame of ``now_s`` is due, on the clock of the source."""
        due_s = self._due_s
        # a clock that went back, as a video's does when it starts again, begins anew
        if due_s is not None and due_s - self._period_s <= now_s < due_s:
            return False
        late = due_s is None or not due_s <= now_s < due_s + self._period_s
        self._due_s = (now_s if late or due_s is None else due_s) + self._period_s
        return True


class Changes:
    """Tells frames that differ from the last one that was let through.

    A frame differs if one of its 16x16 blocks is lighter or darker by ``LEAST_CHANGE`` than before.
    What all blocks have in common is the camera's exposure, up to ``LIGHT_CHANGE``.
    """

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None

    def wants(self, picture: Bytes) -> bool:
        """Whether the picture (H, W, C) differs; it is the one to compare with from then on."""
        means = block_means(picture)
        last = self._last
        if last is not None and last.shape == means.shape:
            change = means - last
            light = float(np.median(change))
            if abs(light) < LIGHT_CHANGE and np.abs(change - light).max() < LEAST_CHANGE:
                return False
        self._last = means
        return True


def block_means(picture: Bytes) -> npt.NDArray[np.float32]:
    """Mean brightness of up to 16x16 blocks of (H, W, C)."""
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, min(BLOCKS, height), endpoint=False).astype(np.intp)
    columns = np.linspace(0, width, min(BLOCKS, width), endpoint=False).astype(np.intp)
    grey = picture[:, :, 0] if picture.shape[2] == 1 else picture.mean(axis=2, dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.float32), columns, axis=1)
    sizes = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    means: npt.NDArray[np.float32] = (sums / sizes).astype(np.float32)
    return means
