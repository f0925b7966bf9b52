"""Which images of a training set are held out for validation: told by their content alone.

An image is on the same side whatever else is in the set and in whatever order, and all copies of
an image are on one side.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def content_hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """The first 8 bytes of the SHA-256 of every image: (N, ...) -> (N,)."""
    digests = b"".join(
        hashlib.sha256(np.ascontiguousarray(image).data).digest()[:8] for image in images
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def validation_mask(
    hashes: Hashes, labels: npt.NDArray[np.integer], share: float
) -> npt.NDArray[np.bool_]:
    """True for the images to hold out: those whose hash is in the lowest ``share`` of all values.

    A class of two different images or more has at least one on each side, if ``share`` is not 0.
    """
    if not share:
        return np.zeros(len(hashes), dtype=np.bool_)
    held = hashes < np.uint64(share * 2.0**64)
    for label in np.unique(labels):
        present = np.unique(hashes[labels == label])
        count = np.count_nonzero(present < np.uint64(share * 2.0**64))
        if len(present) > 1 and count in (0, len(present)):
            held |= hashes == present[0]
            held &= hashes != present[-1]
    return held


def test_mask(
    hashes: Hashes, labels: npt.NDArray[np.integer], share: float
) -> npt.NDArray[np.bool_]:
    """True for the images to keep for the test: the other end of the values, so that both sets are
    told by the content alone; else as ``validation_mask``.
    """
    return validation_mask(~hashes, labels, share)
