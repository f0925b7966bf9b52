"""The binarized network of the paper's research code, with two convolutions per block.

Source: ``examples/net/BinaryNet.py`` of kunglab/idp. As in the text of arXiv 1710.07830,
activations are signs and the logits have a batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.fractions import channels
from shared.layers.binary import IncompleteBinaryConv2d, IncompleteBinaryLinear
from shared.layers.leading import ProfileLike
from shared.layers.sign import sign
from shared.layers.slimmable import SlimmableBatchNorm
from shared.networks.incomplete import Block, BlockNetwork, Scheme, Width

POOLS = 3  # each reduces the map by one row and one column


class BinaryBlock(Block):
    """Two binary 3x3 convolutions with batch norms and signs, 2x2 max pooling with stride 1.

    A truncated block takes its whole input and truncates the input of its second convolution; all
    outputs are computed. Maps are padded with 0, as in the research code.
    """

    def __init__(
        self, in_channels: int, out_channels: int, scheme: Scheme, *, truncated: bool
    ) -> None:
        super().__init__()
        profile: ProfileLike = scheme.coefficients if truncated else "all-one"
        self.conv1 = IncompleteBinaryConv2d(
            in_channels, out_channels, 3, padding=1, profile="all-one", padding_value=0.0
        )
        self.norm1 = SlimmableBatchNorm(out_channels, len(scheme.levels))
        self.conv2 = IncompleteBinaryConv2d(
            out_channels, out_channels, 3, padding=1, profile=profile, padding_value=0.0
        )
        self.norm2 = SlimmableBatchNorm(out_channels, len(scheme.levels))
        self.truncated = truncated

    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, N, H, W) -> (B, M, H - 1, W - 1) of -1/+1."""
        count = self.conv1.out_channels
        n = channels(width.fraction, count) if self.truncated else count
        x = sign(self.norm1(self.conv1(x, n), width.level))
        x = F.max_pool2d(self.conv2(x), 2, stride=1)
        return sign(self.norm2(x, width.level))


class BinaryClassifier(Block):
    """A binary linear layer (B-FC) over the whole map, with a batch norm on the logits."""

    def __init__(self, in_features: int, classes: int, scheme: Scheme) -> None:
        super().__init__()
        self.linear = IncompleteBinaryLinear(in_features, classes, profile="all-one")
        self.norm = SlimmableBatchNorm(classes, len(scheme.levels))

    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, N, H, W) of -1/+1 -> (B, classes)."""
        logits: Tensor = self.norm(self.linear(x.flatten(1)), width.level)
        return logits


class PaperBinarizedNetwork(BlockNetwork):
    """Blocks 1-8-8 on the device, 32-32 and 64-64 in the cloud, which takes all 8 channels.

    A fraction truncates only the second convolution of the device.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        scheme: Scheme,
        counts: tuple[int, int, int] = (8, 32, 64),
    ) -> None:
        colours, height, width = image
        device, cloud, top = counts
        pixels = (height - POOLS) * (width - POOLS)
        super().__init__(
            scheme,
            first=[BinaryBlock(colours, device, scheme, truncated=True)],
            middle=[
                BinaryBlock(device, cloud, scheme, truncated=False),
                BinaryBlock(cloud, top, scheme, truncated=False),
            ],
            last=[BinaryClassifier(top * pixels, classes, scheme)],
        )

    @torch.no_grad()
    def settle(self) -> None:
        """Clip latent weights to [-1, 1]."""
        for module in self.modules():
            if isinstance(module, IncompleteBinaryConv2d | IncompleteBinaryLinear):
                module.weight.clamp_(-1, 1)
