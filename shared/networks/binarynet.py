"""A binary network split between device and cloud, described by its ``Architecture``.

The device half converts pixels to bits at a device level, the cloud half converts those bits to
logits at a cloud level. Both halves are trained together. In evaluation every number before the
logits is an exact integer, a sign or a sum of two signs, which the packed runtime reproduces bit
for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from shared.layers.leading import leading_block
from shared.model.architecture import Architecture, Kind, Shape, Stage, output_shape
from shared.networks.binary_stage import BinaryStage, Step
from shared.networks.calibration import SentBits, measure, run
from shared.networks.pixels import check_pixels

MAP_VALUES = 2**22  # values of the largest map of images that are calibrated together


class BinaryNet(nn.Module):
    """The split network in torch.

    Levels are indices into ``architecture.device_levels`` and ``architecture.cloud_levels``. Maps
    are stored channels-last, which is several times faster on both CPUs and GPUs.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        device_count = len(architecture.device_levels)
        cloud_count = len(architecture.cloud_levels)
        per_device = list(range(device_count))
        # Statistics belong to pairs of levels; scale and shift are sums of a device level's and a
        # cloud level's.
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
        self.device_steps = [
            _steps(self.device, architecture.device_shapes(level), level) for level in per_device
        ]
        self.cloud_steps = [
            [
                _steps(self.cloud, architecture.cloud_shapes(level, c), self.pair(level, c))
                for c in range(cloud_count)
            ]
            for level in per_device
        ]

    def pair(self, level: int, cloud_level: int) -> int:
        """Return the index of the statistics of a pair of device level and cloud level."""
        return level * len(self.architecture.cloud_levels) + cloud_level

    def image_sums(self, images: Tensor) -> Tensor:
        """Compute the first stage's sums at full width: (B, C, H, W) in 0..255 -> (B, N, H', W').

        The image is never truncated, so the sums at every level are the leading channels of these.
        """
        check_pixels(images)
        first = self.device_steps[-1][0]
        # Applied to the sums too, as those of a grey image are not channels-last.
        return _channels_last(first.sums(_channels_last(images)))

    def device_trace(self, image_sums: Tensor, level: int) -> list[Tensor]:
        """Compute the bits (-1/+1) after every device stage from the output of ``image_sums``."""
        first, *steps = self.device_steps[level]
        sums = leading_block(image_sums, len(image_sums), first.outputs)
        trace = [first.stage.activate(first.stage.normalise(sums, level))]
        for step in steps:
            trace.append(step.run(trace[-1]))
        return trace

    def forward_device(self, images: Tensor, level: int) -> Tensor:
        """Compute the bits (-1/+1) that are sent: (B, C, H, W) in 0..255 -> (B, n, H', W')."""
        return self.device_trace(self.image_sums(images), level)[-1]

    def cloud_trace(self, bits: Tensor, level: int, cloud_level: int) -> list[Tensor]:
        """Compute the outputs of all cloud stages; that of the last is the logits (B, classes)."""
        *inner, last = self.cloud_steps[level][cloud_level]
        trace = []
        x = bits
        for step in inner:
            x = step.run(x)
            trace.append(x)
        # (B, classes, 1, 1) -> (B, classes)
        trace.append(last.normalised(x).flatten(1))
        return trace

    def forward_cloud(self, bits: Tensor, level: int, cloud_level: int) -> Tensor:
        """Compute the logits: bits (B, n, H, W) -> (B, classes)."""
        return self.cloud_trace(bits, level, cloud_level)[-1]

    def forward_exit(self, bits: Tensor, level: int) -> Tensor:
        """Compute the logits of the exit head: bits (B, n, H, W) -> (B, classes)."""
        if self.exit is None:
            raise ValueError(f"network {self.architecture.name} has no exit head")
        # (B, classes, 1, 1) -> (B, classes)
        logits: Tensor = self.exit(bits, self.architecture.classes, level).flatten(1)
        return logits

    def forward(self, images: Tensor, level: int, cloud_level: int) -> Tensor:
        """Run both halves: images (B, C, H, W) in 0..255 -> logits (B, classes)."""
        return self.forward_cloud(self.forward_device(images, level), level, cloud_level)

    @torch.no_grad()
    def calibrate(self, images: Tensor, on_step: Callable[[int, int], None] | None = None) -> None:
        """Set the statistics of every level and pair of levels from ``images``.

        ``images`` (N, C, H, W) in 0..255 are uint8 or float, on any device. A layer is measured
        after the layers before it have got their new statistics. Apart from the bits that are sent,
        memory does not grow with N. ``on_step(done, of)`` is called after every level and pair.
        """
        if not len(images):
            raise ValueError("images: there are none; calibration needs some")
        check_pixels(images)
        training = self.training
        done, of = 0, len(self.device_steps) * (1 + len(self.architecture.cloud_levels))

        def count() -> None:
            nonlocal done
            done += 1
            if on_step:
                on_step(done, of)

        self.eval()
        try:
            for level, steps in enumerate(self.device_steps):
                measure(steps, lambda: self.parts(images))
                sent = SentBits(run(steps, x) for x in self.parts(images))
                if self.exit is not None:
                    measure([Step(self.exit, self.architecture.classes, level)], sent)
                count()
                for cloud_steps in self.cloud_steps[level]:
                    measure(cloud_steps, sent)
                    count()
        finally:
            self.train(training)

    @torch.no_grad()
    def clip_latent_weights(self) -> None:
        """Clip latent weights to [-1, 1], outside of which their straight-through gradient is 0.

        Deltas of ternary stages are clipped to 0 or more.
        """
        for stage in self.modules():
            if isinstance(stage, BinaryStage):
                stage.conv.weight.clamp_(-1, 1)
                if stage.delta is not None:
                    stage.delta.clamp_(min=0)

    def parts(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the images in parts whose maps fit into memory, on the network's device."""
        weight = self.device_steps[0][0].stage.conv.weight
        architecture = self.architecture
        top = len(architecture.cloud_levels) - 1
        full = len(architecture.device_levels) - 1
        shapes = (*architecture.device_shapes(full), *architecture.cloud_shapes(full, top))
        largest = max(
            before.height * before.width * after.channels
            for stage, before, after in shapes
            if stage.kind is not Kind.BINARY_LINEAR
        )
        size = max(1, MAP_VALUES // largest)
        for start in range(0, len(images), size):
            yield _channels_last(images[start : start + size].to(weight.device, weight.dtype))


def _steps(
    half: nn.ModuleList, shapes: Iterable[tuple[Stage, Shape, Shape]], table: int
) -> list[Step]:
    stages = cast("list[BinaryStage]", list(half))
    return [
        Step(stage, after.channels, table)
        for stage, (_, _, after) in zip(stages, shapes, strict=True)
    ]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
