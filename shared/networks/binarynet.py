"""A binary network split between device and cloud, as its ``Architecture`` says.

The device half turns pixels into bits at a device level; the cloud half turns those bits into
logits at a cloud level. Both halves are trained together; in evaluation every number up to the
logits is an exact integer, a sign or a sum of two signs, which the packed runtime reproduces bit
for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.binary import IncompleteBinaryConv2d
from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign
from shared.layers.ternary import ternary_sign
from shared.model.architecture import (
    Activation,
    Architecture,
    Kind,
    Shape,
    Stage,
    kernel_size,
    output_shape,
)

INITIAL_DELTA = 0.5  # of a normalised sum's deviation: some 4 of 10 values start as 0


class BinaryStage(nn.Module):
    """Convolution, max pooling, switchable batch norm: everything of a stage but its activation.

    ``forward(x, out_channels, level)``: x (B, n, H, W) -> (B, out_channels, H', W'). ``before`` is
    the activation of the stage that made x.
    """

    def __init__(
        self,
        stage: Stage,
        shape: Shape,
        affine_of: Sequence[int | Sequence[int]],
        before: Activation = Activation.BINARY,
    ) -> None:
        super().__init__()
        self.stage = stage
        image = stage.kind is Kind.IMAGE_CONV
        self.conv = IncompleteBinaryConv2d(
            stage.in_channels,
            stage.out_channels,
            kernel_size(stage, shape),
            padding=0 if image or stage.kind is Kind.BINARY_LINEAR else 1,
            profile="all-one" if image else stage.profile,
            padding_value=-before.largest,
        )
        self.norm = SwitchableBatchNorm(stage.out_channels, affine_of)
        ternary = stage.activation is Activation.TERNARY
        # Half the width of the band of normalised sums that becomes 0, for each channel.
        self.delta = (
            nn.Parameter(torch.full((stage.out_channels,), INITIAL_DELTA)) if ternary else None
        )

    def sums(self, x: Tensor, out_channels: int) -> Tensor:
        """Pooled integer sums before the batch norm. (B, n, H, W) -> (B, out_channels, H', W')."""
        if self.stage.kind is Kind.IMAGE_CONV:
            x = F.pad(x, (1, 1, 1, 1))  # pixels are padded with 0
        x = self.conv(x, out_channels)
        return F.max_pool2d(x, self.stage.pool) if self.stage.pool > 1 else x

    def forward(self, x: Tensor, out_channels: int, level: int) -> Tensor:
        """Normalised sums, from which ``activate`` makes the next stage's input."""
        return self.normalise(self.sums(x, out_channels), level)

    def normalise(self, sums: Tensor, level: int) -> Tensor:
        """Batch norm of pooled sums with the statistics of ``level``."""
        y: Tensor = self.norm(sums, level)
        return y

    def activate(self, y: Tensor) -> Tensor:
        """Normalised sums (B, n, ...) -> -1/+1, or -2/0/+2 if the stage is ternary."""
        if self.delta is None:
            return sign(y).float()
        return ternary_sign(y, self.delta[: y.shape[1]]).float()


