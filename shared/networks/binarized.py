"""The split binary network as one incomplete network, truncated only in its device half.

Source: network "Binarized" of arXiv 1710.07830. Unlike ``BinaryNet`` it runs at any fraction, and
its batch norms keep running statistics in floats, like those of the paper's other networks.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor

from shared.fractions import channels
from shared.layers.sign import sign
from shared.layers.slimmable import SlimmableBatchNorm
from shared.model.architecture import Architecture, Stage
from shared.networks.binary_stage import BinaryStage
from shared.networks.binarynet import BinaryNet
from shared.networks.incomplete import IncompleteNetwork, Scheme, Width
from shared.networks.pixels import check_pixels


class BinarizedNetwork(IncompleteNetwork):
    """The stages of ``BinaryNet`` at any fraction of the device's channels.

    The first stage takes the complete image. The cloud's first stage takes the bits of the device
    with the coefficients of the profile. Later stages are complete, with coefficients of 1.
    """

    def __init__(self, architecture: Architecture, scheme: Scheme) -> None:
        super().__init__(scheme)
        profile = scheme.ranges[0].profile
        device = [dataclasses.replace(stage, profile=profile) for stage in architecture.device]
        cloud = [dataclasses.replace(stage, profile="all-one") for stage in architecture.cloud]
        cloud[0] = dataclasses.replace(cloud[0], profile=profile)
        self.net = BinaryNet(
            dataclasses.replace(
                architecture,
                device=tuple(device),
                cloud=tuple(cloud),
                device_levels=scheme.levels,
                cloud_levels=(1.0,),
                exit_head=False,
            )
        )
        for stage in self._stages():
            norm = SlimmableBatchNorm(stage.stage.out_channels, len(scheme.levels))
            stage.norm = norm  # type: ignore[assignment]

    def _stages(self) -> list[BinaryStage]:
        return [cast("BinaryStage", stage) for stage in (*self.net.device, *self.net.cloud)]

    def run(self, images: Tensor, width: Width) -> Tensor:
        """Compute the logits of one pass: images (B, C, H, W) in 0..255 -> (B, classes)."""
        check_pixels(images)
        x = images
        stages = self._stages()
        for index, stage in enumerate(stages):
            described: Stage = stage.stage
            m = described.out_channels
            if index < len(self.net.device):
                m = channels(width.fraction, m)
            x = stage(x, m, width.level)
            if index < len(stages) - 1:
                x = sign(x)
        # (B, classes, 1, 1) -> (B, classes)
        return x.flatten(1)

    @torch.no_grad()
    def settle(self) -> None:
        """Clip latent weights to [-1, 1]."""
        self.net.clip_latent_weights()
