"""Pictures with clear parts become opaque ones."""

from __future__ import annotations

import numpy as np

from shared.images.decoding import Decoded
from shared.images.values import Bytes
from shared.model.preprocessing import Preprocessing

UNIFORM = 12.0  # of 255: how far the visible colours of one ink spread
NEAR = 64.0  # of 255: a colour that the ground would hide


def flatten(picture: Decoded, steps: Preprocessing) -> Bytes:
    """The picture (H, W, 1 or 3) without its alpha.

    Where the visible colour is uniform, alpha is the ink: for a network that knows an ink, and for
    others if the ground would hide that colour. Otherwise the picture lies on the ground, which for
    a network with an ink is one that its visible parts stand out from.
    """
    colour, alpha = picture.colour, picture.alpha
    if alpha is None or int(alpha.min()) == 255:
        return colour
    weights = alpha.astype(np.float32)
    total = float(weights.sum())
    if total == 0:
        return np.full_like(colour, steps.ground)
    channels = colour.astype(np.float32)
    mean = (channels * weights[..., None]).sum(axis=(0, 1)) / total  # (C,)
    spread = np.sqrt(((channels - mean) ** 2 * weights[..., None]).sum(axis=(0, 1)) / total)
    hidden = bool(np.abs(mean - steps.ground).max() < NEAR)
    share = weights[..., None] / 255
    if float(spread.max()) <= UNIFORM and (steps.ink is not None or hidden):
        ink = steps.ink if steps.ink is not None else (255 if steps.ground < 128 else 0)
        grey = steps.ground + (ink - steps.ground) * share
        return np.rint(np.repeat(grey, colour.shape[2], axis=2)).astype(np.uint8)
    ground = float(steps.ground)
    if steps.ink is not None:
        if total > 0.5 * 255 * weights.size:  # a page with clear corners: its own ground
            ground = float(np.median(channels[weights > 127]))
        else:
            ground = 255.0 if float(mean.mean()) < 128 else 0.0
    return np.rint(channels * share + ground * (1 - share)).astype(np.uint8)
