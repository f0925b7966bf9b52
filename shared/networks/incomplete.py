"""The base of incomplete networks: fractions, levels of batch norm and ranges of profiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from shared.fractions import channels, check_fraction, check_levels, level_for
from shared.layers.slimmable import SlimmableBatchNorm
from shared.networks.pixels import check_pixels
from shared.profiles import Coefficients, ProfileRange, check_ranges, composite


@dataclass(frozen=True)
class Width:
    """The width of one pass, and the sets of parameters that it uses."""

    fraction: float
    level: int  # index of the batch norms' set
    profile: int  # index of the range, which chooses the first and last layers
    # In training, a fraction of the inputs for each truncated block; None: ``fraction`` for all.
    draws: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Scheme:
    """The profiles by ranges of fractions, and the fractions with their own batch norm.

    ``levels`` ascend and end with 1. A fraction uses the smallest level that is not below it.
    """

    ranges: tuple[ProfileRange, ...] = (ProfileRange(0.0, 1.0, "linear"),)
    levels: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        check_ranges(self.ranges)
        check_levels(self.levels)

    @property
    def tops(self) -> tuple[float, ...]:
        """The highest fraction of every range."""
        return tuple(entry.upto for entry in self.ranges)

    def width(self, fraction: float) -> Width:
        """Return the width for ``fraction``; ``FractionError`` if it is outside (0, 1]."""
        check_fraction(fraction)
        return Width(fraction, level_for(fraction, self.levels), level_for(fraction, self.tops))

    def coefficients(self, count: int) -> Coefficients:
        """Return the coefficients (count,) of a truncated layer with ``count`` input channels."""
        return composite(self.ranges, count)


def single(profile: str, levels: tuple[float, ...] = (1.0,)) -> Scheme:
    """Return a scheme with one profile for all fractions."""
    return Scheme((ProfileRange(0.0, 1.0, profile),), levels)


class IncompleteNetwork(nn.Module, ABC):
    """A network that runs at any fraction of its channels.

    ``forward(images, fraction=1.0, draws=None)``: images (B, C, H, W) in 0..255 -> logits (B,
    classes). ``draws`` holds a fraction of the inputs for each of the ``truncated`` blocks; then
    ``fraction`` only determines the outputs.
    """

    truncated = 0  # number of blocks that can have their own fraction

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme

    def forward(
        self, images: Tensor, fraction: float = 1.0, draws: Sequence[float] | None = None
    ) -> Tensor:
        """Compute logits with the leading ``fraction`` of the channels."""
        width = self.scheme.width(fraction)
        if draws is not None:
            if len(draws) != self.truncated:
                raise ValueError(f"draws: {len(draws)} came; {self.truncated} blocks take one")
            width = replace(width, draws=tuple(draws))
        return self.run(images, width)

    @abstractmethod
    def run(self, images: Tensor, width: Width) -> Tensor:
        """Logits of one pass."""

    def norms(self) -> list[SlimmableBatchNorm]:
        """Return all batch norms."""
        return [module for module in self.modules() if isinstance(module, SlimmableBatchNorm)]

    @torch.no_grad()
    def settle(self) -> None:
        """Restore constraints on weights, to be called after each step of the optimiser."""

    @torch.no_grad()
    def inherit(self, profile: int) -> None:
        """Copy the parameters of the previous range to those of range ``profile``, as a start."""
        for norm in self.norms():
            norm.copy_level(profile - 1, profile)

    @torch.no_grad()
    def begin_with(self, other: IncompleteNetwork) -> None:
        """Copy the weights of a network of the same shape with one range and one level.

        Every level of batch norm starts from the only level of ``other``. ``ValueError`` if the
        coefficients differ, since the weights would then compute something else.
        """
        for ours, theirs in zip(self.modules(), other.modules(), strict=True):
            if isinstance(ours, SlimmableBatchNorm):
                for level in range(len(ours.scale)):
                    ours.copy_level(0, level, theirs)  # type: ignore[arg-type]
            if isinstance(ours, SlimmableBatchNorm | nn.ParameterList):
                continue
            for name, buffer in ours.named_buffers(recurse=False):
                if not torch.equal(buffer, theirs.get_buffer(name)):
                    raise ValueError(f"{name}: differ between the networks")
            for name, parameter in ours.named_parameters(recurse=False):
                parameter.copy_(theirs.get_parameter(name))


class Block(nn.Module, ABC):
    """A layer with its batch norm and activation, at any width."""

    inputs: int | None = None  # number of input channels if the block can be truncated

    @abstractmethod
    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, n, ...) -> (B, m, ...)."""


class BlockNetwork(IncompleteNetwork):
    """A chain of blocks, of which each range has its own first and last one."""

    def __init__(
        self, scheme: Scheme, first: list[Block], middle: list[Block], last: list[Block]
    ) -> None:
        super().__init__(scheme)
        self.first = nn.ModuleList(first)
        self.middle = nn.ModuleList(middle)
        self.last = nn.ModuleList(last)
        self.truncated = sum(block.inputs is not None for block in (first[0], *middle, last[0]))

    def run(self, images: Tensor, width: Width) -> Tensor:
        """Logits of one pass."""
        check_pixels(images)
        x = images / 127.5 - 1  # 0..255 -> -1..1
        draws = iter(width.draws or ())
        for module in (self.first[width.profile], *self.middle, self.last[width.profile]):
            block = cast("Block", module)
            if width.draws is not None and block.inputs is not None:
                x = x[:, : channels(next(draws), block.inputs)]
            x = block(x, width)
        return x

    @torch.no_grad()
    def inherit(self, profile: int) -> None:
        """Copy the parameters of the previous range to those of range ``profile``, as a start."""
        for ends in (self.first, self.last):
            ends[profile].load_state_dict(ends[profile - 1].state_dict())
        super().inherit(profile)
