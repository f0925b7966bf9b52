"""Choose the images to hold out for validation and test by a hash of their content.

So the choice does not depend on the order of the images or on the rest of the set, and all copies
of an image are in the same split.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def content_hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """Return the first 8 bytes of each image's SHA-256 as a number: (N, ...) -> (N,)."""
    digests = b"".join(
        hashlib.sha256(np.ascontiguousarray(image).data).digest()[:8] for image in images
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def validation_mask(
    hashes: Hashes, labels: npt.NDArray[np.integer], share: float
) -> npt.NDArray[np.bool_]:
    """Return a mask (N,) that is True for the images to hold out for validation.

    These are the images whose hash is in the lowest ``share`` (0 to 1) of all 64-bit values, given
    hashes (N,) and labels (N,). Unless ``share`` is 0, every class with at least two different
    images gets at least one image in each split.
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
    """Return a mask (N,) that is True for the images to keep for the test.

    The same as ``validation_mask`` at the other end of the values: images whose hash is in the
    highest ``share``. So neither split depends on the size of the other.
    """
    return validation_mask(~hashes, labels, share)
