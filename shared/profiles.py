"""Profiles: the non-increasing coefficients that order the channels of a layer.

Source: McDanel, Teerapittayanon and Kung, "Incomplete Dot Products for Dynamic Computation Scaling
in Neural Network Inference", ICMLA 2017 (arXiv 1710.07830). Only ``staircase`` is ours: ``linear``,
but constant over each group of 8 channels, so that the popcount of a byte needs one coefficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import ProfileError
from shared.fractions import channels

Coefficients = npt.NDArray[np.float64]
IntegerCoefficients = npt.NDArray[np.int32]
Profile = Callable[[int], Coefficients]

LARGEST_INTEGER = 127  # coefficients must fit a signed byte for dot product instructions
BYTE_CHANNELS = 8
TRIED_COUNTS = (1, 2, 3, 8, 100)  # numbers of channels that ``register`` tries a profile with


def all_one(count: int) -> Coefficients:
    """Return 1 everywhere, as in a standard network. Shape (count,)."""
    return np.ones(count)


def harmonic(count: int) -> Coefficients:
    """Return 1 / i for i = 1 .. count. Shape (count,)."""
    return 1.0 / np.arange(1, count + 1)


def linear(count: int) -> Coefficients:
    """Return 1 - (i - 1) / count for i = 1 .. count. Shape (count,)."""
    return 1.0 - np.arange(count) / count


def half_exp(count: int) -> Coefficients:
    """Return 1 for the first half, exp(-(j - 1)) for the j-th of the rest. Shape (count,)."""
    flat = (count + 1) // 2
    return np.concatenate([np.ones(flat), np.exp(-np.arange(count - flat, dtype=np.float64))])


def staircase(count: int) -> Coefficients:
    """Return ``linear`` in steps of 8 channels, constant within each byte. Shape (count,)."""
    steps = -(-count // BYTE_CHANNELS)
    return np.repeat(linear(steps), BYTE_CHANNELS)[:count]


PROFILES: dict[str, Profile] = {
    "all-one": all_one,
    "harmonic": harmonic,
    "linear": linear,
    "half-exp": half_exp,
    "staircase": staircase,
}


@dataclass(frozen=True)
class ProfileRange:
    """A range of fractions, above ``above`` up to ``upto``, and its profile."""

    above: float
    upto: float
    profile: str


def coefficients(name: str, count: int) -> Coefficients:
    """Return the coefficients (count,) of the profile ``name``.

    ``name`` is a registered name, or a list such as "1,0.9,0.5" for ``tabulated``. ``ProfileError``
    lists the registered names.
    """
    if count < 1:
        raise ProfileError(f"profile {name}: {count} channels are too few; give at least 1")
    return check_profile(_named(name)(count), f"profile {name}")


def register(name: str, profile: Profile) -> None:
    """Register a profile under ``name``, which every flag and layer for profiles then accepts.

    Raises ``ProfileError`` if the name is taken or has a comma, or if the profile does not return
    finite, non-negative, non-increasing coefficients when it is tried with ``TRIED_COUNTS``
    channels.
    """
    if name in PROFILES or "," in name or not name:
        raise ProfileError(f"profile: the name {name!r} is taken, empty or has a comma")
    for count in TRIED_COUNTS:
        values = check_profile(profile(count), f"profile {name} over {count} channels")
        if len(values) != count:
            raise ProfileError(f"profile {name}: gives {len(values)} coefficients for {count}")
    PROFILES[name] = profile


def tabulated(values: Sequence[float]) -> Profile:
    """Return a profile that interpolates ``values``, equally spaced over the channels.

    The first channel has the first value, the last channel the last.
    """
    table = check_profile(values)

    def profile(count: int) -> Coefficients:
        places = np.linspace(0, len(table) - 1, count)
        return np.interp(places, np.arange(len(table)), table)

    return profile


def check_ranges(ranges: Sequence[ProfileRange]) -> tuple[ProfileRange, ...]:
    """Return ``ranges`` as a tuple if they ascend from 0 to 1 without overlaps and gaps.

    Otherwise, or if a profile is unknown, ``ProfileError`` names the first wrong range.
    """
    if not ranges:
        raise ProfileError("ranges: there is none; give at least one, from 0 to 1")
    before = 0.0
    for entry in ranges:
        _named(entry.profile)
        text = f"ranges: ({entry.above:g}, {entry.upto:g}]"
        if not 0.0 <= entry.above < entry.upto <= 1.0:
            raise ProfileError(f"{text} does not ascend within 0 to 1")
        if entry.above < before:
            raise ProfileError(f"{text} overlaps or precedes the range before, up to {before:g}")
        if entry.above > before:
            raise ProfileError(f"{text} leaves a gap above {before:g}")
        before = entry.upto
    if before != 1.0:
        raise ProfileError(f"ranges: the last one ends at {before:g}; it must end at 1")
    return tuple(ranges)


def parse_ranges(text: str) -> tuple[ProfileRange, ...]:
    """Parse "0-0.2:linear,0.2-1:linear"; ``ProfileError`` quotes a wrong part."""
    entries = []
    for part in text.split(","):
        try:
            bounds, profile = part.split(":")
            above, upto = bounds.split("-")
            entries.append(ProfileRange(float(above), float(upto), profile))
        except ValueError:
            raise ProfileError(
                f"ranges: {part!r} is not of the form 0-0.2:linear; separate ranges by commas"
            ) from None
    return check_ranges(entries)


def composite(ranges: Sequence[ProfileRange], count: int) -> Coefficients:
    """Combine the profiles of several ranges to coefficients (count,).

    The coefficient of a channel is from the profile of the range in which it is first used. Raises
    ``ProfileError`` if the coefficients increase from one range to the next.
    """
    values = np.empty(count)
    start = 0
    for entry in check_ranges(ranges):
        stop = channels(entry.upto, count)
        values[start:stop] = coefficients(entry.profile, count)[start:stop]
        start = stop
    return check_profile(values, "ranges")


def _named(name: str) -> Profile:
    if name in PROFILES:
        return PROFILES[name]
    if "," in name:
        try:
            return tabulated([float(value) for value in name.split(",")])
        except ValueError:
            raise ProfileError(f"profile: {name!r} is not a list of numbers") from None
    known = ", ".join(sorted(PROFILES))
    raise ProfileError(f"profile: {name!r} is unknown; known profiles: {known}")


def check_profile(values: npt.ArrayLike, name: str = "profile") -> Coefficients:
    """Return ``values`` as an array if they are finite, non-negative and non-increasing.

    Raises ``ProfileError`` that names the first offending index, counted from 0.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ProfileError(f"{name}: shape {array.shape} is not a non-empty list of coefficients")
    if not np.isfinite(array[0]) or array[0] < 0:
        raise ProfileError(f"{name}: index 0 holds {array[0]}; must be finite and >= 0")
    for index, (before, value) in enumerate(itertools.pairwise(array), start=1):
        if not np.isfinite(value) or value < 0:
            raise ProfileError(f"{name}: index {index} holds {value}; must be finite and >= 0")
        if value > before:
            raise ProfileError(
                f"{name}: index {index} holds {value}, more than {before} before it; "
                "coefficients must not increase"
            )
    return array


def quantise(values: npt.ArrayLike) -> IntegerCoefficients:
    """Convert ``values`` to proportional integers in 0 .. 127. Shape (count,), int32.

    The values are multiplied by the smallest number that makes all of them integers (all-one gives
    1, linear over n <= 127 gives n .. 1). If no number up to 127 does, they are scaled to 127 and
    rounded; a value above zero becomes at least 1, since a channel with 0 would be useless.
    """
    array = check_profile(values)
    for scale in range(1, LARGEST_INTEGER + 1):
        scaled = array * scale
        if scaled.max() <= LARGEST_INTEGER and np.allclose(scaled, np.round(scaled), atol=1e-9):
            return np.round(scaled).astype(np.int32)
    largest = array.max()
    rounded = np.round(array * (LARGEST_INTEGER / largest)).astype(np.int32)
    return np.where((array > 0) & (rounded == 0), 1, rounded).astype(np.int32)
