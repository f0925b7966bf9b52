"""The shipped sample of real digits, so that a first run needs no download."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import numpy.typing as npt

from shared.images.idx import parse_idx

SAMPLE_IMAGES = "mnist-sample-images-idx3-ubyte.gz"
SAMPLE_LABELS = "mnist-sample-labels-idx1-ubyte.gz"


def sample_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return 200 test digits of MNIST, 20 per class, shuffled: (200, 28, 28), labels (200,)."""
    images, labels = (
        parse_idx((files("shared.data") / name).read_bytes(), name)
        for name in (SAMPLE_IMAGES, SAMPLE_LABELS)
    )
    return images, labels
