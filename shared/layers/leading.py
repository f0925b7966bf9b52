"""Code that incomplete layers share: checks of channel counts, coefficients, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.profiles import Coefficients, check_profile, coefficients

# The name of a profile, or a function from the number of channels to coefficients.
ProfileLike = str | Callable[[int], Coefficients]


@runtime_checkable
class Counted(Protocol):
    """A layer that tells the costs of computing its leading outputs from its leading inputs."""

    parameter_bits: int  # bits of one stored weight

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Return by parameter the shape of the leading block that this many channels use."""
        ...

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """Return the multiply-accumulates from an input of shape ``x`` to an output of
        shape ``y``.
        """
        ...


def leading(inputs: int, of_inputs: int, outputs: int | None, of_outputs: int) -> int:
    """Return the number of outputs to compute, by default all.

    ``ValueError`` if there are more inputs or outputs than the layer has.
    """
    if not 1 <= inputs <= of_inputs:
        raise ValueError(f"input: {inputs} channels came; the layer takes 1 to {of_inputs}")
    asked = of_outputs if outputs is None else outputs
    if not 1 <= asked <= of_outputs:
        raise ValueError(f"outputs: {asked} are asked for; the layer has 1 to {of_outputs}")
    return asked


def leading_block(x: Tensor, *sizes: int) -> Tensor:
    """Return ``x[: sizes[0], : sizes[1], ...]`` as a contiguous copy; x itself if that is all of
    it.

    Its gradient is padded once and keeps the memory format of x. The gradient of plain slices would
    allocate zeros for each dimension, and never be channels-last, which slows down later
    operations.
    """
    if x.shape[: len(sizes)] == sizes:
        return x
    padding = [0, 0] * (x.dim() - len(sizes))
    for size, of in zip(reversed(sizes), reversed(x.shape[: len(sizes)]), strict=True):
        padding += [0, size - of]
    return F.pad(x, padding)


def resolve(profile: ProfileLike, count: int) -> Coefficients:
    """Return the checked coefficients (count,) of a named profile or a function."""
    if isinstance(profile, str):
        return coefficients(profile, count)
    return check_profile(profile(count))


def add_coefficients(module: nn.Module, profile: ProfileLike, count: int, like: Tensor) -> None:
    """Add to ``module`` the buffer ``coefficients`` (count,), and ``all_one``: whether all are 1.

    Both are updated when a state is loaded, so that weights keep the profile they were trained
    with.
    """
    module.register_buffer("coefficients", torch.tensor(resolve(profile, count)).to(like))
    _note_all_one(module)
    module.register_load_state_dict_post_hook(_note_all_one)  # type: ignore[no-untyped-call]


def _note_all_one(module: nn.Module, _keys: object = None) -> None:
    module.all_one = bool((module.get_buffer("coefficients") == 1.0).all())  # type: ignore[assignment]
