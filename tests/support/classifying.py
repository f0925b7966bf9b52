"""The shipped network of digits in this process: images in, classes out, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import Bundle, read_bundle
from shared.packed.halves import CloudHalf, DeviceHalf


@cache
def digits_bundle() -> Bundle:
    """The default bundle."""
    return read_bundle(bundle_path(DEFAULT_MODEL))


@cache
def _halves() -> tuple[DeviceHalf, CloudHalf]:
    return DeviceHalf(digits_bundle()), CloudHalf(digits_bundle())


def classify(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int64]:
    """The classes that the whole network, all its channels, gives to images (28, 28, 1)."""
    device, cloud = _halves()
    levels = digits_bundle().architecture
    top, cloud_top = len(levels.device_levels) - 1, len(levels.cloud_levels) - 1
    logits = cloud.run(device.run(np.stack(images), top), top, cloud_top)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)
