"""Make pictures with transparent parts opaque."""

from __future__ import annotations

import numpy as np

from shared.images.decoding import Decoded
from shared.images.values import Bytes
from shared.model.preprocessing import Preprocessing

UNIFORM = 12.0  # of 255; largest spread of visible colours that count as one ink
NEAR = 64.0  # of 255; a colour this near to the ground would be invisible on it


def flatten(picture: Decoded, steps: Preprocessing) -> Bytes:
    """Return the picture (H, W, 1 or 3) without its alpha.

    If the visible colour is uniform, alpha is used as ink: always for a network with an ink, for
    others only if the colour would be invisible on the ground. Otherwise the picture is composited
    onto the ground; for a network with an ink, onto one with contrast to the visible parts.
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
        # E.g. a page with transparent corners has its own ground.
        if total > 0.5 * 255 * weights.size:
            ground = float(np.median(channels[weights > 127]))
        else:
            ground = 255.0 if float(mean.mean()) < 128 else 0.0
    return np.rint(channels * share + ground * (1 - share)).astype(np.uint8)
