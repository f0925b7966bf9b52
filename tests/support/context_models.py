"""Context models of random integers, for tests of the coder."""

from __future__ import annotations

import numpy as np

from shared.model.architecture import Architecture
from shared.protocol.context_model import ContextModel


def random_context_model(architecture: Architecture, seed: int, hidden: int = 8) -> ContextModel:
    """A random model: certain about some bits, undecided about others."""
    rng = np.random.default_rng(seed)
    levels = len(architecture.device_levels)
    shape = architecture.sent_shape(levels - 1)
    rows = 6 * shape.channels + shape.height + shape.width + levels
    reach = int(rng.integers(1, 128))
    weight = rng.integers(-reach, reach, (rows, hidden), dtype=np.int8, endpoint=True)
    bias = rng.integers(-9000, 9000, (levels, shape.channels)).astype(np.int16)
    return ContextModel(architecture, weight, bias)