class BinaryNet(nn.Module):
    """The split network in torch.

    Levels are indices into ``architecture.device_levels`` and ``architecture.cloud_levels``.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        device_count = len(architecture.device_levels)
        cloud_count = len(architecture.cloud_levels)
        per_device = list(range(device_count))
        # Statistics belong to a pair; scale and shift are a device level's plus a cloud level's.
        per_pair = [(d, device_count + c) for d in range(device_count) for c in range(cloud_count)]
        shape = architecture.input_shape
        self.device = nn.ModuleList()
        for stage in architecture.device:
            self.device.append(BinaryStage(stage, shape, per_device))
            shape = output_shape(stage, shape)
        exit_stage = architecture.exit_stage
        self.exit = BinaryStage(exit_stage, shape, per_device) if exit_stage else None
        self.cloud = nn.ModuleList()
        for stage, before in zip(architecture.cloud, architecture.cloud_inputs, strict=True):
            self.cloud.append(BinaryStage(stage, shape, per_pair, before))
            shape = output_shape(stage, shape)

    @property
    def _first(self) -> BinaryStage:
        return self._stages(self.device)[0]

    @staticmethod
    def _stages(half: nn.ModuleList) -> list[BinaryStage]:
        return cast("list[BinaryStage]", list(half))

    def pair(self, level: int, cloud_level: int) -> int:
        """Index of the statistics of a device level and a cloud level together."""
        return level * len(self.architecture.cloud_levels) + cloud_level

    def image_sums(self, images: Tensor) -> Tensor:
        """Sums of the first stage at full width: (B, C, H, W) in 0..255 -> (B, N, H', W').

        The image is never truncated, so every level's sums are the leading channels of these.
        """
        return self._first.sums(images, self._first.stage.out_channels)

    def device_trace(self, image_sums: Tensor, level: int) -> list[Tensor]:
        """Bits (-1/+1) after every device stage, from the sums of ``image_sums``."""
        shapes = [after for _, _, after in self.architecture.device_shapes(level)]
        first = self._first.normalise(image_sums[:, : shapes[0].channels], level)
        trace = [self._first.activate(first)]
        for stage, after in zip(self._stages(self.device)[1:], shapes[1:], strict=True):
            trace.append(stage.activate(stage(trace[-1], after.channels, level)))
        return trace

    def forward_device(self, images: Tensor, level: int) -> Tensor:
        """The bits (-1/+1) that are sent: (B, C, H, W) in 0..255 -> (B, n, H', W')."""
        return self.device_trace(self.image_sums(images), level)[-1]

    def cloud_trace(self, bits: Tensor, level: int, cloud_level: int) -> list[Tensor]:
        """What every cloud stage but the last gives, then the logits (B, classes)."""
        trace = []
        x = bits
        shapes = list(self.architecture.cloud_shapes(level, cloud_level))
        pair = self.pair(level, cloud_level)
        *inner, last = self._stages(self.cloud)
        for stage, (_, _, after) in zip(inner, shapes[:-1], strict=True):
            x = stage.activate(stage(x, after.channels, pair))
            trace.append(x)
        # (B, classes, 1, 1) -> (B, classes)
        trace.append(last(x, self.architecture.classes, pair).flatten(1))
        return trace

    def forward_cloud(self, bits: Tensor, level: int, cloud_level: int) -> Tensor:
        """Logits: bits (B, n, H, W) -> (B, classes)."""
        return self.cloud_trace(bits, level, cloud_level)[-1]

    def forward_exit(self, bits: Tensor, level: int) -> Tensor:
        """Logits of the exit head: bits (B, n, H, W) -> (B, classes)."""
        if self.exit is None:
            raise ValueError(f"network {self.architecture.name} has no exit head")
        # (B, classes, 1, 1) -> (B, classes)
        logits: Tensor = self.exit(bits, self.architecture.classes, level).flatten(1)
        return logits

    def forward(self, images: Tensor, level: int, cloud_level: int) -> Tensor:
        """Logits of both halves: images (B, C, H, W) in 0..255 -> (B, classes)."""
        return self.forward_cloud(self.forward_device(images, level), level, cloud_level)

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Set the statistics of every level and pair of levels from ``images``.

        A layer is measured with the layers before it already at their new statistics, in the same
        pass: each one normalises by what it has just measured.
        """
        for module in self.modules():
            if isinstance(module, SwitchableBatchNorm):
                module.calibrating = True
        try:
            sums = self.image_sums(images)
            for level in range(len(self.architecture.device_levels)):
                bits = self.device_trace(sums, level)[-1]
                if self.exit is not None:
                    self.forward_exit(bits, level)
                for cloud_level in range(len(self.architecture.cloud_levels)):
                    self.forward_cloud(bits, level, cloud_level)
        finally:
            for module in self.modules():
                if isinstance(module, SwitchableBatchNorm):
                    module.calibrating = False

    @torch.no_grad()
    def clip_latent_weights(self) -> None:
        """Keep latent weights in [-1, 1], where the straight-through gradient moves them.

        Deltas of ternary stages stay at 0 or more.
        """
        for stage in self.modules():
            if isinstance(stage, BinaryStage):
                stage.conv.weight.clamp_(-1, 1)
                if stage.delta is not None:
                    stage.delta.clamp_(min=0)
