"""Take the looks that need no cloud: until the exit head is sure, or there are bits to send."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from device.policy.simple import Look
from device.split.pipeline import Pipeline
from device.split.sample import DeviceOutput, NextLook
from shared.model.exits import NEVER_MARGIN


def look_on_device(
    pipeline: Pipeline, image: npt.NDArray[np.uint8], looks: Sequence[Look], index: int = 0
) -> tuple[DeviceOutput, bool]:
    """Run device half and exit head on ``image`` (H, W, C) uint8, for one look or several.

    Returns the output of the last look, and whether the exit head is sure. ``ValueError`` for an
    image of another shape.
    """
    started_s = time.perf_counter()
    levels: list[int] = []
    for look, following in zip(looks, (*looks[1:], None), strict=True):
        features = pipeline.run(image, look.level)
        levels.append(look.level)
        least = pipeline.least_margin(look.level, look.exit_threshold)
        again = 0 if following is None else pipeline.margin(look.level, look.escalate_below)
        local = None
        if least != NEVER_MARGIN or again:
            local = pipeline.answer(features, look.level)
        if local is None or local.margin >= again:
            break
    device_s = time.perf_counter() - started_s
    coming = None if following is None else NextLook(image, following.level, look.ask_below)
    output = DeviceOutput(
        index, image, look.level, features, local, started_s, device_s, tuple(levels), coming
    )
    return output, local is not None and local.margin >= least
