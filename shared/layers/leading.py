"""What incomplete layers share: the check of counts, coefficients as a buffer, and what is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from shared.profiles import Coefficients, check_profile, coefficients

# The name of a profile, or a function of the number of channels, which several ranges share.
ProfileLike = str | Callable[[int], Coefficients]


@runtime_checkable
class Counted(Protocol):
    """A layer that knows what it costs to compute its leading outputs from its leading inputs."""

    parameter_bits: int  # of one stored weight

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Shape of the leading block of every parameter that this many channels use."""
        ...

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """Multiply-accumulates that turn an input of shape ``x`` into an output of shape ``y``."""
        ...


def leading(inputs: int, of_inputs: int, outputs: int | None, of_outputs: int) -> int:
    """How many outputs are asked for; ``ValueError`` if more came or are asked for than exist."""
    if not 1 <= inputs <= of_inputs:
        raise ValueError(f"input: {inputs} channels came; the layer takes 1 to {of_inputs}")
    asked = of_outputs if outputs is None else outputs
    if not 1 <= asked <= of_outputs:
        raise ValueError(f"outputs: {asked} are asked for; the layer has 1 to {of_outputs}")
    return asked


def resolve(profile: ProfileLike, count: int) -> Coefficients:
    """Checked coefficients of a named profile or of a function, over ``count`` channels."""
    if isinstance(profile, str):
        return coefficients(profile, count)
    return check_profile(profile(count))


def add_coefficients(module: nn.Module, profile: ProfileLike, count: int, like: Tensor) -> bool:
    """Give ``module`` the buffer ``coefficients`` (count,); True if all of them are 1."""
    values = resolve(profile, count)
    module.register_buffer("coefficients", torch.tensor(values).to(like))
    return bool((values == 1.0).all())
