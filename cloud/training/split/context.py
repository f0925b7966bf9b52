"""Train the context model (``shared.protocol.context_model``) on the bits that a device sends.

Minimises the mean code length, -log2 p(bit), over all device levels together. In the forward pass
weights are rounded to the integers of the bundle; gradients pass through the rounding unchanged
(straight-through estimator, Bengio et al., 2013). So the loss equals the real code length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.model.architecture import Architecture
from shared.model.bits import unpack
from shared.protocol.context_model import (
    BIAS,
    HIDDEN_SCALE,
    LARGEST_ACTIVATION,
    NEIGHBOURS,
    OUTPUT_SCALE,
    WEIGHT,
)

LARGEST_WEIGHT = 127
LARGEST_BIAS = 2**15 - 1


@dataclass(frozen=True)
class ContextSettings:
    """Training settings of the context model; ``hidden`` is its width, a multiple of 8.

    Training ends after ``steps`` or after ``passes`` over the pixels, whichever comes first.
    """

    hidden: int = 24
    steps: int = 1500
    passes: int = 5
    batch: int = 2048  # pixels of each level in one step
    learning_rate: float = 0.01
    seed: int = 1


@dataclass(frozen=True)
class Pixels:
    """Pixels of one level: their bits (N, c), bits of neighbours (N, 4 * c), and positions."""

    bits: Tensor
    near: Tensor
    row: Tensor
    column: Tensor

    def batch(self, size: int) -> Pixels:
        """Return ``size`` randomly chosen pixels."""
        at = torch.randint(0, len(self.bits), (size,))
        return Pixels(
            self.bits[at].float(),
            self.near[at].float(),
            self.row[at].long(),
            self.column[at].long(),
        )


def pixels_of(features: npt.NDArray[np.uint8], height: int, width: int, channels: int) -> Pixels:
    """Return all pixels of packed samples (N, bytes) of maps (height, width, channels)."""
    count = len(features)
    # (N, bytes) -> (N, H * W * c) -> (N, H, W, c)
    bits = unpack(features, height * width * channels).reshape(count, height, width, channels)
    framed = np.pad(bits, ((0, 0), (1, 0), (1, 1), (0, 0)))  # a row above, a column on each side
    near = [
        framed[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down, right in NEIGHBOURS
    ]
    rows = np.arange(height, dtype=np.int16)[None, :, None].repeat(count, 0).repeat(width, 2)
    columns = np.arange(width, dtype=np.int16)[None, None].repeat(count, 0).repeat(height, 1)
    # (N, H, W, ...) -> (N * H * W, ...)
    return Pixels(
        bits=torch.from_numpy(bits.reshape(-1, channels)),
        near=torch.from_numpy(np.concatenate(near, axis=-1).reshape(-1, 4 * channels)),
        row=torch.from_numpy(rows.reshape(-1)),
        column=torch.from_numpy(columns.reshape(-1)),
    )


class ContextNetwork(nn.Module):
    """The context model in float, with weights rounded like the bundle's integers."""

    def __init__(self, architecture: Architecture, hidden: int) -> None:
        super().__init__()
        levels = len(architecture.device_levels)
        shape = architecture.sent_shape(levels - 1)
        near = len(NEIGHBOURS)
        self.near = nn.Parameter(torch.randn(near, shape.channels, hidden) * 0.2)
        self.channel = nn.Parameter(torch.randn(shape.channels, hidden) * 0.3)
        self.output = nn.Parameter(torch.randn(shape.channels, hidden) * 0.1)
        self.row = nn.Parameter(torch.randn(shape.height, hidden) * 0.1)
        self.column = nn.Parameter(torch.randn(shape.width, hidden) * 0.1)
        self.level = nn.Parameter(torch.randn(levels, hidden) * 0.1)
        self.bias = nn.Parameter(torch.zeros(levels, shape.channels))

    def forward(self, pixels: Pixels, level: int) -> Tensor:
        """Compute the logits (N, c) of the pixels' bits."""
        c = pixels.bits.shape[1]
        near = _rounded(self.near[:, :c].flatten(0, 1), HIDDEN_SCALE)
        start = pixels.near @ near + _rounded(self.level[level], HIDDEN_SCALE)
        start = start + _rounded(self.row, HIDDEN_SCALE)[pixels.row]
        start = start + _rounded(self.column, HIDDEN_SCALE)[pixels.column]
        own = pixels.bits[..., None] * _rounded(self.channel[:c], HIDDEN_SCALE)  # (N, c, hidden)
        before = own.cumsum(1) - own  # sum over the channels before each one
        active = (start[:, None] + before).clamp(0, LARGEST_ACTIVATION / HIDDEN_SCALE)
        weights = _rounded(self.output[:c], OUTPUT_SCALE)
        return (active * weights).sum(-1) + self.bias[level, :c]

    def tensors(self) -> dict[str, npt.NDArray[np.int8] | npt.NDArray[np.int16]]:
        """Return the integer weights under their names in a bundle."""
        parts = [
            (self.near.flatten(0, 1), HIDDEN_SCALE),
            (self.channel, HIDDEN_SCALE),
            (self.output, OUTPUT_SCALE),
            (self.row, HIDDEN_SCALE),
            (self.column, HIDDEN_SCALE),
            (self.level, HIDDEN_SCALE),
        ]
        rows = [_rounded(part.detach(), scale) * scale for part, scale in parts]
        bias = (self.bias.detach() * HIDDEN_SCALE * OUTPUT_SCALE).round()
        return {
            WEIGHT: torch.cat(rows).to(torch.int8).numpy(),
            BIAS: bias.clamp(-LARGEST_BIAS, LARGEST_BIAS).to(torch.int16).numpy(),
        }


def _rounded(weights: Tensor, scale: int) -> Tensor:
    """Round ``weights`` to multiples of 1 / ``scale``; the gradient passes unchanged."""
    whole = (weights * scale).round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) / scale
    return weights + (whole - weights).detach()


def train_context(
    features: Sequence[npt.NDArray[np.uint8]],
    architecture: Architecture,
    settings: ContextSettings = ContextSettings(),
    meter: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> dict[str, npt.NDArray[np.int8] | npt.NDArray[np.int16]]:
    """Train on packed samples (N, bytes) of every device level; return the model's tensors.

    ``meter`` receives (steps done, all steps).
    """
    levels = range(len(architecture.device_levels))
    shapes = [architecture.sent_shape(level) for level in levels]
    pixels = [
        pixels_of(rows, shape.height, shape.width, shape.channels)
        for rows, shape in zip(features, shapes, strict=True)
    ]
    known = settings.passes * len(pixels[0].bits)
    steps = min(settings.steps, max(2, known // settings.batch))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = ContextNetwork(architecture, settings.hidden)
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps)
        for step in range(steps):
            length = torch.zeros(())
            for level in levels:
                batch = pixels[level].batch(settings.batch)
                logits = network(batch, level)
                length = length + F.binary_cross_entropy_with_logits(
                    logits, batch.bits, reduction="sum"
                )
            optimiser.zero_grad()
            (length / settings.batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            meter(step + 1, steps)
    return network.tensors()
