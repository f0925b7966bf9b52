"""Profiles: the non-increasing coefficients that order the channels of a layer.

Source: McDanel, Teerapittayanon and Kung, "Incomplete Dot Products for Dynamic Computation Scaling
in Neural Network Inference", ICMLA 2017 (arXiv 1710.07830), for all but ``staircase``, which is
``linear`` held constant over bytes of channels, so that a popcount of a byte needs one coefficient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shared.errors import ProfileError

Coefficients = npt.NDArray[np.float64]
IntegerCoefficients = npt.NDArray[np.int32]
Profile = Callable[[int], Coefficients]

LARGEST_INTEGER = 127  # a coefficient fits a signed byte, as the dot product instructions want it
BYTE_CHANNELS = 8


def all_one(count: int) -> Coefficients:
    """1 everywhere: the standard network. Shape (count,)."""
    return np.ones(count)


def harmonic(count: int) -> Coefficients:
    """1 / i for i = 1 .. count. Shape (count,)."""
    return 1.0 / np.arange(1, count + 1)


def linear(count: int) -> Coefficients:
    """1 - (i - 1) / count for i = 1 .. count. Shape (count,)."""
    return 1.0 - np.arange(count) / count


def half_exp(count: int) -> Coefficients:
    """1 for the first half, then exp(-(j - 1)) for the j-th of the rest. Shape (count,)."""
    flat = (count + 1) // 2
    return np.concatenate([np.ones(flat), np.exp(-np.arange(count - flat, dtype=np.float64))])


def staircase(count: int) -> Coefficients:
    """``linear`` in steps of 8 channels, constant within each byte. Shape (count,)."""
    steps = -(-count // BYTE_CHANNELS)
    return np.repeat(linear(steps), BYTE_CHANNELS)[:count]


PROFILES: dict[str, Profile] = {
    "all-one": all_one,
    "harmonic": harmonic,
    "linear": linear,
    "half-exp": half_exp,
    "staircase": staircase,
}


def coefficients(name: str, count: int) -> Coefficients:
    """The profile ``name`` over ``count`` channels; ``ProfileError`` lists the known ones."""
    if count < 1:
        raise ProfileError(f"profile {name}: {count} channels are too few; give at least 1")
    try:
        profile = PROFILES[name]
    except KeyError:
        known = ", ".join(sorted(PROFILES))
        raise ProfileError(f"profile: {name!r} is unknown; known profiles: {known}") from None
    return check_profile(profile(count))


def check_profile(values: npt.ArrayLike) -> Coefficients:
    """Return ``values`` as an array if they are finite, non-negative and non-increasing.

    Raises ``ProfileError`` that names the first offending index, counted from 0.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ProfileError(f"profile: shape {array.shape} is not a non-empty list of coefficients")
    for index, value in enumerate(array):
        if not np.isfinite(value) or value < 0:
            raise ProfileError(f"profile: index {index} holds {value}; must be finite and >= 0")
        if index and value > array[index - 1]:
            raise ProfileError(
                f"profile: index {index} holds {value}, more than {array[index - 1]} before it; "
                "coefficients must not increase"
            )
    return array


def quantise(values: npt.ArrayLike) -> IntegerCoefficients:
    """Integers in 0 .. 127 in the proportion of ``values``. Shape (count,), int32.

    The smallest scale that makes every coefficient a whole number is taken (all-one gives 1,
    linear over n <= 127 gives n .. 1); where there is none, 127 with rounding. A coefficient above
    zero never becomes zero: its channel would be dead.
    """
    array = check_profile(values)
    for scale in range(1, LARGEST_INTEGER + 1):
        scaled = array * scale
        if scaled.max() <= LARGEST_INTEGER and np.allclose(scaled, np.round(scaled), atol=1e-9):
            return np.round(scaled).astype(np.int32)
    largest = array.max()
    rounded = np.round(array * (LARGEST_INTEGER / largest)).astype(np.int32)
    return np.where((array > 0) & (rounded == 0), 1, rounded).astype(np.int32)
