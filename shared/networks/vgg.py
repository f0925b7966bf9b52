"""VGG-16 for small images: 13 convolutions in five groups, then FC-512 and a classifier."""

from __future__ import annotations

from shared.networks.blocks import Classifier, ConvBlock, LinearBlock, MeanOverMap
from shared.networks.incomplete import Block, BlockNetwork, Scheme

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(BlockNetwork):
    """VGG-16; a pooling after every group, the first convolution complete.

    Images of 32x32 leave one pixel, whose mean is itself. Source: section IV of arXiv 1710.07830,
    Simonyan and Zisserman (arXiv 1409.1556).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        scheme: Scheme,
        groups: tuple[tuple[int, ...], ...] = GROUPS,
        features: int = 512,
        dropout: float = 0.3,
    ) -> None:
        pools = [index == len(group) - 1 for group in groups for index in range(len(group))]
        counts = [count for group in groups for count in group]
        middle: list[Block] = [
            ConvBlock(before, count, scheme, pool=pool)
            for before, count, pool in zip(counts, counts[1:], pools[1:], strict=False)
        ]
        middle += [MeanOverMap(dropout), LinearBlock(counts[-1], features, scheme, dropout=dropout)]
        super().__init__(
            scheme,
            first=[
                ConvBlock(in_channels, counts[0], scheme, pool=pools[0], complete=True)
                for _ in scheme.ranges
            ],
            middle=middle,
            last=[Classifier(features, classes, scheme) for _ in scheme.ranges],
        )
