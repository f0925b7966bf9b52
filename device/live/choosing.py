"""Choose the frames of a live source to classify: by time, and by change of the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.images.values import Bytes

BLOCKS = 16  # blocks along each side, whose means are compared
LEAST_CHANGE = 10.0  # of 255, in one block; above a sensor's noise, which the mean reduces
LIGHT_CHANGE = 40.0  # of 255, in the whole picture; above variations of the exposure


class Every:
    """Accepts a frame when ``period_s`` have passed since the last accepted one."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._due_s: float | None = None

    def wants(self, now_s: float) -> bool:
        """Return whether to accept the frame of the time ``now_s``, by the source's clock."""
        due_s = self._due_s
        # If the clock has gone back, as at the restart of a video, the period starts again.
        if due_s is not None and due_s - self._period_s <= now_s < due_s:
            return False
        late = due_s is None or not due_s <= now_s < due_s + self._period_s
        self._due_s = (now_s if late or due_s is None else due_s) + self._period_s
        return True


class Changes:
    """Accepts frames that differ from the last accepted one.

    A frame differs if the brightness of one of its 16x16 blocks has changed by ``LEAST_CHANGE``. A
    change that all blocks share is attributed to the camera's exposure, up to ``LIGHT_CHANGE``.
    """

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None

    def wants(self, picture: Bytes) -> bool:
        """Return whether to accept the picture (H, W, C), which later ones are then
        compared with.
        """
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
    """Return the mean brightness of up to 16x16 blocks of a picture (H, W, C)."""
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, min(BLOCKS, height), endpoint=False).astype(np.intp)
    columns = np.linspace(0, width, min(BLOCKS, width), endpoint=False).astype(np.intp)
    grey = picture[:, :, 0] if picture.shape[2] == 1 else picture.mean(axis=2, dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.float32), columns, axis=1)
    sizes = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    means: npt.NDArray[np.float32] = (sums / sizes).astype(np.float32)
    return means
