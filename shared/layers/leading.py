"""What incomplete layers share: the check of counts, coefficients as a buffer, and what is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
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


def leading_block(x: Tensor, *sizes: int) -> Tensor:
    """``x[: sizes[0], : sizes[1], ...]`` as a copy without gaps; x itself if that is all of it.

    The gradient is padded once and keeps the memory format of x. That of slices is a buffer of
    zeros for each dimension, never channels-last, which slows down all that comes after.
    """
    if x.shape[: len(sizes)] == sizes:
        return x
    padding = [0, 0] * (x.dim() - len(sizes))
    for size, of in zip(reversed(sizes), reversed(x.shape[: len(sizes)]), strict=True):
        padding += [0, size - of]
    return F.pad(x, padding)


def resolve(profile: ProfileLike, count: int) -> Coefficients:
    """Checked coefficients of a named profile or of a function, over ``count`` channels."""
    if isinstance(profile, str):
        return coefficients(profile, count)
    return check_profile(profile(count))


def add_coefficients(module: nn.Module, profile: ProfileLike, count: int, like: Tensor) -> None:
    """Give ``module`` the buffer ``coefficients`` (count,) and ``all_one``: all of them are 1.

    Both follow a state that is loaded, so that weights keep the profile that they were trained
    with.
    """
    module.register_buffer("coefficients", torch.tensor(resolve(profile, count)).to(like))
    _note_all_one(module)
    module.register_load_state_dict_post_hook(_note_all_one)  # type: ignore[no-untyped-call]


def _note_all_one(module: nn.Module, _keys: object = None) -> None:
    module.all_one = bool((module.get_buffer("coefficients") == 1.0).all())  # type: ignore[assignment]
